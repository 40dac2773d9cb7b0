"""The hosted platform's way: addresses by subdomain, deployments by header, short-lived sessions to read, and its own API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fault_server import Fault, FaultServer

from openreward_gym.errors import AuthenticationError, ConfigurationError, EnvironmentNotFoundError, ProtocolError, ServerError
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.platform import TaskDifficulty
from openreward_gym.protocol.retry import RetryLimits

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultServer]:
    async with FaultServer() as server:
        monkeypatch.delenv("OPENREWARD_URL", raising=False)
        monkeypatch.setenv("OPENREWARD_API_URL", server.url)
        monkeypatch.setenv("OPENREWARD_SESSION_URL", server.url)
        monkeypatch.setenv("OPENREWARD_API_KEY", "key-of-mine")
        yield server


@pytest.fixture
async def client(server: FaultServer) -> AsyncIterator[Client]:
    async with Client(retry_limits=RetryLimits(attempts=3, first_wait_s=0.01)) as client:
        assert client.addresses.hosted
        yield client


def answer(server: FaultServer, path: str, value: Any, times: int = 1) -> None:
    server.inject(path, Fault("answer", detail=json.dumps(value)), times)


async def test_reading_takes_a_short_lived_session_and_gives_it_back(server: FaultServer, client: Client) -> None:
    environment = client.environment("Owner/Fault", variant="Fault")
    assert [split.name for split in await environment.splits()] == ["train"]
    assert await environment.num_tasks("train") == 3
    assert server.executed["create_session"] == 2
    assert not server.machines
    assert "/list_environments" not in [request.route for request in server.requests]
    reading = [request for request in server.requests if request.route in ("/splits", "/num_tasks")]
    assert {request.path for request in reading} == {"/fault/splits", "/fault/num_tasks"}
    assert all(request.headers["x-session-id"] for request in reading)
    assert {request.headers["x-deployment"] for request in server.requests} == {"Owner/Fault"}


async def test_a_session_of_a_deployment_and_its_variant(server: FaultServer, client: Client) -> None:
    session = client.environment("Owner/Fault", variant="Fault").session(
        split="train", index=0, env_overrides={"OPENAI_BASE_URL": "http://x"}, toolset="codex"
    )
    async with session:
        assert (await session.call("step")).reward == 1.0
    bodies = {request.route: request.body for request in server.requests}
    assert bodies["/create_session"] == {"env": {"OPENAI_BASE_URL": "http://x"}}
    assert bodies["/create"] == {"split": "train", "index": 0, "env_name": "Fault", "toolset_name": "codex"}
    assert not server.sessions
    assert not server.machines


async def test_without_a_variant_the_gateway_chooses(server: FaultServer, client: Client) -> None:
    server.inject("/tools", Fault("status", status=308, headers={"Location": "/fault/tools"}))
    environment = client.environment("Owner/Fault")
    assert len(await environment.tools()) == 4
    assert len(await environment.tools()) == 4
    assert [request.path for request in server.requests if request.route == "/tools"] == [
        "/tools",
        "/fault/tools",
        "/fault/tools",
    ]


async def test_the_end_event_names_the_session_where_it_does(server: FaultServer, client: Client) -> None:
    server.inject("/create_session", Fault("answer", detail='event: task_id\ndata: a\n\nevent: end\ndata: {"sid": "b"}\n\n'))
    async with client.environment("Owner/Fault", "fault").session(split="train", index=0) as session:
        assert session.session_id == "b"
    deleted = [request.headers["x-session-id"] for request in server.requests if request.route == "/delete_session"]
    assert sorted(deleted) == ["a", "b"]


async def test_what_a_gateway_refuses(server: FaultServer, client: Client) -> None:
    environment = client.environment("Owner/Nosuch")
    server.inject("/create_session", Fault("status", status=404, detail="Deployment not found."))
    with pytest.raises(EnvironmentNotFoundError, match="case-sensitive"):
        await environment.session(split="train", index=0).open()
    server.inject("/create_session", Fault("status", status=400, detail="env override PATH is not allowed"))
    with pytest.raises(ConfigurationError, match="PATH is not allowed"):
        await environment.session(split="train", index=0, env_overrides={"PATH": "x"}).open()
    server.inject("/create_session", Fault("status", status=401, detail="no key"))
    with pytest.raises(AuthenticationError, match="OPENREWARD_API_KEY"):
        await environment.splits()
    server.inject("/splits", Fault("status", status=404, detail="Deployment not found."))
    with pytest.raises(EnvironmentNotFoundError, match="case-sensitive"):
        await environment.splits()
    body = "event: task_id\ndata: a\n\nevent: error\ndata: no machine left\n\n"
    server.inject("/create_session", Fault("answer", detail=body))
    with pytest.raises(ServerError, match="no machine left"):
        await environment.session(split="train", index=0).open()


async def test_the_platforms_own_endpoints(server: FaultServer, client: Client) -> None:
    platform = client.platform
    answer(server, "/v1/environments/Owner/Name", {"id": 7, "name": "Name"}, 2)
    assert (await platform.environment("Owner/Name"))["name"] == "Name"
    assert await platform.environment_id("Owner/Name") == "7"
    answer(server, "/v1/environments/Owner/Name/variants", [{"name": "a", "id": "1"}])
    assert await platform.variants("Owner/Name") == [{"name": "a", "id": "1"}]
    answer(server, "/v1/environments/Owner/Name/required-secrets", {"secrets": ["openai_api_key"]})
    assert await platform.required_secrets("Owner/Name") == ["openai_api_key"]
    row = {"task_index": 3, "avg_reward": 0.5, "min_reward": 0, "max_reward": 1, "num_rollouts": 4, "split": "train"}
    answer(
        server, "/v1/environments/Owner/Name/task-difficulty", {"tasks": [{**row, "variant": None, "response_chars": {"p50": 9}}]}
    )
    (difficulty,) = await platform.task_difficulty("Owner/Name", split="train", min_model_params=7)
    assert difficulty == TaskDifficulty("train", None, 3, 4, 0.5, 0, 1, {"p50": 9})
    answer(server, "/v1/runs", {"runs": [], "total": 0})
    assert await platform.runs(limit=5, search="a b") == {"runs": [], "total": 0}
    answer(server, "/v1/runs/a%2Fb", {"id": "a/b"})
    assert await platform.run("a/b") == {"id": "a/b"}
    answer(server, "/v1/runs/r/rollouts", {"rollouts": [], "total": 0})
    assert await platform.run_rollouts("r", offset=100) == {"rollouts": [], "total": 0}
    assert {request.headers["x-api-key"] for request in server.requests} == {"key-of-mine"}


async def test_the_platform_is_asked_again_after_any_server_error(server: FaultServer, client: Client) -> None:
    server.inject("/v1/runs", Fault("status", status=500), times=2)
    answer(server, "/v1/runs", {"runs": []})
    assert await client.platform.runs() == {"runs": []}
    with pytest.raises(ServerError, match="404"):
        await client.platform.run("nosuch")


async def test_what_the_platform_cannot_mean(server: FaultServer, client: Client) -> None:
    for name in ("weather", "a/b/c", "/x", "x/"):
        with pytest.raises(ConfigurationError, match="owner/name"):
            await client.platform.environment(name)
    answer(server, "/v1/runs", [])
    with pytest.raises(ProtocolError, match="expected an object"):
        await client.platform.runs()
