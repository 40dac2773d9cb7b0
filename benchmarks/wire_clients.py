"""The clients that benchmarks/wire.py compares. Each plays complete episodes: create, prompt, ten calls, delete.

wire.py runs this file as a separate process, and sends the numbers of sessions and seconds to its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

CALLS = 10
REQUESTS = CALLS + 5
"""Requests per episode: two create the session, one gets the prompt, two delete the session."""
ARGUMENTS = {"text": "x" * 100}
RAMP = 0.2
"""The share of the time that is not measured, in which connections are made."""
GRACE_S = 5.0


@dataclass
class Tally:
    """Requests and latencies of the measured time."""

    requests: int = 0
    waits: list[float] = field(default_factory=list)
    over: bool = False

    async def of(self, work: Awaitable[Any], requests: int) -> Any:
        began = time.perf_counter()
        result = await work
        self.requests += requests
        if requests == 1:
            self.waits.append(time.perf_counter() - began)
        return result

    def of_sync(self, work: Callable[[], Any], requests: int) -> Any:
        began = time.perf_counter()
        result = work()
        self.requests += requests
        if requests == 1:
            self.waits.append(time.perf_counter() - began)
        return result


class AsyncPlayer(Protocol):
    async def episode(self, tally: Tally) -> None: ...

    async def aclose(self) -> None: ...


class Ours:
    def __init__(self, url: str, transport: str) -> None:
        from openreward_gym import Client

        self.client = Client(url, transport=transport)
        self.environment = self.client.environment("echo")

    async def episode(self, tally: Tally) -> None:
        session = self.environment.session(split="train", index=0)
        await tally.of(session.open(), 2)
        await tally.of(session.prompt(), 1)
        for _ in range(CALLS):
            if tally.over:
                break
            output = await tally.of(session.call("echo", ARGUMENTS), 1)
            assert output.text
        await tally.of(session.close(), 2)

    async def aclose(self) -> None:
        await self.client.aclose()


class Official:
    def __init__(self, url: str, variant: str | None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from openreward.api.environments import client as sdk
        self.api = sdk.AsyncEnvironmentsAPI(base_url=url, api_key="")
        self.environment = self.api.get("echo", variant=variant)

    async def episode(self, tally: Tally) -> None:
        session = self.environment.session(split="train", index=0)
        await tally.of(session.__aenter__(), 2)
        await tally.of(session.get_prompt(), 1)
        for _ in range(CALLS):
            if tally.over:
                break
            output = await tally.of(session.call_tool("echo", ARGUMENTS), 1)
            assert output.blocks
        await tally.of(session.__aexit__(None, None, None), 2)

    async def aclose(self) -> None:
        await self.api.aclose()


class Httpx:
    """httpx with only what an episode needs, and without limits of connections or time."""

    def __init__(self, url: str, over_aiohttp: bool) -> None:
        import httpx

        unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        if over_aiohttp:
            from httpx_aiohttp import AiohttpTransport

            carrier: Any = AiohttpTransport(limits=unlimited, trust_env=False)
        else:
            carrier = httpx.AsyncHTTPTransport(limits=unlimited, trust_env=False)
        self.client = httpx.AsyncClient(base_url=url, transport=carrier, timeout=None)

    async def post(self, path: str, sid: str, body: Any = None, stream: bool = False) -> Any:
        headers = {"X-Session-ID": sid} if sid else {}
        if stream:
            headers["Accept"] = "text/event-stream"
        response = await self.client.post(path, headers=headers, json=body)
        response.raise_for_status()
        return events(response.content) if stream else response.json()

    async def prompt(self, sid: str) -> Any:
        return (await self.client.get("/echo/prompt", headers={"X-Session-ID": sid})).json()

    async def create(self) -> str:
        sid: str = (await self.post("/create_session", "", {}, stream=True))[0]
        await self.post("/create", sid, {"split": "train", "index": 0})
        return sid

    async def delete(self, sid: str) -> None:
        await self.post("/delete", sid)
        await self.post("/delete_session", sid)

    async def episode(self, tally: Tally) -> None:
        sid = await tally.of(self.create(), 2)
        await tally.of(self.prompt(sid), 1)
        for _ in range(CALLS):
            if tally.over:
                break
            answer = await tally.of(self.post("/echo/call", sid, {"name": "echo", "input": ARGUMENTS}, stream=True), 1)
            assert json.loads(answer[1])["ok"]
        await tally.of(self.delete(sid), 2)

    async def aclose(self) -> None:
        await self.client.aclose()


def events(body: bytes) -> tuple[str, str]:
    """Return the session or task id of an event stream, and its result."""
    first, data = "", []
    for event in body.decode().replace("\r\n", "\n").split("\n\n"):
        kind, _, rest = event.partition("\n")
        value = rest.removeprefix("data:").removeprefix(" ")
        if kind == "event: task_id":
            first = value
        elif kind in ("event: chunk", "event: end"):
            data.append(value)
    return first, "".join(data)


class Bare(asyncio.Protocol):
    """The limit: writes prebuilt bytes and reads to the end of the answer. It decodes nothing except the session's id."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.waiting: asyncio.Future[bytes] | None = None
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.data:
            data = self.data + data
        if data.endswith(b"\r\n0\r\n\r\n") or self.sized(data):
            self.data = b""
            assert self.waiting is not None
            self.waiting.set_result(data)
        else:
            self.data = data

    def sized(self, data: bytes) -> bool:
        end = data.find(b"\r\n\r\n")
        at = data.find(b"content-length: ", 0, end)
        return at >= 0 and len(data) == end + 4 + int(data[at + 16 : data.index(b"\r", at)])

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.waiting


