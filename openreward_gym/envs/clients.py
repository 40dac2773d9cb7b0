"""Clients and sessions of envs: shared clients, sessions bound to an event loop, and the opening of an episode."""

from __future__ import annotations

import asyncio
import importlib
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from openreward_gym.envs.episode import Episode
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, TransportTimeoutError
from openreward_gym.options import EnvOptions
from openreward_gym.processes import check_process
from openreward_gym.protocol import loop
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.environment import RemoteEnvironment
from openreward_gym.protocol.session import Session
from openreward_gym.types import Task, ToolSet, split_results
from openreward_gym.types.rollout import now_iso
from openreward_gym.urls import hide_credentials

T = TypeVar("T")

IN_PROCESS = "in-process"


def resolve_host(options: EnvOptions) -> EnvOptions:
    """Host an environment that is played in this process: a class, or a name with `transport="in-process"`.

    The result has the name, base URL and transport of the host. Options of a server's environment are returned unchanged.

    Raises:
        ConfigurationError: A server was given as well, or the environment cannot be hosted.
        MissingExtraError: The extra `server` is not installed.
    """
    environment, client = options.environment, options.client
    if isinstance(environment, str) and not (isinstance(client.transport, str) and client.transport == IN_PROCESS):
        return options
    if client.base_url is not None or not isinstance(client.transport, str):
        name, value = ("base_url", client.base_url) if client.base_url is not None else ("transport", client.transport)
        shown = hide_credentials(value) if isinstance(value, str) else value
        raise ConfigurationError(f"{environment!r} is played in this process: leave out {name}={shown!r}")
    # Imported by name: it needs the SDK and a higher floor.
    host = importlib.import_module("openreward_gym.serve.inprocess").in_process(environment)
    return replace(options, environment=host.names[0], client=replace(client, base_url=host.base_url, transport=host))


