"""The background event loop of this process, the sync interface to it, and the cleanup at the process's exit.

Gymnasium's `reset`, `step` and `close` are sync; everything below them is async. `run(coroutine)` connects them: it runs a
coroutine on an event loop in a daemon thread and waits for the result. Each process has one such loop. A forked child starts its
own, because the parent's thread does not exist there.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import signal
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

from openreward_gym.errors import TransportError
from openreward_gym.processes import is_out_of_files, open_files_hint, process_id

T = TypeVar("T")

CANCEL_GRACE_S = 10.0
"""Seconds that a cancelled coroutine has to clean up, such as to delete the session it was opening, before `run` returns."""
SIGNAL_CHECK_S = 0.5
"""Seconds after which a waiting thread looks for signals at the latest."""
ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a program: a request to stop, and a terminal that goes away. Windows has no SIGHUP."""


class AtExit(Protocol):
    """An object with work to do on the event loop when the process exits."""

    def begin_exit(self) -> tuple[list[concurrent.futures.Future[None]], float]:
        """Start the work without waiting or raising. Return its futures and the seconds to wait for them."""


# The state of the process's event loop.

_lock = threading.RLock()
_loop: asyncio.AbstractEventLoop | None = None
_inherited: list[asyncio.AbstractEventLoop] = []
_at_exit: WeakSet[AtExit] = WeakSet()
_exit_hooked = False
_exiting = False

__all__ = ["background_loop", "process_id", "run", "run_at_exit", "watch_signals"]


def background_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of this process's background thread. The first call starts it.

    Raises:
        TransportError: The process has too many open files.
    """
    global _loop
    loop = _loop
    if loop is not None and not loop.is_closed():
        return loop
    with _lock:
        if _loop is None or _loop.is_closed():
            started = threading.Event()
            fresh = _new_loop()

            def serve() -> None:
                asyncio.set_event_loop(fresh)
                fresh.call_soon(started.set)
                fresh.run_forever()

            threading.Thread(target=serve, name="openreward-gym", daemon=True).start()
            started.wait()
            _loop = fresh
        return _loop


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.new_event_loop()
    except OSError as error:
        if not is_out_of_files(error):
            raise
    raise TransportError(f"no event loop could be made: {open_files_hint()}", delivery="not_sent")


def run(coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
    """Run `coroutine` on the background loop and wait for its result.

    Ctrl-C (or any exception in the waiting thread) cancels the coroutine, waits for its cleanup, and is raised again.

    Raises:
        TimeoutError: `timeout_s` seconds passed (None sets no limit). The coroutine was cancelled.
        RuntimeError: The caller runs on the background loop itself, where waiting would never end.

    Example:
        >>> import asyncio
        >>> run(asyncio.sleep(0, result="done"))
        'done'
    """
    try:
        loop = background_loop()
    except TransportError:
        coroutine.close()
        raise
    if threading.get_ident() == getattr(loop, "_thread_id", None):
        coroutine.close()
        raise RuntimeError("run() was called on the background loop, where it would never return: await the coroutine instead")
    watch_signals()
    job: _Job[T] = _Job(coroutine, loop)
    try:
        loop.call_soon_threadsafe(job.begin)
    except RuntimeError:
        coroutine.close()
        raise
    try:
        if timeout_s is None:
            # A signal that another thread receives does not interrupt the wait of this one, which alone handles signals.
            while not (finished := job.finished.acquire(timeout=SIGNAL_CHECK_S)):
                pass
        else:
            finished = job.finished.acquire(timeout=max(timeout_s, 0.0))
    except BaseException:
        # Ctrl-C: cancel the task, and wait for its cleanup.
        job.cancel()
        raise
    if not finished:
        job.cancel()
        raise TimeoutError(f"no result within {timeout_s} s")
    return job.result()


class _Job(Generic[T]):
    """A coroutine on the background loop, and a lock that is released when it ends: twice as fast as chained futures."""

    __slots__ = ("_coroutine", "_loop", "_task", "finished")

    def __init__(self, coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._task: asyncio.Task[T] | None = None
        self.finished = threading.Lock()
        self.finished.acquire()

    def begin(self) -> None:
        self._task = self._loop.create_task(self._coroutine)
        self._task.add_done_callback(lambda _: self.finished.release())

    def result(self) -> T:
        task, self._task = self._task, None
        assert task is not None
        try:
            return task.result()
        except asyncio.CancelledError:
            # asyncio's CancelledError would mean that the waiting thread's own task was cancelled.
            cancelled = concurrent.futures.CancelledError()
        finally:
            # The error's traceback refers to this frame, which must not refer to the task that holds the error.
            del task
        raise cancelled

    def cancel(self) -> None:
        """Cancel the coroutine, and wait for its cleanup for at most `CANCEL_GRACE_S`."""
        if self._task is None or not self._task.done():
            self._loop.call_soon_threadsafe(self._cancel)
            self.finished.acquire(timeout=CANCEL_GRACE_S)
        if self._task is not None and self._task.done() and not self._task.cancelled():
            # Retrieved, so that asyncio does not log it.
            self._task.exception()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def run_at_exit(owner: AtExit) -> None:
    """Call `owner.begin_exit` when the interpreter exits or a SIGTERM or SIGHUP ends it. It does not keep `owner` alive."""
    global _exit_hooked
    _at_exit.add(owner)
    if not _exit_hooked:
        _exit_hooked = True
        # `atexit` callbacks run too late: after thread pools, and with them name resolution, are shut down. The hook that
        # concurrent.futures itself uses runs before, and in multiprocessing's children as well.
        try:
            getattr(threading, "_register_atexit", atexit.register)(_exit)
        except RuntimeError:
            # The interpreter is shutting down already.
            atexit.register(_exit)
    watch_signals()


def watch_signals() -> None:
    """Run the cleanup on SIGTERM and SIGHUP, unless they have other handlers. Only the main thread may set handlers.

    An ignored signal stays ignored: `nohup` starts a program so.
    """
    if threading.current_thread() is threading.main_thread():
        for number in ENDING_SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _exiting:
        # A second signal, as a closed terminal sends it. The cleanup takes a bounded time.
        return
    _exit()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _exit() -> None:
    global _exiting
    _exiting = True
    try:
        pending = [owner.begin_exit() for owner in list(_at_exit)]
        futures = [future for futures, _ in pending for future in futures]
        concurrent.futures.wait(futures, timeout=max((timeout_s for _, timeout_s in pending), default=0.0))
    finally:
        _exiting = False


def _reset_after_fork() -> None:
    global _exiting, _lock, _loop
    _exiting = False
    _lock = threading.RLock()
    if _loop is not None:
        # Kept forever: closing it here would remove the parent's sockets from the epoll set that both processes share.
        _inherited.append(_loop)
    _loop = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
