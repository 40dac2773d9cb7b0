"""A thread of one session: everything that its env does is done there, in order, and never on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["SessionThread"]

T = TypeVar("T")


class SessionThread:
    """Runs functions one after the other. It is a daemon: an env that never returns does not keep the process alive.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """What `function` returns or raises; it runs to its end also where nobody waits any more."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, problem: BaseException | None) -> None:
            if done.done():
                return  # whoever waited was cancelled
            if problem is None:
                done.set_result(result)  # type: ignore[arg-type]
            else:
                done.set_exception(problem)

        def job() -> None:
            result, problem = None, None
            try:
                result = function(*arguments)
            except BaseException as error:
                problem = error
                if not isinstance(error, Exception) or isinstance(error, StopIteration):
                    # Neither may pass through an event loop: one ends it, the other cannot be told from a result.
                    problem = RuntimeError(f"{type(error).__name__}: {error}")
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(settle, result, problem)

        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)
        return await done

    def close(self) -> None:
        """End the thread once it has done what it was given."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
