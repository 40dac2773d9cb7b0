"""`/delete` is sent once while it may be at work, and `/delete_session` always, within the time that an end may take."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_server import Fault, FaultServer, running

from openreward_gym.envs.vector import OpenRewardVectorEnv
from openreward_gym.options import RetryLimits
from openreward_gym.protocol import leases
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.loop import run

QUICK = RetryLimits(attempts=3, first_wait_s=0.01, longest_wait_s=0.05)
TRANSPORTS = ("fast", "httpx")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with running() as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "DELETE_TIMEOUT_S", 2.0)


def until(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)


def asked(server: FaultServer, route: str) -> int:
    return sum(request.route == route for request in server.requests)


async def episode(url: str, transport: str, count: int = 1) -> float:
    """Open sessions and close them; return the seconds that the closing took."""
    async with Client(url, transport=transport, retry_limits=QUICK) as client:
        environment = client.environment("fault")
        sessions = [environment.session(split="train", index=0) for _ in range(count)]
        await asyncio.gather(*[session.open() for session in sessions])
        began = time.monotonic()
        await asyncio.gather(*[session.close() for session in sessions])
        return time.monotonic() - began


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("seconds", [0.9, 4.0])
def test_a_slow_teardown_is_requested_once(quick: None, server: FaultServer, transport: str, seconds: float) -> None:
    server.inject("/delete", Fault("delay", seconds=seconds))
    took = asyncio.run(episode(server.url, transport))
    assert (asked(server, "/delete"), asked(server, "/delete_session")) == (1, 1)
    assert not server.machines
    assert took < 3.5


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "fault",
    [
        Fault("cut", "request", "stall"),
        Fault("cut", "request", "close"),
        Fault("cut", "head", "reset"),
        Fault("status", status=500),
        Fault("status", status=404),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.at}-{fault.how}-{fault.status}",
)
def test_the_machine_is_given_back_whatever_happens_to_the_teardown(
    quick: None, server: FaultServer, transport: str, fault: Fault
) -> None:
    server.inject("/delete", fault, times=1000)
    took = asyncio.run(episode(server.url, transport))
    assert asked(server, "/delete") <= 2
    assert asked(server, "/delete_session") == 1
    assert not server.machines
    assert took < 3.5


def test_a_connection_that_breaks_in_the_answer_is_no_second_teardown(quick: None, server: FaultServer) -> None:
    # The server tore the environment down before the connection broke, which a ping tells.
    server.inject("/delete", Fault("cut", "head", "reset"))
    asyncio.run(episode(server.url, "fast"))
    assert server.executed["delete"] == 1
    assert asked(server, "/delete") == 1


def test_many_slow_teardowns_are_in_parallel(quick: None, server: FaultServer) -> None:
    server.inject("/delete", Fault("delay", seconds=0.8), times=40)
    took = asyncio.run(episode(server.url, "fast", 40))
    assert took < 5.0
    assert asked(server, "/delete") == 40
    assert not server.sessions
    assert not server.machines


def test_a_vector_environment_closes_in_parallel(server: FaultServer) -> None:
    envs = OpenRewardVectorEnv(12, environment="fault", base_url=server.url)
    envs.reset(seed=0)
    server.inject("/delete", Fault("delay", seconds=1.0), times=12)
    began = time.monotonic()
    envs.close()
    assert time.monotonic() - began < 6.0
    assert asked(server, "/delete") == server.executed["delete"] == 12
    assert not server.machines


def test_more_deletions_than_are_allowed_at_once_are_waited_for(
    quick: None, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MAX_CONCURRENT_DELETIONS", 2)
    monkeypatch.setattr(leases, "PER_SESSION_S", 1.0)
    server.inject("/delete", Fault("cut", "request", "stall"), times=1000)
    asyncio.run(episode(server.url, "fast", 6))
    assert asked(server, "/delete") == asked(server, "/delete_session") == 6
    assert not server.machines


def test_closing_from_two_threads_deletes_once(server: FaultServer) -> None:
    async def opened() -> object:
        session = Client(server.url).environment("fault").session(split="train", index=0)
        await session.open()
        return session

    session = run(opened())
    server.inject("/delete", Fault("delay", seconds=1.0))
    first = threading.Thread(target=lambda: run(session.close()))  # type: ignore[attr-defined]
    first.start()
    until(lambda: asked(server, "/delete") == 1)
    asyncio.run(session.close())  # type: ignore[attr-defined]
    assert not server.sessions, "the second one waits for the first"
    first.join()
    assert (asked(server, "/delete"), asked(server, "/delete_session")) == (1, 1)
    run(session._client.transports.aclose())  # type: ignore[attr-defined]


PROGRAM = """
import asyncio, sys
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.loop import run

async def opened(count):
    client = Client(sys.argv[1])
    sessions = [client.environment("fault").session(split="train", index=0) for _ in range(count)]
    await asyncio.gather(*[session.open() for session in sessions])
    return sessions

"""
ENDS = {
    "left open": "sessions = run(opened(20))",
    "closing is cancelled twice": """
async def main():
    sessions = await opened(20)
    closing = asyncio.gather(*[session.close() for session in sessions])
    await asyncio.sleep(0.5)
    closing.cancel()
    try:
        await closing
    except asyncio.CancelledError:
        pass
asyncio.run(main())""",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("seconds", [1.5, 30.0])
def test_the_exit_of_the_interpreter(server: FaultServer, tmp_path: Path, end: str, seconds: float) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM + ENDS[end], encoding="utf-8")
    server.inject("/delete", Fault("delay", seconds=seconds), times=20)
    began = time.monotonic()
    ran = subprocess.run([sys.executable, str(script), server.url], capture_output=True, text=True, timeout=90)
    assert ran.returncode == 0, ran.stderr
    assert time.monotonic() - began < 25.0
    assert (asked(server, "/delete"), asked(server, "/delete_session")) == (20, 20), ran.stderr
    assert not server.machines
