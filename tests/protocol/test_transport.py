"""Tests of the transports, and of the time limits of a session."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fault_server import TEXT, Fault, FaultServer

from openreward_gym.errors import (
    CallTimeoutError,
    ConfigurationError,
    OutcomeUnknownError,
    ServerUnreachableError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.options import RetryLimits
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.fast import FastTransport
from openreward_gym.protocol.loop import background_loop
from openreward_gym.protocol.request import Request, Transport
from openreward_gym.protocol.transport import TRANSPORTS

pytestmark = pytest.mark.anyio

LIMITS = RetryLimits(attempts=2, first_wait_s=0.01, longest_wait_s=0.5)


@pytest.fixture
async def server() -> AsyncIterator[FaultServer]:
    async with FaultServer() as server:
        yield server


@pytest.fixture(params=sorted(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> str:
    """The name of each transport in turn."""
    name: str = request.param
    return name


@pytest.fixture
async def client(server: FaultServer, transport: str) -> AsyncIterator[Client]:
    async with Client(server.url, transport=transport, retry_limits=LIMITS, idle_timeout_s=2.0) as client:
        yield client


async def step(client: Client, **options: Any) -> Any:
    async with client.environment("fault").session(split="train", index=0, **options) as session:
        return await session.call("step")


async def test_ten_megabytes_arrive(client: Client) -> None:
    async with client.environment("fault").session(split="train", index=0) as session:
        output = await session.call("big", {"size": 10_000_000})
    assert output.blocks[0].text == "x" * 10_000_000  # type: ignore[union-attr]


async def test_a_hundred_and_fifty_slow_calls_at_once(server: FaultServer, client: Client) -> None:
    async with client.environment("fault").session(split="train", index=0) as session:
        outputs = await asyncio.gather(*[session.call("slow", {"seconds": 1.0}) for _ in range(150)])
    assert len(outputs) == 150
    assert server.executed["slow"] == 150


async def test_connections_are_used_again(server: FaultServer, client: Client) -> None:
    async with client.environment("fault").session(split="train", index=0) as session:
        await session.call("step")
        before = len(server._tasks)
        for _ in range(20):
            await session.call("step")
        assert len(server._tasks) == before


@pytest.mark.parametrize("how", ["stall", "reset"])
async def test_what_follows_the_end_of_a_result_is_not_waited_for(server: FaultServer, transport: str, how: str) -> None:
    async with (
        Client(server.url, transport=transport, retry_limits=LIMITS, idle_timeout_s=60.0) as client,
        client.environment("fault").session(split="train", index=0) as session,
    ):
        server.inject("/call", Fault("cut", "after", how))
        began = time.monotonic()
        assert (await session.call("step")).reward == 1.0
        assert time.monotonic() - began < 30
        assert (await session.call("step")).reward == 1.0
    assert server.executed["step"] == 2


async def test_an_httpx_client_of_the_callers_is_used_and_left_open(server: FaultServer) -> None:
    async with httpx.AsyncClient(headers={"X-Mine": "1"}, follow_redirects=True, timeout=5) as mine:
        async with Client(server.url, transport=mine) as client:
            assert (await step(client)).reward == 1.0
        assert not mine.is_closed
    assert {request.headers.get("x-mine") for request in server.requests} == {"1"}


async def test_an_asgi_app_is_called_in_process() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b'{"status":"ok"}' if scope["path"] == "/health" else b'["here"]'
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    async with Client("http://app", transport=app) as client:
        assert await client.health() == {"status": "ok"}
        assert await client.list_environments() == ["here"]


class Noting:
    """A transport of one's own: it keeps the paths that were asked for."""

    def __init__(self, name: str, url: str) -> None:
        self.inner = TRANSPORTS[name](url)
        self.paths: list[str] = []

    async def send(self, request: Request) -> Any:
        self.paths.append(httpx.URL(request.url).path)
        return await self.inner.send(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_a_transport_of_ones_own(server: FaultServer) -> None:
    noting = Noting("httpx", server.url)
    assert isinstance(noting, Transport)
    async with Client(server.url, transport=noting) as client:
        await step(client)
    assert noting.paths[-3:] == ["/fault/call", "/delete", "/delete_session"]


@pytest.mark.parametrize("choice", ["carrier-pigeon", "", 7, None])
def test_what_is_no_transport_is_refused(choice: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"transport.*httpx"):
        Client("http://h:1", transport=choice)


async def test_a_named_transport_serves_several_loops_an_object_one(server: FaultServer, transport: str) -> None:
    def elsewhere(client: Client) -> Any:
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(step(client), background_loop()))

    async with Client(server.url, transport=transport) as client:
        assert (await step(client)).reward == (await elsewhere(client)).reward == 1.0
    async with Client(server.url, transport=TRANSPORTS[transport](server.url)) as client:
        await step(client)
        with pytest.raises(ConfigurationError, match="another event loop"):
            await elsewhere(client)


