"""One environment of a server: its splits, tasks and tools, and its sessions."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

from openreward_gym.errors import ConfigurationError
from openreward_gym.options import SessionOptions
from openreward_gym.processes import ProcessBound
from openreward_gym.protocol.context import EnvironmentContext
from openreward_gym.protocol.session import Session
from openreward_gym.protocol.wire import read_task, read_tasks, read_tools
from openreward_gym.suggestions import suggests_options
from openreward_gym.types import Json, Split, Task, ToolSet


class RemoteEnvironment(ProcessBound):
    """One environment of a server, made by `Client.environment`.

    Attributes:
        name: The environment's name.
        variant: The environment's variant. None for the default one.

    Example:
        >>> from openreward_gym import Client
        >>> environment = Client("http://127.0.0.1:8080").environment("weather")
        >>> session = environment.session(split="train", index=0)
    """

    _noun = "environment of a client"
    _instead = "make another client in this process"

    def __init__(self, context: EnvironmentContext) -> None:
        self._context = context
        self.name = context.name
        self.variant = context.variant

    def __repr__(self) -> str:
        variant = "" if self.variant is None else f", variant={self.variant!r}"
        return f"RemoteEnvironment({self.name!r}{variant})"

    async def locate(self) -> None:
        """Check that the server has the environment. Raise EnvironmentNotFoundError if it does not."""
        await self._context.path()

    async def splits(self) -> list[Split]:
        """Return the splits."""
        return await self._context.splits()

    async def num_tasks(self, split: str) -> int:
        """Return the number of tasks of `split`. Raise SplitNotFoundError for an unknown split."""
        return await self._context.num_tasks(split)

    async def tasks(self, split: str) -> list[Task]:
        """Return all tasks of `split`. Environments may have very many tasks.

        Raises:
            SplitNotFoundError: The split is unknown.
            ConfigurationError: The environment serves tasks by index only. Use `num_tasks` and `task`.
        """
        specs = await self._context.read("POST", "/tasks", {"split": split}, reader=read_tasks)
        return [Task(split, index, spec) for index, spec in enumerate(specs)]

    async def task(self, split: str, index: int) -> Task:
        """Return the task `index` of `split`. Raise SplitNotFoundError or TaskNotFoundError for an unknown one."""
        index = _checked_index(index)
        spec = await self._context.read("POST", "/task", {"split": split, "index": index}, reader=read_task)
        return Task(split, index, spec)

    async def task_range(self, split: str, start: int, stop: int) -> list[Task]:
        """Return the tasks `start` (included) to `stop` (excluded) of `split`, or fewer at its end. Raises as `num_tasks`."""
        start, stop = _checked_index(start), _checked_index(stop)
        body = {"split": split, "start": start, "stop": stop}
        specs = await self._context.read("POST", "/task_range", body, reader=read_tasks)
        return [Task(split, index, spec) for index, spec in enumerate(specs, start)]

    async def tools(self) -> ToolSet:
        """Return the tools that all sessions share."""
        return await self._context.read("GET", "/tools", reader=read_tools)

    @suggests_options
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
        """Return a session of one task, which is not open yet: `async with environment.session(...) as session:`.

        The task is chosen in one of three ways: by `split` and `index`, by its `task_spec`, or as a `task` read before.

        Args:
            split: The task's split.
            index: The task's index, from 0.
            task_spec: The task's specification, for tasks that no split contains.
            task: The task.
            toolset: One of the server's toolsets to add. None adds none.
            secrets_env: Names of secrets to the names of the environment variables that hold them.
            secret_domains: Names of secrets to the hosts that may receive them. The hosted platform requires it.
            env_overrides: Environment variables of the environment's container.
            open_timeout_s: Seconds that opening may take. A machine may have to be started.
            step_timeout_s: Seconds that one call may take. None sets no limit.
            episode_timeout_s: Seconds after opening from which calls time out. None sets no limit.

        Raises:
            ConfigurationError: The task is not chosen in exactly one way, or an option has a wrong value.
        """
        self._check_process()
        if task is not None and split is None and index is None and task_spec is None:
            split, index, task_spec = (None, None, task.spec) if task.spec is not None else (task.split, task.index, None)
        elif task is not None:
            raise ConfigurationError("give the task as `task`, or as `split` and `index`, or as `task_spec`: not in two ways")
        if (task_spec is None) == (split is None or index is None) or (split is None) != (index is None):
            raise ConfigurationError("give the task as `split` and `index`, or as `task_spec`, or as `task`")
        options = SessionOptions(
            toolset=toolset,
            secrets_env=secrets_env,
            secret_domains=secret_domains,
            env_overrides=env_overrides,
            open_timeout_s=open_timeout_s,
            step_timeout_s=step_timeout_s,
            episode_timeout_s=episode_timeout_s,
        )
        fields = {"task_spec": task_spec} if index is None else {"split": split, "index": _checked_index(index)}
        return Session(self._context, fields, options)


def _checked_index(index: int) -> int:
    try:
        plain = operator.index(index)
    except TypeError:
        plain = -1
    if plain < 0 or isinstance(index, bool):
        raise ConfigurationError(f"the index of a task is an integer from 0, not {index!r}")
    return plain
