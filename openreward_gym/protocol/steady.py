"""Work that goes on when whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

__all__ = ["Steady"]

T = TypeVar("T")


class Steady(Generic[T]):
    """A coroutine in a task of its own, for any number of waiters, each of which may be cancelled without harm to it.

    What `asyncio.shield` does, two turns of the event loop sooner: the waiters are told by the work's own last step, and not by a
    callback after it and a second one after that. Where a thousand sessions share a loop, a turn takes 20 ms.

    Attributes:
        task: The work. A failure that nobody waits for is not reported.
    """

    __slots__ = ("_waiters", "task")

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._waiters: list[asyncio.Future[T]] = []
        self.task = asyncio.get_running_loop().create_task(self._run(work))
        self.task.add_done_callback(self._tell)

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        result = await work
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(result)
        return result

    def _tell(self, task: asyncio.Task[T]) -> None:
        """The work is over: those who wait still are told how it failed."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        for waiter in self._waiters:
            if not waiter.done() and error is not None:
                waiter.cancel() if isinstance(error, asyncio.CancelledError) else waiter.set_exception(error)
        self._waiters.clear()

    async def result(self) -> T:
        """What the work returns, or its error."""
        if self.task.done():
            return self.task.result()
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return await waiter
