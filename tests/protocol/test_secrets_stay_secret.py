"""Keys and secrets: they reach the server they are meant for, and nothing else ever shows them."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import pickle
import traceback
from collections.abc import AsyncIterator

import pytest
from fault_server import Fault, FaultServer

from openreward_gym.errors import ConfigurationError, OpenRewardGymError, ProtocolError, ServerError, ToolFailedError
from openreward_gym.hiding import Secret
from openreward_gym.options import RetryLimits
from openreward_gym.protocol import leases
from openreward_gym.protocol.addresses import Addresses, resolve_addresses
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.secrets import allowed_domains, read_secrets, secrets_header
from openreward_gym.protocol.session import Session
from openreward_gym.protocol.transport import TRANSPORTS

KEY = "key-3f9a77c1"
SECRET = "secret-88d2e0b4"
HIDDEN = (KEY, SECRET)

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENREWARD_API_KEY", KEY)
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    monkeypatch.setattr(leases, "DELETE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(leases, "CREATION_TIMEOUT_S", 0.5)


@pytest.fixture
async def server() -> AsyncIterator[FaultServer]:
    async with FaultServer() as server:
        yield server


@pytest.fixture(params=sorted(TRANSPORTS))
async def client(server: FaultServer, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    limits = RetryLimits(attempts=2, first_wait_s=0.01)
    transport = request.param
    async with Client(server.url, transport=transport, retry_limits=limits, idle_timeout_s=0.5, request_timeout_s=0.5) as client:
        yield client


def session_of(client: Client) -> Session:
    return client.environment("fault").session(split="train", index=0, secrets_env={"judge": "JUDGE_KEY"}, open_timeout_s=2.0)


def header_of(server: FaultServer, route: str) -> dict[str, dict[str, object]]:
    request = next(request for request in server.requests if request.route == route)
    header: dict[str, dict[str, object]] = json.loads(base64.b64decode(request.headers["x-secrets"]))
    return header


async def test_the_key_and_the_secrets_arrive_where_they_should(server: FaultServer, client: Client) -> None:
    async with session_of(client) as session:
        await session.call("step")
    assert {request.headers["x-api-key"] for request in server.requests} == {KEY}
    assert {request.headers["x-deployment"] for request in server.requests if "x-session-id" in request.headers} == {"fault"}
    assert all(request.headers["user-agent"].startswith("openreward-gym/") for request in server.requests)
    for route in ("/create_session", "/create"):
        secrets = header_of(server, route)
        assert secrets["judge"] == {"value": SECRET}
        assert secrets["api_key"]["value"] == KEY
        assert "127.0.0.1" in str(secrets["api_key"]["allowed_domains"])
    assert "x-secrets" not in next(request for request in server.requests if request.route == "/call").headers
    assert "secrets" not in next(request for request in server.requests if request.route == "/create").body


async def test_servers_without_a_version_find_the_secrets_in_the_body(server: FaultServer, client: Client) -> None:
    server.inject("/version", Fault("status", status=404, detail="Not Found"))
    async with session_of(client):
        pass
    async with session_of(client):
        pass
    bodies = [request.body for request in server.requests if request.route == "/create"]
    assert [body["secrets"]["judge"] for body in bodies] == [SECRET, SECRET]
    assert [request.route for request in server.requests].count("/version") == 1


async def test_no_key_no_header(server: FaultServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENREWARD_API_KEY")
    await client.health()
    assert "x-api-key" not in server.requests[0].headers


async def test_a_redirect_to_another_server_is_not_followed(server: FaultServer, client: Client) -> None:
    async with FaultServer() as thief:
        away = Fault("status", status=308, headers={"Location": f"{thief.url}/health"})
        for location in (away, Fault("redirect_away")):
            server.inject("/health", location)
            with pytest.raises(ProtocolError, match=r"another server.*pass it as base_url"):
                await client.health()
        assert not thief.requests


FAULTS = [
    Fault("status", status=400, detail=f"bad {SECRET} and {KEY}"),
    Fault("status", status=401, detail=f"unknown key {KEY}"),
    Fault("status", status=500, detail=f"Traceback ... {KEY}"),
    Fault("status", status=422, detail=json.dumps({"input": {"secrets": {"judge": SECRET}}})),
    Fault("status", status=502, detail=SECRET),
    Fault("cut", "request", "reset"),
    Fault("cut", "request", "stall"),
    Fault("html"),
    Fault("redirect_away"),
]


@pytest.mark.parametrize("route", ["/create_session", "/create", "/call"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}{fault.status or fault.how}")
async def test_no_error_no_log_no_pickle_shows_them(
    server: FaultServer, client: Client, caplog: pytest.LogCaptureFixture, route: str, fault: Fault
) -> None:
    caplog.set_level(logging.DEBUG)
    server.inject(route, fault, times=3)
    session = session_of(client)
    caught: BaseException
    try:
        async with session:
            await session.call("step")
        raise AssertionError("the fault was not seen")
    except OpenRewardGymError as error:
        caught = error
    shown = "\n".join(
        [
            "".join(traceback.format_exception(caught)),
            "".join(traceback.TracebackException.from_exception(caught, capture_locals=True).format()),
            repr(caught),
            repr(vars(caught)),
            repr(session),
            repr(session.options),
            repr(client),
            caplog.text,
            pickle.dumps(caught).decode("latin-1"),
        ]
    )
    for hidden in (*HIDDEN, base64.b64encode(SECRET.encode()).decode()[:12]):
        # The test's own variables hold the fault's text; the package's must not.
        own = [line for line in shown.splitlines() if hidden in line and "fault = " not in line]
        assert not own
    assert type(pickle.loads(pickle.dumps(caught))) is type(caught)
    assert str(pickle.loads(pickle.dumps(caught))) == str(caught)


async def test_a_tool_that_tells_a_secret_is_not_repeated(server: FaultServer, client: Client) -> None:
    async with session_of(client) as session:
        body = f"event: task_id\ndata: a\n\nevent: error\ndata: 401 for {SECRET}\n\n"
        server.inject("/call", Fault("answer", detail=body))
        with pytest.raises(ToolFailedError, match=r"401 for \[secret\]"):
            await session.call("step")


async def test_a_secret_of_a_session_is_hidden_in_answers_to_other_requests(server: FaultServer, client: Client) -> None:
    async with session_of(client):
        pass
    server.inject("/health", Fault("status", status=400, detail=f"the last session used {SECRET}"))
    with pytest.raises(ServerError, match=r"used \[secret\]"):
        await client.health()


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
async def test_the_password_of_an_address_is_in_no_log(
    server: FaultServer, caplog: pytest.LogCaptureFixture, transport: str
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Client(server.url.replace("://", "://m%40e:pw-55Rt%409k@"), transport=transport) as client:
        await client.health()
    expected = base64.b64encode(b"m@e:pw-55Rt@9k").decode()
    assert [request.headers["authorization"] for request in server.requests] == [f"Basic {expected}"]
    assert "pw-55Rt" not in caplog.text


async def test_what_holds_secrets_is_not_pickled(client: Client) -> None:
    with pytest.raises(TypeError, match="environment variable"):
        pickle.dumps(Secret("x"))
    async with session_of(client) as session:
        with pytest.raises(TypeError):
            pickle.dumps(session)


async def test_a_secret_that_is_not_set_is_named_by_its_variable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY_KEY", "")
    for variable in ("EMPTY_KEY", "NEVER_SET"):
        with pytest.raises(ConfigurationError, match=f"'judge' comes from .* {variable}"):
            await client.environment("fault").session(split="train", index=0, secrets_env={"judge": variable}).open()
    await asyncio.sleep(0)


def test_known_providers_have_their_hosts() -> None:
    addresses = resolve_addresses(None, {})
    names = ["openai_api_key", "HF_TOKEN", "mine", "other", "api_key"]
    domains = allowed_domains(names, {"mine": ["x.org"]}, addresses)
    assert domains["openai_api_key"] == ("api.openai.com",)
    assert "huggingface.co" in domains["HF_TOKEN"]
    assert domains["mine"] == ("x.org",)
    assert "other" not in domains
    assert domains["api_key"][:3] == ("sessions.openreward.ai", "api.openreward.ai", "search.openreward.ai")
    assert "sessions.openreward.internal" in domains["api_key"]
    local = allowed_domains(["api_key"], {}, Addresses("http://127.0.0.1:1", "http://127.0.0.1:1", hosted=False))
    assert local == {"api_key": ("127.0.0.1", "search.openreward.ai")}


def test_the_header_is_what_the_servers_read() -> None:
    secrets = read_secrets({"judge": "JUDGE_KEY"}, Secret(KEY))
    raw = json.loads(base64.b64decode(secrets_header(secrets, {"judge": ("x.org",)}).reveal()))
    assert raw["judge"] == {"value": SECRET, "allowed_domains": ["x.org"]}
    assert raw["OPENREWARD_API_KEY"] == {"value": KEY}
