"""Deletion of sessions on their server, whatever ends their owner.

A `Lease` is made before a session is created on the server, and is released when the session is deleted there. It knows the
session's ids but not the session object, and outlives it: a session that is closed, garbage-collected or cancelled while it
opens, an interpreter that exits and a SIGTERM all end in `Lease.delete`. A killed process deletes nothing, but its pings stop, so
the server drops its sessions.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import time
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from openreward_gym.errors import OpenRewardGymError, SessionLostError, TransportError
from openreward_gym.hiding import Secret
from openreward_gym.protocol.api import ApiCall, RetryingClient
from openreward_gym.protocol.loop import background_loop, run_at_exit
from openreward_gym.protocol.request import Headers
from openreward_gym.protocol.sse import CallStream

log = logging.getLogger("openreward_gym")

DELETE_TIMEOUT_S = 10.0
"""Seconds that deleting a session may take: a dead server must not block its clients."""
CREATION_TIMEOUT_S = 60.0
"""Seconds that a cancelled opening waits for the server to create what is then deleted."""
EXIT_TIMEOUT_S = 5.0
"""Seconds that an exiting process spends on deleting its sessions, apart from `PER_SESSION_S`."""
MAX_CONCURRENT_DELETIONS = 128
"""Concurrent deletions per client. With a thousand at once, each would wait longer than a deletion may take. With fewer,
closing would take long on hosted servers, which need seconds to stop a machine."""
PER_SESSION_S = 0.05
"""Seconds that each session adds to the time that deleting many may take."""


class LeaseRegistry:
    """The sessions of one client that are not deleted yet. With `any_loop` the background loop can delete them."""

    def __init__(self, api: RetryingClient, *, any_loop: bool) -> None:
        self.api = api
        self.any_loop = any_loop
        self.leases: set[Lease] = set()
        self._semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def add(self, lease: Lease) -> None:
        """Register a lease, and delete its session at the interpreter's exit unless it was released by then."""
        run_at_exit(self)
        self.leases.add(lease)

    def semaphore(self) -> asyncio.Semaphore:
        """Return the semaphore that limits concurrent deletions on the running event loop."""
        return self._semaphores.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(MAX_CONCURRENT_DELETIONS))

    async def release_all(self) -> None:
        """Delete all sessions. It takes a bounded time, and raises only if it is cancelled."""
        leases = list(self.leases)
        timeout_s = DELETE_TIMEOUT_S + PER_SESSION_S * len(leases)
        await asyncio.gather(*[lease.release(timeout_s=timeout_s) for lease in leases])

    def begin_exit(self) -> tuple[list[concurrent.futures.Future[None]], float]:
        """Start the deletion of all sessions; see `AtExit`."""
        submitted = [lease.submit() for lease in list(self.leases) if lease.pid == os.getpid()]
        futures = [future for future in submitted if future is not None]
        return futures, EXIT_TIMEOUT_S + PER_SESSION_S * len(futures)


