"""Servers that do not answer are named; the first failure of a request is recorded at once, and is no outcome."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fault_server import Fault, running
from rich.console import Console

from openreward_gym import collect
from openreward_gym.collect import progress, silence
from openreward_gym.collect.outcomes import read_coverage
from openreward_gym.collect.progress import BarReporter, EventReporter, LogReporter, Reporter
from openreward_gym.collect.silence import News, ServerState, ServerWatch, merge_news
from openreward_gym.errors import PolicyError, TransportTimeoutError
from openreward_gym.retrying import note_retry, retries_heard_by
from openreward_gym.store.merge import merge
from openreward_gym.store.records import Failure
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import AssistantMessage, Message, ToolCall, ToolSet

ADDRESS = "http://127.0.0.1:9/v1"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_server_is_silent_while_requests_wait_and_none_is_answered() -> None:
    clock = Clock()
    watch = ServerWatch(lambda: ADDRESS, clock)
    assert watch.state() == ServerState(ADDRESS)
    watch.begin()
    clock.now += 8
    watch.begin()
    clock.now += 8
    assert (watch.state().waiting, watch.state().silent_s, watch.state().answered_s) == (2, 16.0, None)
    watch.end(answered=True)
    clock.now += 3
    assert (watch.state().waiting, watch.state().silent_s, watch.state().answered_s) == (1, 3.0, 3.0)
    watch.note_error("connection refused")
    watch.end(answered=False, error="connection refused again")
    clock.now += 20
    # Until the unit is tried again nothing waits, and the server has not answered.
    assert (watch.state().waiting, watch.state().silent_s, watch.state().error) == (0, 23.0, "connection refused again")
    watch.begin()
    watch.end(answered=True)
    clock.now += 50
    assert (watch.state().silent_s, watch.state().error) == (0.0, "")
    watch.begin()
    watch.end(answered=False)
    clock.now += 50
    assert watch.state().silent_s == 0.0  # it was given up, as when an episode's time is over


def test_a_server_that_answers_one_worker_is_not_silent() -> None:
    failure = Failure("policy", "policy_unavailable")
    parts = [
        News([failure], [ServerState(ADDRESS, 2, 40.0, None, "refused"), ServerState("other", 1, 5.0)]),
        News([], [ServerState(ADDRESS, 3, 20.0, 20.0)]),
        News([], [ServerState(ADDRESS, 0, 0.0, 4.0)]),
    ]
    merged = merge_news(parts)
    assert merged.retried == [failure]
    assert merged.servers == [ServerState(ADDRESS, 5, 4.0, 4.0, "refused"), ServerState("other", 1, 5.0)]
    assert merge_news(parts[:2]).servers[0].silent_s == 20.0


def states(report: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Report a server that is silent for a minute, and then answers."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    for second in range(60):
        clock.now += 1.0
        report.servers([ServerState(ADDRESS, 3, float(second), None, "connection\nrefused"), ServerState("quiet")])
    clock.now += 1.0
    report.servers([ServerState(ADDRESS, 2, 0.5, 0.5)])
    report.servers([ServerState(ADDRESS, 2, 1.5, 1.5)])


SILENT = f"no answer from {ADDRESS} for {{}} s (3 requests waiting): connection refused"


def test_silence_is_said_now_and_then_and_its_end_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    states(LogReporter(stream), monkeypatch)
    assert stream.getvalue().splitlines() == [SILENT.format(4), SILENT.format(34), f"{ADDRESS} answers again after 60 s"]


def test_silence_is_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    states(EventReporter(stream), monkeypatch)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    (first, second) = [event for event in events if event["event"] == "silence"]
    assert (first["address"], first["waiting"], first["silent_s"], first["text"]) == (ADDRESS, 3, 4.0, SILENT.format(4))
    assert second["silent_s"] == 34.0
    assert [event["silent_s"] for event in events if event["event"] == "answer"] == [pytest.approx(60.0, abs=0.6)]


def test_silence_is_said_above_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    bar = BarReporter(Console(file=stream, force_terminal=True, width=200))
    states(bar, monkeypatch)
    assert SILENT.format(4) in stream.getvalue()


async def right(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"})])


@contextmanager
def silent_server() -> Iterator[int]:
    """Accept connections, and never answer. Yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class Listening(LogReporter):
    """Keeps what was said about silence."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.silent: list[str] = []

    def say(self, text: str) -> None:
        if text.startswith("no answer from"):
            self.silent.append(text)


@pytest.mark.parametrize("refuses", [True, False])
def test_a_model_server_that_is_not_there_or_hangs(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-tests")
    monkeypatch.setattr(progress, "SILENCE_S", 0.5)
    report = Listening()
    with silent_server() as port:
        address = f"http://127.0.0.1:{9 if refuses else port}/v1"
        result = collect(
            "echo",
            "openai:m",
            policy_url=address.replace("//", "//me:password@") + "?key=hidden",
            base_url=server_url,
            output=tmp_path / "run",
            progress=report,
            run_timeout_s=2.5,
        )
    assert result.interrupted
    assert report.silent
    assert report.silent[0].startswith(f"no answer from {address} for ")
    assert "5 requests waiting" in report.silent[0]
    assert ("connection refused" in report.silent[0]) == refuses
    kept = list(result.store.failures(retried=True))
    assert bool(kept) == refuses
    assert not list(result.store.failures())
    assert (result.coverage.missing, result.coverage.failed) == (5, 0)


def test_an_environment_that_stops_answering_is_named(server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENCE_S", 0.5)

    async def sleeps(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        return AssistantMessage(tool_calls=[ToolCall("slow", {"seconds": 60.0})])

    report = Listening()
    collect("echo", sleeps, base_url=server_url, output=tmp_path / "run", tasks="0", progress=report, run_timeout_s=2.0)
    assert report.silent[0].startswith(f"no answer from {server_url} for ")
    assert report.silent[0].endswith("(1 request waiting)")


def test_an_environment_that_hangs_at_the_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENCE_S", 0.5)
    report = Listening()
    limits: dict[str, Any] = {"request_timeout_s": 2.5, "retry_limits": {"attempts": 1}}
    with silent_server() as port, pytest.raises(TransportTimeoutError):
        collect("echo", right, base_url=f"http://127.0.0.1:{port}", output=tmp_path / "run", progress=report, **limits)
    assert report.silent[0].startswith(f"no answer from http://127.0.0.1:{port} for ")
    assert not (tmp_path / "run").exists()


def test_a_policy_of_ones_own_that_takes_long_is_named(server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENCE_S", 0.5)

    def thinks(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        threading.Event().wait(60)
        return AssistantMessage("never")

    report = Listening()
    begun = time.monotonic()
    collect("echo", thinks, base_url=server_url, output=tmp_path / "run", tasks="0", progress=report, run_timeout_s=2.0)
    assert time.monotonic() - begun < 30
    assert report.silent[0].startswith("no answer from the policy thinks for ")


def test_ten_thousand_retries_are_a_few_lines(server_url: str, tmp_path: Path) -> None:
    async def struggles(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        for number in range(10_000):
            kind = ("rate_limited", "policy_unavailable")[number % 2]
            note_retry(PolicyError(f"request {number} failed", kind=kind), 0.25)
        return await right(transcript, tools)

    stream = io.StringIO()
    report = LogReporter(stream)
    result = collect("echo", struggles, base_url=server_url, output=tmp_path / "run", tasks="0", repeats=2, progress=report)
    assert result.coverage.complete
    kept = list(result.store.failures(retried=True))
    assert sorted((failure.sample, failure.kind) for failure in kept) == [
        (0, "policy_unavailable"),
        (0, "rate_limited"),
        (1, "policy_unavailable"),
        (1, "rate_limited"),
    ]
    assert {failure.retried_in_s for failure in kept} == {0.25}
    said = [line for line in stream.getvalue().splitlines() if "sent again in 0.2 s" in line]
    assert len(said) == 2
    # They are nobody's outcome, also after a merge.
    coverage = read_coverage(tmp_path / "run")
    assert coverage is not None
    assert (coverage.successful, coverage.failed, coverage.missing) == (2, 0, 0)
    merge([tmp_path / "run"], tmp_path / "merged")
    merged = RolloutStore(tmp_path / "merged")
    assert len(list(merged.failures(retried=True))) == 4
    assert not list(merged.failures())


def test_a_retried_request_of_the_environment_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text('{"task_spec": {"number": 1}}\n')

    async def steps(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        return AssistantMessage(tool_calls=[ToolCall("step", {})])

    with running() as server:
        server.inject("/task_tools", Fault("status", status=503, headers={"Retry-After": "0.01"}), 2)
        options: dict[str, Any] = {"input": tmp_path / "tasks.jsonl", "max_steps": 1, "progress": False}
        result = collect("fault", steps, base_url=server.url, output=tmp_path / "run", **options)
    assert result.coverage.complete
    (failure,) = result.store.failures(retried=True)
    assert (failure.source, failure.kind, failure.stage, failure.http_status) == ("environment", "server_error", "open", 503)
    assert failure.retried_in_s == 0.01
    assert not list(result.store.failures())


def test_only_the_block_listens() -> None:
    heard: list[float] = []
    note_retry(ValueError("nobody"), 1.0)
    with retries_heard_by(lambda error, wait_s: heard.append(wait_s)):
        note_retry(ValueError("somebody"), 2.0)
    note_retry(ValueError("nobody"), 3.0)
    assert heard == [2.0]
    assert (silence.FIRST_ERROR_S, silence.FIRST_ANSWER_S, silence.SILENCE_S) == (4.0, 7.0, 10.0)
