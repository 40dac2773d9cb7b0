"""The one background event loop of this process, the way from sync code to it, and what must happen before the process dies.

Gymnasium's `reset`, `step` and `close` are sync; everything below them is async. They meet here: `run(coroutine)` hands a
coroutine to an event loop on a daemon thread and waits for its result. There is one such loop per process: after a fork the
child makes its own, because the parent's thread does not exist in the child and waiting for it would never end.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Generic, TypeVar

__all__ = ["at_death", "background_loop", "process_id", "run"]

T = TypeVar("T")

CANCEL_GRACE_S = 10.0
"""Seconds a cancelled coroutine has to clean up (to delete the session it was opening) before `run` gives up on it."""

_pid = os.getpid()
_lock = threading.RLock()
_loop: asyncio.AbstractEventLoop | None = None
_inherited: list[asyncio.AbstractEventLoop] = []
_farewells: list[Callable[[], None]] = []
_exit_is_watched = False


def process_id() -> int:
    """What `os.getpid()` says, without asking the system each time: a call checks it twice."""
    return _pid


def background_loop() -> asyncio.AbstractEventLoop:
    """The running event loop of this process's background thread; started at the first call."""
    global _loop
    loop = _loop
    if loop is not None and not loop.is_closed():
        return loop
    with _lock:
        if _loop is None or _loop.is_closed():
            started = threading.Event()
            fresh = asyncio.new_event_loop()

            def serve() -> None:
                asyncio.set_event_loop(fresh)
                fresh.call_soon(started.set)
                fresh.run_forever()

            threading.Thread(target=serve, name="openreward-gym", daemon=True).start()
            started.wait()
            _loop = fresh
        return _loop


def run(coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
    """Run `coroutine` on the background loop and wait for it.

    Ctrl-C (or any exception raised in the waiting thread) cancels the coroutine, gives it a moment to clean up after itself,
    and is raised again.

    Args:
        coroutine: What to run.
        timeout_s: Seconds to wait; None waits for as long as it takes.

    Raises:
        TimeoutError: `timeout_s` passed; the coroutine was cancelled.
        RuntimeError: Called on the background loop itself, where waiting would never end.
    """
    loop = background_loop()
    if threading.get_ident() == getattr(loop, "_thread_id", None):
        coroutine.close()
        raise RuntimeError("this is the background loop itself: await the coroutine instead of waiting for it")
    watch_sigterm()
    job: _Job[T] = _Job(coroutine, loop)
    try:
        loop.call_soon_threadsafe(job.begin)
    except RuntimeError:
        coroutine.close()
        raise
    try:
        over = job.over.acquire(timeout=-1 if timeout_s is None else max(timeout_s, 0.0))
    except BaseException:
        # Ctrl-C. The task is told to end, and is waited for while it cleans up.
        job.cancel()
        raise
    if not over:
        job.cancel()
        raise TimeoutError(f"no result within {timeout_s} s")
    return job.result()


class _Job(Generic[T]):
    """One coroutine on the background loop, and the lock that is released when it is over.

    A future of concurrent.futures, chained to asyncio's, does the same and takes twice as long.
    """

    __slots__ = ("_coroutine", "_loop", "_task", "over")

    def __init__(self, coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._task: asyncio.Task[T] | None = None
        self.over = threading.Lock()
        self.over.acquire()

    def begin(self) -> None:
        self._task = self._loop.create_task(self._coroutine)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        self.over.release()

    def result(self) -> T:
        task, self._task = self._task, None
        assert task is not None
        try:
            return task.result()
        except asyncio.CancelledError:
            # asyncio's is for tasks; the thread that waits is none.
            cancelled = concurrent.futures.CancelledError()
        finally:
            # An error holds this frame: it shall not hold the task that holds the error.
            del task
        raise cancelled

    def cancel(self) -> None:
        """Cancel the coroutine and wait until it has cleaned up after itself, for a while."""
        if self._task is None or not self._task.done():
            self._loop.call_soon_threadsafe(self._cancel)
            self.over.acquire(timeout=CANCEL_GRACE_S)
        if self._task is not None and self._task.done() and not self._task.cancelled():
            # Taken note of, so that asyncio does not report it.
            self._task.exception()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def at_death(farewell: Callable[[], None]) -> None:
    """Call `farewell` (which must be quick and not raise) when the interpreter exits, and when a SIGTERM would end it."""
    global _exit_is_watched
    _farewells.append(farewell)
    if not _exit_is_watched:
        _exit_is_watched = True
        # The `atexit` callbacks are too late: thread pools, and name resolution with them, are shut down before. The hook
        # that concurrent.futures itself uses runs while they still work, and in multiprocessing's children as well.
        try:
            getattr(threading, "_register_atexit", atexit.register)(_say_farewell)
        except RuntimeError:
            # The interpreter is on its way out already.
            atexit.register(_say_farewell)
    watch_sigterm()


def watch_sigterm() -> None:
    """Let a SIGTERM call the farewells before it ends the process as it always does.

    Only from the main thread (Python allows no other), and only where nobody else handles the signal.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    _say_farewell()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _say_farewell() -> None:
    for farewell in _farewells:
        farewell()


def _forget_the_parents_loop() -> None:
    global _lock, _loop, _pid
    _pid = os.getpid()
    _lock = threading.RLock()
    if _loop is not None:
        # Never collected: closing it here would take the parent's sockets out of the epoll set that both share.
        _inherited.append(_loop)
    _loop = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_loop)