class Lease:
    """The obligation to delete one session. Make it on the event loop that will hold the session.

    Attributes:
        streams: Answers to the requests for sessions. Their task ids are the ids of the sessions.
        creating: The id of the session whose environment a request in flight is creating, or None.
        pid: The process that made the lease.
    """

    def __init__(self, registry: LeaseRegistry, headers: Mapping[str, str | Secret]) -> None:
        self.streams: list[CallStream] = []
        self.creating: str | None = None
        self.pid = os.getpid()
        self._registry = registry
        self._api = registry.api
        self._headers = headers
        self._headers_of: dict[str, Headers] = {}
        self._loop = asyncio.get_running_loop()
        self._deletion: asyncio.Task[None] | None = None
        self._release_deadline: float | None = None
        registry.add(self)

    @property
    def session_ids(self) -> list[str]:
        """The ids of all sessions that the server has created so far."""
        return [session_id for stream in self.streams for session_id in stream.task_ids]

    def headers_of(self, session_id: str) -> Headers:
        """Return the headers for the requests of one session: one object, so that they are encoded once."""
        if session_id not in self._headers_of:
            self._headers_of[session_id] = Headers({**self._headers, "X-Session-ID": session_id})
        return self._headers_of[session_id]

    async def release(self, creation: asyncio.Task[Any] | None = None, timeout_s: float | None = None) -> None:
        """Delete the session. It takes a bounded time, and raises only if it is cancelled; the deletion continues then.

        Args:
            creation: A request in flight that may still create a session or its environment. The deletion waits for it.
            timeout_s: Seconds to wait. None waits for `DELETE_TIMEOUT_S`.
        """
        if self not in self._registry.leases or self.pid != os.getpid():
            return
        if self._deletion is None or self._deletion.done() or self._deletion.get_loop() is not asyncio.get_running_loop():
            self._deletion = asyncio.create_task(self.delete(creation))
        # A session that is closed twice, or by its client as well, is waited for once.
        now = time.monotonic()
        if self._release_deadline is None:
            self._release_deadline = now + (DELETE_TIMEOUT_S if timeout_s is None else timeout_s)
        await asyncio.wait([self._deletion], timeout=max(self._release_deadline - now, 0.0))

    async def delete(self, creation: asyncio.Task[Any] | None = None) -> None:
        """Delete all sessions of the lease, on the running event loop."""
        await self._await_creation(creation, CREATION_TIMEOUT_S)
        session_ids = self.session_ids
        try:
            async with self._registry.semaphore(), asyncio.timeout(DELETE_TIMEOUT_S):
                if len(session_ids) == 1:
                    await self._delete_session(session_ids[0])
                else:
                    await asyncio.gather(*[self._delete_session(session_id) for session_id in session_ids])
        except TimeoutError:
            log.warning("deleting session %s took too long; its server will drop it", ", ".join(session_ids))
        self._registry.leases.discard(self)

    def abandon(self) -> None:
        """Delete the session after it was garbage-collected without being closed, on any thread."""
        being_deleted = self._deletion is not None and not self._deletion.done()
        if self not in self._registry.leases or self.pid != os.getpid() or being_deleted:
            return
        log.warning("session %s was not closed: deleting it now", ", ".join(self.session_ids) or "(opening)")
        self.submit()

    def submit(self) -> concurrent.futures.Future[None] | None:
        """Start the deletion from any thread. Return None if no event loop can run it."""
        loop = background_loop() if self._registry.any_loop else self._loop
        if loop.is_closed() or not loop.is_running():
            return None
        deletion = self._delete_remotely()
        try:
            return asyncio.run_coroutine_threadsafe(deletion, loop)
        except RuntimeError:
            # The loop was closed in between, or the interpreter is shutting down.
            deletion.close()
            return None

    async def _delete_remotely(self) -> None:
        """Delete while the event loop of a request in flight is stopped, or in a signal handler."""
        await self._await_creation(None, EXIT_TIMEOUT_S * 0.8)
        self.creating = None
        await self.delete()

    async def _await_creation(self, creation: asyncio.Task[Any] | None, timeout_s: float) -> None:
        """Wait until the environment that is being created exists, or the request that creates it has ended."""
        creating, ends, pause_s = self.creating, time.monotonic() + timeout_s, 0.05
        while creating is not None and time.monotonic() < ends and (creation is None or not creation.done()):
            headers = self.headers_of(creating)
            try:
                await self._api.send(ApiCall("POST", "/ping", headers=headers, first_byte_timeout_s=DELETE_TIMEOUT_S / 2))
                break
            except OpenRewardGymError:
                if creation is None:
                    await asyncio.sleep(pause_s)
                else:
                    await asyncio.wait([creation], timeout=pause_s)
            pause_s = min(pause_s * 1.5, 2.0)
        if creation is not None:
            creation.cancel()
            await asyncio.gather(creation, return_exceptions=True)

    async def _delete_session(self, session_id: str) -> None:
        # The environment first, then its machine. A transient refusal gets a second attempt.
        if not await self._post("/delete", session_id):
            await self._post("/delete", session_id)
        await self._post("/delete_session", session_id)

    async def _post(self, path: str, session_id: str) -> bool:
        """Return False if the server answered with an error other than an unknown session."""
        headers = self.headers_of(session_id)
        try:
            await self._api.send(ApiCall("POST", path, headers=headers, session=True, first_byte_timeout_s=DELETE_TIMEOUT_S / 2))
        except SessionLostError:
            return True
        except OpenRewardGymError as error:
            log.debug("%s of session %s: %s", path, session_id, error)
            return isinstance(error, TransportError)
        return True
