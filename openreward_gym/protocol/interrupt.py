"""A wait that others can end: what `asyncio.timeout` does, without a coroutine, and without a timer where there is no limit."""

from __future__ import annotations

import asyncio

__all__ = ["Interrupt"]


class Interrupt:
    """Ends the wait of the task that makes it, after `limit_s` seconds (None: never) or when `now` is called.

    Args:
        limit_s: Seconds until it ends the wait by itself; None for never.
    """

    __slots__ = ("_before", "_called", "_task", "_timer")

    def __init__(self, limit_s: float | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._called = False
        self._timer = None if limit_s is None else task.get_loop().call_later(limit_s, self.now)

    def now(self) -> None:
        """End the wait: a cancellation arrives in it. On its own event loop only."""
        if not self._called:
            self._called = True
            self._task.cancel()

    def over(self) -> bool:
        """The wait is over: whether it was ended from here, and by nobody else besides. Only the first answer counts."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._called:
            return False
        self._called = False
        return self._task.uncancel() <= self._before
