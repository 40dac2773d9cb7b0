"""Random answers of servers: the readers of the protocol, event streams cut anywhere, and a real server over both transports."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from hostile import Fuzzer, changed, changed_bytes, dumped, named, pieces, received, value
from raw_server import RawRequest, RawServer

from openreward_gym.errors import OpenRewardGymError
from openreward_gym.options import RetryLimits
from openreward_gym.protocol import wire
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.sse import CallStream, EventDecoder

BLOCKS = [
    {"type": "text", "text": "7 C", "detail": {"a": 1}},
    {"type": "image", "data": "iVBORw0KGgo=", "mimeType": "image/png"},
    {"type": "reasoning", "text": "hm", "signature": "s"},
    {"type": "tool_call", "name": "go", "input": {"a": 1}, "id": "c1"},
    {"type": "tool_result", "tool_call_id": "c1", "is_error": False, "blocks": [{"type": "text", "text": "x"}]},
    {"type": "audio", "data": "AAAA"},
]
TOOL = {"name": "go", "description": "Go.", "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}
OUTPUT = {"blocks": BLOCKS[:2], "reward": 0.5, "finished": False, "metadata": {"n": 1}}
ANSWERS: dict[str, tuple[Any, Any]] = {
    "output": ({"ok": True, "output": OUTPUT}, wire.read_output),
    "refusal": ({"ok": False, "error": "no such tool", "reason": "not_found"}, wire.read_output),
    "blocks": (BLOCKS, wire.read_blocks),
    "messages": ([{"role": "user", "blocks": BLOCKS, "detail": None}], wire.read_messages),
    "tools": (
        {"tools": [TOOL, {**TOOL, "name": "stop", "input_schema": None}], "terminal_tool": {"name": "end"}},
        wire.read_tools,
    ),
    "splits": ([{"name": "train", "type": "train"}, "test"], wire.read_splits),
    "scores": ({"scores": [{"reward": 1.0, "metadata": {}}, {"reward": 0.0}]}, lambda raw: wire.read_scores(raw, 2)),
}


def make_answer(random: Random) -> tuple[str, Any]:
    name = random.choice(list(ANSWERS))
    return name, received(changed(random, ANSWERS[name][0], 4))


def check_answer(case: tuple[str, Any]) -> None:
    name, raw = case
    named(lambda: ANSWERS[name][1](raw))


def make_body(random: Random) -> tuple[str, bytes]:
    name = random.choice(list(ANSWERS))
    return name, changed_bytes(random, dumped(ANSWERS[name][0]).encode())


def check_body(case: tuple[str, bytes]) -> None:
    name, body = case
    named(lambda: ANSWERS[name][1](wire.loads(body)))


def _stream(data: bytes, size: int) -> bytes:
    parts = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
    events = [b"event: task_id\ndata: t-1\n\n"]
    events += [b"event: chunk\ndata: %b\n\n" % part for part in parts[:-1]]
    return b"".join([*events, b"event: end\ndata: %b\n\n" % parts[-1]])


def make_stream(random: Random) -> tuple[bytes, list[bytes]]:
    data = changed_bytes(random, _stream(dumped(changed(random, ANSWERS["output"][0])).encode(), random.choice((7, 40, 4096))))
    return data, pieces(random, data)


def check_stream(case: tuple[bytes, list[bytes]]) -> None:
    """A stream means the same in one piece and in several."""
    whole, parts = case
    outcomes = []
    for chunks in ([whole], parts):
        stream = CallStream()
        complete = named(lambda stream=stream, chunks=chunks: [stream.feed(chunk) for chunk in chunks][-1])  # type: ignore[misc]
        outcomes.append((complete, stream.finished, stream.error, stream.task_ids, stream.result()))
        if complete:
            named(lambda stream=stream: wire.read_output(wire.loads(stream.result())))  # type: ignore[misc]
    assert outcomes[0] == outcomes[1], "a stream in pieces is not the stream in one piece"
    decoder, decoders = EventDecoder(), EventDecoder()
    assert decoder.feed(whole) == [event for chunk in parts for event in decoders.feed(chunk)]


# ---- a real server ----

_GOOD: dict[str, Any] = {
    "/list_environments": ["go"],
    "/go/splits": ANSWERS["splits"][0],
    "/go/num_tasks": {"num_tasks": 3},
    "/go/task": {"task": {"number": 1}},
    "/go/tools": ANSWERS["tools"][0],
    "/create_session": {"sid": "s-1"},
    "/create": {"sid": "s-1"},
    "/go/prompt": BLOCKS[:2],
    "/go/messages": ANSWERS["messages"][0],
    "/go/task_tools": ANSWERS["tools"][0],
    "/ping": {"status": "ok"},
    "/delete": {"sid": "s-1"},
    "/delete_session": {"sid": "s-1"},
}
_KINDS = ("json", "json", "bytes", "head", "status", "value")
_NO_RETRIES = RetryLimits(attempts=2, first_wait_s=0.0, longest_wait_s=0.0, starting_s=0.0, resume_s=0.2)


def make_play(random: Random) -> tuple[str, int]:
    return random.choice(("fast", "httpx")), random.randrange(2**32)


def _answer(random: Random, path: str) -> bytes:
    """Return an answer to a request: what a good server says, changed."""
    streamed = path.endswith("/call")
    good = ANSWERS["output"][0] if streamed else _GOOD.get(path, {"status": "ok"})
    kind = random.choice(_KINDS) if random.random() < 0.3 else ""
    content = changed(random, good) if kind == "json" else value(random) if kind == "value" else good
    body = dumped(content).encode()
    if streamed:
        body = _stream(body, 40)
    if kind == "bytes":
        body = changed_bytes(random, body)
    status = random.choice((204, 301, 307, 400, 401, 403, 404, 410, 418)) if kind == "status" else 200
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Type: {'text/event-stream' if streamed else 'application/json'}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    return (changed_bytes(random, head, 2) if kind == "head" else head) + body


async def _play(transport: Any, seed: int) -> None:
    random = Random(seed)

    async def script(request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        path = request.line.split(" ")[1].partition("?")[0]
        writer.write(_answer(random, path))
        await writer.drain()
        return random.random() < 0.9

    async with (
        RawServer(script) as server,
        Client(server.url, transport=transport, request_timeout_s=0.3, idle_timeout_s=0.3, retry_limits=_NO_RETRIES) as client,
    ):
        environment = client.environment("go")
        for ask in (
            environment.splits,
            lambda: environment.num_tasks("train"),
            lambda: environment.task("train", 0),
            environment.tools,
        ):
            await _named(ask)
        session = environment.session(split="train", index=0, open_timeout_s=1.0, step_timeout_s=3.0)
        await _named(session.open)
        for use in (session.prompt, session.messages, session.tools, lambda: session.call("go", {"a": "b"}), session.close):
            await _named(use)


async def _named(ask: Any) -> None:
    try:
        await asyncio.wait_for(ask(), 10)
    except OpenRewardGymError:
        pass


def check_play(case: tuple[str, int]) -> None:
    """Play a session against a server that answers about a third of all requests wrongly."""
    asyncio.run(_play(*case))


FUZZERS = [
    Fuzzer("answers, as values", make_answer, check_answer, 150),
    Fuzzer("answers, as bytes", make_body, check_body, 60),
    Fuzzer("event streams in pieces", make_stream, check_stream, 350),
    Fuzzer("answers over both transports", make_play, check_play, 10_000, inputs=10),
]
