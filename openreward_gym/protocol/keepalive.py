"""Pings for all sessions of a client, from one task.

A server drops a session without requests after a while (the hosted ones after about two minutes), and a policy may think for
longer. So the process's background loop pings the sessions, also while the caller's thread computes. The answers also report a
lost session early.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet, ref

from openreward_gym.errors import OpenRewardGymError, SessionLostError

log = logging.getLogger("openreward_gym")

TICKS = 100
"""Number of slots into which the sessions of an interval are spread, so that they are not pinged all at once."""


class Pingable(Protocol):
    """A pingable session, held by a weak reference so that pinging does not prevent garbage collection."""

    async def ping(self) -> None:
        """Ping the server. Raise SessionLostError if it no longer has the session."""

    def mark_lost(self, reason: str) -> None:
        """Handle the loss of the session."""


class KeepAlive:
    """Pings sessions from one task on `loop`, each once per `interval_s` seconds. The task ends with the last session."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval_s: float) -> None:
        self._loop = ref(loop)
        self._tick_s = interval_s / TICKS
        # Held briefly by any thread that adds or discards: waking the loop's thread for each would cost more than a call.
        self._lock = threading.RLock()
        self._slots: list[WeakSet[Pingable]] = [WeakSet() for _ in range(TICKS)]
        self._slot_of: WeakKeyDictionary[Pingable, WeakSet[Pingable]] = WeakKeyDictionary()
        self._next_slot = 0
        self._next_filled = TICKS - 1
        self._running = False
        self._task: asyncio.Task[None] | None = None
        self._pinging: dict[int, asyncio.Task[None]] = {}

    def add(self, session: Pingable) -> None:
        """Start pinging `session`. Any thread may call it."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        with self._lock:
            # Round-robin, which fills the slots evenly; backwards, because a session that was just opened needs no ping yet.
            slot = self._slot_of[session] = self._slots[self._next_filled]
            self._next_filled = (self._next_filled - 1) % TICKS
            slot.add(session)
            starts, self._running = not self._running, True
        if starts:
            # In a context of its own: the task outlives the caller, and whoever listens to the caller's retries.
            loop.call_soon_threadsafe(self._begin, context=contextvars.Context())

    def discard(self, session: Pingable) -> None:
        """Stop pinging `session`. Any thread may call it."""
        with self._lock:
            slot = self._slot_of.pop(session, None)
            if slot is not None:
                slot.discard(session)
        loop = self._loop()
        # Wake another thread's event loop only if it has something to do.
        if id(session) in self._pinging and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._stop_pinging, id(session))

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    def _stop_pinging(self, number: int) -> None:
        ping = self._pinging.get(number)
        if ping is not None and ping is not asyncio.current_task():
            ping.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while self._is_needed():
                due += self._tick_s
                await asyncio.sleep(due - loop.time())
                # If it wakes late, as when another thread computes, it makes up for the slots it missed.
                missed = int((loop.time() - due) / self._tick_s)
                due += missed * self._tick_s
                for _ in range(min(1 + missed, TICKS)):
                    self._ping_slot(loop)
        except BaseException:
            self._running = False
            raise

    def _is_needed(self) -> bool:
        with self._lock:
            self._running = any(self._slots)
            return self._running

    def _ping_slot(self, loop: asyncio.AbstractEventLoop) -> None:
        # A separate function: a local variable of the task would keep the last session from being garbage-collected.
        with self._lock:
            due = list(self._slots[self._next_slot])
            self._next_slot = (self._next_slot + 1) % TICKS
        for session in due:
            if id(session) not in self._pinging:
                self._pinging[id(session)] = loop.create_task(self._ping(session))

    async def _ping(self, session: Pingable) -> None:
        try:
            await session.ping()
        except SessionLostError as error:
            self.discard(session)
            session.mark_lost(str(error))
        except OpenRewardGymError as error:
            # The network may recover before the server drops the session. Only the server's answer means that it is lost.
            log.info("a ping failed: %s", error)
        finally:
            self._pinging.pop(id(session), None)
