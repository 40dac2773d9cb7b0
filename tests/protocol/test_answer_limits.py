"""Limits on what a server can make a client hold or wait for, over both transports."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_server import RawRequest, RawServer, elsewhere

from openreward_gym.errors import (
    CallTimeoutError,
    OpenRewardGymError,
    OutcomeUnknownError,
    ProtocolError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.options import RetryLimits
from openreward_gym.protocol import decoding
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.decoding import Decoder
from openreward_gym.protocol.request import Request, Transport
from openreward_gym.protocol.sse import CallStream
from openreward_gym.protocol.transport import TRANSPORTS

pytestmark = pytest.mark.anyio

LIMITS = RetryLimits(attempts=2, first_wait_s=0.01, longest_wait_s=0.05, starting_s=1.0, resume_s=1.0)
OUTPUT = {"blocks": [{"type": "text", "text": "done"}], "metadata": None, "reward": 1.0, "finished": True}
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=sorted(TRANSPORTS))
def name(request: pytest.FixtureRequest) -> str:
    """The name of each transport in turn."""
    param: str = request.param
    return param


@pytest.fixture
async def transport(name: str) -> AsyncIterator[Transport]:
    transport = TRANSPORTS[name]("http://127.0.0.1")
    yield transport
    await transport.aclose()


def sized(body: bytes, head: str = "", kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(body: bytes, size: int = 1000) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%b\r\n" % (len(p), p) for p in [*pieces, b""]
    )


def always(answer: bytes, *, stays: bool = False) -> Any:
    async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        writer.write(answer)
        await writer.drain()
        return stays

    return script


def environment(**odd: bytes | Answer) -> Any:
    """A script that is an Open Reward server, except for the routes in `odd`: bytes, or a function that writes them."""
    numbers = itertools.count()
    good: dict[str, Any] = {
        "list_environments": ["env"],
        "prompt": [{"type": "text", "text": "hi", "detail": None}],
        "task_tools": {"tools": [{"name": "go", "description": "", "input_schema": {}}]},
        "splits": [{"name": "train", "type": "train"}],
        "num_tasks": {"num_tasks": 3},
    }

    async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        route = request.line.split(" ")[1].rpartition("/")[2]
        answer = odd.get(route)
        if callable(answer):
            await answer(writer)
            return False
        if answer is None and route in ("create_session", "call"):
            result = json.dumps({"ok": True, "output": OUTPUT}) if route == "call" else ""
            stream = f"event: task_id\ndata: t{next(numbers)}\n\nevent: end\ndata: {result}\n\n".encode()
            answer = sized(stream, kind="text/event-stream")
        writer.write(answer or sized(json.dumps(good.get(route, {"status": "ok"})).encode()))
        await writer.drain()
        return True

    return script


def drip(head: str, *pieces: bytes) -> Answer:
    """A head, and then the pieces in turn, ten times a second, without end."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode())
        for piece in itertools.cycle(pieces):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.1)

    return answer


# Bytes ---------------------------------------------------------------------------------------------------------------------

BODY = b"[" + b"0," * 5000 + b"0]"
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "length": sized,
    "chunks": chunked,
    "until it is closed": lambda body: b"HTTP/1.1 200 OK\r\n\r\n" + body,
    "gzip": lambda body: sized(gzip.compress(body), "Content-Encoding: gzip\r\n"),
    "deflate": lambda body: sized(zlib.compress(body), "Content-Encoding: deflate\r\n"),
    "gzip twice": lambda body: sized(gzip.compress(gzip.compress(body)), "Content-Encoding: gzip, gzip\r\n"),
    "many members": lambda body: sized(
        b"".join(gzip.compress(body[i : i + 500]) for i in range(0, len(body), 500)), "Content-Encoding: gzip\r\n"
    ),
    "an error's body": lambda body: sized(body).replace(b"200 OK", b"500 No", 1),
}


@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_may_be_as_long_as_the_limit_and_no_longer(transport: Transport, form: str) -> None:
    async with RawServer(always(FORMS[form](BODY), stays=form != "until it is closed")) as server:
        request = Request("GET", server.url, {}, max_bytes=len(BODY))
        assert (await transport.send(request)).body == BODY
        with pytest.raises(ProtocolError, match=rf"longer than {len(BODY) - 1} bytes, the limit of max_answer_bytes"):
            await transport.send(request._replace(max_bytes=len(BODY) - 1))


