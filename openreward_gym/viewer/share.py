"""A run, or some rollouts, as one HTML file that opens without a server."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from openreward_gym.errors import ConfigurationError, RecordError, StoreError
from openreward_gym.store import images
from openreward_gym.store.folder import LocalFolder
from openreward_gym.viewer import queries
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.page import with_data

LIMIT = 2_000
_SAFE = "!~*'()"  # what JavaScript's encodeURIComponent leaves as it is


def write_html(index: RunIndex, file: str | os.PathLike[str], *, filter_: str = "", limit: int = LIMIT) -> int:
    """Write what `index` has to one HTML file; returns the number of rollouts in it.

    Args:
        index: The runs; brought up to date first.
        file: Where to write, whole or not at all.
        filter_: Which rollouts; see `openreward_gym.viewer.filters`.
        limit: The most rollouts that are taken into one file.

    Raises:
        ConfigurationError: There are none, or more than `limit`.
        StoreError: The file could not be written.
    """
    index.refresh()
    share = _Share(index, filter_, limit)
    page = with_data(share.answers()).encode("utf-8")
    path = Path(file)
    LocalFolder(path.parent).write_bytes(path.name, page)
    return share.count


class _Share:
    """The answers to everything that the page asks, by what it asks."""

    def __init__(self, index: RunIndex, filter_: str, limit: int) -> None:
        self._index, self._filter, self._limit = index, filter_, limit
        self._answers: dict[str, Any] = {}
        self.count = 0

    def answers(self) -> dict[str, Any]:
        told = queries.runs(self._index)
        for run in told["runs"]:
            self._run(run)
            run["folder"] = ""  # where it was on this machine is nobody's business
        if not self.count:
            raise ConfigurationError("there is no rollout to share: check the run and the filter")
        self._answer("runs", {}, {**told, "damage": []})
        self._answer("powers", {}, {"lens": [], "replay": None})
        return self._answers

    def _answer(self, name: str, asked: Mapping[str, Any], answer: Any) -> None:
        self._answers[request(name, asked)] = answer

    def _run(self, run: Mapping[str, Any]) -> None:
        key = run["key"]
        for discarded in ("", "1"):
            steps = queries.steps(self._index, key, bool(discarded), self._filter)
            self._answer("steps", {"run": key, "discarded": discarded}, steps)
            for step in steps:
                self._step(key, step["step"], discarded)
        for metric in [*queries.OWN_METRICS, *run["metrics"]]:
            figures = queries.series(self._index, key, metric, self._filter)
            if figures["steps"]:
                self._answer("series", {"run": key, "metric": metric}, figures)

    def _step(self, key: str, step: int | None, discarded: str) -> None:
        where = {"run": key, "step": "" if step is None else str(step), "discarded": discarded}
        offset: int | None = 0
        while offset is not None:
            listed = orjson.loads(queries.listing(self._index, key, step, bool(discarded), self._filter, offset))
            self._answer("list", {**where, "offset": str(offset or "")}, listed)
            for group in listed["groups"]:
                for card in group["cards"]:
                    self._rollout(key, card["id"])
            offset = listed["next"]

    def _rollout(self, key: str, identity: str) -> None:
        self.count += 1
        if self.count > self._limit:
            raise ConfigurationError(
                f"there are more than {self._limit} rollouts, too many for one file: choose with a filter (reward > 0.5)"
            )
        with contextlib.suppress(RecordError, StoreError):
            found = json.loads(queries.rollout(self._index, key, identity) or b"null")  # lone surrogates, too
            images.move_in(found["rollout"], functools.partial(self._index.image, self._index.folder(key) or ""))
            self._answer("rollout", {"run": key, "id": identity}, found)


def request(name: str, asked: Mapping[str, Any]) -> str:
    """What the page asks for, as it writes it: parameters by name, empty ones left out."""
    pairs = sorted((key, value) for key, value in asked.items() if value != "")
    return f"{name}?" + "&".join(f"{key}={quote(str(value), safe=_SAFE)}" for key, value in pairs)
