"""Two helpers over asyncio: a task that many callers may await, and a time limit that costs no timer per call."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from math import inf
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedTask(Generic[T]):
    """A coroutine in its own task. Any number of callers may await its result; cancelling a caller does not cancel the task.

    It does what `asyncio.shield` does, two turns of the event loop sooner: the last step of the task itself resolves the
    waiting futures. With a thousand sessions on one loop, a turn takes 20 ms. An exception without a reader is not logged.
    """

    __slots__ = ("_waiters", "task")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._waiters: list[asyncio.Future[T]] = []
        self.task = asyncio.get_running_loop().create_task(self._run(coroutine))
        self.task.add_done_callback(self._fail_waiters)

    async def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        result = await coroutine
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(result)
        return result

    def _fail_waiters(self, task: asyncio.Task[T]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        for waiter in self._waiters:
            if not waiter.done() and error is not None:
                waiter.cancel() if isinstance(error, asyncio.CancelledError) else waiter.set_exception(error)
        self._waiters.clear()

    async def result(self) -> T:
        """Wait for the task, and return its result or raise its error."""
        if self.task.done():
            return self.task.result()
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return await waiter


class CallTimeout:
    """A limit on what the current task awaits, which other code may also end early with `expire`.

    It cancels the task after `limit_s` seconds (None: never) as `asyncio.timeout` does, but without a coroutine: one clock
    serves all limits of a loop.
    """

    __slots__ = ("_cancelling_before", "_clock", "_expired", "_task", "due")

    def __init__(self, limit_s: float | None, clock: TimeoutClock) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling_before = task.cancelling()
        self._expired = False
        self._clock: TimeoutClock | None = None
        self.due = inf
        if limit_s is not None:
            self._clock = clock
            loop = task.get_loop()
            self.due = loop.time() + limit_s
            clock.add(self, loop)

    def expire(self) -> None:
        """Cancel what the task awaits. Call it on the task's event loop only."""
        if not self._expired:
            self._expired = True
            self._task.cancel()

    def stop(self) -> bool:
        """End the limit. Return True if it cancelled the task and nothing else did. Later calls return False."""
        if self._clock is not None:
            self._clock.limits.discard(self)
        if not self._expired:
            return False
        self._expired = False
        return self._task.uncancel() <= self._cancelling_before


class TimeoutClock:
    """The limits of one event loop (`limits`), and a single timer, set for the one that is due first.

    A limit that ends early leaves the timer as it is; the timer is set anew when it fires. If all calls have the same limit,
    that happens once per limit and not once per call.
    """

    __slots__ = ("_fires_at", "_timer", "limits")

    def __init__(self) -> None:
        self.limits: set[CallTimeout] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = inf

    def add(self, limit: CallTimeout, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a limit."""
        self.limits.add(limit)
        if limit.due < self._fires_at:
            self._set(limit.due, loop)

    def _set(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = when
        self._timer = loop.call_at(when, self._fire, loop)

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        now, fires_at = loop.time(), self._fires_at
        self._timer, self._fires_at = None, inf
        # The event loop may fire a little early, by its clock's resolution.
        for limit in [limit for limit in self.limits if limit.due <= max(now, fires_at)]:
            self.limits.discard(limit)
            limit.expire()
        if self.limits:
            self._set(min(limit.due for limit in self.limits), loop)
