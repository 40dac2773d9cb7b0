"""How bytes travel: one small interface, and who is behind it. The only module that knows httpx.

A transport sends one request and returns one response. It follows no redirect, retries nothing and decides nothing; it says
in its errors whether the server can have seen the request, because that decides whether it may be sent again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache, partial
from typing import Any, TypeAlias

import httpx

from openreward_gym.errors import ConfigurationError, TransportError, TransportTimeoutError
from openreward_gym.protocol.addresses import origin_of
from openreward_gym.protocol.fast import FastTransport, why_not
from openreward_gym.protocol.request import Request, Response, Sink, Transport, broken, shown, silent, unreachable
from openreward_gym.protocol.wire import Secret

__all__ = [
    "TRANSPORTS",
    "ASGIApp",
    "FastTransport",
    "HttpxTransport",
    "Request",
    "Response",
    "Sink",
    "Transport",
    "TransportLike",
    "check_transport",
    "make_transport",
]

log = logging.getLogger("openreward_gym")

ASGIApp: TypeAlias = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]
"""An ASGI application, called in this process."""


TransportLike: TypeAlias = "str | httpx.AsyncClient | ASGIApp | Transport"


class HttpxTransport:
    """httpx with limits of our own: as many connections as there are sessions, and no timeout that a slow tool can hit.

    httpx looks through all connections of a client at each request, which is nearly all it does at 256 sessions. So each of our
    clients has one request under way at most, and one connection.

    Args:
        base_url: The server that will be asked; only used to see whether proxies apply.
        client: A client of the caller's, used as it is and not closed; None makes one.
        app: An ASGI application to call instead of a server; its responses arrive whole.
    """

    # uvicorn, the reference servers' HTTP server, closes a connection that was idle for 5 s. A request that crosses that
    # close on the wire is lost in a way that looks like a lost result; so we close first.
    KEEP_ALIVE_S = 4.0
    # A result's last piece and the end of its body arrive together. Reading to the end lets the connection be used again;
    # a server that keeps the body open for longer only costs that connection.
    DRAIN_S = 0.25
    # How long closing waits for requests that are under way.
    REST_S = 1.0

    def __init__(self, base_url: str = "", *, client: httpx.AsyncClient | None = None, app: ASGIApp | None = None) -> None:
        self._buffered = app is not None
        self._given = client
        self._make = partial(httpx.AsyncClient, transport=_asgi(app)) if app is not None else _client_maker(base_url)
        self._clients: list[httpx.AsyncClient] = []
        # Those that have nothing under way; the last one used is the next one used, so that the others' connections can end.
        self._free: list[httpx.AsyncClient] = []
        self._under_way = 0
        self._at_rest = asyncio.Event()

    async def send(self, request: Request) -> Response:
        failure: TransportError
        client = self._given or (self._free.pop() if self._free else self._another())
        self._under_way += 1
        try:
            return await self._exchange(client, request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = unreachable(request.url, error)
        except httpx.PoolTimeout:
            failure = TransportTimeoutError(f"no free connection to {shown(request.url)} in time", delivery="not_sent")
        except httpx.UnsupportedProtocol as error:
            failure = TransportError(f"{shown(request.url)}: {error}", delivery="not_sent", permanent=True)
        except (httpx.TimeoutException, TimeoutError):
            failure = TransportTimeoutError(silent(request.url))
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            failure = broken(request.url, error)
        finally:
            if client is not self._given:
                self._free.append(client)
            self._under_way -= 1
            if not self._under_way:
                self._at_rest.set()
        # Raised out here, so that no traceback keeps the HTTP library's frames, whose variables hold the headers.
        raise failure

    async def aclose(self) -> None:
        if self._given is not None:
            return
        if self._under_way:
            # A request that is still connecting would open its connection into a closed pool, where nobody closes it.
            self._at_rest.clear()
            try:
                await asyncio.wait_for(self._at_rest.wait(), self.REST_S)
            except TimeoutError:
                pass
        for client in self._clients:
            await client.aclose()

    def _another(self) -> httpx.AsyncClient:
        client = self._make()
        self._clients.append(client)
        return client

    async def _exchange(self, client: httpx.AsyncClient, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        timeout = httpx.Timeout(None, connect=request.connect_timeout_s)
        async with asyncio.timeout(None if self._buffered else request.first_byte_timeout_s) as limit:
            response = await client.send(
                client.build_request(
                    request.method,
                    request.url,
                    headers={k: v.reveal() if isinstance(v, Secret) else v for k, v in request.headers.items()},
                    content=request.body,
                    timeout=timeout,
                ),
                stream=True,
                follow_redirects=False,
            )
            try:
                limit.reschedule(loop.time() + request.idle_timeout_s)
                headers = {name.lower(): value for name, value in response.headers.items()}
                if request.sink is None or response.status_code != 200:
                    pieces: list[bytes] = []
                    async for piece in response.aiter_bytes():
                        pieces.append(piece)
                        limit.reschedule(loop.time() + request.idle_timeout_s)
                    return Response(response.status_code, headers, b"".join(pieces))
                done = False
                async for piece in response.aiter_bytes():
                    if not done:
                        done = request.sink(piece)
                        limit.reschedule(loop.time() + (self.DRAIN_S if done else request.idle_timeout_s))
                return Response(response.status_code, headers)
            finally:
                await response.aclose()


def _asgi(app: ASGIApp) -> httpx.AsyncBaseTransport:
    return httpx.ASGITransport(app, raise_app_exceptions=False)


def _client_maker(base_url: str) -> Callable[[], httpx.AsyncClient]:
    """What makes clients for `base_url`. They share the certificates that are trusted: reading them takes 50 ms."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=HttpxTransport.KEEP_ALIVE_S)
    scheme, host, _ = origin_of(base_url)
    trusted = cache(httpx.create_ssl_context)
    if host not in ("localhost", "127.0.0.1", "::1"):
        return lambda: httpx.AsyncClient(limits=limits, verify=trusted())

    # No proxy stands between this machine and itself, and plain HTTP needs no certificates.
    def make() -> httpx.AsyncClient:
        verify = trusted() if scheme == "https" else False
        options = _socket_options()
        return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(verify=verify, limits=limits, socket_options=options))

    return make


