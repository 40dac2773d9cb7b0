"""An Open Reward server with injectable faults: plain asyncio, real sockets, and counts of what it executed.

    async with FaultServer() as server:
        server.inject("/call", Fault("cut", at="task_id"))      # the next call's stream breaks after its task_id
        ... use server.url ...
        assert server.executed["step"] == 1

Sync tests and threads use `with running() as server:`, which serves from its own thread.

It has one environment, `fault` (the default), with the tools `step` (counts), `slow` (takes `seconds`), `big` (gives `size`
characters) and `fail` (raises).
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import struct
import threading
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

CHUNK = 4096
STATUS_WORDS = {200: "OK", 308: "Permanent Redirect", 404: "Not Found", 410: "Gone", 500: "Internal Server Error"}
OF_A_SESSION = ("/call", "/score_group", "/prompt", "/messages", "/task_tools", "/ping")
TEXT = "é🦊  two blanks, a line\u2028separator"


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        kind: `cut`, `status`, `answer` (a 200 with `detail` as its body), or a shape of the answer: `html`, `wrong_type`,
            `gzip`, `one_byte`, `duplicated`, `slow_head`, `redirect_loop`, `redirect_away`, `not_json`, `invalid_utf8`,
            `line_ends`; `delay` (by `seconds`, before anything runs, even if the client is gone); for
            resumed calls `forget` (the task is unknown) and `second_run` (a new run instead of the old).
        at: The position of a `cut`: `request` (nothing ran yet), `answer` (it ran, nothing was sent), `head` (the head was sent),
            `task_id`, `chunk`, `utf8` (inside a character), `end` (everything but the end), `after` (all was sent, but not
            that it was all).
        how: The kind of a `cut`: `reset`, `close` (cleanly) or `stall` (silence).
        status, headers: Of a `status`.
        executed: True if a `status` comes after the request was executed.
    """

    kind: str
    at: str = ""
    how: str = "reset"
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    executed: bool = False
    detail: str = "injected"
    seconds: float = 0.0


@dataclass
class _Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    route: str


class _Hang(Exception):
    """The connection stays open and silent."""


