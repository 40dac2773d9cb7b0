"""The transports, behind one small interface. The only module that imports httpx.

A transport sends one request and returns one response, without redirects and retries. Its errors tell whether the server can have
seen the request, which decides whether it may be sent again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from functools import cache
from types import MappingProxyType
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, ref

import httpx

from openreward_gym.errors import ConfigurationError, TransportError, TransportTimeoutError
from openreward_gym.processes import check_process, process_id
from openreward_gym.protocol.connection import DRAIN_S, KEEP_ALIVE_S
from openreward_gym.protocol.fast import CLOSE_TIMEOUT_S, FastTransport, fast_obstacle
from openreward_gym.protocol.request import (
    Request,
    Response,
    Transport,
    broken_error,
    server_of,
    silence_error,
    unreachable_error,
)
from openreward_gym.protocol.wire import Secret
from openreward_gym.urls import origin_of

log = logging.getLogger("openreward_gym")

_Message: TypeAlias = MutableMapping[str, Any]
ASGIApp: TypeAlias = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]
]
"""An ASGI application, called in this process."""

TransportLike: TypeAlias = "str | httpx.AsyncClient | ASGIApp | Transport"


class HttpxTransport:
    """httpx without its limits: a connection for each session, and no timeout that a slow tool exceeds.

    httpx searches all connections of a client at each request, which takes most of its time at 256 sessions. So each client of
    this transport has at most one request in flight, and one connection.

    Args:
        base_url: The server, by which proxies are chosen.
        client: The caller's own client, which is used as it is and not closed. None makes clients.
        app: An ASGI application to call instead of a server. Its responses arrive complete.

    Example:
        >>> transport = HttpxTransport("http://127.0.0.1:8080")
    """

    def __init__(self, base_url: str = "", *, client: httpx.AsyncClient | None = None, app: ASGIApp | None = None) -> None:
        self._buffered = app is not None
        self._own_client = client
        self._factory = _client_maker(base_url, app)
        self._clients: list[httpx.AsyncClient] = []
        # Clients without a request in flight, last in, first out, so that connections beyond the need time out.
        self._free: list[httpx.AsyncClient] = []
        self._in_flight = 0
        self._all_done = asyncio.Event()

    async def send(self, request: Request) -> Response:
        """Send `request` and return its response; errors as `Transport.send`."""
        failure: TransportError
        try:
            client = self._own_client or (self._free.pop() if self._free else self._make_client())
        except OSError as error:
            # The trusted certificates could not be read.
            failure = unreachable_error(request.url, error)
        else:
            return await self._send_by(client, request)
        raise failure

    async def _send_by(self, client: httpx.AsyncClient, request: Request) -> Response:
        failure: TransportError
        self._in_flight += 1
        try:
            return await self._send_with(client, request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = unreachable_error(request.url, error)
        except httpx.PoolTimeout:
            failure = TransportTimeoutError(f"no free connection to {server_of(request.url)} in time", delivery="not_sent")
        except httpx.UnsupportedProtocol as error:
            failure = TransportError(f"{server_of(request.url)}: {error}", delivery="not_sent", permanent=True)
        except (httpx.TimeoutException, TimeoutError):
            failure = silence_error(request.url)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            failure = broken_error(request.url, error)
        finally:
            if client is not self._own_client:
                self._free.append(client)
            self._in_flight -= 1
            if not self._in_flight:
                self._all_done.set()
        # Raised outside of `except`, so that no traceback keeps httpx's frames, whose variables hold the headers.
        raise failure

    async def aclose(self) -> None:
        """Close all connections, except those of the caller's own client."""
        if self._own_client is not None:
            return
        if self._in_flight:
            # A request that is still connecting would add its connection to a closed pool, where it stays open.
            self._all_done.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_done.wait(), CLOSE_TIMEOUT_S)
        for client in self._clients:
            await client.aclose()

    def _make_client(self) -> httpx.AsyncClient:
        self._clients.append(self._factory())
        return self._clients[-1]

    async def _send_with(self, client: httpx.AsyncClient, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        message = client.build_request(
            request.method,
            request.url,
            headers={name: value.reveal() if isinstance(value, Secret) else value for name, value in request.headers.items()},
            content=request.body,
            timeout=httpx.Timeout(None, connect=request.connect_timeout_s),
        )
        async with asyncio.timeout(None if self._buffered else request.first_byte_timeout_s) as limit:
            response = await client.send(message, stream=True, follow_redirects=False)
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
                        limit.reschedule(loop.time() + (DRAIN_S if done else request.idle_timeout_s))
                return Response(response.status_code, headers)
            finally:
                await response.aclose()


def _client_maker(base_url: str, app: ASGIApp | None) -> Callable[[], httpx.AsyncClient]:
    """Return a factory of clients for `base_url`. They share the trusted certificates, which take 50 ms to read."""
    if app is not None:
        return lambda: httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEP_ALIVE_S)
    scheme, host, _ = origin_of(base_url)
    trusted = cache(httpx.create_ssl_context)
    if host not in ("localhost", "127.0.0.1", "::1"):
        return lambda: httpx.AsyncClient(limits=limits, verify=trusted())

    # Requests to this machine use no proxy, and plain HTTP needs no certificates.
    def make() -> httpx.AsyncClient:
        verify = trusted() if scheme == "https" else False
        options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(verify=verify, limits=limits, socket_options=options))

    return make


