"""`EnvironmentsAPI`, `Environment` and `Session`: the async classes for programs without an event loop of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, cast, overload

from openreward_gym.compat.addresses import held_url
from openreward_gym.compat.api.environments.environments import (
    AsyncEnvironment,
    AsyncEnvironmentsAPI,
    TrainingStage,
    held_arguments,
)
from openreward_gym.compat.api.environments.sessions import AsyncSession, BuiltinToolset
from openreward_gym.compat.api.environments.types import (
    GroupCandidate,
    GroupScore,
    ImageBlock,
    JSONObject,
    Message,
    Provider,
    Task,
    TaskDifficulty,
    TerminalToolSpec,
    TextBlock,
    ToolOutput,
    ToolSpec,
)
from openreward_gym.compat.connected import Connected
from openreward_gym.compat.secrets import HeldSecrets, SecretValue
from openreward_gym.errors import ConfigurationError
from openreward_gym.hiding import Secret
from openreward_gym.protocol.loop import background_loop, run


class Session(Connected):
    """A session of one task, made by `Environment.session`: `with environment.session(...) as session:`.

    Args:
        async_session: The session.
        loop: The official client's parameter. Everything runs on this package's background loop.

    Example:
        >>> from openreward_gym import serve
        >>> from openreward_gym.compat import OpenReward
        >>> with serve.local(["weather"]) as base_url, OpenReward() as client:
        ...     environment = client.environments.get("weather", base_url=base_url)
        ...     with environment.session(task=environment.get_task("train", 0)) as session:
        ...         output = session.call_tool("get_weather", {"city": "Seattle"})
        >>> output.blocks[0].type, output.finished
        ('text', False)
    """

    def __init__(self, async_session: AsyncSession, loop: asyncio.AbstractEventLoop) -> None:
        self._async = async_session
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._async).replace("AsyncSession", "Session")

    @property
    def sid(self) -> str | None:
        """The server's id of the session. None before it is open."""
        return self._async.sid

    @property
    def task(self) -> Task | None:
        """The task, if the session was made from one."""
        return self._async.task

    def __enter__(self) -> Self:
        run(self._async.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        run(self._async.__aexit__(kind, error, traceback))

    def version(self) -> dict[str, str | None]:
        """Return the versions of the server."""
        return run(self._async.version())

    def get_prompt(self) -> list[TextBlock | ImageBlock]:
        """Return the task's prompt."""
        return run(self._async.get_prompt())

    @overload
    def get_messages(self, format: None = None) -> list[Message]: ...

    @overload
    def get_messages(self, format: Literal["openai", "openrouter"]) -> list[dict[str, Any]]: ...

    @overload
    def get_messages(self, format: Literal["anthropic", "google"]) -> dict[str, Any]: ...

    def get_messages(self, format: Provider | None = None) -> list[Message] | list[dict[str, Any]] | dict[str, Any]:
        """Return the task as a conversation; see `AsyncSession.get_messages`."""
        messages: list[Message] | list[dict[str, Any]] | dict[str, Any]
        messages = run(cast(Any, self._async).get_messages(format))
        return messages

    @overload
    def list_tools(self, format: None = None) -> list[ToolSpec]: ...

    @overload
    def list_tools(self, format: Provider) -> list[dict[str, Any]]: ...

    def list_tools(self, format: Provider | None = None) -> list[ToolSpec] | list[dict[str, Any]]:
        """Return the session's tools: the environment's, the task's and the toolset's."""
        tools: list[ToolSpec] | list[dict[str, Any]] = run(cast(Any, self._async).list_tools(format))
        return tools

    def terminal_tool(self) -> TerminalToolSpec | None:
        """Return the tool that receives a plain message. None if the environment has none."""
        return run(self._async.terminal_tool())

    def is_assistant_message_final(self) -> bool:
        """Return True if a plain message of the assistant ends the episode: pass it to `call_terminal_tool`."""
        return run(self._async.is_assistant_message_final())

    def call_terminal_tool(self, message: str = "") -> ToolOutput:
        """Pass the assistant's last message to the terminal tool. Raise ToolCallError if there is none."""
        return run(self._async.call_terminal_tool(message))

    def call_tool(self, tool_name: str, input: JSONObject = {}) -> ToolOutput:  # noqa: B006
        """Call a tool; see `AsyncSession.call_tool`."""
        return run(self._async.call_tool(tool_name, input))

    def supports_score_group(self) -> bool:
        """Return True if the environment scores groups."""
        return run(self._async.supports_score_group())

    def score_group(self, candidates: Sequence[GroupCandidate | Sequence[Message]]) -> list[GroupScore]:
        """Return the comparative scores of several rollouts of this task; see `AsyncSession.score_group`."""
        return run(self._async.score_group(candidates))


class Environment(Connected):
    """An environment, made by `EnvironmentsAPI.get`.

    Args:
        async_env: The environment.
        loop: The official client's parameter. Everything runs on this package's background loop.

    Example:
        >>> from openreward_gym import serve
        >>> from openreward_gym.compat import OpenReward
        >>> with serve.local(["weather"]) as base_url, OpenReward() as client:
        ...     client.environments.get("weather", base_url=base_url).list_splits()
        ['train', 'test']
    """

    def __init__(self, async_env: AsyncEnvironment, loop: asyncio.AbstractEventLoop) -> None:
        self._async = async_env
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._async).replace("AsyncEnvironment", "Environment")

    @property
    def server(self) -> str:
        """The environment's name, without its owner."""
        return self._async.server

    @property
    def namespace(self) -> str | None:
        """The environment's owner. None for one without."""
        return self._async.namespace

    @property
    def name(self) -> str:
        """The environment's name, without its owner."""
        return self._async.name

    @property
    def variant(self) -> str | None:
        """One of the environments of the deployment. None for the default one."""
        return self._async.variant

    @property
    def deployment_name(self) -> str:
        """The name with its owner: `owner/name`; the name alone where there is no owner."""
        return self._async.deployment_name

    def list_splits(self) -> list[str]:
        """Return the names of the splits."""
        return run(self._async.list_splits())

    def list_tasks(self, split: str) -> list[Task]:
        """Return all tasks of a split."""
        return run(self._async.list_tasks(split))

    def num_tasks(self, split: str) -> int:
        """Return the number of tasks of a split."""
        return run(self._async.num_tasks(split))

    def get_task(self, split: str, index: int) -> Task:
        """Return one task of a split."""
        return run(self._async.get_task(split, index))

    def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> list[Task]:
        """Return the tasks `start` (included) to `stop` (excluded) of a split. Negative numbers count from its end."""
        return run(self._async.get_task_range(split, start, stop))

    @overload
    def list_tools(self, format: None = None) -> list[ToolSpec]: ...

    @overload
    def list_tools(self, format: Provider) -> list[dict[str, Any]]: ...

    def list_tools(self, format: Provider | None = None) -> list[ToolSpec] | list[dict[str, Any]]:
        """Return the tools that all sessions share, as `ToolSpec`s or in the format of a provider."""
        tools: list[ToolSpec] | list[dict[str, Any]] = run(cast(Any, self._async).list_tools(format))
        return tools

    def terminal_tool(self) -> TerminalToolSpec | None:
        """Return the tool that receives a plain message. None if the environment has none."""
        return run(self._async.terminal_tool())

    def is_assistant_message_final(self) -> bool:
        """Return True if a plain message of the assistant ends the episode."""
        return run(self._async.is_assistant_message_final())

    def supports_score_group(self) -> bool:
        """Return True if the environment scores groups."""
        return run(self._async.supports_score_group())

    def get_prompt(self, task: Task) -> Any:
        """Return the answer of `/prompt`; see `AsyncEnvironment.get_prompt`."""
        return run(self._async.get_prompt(task))

    def session(
        self,
        task: Task | None = None,
        secrets: Mapping[str, SecretValue] | None = None,
        *,
        split: str | None = None,
        index: int | None = None,
        toolset: BuiltinToolset | None = None,
        env_overrides: Mapping[str, str] | None = None,
    ) -> Session:
        """Return a session of a task, for use in a `with` block; see `AsyncEnvironment.session`."""
        held = HeldSecrets(secrets)
        del secrets
        one = self._async.session(task, held, split=split, index=index, toolset=toolset, env_overrides=env_overrides)
        return Session(one, self._loop)

    def list_required_secrets(self) -> list[str]:
        """Return the names of the secrets that the environment needs, as the platform knows them."""
        return run(self._async.list_required_secrets())

    def get_task_difficulty(
        self,
        *,
        split: str | None = None,
        model_name: str | None = None,
        min_model_params: int | None = None,
        max_model_params: int | None = None,
        training_stage: TrainingStage | None = None,
    ) -> list[TaskDifficulty]:
        """Return rewards and lengths of the rollouts that the platform has; see `AsyncEnvironment.get_task_difficulty`."""
        return run(
            self._async.get_task_difficulty(
                split=split,
                model_name=model_name,
                min_model_params=min_model_params,
                max_model_params=max_model_params,
                training_stage=training_stage,
            )
        )


