"""A server that sends the bytes of a script, valid HTTP or not.

async with RawServer(script) as server:
    ... `script(request, writer)` is called for every complete request, and returns True to keep the connection.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeAlias


@dataclass(frozen=True)
class RawRequest:
    """A request: its first line, its headers by lower-case name, its body, and the number of its connection from 0."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int


Script: TypeAlias = Callable[[RawRequest, asyncio.StreamWriter], Awaitable[bool]]


class RawServer:
    """A server that runs a script for each request.

    Attributes:
        requests: All requests in the order of their arrival.
        connections: The number of connections.
        ended: The number of connections that the client has closed.
    """

    def __init__(self, script: Script, *, reads_bodies: bool = True) -> None:
        self.requests: list[RawRequest] = []
        self.connections = 0
        self.ended = 0
        self.port = 0
        self._script = script
        self._reads_bodies = reads_bodies
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number, self.connections = self.connections, self.connections + 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                fields = (line.partition(":") for line in head[1:] if line)
                headers = {name.lower(): value.strip() for name, _, value in fields}
                body = await reader.readexactly(int(headers.get("content-length", 0))) if self._reads_bodies else b""
                request = RawRequest(head[0], headers, body, number)
                self.requests.append(request)
                if not await self._script(request, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            self.ended += 1
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


@contextmanager
def elsewhere(script: Script) -> Iterator[RawServer]:
    """Run a server on its own event loop and thread, so that it works while the client's event loop is blocked."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = RawServer(script)
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
