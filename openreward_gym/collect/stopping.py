"""Stopping a collection: after what is under way (drain), or at once. Ctrl-C does the first, again the second."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Stop:
    """What a collection listens to. `drain` and `now` may be called from any thread, and before it listens."""

    def __init__(self) -> None:
        self.wanted = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._act: Callable[[str], None] = lambda how: None

    def listen(self, act: Callable[[str], None]) -> None:
        """Call `act` with "drain" or "now" on the running event loop, from now on and for what was wanted before."""
        self._loop, self._act = asyncio.get_running_loop(), act
        if self.wanted:
            act(self.wanted)

    def drain(self) -> None:
        """Begin nothing more, and end what is under way."""
        self._want("drain")

    def now(self) -> None:
        """Leave what is under way."""
        self._want("now")

    def _want(self, how: str) -> None:
        if self.wanted == "now":
            return
        self.wanted = how
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._act, how)


@contextlib.contextmanager
def stopped_by_signals(stop: Stop) -> Iterator[None]:
    """SIGINT drains, a second one stops at once, and SIGTERM does so the first time.

    Only in the main thread, where Python delivers signals; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupted(number: int, frame: FrameType | None) -> None:
        if stop.wanted:
            stop.now()
        else:
            stop.drain()

    def terminated(number: int, frame: FrameType | None) -> None:
        stop.now()

    before = {signal.SIGINT: signal.signal(signal.SIGINT, interrupted), signal.SIGTERM: signal.signal(signal.SIGTERM, terminated)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
