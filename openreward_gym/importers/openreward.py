"""Runs of the OpenReward platform, read from its API page by page, one rollout at a time.

Origin: a message that this package uploaded has the origin that it was recorded with. Of other clients' rollouts the
assistant's messages are the policy's; those before the first of them are given, those after it are the environment's.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from openreward_gym.errors import ProtocolError, ServerError, StoreError
from openreward_gym.importers.jsonl import convert_each
from openreward_gym.jsonio import Json
from openreward_gym.platform.client import Platform
from openreward_gym.platform.events import rollout_of as rollout_of_events
from openreward_gym.store import Damage
from openreward_gym.types import Rollout, with_origins

PAGE = 50
"""Number of rollouts that are requested at a time."""


def read(path: str, *, base_url: str | None = None, api_key_env: str = "OPENREWARD_API_KEY") -> Iterator[Rollout | Damage]:
    """Yield the rollouts of a run of the platform.

    Args:
        path: The run's id, or its name.
        base_url, api_key_env: As for `Platform`.

    Raises:
        StoreError: The platform has no such run.
        TransportError, ServerError, ProtocolError: The platform cannot be reached, or refuses the request.
    """
    if os.sep in path and Path(path).exists():
        raise StoreError(f"{path}: name a run of the platform by its id or name; a run's folder is no import (`merge` copies it)")
    platform = Platform(base_url, api_key_env=api_key_env)
    rollouts = f"/v1/runs/{quote(_run_id(platform, path), safe='')}/rollouts"

    def convert(number: int, item: Mapping[str, Json]) -> Rollout:
        # A list of rollouts may come without their messages.
        return rollout_of(item if "messages" in item else {**item, **platform.get(f"/v1/rollouts/{_id(item)}")})

    for offset in itertools.count(0, PAGE):
        page = _items(platform.get(rollouts, {"limit": PAGE, "offset": offset}), "rollouts")
        yield from convert_each(enumerate(page, offset + 1), convert, f"{platform.base_url}{rollouts}")
        if len(page) < PAGE:
            return


def _run_id(platform: Platform, run: str) -> str:
    try:
        platform.get(f"/v1/runs/{quote(run, safe='')}")
    except ServerError as error:
        if error.status not in (400, 404, 422):
            raise
        runs = [item for item in _items(platform.get("/v1/runs"), "runs") if item.get("name") == run]
        if not runs:
            raise StoreError(f"{platform.base_url} has no run of the id or name {run!r}") from None
        return str(runs[0]["id"])
    return run


def _items(answer: Json, name: str) -> list[Mapping[str, Json]]:
    items = answer.get(name) if isinstance(answer, Mapping) else answer
    if not isinstance(items, list):
        raise ProtocolError(f"the platform's answer has no list of {name}: {str(answer)[:200]}")
    return items


def rollout_of(item: Mapping[str, Json]) -> Rollout:
    """Return one of the platform's rollouts as a record."""
    begin = {**item, "eventType": "rollout", "eventId": _id(item)}
    update = {"eventType": "rollout_update", "rollout_info": item.get("rollout_info") or {}}
    messages = [{"eventType": "message", **message} for message in item.get("messages") or ()]
    rollout = rollout_of_events([begin, *messages, update])
    rollout.messages = with_origins(rollout.messages)
    return rollout


def _id(item: Mapping[str, Json]) -> str:
    return str(item.get("eventId") or item["id"])
