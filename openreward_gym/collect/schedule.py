"""Hands units to workers: new ones in their order, failed ones again once they have waited."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Iterator

from openreward_gym.collect.inventory import Unit


class Schedule:
    """A unit is handed out by `take` and ends with `settle` or `again`; units are made only as they are taken."""

    def __init__(self, units: Iterator[Unit]) -> None:
        self._fresh = units
        self._waiting: list[tuple[float, int, Unit]] = []
        self._order = itertools.count()
        self._taken = 0
        self._drained = False
        self._changed = asyncio.Event()

    async def take(self) -> Unit | None:
        """The next unit, once there is one; None when all are settled, or nothing more is handed out."""
        while not self._drained:
            now = time.monotonic()
            due = self._waiting[0][0] if self._waiting else None
            unit = heapq.heappop(self._waiting)[2] if due is not None and due <= now else next(self._fresh, None)
            if unit is not None:
                self._taken += 1
                return unit
            if due is None and not self._taken:
                return None
            self._changed.clear()
            try:
                async with asyncio.timeout(None if due is None else due - now):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return None

    def settle(self) -> None:
        """A unit that was taken has its outcome."""
        self._taken -= 1
        self._changed.set()

    def again(self, unit: Unit, wait_s: float) -> None:
        """A unit that was taken is to be played again after `wait_s` seconds."""
        heapq.heappush(self._waiting, (time.monotonic() + wait_s, next(self._order), unit))
        self.settle()

    def drain(self) -> None:
        """Hand out nothing more."""
        self._drained = True
        self._changed.set()