class Limit:
    def __init__(self, url: str) -> None:
        self.host, port = url.removeprefix("http://").split(":")
        self.port = int(port)
        self.free: list[Bare] = []

    async def episode(self, tally: Tally) -> None:
        loop = asyncio.get_running_loop()
        bare = self.free.pop() if self.free else (await loop.create_connection(Bare, self.host, self.port))[1]
        answer = await tally.of(bare.ask(self.bytes_of("POST /create_session", "", b"{}")), 1)
        at = answer.index(b"task_id") + 7
        sid = answer[answer.index(b"data:", at) + 5 :].split()[0].decode()
        await tally.of(bare.ask(self.bytes_of("POST /create", sid, b'{"split":"train","index":0}')), 1)
        await tally.of(bare.ask(self.bytes_of("GET /echo/prompt", sid)), 1)
        call = self.bytes_of("POST /echo/call", sid, json.dumps({"name": "echo", "input": ARGUMENTS}).encode())
        for _ in range(CALLS):
            if tally.over:
                break
            await tally.of(bare.ask(call), 1)
        await tally.of(bare.ask(self.bytes_of("POST /delete", sid, b"")), 1)
        await tally.of(bare.ask(self.bytes_of("POST /delete_session", sid, b"")), 1)
        self.free.append(bare)

    def bytes_of(self, line: str, sid: str, body: bytes | None = None) -> bytes:
        head = f"{line} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nX-Session-ID: {sid}\r\nAccept: text/event-stream\r\n"
        if body is None:
            return f"{head}\r\n".encode()
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def aclose(self) -> None:
        for bare in self.free:
            bare.transport.close()


def candidate(name: str, url: str) -> AsyncPlayer:
    import wire_candidates

    player: AsyncPlayer = getattr(wire_candidates, name)(url)
    return player


ASYNC: dict[str, Callable[[str], AsyncPlayer]] = {
    "fast": lambda url: Ours(url, "fast"),
    "httpx transport": lambda url: Ours(url, "httpx"),
    "official async": lambda url: Official(url, None),
    "official async, variant": lambda url: Official(url, "echo"),
    "plain httpx": lambda url: Httpx(url, over_aiohttp=False),
    "httpx over aiohttp": lambda url: Httpx(url, over_aiohttp=True),
    "limit": Limit,
    # Compared on request only: the libraries that the fast transport was chosen from.
    "aiohttp": lambda url: candidate("Aiohttp", url),
    "pyreqwest": lambda url: candidate("Pyreqwest", url),
}
SYNC = "official sync"
NAMES = [*list(ASYNC)[:4], SYNC, *list(ASYNC)[4:7]]
ALL_NAMES = [*NAMES, "aiohttp", "pyreqwest"]


