"""What an env holds at a server, and where: a session and its client belong to the event loop they were opened on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from openreward_gym.envs import clients
from openreward_gym.errors import ConfigurationError
from openreward_gym.protocol import loop
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.session import Session

T = TypeVar("T")


class SessionHolder:
    """A client, the session that runs, and their event loop.

    Args:
        base_url, api_key_env, transport: Those of `OpenRewardEnv`.

    Attributes:
        session: The running session; None without one.
        loop: The event loop of client and session; None before the first use.
    """

    def __init__(self, base_url: str | None, api_key_env: str, transport: Any) -> None:
        self.session: Session | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._server = (base_url, api_key_env, transport)
        self._client: Client | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def is_empty(self) -> bool:
        return self._client is None and self.session is None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of `coroutine`, for a caller that is not async.

        Raises:
            ConfigurationError: The caller stands on the session's own event loop, which would wait for itself.
        """
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not None and running is self.loop:
            coroutine.close()
            raise ConfigurationError(
                "this env was reset with `await env.areset()` on the event loop that is running now: "
                "use `await env.astep(...)` and `await env.aclose()` there"
            )
        return loop.run(coroutine)

    async def on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run where the session's connections live; a loop that has ended is forgotten, with what was opened on it."""
        running = asyncio.get_running_loop()
        if self.loop is None:
            self.loop = running
        elif self.loop.is_closed() or not self.loop.is_running():
            self.loop, self._client, self.session = running, None, None
        if self.loop is running:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    def client(self) -> Client:
        """The client, from its first use on."""
        if self._client is None:
            self._client = clients.acquire(self, *self._server)
        return self._client

    def let_go(self) -> None:
        """Close the session without making anybody wait for it."""
        session, self.session = self.session, None
        if session is not None:
            task = asyncio.get_running_loop().create_task(session.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def end_session(self) -> None:
        """Close the session; nothing where there is none."""
        session, self.session = self.session, None
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """Close the session, wait for those that were let go, give the client back."""
        await self.end_session()
        if self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await clients.release(self, client)
