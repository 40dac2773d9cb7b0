"""The transports, behind one small interface. The only module that imports httpx.

A transport sends one request and returns one response, without redirects and retries. Its errors tell whether the server can have
seen the request, which decides whether it may be sent again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from functools import cache
from math import inf
from types import MappingProxyType
from typing import Any, TypeAlias, cast
from urllib.parse import unquote, urlsplit, urlunsplit
from weakref import WeakKeyDictionary, ref

import httpx

from openreward_gym.errors import ConfigurationError, ProtocolError, TransportError, TransportTimeoutError
from openreward_gym.hiding import Secret
from openreward_gym.processes import check_process, process_id
from openreward_gym.protocol.connection import DRAIN_S, KEEP_ALIVE_S
from openreward_gym.protocol.decoding import Decoder
from openreward_gym.protocol.fast import CLOSE_TIMEOUT_S, FastTransport, fast_obstacle
from openreward_gym.protocol.proxies import Proxy, proxy_of
from openreward_gym.protocol.request import (
    Headers,
    Request,
    Response,
    Transport,
    body_ends_at,
    broken_error,
    invalid_address_error,
    late_error,
    server_of,
    too_large_error,
    unreachable_error,
)
from openreward_gym.protocol.tls import trusted_certificates
from openreward_gym.suggestions import nearest
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
        client: The caller's own client, of httpx or httpx2, which is used as it is and not closed. None makes clients.
        app: An ASGI application to call instead of a server. Its responses arrive complete.

    Raises:
        ConfigurationError: The proxy that the environment names for the server cannot be used.

    Example:
        >>> transport = HttpxTransport("http://127.0.0.1:8080")
    """

    def __init__(self, base_url: str = "", *, client: httpx.AsyncClient | None = None, app: ASGIApp | None = None) -> None:
        self._buffered = app is not None
        self._own_client = client
        self._proxy = proxy_of(base_url) if client is None and app is None else None
        self._factory = _client_maker(base_url, app, self._proxy)
        self._clients: list[httpx.AsyncClient] = []
        # Clients without a request in flight, last in, first out, so that connections beyond the need time out.
        self._free: list[httpx.AsyncClient] = []
        self._in_flight = 0
        self._all_done = asyncio.Event()
        # httpx2 has httpx's names.
        self._library: Any = httpx if client is None else sys.modules[_library_of(client)]

    async def send(self, request: Request) -> Response:
        """Send `request` and return its response; errors as `Transport.send`."""
        failure: TransportError | ProtocolError
        if self._own_client is not None and self._own_client.is_closed:
            raise ConfigurationError("the httpx client that was passed as transport is closed. Pass an open one.")
        # httpx would show a value that no header can have in its error.
        (request.headers if type(request.headers) is Headers else Headers(request.headers)).encoded()
        try:
            client = self._own_client or (self._free.pop() if self._free else self._make_client())
        except OSError as error:
            # The trusted certificates could not be read.
            failure = unreachable_error(request.url, error)
        else:
            return await self._send_by(client, request)
        raise failure

    async def _send_by(self, client: httpx.AsyncClient, request: Request) -> Response:
        failure: TransportError | ProtocolError
        library, proxy = self._library, self._proxy
        self._in_flight += 1
        # Limits the time of the whole response once its head is there; `latest` is the time of the last bytes.
        whole, latest = asyncio.timeout(None), [0.0]
        try:
            async with whole:
                response = await self._send_with(client, request, whole, latest)
            if self._own_client is None and _has_leftover(client):
                self._clients.remove(client)
                await client.aclose()
                client = self._make_client()
            if response.status >= 200 and not (proxy is not None and response.status == 407):
                return response
            if response.status < 200:
                failure = broken_error(request.url, OSError(f"it sent the status {response.status}, which ends no response"))
            else:
                assert proxy is not None
                failure = proxy.error("it requires a user name and password (407)", permanent=True)
        except (TransportError, ProtocolError) as error:
            failure = error
        except library.ProxyError as error:
            text = str(error)
            failure = broken_error(request.url, error) if proxy is None else proxy.error(text, permanent="407" in text)
        except (library.ConnectError, library.ConnectTimeout) as error:
            failure = unreachable_error(request.url, error)
            if proxy is not None and not failure.permanent:
                failure = proxy.error(f"no connection ({error or type(error).__name__})")
        except library.PoolTimeout:
            failure = TransportTimeoutError(f"no free connection to {server_of(request.url)} in time", delivery="not_sent")
        except library.UnsupportedProtocol as error:
            failure = TransportError(f"{server_of(request.url)}: {error}", delivery="not_sent", permanent=True)
        except UnicodeError:
            failure = invalid_address_error(request.url)
        except (library.TimeoutException, TimeoutError):
            failure = late_error(request, latest[0], whole.when() if whole.expired() else None)
        except (library.HTTPError, library.StreamError, library.InvalidURL, OSError) as error:
            # InvalidURL: httpx reads the address of a redirect, also of one that it does not follow.
            failure = broken_error(request.url, error)
        finally:
            if client is not self._own_client:
                self._free.append(client)
            self._in_flight -= 1
            if not self._in_flight:
                self._all_done.set()
        if proxy is not None and proxy.source not in str(failure):
            failure.args = (f"{failure}. {proxy.advice()}",)
        # Raised outside of `except`, so that no traceback keeps httpx's frames, whose variables hold the headers.
        raise failure.with_traceback(None)

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

    async def _send_with(
        self, client: httpx.AsyncClient, request: Request, whole: asyncio.Timeout, latest: list[float]
    ) -> Response:
        loop = asyncio.get_running_loop()
        sent = loop.time()
        headers: dict[str, str] = {"Accept-Encoding": "identity"}
        headers.update((name, value.reveal() if isinstance(value, Secret) else value) for name, value in request.headers.items())
        timeout = self._library.Timeout(None, connect=request.connect_timeout_s)
        # httpx logs the URL of each request, with the password in it.
        url, login = _without_login(request.url)
        auth: dict[str, Any] = {} if login is None or client.auth is not None else {"auth": login}
        try:
            message = client.build_request(request.method, url, headers=headers, content=request.body, timeout=timeout)
        except self._library.InvalidURL:
            raise invalid_address_error(request.url) from None
        # The response of an application in this process comes whole, so that a call's head may take as long as the call.
        limit_s = None if self._buffered and request.total_timeout_s is None else request.first_byte_timeout_s
        async with asyncio.timeout(limit_s) as limit:
            response = await client.send(message, stream=True, follow_redirects=False, **auth)
            try:
                now = loop.time()
                limit.reschedule(now + request.idle_timeout_s)
                ends = body_ends_at(request, sent, now)
                whole.reschedule(None if ends == inf else ends)
                return await self._read(response, request, limit, latest)
            finally:
                await response.aclose()

    async def _read(self, response: httpx.Response, request: Request, limit: asyncio.Timeout, latest: list[float]) -> Response:
        """Read the body piece by piece: into the sink, or into the response that is returned."""
        loop = asyncio.get_running_loop()
        headers = {name.lower(): value for name, value in response.headers.items()}
        # A hook of the caller's own client may have read the body, and decoded it.
        complete = response.is_stream_consumed
        decoder = Decoder("" if complete else headers.get("content-encoding", ""), request.max_bytes, request.url)
        sink = request.sink if response.status_code == 200 else None
        body: list[bytes] = []
        size, done = 0, False
        async for data in response.aiter_bytes() if complete else response.aiter_raw():
            if done:
                continue
            if not complete and data:
                latest[0] = loop.time()
                limit.reschedule(latest[0] + request.idle_timeout_s)
            for piece in decoder.feed(data):
                if sink is not None:
                    done = sink(piece)
                else:
                    size += len(piece)
                    body.append(piece)
                if size > request.max_bytes:
                    raise too_large_error(request.url, request.max_bytes)
                if done:
                    limit.reschedule(loop.time() + DRAIN_S)
                    break
        if not done:
            decoder.finish()
        return Response(response.status_code, headers, b"".join(body))


