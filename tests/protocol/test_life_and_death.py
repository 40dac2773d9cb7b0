"""A session is deleted on its server however its owner ends, and sessions of other owners stay."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fault_server import Fault, FaultServer, running

from openreward_gym.errors import ConfigurationError, SessionLostError, TransportTimeoutError
from openreward_gym.options import RetryLimits
from openreward_gym.protocol import leases
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.loop import background_loop, run
from openreward_gym.protocol.session import Session

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
QUICK = RetryLimits(attempts=2, first_wait_s=0.01)

PROGRAM = """
import asyncio, os, signal, sys, threading, time, multiprocessing
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.loop import run

URL = sys.argv[1]

async def opened():
    session = Client(URL).environment("fault").session(split="train", index=0)
    await session.open()
    return session

def say(*words):
    print(*words, flush=True)

def child_opens_its_own():
    run(opened())
    say("child opened")

def child_waits(ready):
    run(opened())
    say("child opened")
    ready.set()
    time.sleep(30)
"""

WAYS_TO_DIE = {
    "returns without closing": "session = run(opened())",
    "leaves asyncio.run without closing": "session = asyncio.run(opened())",
    "raises": "session = run(opened()); raise SystemError('on purpose')",
    "sys.exit": "session = run(opened()); sys.exit(3)",
    "a task that raises": """
async def main():
    session = await opened()
    raise SystemError('on purpose')
asyncio.run(main())""",
    "a thread that dies": """
def work():
    session = asyncio.run(opened())
    raise SystemError('on purpose')
thread = threading.Thread(target=work); thread.start(); thread.join()""",
    "a thread that holds it at exit": """
sessions = []
thread = threading.Thread(target=lambda: sessions.append(asyncio.run(opened()))); thread.start(); thread.join()""",
    "a spawned child": """
if __name__ == '__main__':
    child = multiprocessing.get_context('spawn').Process(target=child_opens_its_own); child.start(); child.join()""",
    "a forked child": """
session = run(opened())
child = multiprocessing.get_context('fork').Process(target=child_opens_its_own); child.start(); child.join()""",
    "a terminated child": """
if __name__ == '__main__':
    context = multiprocessing.get_context('spawn')
    ready = context.Event()
    child = context.Process(target=child_waits, args=(ready,)); child.start()
    ready.wait(); child.terminate(); child.join()""",
}

SIGNALLED = {
    "while it waits for a call": "session = run(opened()); say('ready'); run(session.call('slow', {'seconds': 30}))",
    # In naps: a signal that comes just before a sleep begins is seen only after it.
    "while it thinks": "session = run(opened()); say('ready'); [time.sleep(0.1) for _ in range(300)]",
    "while asyncio runs": """
async def main():
    session = await opened()
    say('ready')
    await asyncio.sleep(30)
asyncio.run(main())""",
    "while asyncio waits for a call": """
async def main():
    async with Client(URL) as client, client.environment("fault").session(split="train", index=0) as session:
        say('ready')
        await session.call('slow', {'seconds': 30})