async def test_the_option_limits_answers_and_streams(name: str) -> None:
    prompt = sized(json.dumps([{"type": "text", "text": "x" * 3000, "detail": None}]).encode())
    call = sized(b"event: task_id\ndata: t\n\nevent: chunk\ndata: " + b"x" * 3000 + b"\n\n", kind="text/event-stream")
    for odd, kind in (({"prompt": prompt}, ProtocolError), ({"call": call}, OutcomeUnknownError)):
        async with RawServer(environment(**odd)) as server:
            async with (
                Client(server.url, transport=name, retry_limits=LIMITS, max_answer_bytes=2000) as client,
                client.environment("env").session(split="train", index=0) as session,
            ):
                with pytest.raises(kind, match=r"longer than 2000 bytes.*max_answer_bytes"):
                    await (session.prompt() if "prompt" in odd else session.call("go"))
            assert len([r for r in server.requests if r.line.split(" ")[1] == f"/env/{next(iter(odd))}"]) == 1


FLOOD = """
import asyncio, resource, sys
from openreward_gym import Client
from openreward_gym.errors import OpenRewardGymError

async def main(url, transport):
    async with Client(url, transport=transport, request_timeout_s=60.0) as client:
        async with client.environment("env").session(split="train", index=0, open_timeout_s=60, step_timeout_s=60) as session:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for ask in (session.prompt, lambda: session.call("go")):
                try:
                    await ask()
                except OpenRewardGymError as error:
                    print(type(error).__name__)
            print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)

asyncio.run(main(*sys.argv[1:]))
"""


def bomb(begin: bytes, megabytes: int) -> bytes:
    """Gzip of `begin` and so many megabytes of blanks, made without unpacking it."""
    packer = zlib.compressobj(9, wbits=31)
    head = packer.compress(begin) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + (packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)) * megabytes


def endless(head: bytes, piece: bytes, megabytes: int = 600) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(megabytes * (1 << 20) // len(piece)):
            writer.write(piece)
            await writer.drain()

    return answer


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
BEGIN = b"event: task_id\ndata: t\n\nevent: chunk\ndata: "
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS: dict[str, tuple[bytes | Answer, bytes | Answer]] = {
    "bombs": (
        sized(bomb(b"[", 1500), "Content-Encoding: gzip\r\n"),
        sized(bomb(BEGIN, 1500), "Content-Encoding: gzip\r\n", "text/event-stream"),
    ),
    "bodies": (
        endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * (1 << 16)),
        endless(STREAM_HEAD + b"\r\n" + BEGIN, b"x" * (1 << 16)),
    ),
    "trailers and heads": (
        endless(CHUNKED + b"0\r\nX-Sum: ", b"x" * (1 << 16)),
        endless(STREAM_HEAD, b"X-Some: header\r\n" * 4000),
    ),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_costs_less_than_100_mb(name: str, flood: str) -> None:
    prompt, call = FLOODS[flood]
    with elsewhere(environment(prompt=prompt, call=call)) as server:
        done = subprocess.run([sys.executable, "-c", FLOOD, server.url, name], capture_output=True, text=True, timeout=200)
    *errors, grown = done.stdout.split()
    assert len(errors) == 2, done.stderr
    assert int(grown) < 100, done.stdout


def test_short_lines_and_pieces_take_no_more_than_they_are_long() -> None:
    stream, piece = CallStream(), b"event: chunk\ndata: ab\ndata: cd\n\n"
    stream.feed(b": begin\n\n")
    for _ in range(400):
        stream.feed(piece * 20)
    assert sum(map(sys.getsizeof, stream._parts)) < 8000 * len(piece)
    stream.feed(b"event: end\ndata: e\n\n")
    assert stream.result() == b"ab\ncd" * 8000 + b"e"


def encoded(data: bytes, coding: str) -> bytes:
    if coding == "members":
        return gzip.compress(data[:7]) + gzip.compress(b"") + gzip.compress(data[7:])
    if coding == "raw":
        packer = zlib.compressobj(wbits=-15)
        return packer.compress(data) + packer.flush()
    return gzip.compress(data) if coding == "gzip" else zlib.compress(data)


@given(
    body=st.one_of(st.binary(max_size=3000), st.integers(0, 1_500_000).map(lambda size: b"a" * size)),
    codings=st.lists(st.sampled_from(["gzip", "deflate", "raw", "members"]), max_size=decoding.MAX_CODINGS),
    cut=st.integers(1, 5000),
    room=st.integers(-3, 3),
)
@settings(max_examples=80, deadline=None)
def test_any_stack_of_encodings_is_undone_within_its_limit(body: bytes, codings: list[str], cut: int, room: int) -> None:
    packed, limit = body, len(body) + room
    for coding in codings:
        # What lies between two encodings may be longer than a short body.
        limit = max(limit, len(packed) if packed is not body else limit)
        packed = encoded(packed, coding)
    names = ", ".join({"raw": "deflate", "members": "gzip"}.get(coding, coding) for coding in codings)
    decoder = Decoder(names, limit)
    pieces: list[bytes] = []
    try:
        for start in range(0, len(packed), cut):
            for piece in decoder.feed(packed[start : start + cut]):
                assert len(piece) <= max(decoding.PIECE, cut)
                pieces.append(piece)
        decoder.finish()
    except ProtocolError:
        assert len(body) > limit
    else:
        assert b"".join(pieces) == body


@given(noise=st.binary(max_size=400), coding=st.sampled_from(["gzip", "deflate", "gzip, deflate"]), at=st.integers(0, 400))
@settings(max_examples=150, deadline=None)
def test_noise_in_an_encoding_has_a_name(noise: bytes, coding: str, at: int) -> None:
    packed = gzip.compress(b"some text" * 30)
    for data in (noise, packed[:at] + noise + packed[at:]):
        decoder = Decoder(coding, 1 << 20)
        try:
            for _ in decoder.feed(data):
                pass
            decoder.finish()
        except (TransportError, ProtocolError):
            pass


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "gzip, gzip, gzip, gzip", "gzip\x00", "compress"])
async def test_an_encoding_that_was_not_requested_is_named(transport: Transport, coding: str) -> None:
    async with RawServer(always(sized(BODY, f"Content-Encoding: {coding}\r\n"))) as server:
        with pytest.raises(TransportError):
            await transport.send(Request("GET", server.url, {}))
        assert server.requests[0].headers["accept-encoding"] == "identity"


