"""Tests of pings: one task for all sessions, also while the caller computes; a lost session is known before the next step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from weakref import WeakSet

import pytest
from fault_server import Fault, FaultServer, running

from openreward_gym.errors import SessionLostError, TransportError
from openreward_gym.options import RetryLimits
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.keepalive import TICKS, KeepAlive
from openreward_gym.protocol.loop import background_loop, run
from openreward_gym.protocol.session import Session
from openreward_gym.protocol.transport import HttpxTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with running() as server:
        yield server


def client_of(server: FaultServer, **options: object) -> Client:
    return Client(server.url, ping_interval_s=0.2, retry_limits=RetryLimits(attempts=1), **options)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        await asyncio.sleep(0.01)


def compute(until: Callable[[], bool]) -> None:
    """Block this thread, and its event loop, until the condition holds."""
    ends = time.monotonic() + 20
    while not until():
        assert time.monotonic() < ends, "it did not happen in time"
        sum(range(10_000))


async def opened(client: Client) -> Session:
    session = client.environment("fault").session(split="train", index=0)
    await session.open()
    return session


async def test_an_open_session_is_pinged_and_a_closed_one_is_not(server: FaultServer) -> None:
    async with client_of(server) as client:
        session = await opened(client)
        await until(lambda: sum(server.pings.values()) >= 3)
        assert set(server.pings) == {session.session_id}
        await session.close()
        count = sum(server.pings.values())
        await asyncio.sleep(0.5)
        assert sum(server.pings.values()) == count


async def test_pings_go_on_while_the_caller_computes(server: FaultServer) -> None:
    async with client_of(server) as client:
        session = await opened(client)
        await until(lambda: sum(server.pings.values()) >= 1)
        before = sum(server.pings.values())
        compute(until=lambda: sum(server.pings.values()) - before >= 3)
        await session.close()


def test_pings_go_on_while_a_sync_caller_computes(server: FaultServer) -> None:
    client = client_of(server)
    session = run(opened(client))
    before = sum(server.pings.values())
    compute(until=lambda: sum(server.pings.values()) - before >= 3)
    run(session.close())
    run(client.aclose())


async def test_a_lost_session_is_known_before_the_next_step(server: FaultServer) -> None:
    async with client_of(server) as client:
        session = await opened(client)
        server.sessions.clear()
        await until(lambda: session.lost)
        before = len(server.requests)
        for act in (session.call("step"), session.prompt(), session.score_group([])):
            with pytest.raises(SessionLostError, match="no longer has the session"):
                await act
        assert [request for request in server.requests[before:] if request.route != "/ping"] == []
        assert server.executed["step"] == 0


async def test_a_call_that_waits_learns_that_its_session_is_lost(server: FaultServer) -> None:
    async with client_of(server) as client:
        session = await opened(client)
        call = asyncio.create_task(session.call("slow", {"seconds": 60}))
        await until(lambda: server.executed["slow"] == 1)
        server.sessions.clear()
        began = time.monotonic()
        with pytest.raises(SessionLostError, match="while 'slow' ran"):
            await call
        assert time.monotonic() - began < 20


async def test_a_server_that_is_away_loses_no_session(server: FaultServer) -> None:
    async with client_of(server) as client:
        session = await opened(client)
        server.inject("/ping", Fault("cut", "request"), times=2)
        server.inject("/ping", Fault("status", status=502), times=2)
        server.inject("/ping", Fault("html"))
        await until(lambda: sum(server.pings.values()) >= 2)
        assert not session.lost
        assert (await session.call("step")).reward == 1.0


async def test_a_collected_session_is_pinged_no_more(server: FaultServer) -> None:
    async with client_of(server) as client:
        session: Session | None = await opened(client)
        await until(lambda: sum(server.pings.values()) >= 1)
        session = None
        await until(lambda: not server.sessions)
        assert session is None


async def test_pings_of_a_transport_object_run_on_the_callers_loop(server: FaultServer) -> None:
    transport = HttpxTransport(server.url)
    async with client_of(server, transport=transport) as client:
        session = await opened(client)
        await until(lambda: sum(server.pings.values()) >= 2)
        await session.close()


class Counted:
    def __init__(self, fails: type[Exception] | None = None) -> None:
        self.pings = 0
        self.fails = fails
        self.lost = ""

    async def ping(self) -> None:
        self.pings += 1
        if self.fails:
            raise self.fails("no")

    def mark_lost(self, reason: str) -> None:
        self.lost = reason


async def test_one_task_pings_all_evenly_and_ends_with_the_last() -> None:
    keep_alive = KeepAlive(asyncio.get_running_loop(), interval_s=0.4)
    sessions = [Counted() for _ in range(200)]
    before, began = asyncio.all_tasks(), time.monotonic()
    for session in sessions:
        keep_alive.add(session)
    await until(lambda: min(session.pings for session in sessions) >= 2)
    # However late it wakes, no session is pinged twice before all were, nor more often than once per interval.
    least, most = (which(session.pings for session in sessions) for which in (min, max))
    assert most <= least + 1
    assert most <= (time.monotonic() - began) / 0.4 + 2
    assert max(len(slot) for slot in keep_alive._slots) <= 200 / TICKS + 1
    # Apart from pings in flight there is one task.
    assert len(asyncio.all_tasks() - before - set(keep_alive._pinging.values())) == 1
    for session in sessions:
        keep_alive.discard(session)
    await until(lambda: asyncio.all_tasks() == before)


async def test_errors_of_a_ping() -> None:
    keep_alive = KeepAlive(asyncio.get_running_loop(), interval_s=0.1)
    lost, shaken = Counted(SessionLostError), Counted(TransportError)
    keep_alive.add(lost)
    keep_alive.add(shaken)
    await until(lambda: shaken.pings >= 3)
    assert (lost.pings, lost.lost, shaken.lost) == (1, "no", "")
    keep_alive.discard(shaken)


async def test_the_sessions_of_a_client_share_one_task(server: FaultServer) -> None:
    async with client_of(server) as client:
        sessions = [await opened(client) for _ in range(3)]
        (keep_alive,) = client._context._keep_alives.values()
        assert keep_alive._loop() is background_loop()
        assert isinstance(keep_alive._slots[0], WeakSet)
        await until(lambda: set(server.pings) == {session.session_id for session in sessions})
