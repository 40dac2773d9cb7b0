"""Tests of the hosted platform's sessions: addresses by subdomain, deployments by header, short-lived sessions to read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fault_server import Fault, FaultServer

from openreward_gym.errors import AuthenticationError, ConfigurationError, EnvironmentNotFoundError, ServerError
from openreward_gym.options import RetryLimits
from openreward_gym.protocol.client import Client

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
