"""What a session owes its server: to be deleted, however its owner dies.

A `Lease` is the debt of one session, made before the session is asked for and paid when it is deleted. It knows the session's
ids but not the session, so it outlives it: a session that is closed, collected, or cancelled while it opens, an interpreter
that exits and a SIGTERM all end in `Lease.settle`. A process that is killed pays nothing; its servers drop the sessions when
the pings stay away.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import time
from collections.abc import Coroutine, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from openreward_gym.errors import OpenRewardGymError, SessionLostError, TransportError
from openreward_gym.protocol.exchange import Ask, Exchange
from openreward_gym.protocol.loop import at_death, background_loop
from openreward_gym.protocol.request import Headers
from openreward_gym.protocol.sse import CallStream
from openreward_gym.protocol.wire import Secret

__all__ = ["Lease", "release_all"]

log = logging.getLogger("openreward_gym")

SETTLE_TIMEOUT_S = 10.0
"""Most seconds that deleting a session may take: a server that is gone must not hold its clients."""
CREATION_TIMEOUT_S = 60.0
"""Most seconds that a cancelled opening waits for the server to create what is then deleted."""
DEATH_TIMEOUT_S = 5.0
"""Most seconds that a dying process spends on deleting what it holds."""

AT_ONCE = 128
"""How many sessions of a server are deleted at the same time: a thousand at once would wait for each other for longer than a
deletion may take. Not fewer, for a hosted server takes seconds to take a machine down."""
PER_SESSION_S = 0.05
"""Seconds that each session adds to what deleting many may take."""

_owed: set[Lease] = set()
"""The leases of this process that are not settled."""
_gates: WeakKeyDictionary[Exchange, WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()


class Lease:
    """The duty to delete one session. Made on the event loop that will hold the session.

    Args:
        exchange: The server.
        headers: The headers of the session's requests, without the session's id.
    """

    # streams: what the server said when it was asked for sessions; their task ids are the sessions' ids.
    # creating: the session whose environment is being made right now, by a request that is on its way.

    def __init__(self, exchange: Exchange, headers: Mapping[str, str | Secret]) -> None:
        self.streams: list[CallStream] = []
        self.creating: str | None = None
        self.pid = os.getpid()
        self.exchange = exchange
        self._headers = headers
        self._headers_of: dict[str, Headers] = {}
        self._loop = asyncio.get_running_loop()
        self._settling: asyncio.Task[None] | None = None
        self._waited_for_until: float | None = None
        _watch_death()
        _owed.add(self)

    @property
    def session_ids(self) -> list[str]:
        """All ids that the server named, as soon as they came."""
        return [session_id for stream in self.streams for session_id in stream.task_ids]

    def headers_of(self, session_id: str) -> Headers:
        """The headers of the requests of one session: one object, so that they are encoded once."""
        headers = self._headers_of.get(session_id)
        if headers is None:
            headers = self._headers_of[session_id] = Headers({**self._headers, "X-Session-ID": session_id})
        return headers

    async def release(self, first: asyncio.Task[Any] | None = None, timeout_s: float | None = None) -> None:
        """Delete the session. Never raises but when cancelled, and takes a bounded time; deleting goes on after that.

        Args:
            first: A request that is still on its way and would create what is to be deleted: it is waited for before.
            timeout_s: Seconds to wait; None for the usual ones.
        """
        if self not in _owed or self.pid != os.getpid():
            return
        if self._settling is None or self._settling.done() or self._settling.get_loop() is not asyncio.get_running_loop():
            self._settling = asyncio.create_task(self.settle(first))
        # Whoever closes a session twice, or its client after it, waits once.
        now = time.monotonic()
        if self._waited_for_until is None:
            self._waited_for_until = now + (SETTLE_TIMEOUT_S if timeout_s is None else timeout_s)
        await asyncio.wait([self._settling], timeout=max(self._waited_for_until - now, 0.0))

    async def settle(self, first: asyncio.Task[Any] | None = None) -> None:
        """Delete all sessions of the lease, on whatever event loop this runs."""
        await self._await_creation(first, CREATION_TIMEOUT_S)
        session_ids = self.session_ids
        try:
            async with _gate(self.exchange), asyncio.timeout(SETTLE_TIMEOUT_S):
                if len(session_ids) == 1:
                    await self._delete(session_ids[0])
                else:
                    await asyncio.gather(*[self._delete(session_id) for session_id in session_ids])
        except TimeoutError:
            log.warning("deleting session %s took too long; its server drops it by itself", ", ".join(session_ids))
        _owed.discard(self)

    def abandon(self) -> None:
        """The session was collected without being closed: delete it from wherever that happens."""
        being_deleted = self._settling is not None and not self._settling.done()
        if self not in _owed or self.pid != os.getpid() or being_deleted:
            return
        log.warning("session %s was not closed: it is deleted now", ", ".join(self.session_ids) or "(opening)")
        self.submit()

    def submit(self) -> concurrent.futures.Future[None] | None:
        """Start `settle` from any thread; None where no event loop can run it."""
        loop = background_loop() if self.exchange.any_loop else self._loop
        if loop.is_closed() or not loop.is_running():
            return None
        return _submit(self._settle_from_afar(), loop)

    async def _settle_from_afar(self) -> None:
        """Settle where the answer to a request on its way cannot be seen: its event loop is stopped, or in a signal handler."""
        await self._await_creation(None, DEATH_TIMEOUT_S * 0.8)
        self.creating = None
        await self.settle()

    async def _await_creation(self, first: asyncio.Task[Any] | None, timeout_s: float) -> None:
        """Wait until the environment that is being made is there, or the request that makes it is over."""
        creating, ends, pause_s = self.creating, time.monotonic() + timeout_s, 0.05
        while creating is not None and time.monotonic() < ends and (first is None or not first.done()):
            headers = self.headers_of(creating)
            try:
                await self.exchange.ask(Ask("POST", "/ping", headers=headers, first_byte_timeout_s=SETTLE_TIMEOUT_S / 2))
                break
            except OpenRewardGymError:
                if first is None:
                    await asyncio.sleep(pause_s)
                else:
                    await asyncio.wait([first], timeout=pause_s)
            pause_s = min(pause_s * 1.5, 2.0)
        if first is not None:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    async def _delete(self, session_id: str) -> None:
        # The environment first, then the machine that it runs on; a refusal in passing is given a second chance.
        headers = self.headers_of(session_id)
        if not await self._told("/delete", session_id, headers):
            await self._told("/delete", session_id, headers)
        await self._told("/delete_session", session_id, headers)

    async def _told(self, path: str, session_id: str, headers: Headers) -> bool:
        """Whether the server was told; it may not have known the session any more."""
        ask = Ask("POST", path, headers=headers, session=True, first_byte_timeout_s=SETTLE_TIMEOUT_S / 2)
        try:
            await self.exchange.ask(ask)
        except SessionLostError:
            return True
        except OpenRewardGymError as error:
            log.debug("%s of session %s: %s", path, session_id, error)
            return isinstance(error, TransportError)
        return True


def _gate(exchange: Exchange) -> asyncio.Semaphore:
    """What lets so many deletions at once through to a server, on the running event loop."""
    loop = asyncio.get_running_loop()
    gates = _gates.get(exchange)
    if gates is None:
        gates = _gates[exchange] = WeakKeyDictionary()
    gate = gates.get(loop)
    if gate is None:
        gate = gates[loop] = asyncio.Semaphore(AT_ONCE)
    return gate


async def release_all(exchange: Exchange) -> None:
    """Delete all sessions of this process on the server of `exchange`. Bounded in time, never raises but when cancelled."""
    leases = [lease for lease in list(_owed) if lease.exchange is exchange]
    timeout_s = SETTLE_TIMEOUT_S + PER_SESSION_S * len(leases)
    await asyncio.gather(*[lease.release(timeout_s=timeout_s) for lease in leases])


def _submit(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> concurrent.futures.Future[None] | None:
    try:
        return asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError:
        # The loop was closed in between, or the interpreter is going down.
        coroutine.close()
        return None


def _settle_everything() -> None:
    """Delete all sessions of this process; the last thing it does."""
    leases = [lease for lease in list(_owed) if lease.pid == os.getpid()]
    futures = [future for future in (lease.submit() for lease in leases) if future is not None]
    concurrent.futures.wait(futures, timeout=DEATH_TIMEOUT_S + PER_SESSION_S * len(futures))


_death_is_watched = False


def _watch_death() -> None:
    global _death_is_watched
    if not _death_is_watched:
        _death_is_watched = True
        at_death(_settle_everything)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_owed.clear)