def _fast(base_url: str) -> Transport:
    """The fast transport where it applies, else httpx."""
    if reason := why_not(base_url):
        log.debug("requests to %s go through httpx: %s", shown(base_url), reason)
        return HttpxTransport(base_url)
    return FastTransport(base_url)


TRANSPORTS: dict[str, Callable[[str], Transport]] = {"fast": _fast, "httpx": HttpxTransport}
"""What makes a transport for the requests to a base URL, by the name that users know it by."""


def check_transport(choice: TransportLike) -> bool:
    """Whether `choice` can be made anew for every event loop: a name can, an object belongs to the loop that uses it.

    Raises:
        ConfigurationError: There is no such transport.
    """
    if isinstance(choice, str):
        if choice not in TRANSPORTS:
            raise ConfigurationError(
                f"there is no transport {choice!r}: choose {' or '.join(map(repr, TRANSPORTS))}, or pass an httpx.AsyncClient, "
                "an ASGI app or a Transport"
            )
        return True
    if not isinstance(choice, httpx.AsyncClient | Transport) and not callable(choice):
        raise ConfigurationError(f"{choice!r} is not a transport: pass a name, an httpx.AsyncClient, an ASGI app or a Transport")
    return False


def make_transport(choice: TransportLike, base_url: str) -> Transport:
    """The transport that `choice` (which passed `check_transport`) names or is, for requests to `base_url`."""
    if isinstance(choice, str):
        return TRANSPORTS[choice](base_url)
    if isinstance(choice, httpx.AsyncClient):
        return HttpxTransport(client=choice)
    if isinstance(choice, Transport):
        return choice
    return HttpxTransport(app=choice)


def _socket_options() -> list[tuple[int, int, int]]:
    return [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