class FaultServer:
    """A server whose answers can be spoiled with `inject`, `refuse_after` and `reset_after`.

    Attributes:
        executed: The number of runs: tools by name, `prompt`, `create`, `create_session`, `delete`, `score_group`.
        requests: All requests in the order of their arrival.
        sessions: The ids of the environments that live.
        machines: The ids of the sessions that were created and not deleted.
        pings: Pings by session.
        texts_alone: Whether prompts and outputs are texts, without a block of an unknown type.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.executed: Counter[str] = Counter()
        self.requests: list[_Request] = []
        self.sessions: set[str] = set()
        self.machines: set[str] = set()
        self.runs: dict[str, str | Exception] = {}
        self.pings: Counter[str] = Counter()
        self.port = 0
        self.texts_alone = False
        self._stopped = False
        self._tls = tls
        self._faults: dict[str, deque[tuple[Fault, int]]] = defaultdict(deque)
        self._reset_connections = 0
        self._before_next: dict[str, tuple[str, float]] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def inject(self, route: str, fault: Fault, times: int = 1) -> None:
        """Answer the next `times` requests of `route` (the path without the environment) with `fault`."""
        self._faults[route].append((fault, times))

    def refuse_after(self, route: str, seconds: float) -> None:
        """Once `route` was answered, refuse connections for `seconds`."""
        self._before_next[route] = ("refuse", seconds)

    def reset_after(self, route: str, times: int = 1) -> None:
        """Once `route` was answered, reset the next `times` connections before anything is read from them."""
        self._before_next[route] = ("reset", times)

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stopped = True
        await self.refuse()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Close all connections and stop listening, so that new connections are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._drop_connections()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    def _drop_connections(self) -> None:
        for task in self._tasks:
            task.cancel()

    # HTTP -----------------------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._reset_connections > 0:
                self._reset_connections -= 1
                _reset(writer)
                return
            while (request := await self._read(reader)) is not None:
                self.requests.append(request)
                last = self._prepare_trouble(request.route)
                try:
                    if not await self._answer(request, writer) or last:
                        return
                except _Hang:
                    await reader.read()
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    def _prepare_trouble(self, route: str) -> bool:
        """Apply a pending `refuse_after` or `reset_after` of this route. Return True if this connection ends with the request."""
        trouble, amount = self._before_next.pop(route, ("", 0.0))
        if trouble == "reset":
            self._reset_connections = int(amount)
        elif trouble == "refuse" and self._server is not None:
            self._server.close()
            self._server = None
            loop = asyncio.get_running_loop()
            loop.call_later(amount, lambda: self._tasks.add(loop.create_task(self._listen_again())))
        return bool(trouble)

    async def _listen_again(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        if not self._stopped:
            await self.listen()
        self._tasks.discard(task)

    async def _read(self, reader: asyncio.StreamReader) -> _Request | None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        path = urlsplit(target).path
        route = path.removeprefix("/fault") or "/"
        return _Request(method, path, headers, json.loads(body) if body else None, route)

    def _next_fault(self, route: str) -> Fault | None:
        waiting = self._faults[route]
        if not waiting:
            return None
        fault, times = waiting.popleft()
        if times > 1:
            waiting.appendleft((fault, times - 1))
        return fault

    async def _answer(self, request: _Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. Return False if the connection is over."""
        fault = self._next_fault(request.route)
        if fault is not None and fault.kind == "status":
            if fault.executed:
                await self._execute(request)
            head = {"Content-Type": "application/json", **fault.headers}
            return await _write(writer, fault.status, head, json.dumps({"detail": fault.detail}).encode())
        if fault is not None and fault.kind == "answer":
            return await _write(writer, 200, {"Content-Type": "text/event-stream", **fault.headers}, fault.detail.encode())
        if fault is not None and fault.kind == "redirect_loop":
            return await _write(writer, 308, {"Location": f"{request.path}"}, b"")
        if fault is not None and fault.kind == "redirect_away":
            return await _write(writer, 308, {"Location": f"http://localhost:{self.port}{request.path}"}, b"")
        if fault is not None and fault.kind == "html":
            await self._execute(request)
            return await _write(writer, 200, {"Content-Type": "text/html"}, b"<html>Sign in</html>")
        if fault is not None and fault.kind == "cut" and fault.at == "request":
            return _cut(writer, fault)
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind in ("forget", "second_run"):
            self._lose_the_run(request, fault)
        status, body, streamed = await self._execute(request)
        if fault is not None and fault.kind == "cut" and fault.at == "answer":
            return _cut(writer, fault)
        return await self._send(writer, status, body, streamed, fault)

    def _lose_the_run(self, request: _Request, fault: Fault) -> None:
        task_id = request.body.get("task_id") if isinstance(request.body, dict) else None
        if task_id is not None:
            self.runs.pop(task_id, None)
            if fault.kind == "second_run":
                del request.body["task_id"]

    async def _send(self, writer: asyncio.StreamWriter, status: int, body: bytes, streamed: bool, fault: Fault | None) -> bool:
        kind = fault.kind if fault else ""
        if kind == "not_json":
            body = body.replace(b'{"', b"{'").replace(b"[", b"(")
        elif kind == "invalid_utf8":
            body = body.replace(b'"text"', b'"te\xff\xfext"')
        elif kind == "duplicated" and streamed:
            body = b"".join(event * 2 if not event.startswith(b"event: chunk") else event for event in _events(body))
        elif kind == "line_ends" and streamed:
            body = b"\xef\xbb\xbf" + body.replace(b"\n\n", b"\r\n\r").replace(b"\ndata", b"\rdata")
        headers = {"Content-Type": "text/event-stream" if streamed else "application/json"}
        if kind == "wrong_type":
            headers["Content-Type"] = "application/octet-stream"
        if kind == "gzip":
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body)
        if kind == "slow_head":
            head = _head(status, {**headers, "Content-Length": str(len(body))})
            for start in range(0, len(head), 16):
                writer.write(head[start : start + 16])
                await writer.drain()
                await asyncio.sleep(0.001)
            writer.write(body)
            await writer.drain()
            return True
        if kind == "cut" and fault is not None and fault.at == "after":
            writer.write(_head(status, {**headers, "Transfer-Encoding": "chunked"}) + b"%x\r\n%s\r\n" % (len(body), body))
            await writer.drain()
            return _cut(writer, fault)
        if kind == "cut" and fault is not None:
            cut = _cut_position(body, fault.at)
            if fault.how == "close":
                # For HTTP this is a clean end.
                return await _write(writer, status, headers, body[:cut])
            writer.write(_head(status, {**headers, "Content-Length": str(len(body))}) + body[:cut])
            await writer.drain()
            return _cut(writer, fault)
        return await _write(writer, status, headers, body, piece=1 if kind == "one_byte" else CHUNK)

    # The standard ---------------------------------------------------------------------------------------------------------

    async def _execute(self, request: _Request) -> tuple[int, bytes, bool]:
        """Return the status, the body, and True if the body is an event stream."""
        sid = request.headers.get("x-session-id", "")
        if (
            request.route in ("/call", "/score_group", "/prompt", "/messages", "/task_tools", "/ping")
            and sid not in self.sessions
        ):
            return _json({"detail": "Active environment not found"}, 404)
        handler = getattr(self, f"_do{request.route.replace('/', '_')}", None)
        if handler is None:
            return _json({"detail": "Not Found"}, 404)
        answer = handler(request, sid)
        if isinstance(answer, tuple):
            return answer
        if asyncio.iscoroutine(answer):
            return 200, await answer, True
        return _json(answer)

    def _do_health(self, request: _Request, sid: str) -> Any:
        return {"status": "ok"}

    def _do_version(self, request: _Request, sid: str) -> Any:
        return {"version": "fault"}

    def _do_list_environments(self, request: _Request, sid: str) -> Any:
        return ["fault"]

    def _do_splits(self, request: _Request, sid: str) -> Any:
        return [{"name": "train", "type": "train", "colour": "red"}]

    def _do_num_tasks(self, request: _Request, sid: str) -> Any:
        return {"num_tasks": 3}

    def _do_task(self, request: _Request, sid: str) -> Any:
        return {"task": {"number": request.body["index"]}}

    def _do_tools(self, request: _Request, sid: str) -> Any:
        names = ("step", "slow", "big", "fail")
        return {"tools": [{"name": name, "description": "", "input_schema": None} for name in names], "colour": "red"}

    _do_task_tools = _do_tools

    def _do_create_session(self, request: _Request, sid: str) -> Any:
        self.executed["create_session"] += 1
        fresh = str(uuid.uuid4())
        self.machines.add(fresh)
        return 200, _event("task_id", fresh) + _event("end", ""), True

    def _do_create(self, request: _Request, sid: str) -> Any:
        if sid in self.sessions:
            return _json({"detail": "Session already exists"}, 400)
        self.executed["create"] += 1
        self.sessions.add(sid)
        return {"sid": sid}

    def _do_delete(self, request: _Request, sid: str) -> Any:
        self.executed["delete"] += sid in self.sessions
        self.sessions.discard(sid)
        return {"sid": sid}

    def _do_delete_session(self, request: _Request, sid: str) -> Any:
        self.machines.discard(sid)
        return {"sid": sid}

    def _do_ping(self, request: _Request, sid: str) -> Any:
        self.pings[sid] += 1
        return {"status": "ok"}

    def _do_prompt(self, request: _Request, sid: str) -> Any:
        self.executed["prompt"] += 1
        unknown = {"type": "hologram", "depth": 3}
        text = {"type": "text", "text": TEXT, "detail": None, "colour": "red"}
        return [text] if self.texts_alone else [text, unknown]

    async def _do_call(self, request: _Request, sid: str) -> bytes:
        return await self._run(request.body, lambda: self._tool(request.body["name"], request.body["input"]))

    async def _do_score_group(self, request: _Request, sid: str) -> bytes:
        async def score() -> str:
            self.executed["score_group"] += 1
            return json.dumps({"scores": [{"reward": 1.0, "metadata": None} for _ in request.body["candidates"]]})

        return await self._run(request.body, score)

    async def _run(self, body: Any, work: Any) -> bytes:
        """Return the event stream of a new run, or of the run that the body names."""
        task_id = body.get("task_id")
        if task_id is None:
            task_id = uuid.uuid4().hex
            try:
                self.runs[task_id] = await work()
            except ValueError as error:
                self.runs[task_id] = error
        if task_id not in self.runs:
            return _event("error", "unknown task_id")
        result = self.runs[task_id]
        if isinstance(result, Exception):
            return _event("task_id", task_id) + _event("error", str(result))
        pieces = [result[start : start + CHUNK] for start in range(0, len(result), CHUNK)]
        chunks = b"".join(_event("chunk", piece) for piece in pieces[:-1])
        return _event("task_id", task_id) + b": keep-alive\n\n" + chunks + _event("end", pieces[-1])

    async def _tool(self, name: str, arguments: Mapping[str, Any]) -> str:
        self.executed[name] += 1
        if name == "slow":
            await asyncio.sleep(float(arguments["seconds"]))
        if name == "fail":
            raise ValueError("the tool failed")
        text = "x" * int(arguments["size"]) if name == "big" else TEXT * 150
        block = {"type": "text", "text": text, "detail": None, "colour": "red"}
        blocks = [block] if self.texts_alone else [block, {"type": "hologram"}]
        output = {"blocks": blocks, "metadata": {"n": self.executed[name]}, "reward": 1, "finished": False}
        return json.dumps({"ok": True, "output": {**output, "colour": "red"}, "colour": "red"}, ensure_ascii=False)


