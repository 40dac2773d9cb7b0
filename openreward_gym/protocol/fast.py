"""The fast transport: HTTP/1.1 over asyncio, for a thousand sessions in one process. How it works: docs/fast-wire.md."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from openreward_gym.errors import ConfigurationError, TransportError
from openreward_gym.protocol.addresses import origin_of
from openreward_gym.protocol.connection import Connection
from openreward_gym.protocol.request import Headers, Request, Response, shown, unreachable

__all__ = ["FastTransport", "why_not"]

SWEEP_S = 0.25
"""Seconds between two looks at all deadlines: a time limit may be this much late."""
REST_S = 1.0
"""How long closing waits for requests that are under way."""
MOST_TARGETS = 1024
"""How many addresses are remembered with their encoded request line."""
FALLBACK_DELAY_S = 0.25
"""Seconds after which a name's next address is tried beside the one that does not answer (RFC 8305)."""
SAFE = "/%?=&:@!$'()*+,;~-._[]|"
"""What stays as it is in a path."""


@dataclass(slots=True)
class _Origin:
    """One server, and its idle connections: the one that was used last is used next, so that the others can end."""

    scheme: str
    host: str
    port: int
    idle: dict[Connection, None] = field(default_factory=dict)


class FastTransport:
    """Pooled connections over httptools' parser. Speaks to every server directly; for proxies there is httpx.

    Args:
        base_url: The server that will be asked. It may be asked for others too.
        ssl_context: What certificates are trusted; None for the system's and certifi's, or those of `SSL_CERT_FILE` and
            `SSL_CERT_DIR` where one is set.
    """

    def __init__(self, base_url: str = "", *, ssl_context: ssl.SSLContext | None = None) -> None:
        self.base_url = base_url
        self._ssl_context = ssl_context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._origins: dict[tuple[str, str, int], _Origin] = {}
        self._targets: dict[tuple[str, str], tuple[_Origin, bytes]] = {}
        self._alive: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0
        self._closed = False
        self._empty: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<FastTransport to {shown(self.base_url)}, {len(self._alive)} connections>"

    async def send(self, request: Request) -> Response:
        # asyncio itself refuses to wait for another loop's future: asking for the running loop at each call costs a system call.
        loop = self._loop or self._settle()
        origin, line = self._targets.get((request.method, request.url)) or self._target(request)
        headers = request.headers if type(request.headers) is Headers else Headers(request.headers)
        if headers.wire is None:
            headers.encoded()
        now = loop.time()
        idle = origin.idle
        while idle:
            connection, _ = idle.popitem()
            if connection.usable(now):
                break
        else:
            connection = await self._connect(origin, request)
            now = loop.time()
        future: asyncio.Future[Response] = loop.create_future()
        # The encoded headers hold the key in the clear, and are no variable here: a traceback shows this frame.
        connection.begin(request, line + headers.encoded(), future, now)
        try:
            return await future
        except BaseException:
            connection.give_up(future)
            raise

    async def aclose(self) -> None:
        self._closed = True
        pending = [connection.pending for connection in self._alive if connection.pending is not None]
        if pending:
            await asyncio.wait(pending, timeout=REST_S)
        for connection in list(self._alive):
            connection.fail(TransportError(f"the transport to {shown(self.base_url)} was closed"))
        if self._alive:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=REST_S)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _settle(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        return self._loop

    # Where to -------------------------------------------------------------------------------------------------------------

    def _target(self, request: Request) -> tuple[_Origin, bytes]:
        """The server of a request, and its request line and headers that do not change."""
        scheme, host, port = place = origin_of(request.url)
        if scheme not in ("http", "https") or not host or not host.isascii():
            problem = f"{shown(request.url)} is not an address that the fast transport can use"
            raise TransportError(problem, delivery="not_sent", permanent=True)
        parts = urlsplit(request.url)
        path = quote(parts.path or "/", safe=SAFE) + (f"?{quote(parts.query, safe=SAFE)}" if parts.query else "")
        name = f"[{host}]" if ":" in host else host
        lines = [f"{request.method} {path} HTTP/1.1", f"Host: {name if parts.port is None else f'{name}:{port}'}"]
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            lines.append(f"Authorization: Basic {base64.b64encode(login.encode()).decode('ascii')}")
        # Compressing costs the servers more than the loopback or a data centre's network saves, and delays event streams.
        lines.append("Accept-Encoding: identity")
        origin = self._origins.setdefault(place, _Origin(scheme, host, port))
        if len(self._targets) >= MOST_TARGETS:
            self._targets.clear()
        found = self._targets[request.method, request.url] = (origin, ("\r\n".join(lines) + "\r\n").encode("ascii"))
        return found

    async def _connect(self, origin: _Origin, request: Request) -> Connection:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            raise ConfigurationError("this transport belongs to another event loop: make one for each")
        if self._closed:
            raise TransportError(f"the transport to {shown(self.base_url)} is closed", delivery="not_sent", permanent=True)
        options: dict[str, Any] = {}
        if origin.scheme == "https":
            options = {"ssl": self._context(), "server_hostname": origin.host, "ssl_shutdown_timeout": REST_S}
        if isinstance(loop, asyncio.BaseEventLoop) and not _is_address(origin.host):
            options["happy_eyeballs_delay"] = FALLBACK_DELAY_S
        try:
            async with asyncio.timeout(request.connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(origin.idle, self._gone, loop), origin.host, origin.port, **options
                )
        except (OSError, UnicodeError) as error:
            # UnicodeError: a host that no name can be. TimeoutError is an OSError.
            problem = unreachable(request.url, error)
        else:
            self._adopt(connection, loop)
            return connection
        raise problem

    def _adopt(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._alive.add(connection)
        if self._closed:
            # While it was made. What it should have carried is told that nothing was sent.
            connection.close()
        elif self._sweeper is None:
            self._sweep_due = loop.time() + SWEEP_S
            self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    def _context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            # Made at the first connection: reading the certificates takes 50 ms.
            self._ssl_context = context = ssl.create_default_context()
            context.set_alpn_protocols(["http/1.1"])
            if not (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")):
                context.load_verify_locations(certifi.where())
        return self._ssl_context

    # Time and end ---------------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Look at all deadlines. One timer for all connections; none where there is none."""
        self._sweeper = None
        if not self._alive or self._loop is None:
            return
        # An event loop that was blocked (a trainer's step of a minute) heard nothing meanwhile, and that is nobody's silence: a
        # deadline counts from the next sweep after it.
        now, due = self._loop.time(), self._sweep_due
        for connection in list(self._alive):
            if connection.deadline <= due:
                connection.overdue(now)
        self._sweep_due = now + SWEEP_S
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def _gone(self, connection: Connection) -> None:
        self._alive.discard(connection)
        if self._empty is not None and not self._alive and not self._empty.done():
            self._empty.set_result(None)


def why_not(base_url: str) -> str:
    """What stands between the fast transport and `base_url`; empty where nothing does."""
    scheme, host, _ = origin_of(base_url)
    if not host.isascii():
        return "the host's name has letters beyond ASCII"
    if host in ("localhost", "127.0.0.1", "::1"):
        # No proxy stands between this machine and itself.
        return ""
    proxies = getproxies()
    if (scheme in proxies or "all" in proxies) and not proxy_bypass(host):
        return "a proxy is configured"
    return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