asyncio.run(main())""",
    "while it opens": "say('ready'); run(opened())",
}

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with running() as server:
        yield server


@pytest.fixture
async def client(server: FaultServer) -> AsyncIterator[Client]:
    async with Client(server.url, retry_limits=QUICK) as client:
        yield client


def session_of(client: Client, open_timeout_s: float = 30.0) -> Session:
    return client.environment("fault").session(split="train", index=0, open_timeout_s=open_timeout_s)


def until(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)


def started(url: str, rest: str, folder: Path, **options: Any) -> subprocess.Popen[str]:
    script = folder / "program.py"
    script.write_text(PROGRAM + rest, encoding="utf-8")
    command = [sys.executable, str(script), url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@dataclass(frozen=True)
class Death:
    """The output of a process until it ended, and the sessions that it left on its server."""

    output: str
    errors: str
    code: int
    created: int
    deleted: int
    left: int


def die(rest: str, folder: Path, number: signal.Signals | None = None) -> Death:
    """Run the program with `rest` against a new server, and send it the signal once its request has arrived."""
    with running() as server:
        if number is not None:
            server.inject("/create", Fault("delay", seconds=0.7 if rest == SIGNALLED["while it opens"] else 0.0))
        process = started(server.url, rest, folder)
        if number is not None:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            wanted = "/call" if "slow" in rest else "/create"
            until(lambda: any(request.route == wanted for request in server.requests))
            process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        if number is not None:
            # What was on its way when the process died arrives a little later.
            until(lambda: server.executed["create"] == 1 and not server.sessions, deadline_s=20.0)
        counts = server.executed
        return Death(output, errors, process.returncode, counts["create"], counts["delete"], len(server.sessions))


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, int], Future[Death]]]:
    """All deaths, several at a time: most of each is starting an interpreter."""
    with ThreadPoolExecutor(4) as pool:
        futures = {(way, 0): pool.submit(die, rest, tmp_path_factory.mktemp("way")) for way, rest in WAYS_TO_DIE.items()}
        for number in SIGNALS:
            for moment, rest in SIGNALLED.items():
                futures[moment, number] = pool.submit(die, rest, tmp_path_factory.mktemp("moment"), number)
        yield futures


@pytest.mark.parametrize("way", WAYS_TO_DIE)
def test_a_process_that_ends_deletes_its_sessions(deaths: dict[tuple[str, int], Future[Death]], way: str) -> None:
    death = deaths[way, 0].result()
    assert death.created >= 1, death.errors
    assert death.left == 0, death.errors
    assert death.deleted == death.created
    assert ("on purpose" in death.errors) == ("on purpose" in WAYS_TO_DIE[way])
    assert ("child opened" in death.output) == ("child" in way)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", SIGNALLED)
def test_a_process_that_is_told_to_die_deletes_its_sessions(
    deaths: dict[tuple[str, int], Future[Death]], moment: str, number: signal.Signals
) -> None:
    death = deaths[moment, number].result()
    assert death.code == -number, death.errors
    assert (death.created, death.left) == (1, 0), death.errors


def test_a_hangup_that_nohup_ignores_stays_ignored(server: FaultServer, tmp_path: Path) -> None:
    process = started(
        server.url,
        """