async def test_a_certificate_that_nobody_signed(tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = self_signed(tmp_path)
    context.load_cert_chain(certificate)
    async with FaultServer(tls=context) as server:
        noting = Noting(transport, server.url)
        async with Client(server.url, transport=noting) as client:
            with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED") as caught:
                await client.health()
        assert caught.value.delivery == "not_sent"
        assert noting.paths == ["/health"]  # it would be no better a second time
        await noting.aclose()
        trusting = ssl.create_default_context(cafile=str(certificate))
        mine: Any = httpx.AsyncClient(verify=trusting)
        if transport == "fast":
            mine = FastTransport(server.url, ssl_context=trusting)
        async with Client(server.url, transport=mine) as client:
            assert (await step(client)).reward == 1.0
        await mine.aclose()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with Client(server.url, transport=transport) as client:
            assert (await step(client)).reward == 1.0
            async with client.environment("fault").session(split="train", index=0) as session:
                output = await session.call("big", {"size": 5_000_000, "said": "y" * 3_000_000})
                assert output.blocks[0].text == "x" * 5_000_000  # type: ignore[union-attr]
                before = len(server._tasks)
                await session.call("big", {"size": 1})
                assert len(server._tasks) == before
        assert server.executed["step"] == 2


async def test_what_is_not_http_is_a_broken_connection(transport: str) -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        await writer.drain()
        await reader.read(10)
        writer.close()

    async with await asyncio.start_server(chatter, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}", transport=transport, retry_limits=LIMITS) as client:
            with pytest.raises(TransportError, match="broke"):
                await client.health()


async def test_a_server_that_is_not_there_is_named_soon(transport: str) -> None:
    began = time.monotonic()
    async with Client("http://127.0.0.1:1", transport=transport) as client:
        with pytest.raises(ServerUnreachableError, match=r"http://127\.0\.0\.1:1"):
            await step(client)
    assert time.monotonic() - began < 20


async def test_a_call_that_takes_too_long(server: FaultServer, client: Client) -> None:
    async with client.environment("fault").session(split="train", index=0, step_timeout_s=0.3) as session:
        with pytest.raises(CallTimeoutError, match=r"longer than 0.3 s") as caught:
            await session.call("slow", {"seconds": 5})
        assert isinstance(caught.value, OutcomeUnknownError | TimeoutError)
        assert (await session.call("slow", {"seconds": 0.5}, timeout_s=5.0)).reward == 1.0
        with pytest.raises(TransportTimeoutError) as early:
            await session.call("step", timeout_s=0.0)
        assert early.value.delivery == "not_sent"
    assert server.executed["slow"] == 2
    assert server.executed["step"] == 0


async def test_a_call_that_could_not_be_made_in_time_did_not_run(server: FaultServer, client: Client) -> None:
    async with client.environment("fault").session(split="train", index=0) as session:
        starting = {"X-Backend-State": "starting", "Retry-After": "1"}
        server.inject("/call", Fault("status", status=503, headers=starting), times=100)
        with pytest.raises(TransportTimeoutError, match="did not run") as caught:
            await session.call("step", timeout_s=1.5)
        assert not isinstance(caught.value, OutcomeUnknownError)
    assert server.executed["step"] == 0


async def test_an_episode_has_its_deadline(client: Client) -> None:
    async with client.environment("fault").session(split="train", index=0, episode_timeout_s=2.5) as session:
        assert (await session.call("step")).reward == 1.0
        with pytest.raises(CallTimeoutError):
            await session.call("slow", {"seconds": 30}, timeout_s=60.0)
        with pytest.raises(TransportTimeoutError):
            await session.call("step")


async def test_a_server_that_asks_to_wait_is_waited_for(server: FaultServer, client: Client) -> None:
    server.inject("/health", Fault("status", status=429, headers={"Retry-After": "60"}))
    began = time.monotonic()
    await client.health()
    assert 0.5 <= time.monotonic() - began < 30  # as long as the longest wait, which is half a second here


async def test_a_long_run_survives_connections_that_are_cut_again_and_again(server: FaultServer, client: Client) -> None:
    async with client.environment("fault").session(split="train", index=0) as session:
        for at in ("task_id", "chunk", "utf8", "chunk", "task_id"):
            server.inject("/call", Fault("cut", at))
        server.inject("/call", Fault("cut", "end", "close"))
        output = await session.call("step")
    assert output.blocks[0].text == TEXT * 150  # type: ignore[union-attr]
    assert server.executed["step"] == 1
    ids = [request.body.get("task_id") for request in server.requests if request.route == "/call"]
    assert ids[0] is None
    assert len(set(ids[1:])) == 1


async def test_the_prompt_is_asked_for_once_whoever_asks(server: FaultServer, client: Client) -> None:
    async with client.environment("fault").session(split="train", index=0) as session:
        first = asyncio.create_task(session.prompt())
        await asyncio.sleep(0)
        first.cancel()
        prompts = await asyncio.gather(*[session.prompt() for _ in range(5)])
        messages = await session.messages()
    assert server.executed["prompt"] == 1
    assert all(prompt == messages[0].blocks for prompt in prompts)


async def test_the_way_to_the_default_environment_is_learned_once(server: FaultServer, transport: str) -> None:
    server.inject("/list_environments", Fault("status", status=404, detail="Not Found"))
    server.inject("/prompt", Fault("status", status=308, headers={"Location": "/fault/prompt"}))
    async with (
        Client(server.url, transport=transport) as client,
        client.environment("owner/Name").session(split="train", index=0) as session,
    ):
        await session.prompt()
        await session.call("step")
    paths = [request.path for request in server.requests]
    assert paths.count("/prompt") == 1
    assert "/fault/call" in paths
    create = next(request for request in server.requests if request.route == "/create")
    assert "env_name" not in create.body
    assert create.headers["x-deployment"] == "owner/Name"


def self_signed(folder: Path) -> Path:
    path = folder / "certificate.pem"
    if path.exists():
        return path
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return path


async def test_httpx_gets_as_many_clients_as_requests_are_under_way(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # A client with many connections looks through all of them at each request.
    made: list[httpx.AsyncClient] = []
    make = httpx.AsyncClient.__init__

    def counted(client: httpx.AsyncClient, *args: Any, **kwargs: Any) -> None:
        made.append(client)
        make(client, *args, **kwargs)

    monkeypatch.setattr(httpx.AsyncClient, "__init__", counted)
    transport = TRANSPORTS["httpx"](server.url)
    request = Request("GET", f"{server.url}/health", {})
    answers = await asyncio.gather(*[transport.send(request) for _ in range(20)])
    assert [answer.status for answer in answers] == [200] * 20
    at_once = len(made)
    for _ in range(20):
        await transport.send(request)
    assert len(made) == at_once == 20
    await transport.aclose()
    assert all(client.is_closed for client in made)
