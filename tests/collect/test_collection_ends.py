"""The ends of a collection that nobody waits for: a terminal that goes away, a second signal, too few open files."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from collectors import once_each
from fault_server import FaultServer, running
from raw_server import RawRequest, elsewhere

from openreward_gym import AssistantMessage, Client, RolloutStore, ToolCall, collect, processes
from openreward_gym.collect import StopSignal
from openreward_gym.collect.engine import _stopped_by_signals
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, TransportError
from openreward_gym.processes import RESERVED_FILES
from openreward_gym.protocol.loop import background_loop, run

NAPS = """
import os, asyncio
from openreward_gym import AssistantMessage, ToolCall

async def nap(transcript, tools):
    return AssistantMessage(tool_calls=[ToolCall("slow", {"seconds": 0.2}, "c")])
"""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with running() as server:
        yield server


def until(condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)


def command(folder: Path, url: str, *words: object, steps: int = 200, repeats: int = 4) -> list[str]:
    (folder / "naps.py").write_text(NAPS, encoding="utf-8")
    start = [sys.executable, "-m", "openreward_gym.cli", "collect", "fault", "--policy", "naps:nap", "--base-url", url]
    return [*start, "--output", "run", "--max-steps", str(steps), "--repeats", str(repeats), *map(str, words)]


def coverage_of(folder: Path) -> dict[str, int]:
    coverage: dict[str, int] = json.loads((folder / "run" / "coverage.json").read_text())
    return coverage


@pytest.mark.parametrize(
    "signals", [(signal.SIGHUP,), (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM), (signal.SIGINT, signal.SIGHUP)]
)
def test_a_hangup_deletes_the_sessions_and_leaves_a_whole_run(
    server: FaultServer, tmp_path: Path, signals: tuple[signal.Signals, ...]
) -> None:
    process = subprocess.Popen(command(tmp_path, server.url), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until(lambda: server.executed["slow"] >= 8)
    for number in signals:
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "Traceback" not in errors
    assert not server.sessions
    assert not server.machines
    coverage = coverage_of(tmp_path)
    assert (coverage["failed"], coverage["missing"] + coverage["successful"]) == (0, 12)
    assert not RolloutStore(tmp_path / "run").damage()


def test_a_terminal_that_is_closed(server: FaultServer, tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        words = command(tmp_path, server.url)
        os.execv(words[0], words)
    shown = threading.Thread(target=_drain, args=(terminal,))
    shown.start()
    until(lambda: server.executed["slow"] >= 8)
    _hang_up(terminal, shown)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (1, 75)
    until(lambda: not server.sessions, 10)
    assert coverage_of(tmp_path)["failed"] == 0


def test_nohup_plays_on_without_its_terminal(server: FaultServer, tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.chdir(tmp_path)
        words = command(tmp_path, server.url, steps=6)
        os.execv(words[0], words)
    shown = threading.Thread(target=_drain, args=(terminal,))
    shown.start()
    until(lambda: server.executed["slow"] >= 8)
    _hang_up(terminal, shown)
    os.waitpid(child, 0)
    assert coverage_of(tmp_path)["successful"] == 12
    assert once_each(RolloutStore(tmp_path / "run")) == 12
    assert not server.sessions


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass


def _hang_up(terminal: int, shown: threading.Thread) -> None:
    """Close the terminal: the reader of it ends with the next byte that is shown."""
    import fcntl
    import termios

    # The other side of a terminal that is told to hang up gets the SIGHUP, as if the window had been closed.
    fcntl.ioctl(terminal, termios.TIOCSIG, signal.SIGHUP) if hasattr(termios, "TIOCSIG") else None
    os.close(terminal)
    shown.join(5)


def test_a_forked_child_of_a_policy_ends_with_a_signal() -> None:
    stop = StopSignal()
    reading, writing = os.pipe()
    with _stopped_by_signals(stop):
        child = os.fork()
        if child == 0:
            os.write(writing, b"x")
            while True:
                time.sleep(0.05)
        os.read(reading, 1)
        os.close(reading)
        os.close(writing)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert not stop.mode


def test_signals_that_are_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _stopped_by_signals(StopSignal()):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def limited(soft: int, hard: int | None = None) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard or soft))


@pytest.mark.parametrize("transport", ["fast", "httpx"])
def test_a_collection_with_few_open_files_plays_fewer_at_once(server: FaultServer, tmp_path: Path, transport: str) -> None:
    words = command(tmp_path, server.url, "--concurrency", 60, "--transport", transport, steps=1, repeats=20)
    ran = subprocess.run(words, cwd=tmp_path, preexec_fn=limited(80), capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "sessions are played at once instead of 60" in ran.stderr
    assert "ulimit -n is 80" in ran.stderr
    assert coverage_of(tmp_path)["successful"] == once_each(RolloutStore(tmp_path / "run")) == 60


def test_the_command_raises_the_limit_if_it_may(server: FaultServer, tmp_path: Path) -> None:
    words = command(tmp_path, server.url, "--concurrency", 60, steps=1, repeats=20)
    ran = subprocess.run(words, cwd=tmp_path, preexec_fn=limited(64, 4096), capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "instead of" not in ran.stderr
    assert coverage_of(tmp_path)["successful"] == 60


def test_too_few_open_files_for_one_session(server: FaultServer, tmp_path: Path) -> None:
    words = command(tmp_path, server.url)
    ran = subprocess.run(words, cwd=tmp_path, preexec_fn=limited(RESERVED_FILES), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2, ran.stderr
    assert "ulimit -n" in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr
    assert server.executed["create_session"] == 0
    assert not (tmp_path / "run").exists()


async def _step(transcript: Any, tools: Any) -> AssistantMessage:
    return AssistantMessage(tool_calls=[ToolCall("step", {}, "c")])


def test_a_library_does_not_change_the_limit(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = importlib.import_module("openreward_gym.collect.plan")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(plan, "free_file_count", lambda: RESERVED_FILES + 7)
    result = collect("fault", _step, base_url=server.url, max_steps=1, concurrency=16, output=tmp_path / "run", progress=False)
    assert result.coverage.complete
    assert json.loads((tmp_path / "run" / "run.json").read_text())["concurrency"] == 2
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
    monkeypatch.setattr(plan, "free_file_count", lambda: 3)
    with pytest.raises(ConfigurationError, match="ulimit -n"):
        collect("fault", _step, base_url=server.url, output=tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()


def test_a_rollout_waits_for_a_file_to_be_written_to(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_file, refused = os.open, 0

    def scarce(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        nonlocal refused
        if "rollouts" in str(path) and flags & os.O_CREAT and refused < 2:
            refused += 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return open_file(path, flags, *rest, **options)

    monkeypatch.setattr("openreward_gym.store.writer.os.open", scarce)
    result = collect("fault", _step, base_url=server.url, max_steps=1, output=tmp_path / "run", progress=False)
    assert refused == 2
    assert result.coverage.successful == once_each(RolloutStore(tmp_path / "run")) == 3
    assert sum(server.executed[name] for name in ("step",)) == 3


@pytest.mark.parametrize("transport", ["fast", "httpx"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_without_a_free_file_is_a_named_error(server: FaultServer, transport: str, scheme: str) -> None:
    background_loop()
    url = server.url.replace("http", scheme)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    async def exhausted() -> None:
        client = Client(url, transport=transport)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        try:
            with pytest.raises(TransportError, match=r"too many open files \(ulimit -n is 200\)") as raised:
                await client._context.transports.get(url).send(_request(url))
        finally:
            for fd in taken:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert raised.value.delivery == "not_sent"
        await client.aclose()

    run(asyncio.wait_for(exhausted(), 60))


def _request(url: str) -> Any:
    from openreward_gym.protocol.request import Request

    return Request("GET", f"{url}/health", {}, None, None, 5.0, 5.0, 5.0)


def test_the_limit_of_this_process() -> None:
    limit = processes.open_file_limit()
    free = processes.free_file_count()
    assert limit is not None
    assert free is not None
    assert 0 < free < limit
    assert processes.is_out_of_files(OSError(errno.EMFILE, "x"))
    assert processes.is_out_of_files(OSError("Multiple exceptions: [Errno 24] Too many open files, [Errno 24] ..."))
    assert not processes.is_out_of_files(ConnectionRefusedError(111, "refused"))


def test_a_stop_does_not_wait_for_a_server_that_does_not_list_its_tasks(tmp_path: Path) -> None:
    stop = StopSignal()

    async def silent(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        stop.now()
        await asyncio.sleep(50)
        return False

    began = time.monotonic()
    with elsewhere(silent) as server, pytest.raises(OpenRewardGymError, match="nothing was played"):
        collect("fault", "random", base_url=server.url, output=str(tmp_path / "run"), stop=stop)
    assert time.monotonic() - began < 30
    assert not (tmp_path / "run").exists()
