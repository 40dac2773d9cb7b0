"""`AsyncEnvironment` and `AsyncEnvironmentsAPI`: environments, their splits, tasks and tools."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, get_args, overload
from urllib.parse import quote, urlencode

from openreward_gym.compat.addresses import held_url, is_local
from openreward_gym.compat.api.environments.deployment import Deployment, DeploymentClient
from openreward_gym.compat.api.environments.sessions import AsyncSession, BuiltinToolset
from openreward_gym.compat.api.environments.tool_formats import terminal_tool_of, tools_in_format
from openreward_gym.compat.api.environments.types import (
    Provider,
    ResponseChars,
    Task,
    TaskDifficulty,
    TerminalToolSpec,
    ToolSpec,
)
from openreward_gym.compat.connected import Connected
from openreward_gym.compat.failures import Translating, translated
from openreward_gym.compat.secrets import HeldSecrets, SecretValue, held_key, key_text
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, ProtocolError
from openreward_gym.hiding import Secret
from openreward_gym.processes import process_id
from openreward_gym.protocol import wire
from openreward_gym.protocol.api import ApiCall
from openreward_gym.protocol.context import ClientContext
from openreward_gym.types import Json, ToolSet

TrainingStage: TypeAlias = Literal["pretrained", "sft", "rl"]

BY_INDEX_ONLY = "not supported for this environment"
"""The words of a server whose environment serves tasks by index only."""
PAGE = 500
"""Tasks that one request asks for where the environment serves them by index only."""


class AsyncEnvironment(Connected):
    """An environment, made by `AsyncEnvironmentsAPI.get`.

    Attributes:
        server: The environment's name, without its owner.
        name: The same.
        namespace: Its owner. None for one without.
        variant: One of the environments of the deployment. None for the default one.

    Example:
        >>> from openreward_gym.compat import AsyncOpenReward
        >>> environment = AsyncOpenReward().environments.get("owner/name", variant="hard")
        >>> environment.deployment_name, environment.name, environment.variant
        ('owner/name', 'name', 'hard')
    """

    def __init__(
        self,
        namespace: str | None,
        name: str,
        variant: str | None,
        client: ClientContext,
        api_key: str | None,
        api_client: ClientContext | None = None,
        *,
        listed: bool = False,
    ) -> None:
        del api_key  # the client has it
        self.server = name
        self.namespace = namespace
        self.name = name
        self.variant = variant
        self.client = client
        self.api_client = api_client
        # A gateway, which knows owners, does not list environments.
        self.context = Deployment(client, self.deployment_name, variant, listed=listed or namespace is None)

    def __repr__(self) -> str:
        variant = "" if self.variant is None else f", variant={self.variant!r}"
        return f"AsyncEnvironment({self.deployment_name!r}{variant})"

    @property
    def deployment_name(self) -> str:
        """The name with its owner: `owner/name`; the name alone where there is no owner."""
        return self.name if self.namespace is None else f"{self.namespace}/{self.name}"

    @property
    def api_key(self) -> str:
        """The API key."""
        return key_text(self.client.api.api_key())

    @property
    def api_base_url(self) -> str | None:
        """The address of the platform's API."""
        return None if self.api_client is None else self.api_client.addresses.sessions

    async def list_splits(self) -> list[str]:
        """Return the names of the splits."""
        with Translating():
            return [split.name for split in await self.context.splits()]

    async def list_tasks(self, split: str) -> list[Task]:
        """Return all tasks of a split, page by page if the environment serves tasks by index only."""
        with Translating():
            try:
                return self._tasks(*await self.context.read_page("/tasks", {"split": split}))
            except OpenRewardGymError as error:
                if BY_INDEX_ONLY not in getattr(error, "detail", ""):
                    raise
            count = await self.context.num_tasks(split)
            tasks: list[Task] = []
            for start in range(0, count, PAGE):
                body = {"split": split, "start": start, "stop": min(start + PAGE, count)}
                tasks += self._tasks(*await self.context.read_page("/task_range", body))
            return tasks

    async def num_tasks(self, split: str) -> int:
        """Return the number of tasks of a split."""
        with Translating():
            return await self.context.num_tasks(split)

    async def get_task(self, split: str, index: int) -> Task:
        """Return one task of a split."""
        with Translating():
            name, spec = await self.context.read_one(split, index)
            return Task(self.server, name, spec, self.namespace)

    async def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> list[Task]:
        """Return the tasks `start` (included) to `stop` (excluded) of a split. Negative numbers count from its end."""
        body: dict[str, Json] = {"split": split}
        body |= {name: value for name, value in (("start", start), ("stop", stop)) if value is not None}
        with Translating():
            return self._tasks(*await self.context.read_page("/task_range", body))

    def _tasks(self, name: str, specs: list[dict[str, Json]]) -> list[Task]:
        return [Task(self.server, name, spec, self.namespace) for spec in specs]

    @overload
    async def list_tools(self, format: None = None) -> list[ToolSpec]: ...

    @overload
    async def list_tools(self, format: Provider) -> list[dict[str, Any]]: ...

    async def list_tools(self, format: Provider | None = None) -> list[ToolSpec] | list[dict[str, Any]]:
        """Return the tools that all sessions share."""
        return tools_in_format(await self._tools(), format)

    async def _tools(self) -> ToolSet:
        with Translating():
            return await self.context.read("GET", "/tools", reader=wire.read_tools)

    async def terminal_tool(self) -> TerminalToolSpec | None:
        """Return the tool that receives a plain message. None if the environment has none."""
        return terminal_tool_of(await self._tools())

    async def is_assistant_message_final(self) -> bool:
        """Return True if a plain message of the assistant ends the episode."""
        return await self.terminal_tool() is not None

    async def supports_score_group(self) -> bool:
        """Return True if the environment scores groups."""
        return bool((await self._tools()).supports_score_group)

    async def get_prompt(self, task: Task) -> Any:
        """Return the answer of `/prompt` for the deployment of a task. Most servers answer only in a session."""
        del task  # the official client reads no more of it than the deployment, which is this one
        with Translating():
            return await self.context.read("GET", "/prompt", reader=_as_it_is)

    def session(
        self,
        task: Task | None = None,
        secrets: Mapping[str, SecretValue] | HeldSecrets | None = None,
        *,
        split: str | None = None,
        index: int | None = None,
        toolset: BuiltinToolset | None = None,
        env_overrides: Mapping[str, str] | None = None,
    ) -> AsyncSession:
        """Return a session of a task, for use in an `async with` block.

        Args:
            task: The task; or else `split` and `index`.
            secrets: Names of secrets -> their values, or tuples of the value and a list of the hosts that may receive it.
            split: The task's split.
            index: Its index.
            toolset: A built-in toolset that the server adds.
            env_overrides: Environment variables of the environment's container.
        """
        held = secrets if isinstance(secrets, HeldSecrets) else HeldSecrets(secrets)
        del secrets
        known = get_args(BuiltinToolset)
        if toolset is not None and toolset not in known:
            raise ConfigurationError(f"Unknown toolset {toolset!r}; valid options: {sorted(known)}")
        return AsyncSession(self, task, held, split=split, index=index, toolset_name=toolset, env_overrides=env_overrides)

    async def list_required_secrets(self) -> list[str]:
        """Return the names of the secrets that the environment needs, as the platform knows them."""
        answer = await self._platform("required-secrets", owner=self.namespace or "")
        secrets = wire.field_of(answer, "secrets")
        if not isinstance(secrets, list) or not all(isinstance(name, str) for name in secrets):
            raise _not_understood("a list of secrets")
        return list(secrets)

    async def get_task_difficulty(
        self,
        *,
        split: str | None = None,
        model_name: str | None = None,
        min_model_params: int | None = None,
        max_model_params: int | None = None,
        training_stage: TrainingStage | None = None,
    ) -> list[TaskDifficulty]:
        """Return rewards and lengths of the rollouts that the platform has, by task.

        Args:
            split: Tasks of this split only.
            model_name: Rollouts of this model only.
            min_model_params: Rollouts of models with at least as many parameters only.
            max_model_params: Rollouts of models with at most as many parameters only.
            training_stage: Rollouts of models of this stage only.

        Raises:
            ConfigurationError: The environment has no owner: the platform knows environments as `owner/name`.
        """
        if not self.namespace:
            raise ConfigurationError(f"the platform knows environments as 'owner/name'; {self.name!r} has no owner")
        filters = {
            "variant": self.variant,
            "split": split,
            "model_name": model_name,
            "min_model_params": min_model_params,
            "max_model_params": max_model_params,
            "training_stage": training_stage,
        }
        answer = await self._platform("task-difficulty", owner=self.namespace, filters=filters)
        tasks = wire.field_of(answer, "tasks")
        try:
            return [_task_difficulty(task) for task in tasks]
        except (KeyError, TypeError):
            pass
        raise _not_understood("a list of tasks with their difficulty")

    async def _platform(self, what: str, *, owner: str, filters: Mapping[str, Any] | None = None) -> Json:
        """Return the platform's answer about this environment."""
        if self.api_client is None:
            raise ConfigurationError("the address of the platform's API is not known: pass api_base_url, or use OpenReward()")
        path = f"/v1/environments/{quote(owner, safe='')}/{quote(self.name, safe='')}/{what}"
        query = urlencode({name: value for name, value in (filters or {}).items() if value is not None})
        with Translating():
            return await self.api_client.api.send(ApiCall("GET", f"{path}?{query}" if query else path))


