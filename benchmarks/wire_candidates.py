"""Libraries that wire.py compares with the fast transport: `--clients "fast;aiohttp;pyreqwest;limit"`."""

from __future__ import annotations

import json
from typing import Any

from wire_clients import Httpx, events


class Aiohttp(Httpx):
    """aiohttp without a limit of connections. Its session is made on the running event loop."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session: Any = None

    async def request(self, method: str, path: str, sid: str, body: bytes | None, accept: str) -> bytes:
        import aiohttp

        if self.session is None:
            self.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
            )
        headers = {"X-Session-ID": sid, "Accept": accept, "Content-Type": "application/json"}
        async with self.session.request(method, self.url + path, data=body, headers=headers) as response:
            response.raise_for_status()
            answer: bytes = await response.read()
            return answer

    async def post(self, path: str, sid: str, body: Any = None, stream: bool = False) -> Any:
        data = None if body is None else json.dumps(body).encode()
        answer = await self.request("POST", path, sid, data, "text/event-stream" if stream else "application/json")
        return events(answer) if stream else json.loads(answer)

    async def prompt(self, sid: str) -> Any:
        return json.loads(await self.request("GET", "/echo/prompt", sid, None, "application/json"))

    async def aclose(self) -> None:
        await self.session.close()


class Pyreqwest(Aiohttp):
    """pyreqwest: Rust's reqwest, in one separate thread."""

    def __init__(self, url: str) -> None:
        from pyreqwest.client import ClientBuilder

        self.url = url
        self.rust: Any = ClientBuilder().no_proxy().build()

    async def request(self, method: str, path: str, sid: str, body: bytes | None, accept: str) -> bytes:
        request = self.rust.get(self.url + path) if method == "GET" else self.rust.post(self.url + path)
        request = request.header("X-Session-ID", sid).header("Accept", accept).header("Content-Type", "application/json")
        response = await (request if body is None else request.body_bytes(body)).build().send()
        response.error_for_status()
        return bytes(await response.bytes())

    async def aclose(self) -> None:
        await self.rust.close()
