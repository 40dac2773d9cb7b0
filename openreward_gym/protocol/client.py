"""A client of Open Reward servers, and one environment on them. Async; the sync face is the Gymnasium env.

async with Client("http://127.0.0.1:8080") as client:
    environment = client.environment("weather")
    async with environment.session(split="train", index=0) as session:
        prompt = await session.prompt()
        output = await session.call("get_weather", {"city": "Seattle"})
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary, ref

from openreward_gym.errors import ConfigurationError, ServerError
from openreward_gym.protocol.addresses import resolve_addresses, without_credentials
from openreward_gym.protocol.environment import RemoteEnvironment
from openreward_gym.protocol.exchange import Ask, Exchange
from openreward_gym.protocol.lifetime import release_all
from openreward_gym.protocol.loop import process_id
from openreward_gym.protocol.platform import Platform
from openreward_gym.protocol.retry import RetryLimits
from openreward_gym.protocol.transport import Transport, TransportLike, check_transport, make_transport
from openreward_gym.protocol.wire import expected
from openreward_gym.types import Json

__all__ = ["Client", "RemoteEnvironment"]


class Client:
    """The way to one server, or to the hosted platform. Nothing is sent before something is asked.

    With a transport named by a string a client may be used from several event loops (each has its own connections). A
    transport object of the caller's belongs to the event loop that uses it first.

    Args:
        base_url: The server; None for `OPENREWARD_URL`, or the hosted platform.
        api_key_env: The environment variable that holds the API key. It is read anew every second, and shown nowhere.
        transport: `"fast"` (which leaves it to httpx where a proxy is configured), `"httpx"`, an `httpx.AsyncClient`, an ASGI
            app, or anything with the `Transport` interface.
        request_timeout_s: Seconds until the answer to an ordinary request must begin.
        idle_timeout_s: Seconds of silence in a stream after which the server counts as dead (it sends something every 10 s).
        ping_interval_s: Seconds between two pings of an open session.
        retry_limits: How long to keep trying; None for the defaults and `OPENREWARD_STARTING_RIDE_OUT_S`.

    Raises:
        ConfigurationError: The URL is none, or there is no such transport.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key_env: str = "OPENREWARD_API_KEY",
        transport: TransportLike = "fast",
        request_timeout_s: float = 60.0,
        idle_timeout_s: float = 30.0,
        ping_interval_s: float = 10.0,
        retry_limits: RetryLimits | None = None,
    ) -> None:
        self.addresses = resolve_addresses(base_url, os.environ)
        self.request_timeout_s = request_timeout_s
        self.ping_interval_s = ping_interval_s
        limits = retry_limits or RetryLimits.from_environ(os.environ)
        self._transport_choice = transport
        self._transports: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Transport]] = WeakKeyDictionary()
        self._last: tuple[ref[asyncio.AbstractEventLoop], str, Transport] | None = None
        self._pid = process_id()
        self._closed = False
        any_loop = check_transport(transport)

        def exchange(address: str) -> Exchange:
            return Exchange(
                address,
                partial(self._transport, address),
                api_key_env=api_key_env,
                limits=limits,
                idle_timeout_s=idle_timeout_s,
                any_loop=any_loop,
            )

        self.exchange = exchange(self.addresses.sessions)
        self.platform = Platform(exchange(self.addresses.platform))
        self._names: list[str] | None = None
        self._secrets_in_body: bool | None = None

    def __repr__(self) -> str:
        return f"Client({without_credentials(self.addresses.sessions)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Delete the sessions that are still open, and close the connections. The client cannot be used any more."""
        await release_all(self.exchange)
        self._closed = True
        here = asyncio.get_running_loop()
        transports, self._transports, self._last = dict(self._transports), WeakKeyDictionary(), None
        for loop, of_loop in transports.items():
            for transport in of_loop.values():
                if loop is here:
                    await transport.aclose()
                elif loop.is_running():
                    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(transport.aclose(), loop))

    async def health(self) -> Json:
        """What `/health` says; `{"status": "ok"}` of the reference servers."""
        return await self._ask("GET", "/health")

    async def version(self) -> Json:
        """What `/version` says; None of servers that do not have it (`ors-sdk`)."""
        try:
            return await self._ask("GET", "/version")
        except ServerError as error:
            if error.status == 404:
                return None
            raise

    async def list_environments(self) -> list[str]:
        """The names of the server's environments, the default one first."""
        names = await self._ask("GET", "/list_environments")
        if not isinstance(names, list):
            raise expected("a list of environments", got=names)
        self._names = [str(name) for name in names]
        return list(self._names)

    async def takes_secrets_in_body(self) -> bool:
        """Whether the server is of the first generation, which reads secrets from a body; it has no `/version` either."""
        if self._secrets_in_body is None:
            self._secrets_in_body = not self.addresses.hosted and await self.version() is None
        return self._secrets_in_body

    def environment(self, name: str, variant: str | None = None) -> RemoteEnvironment:
        """An environment by its name (`"weather"`, `"owner/name"`). Nothing is sent.

        Args:
            name: Its name.
            variant: One of the environments that a deployment serves; None for its default.

        Raises:
            ConfigurationError: It cannot be a name.
        """
        for text in (name, variant):
            if text is not None and (not text.strip() or not text.isprintable() or text.startswith("/") or text.endswith("/")):
                raise ConfigurationError(f"{text!r} is not an environment's name: write 'name' or 'owner/name'")
        return RemoteEnvironment(self, name, variant)

    def _transport(self, address: str) -> Transport:
        """The transport to `address` of the running event loop."""
        if self._closed:
            raise ConfigurationError("this client is closed: make another")
        loop, last = asyncio.get_running_loop(), self._last
        if self._pid != process_id():
            # The connections of a forked child's parent are the parent's.
            self._pid, self._transports, self._last = process_id(), WeakKeyDictionary(), None
        elif last is not None and last[0]() is loop and last[1] == address:
            return last[2]
        if self._transports and loop not in self._transports and not self.exchange.any_loop:
            raise ConfigurationError(
                "this client's transport belongs to another event loop: make one client per loop, or name the transport"
            )
        of_loop = self._transports.setdefault(loop, {})
        if address not in of_loop:
            of_loop[address] = make_transport(self._transport_choice, address)
        self._last = (ref(loop), address, of_loop[address])
        return of_loop[address]

    async def _ask(self, method: str, path: str) -> Json:
        return await self.exchange.ask(Ask(method, path, first_byte_timeout_s=self.request_timeout_s))