def _fast(base_url: str) -> Transport:
    """Return the fast transport if it can serve `base_url`, else httpx."""
    if obstacle := fast_obstacle(base_url):
        log.debug("requests to %s go through httpx: %s", server_of(base_url), obstacle)
        return HttpxTransport(base_url)
    return FastTransport(base_url)


TRANSPORTS: Mapping[str, Callable[[str], Transport]] = MappingProxyType({"fast": _fast, "httpx": HttpxTransport})
"""Factories of transports for a base URL, by the name that users give."""


class ClientTransports:
    """The transports of one client, one per event loop and address.

    A transport that `choice` names is made for each event loop (`any_loop`); an object belongs to the loop that uses it first.
    """

    def __init__(self, choice: TransportLike) -> None:
        self.any_loop = isinstance(choice, str)
        self._make = _factory_of(choice)
        self._transports: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Transport]] = WeakKeyDictionary()
        self._last: tuple[ref[asyncio.AbstractEventLoop], str, Transport] | None = None
        self._pid = process_id()
        self._closed = False

    def get(self, address: str) -> Transport:
        """Return the running event loop's transport for requests to `address`."""
        if self._closed:
            raise ConfigurationError("this client is closed. Make another.")
        loop, last = asyncio.get_running_loop(), self._last
        if self._pid != process_id():
            check_process(self._pid, "this client")
        if last is not None and last[0]() is loop and last[1] == address:
            return last[2]
        if self._transports and loop not in self._transports and not self.any_loop:
            raise ConfigurationError(
                "this client's transport belongs to another event loop. Make one client per loop, or name the transport."
            )
        by_address = self._transports.setdefault(loop, {})
        if address not in by_address:
            by_address[address] = self._make(address)
        self._last = (ref(loop), address, by_address[address])
        return by_address[address]

    async def aclose(self) -> None:
        """Close the transports of all event loops that run. Further requests are refused."""
        self._closed = True
        here = asyncio.get_running_loop()
        transports, self._transports, self._last = dict(self._transports), WeakKeyDictionary(), None
        for loop, by_address in transports.items():
            for transport in by_address.values():
                if loop is here:
                    await transport.aclose()
                elif loop.is_running():
                    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(transport.aclose(), loop))


def _factory_of(choice: TransportLike) -> Callable[[str], Transport]:
    """Return the factory of the transports that `choice` names or is."""
    if isinstance(choice, str):
        if choice in TRANSPORTS:
            return TRANSPORTS[choice]
        raise ConfigurationError(
            f"there is no transport {choice!r}. Choose {' or '.join(map(repr, TRANSPORTS))}, or pass an httpx.AsyncClient, "
            "an ASGI application or a Transport."
        )
    if any(base.__module__.partition(".")[0] == "httpx2" for base in type(choice).__mro__):
        # It has a Transport's methods, with other arguments.
        raise ConfigurationError(
            "a client of httpx2 is not a transport. Pass an httpx.AsyncClient with the same settings, or transport='fast'."
        )
    if isinstance(choice, httpx.AsyncClient):
        return lambda _: HttpxTransport(client=choice)
    if isinstance(choice, Transport):
        return lambda _: choice
    if callable(choice):
        return lambda _: HttpxTransport(app=choice)
    raise ConfigurationError(
        f"{choice!r} is not a transport. Pass a name, an httpx.AsyncClient, an ASGI application or a Transport."
    )