def _without_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """Return a URL without its user name and password, and these two, or None without a user name."""
    if "@" not in url:
        return url, None
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, None
    if parts.username is None:
        return url, None
    login = (unquote(parts.username), unquote(parts.password or ""))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), login


def _has_leftover(client: httpx.AsyncClient) -> bool:
    """Return True if a connection holds bytes behind its response. httpx would read them as the next request's response."""
    carrier = getattr(client, "_transport", None)
    for connection in getattr(getattr(carrier, "_pool", None), "connections", ()):
        while connection is not None and not hasattr(connection, "_h11_state"):
            connection = getattr(connection, "_connection", None)
        if connection is not None and connection._h11_state.trailing_data[0]:
            return True
    return False


def _client_maker(base_url: str, app: ASGIApp | None, proxy: Proxy | None) -> Callable[[], httpx.AsyncClient]:
    """Return a factory of clients for `base_url`. They share the trusted certificates, which take 50 ms to read."""
    if app is not None:
        return lambda: httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEP_ALIVE_S)
    proxy_url = None if proxy is None else proxy.url()
    # Plain HTTP needs no certificates.
    secure = origin_of(base_url).scheme == "https"
    trusted = cache(trusted_certificates)

    def make() -> httpx.AsyncClient:
        options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        verify = trusted() if secure or not base_url else False
        try:
            carrier = httpx.AsyncHTTPTransport(verify=verify, limits=limits, socket_options=options, proxy=proxy_url)
        except (ImportError, ValueError, httpx.InvalidURL):
            # Versions of httpx differ in the proxies that they can use.
            carrier = None
        if carrier is None:
            raise ConfigurationError(f"httpx {httpx.__version__} cannot use the proxy. {proxy.advice() if proxy else ''}")
        return httpx.AsyncClient(transport=carrier)

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
        near = nearest(choice, TRANSPORTS)
        hint = "" if near is None else f" Did you mean {near!r}?"
        raise ConfigurationError(
            f"there is no transport {choice!r}.{hint} Choose {' or '.join(map(repr, TRANSPORTS))}, or pass an httpx.AsyncClient, "
            "an ASGI application or a Transport."
        )
    if library := _library_of(choice):
        if not isinstance(choice, getattr(sys.modules.get(library), "AsyncClient", ())):
            raise ConfigurationError(f"a sync client of {library} cannot be a transport. Pass its AsyncClient.")
        client = cast(httpx.AsyncClient, choice)
        return lambda _: HttpxTransport(client=client)
    if isinstance(choice, Transport):
        return lambda _: choice
    if callable(choice):
        return lambda _: HttpxTransport(app=choice)
    raise ConfigurationError(
        f"{choice!r} is not a transport. Pass a name, an httpx.AsyncClient, an ASGI application or a Transport."
    )


def _library_of(choice: object) -> str:
    """Return the name of the library of a client, "httpx" or "httpx2", which has the same interface. Empty for other objects."""
    for base in type(choice).__mro__:
        library = base.__module__.partition(".")[0]
        if library in ("httpx", "httpx2") and base.__name__ in ("AsyncClient", "Client"):
            return library
    return ""
