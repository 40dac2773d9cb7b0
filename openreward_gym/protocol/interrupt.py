"""A wait that others can end: what `asyncio.timeout` does, without a coroutine, and with one timer for all waits of a loop."""

from __future__ import annotations

import asyncio
from math import inf
from weakref import WeakKeyDictionary

__all__ = ["Interrupt"]


class Interrupt:
    """Ends the wait of the task that makes it, after `limit_s` seconds (None: never) or when `now` is called.

    Args:
        limit_s: Seconds until it ends the wait by itself; None for never.
    """

    __slots__ = ("_before", "_called", "_clock", "_task", "due")

    def __init__(self, limit_s: float | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._called = False
        self._clock: _Clock | None = None
        self.due = inf
        if limit_s is not None:
            loop = task.get_loop()
            self._clock = _clocks.get(loop) or _clocks.setdefault(loop, _Clock())
            self.due = loop.time() + limit_s
            self._clock.add(self, loop)

    def now(self) -> None:
        """End the wait: a cancellation arrives in it. On its own event loop only."""
        if not self._called:
            self._called = True
            self._task.cancel()

    def over(self) -> bool:
        """The wait is over: whether it was ended from here, and by nobody else besides. Only the first answer counts."""
        if self._clock is not None:
            self._clock.discard(self)
        if not self._called:
            return False
        self._called = False
        return self._task.uncancel() <= self._before


class _Clock:
    """The waits of one event loop that have a limit, and the one timer that is set for the first that may be due.

    A wait that is over takes nothing from the timer, which is set anew when it rings: where all calls have the same limit,
    that is once per limit and not once per call.
    """

    __slots__ = ("_rings_at", "_timer", "_waits")

    def __init__(self) -> None:
        self._waits: set[Interrupt] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = inf

    def add(self, wait: Interrupt, loop: asyncio.AbstractEventLoop) -> None:
        self._waits.add(wait)
        if wait.due < self._rings_at:
            self._set(wait.due, loop)

    def discard(self, wait: Interrupt) -> None:
        self._waits.discard(wait)

    def _set(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = when
        self._timer = loop.call_at(when, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        now, rings_at = loop.time(), self._rings_at
        self._timer, self._rings_at = None, inf
        # The event loop may ring a little early, by its clock's resolution.
        for wait in [wait for wait in self._waits if wait.due <= max(now, rings_at)]:
            self._waits.discard(wait)
            wait.now()
        if self._waits:
            self._set(min(wait.due for wait in self._waits), loop)


_clocks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clock] = WeakKeyDictionary()
