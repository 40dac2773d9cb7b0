"""One environment of a server: its splits, tasks and tools, and sessions of it."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from openreward_gym.errors import (
    ConfigurationError,
    EnvironmentNotFoundError,
    OpenRewardGymError,
    ProtocolError,
    ServerError,
    SplitNotFoundError,
    TaskNotFoundError,
)
from openreward_gym.protocol.addresses import without_credentials
from openreward_gym.protocol.exchange import Ask, Prefix
from openreward_gym.protocol.lifetime import Lease
from openreward_gym.protocol.opening import SessionPlan
from openreward_gym.protocol.request import Headers
from openreward_gym.protocol.session import Session
from openreward_gym.protocol.sse import CallStream
from openreward_gym.protocol.wire import HTML_PAGE, Secret, dumps, expected, loads, read_splits, read_tools
from openreward_gym.types import Json, Split, Task, ToolSet

if TYPE_CHECKING:
    from openreward_gym.protocol.client import Client

__all__ = ["RemoteEnvironment"]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an environment is: `prefix` is its path, `env_name` its name in bodies (None: the server's default)."""

    prefix: Prefix
    env_name: str | None


class RemoteEnvironment:
    """One environment of a server: its splits, tasks and tools, and sessions of it."""

    def __init__(self, client: Client, name: str, variant: str | None) -> None:
        self.client = client
        self.name = name
        self.variant = variant
        self._place: _Place | None = None
        self._headers = Headers({"X-Deployment": quote(name, safe="/ -._~")})

    def __repr__(self) -> str:
        variant = "" if self.variant is None else f", variant={self.variant!r}"
        return f"RemoteEnvironment({self.name!r}{variant})"

    async def splits(self) -> list[Split]:
        """The sets of tasks."""
        return read_splits(await self._read("GET", "/splits"))

    async def num_tasks(self, split: str) -> int:
        """How many tasks `split` has.

        Raises:
            SplitNotFoundError: There is no such split.
        """
        answer = await self._read("POST", "/num_tasks", {"split": split})
        count = answer.get("num_tasks") if isinstance(answer, dict) else None
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise expected("a number of tasks", got=answer)
        return count

    async def tasks(self, split: str) -> list[Task]:
        """All tasks of `split`. Environments may have very many; some serve them by index alone.

        Raises:
            SplitNotFoundError: There is no such split.
            ConfigurationError: The environment serves tasks by index alone: use `num_tasks` and `task`.
        """
        return self._tasks_of(await self._read("POST", "/tasks", {"split": split}), split, 0)

    async def task(self, split: str, index: int) -> Task:
        """The task `index` of `split`.

        Raises:
            SplitNotFoundError: There is no such split.
            TaskNotFoundError: It has no such task.
        """
        index = checked_index(index)
        answer = await self._read("POST", "/task", {"split": split, "index": index})
        spec = answer.get("task") if isinstance(answer, dict) else None
        if not isinstance(spec, dict):
            raise expected("a task", got=answer)
        return Task(split, index, spec)

    async def task_range(self, split: str, start: int, stop: int) -> list[Task]:
        """The tasks `start` (included) to `stop` (excluded) of `split`; fewer where the split ends before.

        Raises:
            SplitNotFoundError: There is no such split.
        """
        start, stop = checked_index(start), checked_index(stop)
        return self._tasks_of(
            await self._read("POST", "/task_range", {"split": split, "start": start, "stop": stop}), split, start
        )

    async def tools(self) -> ToolSet:
        """The tools that all sessions share."""
        return read_tools(await self._read("GET", "/tools"))

    def session(
        self,
        *,
        split: str | None = None,
        index: int | None = None,
        task_spec: Mapping[str, Json] | None = None,
        task: Task | None = None,
        toolset: str | None = None,
        secrets_env: Mapping[str, str] | None = None,
        secret_domains: Mapping[str, Sequence[str]] | None = None,
        env_overrides: Mapping[str, str] | None = None,
        open_timeout_s: float = 1800.0,
        step_timeout_s: float | None = None,
        episode_timeout_s: float | None = None,
    ) -> Session:
        """A session of one task, not yet open: `async with environment.session(...) as session:`.

        The task is given in one of three ways: `split` and `index`, its `task_spec`, or a `task` read before.

        Args:
            split: The task's split.
            index: Its index, from 0.
            task_spec: Its description, for a task of one's own.
            task: A task.
            toolset: One of the server's toolsets to add; None for none.
            secrets_env: Names of secrets to the names of the environment variables that hold them.
            secret_domains: Names of secrets to the hosts that may receive them (the hosted platform asks for it).
            env_overrides: Environment variables of the environment's container.
            open_timeout_s: Seconds that opening may take (a machine may have to be brought up).
            step_timeout_s: Seconds that one call may take; None for as long as it takes.
            episode_timeout_s: Seconds from opening after which calls time out; None for as long as it takes.

        Raises:
            ConfigurationError: The task is given in none or in several ways.
        """
        if task is not None and split is None and index is None and task_spec is None:
            split, index, task_spec = (None, None, task.spec) if task.spec is not None else (task.split, task.index, None)
        elif task is not None:
            raise ConfigurationError("give the task as `task`, or as `split` and `index`, or as `task_spec`: not in two ways")
        if (task_spec is None) == (split is None or index is None) or (split is None) != (index is None):
            raise ConfigurationError("give the task as `split` and `index`, or as `task_spec`, or as `task`")
        plan = SessionPlan(
            split=split,
            index=None if index is None else checked_index(index),
            task_spec=task_spec,
            toolset=toolset,
            secrets_env=dict(secrets_env or {}),
            secret_domains={name: tuple(hosts) for name, hosts in (secret_domains or {}).items()},
            env_overrides=dict(env_overrides or {}),
            open_timeout_s=open_timeout_s,
            step_timeout_s=step_timeout_s,
            episode_timeout_s=episode_timeout_s,
        )
        return Session(self, plan)

    @property
    def headers(self) -> Headers:
        """The headers by which a gateway knows the deployment."""
        return self._headers

    async def place(self) -> _Place:
        """Where the environment is on the server; asked once.

        Raises:
            EnvironmentNotFoundError: The server has no environment of that name.
        """
        if self._place is None:
            self._place = await self._locate()
        return self._place

    async def _locate(self) -> _Place:
        names = None if self.client.addresses.hosted else await self._known_names()
        if names is None:
            # Behind a gateway the name is a deployment, found by its header; its environments are its variants.
            segment = self.variant if self.variant is not None or "/" in self.name or self.client.addresses.hosted else self.name
            return _Place(Prefix(f"/{quote(segment.lower(), safe='')}" if segment else ""), segment)
        wanted = [self.variant] if self.variant is not None else [self.name, self.name.rpartition("/")[2]]
        for candidate in wanted:
            if candidate.lower() in (name.lower() for name in names):
                return _Place(Prefix(f"/{quote(candidate.lower(), safe='')}"), candidate.lower())
        asked = self.name if self.variant is None else f"{self.name} (variant {self.variant})"
        raise EnvironmentNotFoundError(
            f"the server at {without_credentials(self.client.addresses.sessions)} has no environment {asked!r}; "
            f"it has {', '.join(names) or 'none'}"
        )

    async def _known_names(self) -> list[str] | None:
        """The server's environments; None where it does not list them."""
        wanted = (self.variant or self.name).lower()
        known = self.client._names
        if known is not None and any(wanted in (name.lower(), f"/{name.lower()}") for name in known):
            return known
        try:
            return await self.client.list_environments()
        except ServerError as error:
            if error.status in (400, 404, 405):
                return None
            raise

    async def _read(self, method: str, path: str, body: Json = None) -> Json:
        """The answer of an endpoint that needs no session of a task."""
        place = await self.place()
        encoded = None if body is None else dumps(body)
        async with self._visit() as headers:
            try:
                return await self.client.exchange.ask(
                    Ask(method, path, place.prefix, encoded, headers, first_byte_timeout_s=self.client.request_timeout_s)
                )
            except ServerError as error:
                refused = error
        raise await self.explained(refused, body or {})

    @asynccontextmanager
    async def _visit(self) -> AsyncIterator[Mapping[str, str | Secret]]:
        """Headers for a request without a task. A gateway wants a short-lived session for it; one server wants nothing."""
        if not self.client.addresses.hosted:
            yield self.headers
            return
        lease = Lease(self.client.exchange, self.headers)
        try:
            session_id = await self.create_session(lease, self.headers, b"{}", self.client.request_timeout_s)
            yield {**self.headers, "X-Session-ID": session_id}
        finally:
            await lease.release()

    async def create_session(
        self,
        lease: Lease,
        headers: Mapping[str, str | Secret],
        body: bytes,
        timeout_s: float,
        secrets: tuple[Secret, ...] = (),
    ) -> str:
        """Ask the server for a session, which has no environment yet. What it names is noted in `lease` as soon as it comes.

        Returns:
            The session's id: the one in the `end` event where it holds one, else the one of `task_id`.
        """
        stream = CallStream()
        lease.streams.append(stream)
        exchange = self.client.exchange
        ask = Ask("POST", "/create_session", body=body, headers=headers, first_byte_timeout_s=timeout_s, secrets=secrets)
        try:
            await exchange.follow(ask, stream)
        except ServerError as error:
            refused = error
        else:
            if stream.error is not None:
                reason = exchange.hide(stream.error, ask)
                raise ServerError(f"the server could not make a session: {reason}", detail=reason)
            data = stream.result()
            answer = loads(data) if data.strip() else None
            session_id = answer.get("sid") if isinstance(answer, dict) else None
            if not isinstance(session_id, str) or not session_id:
                session_id = stream.task_id
            if session_id is None:
                raise ProtocolError("the server made a session and did not name it")
            if session_id not in stream.task_ids:
                stream.task_ids.append(session_id)
            return session_id
        raise await self.explained(refused, {})

    async def explained(self, refused: ServerError, asked: Mapping[str, Any]) -> OpenRewardGymError:
        """What a refusal of `asked` means where that can be found out, else the refusal."""
        status, detail, split, index = refused.status, refused.detail, asked.get("split"), asked.get("index")
        if status == 404 and "eployment not found" in detail:
            return EnvironmentNotFoundError(f"there is no environment {self.name!r} (names are case-sensitive): {detail}")
        if status == 404 and "unknown environment" in detail:
            return EnvironmentNotFoundError(f"the server has no environment {self.variant or self.name!r}: {detail}")
        if status == 400 and "not supported for this environment" in detail:
            return ConfigurationError(f"{self.name} serves tasks by index alone: use num_tasks and task ({detail})")
        if status in (400, 422, 500) and split is not None:
            try:
                names = [known.name for known in await self.splits()]
                if split not in names:
                    return SplitNotFoundError(f"{self.name} has no split {split!r}; it has {', '.join(names) or 'none'}")
                count = await self.num_tasks(split) if index is not None else 0
                if index is not None and index >= count:
                    return TaskNotFoundError(f"{self.name} has no task {index} in {split!r}: it has {count}, counted from 0")
            except OpenRewardGymError:
                # The server that refused is not able to say more.
                return refused
        if status in (400, 422):
            return ConfigurationError(f"the server refuses this: {detail or refused}")
        if status == 404 and (detail in ("", "Not Found") or detail.startswith(HTML_PAGE)):
            address = without_credentials(self.client.addresses.sessions)
            hint = f"is there an Open Reward server at {address}, and is the address's path right?"
            return ServerError(f"{refused}: {hint}", status=status, detail=detail)
        return refused

    @staticmethod
    def _tasks_of(answer: Json, split: str, start: int) -> list[Task]:
        specs = answer.get("tasks") if isinstance(answer, dict) else None
        if not isinstance(specs, list) or not all(isinstance(spec, dict) for spec in specs):
            raise expected("a list of tasks", got=answer)
        return [Task(split, index, spec) for index, spec in enumerate(specs, start)]


def checked_index(index: int) -> int:
    """`index` as a plain int.

    Raises:
        ConfigurationError: It is no whole number, or negative.
    """
    try:
        plain = operator.index(index)
    except TypeError:
        plain = -1
    if plain < 0 or isinstance(index, bool):
        raise ConfigurationError(f"a task's index is a whole number from 0, not {index!r}")
    return plain
