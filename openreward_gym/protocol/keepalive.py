"""Pings for all sessions of an event loop, from one task.

A server drops a session that it has not heard of for a while (the hosted ones after about two minutes), and a policy may think
for longer than that. So sessions are pinged from the process's background loop, which turns while the caller computes; the
answer also tells early that a session is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import ClassVar, Protocol
from weakref import WeakKeyDictionary, WeakSet, ref

from openreward_gym.errors import OpenRewardGymError, SessionLostError

__all__ = ["KeepAlive", "Pinged"]

log = logging.getLogger("openreward_gym")

TICKS = 100
"""Into how many moments an interval is cut, so that a thousand sessions are not pinged all at once."""


class Pinged(Protocol):
    """What is kept alive. It is held weakly: keeping a session alive on its server keeps it from nothing here."""

    async def ping(self) -> None:
        """Tell the server that the session is held; raises SessionLostError where the server does not have it."""

    def mark_lost(self, reason: str) -> None:
        """The server does not have it."""


class KeepAlive:
    """Pings sessions, each once per interval, from one task on `loop`; there is no task while there is no session.

    Args:
        loop: The event loop that sends the pings.
        interval_s: Seconds between two pings of a session.
    """

    _of_loop: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[float, KeepAlive]]] = WeakKeyDictionary()
    # Held for moments, by whatever thread adds or discards: waking the keeper's thread for each would cost more than a call.
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, loop: asyncio.AbstractEventLoop, interval_s: float) -> None:
        self._loop = ref(loop)
        self._tick_s = interval_s / TICKS
        self._slots: list[WeakSet[Pinged]] = [WeakSet() for _ in range(TICKS)]
        self._slot_of: WeakKeyDictionary[Pinged, WeakSet[Pinged]] = WeakKeyDictionary()
        self._next_slot = 0
        self._filled = 0
        self._turning = False
        self._task: asyncio.Task[None] | None = None
        self._pinging: dict[int, asyncio.Task[None]] = {}

    @classmethod
    def on(cls, loop: asyncio.AbstractEventLoop, interval_s: float) -> KeepAlive:
        """The one keeper of `loop` with that interval."""
        with cls._lock:
            keepers = cls._of_loop.setdefault(loop, {})
            keeper = keepers.get(interval_s)
            if keeper is None:
                keeper = keepers[interval_s] = cls(loop, interval_s)
            return keeper

    def add(self, session: Pinged) -> None:
        """Ping `session` from now on. May be called from any thread."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        with self._lock:
            # In turn, which fills them evenly without counting a hundred.
            slot = self._slot_of[session] = self._slots[self._filled]
            self._filled = (self._filled + 1) % TICKS
            slot.add(session)
            begins, self._turning = not self._turning, True
        if begins:
            loop.call_soon_threadsafe(self._begin)

    def discard(self, session: Pinged) -> None:
        """Ping `session` no more. May be called from any thread."""
        with self._lock:
            slot = self._slot_of.pop(session, None)
            if slot is not None:
                slot.discard(session)
        loop = self._loop()
        # Another thread's event loop is woken only where there is something for it to do.
        if id(session) in self._pinging and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._stop_pinging, id(session))

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._turn())

    def _stop_pinging(self, number: int) -> None:
        ping = self._pinging.get(number)
        if ping is not None and ping is not asyncio.current_task():
            ping.cancel()

    async def _turn(self) -> None:
        try:
            await self._turn_while_needed()
        except BaseException:
            self._turning = False
            raise

    async def _turn_while_needed(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self._is_needed():
            due += self._tick_s
            await asyncio.sleep(due - loop.time())
            # Woken late, as when another thread computes, it makes up for what it missed.
            missed = int((loop.time() - due) / self._tick_s)
            due += missed * self._tick_s
            for _ in range(min(1 + missed, TICKS)):
                self._ping_slot(loop)

    def _is_needed(self) -> bool:
        with self._lock:
            self._turning = any(self._slots)
            return self._turning

    def _ping_slot(self, loop: asyncio.AbstractEventLoop) -> None:
        # A function of its own: a variable of the turning task would keep the last session from being collected.
        with self._lock:
            due = list(self._slots[self._next_slot])
            self._next_slot = (self._next_slot + 1) % TICKS
        for session in due:
            if id(session) not in self._pinging:
                self._pinging[id(session)] = loop.create_task(self._ping(session))

    async def _ping(self, session: Pinged) -> None:
        try:
            await session.ping()
        except SessionLostError as error:
            self.discard(session)
            session.mark_lost(str(error))
        except OpenRewardGymError as error:
            # The network may come back before the server loses patience; a session is lost when the server says so.
            log.info("a ping failed: %s", error)
        finally:
            self._pinging.pop(id(session), None)


def _forget_the_parents_lock() -> None:
    KeepAlive._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_lock)
