"""The one background event loop of this process, the way from sync code to it, and what must happen before the process dies.

Gymnasium's `reset`, `step` and `close` are sync; everything below them is async. They meet here: `run(coroutine)` hands a
coroutine to an event loop on a daemon thread and waits for its result. There is one such loop per process: after a fork the
child makes its own, because the parent's thread does not exist in the child and waiting for it would never end.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

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
    task: asyncio.Task[T] | None = None
    unwound = threading.Event()

    async def supervise() -> T:
        nonlocal task
        task = asyncio.current_task()
        try:
            return await coroutine
        finally:
            unwound.set()

    future = asyncio.run_coroutine_threadsafe(supervise(), loop)
    try:
        return future.result(timeout_s)
    except BaseException as error:
        if not future.done():
            # The future counts as cancelled at once; the task behind it is still cleaning up, and that is what to wait for.
            future.cancel()
            if task is not None:
                unwound.wait(CANCEL_GRACE_S)
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no result within {timeout_s} s") from None
        raise


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
