"""The fast transport: HTTP/1.1 over asyncio, for a thousand sessions in one process. docs/fast-wire.md describes it."""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import Any, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from openreward_gym.errors import ConfigurationError, TransportError
from openreward_gym.protocol.addresses import is_ip_address
from openreward_gym.protocol.connection import Connection
from openreward_gym.protocol.proxies import proxy_of
from openreward_gym.protocol.request import Headers, Request, Response, invalid_address_error, server_of, unreachable_error
from openreward_gym.protocol.tls import trusted_certificates
from openreward_gym.urls import Origin, origin_of

SWEEP_S = 0.25
"""Seconds between two checks of all deadlines: a time limit may be this much late."""
CLOSE_TIMEOUT_S = 1.0
"""Seconds that closing waits for requests in flight."""
MAX_TARGETS = 1024
"""Number of URLs whose encoded request line is cached."""
FALLBACK_DELAY_S = 0.25
"""Seconds after which the next address of a host name is tried in parallel (RFC 8305)."""
SAFE = "/%?=&:@!$'()*+,;~-._[]|"
"""Characters of a path that are not escaped."""


# The idle connections to one server, last in, first out, so that connections beyond the need time out.
Pool: TypeAlias = dict[Connection, None]


class FastTransport:
    """Pooled HTTP/1.1 connections over httptools' parser. It connects directly; for proxies, use httpx.

    Args:
        base_url: The server, for the repr. Requests may go to other servers, too.
        ssl_context: The trusted certificates. None trusts the system's and certifi's, or those of `SSL_CERT_FILE` and
            `SSL_CERT_DIR` if one is set.

    Example:
        >>> FastTransport("http://127.0.0.1:8080")
        <FastTransport to http://127.0.0.1:8080, 0 connections>
    """

    def __init__(self, base_url: str = "", *, ssl_context: ssl.SSLContext | None = None) -> None:
        self.base_url = base_url
        self._ssl_context = ssl_context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pools: dict[Origin, Pool] = {}
        self._targets: dict[tuple[str, str], tuple[Pool, bytes]] = {}
        self._alive: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0
        self._closed = False
        self._all_gone: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<FastTransport to {server_of(self.base_url)}, {len(self._alive)} connections>"

    async def send(self, request: Request) -> Response:
        """Send `request` and return its response; errors as `Transport.send`."""
        # asyncio itself refuses another loop's future. Looking up the running loop at each call costs a system call.
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        idle, line = self._targets.get((request.method, request.url)) or self._target(request)
        headers = request.headers if type(request.headers) is Headers else Headers(request.headers)
        if headers.wire is None:
            headers.encoded()
        now = loop.time()
        while idle:
            connection, _ = idle.popitem()
            if connection.usable(now):
                break
        else:
            connection = await self._connect(idle, request)
            now = loop.time()
        future: asyncio.Future[Response] = loop.create_future()
        # The encoded headers hold the key in the clear. They are not kept in a variable, which a traceback could show.
        connection.begin(request, line + headers.encoded(), future, now)
        try:
            return await future
        except BaseException:
            connection.abandon(future)
            raise

    async def aclose(self) -> None:
        """Close all connections. Requests in flight have a second to finish."""
        self._closed = True
        pending = [connection.pending for connection in self._alive if connection.pending is not None]
        if pending:
            await asyncio.wait(pending, timeout=CLOSE_TIMEOUT_S)
        for connection in list(self._alive):
            connection.fail(TransportError(f"the transport to {server_of(self.base_url)} was closed"))
        if self._alive:
            self._all_gone = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_gone], timeout=CLOSE_TIMEOUT_S)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _target(self, request: Request) -> tuple[Pool, bytes]:
        """Return the pool for a request's server, and the encoded request line with the headers that never change."""
        try:
            origin, line = origin_of(request.url), _request_line(request)
        except ValueError:
            line = b""
        if not line:
            raise invalid_address_error(request.url)
        if len(self._targets) >= MAX_TARGETS:
            self._targets.clear()
        target = self._pools.setdefault(origin, {}), line
        self._targets[request.method, request.url] = target
        return target

    async def _connect(self, idle: Pool, request: Request) -> Connection:
        origin = origin_of(request.url)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            raise ConfigurationError("this transport belongs to another event loop. Make one transport for each loop.")
        if self._closed:
            raise TransportError(f"the transport to {server_of(self.base_url)} is closed", delivery="not_sent", permanent=True)
        options: dict[str, Any] = {}
        if isinstance(loop, asyncio.BaseEventLoop) and not is_ip_address(origin.host):
            options["happy_eyeballs_delay"] = FALLBACK_DELAY_S
        try:
            if origin.scheme == "https":
                tls = {"ssl": self._context(), "server_hostname": origin.host, "ssl_shutdown_timeout": CLOSE_TIMEOUT_S}
                options.update(tls)
            async with asyncio.timeout(request.connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(idle, self._gone, loop), origin.host, origin.port, **options
                )
        except ConfigurationError:
            raise
        except (OSError, ValueError) as error:
            # ValueError: an invalid host name. TimeoutError is an OSError.
            problem = unreachable_error(request.url, error)
        else:
            self._adopt(connection, loop)
            return connection
        raise problem

    def _adopt(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._alive.add(connection)
        if self._closed:
            # The transport was closed meanwhile. The request fails as not sent.
            connection.close()
        elif self._sweeper is None:
            self._sweep_due = loop.time() + SWEEP_S
            self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    def _context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            # Made at the first connection: reading the certificates takes 50 ms.
            self._ssl_context = trusted_certificates()
            self._ssl_context.set_alpn_protocols(["http/1.1"])
        return self._ssl_context

    def _sweep(self) -> None:
        """Check all deadlines. One timer serves all connections, as long as there are any."""
        self._sweeper = None
        if not self._alive or self._loop is None:
            return
        # While the event loop is blocked, as by a trainer's step of a minute, it receives nothing: that is not the server's
        # silence. So a deadline is compared with the time at which this sweep was due.
        now, due = self._loop.time(), self._sweep_due
        for connection in list(self._alive):
            if connection.deadline <= due:
                connection.time_out(now)
        self._sweep_due = now + SWEEP_S
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def _gone(self, connection: Connection) -> None:
        self._alive.discard(connection)
        if self._all_gone is not None and not self._alive and not self._all_gone.done():
            self._all_gone.set_result(None)


def _request_line(request: Request) -> bytes:
    """Return the encoded request line with the headers that never change. Empty for an address that this transport cannot use."""
    parts = urlsplit(request.url)
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("http", "https") or not host or not host.isascii() or not host.isprintable() or " " in host:
        return b""
    path = quote(parts.path or "/", safe=SAFE) + (f"?{quote(parts.query, safe=SAFE)}" if parts.query else "")
    name = f"[{host}]" if ":" in host else host
    lines = [f"{request.method} {path} HTTP/1.1", f"Host: {name if parts.port is None else f'{name}:{parts.port}'}"]
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines.append(f"Authorization: Basic {base64.b64encode(login.encode()).decode('ascii')}")
    # Compressing costs the servers more than the loopback or a data centre's network saves, and delays event streams.
    lines.append("Accept-Encoding: identity")
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


def fast_obstacle(base_url: str) -> str:
    """Return the reason for which the fast transport cannot serve `base_url`. Empty if it can."""
    if not origin_of(base_url).host.isascii():
        return "the host name has characters that are not ASCII"
    return "a proxy is configured" if proxy_of(base_url) else ""