def test_a_body_of_many_empty_members_is_refused_soon() -> None:
    decoder = Decoder("gzip", 1 << 20)
    with pytest.raises(TransportError, match="members"):
        list(decoder.feed(gzip.compress(b"") * (decoding.MAX_MEMBERS + 1)))


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_clients_of_the_callers_have_the_same_limits(library: Any) -> None:
    async def read_early(response: Any) -> None:
        if "early" in str(response.request.url):
            await response.aread()

    async with (
        RawServer(environment(health=FORMS["gzip"](BODY), version=sized(bomb(b"[", 80), "Content-Encoding: gzip\r\n"))) as server,
        library.AsyncClient(event_hooks={"response": [read_early]}) as mine,
        Client(server.url, transport=mine, retry_limits=LIMITS) as client,
    ):
        assert await client.health() == json.loads(BODY)
        with pytest.raises(ProtocolError, match="max_answer_bytes"):
            await client.version()
        async with client.environment("env").session(split="train", index=0) as session:
            assert (await session.call("go")).reward == 1.0
        assert not mine.is_closed
        # A hook of the caller's may have read the response, and then it is decoded already.
        early = await client._context.transports.get(server.url).send(Request("GET", f"{server.url}/early/health", {}))
        assert early.body == BODY
    with pytest.raises(OpenRewardGymError, match="closed"):
        await Client("http://127.0.0.1:9", transport=mine).health()


async def test_a_client_of_httpx2_has_named_errors() -> None:
    mine: Any = httpx2.AsyncClient()
    async with mine:
        async with Client("http://127.0.0.1:1", transport=mine, retry_limits=LIMITS) as client:
            with pytest.raises(TransportError, match=r"no server answers at http://127\.0\.0\.1:1") as caught:
                await client.health()
            assert caught.value.delivery == "not_sent"
        async with (
            RawServer(always(b"SSH-2.0-x\r\n")) as server,
            Client(server.url, transport=mine, retry_limits=LIMITS) as client,
        ):
            with pytest.raises(TransportError, match="broke"):
                await client.health()


# Time ----------------------------------------------------------------------------------------------------------------------

