"""The errors for an address at which something else listens: a web server, or no HTTP server at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from openreward_gym.errors import ServerError, TransportError
from openreward_gym.protocol.client import Client

pytestmark = pytest.mark.anyio

PAGE = b"<!doctype html><title>404 Not Found</title><h1>Not Found</h1>"
WEB_SERVER = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
    len(PAGE),
    PAGE,
)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """The URL of a server that says the same to everything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("transport", ["fast", "httpx"])
async def test_a_web_server(transport: str) -> None:
    async with answering(WEB_SERVER) as url, Client(f"{url}/docs", transport=transport) as client:
        with pytest.raises(ServerError) as caught:
            await client.environment("weather").num_tasks("train")
    assert "404: an HTML page" in str(caught.value)
    assert f"Is there an Open Reward server at {url}/docs" in str(caught.value)
    assert "doctype" not in str(caught.value)


async def test_something_that_speaks_no_http() -> None:
    async with answering(b"SSH-2.0-OpenSSH_9.2\r\n") as url, Client(url) as client:
        with pytest.raises(TransportError, match=r"HTTP/1\.1"):
            await client.environment("weather").num_tasks("train")
