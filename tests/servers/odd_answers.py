"""A server of the Open Reward Standard whose answer to one step is odd, and generators of such answers.

with odd_server() as server:
    server.spoil = {"prompt": json_answer(b"[]")}
    ... the steps are those of STEPS; an episode against `server.url` is `play`.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st
from raw_server import RawRequest, RawServer, elsewhere

from openreward_gym.options import RetryLimits
from openreward_gym.protocol.client import Client

TASK = {"question": "q"}
STREAMED = ("create_session", "call")
GOOD: dict[str, Any] = {
    "list_environments": ["env"],
    "splits": [{"name": "train", "type": "train"}],
    "num_tasks": {"num_tasks": 3},
    "task": {"task": TASK},
    "tasks": {"tasks": [TASK], "env_name": "env"},
    "task_range": {"tasks": [TASK]},
    "create_session": {"sid": "s1"},
    "create": {"sid": "s1"},
    "messages": [{"role": "user", "blocks": [{"type": "text", "text": "q"}]}],
    "prompt": [{"type": "text", "text": "q", "detail": None}],
    "task_tools": {"tools": [{"name": "go", "description": "d", "input_schema": {"type": "object"}}], "terminal_tool": None},
    "call": {"ok": True, "output": {"blocks": [{"type": "text", "text": "a"}], "reward": 1.0, "finished": False}},
    "ping": {"status": "ok"},
    "delete": {"sid": "s1"},
    "delete_session": {"sid": "s1"},
}
STEPS = tuple(name for name in GOOD if name not in ("ping", "delete", "delete_session"))


def response(body: bytes, status: str = "200 OK", kind: str = "application/json", headers: str = "") -> bytes:
    """A response with a body."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1", "replace") + body


def events(*pairs: tuple[str, bytes]) -> bytes:
    """An event stream."""
    data = b"".join(b"event: %s\ndata: %s\n\n" % (name.encode(), text) for name, text in pairs)
    return response(data, kind="text/event-stream")


def json_answer(step: str, body: bytes) -> bytes:
    """The answer of a step with `body` in the place of its JSON."""
    if step not in STREAMED:
        return response(body)
    return events(("task_id", b"s1" if step == "create_session" else b"t1"), ("end", body.replace(b"\n", b" ")))


class OddServer:
    """The server's script. `spoil` has the answers of steps that are not good, and `seen` the steps of all requests."""

    def __init__(self) -> None:
        self.spoil: dict[str, bytes] = {}
        self.seen: list[str] = []
        self.url = ""
        self.respond = self.script

    async def script(self, request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        step = request.line.split(" ")[1].partition("?")[0].rpartition("/")[2]
        self.seen.append(step)
        answer = self.spoil.get(step)
        if answer is None:
            known = step in GOOD
            body = json.dumps(GOOD.get(step, {"detail": "Not Found"})).encode()
            answer = json_answer(step, body) if known else response(body, "404 Not Found")
        writer.write(answer)
        await writer.drain()
        return True


@contextmanager
def odd_server() -> Iterator[OddServer]:
    """Run the server on a thread of its own."""
    odd = OddServer()
    with elsewhere(lambda request, writer: odd.respond(request, writer)) as server:
        assert isinstance(server, RawServer)
        odd.url = server.url
        yield odd


async def play(url: str, transport: str, **session: Any) -> None:
    """Ask for everything that `STEPS` names."""
    limits = RetryLimits(attempts=1, first_wait_s=0.01, longest_wait_s=0.02, starting_s=0.1, resume_s=0.1)
    async with Client(url, transport=transport, retry_limits=limits, request_timeout_s=5.0, idle_timeout_s=5.0) as client:
        environment = client.environment("env")
        await environment.splits()
        await environment.num_tasks("train")
        await environment.task("train", 0)
        await environment.tasks("train")
        await environment.task_range("train", 0, 1)
        async with environment.session(split="train", index=0, **session) as opened:
            await opened.messages()
            await opened.tools()
            await opened.call("go", {})
        async with environment.session(split="train", index=0, **session) as opened:
            await opened.prompt()


def error_of(url: str, transport: str, **session: Any) -> Exception | None:
    """The error that ends an episode."""
    try:
        asyncio.run(asyncio.wait_for(play(url, transport, **session), 20))
    except Exception as error:
        return error
    return None


# Odd JSON ----------------------------------------------------------------------------------------------------------------------

_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "\x00", "\n", "text", "image", "tool_result", 10**400, float("inf")])
)
FIELDS = (
    *(
        "type",
        "text",
        "data",
        "mimeType",
        "blocks",
        "role",
        "ok",
        "output",
        "reward",
        "finished",
        "tools",
        "name",
        "input_schema",
    ),
    *("sid", "tasks", "num_tasks", "task", "error", "reason", "is_error", "id", "tool_call_id", "input", "terminal_tool"),
    *("arg", "description", "supports_score_group", "message_block_types", "detail"),
)
_names = st.sampled_from(FIELDS)
json_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names | st.text(max_size=3), inner, max_size=4)
)
"""JSON with the standard's names in odd places."""


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside JSON, its own (the empty one) too."""
    paths = [path]
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        paths += leaves(inner, (*path, key))
    return paths


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """JSON with the value at `path` replaced."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@st.composite
def mutated_answers(draw: st.DrawFn) -> tuple[str, bytes]:
    """A step, and its good answer with one value replaced by odd JSON, or cut."""
    step = draw(st.sampled_from(STEPS))
    path = draw(st.sampled_from(leaves(GOOD[step])))
    body = json.dumps(replaced(GOOD[step], path, draw(json_values))).encode()
    if draw(st.integers(0, 4)) == 0:
        body = body[: draw(st.integers(0, len(body)))]
    return step, body