class SharedClient:
    """A client that several envs of one environment share, with the tools and sizes of splits that it fetched once.

    The first use makes the client, and the release by its last user closes it. All users are on one event loop.

    Args:
        options: Options of the envs, from `resolve_host`.

    Example:
        >>> options = EnvOptions(environment="weather")
        >>> SharedClient(options)
        SharedClient('weather')
    """

    def __init__(self, options: EnvOptions) -> None:
        assert isinstance(options.environment, str)
        self._options = options.client
        self._name, self._variant = options.environment, options.variant
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self.forget()
        self._make_client()  # so that a wrong URL or transport is an error of this constructor

    def __repr__(self) -> str:
        return f"SharedClient({self._name!r})"

    @property
    def is_open(self) -> bool:
        """True if there is a client."""
        return self._remote is not None

    def forget(self) -> None:
        """Drop the client and the server's answers: their event loop has ended."""
        self._client: Client | None = None
        self._remote: RemoteEnvironment | None = None
        self._answers: dict[str | None, asyncio.Task[Any]] = {}

    def acquire(self, user: object) -> RemoteEnvironment:
        """Return the environment at the server, and note its user. `release` it with the same `user`."""
        self._users.add(user)
        if self._remote is None:
            self._client = self._make_client()
            self._remote = self._client.environment(self._name, self._variant)
        return self._remote

    def _make_client(self) -> Client:
        return Client(**self._options.to_keywords())

    async def release(self, user: object) -> None:
        """Give the client back. The last user's release closes it."""
        self._users.discard(user)
        if not self._users and self._client is not None:
            client, asking = self._client, list(self._answers.values())
            self.forget()
            for task in asking:
                task.cancel()
            await client.aclose()

    async def tools(self, user: object) -> ToolSet:
        """Return the tools that all sessions of the environment share."""
        return await self._ask_once(None, self.acquire(user).tools)

    async def num_tasks(self, user: object, split: str) -> int:
        """Return the number of tasks of a split.

        Raises:
            ConfigurationError: The split has no tasks.
            SplitNotFoundError: The environment does not have the split.
        """
        n = await self._ask_once(split, partial(self.acquire(user).num_tasks, split))
        if n <= 0:
            raise ConfigurationError(f"split {split!r} of {self._name!r} has no tasks")
        return n

    async def _ask_once(self, key: str | None, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the answer that all users share. A failure is forgotten, so that the next user asks again."""
        task: asyncio.Task[T] | None = self._answers.get(key)
        if task is None:
            task = self._answers[key] = asyncio.get_running_loop().create_task(ask())
            task.add_done_callback(partial(self._forget_failure, key))
        # A user that is cancelled must not cancel the request of the others.
        return task.result() if task.done() else await asyncio.shield(task)

    def _forget_failure(self, key: str | None, task: asyncio.Task[Any]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._answers.get(key) is task:
            del self._answers[key]


class LoopBoundSession:
    """An env's session, and the event loop that its connections belong to. Before the first use the loop is None."""

    def __init__(self, client: SharedClient) -> None:
        self.client = client
        self.session: Session | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._pid = loop.process_id()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def is_foreign(self) -> bool:
        """True if a session or a client of another process is open here: this process is its forked child."""
        return self._pid != loop.process_id() and (self.session is not None or self.client.is_open)

    @property
    def is_empty(self) -> bool:
        """True if nothing needs closing in this process."""
        return self.is_foreign or (self.session is None and not self.client.is_open)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine for synchronous code. The session's own event loop is refused: it would wait for itself."""
        self._adopt_process(coroutine)
        if self._is_on_its_loop():
            coroutine.close()
            raise ConfigurationError(
                "this env was reset with `await env.areset()` on the event loop that is running now: "
                "use `await env.astep(...)` and `await env.aclose()` there"
            )
        return loop.run(coroutine)

    def for_waiting(self, options: EnvOptions) -> LoopBoundSession:
        """Return where synchronous code may ask the server: here, or over a client of its own on the session's event loop."""
        if not self._is_on_its_loop():
            return self
        if not isinstance(options.client.transport, str | None):
            raise ConfigurationError(
                "this env was reset with `await env.areset()` on the event loop that is running now, and its transport belongs "
                "to that loop: read `env.action_space` before the first reset, or use `env.tools`"
            )
        return LoopBoundSession(SharedClient(options))

    def _is_on_its_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    async def on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the session's event loop. If that loop has ended, its session and client are dropped."""
        self._adopt_process(coroutine)
        running = asyncio.get_running_loop()
        if self.loop is None:
            self.loop = running
        elif self.loop.is_closed() or not self.loop.is_running():
            self.loop, self.session = running, None
            self.client.forget()
        if self.loop is running:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    def check_process(self) -> None:
        """Refuse a session that belongs to the parent process. A fork copies no thread."""
        if self.is_foreign:
            check_process(self._pid, "this env's session", "make another env in the child")

    def _adopt_process(self, coroutine: Coroutine[Any, Any, T]) -> None:
        """Refuse a session of the parent process, and let an env that the parent has not used belong to this process."""
        if self._pid == loop.process_id():
            return
        try:
            self.check_process()
        except ConfigurationError:
            coroutine.close()
            raise
        self._pid, self.loop, self._closing = loop.process_id(), None, set()

    def remote(self) -> RemoteEnvironment:
        """Return the environment at the server."""
        return self.client.acquire(self)

    async def tools(self) -> ToolSet:
        """Return the tools that all sessions of the environment share."""
        return await self.client.tools(self)

    async def num_tasks(self, split: str) -> int:
        """Return the number of tasks of a split."""
        return await self.client.num_tasks(self, split)

    def end_session_later(self) -> None:
        """Close the session in the background."""
        session, self.session = self.session, None
        if session is not None:
            task = asyncio.get_running_loop().create_task(session.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def end_session(self) -> None:
        """Close the session if there is one."""
        session, self.session = self.session, None
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """Close the session, wait for sessions that close in the background, and release the client."""
        await self.end_session()
        if self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)
        await self.client.release(self)


@asynccontextmanager
async def reset_deadline(seconds: float) -> AsyncIterator[None]:
    """Cancel the body after `seconds` and raise TransportTimeoutError."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        if isinstance(error, OpenRewardGymError):
            raise
        raise TransportTimeoutError(f"reset() took longer than reset_timeout_s={seconds}") from None


async def open_episode(remote: RemoteEnvironment, task: Task, options: EnvOptions, seed: int | None) -> tuple[Session, Episode]:
    """Open a session on a task, by the task's index if it has one, otherwise by its spec.

    If opening fails or is cancelled, no session is left at the server.

    Raises:
        OpenRewardGymError: The session could not be opened; see `Session.open`.
    """
    begun = time.perf_counter()
    started_at = now_iso()
    session = remote.session(
        split=None if task.index is None else task.split,
        index=task.index,
        task_spec=task.spec if task.index is None else None,
        toolset=options.session.toolset,
        secrets_env=options.session.secrets_env,
        secret_domains=options.session.secret_domains,
        env_overrides=options.session.env_overrides,
        open_timeout_s=options.limits.reset_timeout_s,
    )
    try:
        await session.open()
        # Ask for the prompt exactly once: environments may initialize their state when they are asked.
        prompt = [part.replace(origin="given") for turn in await session.messages() for part in split_results(turn)]
        tools = await session.tools()
    except BaseException:
        await session.close()
        raise
    if prompt:
        prompt[0] = prompt[0].replace(started_at=started_at)
    episode = Episode(
        environment=remote.name,
        variant=remote.variant,
        base_url=options.client.base_url,
        task=task,
        tools=tools,
        prompt=tuple(prompt),
        seed=seed,
        session_id=session.session_id,
        started_at=started_at,
        reset_s=time.perf_counter() - begun,
    )
    return session, episode