class AsyncEnvironmentsAPI(Connected):
    """Access to environments: `client.environments.get(name)`.

    Args:
        base_url: Base URL of the sessions.
        api_key: The API key. None or an empty text takes `OPENREWARD_API_KEY`.
        api_base_url: Base URL of the platform's API.

    Example:
        >>> AsyncEnvironmentsAPI("https://sessions.openreward.ai", "").get("owner/name").deployment_name
        'owner/name'
    """

    def __init__(self, base_url: str, api_key: str | Secret | None, api_base_url: str | None = None) -> None:
        held = held_arguments(base_url, api_key, api_base_url)
        del base_url, api_key, api_base_url
        if isinstance(held, ConfigurationError):
            raise held
        self.base_url, key, self.api_base_url = held
        # False for a gateway that is on this machine.
        self.one_server = is_local(self.base_url)
        self._key = key
        self._contexts: dict[tuple[str, bool, int], ClientContext] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @property
    def api_key(self) -> str:
        """The API key."""
        return key_text(self._key)

    def get(self, name: str, variant: str | None = None, base_url: str | None = None) -> AsyncEnvironment:
        """Return an environment. It sends nothing.

        Args:
            name: `name` or `owner/name`.
            variant: One of the environments of the deployment. None for the default one.
            base_url: Address of a server that has it, such as `http://localhost:8080`. None for the client's.
        """
        url = self.base_url if base_url is None else held_url(base_url, "base_url")
        listed = self.one_server if base_url is None or isinstance(url, ConfigurationError) else is_local(url)
        del base_url
        if isinstance(url, ConfigurationError):
            raise url
        for text in (name, "default" if variant is None else variant):
            if not isinstance(text, str) or not text.strip() or not text.isprintable():
                raise ConfigurationError(f"{text!r} is not the name of an environment. Write 'name' or 'owner/name'.")
        namespace, _, short = name.partition("/") if "/" in name else ("", "", name)
        client = self._context(url, listed)
        platform = self._context(self.api_base_url, False) if self.api_base_url else None
        return AsyncEnvironment(namespace or None, short, variant, client, None, platform, listed=listed)

    def _context(self, base_url: str, one_server: bool) -> ClientContext:
        # A forked child has connections of its own.
        place = (base_url, one_server, process_id())
        if place not in self._contexts:
            self._contexts[place] = DeploymentClient(base_url, self.api_base_url, self._key, one_server=one_server)
        return self._contexts[place]

    async def aclose(self) -> None:
        """Delete the sessions that are still open, and close the connections."""
        own, self._contexts = self._contexts, {}
        for (_, _, process), context in own.items():
            if process == process_id():
                await context.leases.release_all()
                await context.transports.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def held_arguments(
    base_url: str, api_key: str | Secret | None, api_base_url: str | None
) -> tuple[str, Secret | None, str | None] | ConfigurationError:
    """Return the arguments of an `EnvironmentsAPI` as it keeps them, or the error; the caller first drops them from its frame."""
    key, sessions = held_key(api_key), held_url(base_url, "base_url")
    platform = None if api_base_url is None else held_url(api_base_url, "api_base_url")
    if isinstance(key, ConfigurationError):
        return key
    if isinstance(sessions, ConfigurationError):
        return sessions
    return platform if isinstance(platform, ConfigurationError) else (sessions, key, platform)


def _as_it_is(answer: Json) -> Json:
    return answer


def _task_difficulty(task: Json) -> TaskDifficulty:
    lengths = {name: task["response_chars"][name] for name in ResponseChars.__dataclass_fields__}
    facts = {name: task[name] for name in TaskDifficulty.__dataclass_fields__ if name != "response_chars"}
    return TaskDifficulty(response_chars=ResponseChars(**lengths), **facts)


def _not_understood(expected: str) -> Exception:
    return translated(ProtocolError(f"expected {expected} from the platform, and it sent something else"))
