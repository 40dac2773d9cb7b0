"""What is under way in a vector environment: begun on the background event loop, its rows taken by the caller's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeAlias

from openreward_gym.envs.players import Player
from openreward_gym.envs.rows import Inbox, Row
from openreward_gym.protocol import loop

Job: TypeAlias = Callable[[], Coroutine[Any, Any, Row]]
"""Makes the coroutine of a reset or a step: `Player.begin` or `Player.play` with their arguments."""


class UnderWay:
    """The resets and steps that were begun and whose rows nobody has taken yet, at most one an env.

    Args:
        players: The envs' players, by env id.

    Attributes:
        busy: The envs that have something under way.
    """

    def __init__(self, players: Sequence[Player]) -> None:
        self.busy: set[int] = set()
        self._players = players
        self._inbox = Inbox()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @property
    def waiting(self) -> int:
        """How many rows are there and wait to be taken."""
        return len(self._inbox)

    def begin(self, jobs: Mapping[int, Job]) -> None:
        """Begin a job in each of some envs (env id -> job), without waiting."""
        self.busy.update(jobs)

        def start() -> None:
            for i, job in jobs.items():
                self._tasks[i] = asyncio.create_task(self._deliver(i, job))

        loop.background_loop().call_soon_threadsafe(start)

    async def _deliver(self, i: int, job: Job) -> None:
        try:
            row = await self._players[i].row_of(job())
        finally:
            self._tasks.pop(i, None)
        self._inbox.put(row)

    def take(self, of: Sequence[int], least: int, most: int | None = None, timeout_s: float | None = None) -> list[Row]:
        """Wait for rows and take them, in the order of arrival.

        Args:
            of: Of which envs.
            least: How many to wait for.
            most: How many to take; None for all that are there.
            timeout_s: Seconds after which fewer are taken, perhaps none; None waits.

        Raises:
            ConfigurationError: The caller's mistake that came in place of a row; the proper rows can still be taken.
        """
        rows = self._inbox.take(frozenset(of), least, most or len(self._players), timeout_s)
        problem = next((row.problem for row in rows if row.problem is not None), None)
        proper = [row for row in rows if row.problem is None]
        if problem is not None:
            # The caller made one mistake, which may have cost many rows; what went well can still be received.
            self.busy.difference_update(row.env_id for row in rows if row.problem is not None)
            for row in proper:
                self._inbox.put(row)
            raise problem
        self.busy.difference_update(row.env_id for row in rows)
        return rows

    def cancel(self, ids: Sequence[int]) -> None:
        """Give up what is under way in `ids`: their rows come at once and say so."""
        background = loop.background_loop()

        def cancel() -> None:
            for i in ids:
                if i in self._tasks:
                    self._tasks[i].cancel()

        # In the loop's next turn: a task that is cancelled before its first step would not even deliver a row.
        background.call_soon_threadsafe(background.call_soon, cancel)

    def abandon(self, ids: Sequence[int]) -> None:
        """Cancel what is under way in `ids`, and forget what it brought."""
        busy = [i for i in ids if i in self.busy]
        if busy:
            self.cancel(busy)
            self._inbox.take(frozenset(busy), len(busy), len(busy), None)
            self.busy.difference_update(busy)

    async def stop(self) -> None:
        """Cancel everything and wait for its end."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
