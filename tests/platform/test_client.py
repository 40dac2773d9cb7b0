"""Tests of the platform's client."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from fault_server import Fault, FaultServer, running
from raw_server import RawRequest, elsewhere

from openreward_gym.errors import (
    AuthenticationError,
    ConfigurationError,
    ProtocolError,
    ServerError,
    ServerUnreachableError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.options import RetryLimits
from openreward_gym.platform import client as platform_client
from openreward_gym.platform.client import Platform, TaskDifficulty

KEY = "key-of-mine"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    with running() as server:
        monkeypatch.setenv("OPENREWARD_API_KEY", KEY)
        yield server


@pytest.fixture
def platform(server: FaultServer) -> Platform:
    return Platform(server.url, retry_limits=RetryLimits(attempts=3, first_wait_s=0.01))


def answer(server: FaultServer, path: str, value: Any, times: int = 1) -> None:
    server.inject(path, Fault("answer", detail=json.dumps(value)), times)


def test_the_platforms_own_endpoints(server: FaultServer, platform: Platform) -> None:
    answer(server, "/v1/environments/Owner/Name", {"id": 7, "name": "Name"}, 2)
    assert platform.environment("Owner/Name")["name"] == "Name"
    answer(server, "/v1/environments/Owner/Name/variants", [{"name": "a", "id": "1"}])
    assert platform.environment_ids("Owner/Name", "a") == ("7", "1")
    answer(server, "/v1/environments/Owner/Name/variants", [{"name": "a", "id": "1"}])
    assert platform.variants("Owner/Name") == [{"name": "a", "id": "1"}]
    answer(server, "/v1/environments/Owner/Name/required-secrets", {"secrets": ["openai_api_key"]})
    assert platform.required_secrets("Owner/Name") == ["openai_api_key"]
    row = {"task_index": 3, "avg_reward": 0.5, "min_reward": 0, "max_reward": 1, "num_rollouts": 4, "split": "train"}
    answer(
        server, "/v1/environments/Owner/Name/task-difficulty", {"tasks": [{**row, "variant": None, "response_chars": {"p50": 9}}]}
    )
    (difficulty,) = platform.task_difficulty("Owner/Name", split="train", min_model_params=7)
    assert difficulty == TaskDifficulty("train", None, 3, 4, 0.5, 0, 1, {"p50": 9})
    answer(server, "/v1/runs", {"runs": [], "total": 0})
    assert platform.runs(limit=5, search="a b") == {"runs": [], "total": 0}
    answer(server, "/v1/runs/a%2Fb", {"id": "a/b"})
    assert platform.run("a/b") == {"id": "a/b"}
    answer(server, "/v1/runs/r/rollouts", {"rollouts": [], "total": 0})
    assert platform.run_rollouts("r", offset=100) == {"rollouts": [], "total": 0}
    assert {request.headers["x-api-key"] for request in server.requests} == {"key-of-mine"}


def test_the_platform_is_asked_again_after_any_server_error(server: FaultServer, platform: Platform) -> None:
    server.inject("/v1/runs", Fault("status", status=500), times=2)
    answer(server, "/v1/runs", {"runs": []})
    assert platform.runs() == {"runs": []}
    with pytest.raises(ServerError, match="404"):
        platform.run("nosuch")


def test_what_the_platform_cannot_mean(server: FaultServer, platform: Platform) -> None:
    for name in ("weather", "a/b/c", "/x", "x/"):
        with pytest.raises(ConfigurationError, match="owner/name"):
            platform.environment(name)
    answer(server, "/v1/runs", [])
    with pytest.raises(ProtocolError, match="expected an object"):
        platform.runs()


def test_neither_error_nor_repr_shows_the_key(server: FaultServer, platform: Platform) -> None:
    server.inject("/v1/runs", Fault("status", status=401, detail=f"unknown key {KEY}"))
    with pytest.raises(AuthenticationError, match=r"unknown key \[secret\]") as caught:
        platform.runs()
    assert KEY not in repr(caught.value) + repr(vars(caught.value)) + repr(platform)


ANSWERS = (f'{{"x": "{"." * 190} {KEY}', json.dumps(["." * 190, KEY]), json.dumps({"secrets": [{"k": KEY}]}))


@pytest.mark.parametrize("body", ANSWERS, ids=["cut", "list", "names"])
def test_an_answer_of_another_form_does_not_show_the_key(server: FaultServer, platform: Platform, body: str) -> None:
    server.inject("/v1/environments/a/b/required-secrets", Fault("answer", detail=body))
    with pytest.raises(ProtocolError) as caught:
        platform.required_secrets("a/b")
    assert "key-of-m" not in str(caught.value)
    for frame, _ in traceback.walk_tb(caught.value.__traceback__):
        if "openreward_gym" in frame.f_code.co_filename:
            assert KEY not in repr(frame.f_locals)


def test_names_and_ids_of_wrong_types(server: FaultServer, platform: Platform) -> None:
    answer(server, "/v1/environments/a/b/required-secrets", {"secrets": ["key", 3]})
    with pytest.raises(ProtocolError, match="a name of a secret"):
        platform.required_secrets("a/b")
    answer(server, "/v1/environments/a/b", {"id": ["x"]})
    with pytest.raises(ProtocolError, match="expected an id"):
        platform.environment_ids("a/b", None)
    server.inject("/v1/runs", Fault("answer", detail="[" * 1000 + "]" * 1000))
    with pytest.raises(ProtocolError, match="not JSON"):
        platform.runs()


@pytest.mark.parametrize("key", ["key\nX-Evil: 1", "k\u00e9y", "k\x07y"])
def test_a_key_that_no_header_carries(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_KEY", key)
    with pytest.raises(ConfigurationError, match="PLATFORM_KEY has a line end") as caught:
        Platform("http://127.0.0.1:1", api_key_env="PLATFORM_KEY")
    assert key not in str(caught.value) + repr(caught.value)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(ServerUnreachableError, match="no server answers"):
        Platform("http://127.0.0.1:1", retry_limits=RetryLimits(attempts=1)).runs()


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_client, "MAX_ANSWER_BYTES", 100_000)

    async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 9\r\n\r\n[]" if "short" in request.line else b"\r\n"))
        if "short" in request.line:
            return False
        for _ in range(100):
            writer.write(b" " * (20_000 if "large" in request.line else 1))
            await writer.drain()
            await asyncio.sleep(0.0 if "large" in request.line else 0.1)
        return False

    with elsewhere(script) as server:
        platform = Platform(server.url, timeout_s=0.5, retry_limits=RetryLimits(attempts=1))
        with pytest.raises(ProtocolError, match="longer than 100000 bytes"):
            platform.get("/large")
        began = time.monotonic()
        with pytest.raises(TransportTimeoutError, match="in time"):
            platform.get("/slow")
        assert time.monotonic() - began < 8
        with pytest.raises(TransportError, match="IncompleteRead"):
            platform.get("/short")