@contextmanager
def running(tls: ssl.SSLContext | None = None, kind: type[FaultServer] | None = None) -> Iterator[FaultServer]:
    """Run a fault server, or one of a kind of your own, in its own thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = (kind or FaultServer)(tls)
    asyncio.run_coroutine_threadsafe(server.listen(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.refuse(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _json(value: Any, status: int = 200) -> tuple[int, bytes, bool]:
    return status, json.dumps(value, ensure_ascii=False).encode(), False


def _event(kind: str, data: str) -> bytes:
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _events(body: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in body.split(b"\n\n")[:-1]]


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {STATUS_WORDS.get(status, 'Status')}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _write(writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str], body: bytes, piece: int = CHUNK) -> bool:
    writer.write(_head(status, {**headers, "Transfer-Encoding": "chunked"}))
    for start in range(0, len(body), piece):
        part = body[start : start + piece]
        writer.write(b"%x\r\n%s\r\n" % (len(part), part))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


def _cut_position(body: bytes, at: str) -> int:
    first = body.find(b"\n\n") + 2
    if at == "head":
        return 0
    if at == "task_id" and first > 1:
        return first
    if at == "utf8" and "🦊".encode() in body:
        return body.index("🦊".encode()) + 2
    if at == "end" and b"event: end" in body:
        return body.rindex(b"event: end")
    return (first + len(body)) // 2


def _cut(writer: asyncio.StreamWriter, fault: Fault) -> bool:
    if fault.how == "stall":
        raise _Hang
    if fault.how == "reset":
        _reset(writer)
    return False


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close the connection with a reset."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