class EnvironmentsAPI(Connected):
    """Access to environments: `client.environments.get(name)`.

    Args:
        base_url: Base URL of the sessions.
        api_key: The API key. None or an empty text takes `OPENREWARD_API_KEY`.
        api_base_url: Base URL of the platform's API.

    Example:
        >>> EnvironmentsAPI("https://sessions.openreward.ai", "").get("owner/name").deployment_name
        'owner/name'
    """

    def __init__(self, base_url: str, api_key: str | Secret | None, api_base_url: str | None = None) -> None:
        held = held_arguments(base_url, api_key, api_base_url)
        del base_url, api_key, api_base_url
        if isinstance(held, ConfigurationError):
            raise held
        self.asynchronous = AsyncEnvironmentsAPI(*held)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def get(self, name: str, variant: str | None = None, base_url: str | None = None) -> Environment:
        """Return an environment. It sends nothing; see `AsyncEnvironmentsAPI.get`."""
        url = None if base_url is None else held_url(base_url, "base_url")
        del base_url
        if isinstance(url, ConfigurationError):
            raise url
        return Environment(self.asynchronous.get(name, variant, url), background_loop())

    def close(self) -> None:
        """Delete the sessions that are still open, and close the connections. It may be called again."""
        run(self.asynchronous.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
