"""The client of Open Reward servers."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from openreward_gym.errors import ConfigurationError
from openreward_gym.hiding import Secret
from openreward_gym.options import MAX_ANSWER_BYTES, ClientOptions, RetryLimits
from openreward_gym.processes import ProcessBound
from openreward_gym.protocol.addresses import Addresses
from openreward_gym.protocol.context import ClientContext, EnvironmentContext
from openreward_gym.protocol.environment import RemoteEnvironment
from openreward_gym.protocol.transport import TransportLike
from openreward_gym.suggestions import suggests_options
from openreward_gym.types import Json
from openreward_gym.urls import without_credentials


class Client(ProcessBound):
    """An async client of one server, or of the hosted platform. Making it sends nothing.

    A client with a named transport works on several event loops. A transport object belongs to the loop that uses it first.
    A client belongs to the process that made it: in a forked child its methods raise ConfigurationError, and closing it there
    changes nothing.

    Args:
        base_url: The server's URL. None uses `OPENREWARD_URL`, or the hosted platform if that is not set.
        api_key_env: The environment variable that holds the API key. It is read again every second, and never shown.
        transport: `"fast"` (which falls back to httpx if a proxy is configured), `"httpx"`, an `AsyncClient` of httpx or
            httpx2, an ASGI application, or an object with the `Transport` interface.
        request_timeout_s: Seconds until the response to an ordinary request must begin, and until it must be complete.
        idle_timeout_s: Seconds of silence in a stream after which the server counts as dead. Servers send a heartbeat every
            10 s.
        ping_interval_s: Seconds between two pings of an open session.
        max_answer_bytes: Largest size in bytes of one answer or of one call's event stream, unpacked. A larger one is a
            ProtocolError.
        retry_limits: Limits on retries. None uses the defaults and `OPENREWARD_STARTING_RIDE_OUT_S`.
        max_nesting: Largest number of levels of lists and objects in an answer.
        max_blocks: Largest number of blocks in an output, a prompt or a conversation.
        max_images: Largest number of images among them.

    Raises:
        ConfigurationError: The URL, the transport or an option is not valid.

    Example:
        >>> import asyncio
        >>> import openreward_gym
        >>> async def play(base_url):
        ...     async with openreward_gym.Client(base_url) as client:
        ...         environment = client.environment("weather")
        ...         async with environment.session(split="train", index=0) as session:
        ...             prompt = await session.prompt()
        ...             return await session.call("get_weather", {"city": "Seattle"})
        >>> with openreward_gym.serve.local(["weather"]) as base_url:
        ...     output = asyncio.run(play(base_url))
        >>> output.error
        ''
    """

    _noun = "client"

    @suggests_options
    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key_env: str = "OPENREWARD_API_KEY",
        transport: TransportLike = "fast",
        request_timeout_s: float = 60.0,
        idle_timeout_s: float = 30.0,
        ping_interval_s: float = 10.0,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        retry_limits: RetryLimits | None = None,
        max_nesting: int = 200,
        max_blocks: int = 10_000,
        max_images: int = 1_000,
    ) -> None:
        self._context = ClientContext(
            ClientOptions(
                base_url=base_url,
                api_key_env=api_key_env,
                transport=transport,
                request_timeout_s=request_timeout_s,
                idle_timeout_s=idle_timeout_s,
                ping_interval_s=ping_interval_s,
                max_answer_bytes=max_answer_bytes,
                retry_limits=retry_limits,
                max_nesting=max_nesting,
                max_blocks=max_blocks,
                max_images=max_images,
            )
        )

    def __repr__(self) -> str:
        return f"Client({without_credentials(self.addresses.sessions)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def addresses(self) -> Addresses:
        """The base URLs of the sessions and of the platform."""
        return self._context.addresses

    async def aclose(self) -> None:
        """Delete the sessions that are still open, and close the connections. The client cannot be used afterwards."""
        if self._is_foreign:
            return
        await self._context.leases.release_all()
        await self._context.transports.aclose()

    async def health(self) -> Json:
        """Return the answer of `/health`: `{"status": "ok"}` from the reference servers."""
        return await self._context.read("GET", "/health")

    async def version(self) -> Json:
        """Return the answer of `/version`. None for servers without it (`ors-sdk`)."""
        return await self._context.version()

    async def list_environments(self) -> list[str]:
        """Return the names of the server's environments, the default one first."""
        return await self._context.list_environments()

    def api_key(self) -> Secret | None:
        """Return the API key, as it is now in its environment variable. None if that is not set."""
        return self._context.api.api_key()

    def environment(self, name: str, variant: str | None = None) -> RemoteEnvironment:
        """Return an environment. It sends nothing.

        Args:
            name: The environment's name, such as `"weather"` or `"owner/name"`.
            variant: One of the environments that a deployment serves. None for its default.

        Raises:
            ConfigurationError: The name is not valid.
        """
        self._check_process()
        for text in (name, variant):
            if text is not None and (not text.strip() or not text.isprintable() or text.startswith("/") or text.endswith("/")):
                raise ConfigurationError(f"{text!r} is not the name of an environment. Write 'name' or 'owner/name'.")
        return RemoteEnvironment(EnvironmentContext(self._context, name, variant))
