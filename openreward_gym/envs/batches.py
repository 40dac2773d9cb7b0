"""Rows of a vector environment, in flight and arrived, and batches of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from openreward_gym.envs.typed_dicts import InfoDict, VectorInfo
from openreward_gym.protocol import loop

Batch = tuple[tuple[Any, ...], npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_], VectorInfo]
"""Observations, rewards, terminations, truncations and infos of the same rows."""


@dataclass(slots=True)
class Row:
    """One env's part of a batch. `failed` marks a failed reset, `problem` is a mistake of the caller to raise instead."""

    env_id: int
    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: InfoDict
    failed: bool = False
    problem: Exception | None = None


def batch_of(rows: Sequence[Row]) -> Batch:
    """Return rows as one batch, with `infos["env_id"]`."""
    return (
        tuple(row.observation for row in rows),
        np.array([row.reward for row in rows], dtype=np.float64),
        np.array([row.terminated for row in rows], dtype=np.bool_),
        np.array([row.truncated for row in rows], dtype=np.bool_),
        cast(VectorInfo, merged_infos({i: {"env_id": row.env_id, **row.info} for i, row in enumerate(rows)}, len(rows))),
    )


def merged_infos(infos: dict[int, InfoDict], n: int) -> dict[str, Any]:
    """Merge infos by row into one dict of arrays of length `n`, as Gymnasium's vector environments do.

    The bool array `_key` marks the rows that have a key. Numbers and bools become arrays of their type, dicts are merged
    recursively, and other values become object arrays. Each key must always have the same type.
    """
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for info in infos.values() for key in info):
        values = {place: info[key] for place, info in infos.items() if key in info}
        first = next(iter(values.values()))
        if isinstance(first, dict) and key != "final_obs":
            merged[key] = merged_infos(values, n)
        else:
            kind = type(first) if type(first) in (int, float, bool) else object
            column = np.full(n, None, object) if kind is object else np.zeros(n, kind)
            for place, value in values.items():
                column[place] = value
            merged[key] = column
        present = np.zeros(n, np.bool_)
        present[list(values)] = True
        merged[f"_{key}"] = present
    return merged


Job: TypeAlias = Callable[[], Coroutine[Any, Any, Row]]
"""Makes the coroutine of a reset or a step."""


class InFlight:
    """Resets and steps whose rows were not taken yet, at most one per env.

    Rows pass from the event loop's thread to the caller's, in the order of arrival. `busy` has the envs of all of them.
    `row_of` has a function for each env that awaits a job and turns its failure into a row.
    """

    def __init__(self, row_of: Sequence[Callable[[Coroutine[Any, Any, Row]], Coroutine[Any, Any, Row]]]) -> None:
        self.busy: set[int] = set()
        self._row_of = row_of
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._rows: list[Row] = []
        self._arrival = threading.Condition()

    @property
    def waiting(self) -> int:
        """Number of rows that have arrived and were not taken."""
        return len(self._rows)

    def begin(self, jobs: Mapping[int, Job]) -> None:
        """Begin jobs (env id -> job) without waiting."""
        self.busy.update(jobs)

        def start() -> None:
            for i, job in jobs.items():
                self._tasks[i] = asyncio.create_task(self._deliver(i, job))

        loop.background_loop().call_soon_threadsafe(start)

    async def _deliver(self, i: int, job: Job) -> None:
        try:
            row = await self._row_of[i](job())
        finally:
            self._tasks.pop(i, None)
        self._put([row])

    def _put(self, rows: list[Row]) -> None:
        with self._arrival:
            self._rows.extend(rows)
            self._arrival.notify_all()

    def take(self, of: Sequence[int], least: int, most: int | None = None, timeout_s: float | None = None) -> list[Row]:
        """Wait for `least` rows of some envs, or for `timeout_s` seconds, and take up to `most` of them (None: all).

        Raises:
            ConfigurationError: The caller made a mistake in one of the jobs. The other rows can still be taken.
        """
        rows = self._take(frozenset(of), least, most, timeout_s)
        problems = {row.env_id: row.problem for row in rows if row.problem is not None}
        if problems:
            # One mistake may have cost several rows. The others can still be received.
            self.busy.difference_update(problems)
            self._put([row for row in rows if row.problem is None])
            raise next(iter(problems.values()))
        self.busy.difference_update(row.env_id for row in rows)
        return rows

    def _take(self, of: frozenset[int], least: int, most: int | None, timeout_s: float | None) -> list[Row]:
        with self._arrival:
            self._arrival.wait_for(lambda: sum(row.env_id in of for row in self._rows) >= least, timeout_s)
            taken = [row for row in self._rows if row.env_id in of][:most]
            taken_ids = {id(row) for row in taken}
            self._rows = [row for row in self._rows if id(row) not in taken_ids]
            return taken

    def cancel(self, ids: Sequence[int]) -> None:
        """Cancel the jobs of some envs. Their rows arrive at once, with the stop reason "cancelled"."""
        background = loop.background_loop()

        def cancel() -> None:
            for i in ids:
                if i in self._tasks:
                    self._tasks[i].cancel()

        # In the loop's next iteration: a task that is cancelled before its first step would deliver no row.
        background.call_soon_threadsafe(background.call_soon, cancel)

    def abandon(self, ids: Sequence[int]) -> None:
        """Cancel the jobs of some envs, and drop their rows."""
        busy = [i for i in ids if i in self.busy]
        if busy:
            self.cancel(busy)
            self._take(frozenset(busy), len(busy), None, None)
            self.busy.difference_update(busy)

    async def stop(self) -> None:
        """Cancel all jobs and wait until they have ended."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
