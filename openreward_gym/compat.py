"""Programs written for the official client, with only their imports changed.

    from openreward_gym.compat import OpenReward, UserMessage, ToolCall, ToolResult

Environments are played through this package's own protocol, waited for as the official client does; what `rollout` logs
is recorded in `runs/<run_name>`, and sent to the platform too where there is an API key. New programs use `Client`,
`gymnasium.make` and `Recorder`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Literal, TypeAlias

from openreward_gym.errors import ConfigurationError
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.environment import RemoteEnvironment
from openreward_gym.protocol.loop import run
from openreward_gym.recording.recorder import Recorder, RolloutFactory
from openreward_gym.types import (
    AssistantMessage,
    Block,
    Json,
    ReasoningItem,
    SystemMessage,
    ToolCall,
    ToolOutput,
    ToolResult,
    ToolSpec,
    UserMessage,
)

__all__ = [
    "AssistantMessage",
    "OpenReward",
    "ReasoningItem",
    "SystemMessage",
    "ToolCall",
    "ToolResult",
    "UserMessage",
]

Provider: TypeAlias = Literal["openai", "openrouter", "anthropic", "google"]
_PAGE = 500


class OpenReward:
    """The official client's synchronous face: `environments` to play, `rollout` to record.

    Args:
        base_url: One server; None for `OPENREWARD_URL`, or the hosted platform.
        api_key_env: The environment variable that holds the key.
        run_info: What holds for every rollout that is recorded; see `Recorder`.
        upload: Whether rollouts are sent to the platform; None: where there is a key.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key_env: str = "OPENREWARD_API_KEY",
        run_info: Any = None,
        upload: bool | None = None,
    ) -> None:
        self._client = Client(base_url, api_key_env=api_key_env)
        self._run_info = run_info
        self._upload = bool(os.environ.get(api_key_env)) if upload is None else upload

    @property
    def environments(self) -> Environments:
        return Environments(self._client)

    @cached_property
    def _recorder(self) -> Recorder:
        return Recorder(upload=self._upload, run_info=self._run_info)

    @property
    def rollout(self) -> RolloutFactory:
        """`rollout.create(...)` begins a rollout, `rollout.close()` writes and sends what is left."""
        return self._recorder.rollout


class Environments:
    """`environments.get(name)`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, name: str, variant: str | None = None) -> Environment:
        return Environment(self._client.environment(name, variant))


@dataclass(frozen=True, slots=True)
class Task:
    """A task of an environment, by its specification or its place in a split."""

    task_spec: Mapping[str, Json] | None
    split: str
    index: int


class Environment:
    """One environment."""

    def __init__(self, remote: RemoteEnvironment) -> None:
        self._remote = remote

    @property
    def name(self) -> str:
        return self._remote.name

    def list_splits(self) -> list[str]:
        return [split.name for split in run(self._remote.splits())]

    def list_tasks(self, split: str) -> list[Task]:
        """All tasks of a split; read in pieces where the environment serves tasks by index alone."""
        try:
            tasks = run(self._remote.tasks(split))
        except ConfigurationError:
            count = run(self._remote.num_tasks(split))
            starts = range(0, count, _PAGE)
            tasks = [task for start in starts for task in run(self._remote.task_range(split, start, min(start + _PAGE, count)))]
        return [Task(task.spec, split, number if task.index is None else task.index) for number, task in enumerate(tasks)]

    def list_tools(self, format: Provider | None = None) -> list[Any]:
        """The tools, as `ToolSpec`s or as a provider's API takes them."""
        return _formatted(run(self._remote.tools()).tools, format)

    def session(self, task: Task, secrets_env: Mapping[str, str] | None = None) -> Session:
        """A session of `task`, for a `with` block.

        Args:
            task: One of `list_tasks`.
            secrets_env: Names of secrets, and the environment variables that hold them.
        """
        if task.task_spec is not None:
            return Session(self._remote.session(task_spec=task.task_spec, secrets_env=secrets_env))
        return Session(self._remote.session(split=task.split, index=task.index, secrets_env=secrets_env))


class Session:
    """A session, open inside its `with` block."""

    def __init__(self, remote: Any) -> None:
        self._remote = remote

    def __enter__(self) -> Session:
        run(self._remote.open())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        run(self._remote.close())

    def get_prompt(self) -> list[Block]:
        return list(run(self._remote.prompt()))

    def list_tools(self, format: Provider | None = None) -> list[Any]:
        return _formatted(run(self._remote.tools()).tools, format)

    def call_tool(self, tool_name: str, input: Mapping[str, Json] | None = None) -> ToolOutput:
        """What the tool did; a wrong call is an output too, whose text says what was wrong."""
        output: ToolOutput = run(self._remote.call(tool_name, dict(input or {})))
        return output


def _formatted(tools: Sequence[ToolSpec], format: Provider | None) -> list[Any]:
    if format is None:
        return list(tools)
    shapes: dict[str, Any] = {"openai": _openai, "openrouter": _openrouter, "anthropic": _anthropic, "google": _function}
    if format not in shapes:
        raise ConfigurationError(f"no format {format!r}: there are {', '.join(shapes)}")
    return [shapes[format](tool) for tool in tools]


def _parameters(tool: ToolSpec) -> dict[str, Json]:
    return dict(tool.input_schema) if tool.input_schema else {"type": "object", "properties": {}}


def _function(tool: ToolSpec) -> dict[str, Json]:
    return {"name": tool.name, "description": tool.description, "parameters": _parameters(tool)}


def _openai(tool: ToolSpec) -> dict[str, Json]:
    return {"type": "function", **_function(tool)}


def _openrouter(tool: ToolSpec) -> dict[str, Json]:
    return {"type": "function", "function": _function(tool)}


def _anthropic(tool: ToolSpec) -> dict[str, Json]:
    return {"name": tool.name, "description": tool.description, "input_schema": _parameters(tool)}
