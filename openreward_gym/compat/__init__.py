"""The official client's API, for programs that change only their imports.

    from openreward_gym.compat import OpenReward, UserMessage, ToolCall, ToolResult

Environments are played through this package's protocol client. `rollout` records into `runs/<run_name>`, and also sends
rollouts to the platform if there is an API key. New programs use `Client`, `gymnasium.make` and `Recorder`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Literal, TypeAlias, get_args

from openreward_gym.errors import ConfigurationError
from openreward_gym.policies.functions import function_specs
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
    ToolSet,
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
    """The official client: `environments` to play, `rollout` to record.

    Args:
        base_url: URL of a server. None for `OPENREWARD_URL`, or the hosted platform.
        api_key_env: Name of the environment variable that holds the key.
        run_info: Information on all recorded rollouts; see `Recorder`.
        upload: Send rollouts to the platform. None sends them if there is a key.
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
        """Factory of rollouts: `rollout.create(...)` begins one, `rollout.close()` writes and sends the rest."""
        return self._recorder.rollout


class Environments:
    """Access to environments: `environments.get(name)`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, name: str, variant: str | None = None) -> CompatEnvironment:
        return CompatEnvironment(self._client.environment(name, variant))


@dataclass(frozen=True, slots=True)
class CompatTask:
    """A task, by its specification or its index in a split."""

    task_spec: Mapping[str, Json] | None
    split: str
    index: int


class CompatEnvironment:
    """An environment."""

    def __init__(self, remote: RemoteEnvironment) -> None:
        self._remote = remote

    @property
    def name(self) -> str:
        return self._remote.name

    def list_splits(self) -> list[str]:
        return [split.name for split in run(self._remote.splits())]

    def list_tasks(self, split: str) -> list[CompatTask]:
        """Return all tasks of a split, page by page if the environment serves tasks only by index."""
        try:
            tasks = run(self._remote.tasks(split))
        except ConfigurationError:
            count = run(self._remote.num_tasks(split))
            starts = range(0, count, _PAGE)
            tasks = [task for start in starts for task in run(self._remote.task_range(split, start, min(start + _PAGE, count)))]
        return [CompatTask(task.spec, split, number if task.index is None else task.index) for number, task in enumerate(tasks)]

    def list_tools(self, format: Provider | None = None) -> list[Any]:
        """Return the tools as `ToolSpec`s, or in the format of a provider's API."""
        return _formatted(run(self._remote.tools()), format)

    def session(self, task: CompatTask, secrets_env: Mapping[str, str] | None = None) -> CompatSession:
        """Return a session of a task, for use in a `with` block.

        Args:
            task: One of `list_tasks`.
            secrets_env: Names of secrets -> names of the environment variables that hold them.
        """
        if task.task_spec is not None:
            return CompatSession(self._remote.session(task_spec=task.task_spec, secrets_env=secrets_env))
        return CompatSession(self._remote.session(split=task.split, index=task.index, secrets_env=secrets_env))


class CompatSession:
    """A session, which is open inside its `with` block."""

    def __init__(self, remote: Any) -> None:
        self._remote = remote

    def __enter__(self) -> CompatSession:
        run(self._remote.open())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        run(self._remote.close())

    def get_prompt(self) -> list[Block]:
        return list(run(self._remote.prompt()))

    def list_tools(self, format: Provider | None = None) -> list[Any]:
        return _formatted(run(self._remote.tools()), format)

    def call_tool(self, tool_name: str, input: Mapping[str, Json] | None = None) -> ToolOutput:
        """Call a tool and return its output. A wrong call returns an output whose text explains the error."""
        output: ToolOutput = run(self._remote.call(tool_name, dict(input or {})))
        return output


def _formatted(tools: ToolSet, format: Provider | None) -> list[Any]:
    if format is None:
        return list(tools)
    if format not in get_args(Provider):
        raise ConfigurationError(f"there is no format {format!r}; choose one of {', '.join(get_args(Provider))}")
    functions = function_specs(tools, "input_schema" if format == "anthropic" else "parameters")
    if format == "openai":
        return [{"type": "function", **function} for function in functions]
    return [{"type": "function", "function": function} for function in functions] if format == "openrouter" else functions