# Repeated secrets ---------------------------------------------------------------------------------------------------------------

ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": lambda text: json.dumps(text)[1:-1],
    "unicode escapes": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "some unicode escapes": lambda text: "".join(
        f"\\u{ord(letter):04X}" if place % 3 else letter for place, letter in enumerate(text)
    ),
    "url": lambda text: urllib.parse.quote(text, safe=""),
    "percent": lambda text: "".join(f"%{ord(letter):02X}" for letter in text),
    "html": html.escape,
    "entities": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "hex entities": lambda text: "".join(f"&#x{ord(letter):x};" for letter in text),
    "repr": lambda text: repr(text.encode()),
    "hex": lambda text: text.encode().hex(),
    "upper hex": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of a login": lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
    "twice": lambda text: json.dumps(json.dumps("".join(f"\\x{ord(letter):02x}" for letter in text))),
}
"""Ways in which a server may repeat a secret."""
secrets = st.text(
    st.sampled_from("abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-_./+&<\"'\\%"), min_size=16, max_size=40
)


@st.composite
def repeated(draw: st.DrawFn, secret: str) -> str:
    """A text that repeats a secret in some encoding, after a filler of some length, perhaps cut at either end."""
    text = ENCODINGS[draw(st.sampled_from(sorted(ENCODINGS)))](secret)
    if draw(st.booleans()):
        text = text[draw(st.integers(0, len(text) // 2)) :]
    elif draw(st.booleans()):
        text = text[: draw(st.integers(len(text) // 2, len(text)))]
    filler = draw(st.sampled_from([0, 1, 60, 150, 190, 198, 960, 990, 1000, 19_990]))
    return "." * filler + text + draw(st.sampled_from(["", " is not a key", "." * 500]))


@st.composite
def repeating_answers(draw: st.DrawFn, secret: str) -> tuple[str, bytes]:
    """A step, and an answer that repeats a secret: in its JSON, in a status with a detail, an address, a type or an event."""
    step, text = draw(st.sampled_from(STEPS)), draw(repeated(secret))
    kind = draw(
        st.sampled_from(["leaf", "leaf", "leaf", "cut", "name", "status", "page", "redirect", "type", "error", "id", "encoding"])
    )
    one_line = text.encode("ascii", "replace").replace(b"\n", b" ").decode()
    if kind == "leaf":
        path = draw(st.sampled_from(leaves(GOOD[step])))
        return step, json_answer(step, json.dumps(replaced(GOOD[step], path, text)).encode())
    if kind == "cut":
        whole = json.dumps({"a": text}).encode()
        return step, json_answer(step, whole[: draw(st.integers(1, len(whole)))])
    if kind == "name":
        return step, json_answer(step, json.dumps({text: GOOD[step]}).encode())
    if kind == "status":
        status = draw(
            st.sampled_from(["400 Bad Request", "401 Unauthorized", "404 Not Found", "422 No", "500 Error", "503 Busy"])
        )
        body = draw(st.sampled_from([{"detail": text}, {"message": {"x": text}}, {"detail": [{"input": text}]}, text]))
        return step, response(json.dumps(body).encode(), status)
    if kind == "page":
        return step, response(f"<html><b>{text}".encode(), "404 Not Found", "text/html")
    if kind == "redirect":
        target = draw(
            st.sampled_from([f"http://127.0.0.1:99999/{one_line}", f"http://h.invalid/?k={one_line}", f"http://[{one_line}"])
        )
        status = draw(st.sampled_from(["302 Found", "308 Permanent Redirect"]))
        return step, response(b"", status, headers=f"Location: {target}\r\n")
    if kind == "type":
        return step, response(b"x", kind=one_line)
    if kind == "encoding":
        return step, response(b"x", headers=f"Content-Encoding: {one_line}\r\n")
    if kind == "id":
        return step, events(("task_id", text.encode()), ("end", b"{}"))
    return step, events(("task_id", b"t1"), ("error", one_line.encode()))
