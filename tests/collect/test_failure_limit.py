"""Failures that would come again for every unit end a collection after few of them, with the server's words."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from collectors import coverage_of
from counting import sessions
from launch import served

from openreward_gym import collect
from openreward_gym.collect import failure_limit
from openreward_gym.collect.failure_limit import FailureLimit, SlowStart
from openreward_gym.collect.player import _secret_advice
from openreward_gym.errors import (
    AuthenticationError,
    ConfigurationError,
    OpenRewardGymError,
    PolicyError,
    ServerError,
    ToolFailedError,
)
from openreward_gym.options import RetryBudget, RunOptions
from openreward_gym.store.records import Failure
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import AssistantMessage, Message, Task, ToolCall, ToolSet

Answer = tuple[int, Mapping[str, Any]]


@contextmanager
def model_server(answer: Callable[[int], Answer]) -> Iterator[tuple[str, list[int]]]:
    """Serve `answer(number)` to each POST; yield the address and the list of requests."""
    seen: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(len(seen))
            status, body = answer(len(seen))
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


def refusal(status: int, words: str) -> Answer:
    return status, {"error": {"message": words, "type": "invalid_request_error", "code": status}}


def says(text: str) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return 200, {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """Serve the environments of the tests for this module alone, so that every open session is one of its own."""
    with served() as url:
        yield url


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "key-of-the-tests")


def play(server_url: str, output: Path, policy: Any, url: str | None = None, **arguments: Any) -> Any:
    options = {"repeats": 8, "concurrency": 64, "progress": False, **arguments}
    return collect(options.pop("environment", "echo"), policy, policy_url=url, base_url=server_url, output=output, **options)


@pytest.mark.parametrize("status", [400, 401, 404, 422])
@pytest.mark.parametrize(("model", "path"), [("openai:m", "/v1"), ("anthropic:m", "")])
def test_a_model_that_refuses_every_request_is_asked_few_times(
    server_url: str, tmp_path: Path, status: int, model: str, path: str
) -> None:
    run = tmp_path / "run"
    with model_server(lambda number: refusal(status, f"no such parameter ({number})")) as (url, seen):
        with pytest.raises(AuthenticationError if status == 401 else PolicyError, match="no such parameter") as raised:
            play(server_url, run, model, url + path)
        assert len(seen) <= 10
    assert status == 401 or "--resume" in str(raised.value)
    assert sessions(server_url) == 0
    coverage = coverage_of(run)
    assert coverage["expected"] == 40
    assert coverage["failed"] >= 1
    assert (run / "metrics.json").exists()
    assert len([line for path in (run / "attempts").iterdir() for line in path.read_text().splitlines()]) <= 20
    if model.startswith("openai"):
        # The folder can be continued when the cause is mended.
        with model_server(lambda number: says("done")) as (url, _):
            assert play(server_url, run, model, url + path, resume=True).coverage.complete


def test_a_policy_that_always_raises_is_played_few_times(server_url: str, tmp_path: Path) -> None:
    played: list[int] = []

    class Wrong:
        name = "wrong"

        def begin(self, task: Task, sample: int, seed: int) -> Any:
            async def play(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
                played.append(task.index or 0)
                raise LookupError(f"task {task.index} of sample {sample}")

            return play

    with pytest.raises(PolicyError, match=r"(?s)LookupError: task .*test_failure_limit\.py.*5 attempts failed"):
        play(server_url, tmp_path / "run", Wrong())
    assert len(played) <= 10


@pytest.mark.parametrize(
    ("environment", "words", "error"),
    [("broken", "no disk left", ServerError), ("guarded", "secret", ServerError), ("echo", "no luck", ToolFailedError)],
)
def test_an_environment_that_always_fails_is_opened_few_times(
    server_url: str, tmp_path: Path, environment: str, words: str, error: type[OpenRewardGymError]
) -> None:
    async def fails(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        return AssistantMessage(tool_calls=[ToolCall("fail", {"text": "no luck"})])

    with pytest.raises(error, match=words) as raised:
        play(server_url, tmp_path / "run", fails, environment=environment)
    assert len(list(RolloutStore(tmp_path / "run").failures())) <= 10
    if environment == "guarded":
        assert "--secret judge_api_key=JUDGE_API_KEY" in str(raised.value)
        assert "secrets_env={'judge_api_key': 'JUDGE_API_KEY'}" in str(raised.value)
    assert sessions(server_url) == 0


def test_a_first_task_that_is_broken_stops_nothing(server_url: str, tmp_path: Path) -> None:
    class Picky:
        name = "picky"

        def begin(self, task: Task, sample: int, seed: int) -> Any:
            async def play(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
                if task.index == 0:
                    raise LookupError("no such task")
                return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"})])

            return play

    coverage = play(server_url, tmp_path / "run", Picky(), repeats=16).coverage
    assert (coverage.successful, coverage.failed) == (64, 16)


def test_what_asks_for_a_secret() -> None:
    for words in ("KeyError: 'judge_api_key'", "no API key", "a token is required", "HF_TOKEN is not set"):
        assert "--secret" in _secret_advice(words, {})
    for words in ("Unexpected token '<' in JSON", "invalid token at 3", "can't load the tokenizer", "9 tokens too many"):
        assert _secret_advice(words, {}) == ""
    assert _secret_advice("judge_api_key is wrong", {"judge_api_key": "KEY"}) == ""


def test_once_something_has_succeeded_refusals_concern_their_units(server_url: str, tmp_path: Path) -> None:
    def answer(number: int) -> Answer:
        return says("done") if number == 1 else refusal(400, "prompt rejected")

    with model_server(answer) as (url, seen):
        result = play(server_url, tmp_path / "run", "openai:m", url + "/v1", repeats=3, concurrency=1)
    assert (result.coverage.successful, result.coverage.failed, len(seen)) == (1, 14, 15)
    assert result.resumable


def test_a_continued_run_stops_where_units_that_never_failed_are_refused(server_url: str, tmp_path: Path) -> None:
    with model_server(lambda number: says("done")) as (url, seen):
        play(server_url, tmp_path / "run", "openai:m", url + "/v1", repeats=4, limit=1)
    with model_server(lambda number: refusal(404, "there is no model m any more")) as (url, seen):
        with pytest.raises(PolicyError, match="no model m any more"):
            play(server_url, tmp_path / "run", "openai:m", url + "/v1", repeats=4, resume=True)
        assert len(seen) <= 10


def test_a_continued_run_stops_at_a_refused_key_also_where_units_failed_before(server_url: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"repeats": 4, "concurrency": 1, "retries": {"refused": RetryBudget(1)}}
    with model_server(lambda number: says("done") if number == 1 else refusal(401, "the key was revoked")) as (url, seen):
        first = play(server_url, tmp_path / "run", "openai:m", url + "/v1", **arguments)
        assert (first.coverage.successful, first.coverage.failed, len(seen)) == (1, 19, 20)
    with model_server(lambda number: refusal(401, "the key was revoked")) as (url, seen):
        with pytest.raises(AuthenticationError, match="the key was revoked"):
            play(server_url, tmp_path / "run", "openai:m", url + "/v1", resume=True, **arguments)
        assert len(seen) == 1


def test_a_unit_that_is_refused_again_and_again_is_given_up(server_url: str, tmp_path: Path) -> None:
    def answer(number: int) -> Answer:
        return says("done") if number < 5 else refusal(400, "the prompt has 9 tokens too many")

    with model_server(answer) as (url, seen):
        arguments: dict[str, Any] = {"url": url + "/v1", "repeats": 1, "concurrency": 1}
        first = play(server_url, tmp_path / "run", "openai:m", **arguments)
        assert (first.coverage.failed, first.resumable, first.given_up) == (1, True, 0)
        for _ in range(3):
            result = play(server_url, tmp_path / "run", "openai:m", resume=True, **arguments)
        assert len(seen) == 7
        assert (result.coverage.failed, result.resumable, result.given_up) == (1, False, 1)
        play(server_url, tmp_path / "run", "openai:m", resume=True, allow_changed=True, **arguments)
        assert len(seen) == 8


@pytest.mark.parametrize(
    ("limit", "failed"),
    [(1, range(1, 2)), (3, range(3, 4)), (0.25, range(3, 8)), (0, range(20, 21))],
)
def test_a_limit_of_failed_units(server_url: str, tmp_path: Path, limit: float, failed: range) -> None:
    class Picky:
        name = "picky"

        def begin(self, task: Task, sample: int, seed: int) -> Any:
            if task.index in (1, 2):
                raise RuntimeError(f"not {task.index}")

            async def play(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
                return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"})])

            return play

    arguments: dict[str, Any] = {"repeats": 10, "concurrency": 1, "fail_on_error": limit}
    if limit:
        with pytest.raises(PolicyError, match=rf"fail_on_error={limit:g}"):
            play(server_url, tmp_path / "run", Picky(), **arguments)
    else:
        play(server_url, tmp_path / "run", Picky(), **arguments)
    assert coverage_of(tmp_path / "run")["failed"] in failed


def test_a_limit_of_zero_plays_everything(server_url: str, tmp_path: Path) -> None:
    with model_server(lambda number: refusal(400, "no")) as (url, seen):
        result = play(server_url, tmp_path / "run", "openai:m", url + "/v1", repeats=4, fail_on_error=0)
    assert (result.coverage.failed, len(seen), result.resumable) == (20, 20, False)


@pytest.mark.parametrize("limit", [-1, 1.5, "3", True])
def test_a_limit_is_a_number_or_a_share(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="fail_on_error"):
        RunOptions.from_keywords({"environment": "e", "policy": "random", "fail_on_error": limit})


def test_what_equal_failures_are() -> None:
    def stops(*failures: Failure) -> bool:
        limit = FailureLimit(None)
        return any(limit.reached(unit, failure, final=True) for unit, failure in enumerate(failures))

    def policy(message: str, **fields: Any) -> Failure:
        return Failure("policy", "policy_failed", message=message, **fields)

    place = '  File "my.py", line {}'
    assert stops(*(policy(f"KeyError: {unit}\n{place.format(3)}, in f") for unit in range(5)))
    assert not stops(*(policy(f"KeyError: 'x'\n{place.format(unit)}, in f") for unit in range(5)))
    assert stops(*(policy(f"no answer to request {unit:032x}") for unit in range(5)))
    assert not stops(*(policy(word) for word in ("a", "b", "c", "d", "e")))
    assert not stops(*(policy("x") for _ in range(4)))
    assert not stops(*(Failure("environment", "unreachable", message="x") for _ in range(50)))
    # One broken task does not stop the others.
    limit = FailureLimit(None)
    assert not any(limit.reached(7, policy("x"), final=False) for _ in range(50))


def test_a_single_unit_is_retried_within_its_budget(server_url: str, tmp_path: Path) -> None:
    budget = {"setup_failed": RetryBudget(3, first_wait_s=0.0)}
    result = play(server_url, tmp_path / "run", "random", environment="broken", tasks="0", repeats=1, retries=budget)
    assert [failure.kind for failure in result.store.failures()] == ["setup_failed"] * 3
    assert not result.resumable


@pytest.mark.anyio
async def test_a_slow_start() -> None:
    gate = SlowStart(2)
    first, second = gate.slot(), gate.slot()
    await first.__aenter__()
    await second.__aenter__()
    third = asyncio.create_task(gate.slot().__aenter__())
    await asyncio.sleep(0)
    assert not third.done()
    gate.failed(lasting=True)
    await asyncio.sleep(0)
    assert not third.done()
    gate.open()
    await third


@pytest.mark.anyio
async def test_a_slow_start_ends_when_no_failure_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_limit, "SLOW_START_S", 0.4)
    gate = SlowStart(1)
    first, second = gate.slot(), gate.slot()
    await first.__aenter__()
    waiting = asyncio.create_task(second.__aenter__())
    await asyncio.sleep(0.25)
    gate.failed(lasting=True)
    await asyncio.sleep(0.25)
    assert not waiting.done()
    await asyncio.wait_for(waiting, timeout=5.0)
