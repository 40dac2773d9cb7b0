"""Deletion of sessions on their server, whatever ends their owner.

A `Lease` is made before a session is created on the server, and is released when the session is deleted there. It knows the
session's ids but not the session object, and outlives it: a session that is closed, garbage-collected or cancelled while it
opens, an interpreter that exits, a SIGTERM and a SIGHUP all end in its deletion. A killed process deletes nothing, but its
pings stop, so the server drops its sessions.

A deletion is two requests. `/delete` tears the environment down, which may take long; while it may be at work, it is not sent
again. `/delete_session` gives the machine back, and is sent in any case: after the answer to `/delete`, or when the time for the
teardown is over.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from openreward_gym.errors import (
    OpenRewardGymError,
    OutcomeUnknownError,
    SessionLostError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.hiding import Secret
from openreward_gym.processes import process_id
from openreward_gym.protocol.api import ApiCall, RetryingClient
from openreward_gym.protocol.loop import background_loop, run_at_exit
from openreward_gym.protocol.request import Headers
from openreward_gym.protocol.retry import Effect
from openreward_gym.protocol.sse import CallStream

log = logging.getLogger("openreward_gym")

DELETE_TIMEOUT_S = 10.0
"""Seconds that deleting a session may take: a dead server must not block its clients."""
TEARDOWN_SHARE = 0.8
"""Share of the seconds for a deletion after which `/delete_session` is sent, if the environment is not torn down by then."""
CREATION_TIMEOUT_S = 60.0
"""Seconds that a cancelled opening waits for the server to create what is then deleted."""
EXIT_TIMEOUT_S = 5.0
"""Seconds that an exiting process spends on deleting its sessions, apart from `PER_SESSION_S`. Supervisors kill a process about
ten seconds after they ended it."""
MAX_CONCURRENT_DELETIONS = 128
"""Concurrent deletions per client. With a thousand at once, each would wait longer than a deletion may take. With fewer,
closing would take long on hosted servers, which need seconds to stop a machine."""
PER_SESSION_S = DELETE_TIMEOUT_S / MAX_CONCURRENT_DELETIONS
"""Seconds that each session adds to the time that deleting many may take: the share of one in the concurrent deletions."""


class LeaseRegistry:
    """The sessions of one client that are not deleted yet. With `any_loop` the background loop can delete them."""

    def __init__(self, api: RetryingClient, *, any_loop: bool) -> None:
        self.api = api
        self.any_loop = any_loop
        self.leases: set[Lease] = set()
        self.deleting = 0
        """Number of deletions that are queued or in flight."""
        self._semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def add(self, lease: Lease) -> None:
        """Register a lease, and delete its session at the interpreter's exit unless it was released by then."""
        run_at_exit(self)
        self.leases.add(lease)

    def deletion_done(self, deletion: asyncio.Task[None]) -> None:
        """Count a deletion that has ended."""
        self.deleting -= 1

    def semaphore(self) -> asyncio.Semaphore:
        """Return the semaphore that limits concurrent deletions on the running event loop."""
        return self._semaphores.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(MAX_CONCURRENT_DELETIONS))

    async def release_all(self) -> None:
        """Delete all sessions. It takes a bounded time, and raises only if it is cancelled."""
        await asyncio.gather(*[lease.release() for lease in list(self.leases)])

    def begin_exit(self) -> tuple[list[concurrent.futures.Future[None]], float]:
        """Start the deletion of all sessions; see `AtExit`."""
        leases = [lease for lease in list(self.leases) if lease.pid == process_id()]
        submitted = [lease.submit() for lease in leases]
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
        self.pid = process_id()
        self._registry = registry
        self._api = registry.api
        self._headers = headers
        self._headers_of: dict[str, Headers] = {}
        self._loop = asyncio.get_running_loop()
        self._deletion: asyncio.Task[None] | None = None
        self._submitted: concurrent.futures.Future[None] | None = None
        self._release_deadline: float | None = None
        self._torn_down: set[str] = set()
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

    async def release(self, creation: asyncio.Task[Any] | None = None) -> None:
        """Delete the session. It takes a bounded time, and raises only if it is cancelled; the deletion continues then.

        It waits for `DELETE_TIMEOUT_S`, and longer if more sessions are deleted than `MAX_CONCURRENT_DELETIONS`.

        Args:
            creation: A request in flight that may still create a session or its environment. The deletion waits for it.
        """
        if self not in self._registry.leases or self.pid != process_id():
            return
        # A session that is closed twice, or by its client as well, is waited for once.
        now = time.monotonic()
        if self._release_deadline is None:
            self._release_deadline = now + DELETE_TIMEOUT_S + PER_SESSION_S * self._registry.deleting
        left_s = max(self._release_deadline - now, 0.0)
        deletion = self._running_deletion()
        if deletion is not None and deletion.get_loop() is not asyncio.get_running_loop():
            # Another thread's event loop deletes the session already.
            elsewhere = asyncio.run_coroutine_threadsafe(_wait_for(deletion, left_s), deletion.get_loop())
            await asyncio.wait([asyncio.wrap_future(elsewhere)], timeout=left_s)
            return
        await _wait_for(deletion or self._start_deletion(creation, DELETE_TIMEOUT_S), left_s)

    def _running_deletion(self) -> asyncio.Task[None] | None:
        """Return the deletion in flight, if its event loop still runs."""
        deletion = self._deletion
        if deletion is None or deletion.done() or not deletion.get_loop().is_running():
            return None
        return deletion

    def _start_deletion(self, creation: asyncio.Task[Any] | None, timeout_s: float) -> asyncio.Task[None]:
        self._deletion = asyncio.create_task(self._delete(creation, timeout_s))
        self._registry.deleting += 1
        self._deletion.add_done_callback(self._registry.deletion_done)
        return self._deletion

    async def _delete(self, creation: asyncio.Task[Any] | None, timeout_s: float) -> None:
        """Delete all sessions of the lease, on the running event loop."""
        await self._await_creation(creation, CREATION_TIMEOUT_S)
        session_ids = self.session_ids
        try:
            async with self._registry.semaphore(), asyncio.timeout(timeout_s):
                if len(session_ids) == 1:
                    await self._delete_session(session_ids[0], timeout_s * TEARDOWN_SHARE)
                else:
                    await asyncio.gather(*[self._delete_session(each, timeout_s * TEARDOWN_SHARE) for each in session_ids])
        except TimeoutError:
            log.warning("deleting session %s took too long; its server will drop it", ", ".join(session_ids))
        self._registry.leases.discard(self)

    def abandon(self) -> None:
        """Delete the session after it was garbage-collected without being closed, on any thread."""
        if self not in self._registry.leases or self.pid != process_id() or self._running_deletion() is not None:
            return
        log.warning("session %s was not closed: deleting it now", ", ".join(self.session_ids) or "(opening)")
        self.submit()

    def submit(self) -> concurrent.futures.Future[None] | None:
        """Start the deletion from any thread, once. Return None if no event loop can run it."""
        if self._submitted is not None and not self._submitted.done():
            return self._submitted
        running = self._running_deletion()
        loop = self._loop
        if running is not None and running.get_loop() is not self._stopped_loop():
            loop = running.get_loop()
        elif self._registry.any_loop:
            loop = background_loop()
        if loop.is_closed() or not loop.is_running():
            return None
        deletion = self._delete_remotely()
        try:
            self._submitted = asyncio.run_coroutine_threadsafe(deletion, loop)
        except RuntimeError:
            # The loop was closed in between, or the interpreter is shutting down.
            deletion.close()
        return self._submitted

    @staticmethod
    def _stopped_loop() -> asyncio.AbstractEventLoop | None:
        """Return the event loop that this thread blocks, as a signal handler does. None if there is none."""
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            return None

    async def _delete_remotely(self) -> None:
        """Delete while the event loop of a request in flight is stopped, in a signal handler, or at the interpreter's exit.

        A deletion that is in flight on this event loop has the time for a teardown at exit, and then only `/delete_session` is
        left to send.
        """
        running = self._deletion
        if running is not None and not running.done() and running.get_loop() is asyncio.get_running_loop():
            await _wait_for(running, EXIT_TIMEOUT_S * TEARDOWN_SHARE)
            if running.done():
                return
        else:
            await self._await_creation(None, EXIT_TIMEOUT_S * TEARDOWN_SHARE)
            self.creating = None
        await _wait_for(self._start_deletion(None, EXIT_TIMEOUT_S), EXIT_TIMEOUT_S)

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

    async def _delete_session(self, session_id: str, teardown_s: float) -> None:
        # The environment first, then its machine.
        if session_id not in self._torn_down:
            self._torn_down.add(session_id)
            try:
                async with asyncio.timeout(teardown_s):
                    # A refusal, or a connection that broke, gets a second attempt. A teardown that takes long is at work.
                    if not await self._post("/delete", session_id, Effect.ONCE) and await self._is_there(session_id):
                        await self._post("/delete", session_id, Effect.ONCE)
            except TimeoutError:
                log.info("the environment of session %s was not torn down within %.1f s", session_id, teardown_s)
        await self._post("/delete_session", session_id, Effect.NONE)

    async def _is_there(self, session_id: str) -> bool:
        """Return False if the server no longer has the session: the reference servers forget it before they tear it down."""
        try:
            await self._api.send(ApiCall("POST", "/ping", headers=self.headers_of(session_id), session=True))
        except SessionLostError:
            return False
        except OpenRewardGymError:
            pass
        return True

    async def _post(self, path: str, session_id: str, effect: Effect) -> bool:
        """Return False if the request should be sent again: the server refused it, or may not have received it."""
        headers = self.headers_of(session_id)
        # The caller limits the time.
        call = ApiCall("POST", path, headers=headers, effect=effect, session=True, first_byte_timeout_s=None)
        try:
            await self._api.send(call)
        except SessionLostError:
            return True
        except OutcomeUnknownError as error:
            log.debug("%s of session %s: %s", path, session_id, error)
            return isinstance(error, TransportTimeoutError)
        except OpenRewardGymError as error:
            log.debug("%s of session %s: %s", path, session_id, error)
            return isinstance(error, TransportError)
        return True


async def _wait_for(deletion: asyncio.Task[None], timeout_s: float) -> None:
    """Wait for a deletion, which continues if this is cancelled or takes too long."""
    await asyncio.wait([deletion], timeout=timeout_s)
