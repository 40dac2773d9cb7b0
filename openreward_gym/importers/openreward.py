"""Runs of the OpenReward platform, as its API gives them: page by page, a rollout at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import quote

from openreward_gym.errors import ProtocolError, ServerError, StoreError
from openreward_gym.importers.jsonl import UNREADABLE, reason_of
from openreward_gym.platform.client import Platform
from openreward_gym.platform.events import rollout_of as rollout_of_events
from openreward_gym.store.damage import Damage
from openreward_gym.types import Json
from openreward_gym.types.rollout import Rollout

PAGE = 50


def read(run: str, *, base_url: str | None = None, api_key_env: str = "OPENREWARD_API_KEY") -> Iterator[Rollout | Damage]:
    """The rollouts of the platform's run of that id or name.

    Args:
        run: The run's id, or its name.
        base_url, api_key_env: As for `Platform`.

    Raises:
        StoreError: There is no such run.
        TransportError, ServerError, ProtocolError: The platform cannot be reached, or says no.
    """
    platform = Platform(base_url, api_key_env=api_key_env)
    path = f"/v1/runs/{quote(_run_id(platform, run), safe='')}/rollouts"
    offset = 0
    while True:
        page = _items(platform.get(path, {"limit": PAGE, "offset": offset}), "rollouts")
        for number, item in enumerate(page, offset + 1):
            try:
                # A list of rollouts may leave out what was said in them.
                yield rollout_of(item if "messages" in item else {**item, **platform.get(f"/v1/rollouts/{_id(item)}")})
            except UNREADABLE as error:
                yield Damage(number, reason_of(error), f"{platform.base_url}{path}")
        if len(page) < PAGE:
            return
        offset += len(page)


def _run_id(platform: Platform, run: str) -> str:
    try:
        platform.get(f"/v1/runs/{quote(run, safe='')}")
    except ServerError as error:
        if error.status not in (400, 404, 422):
            raise
        found = [item for item in _items(platform.get("/v1/runs"), "runs") if item.get("name") == run]
        if not found:
            raise StoreError(f"{platform.base_url} has no run of the id or name {run!r}") from None
        return str(found[0]["id"])
    return run


def _items(answer: Json, name: str) -> list[Mapping[str, Json]]:
    items = answer.get(name) if isinstance(answer, Mapping) else answer
    if not isinstance(items, list):
        raise ProtocolError(f"the platform's answer has no list of {name}: {str(answer)[:200]}")
    return items


def rollout_of(item: Mapping[str, Json]) -> Rollout:
    """The record of one of the platform's rollouts: its beginning, its messages, and what was known at its end.

    Raises:
        ValueError, KeyError, TypeError: It is no rollout.
    """
    begin = {**item, "eventType": "rollout", "eventId": _id(item)}
    update = {"eventType": "rollout_update", "rollout_info": item.get("rollout_info") or {}}
    return rollout_of_events([begin, *({"eventType": "message", **message} for message in item.get("messages") or ()), update])


def _id(item: Mapping[str, Json]) -> str:
    return str(item.get("eventId") or item["id"])
