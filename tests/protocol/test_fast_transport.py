"""The fast transport: answers that HTTP/1.1 allows or forbids, and the state of the connection after each."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import httpx2
import pytest
import uvloop
from fault_server import running
from raw_server import RawRequest, RawServer, elsewhere

from openreward_gym.errors import ConfigurationError, OpenRewardGymError, ProtocolError, TransportError, TransportTimeoutError
from openreward_gym.hiding import Secret
from openreward_gym.protocol import connection, fast
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.fast import FastTransport
from openreward_gym.protocol.request import Headers, Request
from openreward_gym.protocol.transport import ClientTransports, HttpxTransport

pytestmark = pytest.mark.anyio

BODY = b"0123456789" * 20
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RAW_DEFLATE = zlib.compressobj(wbits=-15)


@pytest.fixture
async def transport() -> AsyncIterator[FastTransport]:
    transport = FastTransport()
    yield transport
    await transport.aclose()
    assert not transport._alive


def answering(*answers: bytes, piece: int = 1 << 20, goes_on: bool = True) -> Callable[..., Any]:
    """A script that gives these answers in turn, the last one again and again, in pieces of so many bytes."""
    left = list(answers)

    async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        answer = left.pop(0) if len(left) > 1 else left[0]
        for start in range(0, len(answer), piece):
            writer.write(answer[start : start + piece])
            await writer.drain()
            if piece == 1:
                await asyncio.sleep(0)
        return goes_on

    return script


def asking(server: RawServer, path: str = "/x", **options: Any) -> Request:
    return Request("POST", server.url + path, {"X-One": "1"}, **{"body": b"{}", **options})


async def until(fits: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not fits():
        assert time.monotonic() < ends, "it did not happen in time"
        await asyncio.sleep(0.01)


def with_length(body: bytes, **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(body: bytes, size: int, tail: bytes = b"") -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    parts = b"".join(b"%x;name=value\r\n%b\r\n" % (len(part), part) for part in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n" + tail + b"\r\n"


# Kind -> (what the server sends, whether the connection is used again).
WELL_FORMED = {
    "a length": (with_length(BODY), True),
    "chunks": (chunked(BODY, 7), True),
    "chunks, extensions, trailers": (chunked(BODY, 33, b"X-Sum: 1\r\n"), True),
    "100 before it": (b"HTTP/1.1 100 Continue\r\n\r\n" + with_length(BODY), True),
    "103 and 102 before it": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + with_length(BODY), True),
    "until it is closed": (b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n" + BODY, False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n" + BODY, False),
    "Connection: close": (with_length(BODY, Connection="close"), False),
    "gzip": (with_length(gzip.compress(BODY), CONTENT_ENCODING="gzip"), True),
    "gzip of two members": (with_length(gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]), Content_Encoding="x-gzip"), True),
    "deflate": (with_length(zlib.compress(BODY), Content_Encoding="deflate"), True),
    "bare deflate": (with_length(RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush(), Content_Encoding="deflate"), True),
    "identity": (with_length(BODY, Content_Encoding="identity"), True),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["collected", "streamed"])
@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
@pytest.mark.parametrize("kind", WELL_FORMED)
async def test_what_http_allows(transport: FastTransport, kind: str, piece: int, streamed: bool) -> None:
    answer, again = WELL_FORMED[kind]
    async with RawServer(answering(answer, piece=piece, goes_on=again)) as server:
        for turn in range(2):
            taken: list[bytes] = []

            def sink(data: bytes, taken: list[bytes] = taken) -> bool:
                taken.append(data)
                return False

            response = await transport.send(asking(server, sink=sink if streamed else None))
            assert response.status == 200
            assert (b"".join(taken) if streamed else response.body) == BODY
            assert len(server.requests) == turn + 1
        assert server.connections == (1 if again else 2)


async def test_headers_are_texts_by_their_lower_case_names(transport: FastTransport) -> None:
    answer = with_length(b"x", Retry_After="1 ", X_EMPTY="", Content_Type="text/event-stream")
    async with RawServer(answering(answer)) as server:
        headers = (await transport.send(asking(server))).headers
    assert (headers["retry-after"], headers["x-empty"], headers["content-type"]) == ("1", "", "text/event-stream")
    assert "Retry-After" not in headers
    assert len(headers) == 4
    assert headers.get("location") is None
    assert "retry-after" in repr(headers)


@pytest.mark.parametrize("status", [204, 304, 308, 404, 500])
async def test_a_status_that_says_no_has_its_body_collected(transport: FastTransport, status: int) -> None:
    bare = status in (204, 304)
    answer = f"HTTP/1.1 {status} No\r\n".encode() + (b"\r\n" if bare else b"Content-Length: 2\r\n\r\nno")
    async with RawServer(answering(answer)) as server:
        for _ in range(2):
            response = await transport.send(asking(server, sink=lambda data: pytest.fail(f"the sink got {data!r}")))
            assert (response.status, response.body) == (status, b"" if bare else b"no")
        assert server.connections == 1


# Other clients read these, and where one response follows another they are ambiguous.
AMBIGUOUS = {
    "bare line ends": b"HTTP/1.1 200 OK\nContent-Length: %d\n\n%b" % (len(BODY), BODY),
    "a length beside chunks": chunked(BODY, 50).replace(b"\r\n", b"\r\nContent-Length: 2\r\n", 1),
    "a folded header": with_length(BODY, X_Long="one\r\n two\r\n\tthree"),
    "bare line ends after 100": b"HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: %d\n\n%b" % (len(BODY), BODY),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["collected", "streamed"])
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize("kind", AMBIGUOUS)
async def test_what_other_clients_read_is_read_once_per_connection(
    transport: FastTransport, kind: str, piece: int, streamed: bool
) -> None:
    async with RawServer(answering(AMBIGUOUS[kind], PLAIN, piece=piece)) as server:
        taken: list[bytes] = []

        def sink(data: bytes) -> bool:
            taken.append(data)
            return False

        response = await transport.send(asking(server, sink=sink if streamed else None))
        assert (b"".join(taken) if streamed else response.body) == BODY
        assert response.headers.get("x-long", "one") != "three"
        assert (await transport.send(asking(server))).body == b"ok"
        assert server.connections == 2


MALFORMED = {
    "another protocol": b"220 mail.example.org ESMTP\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "no number of a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
    "a NUL in a header": b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nok",
    "a header without a name": b"HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 2\r\n\r\nok",
    "the status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
    "trailers without end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Long: "
    + b"x" * (2 * connection.LARGEST_HEAD + (1 << 20)),
    "a chunk's header without end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n2;x="
    + b"x" * (2 * connection.LARGEST_HEAD + (1 << 20)),
    "100 without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
    "an upgrade": b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * (connection.LARGEST_HEAD + 10),
    "less than its length": b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok",
    "chunks without end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    "nothing": b"",
    "what only br can read": with_length(BODY, Content_Encoding="br"),
    "no gzip": with_length(BODY, Content_Encoding="gzip"),
    "half a gzip": with_length(gzip.compress(BODY)[:-9], Content_Encoding="gzip"),
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_what_http_does_not_allow_is_a_broken_connection(transport: FastTransport, kind: str) -> None:
    async with RawServer(answering(MALFORMED[kind], PLAIN, goes_on=False)) as server:
        with pytest.raises(TransportError, match=r"broke|body") as caught:
            await transport.send(asking(server, first_byte_timeout_s=3.0))
        assert caught.value.delivery == "possibly_delivered"
        assert not isinstance(caught.value, TransportTimeoutError)
        # It was sent once, and what follows it is not disturbed.
        assert len(server.requests) == 1
        assert (await transport.send(asking(server))).body == b"ok"


async def test_an_answer_to_nothing_ends_the_connection(transport: FastTransport) -> None:
    late = asyncio.Event()

    async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        writer.write(with_length(b"first"))
        if request.connection == 0:
            await late.wait()
            writer.write(with_length(b"stray"))
        await writer.drain()
        return True

    async with RawServer(answering(with_length(b"first") + with_length(b"stray"), PLAIN)) as server:
        assert (await transport.send(asking(server))).body == b"first"
        assert (await transport.send(asking(server))).body == b"ok"
        assert server.connections == 2
    async with RawServer(script) as server:
        assert (await transport.send(asking(server))).body == b"first"
        late.set()
        await until(lambda: server.ended == 1)
        assert (await transport.send(asking(server))).body == b"first"


# Keep-alive --------------------------------------------------------------------------------------------------------------


async def test_the_connection_used_last_is_used_next(transport: FastTransport) -> None:
    async with RawServer(answering(PLAIN)) as server:
        await asyncio.gather(*[transport.send(asking(server)) for _ in range(8)])
        assert server.connections == 8
        for _ in range(5):
            await transport.send(asking(server))
        assert len({request.connection for request in server.requests[-5:]}) == 1
        assert server.connections == 8


async def test_idle_connections_are_closed_before_the_server_does(
    transport: FastTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "KEEP_ALIVE_S", 0.05)
    monkeypatch.setattr(fast, "SWEEP_S", 0.02)
    async with RawServer(answering(PLAIN)) as server:
        await asyncio.gather(*[transport.send(asking(server)) for _ in range(3)])
        await until(lambda: not transport._alive and server.ended == 3)
        assert transport._sweeper is None or not transport._alive
        await transport.send(asking(server))
        assert server.connections == 4


async def test_a_connection_that_the_server_closed_is_not_used_again(transport: FastTransport) -> None:
    async with RawServer(answering(PLAIN, goes_on=False)) as server:
        for _ in range(3):
            await transport.send(asking(server))
            await until(lambda: not transport._alive)
        assert server.connections == len(server.requests) == 3


async def test_a_close_that_the_event_loop_has_not_seen_yet(transport: FastTransport) -> None:
    with elsewhere(answering(PLAIN, goes_on=False)) as server:
        for _ in range(2):
            await transport.send(asking(server))
            # Blocked, as by a trainer's step: the server's close waits in the socket.
            time.sleep(connection.FRESH_S + 0.2)  # noqa: ASYNC251
        assert server.connections == len(server.requests) == 2


async def test_a_request_that_crosses_the_close_is_not_sent_again(transport: FastTransport) -> None:
    async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        if len(server.requests) > 1:
            return False
        writer.write(PLAIN)
        return True

    async with RawServer(script) as server:
        await transport.send(asking(server))
        with pytest.raises(TransportError, match="the server closed it") as caught:
            await transport.send(asking(server))
        assert caught.value.delivery == "possibly_delivered"
        assert len(server.requests) == 2


# Time --------------------------------------------------------------------------------------------------------------------


async def test_silence_is_noticed_and_patience_is_kept(transport: FastTransport) -> None:
    async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        if "/late" in request.line:
            await asyncio.sleep(0.8)
            writer.write(PLAIN)
        elif "/never" in request.line:
            await asyncio.sleep(60)
        elif "/halting" in request.line:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
            for letter in b"okay":
                await asyncio.sleep(0.2)
                writer.write(bytes([letter]))
        elif "/stalled" in request.line:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok")
            await asyncio.sleep(60)
        elif "/continue" in request.line:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(60)
        return True

    async with RawServer(script) as server:
        quick = {"first_byte_timeout_s": 0.3, "idle_timeout_s": 0.5}
        for path in ("/never", "/stalled", "/continue"):
            began = time.monotonic()
            with pytest.raises(TransportTimeoutError):
                await transport.send(asking(server, path, **quick))
            assert time.monotonic() - began < 20
        assert (await transport.send(asking(server, "/halting", **quick))).body == b"okay"
        assert (await transport.send(asking(server, "/late", first_byte_timeout_s=None, idle_timeout_s=0.1))).body == b"ok"


async def test_an_event_loop_that_was_blocked_finds_the_answer(transport: FastTransport) -> None:
    async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.1)
        writer.write(PLAIN)
        return True

    with elsewhere(script) as server:
        sent = asyncio.create_task(transport.send(asking(server, first_byte_timeout_s=0.4)))
        await asyncio.sleep(0.05)
        time.sleep(1.0)  # noqa: ASYNC251
        assert (await sent).body == b"ok"


async def test_no_task_and_no_timer_a_request(transport: FastTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    made: list[str] = []
    with elsewhere(answering(chunked(BODY, 50))) as server:
        await transport.send(asking(server))

        def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*positional: Any, **named: Any) -> Any:
                made.append(name)
                return real(*positional, **named)

            return call

        for name in ("call_at", "call_later", "create_task"):
            monkeypatch.setattr(loop, name, counted(name, getattr(loop, name)))
        began = time.monotonic()
        for _ in range(50):
            await transport.send(asking(server))
        sweeps = (time.monotonic() - began) / fast.SWEEP_S + 1
    assert made.count("create_task") == 0
    assert made.count("call_later") <= sweeps


# Cancelling, closing, sinks ----------------------------------------------------------------------------------------------


async def test_a_cancelled_request_closes_its_connection(transport: FastTransport) -> None:
    async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        if "/hangs" not in request.line:
            writer.write(PLAIN)
        return True

    async with RawServer(script) as server:
        sent = asyncio.create_task(transport.send(asking(server, "/hangs")))
        await until(lambda: len(server.requests) == 1)
        sent.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sent
        await until(lambda: server.ended == 1)
        assert (await transport.send(asking(server))).body == b"ok"
        assert server.connections == 2


async def test_a_sink_that_raises_or_has_enough(transport: FastTransport) -> None:
    def refuses(data: bytes) -> bool:
        raise ProtocolError("no event stream")

    async with RawServer(answering(chunked(BODY, 10))) as server:
        with pytest.raises(ProtocolError, match="no event stream"):
            await transport.send(asking(server, sink=refuses))
        await until(lambda: server.ended == 1)
        for _ in range(3):
            assert (await transport.send(asking(server, sink=lambda data: True))).body == b""
        assert server.connections == 2


async def test_closing_ends_what_is_under_way_and_what_is_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "CLOSE_TIMEOUT_S", 0.1)

    async def silent(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        return True

    async with RawServer(silent) as server:
        transport = FastTransport(server.url)
        hanging = asyncio.create_task(transport.send(asking(server)))
        await until(lambda: len(server.requests) == 1)
        connecting = asyncio.create_task(transport.send(asking(server)))
        await asyncio.sleep(0)
        await transport.aclose()
        for task, delivery in ((hanging, "possibly_delivered"), (connecting, "not_sent")):
            with pytest.raises(TransportError, match="closed") as caught:
                await task
            assert caught.value.delivery == delivery
        with pytest.raises(TransportError, match="is closed"):
            await transport.send(asking(server))
        assert not transport._alive
        assert len(server.requests) == 1


# Large bodies ------------------------------------------------------------------------------------------------------------


async def test_many_megabytes_there_and_back(transport: FastTransport) -> None:
    body = bytes(range(256)) * 4096 * 16

    async def echo(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        writer.write(chunked(request.body, 100_000))
        await writer.drain()
        return True

    async with RawServer(echo) as server:
        for _ in range(2):
            assert (await transport.send(asking(server, body=body))).body == body
        assert server.connections == 1


async def test_a_large_body_that_goes_out_slowly_is_a_sign_of_life(transport: FastTransport) -> None:
    body = b"x" * (24 << 20)

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        left = len(body)
        while left:
            left -= len(await reader.read(min(left, 1 << 20)))
            await asyncio.sleep(0.05)
        writer.write(PLAIN)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(slowly, "127.0.0.1", 0, limit=1 << 20) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/x"
        response = await transport.send(Request("POST", url, {}, body, first_byte_timeout_s=0.5, idle_timeout_s=0.5))
    assert response.body == b"ok"


async def test_an_answer_before_the_request_was_read(transport: FastTransport) -> None:
    async def refuses(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await asyncio.sleep(0.2)
        return False

    async with RawServer(refuses, reads_bodies=False) as server:
        response = await transport.send(asking(server, body=b"x" * (16 << 20)))
        assert (response.status, response.body) == (413, b"no")
        await until(lambda: not transport._alive)


# What is sent, and where it goes -----------------------------------------------------------------------------------------


async def test_what_is_sent(transport: FastTransport) -> None:
    async with RawServer(answering(PLAIN)) as server:
        shared = Headers({"X-Key": Secret("key-1"), "Accept": "text/event-stream"})
        for _ in range(2):
            await transport.send(Request("POST", f"{server.url}/a b/ü?q=1 2", shared, b'{"a":1}'))
        await transport.send(Request("GET", server.url.replace("//", "//me:p%40ss@"), {}))
        await transport.send(Request("POST", f"{server.url}/empty", {}))
    first, second, third, fourth = server.requests
    assert first == second
    assert first.line == "POST /a%20b/%C3%BC?q=1%202 HTTP/1.1"
    assert (first.body, first.headers["x-key"], first.headers["accept"]) == (b'{"a":1}', "key-1", "text/event-stream")
    assert first.headers["host"] == f"127.0.0.1:{server.port}"
    assert "key-1" not in repr(shared)
    assert third.line == "GET / HTTP/1.1"
    assert third.headers["authorization"] == "Basic bWU6cEBzcw=="
    assert "content-length" not in third.headers
    assert fourth.headers["content-length"] == "0"


@pytest.mark.parametrize("value", ["one\r\nX-Evil: 1", "a\nb", "a\rb", "ключ", "nul\0"])
async def test_a_value_that_no_header_can_have_is_refused_and_not_shown(transport: FastTransport, value: str) -> None:
    async with RawServer(answering(PLAIN)) as server:
        headers: Mapping[str, str | Secret] = {"X-Fine": "1", "X-Secret": Secret(value)}
        for sent in (headers, Headers(headers)):
            with pytest.raises(ConfigurationError, match="X-Secret") as caught:
                await transport.send(Request("POST", server.url, sent))
            assert value not in str(caught.value)
        assert not server.connections
        assert not transport._alive


@pytest.mark.parametrize("url", ["ftp://h/x", "http:///x", "http://bücher.example/"])
async def test_what_is_no_address(transport: FastTransport, url: str) -> None:
    with pytest.raises(TransportError) as caught:
        await transport.send(Request("GET", url, {}))
    assert caught.value.delivery == "not_sent"


@pytest.mark.parametrize(
    ("environ", "url", "kind"),
    [
        ({}, "http://server.example:8080", FastTransport),
        ({}, "https://openreward.ai", FastTransport),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://server.example:8080", HttpxTransport),
        ({"HTTP_PROXY": "http://proxy:3128"}, "https://server.example", FastTransport),
        ({"https_proxy": "http://proxy:3128"}, "https://server.example", HttpxTransport),
        ({"ALL_PROXY": "http://proxy:3128"}, "https://server.example", HttpxTransport),
        ({"ALL_PROXY": "http://proxy:3128", "NO_PROXY": "server.example"}, "https://server.example", FastTransport),
        ({"ALL_PROXY": "http://proxy:3128", "NO_PROXY": "other.example"}, "https://server.example", HttpxTransport),
        ({"ALL_PROXY": "http://proxy:3128"}, "http://127.0.0.1:8080", FastTransport),
        ({"ALL_PROXY": "http://proxy:3128"}, "http://localhost:8080", FastTransport),
        ({}, "http://bücher.example", HttpxTransport),
    ],
)
async def test_httpx_takes_over_where_a_proxy_is_configured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, environ: dict[str, str], url: str, kind: type
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.DEBUG, logger="openreward_gym"):
        assert type(ClientTransports("fast").get(url)) is kind
    assert ("go through httpx" in caplog.text) == (kind is HttpxTransport)


async def test_what_the_caller_passes_is_carried_by_httpx() -> None:
    async with httpx.AsyncClient() as mine:
        assert type(ClientTransports(mine).get("http://h:1")) is HttpxTransport


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_sync_client_is_refused(library: Any) -> None:
    with library.Client() as client, pytest.raises(ConfigurationError, match=r"sync client.*AsyncClient"):
        Client("http://h:1", transport=client)


async def test_a_transport_is_of_one_event_loop(transport: FastTransport) -> None:
    def other() -> None:
        with pytest.raises(ConfigurationError, match="another event loop"):
            asyncio.run(transport.send(Request("GET", "http://127.0.0.1:1", {})))

    with pytest.raises(OpenRewardGymError):
        await transport.send(Request("GET", "http://127.0.0.1:1", {}))
    await asyncio.to_thread(other)


def test_an_episode_on_uvloop() -> None:
    async def episode(url: str) -> float | None:
        async with Client(url) as client, client.environment("fault").session(split="train", index=0) as session:
            await session.prompt()
            await session.call("big", {"size": 3_000_000})
            call = asyncio.create_task(session.call("slow", {"seconds": 30}))
            await asyncio.sleep(0.1)
            call.cancel()
            return (await session.call("step")).reward

    with running() as server:
        assert uvloop.run(episode(server.url)) == 1.0
        assert not server.sessions
        assert server.executed["step"] == 1