JSON_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n["
DRIPS = {
    "a blank": drip(JSON_HEAD, b" "),
    "a chunk": drip(CHUNKED.decode(), b"1\r\n \r\n"),
    "a header": drip("HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "a trailer": drip(CHUNKED.decode() + "1\r\n[\r\n0\r\n", b"X-A: b\r\n"),
    "100": drip("", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "an error's body": drip(JSON_HEAD.replace("200 OK", "500 No"), b" "),
}


@pytest.mark.parametrize("what", DRIPS)
async def test_an_answer_in_drops_does_not_stretch_a_deadline(transport: Transport, what: str) -> None:
    async with RawServer(environment(version=DRIPS[what])) as server:
        began = time.monotonic()
        request = Request("GET", f"{server.url}/version", {}, first_byte_timeout_s=0.8, idle_timeout_s=60.0, total_timeout_s=0.8)
        with pytest.raises(TransportTimeoutError):
            await asyncio.wait_for(transport.send(request), 30)
        assert time.monotonic() - began < 15


async def put(question: str, client: Client) -> Any:
    """Ask a client the question to which the server answers on the route of that name."""
    environment = client.environment("env")
    if question in ("list_environments", "splits", "num_tasks"):
        asks = {"list_environments": client.list_environments, "splits": environment.splits}
        return await (environment.num_tasks("train") if question == "num_tasks" else asks[question]())
    async with environment.session(split="train", index=0, open_timeout_s=1.0) as session:
        return await {"prompt": session.prompt, "task_tools": session.tools, "ping": session.ping}[question]()


@pytest.mark.parametrize("question", ["prompt", "task_tools", "splits", "num_tasks", "ping", "list_environments"])
async def test_every_question_has_its_deadline(name: str, question: str) -> None:
    async with RawServer(environment(**{question: DRIPS["a blank"]})) as server:
        async with Client(server.url, transport=name, retry_limits=LIMITS, request_timeout_s=0.8) as client:
            with pytest.raises(TransportTimeoutError) as caught:
                await put(question, client)
            assert "not done within 0.8 s" in str(caught.value)
            assert "request_timeout_s" in str(caught.value)
        # A server that drips would drip again, so it is not asked twice.
        route = [r for r in server.requests if r.line.split(" ")[1].endswith(f"/{question}")]
        assert len(route) == 1


async def test_heartbeats_do_not_stretch_opening_calls_and_comparisons(name: str) -> None:
    beats = drip(STREAM_HEAD.decode() + "\r\n", b"event: task_id\ndata: t\n\n", b": alive\n\n")
    async with (
        RawServer(environment(call=beats, score_group=beats)) as server,
        Client(server.url, transport=name, retry_limits=LIMITS) as client,
        client.environment("env").session(split="train", index=0, step_timeout_s=0.5) as session,
    ):
        with pytest.raises(CallTimeoutError, match=r"0\.5 s"):
            await session.call("go")
        with pytest.raises(CallTimeoutError, match=r"0\.5 s"):
            await session.score_group([[]])
    async with (
        RawServer(environment(create_session=beats)) as server,
        Client(server.url, transport=name, retry_limits=LIMITS) as client,
    ):
        with pytest.raises(TransportTimeoutError, match="opening"):
            await client.environment("env").session(split="train", index=0, open_timeout_s=0.5).open()


# Fuzzing -------------------------------------------------------------------------------------------------------------------

SEEDS = [
    sized(b'{"status":"ok"}'),
    chunked(b'{"status":"ok"}', 4),
    sized(gzip.compress(b'{"status":"ok"}'), "Content-Encoding: gzip\r\n"),
    b"HTTP/1.1 100 Continue\r\n\r\n" + sized(b"[]"),
    sized(b"event: task_id\ndata: t1\n\nevent: end\ndata: {}\n\n", kind="text/event-stream"),
    b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 205 Reset\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\n\r\n",
    b"HTTP/1.1 999 What\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200\r\n\r\n",
    sized(b"one") + sized(b"two"),
    sized(b"one") + b"garbage",
    b"HTTP/1.1 308 Moved\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
]
TOKENS = [
    b"\r\n",
    b"\n",
    b"\0",
    b":",
    b" ",
    b"\t",
    b"\xff",
    b"HTTP/1.1 ",
    b"Content-Length: 3\r\n",
    b"0\r\n\r\n",
    b"-1",
    b"\x16\x03\x01",
]


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A good answer in which a few bytes were replaced, removed, repeated or added."""
    answer = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(answer)))
        end = min(len(answer), start + draw(st.integers(0, 8)))
        new = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=4), st.just(answer[start:end] * 2)))
        answer = answer[:start] + new + answer[end:]
    return answer


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(answers=st.lists(spoiled(), min_size=5, max_size=5))
def test_whatever_a_server_sends_ends_in_an_answer_or_a_named_error(name: str, answers: list[bytes]) -> None:
    good = sized(b'{"good":1}')

    async def play() -> None:
        turn = itertools.count()

        async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
            writer.write(answers[next(turn)] if request.line.startswith("POST") else good)
            await writer.drain()
            # A server that goes on, so that a client that uses the connection wrongly would read the wrong answer.
            return not request.line.startswith("POST") or next(iter(request.headers)) == "host"

        async with RawServer(script) as server:
            transport = TRANSPORTS[name](server.url)
            try:
                for number in range(len(answers)):
                    taken: list[bytes] = []
                    options: dict[str, Any] = {
                        "first_byte_timeout_s": 0.2,
                        "idle_timeout_s": 0.2,
                        "total_timeout_s": 1.0,
                        "max_bytes": 1000,
                    }
                    sink = (lambda data, taken=taken: taken.append(data) is not None) if number % 2 else None
                    try:
                        await transport.send(Request("POST", f"{server.url}/odd", {}, b"{}", sink, **options))
                    except OpenRewardGymError:
                        pass
                    assert (await transport.send(Request("GET", f"{server.url}/good", {}))).body == b'{"good":1}'
            finally:
                await transport.aclose()

    asyncio.run(asyncio.wait_for(play(), 60))