def used_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def report(tally: Tally, seconds: float, cpu_s: float, imports_mib: float) -> dict[str, float]:
    waits = sorted(tally.waits) or [float("nan")]
    return {
        "rate": tally.requests / seconds,
        "cpu_us": cpu_s / max(tally.requests, 1) * 1e6,
        "p50_ms": waits[len(waits) // 2] * 1e3,
        "p99_ms": waits[min(int(len(waits) * 0.99), len(waits) - 1)] * 1e3,
        "rss_mib": resident_mib(),
        "above_mib": resident_mib() - imports_mib,
    }


class Window:
    """The measured time of a run."""

    def __init__(self, tally: Tally, imports_mib: float) -> None:
        self.tally, self.imports_mib = tally, imports_mib

    def begin(self) -> None:
        self.tally.requests = 0
        self.tally.waits.clear()
        self.began, self.cpu_s = time.perf_counter(), used_s()
        send({"window": "open"})

    def end(self) -> dict[str, float]:
        send({"window": "closed"})
        figures = report(self.tally, time.perf_counter() - self.began, used_s() - self.cpu_s, self.imports_mib)
        self.tally.over = True
        return figures


async def play_async(player: AsyncPlayer, sessions: int, seconds: float, imports_mib: float) -> bool:
    """Play, send the figures, and end the running episodes. Return False if some do not end in time."""
    tally = Tally()
    window = Window(tally, imports_mib)

    async def work() -> None:
        while not tally.over:
            await player.episode(tally)

    workers = [asyncio.create_task(work()) for _ in range(sessions)]
    await asyncio.sleep(seconds * RAMP)
    window.begin()
    await asyncio.sleep(seconds)
    figures = window.end()
    ended, late = await asyncio.wait(workers, timeout=GRACE_S)
    for worker in ended:
        worker.result()
    send(figures)
    return not late


def play_sync(environment: Any, sessions: int, seconds: float, imports_mib: float) -> bool:
    tally = Tally()
    window = Window(tally, imports_mib)

    def work() -> None:
        while not tally.over:
            episode(environment.session(split="train", index=0))

    def episode(session: Any) -> None:
        tally.of_sync(session.__enter__, 2)
        tally.of_sync(session.get_prompt, 1)
        for _ in range(CALLS):
            if tally.over:
                break
            assert tally.of_sync(lambda: session.call_tool("echo", ARGUMENTS), 1).blocks
        tally.of_sync(lambda: session.__exit__(None, None, None), 2)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(sessions)]
    for thread in threads:
        thread.start()
    time.sleep(seconds * RAMP)
    window.begin()
    time.sleep(seconds)
    figures = window.end()
    ends = time.monotonic() + GRACE_S
    for thread in threads:
        thread.join(max(ends - time.monotonic(), 0))
    send(figures)
    return not any(thread.is_alive() for thread in threads)


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def serve_async(name: str, url: str) -> None:
    player = ASYNC[name](url)
    imports_mib = resident_mib()
    send({"ready": imports_mib})
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        if not await play_async(player, command["sessions"], command["seconds"], imports_mib):
            # Starting a new process is faster than waiting for them.
            os._exit(0)
        send({"ready": 0})
    await player.aclose()


def serve_sync(url: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from openreward.api.environments import client as sdk
    with sdk.EnvironmentsAPI(base_url=url, api_key="") as api:
        environment = api.get("echo", variant=None)
        imports_mib = resident_mib()
        send({"ready": imports_mib})
        while line := sys.stdin.readline():
            command = json.loads(line)
            if not play_sync(environment, command["sessions"], command["seconds"], imports_mib):
                os._exit(0)
            send({"ready": 0})


if __name__ == "__main__":
    chosen, address, loop = sys.argv[1:4]
    if chosen == SYNC:
        serve_sync(address)
    elif loop == "uvloop":
        import uvloop

        uvloop.run(serve_async(chosen, address))
    else:
        asyncio.run(serve_async(chosen, address))