session = run(opened())
say(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL))
os.kill(os.getpid(), signal.SIGHUP)
say("goes on", run(session.call("step")).reward)
run(session.close())
""",
        tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    output, errors = process.communicate(timeout=60)
    assert output == "True True\ngoes on 1.0\n", errors
    assert process.returncode == 0


def test_a_second_signal_does_not_cut_the_cleanup_short(server: FaultServer, tmp_path: Path) -> None:
    server.inject("/delete", Fault("delay", seconds=1.0))
    process = started(server.url, "session = run(opened()); say('ready'); [time.sleep(0.1) for _ in range(300)]", tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    until(lambda: any(request.route == "/delete" for request in server.requests))
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGHUP, errors
    assert (server.executed["delete"], len(server.sessions), len(server.machines)) == (1, 0, 0)


async def test_an_exception_inside_the_block(server: FaultServer, client: Client) -> None:
    with pytest.raises(SystemError):
        async with session_of(client):
            raise SystemError
    assert server.executed["create"] == 1
    assert not server.sessions


async def test_a_session_that_is_collected(server: FaultServer, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    session = session_of(client)
    await session.open()
    await session.prompt()
    await session.call("step")
    del session
    gc.collect()
    await asyncio.to_thread(until, lambda: not server.sessions)
    assert "was not closed" in caplog.text


async def test_a_client_that_closes_closes_its_sessions(server: FaultServer) -> None:
    async with Client(server.url) as client:
        session = session_of(client)
        await session.open()
    assert not server.sessions
    with pytest.raises(ConfigurationError, match="client is closed"):
        await client.health()
    await session.close()


async def test_a_task_cancelled_in_a_call(server: FaultServer, client: Client) -> None:
    async def episode() -> None:
        async with session_of(client) as session:
            await session.call("slow", {"seconds": 30})

    task = asyncio.create_task(episode())
    await asyncio.to_thread(until, lambda: server.executed["slow"] == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.sessions


@pytest.mark.parametrize("route", ["/create_session", "/create"])
async def test_an_opening_cancelled_half_way_deletes_what_it_opened(server: FaultServer, client: Client, route: str) -> None:
    server.inject(route, Fault("delay", seconds=0.5))
    task = asyncio.create_task(session_of(client).open())
    await asyncio.to_thread(until, lambda: any(request.route == route for request in server.requests))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.executed["create_session"] <= 1
    await asyncio.sleep(0.6)
    assert not server.sessions
    assert not server.machines or route == "/create_session"


async def test_an_opening_that_takes_too_long_deletes_what_it_opened(server: FaultServer, client: Client) -> None:
    server.inject("/create", Fault("delay", seconds=3.5))
    with pytest.raises(TransportTimeoutError, match=r"longer than 2.5 s"):
        await session_of(client, open_timeout_s=2.5).open()
    assert server.executed["create"] == 1
    assert not server.sessions


async def test_closing_is_bounded_and_quiet_when_the_server_is_gone(
    server: FaultServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "DELETE_TIMEOUT_S", 1.0)
    # Told of a hundred silences by the half second, it would go on for a minute and more.
    async with Client(server.url, retry_limits=RetryLimits(attempts=100, first_wait_s=0.01, longest_wait_s=0.01)) as patient:
        session = session_of(patient)
        await session.open()
        server.inject("/delete", Fault("cut", "request", "stall"), times=1000)
        began = time.monotonic()
        await session.close()
        assert time.monotonic() - began < 20
    again = session_of(client)
    await again.open()
    server.refuse_after("/ping", 1000.0)
    await again.ping()
    await again.close()
    await again.close()


async def test_many_sessions_are_deleted_in_good_order(server: FaultServer) -> None:
    async with Client(server.url, ping_interval_s=3600.0) as client:
        sessions = [session_of(client) for _ in range(100)]
        for start in range(0, 100, 20):
            await asyncio.gather(*[session.open() for session in sessions[start : start + 20]])
        assert len(server.sessions) == 100
    assert not server.sessions
    assert not server.machines


async def test_a_call_that_runs_when_its_session_is_closed(server: FaultServer, client: Client) -> None:
    session = session_of(client)
    await session.open()
    call = asyncio.create_task(session.call("slow", {"seconds": 30}))
    await asyncio.to_thread(until, lambda: server.executed["slow"] == 1)
    await session.close()
    with pytest.raises(SessionLostError, match="closed"):
        await call


async def test_cancelling_the_closing_still_deletes(server: FaultServer, client: Client) -> None:
    session = session_of(client)
    await session.open()
    server.inject("/delete", Fault("delay", seconds=0.3))
    closing = asyncio.create_task(session.close())
    await asyncio.to_thread(until, lambda: any(request.route == "/delete" for request in server.requests))
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await asyncio.to_thread(until, lambda: not server.sessions and not server.machines)


def test_a_forked_child_leaves_its_parents_sessions_alone(server: FaultServer, tmp_path: Path) -> None:
    process = started(
        server.url,
        """
import gc
session = run(opened())
pid = os.fork()
if pid == 0:
    try:
        run(session.call("step"))
    except Exception as error:
        say(type(error).__name__, error)
    run(session.close())
    say("own", run(run(opened()).call("step")).reward)
    del session
    gc.collect()
    sys.exit(0)
os.waitpid(pid, 0)
say("parent", run(session.call("step")).reward)
""",
        tmp_path,
    )
    output, errors = process.communicate(timeout=60)
    assert "ConfigurationError" in output, errors
    assert "another process" in output
    assert "own 1.0" in output
    assert "parent 1.0" in output, errors
    assert not server.sessions


def test_sync_code_from_several_threads_shares_one_loop(server: FaultServer) -> None:
    async def once() -> object:
        async with Client(server.url) as client, session_of(client) as session:
            await session.call("step")
        return asyncio.get_running_loop()

    loops: list[object] = []
    threads = [threading.Thread(target=lambda: loops.append(run(once()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(loops) == {background_loop()}
    assert not server.sessions


def test_waiting_too_long_cancels(server: FaultServer) -> None:
    async def episode() -> None:
        async with Client(server.url) as client, session_of(client) as session:
            await session.call("slow", {"seconds": 30})

    with pytest.raises(TimeoutError, match=r"no result within 0.5 s"):
        run(episode(), timeout_s=0.5)
    assert server.executed["create"] == 1
    assert not server.sessions


def test_the_background_loop_does_not_wait_for_itself() -> None:
    async def inner() -> None:
        """Never begun."""

    async def outer() -> None:
        run(inner())

    with pytest.raises(RuntimeError, match="await the coroutine"):
        run(outer())
