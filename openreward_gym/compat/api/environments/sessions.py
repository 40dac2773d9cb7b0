"""`AsyncSession`: a session of one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias, get_args, overload

from openreward_gym import errors
from openreward_gym.compat.api.environments.blocks import group_of, official_blocks, official_messages, official_output
from openreward_gym.compat.api.environments.conversations import convert_messages
from openreward_gym.compat.api.environments.deployment import Deployment, DeploymentSession
from openreward_gym.compat.api.environments.tool_formats import terminal_tool_of, tools_in_format
from openreward_gym.compat.api.environments.types import (
    GroupCandidate,
    GroupScore,
    ImageBlock,
    JSONObject,
    Message,
    Provider,
    Task,
    TerminalToolSpec,
    TextBlock,
    ToolOutput,
    ToolSpec,
)
from openreward_gym.compat.api.errors import (
    HTTPStatusError,
    ScoreGroupFailed,
    ScoreGroupUnsupported,
    SessionTerminatedError,
    ToolCallError,
    ToolCallErrorReason,
    ToolFailed,
)
from openreward_gym.compat.connected import Connected
from openreward_gym.compat.failures import KIND, Translating, with_session
from openreward_gym.compat.secrets import HeldSecrets, SecretValue, platform_key_hosts
from openreward_gym.options import SessionOptions
from openreward_gym.protocol.context import ClientContext
from openreward_gym.protocol.secrets import PLATFORM_KEY_NAMES
from openreward_gym.types import ToolSet

BuiltinToolset: TypeAlias = Literal["backsearch", "claude-code", "codex", "gemini-cli", "hermes", "openclaw"]

_REASONS: tuple[ToolCallErrorReason, ...] = get_args(ToolCallErrorReason)


class SessionEnvironment(Protocol):
    """What a session knows of its environment, an `AsyncEnvironment`."""

    client: ClientContext
    context: Deployment

    @property
    def deployment_name(self) -> str: ...

    @property
    def api_base_url(self) -> str | None: ...

    @property
    def api_key(self) -> str: ...


class AsyncSession(Connected):
    """A session of one task, made by `AsyncEnvironment.session`: `async with environment.session(...) as session:`.

    Attributes:
        env: The environment.
        task: The task, if it was given as one.
        split: The task's split, if it was given by split and index.
        index: Its index.
        toolset_name: The toolset that the server adds.
        sid: The server's id of the session. None before it is open.

    Example:
        >>> import asyncio
        >>> from openreward_gym import serve
        >>> from openreward_gym.compat import AsyncOpenReward
        >>> async def play(base_url):
        ...     async with AsyncOpenReward().environments as environments:
        ...         environment = environments.get("weather", base_url=base_url)
        ...         async with environment.session(split="train", index=0) as session:
        ...             return await session.call_tool("get_weather", {"city": "Seattle"})
        >>> with serve.local(["weather"]) as base_url:
        ...     output = asyncio.run(play(base_url))
        >>> output.blocks[0].type, output.finished
        ('text', False)
    """

    def __init__(
        self,
        env: SessionEnvironment,
        task: Task | None = None,
        secrets: Mapping[str, SecretValue] | HeldSecrets | None = None,
        api_key: str | None = None,
        split: str | None = None,
        index: int | None = None,
        toolset_name: str | None = None,
        env_overrides: Mapping[str, str] | None = None,
    ) -> None:
        self.env = env
        self.sid: str | None = None
        # The key is the environment's; the parameter is the official client's. No frame of an error holds either.
        held = secrets if isinstance(secrets, HeldSecrets) else HeldSecrets(secrets)
        del api_key, secrets
        if held.problem is not None:
            raise held.problem
        if (task is None) == (split is None or index is None) or (split is None) != (index is None):
            raise errors.ConfigurationError("give either the task, or both split and index")
        self.task = task
        self.split = split
        self.index = index
        self.toolset_name = toolset_name
        self._held = held
        self._env_overrides = dict(env_overrides) if env_overrides else None
        self._session: DeploymentSession | None = None
        self._tools: ToolSet | None = None
        self._terminated: tuple[str, str | None] | None = None

    def __repr__(self) -> str:
        return f"<AsyncSession{'' if self.sid is None else f' {self.sid}'} of {self.deployment!r}>"

    @property
    def deployment(self) -> str:
        """The name of the environment, with its owner if it has one."""
        return self.env.deployment_name

    @property
    def base_url(self) -> str:
        """The address of the server."""
        return self.env.client.addresses.sessions

    @property
    def api_key(self) -> str:
        """The API key."""
        return self.env.api_key

    async def __aenter__(self) -> Self:
        session = self._new_session()
        with Translating():
            await session.open()
        self._session, self.sid = session, session.session_id
        self._terminated = self._tools = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session = self._session
        if session is not None:
            self._terminated = self._terminated or ("it was closed", self.sid)
            with Translating(self.sid):
                await session.close()

    def _new_session(self) -> DeploymentSession:
        client = self.env.client
        hosts = {**self._held.hosts, **platform_key_hosts(client.addresses.sessions, self.env.api_base_url)}
        has_key = client.api.api_key() is not None
        # The platform's key has two names of its own, which a program cannot give another value.
        secrets = {name: value for name, value in self._held.values.items() if not (has_key and name in PLATFORM_KEY_NAMES)}
        if not has_key:
            hosts.update(self._held.hosts)
        options = SessionOptions(toolset=self.toolset_name, secret_domains=hosts, env_overrides=self._env_overrides)
        fields: dict[str, Any] = {"split": self.split, "index": self.index}
        if self.task is not None:
            fields = {"task_spec": self.task.task_spec, "env_name": self.task.environment_name}
        return DeploymentSession(self.env.context, fields, options, secrets)

    def _open_session(self) -> DeploymentSession:
        if self._terminated is not None:
            reason, session_id = self._terminated
            raise SessionTerminatedError(reason, sid=session_id, kind=KIND)
        if self._session is None:
            raise errors.ConfigurationError("the session is not open: use it in a `with` block")
        return self._session

    async def version(self) -> dict[str, str | None]:
        """Return the versions of the server."""
        session = self._open_session()
        with Translating(self.sid):
            answer = await session.version()
            if not isinstance(answer, dict):
                raise errors.ProtocolError(f"/version is not an object but a {type(answer).__name__}")
            return answer

    async def get_prompt(self) -> list[TextBlock | ImageBlock]:
        """Return the task's prompt."""
        session = self._open_session()
        with Translating(self.sid):
            return official_blocks(await session.prompt())

    @overload
    async def get_messages(self, format: None = None) -> list[Message]: ...

    @overload
    async def get_messages(self, format: Literal["openai", "openrouter"]) -> list[dict[str, Any]]: ...

    @overload
    async def get_messages(self, format: Literal["anthropic", "google"]) -> dict[str, Any]: ...

    async def get_messages(self, format: Provider | None = None) -> list[Message] | list[dict[str, Any]] | dict[str, Any]:
        """Return the task as a conversation, in the format of a provider; see `convert_messages`.

        Where the environment has only a prompt, it is one user message.
        """
        session = self._open_session()
        with Translating(self.sid):
            return convert_messages(official_messages(await session.messages()), format)

    @overload
    async def list_tools(self, format: None = None) -> list[ToolSpec]: ...

    @overload
    async def list_tools(self, format: Provider) -> list[dict[str, Any]]: ...

    async def list_tools(self, format: Provider | None = None) -> list[ToolSpec] | list[dict[str, Any]]:
        """Return the session's tools: the environment's, the task's and the toolset's."""
        session = self._open_session()
        with Translating(self.sid):
            self._tools = await session.tools()
        return tools_in_format(self._tools, format)

    async def _known_tools(self) -> ToolSet:
        """Return the tools that were listed last, and list them if they were not."""
        self._open_session()
        if self._tools is None:
            await self.list_tools()
        return self._tools or ToolSet()

    async def terminal_tool(self) -> TerminalToolSpec | None:
        """Return the tool that receives a plain message. None if the environment has none."""
        return terminal_tool_of(await self._known_tools())

    async def is_assistant_message_final(self) -> bool:
        """Return True if a plain message of the assistant ends the episode: pass it to `call_terminal_tool`."""
        return await self.terminal_tool() is not None

    async def call_terminal_tool(self, message: str = "") -> ToolOutput:
        """Pass the assistant's last message to the terminal tool. Raise ToolCallError if there is none."""
        terminal = await self.terminal_tool()
        if terminal is None:
            raise ToolCallError("not_found", f"Environment {self.deployment!r} has no @terminal tool")
        return await self.call_tool(terminal.name, {} if terminal.arg is None else {terminal.arg: message})

    async def call_tool(self, tool_name: str, input: JSONObject = {}) -> ToolOutput:  # noqa: B006
        """Call a tool, at most once even if the connection fails.

        Raises:
            ToolCallError: The call is wrong, or the episode is over.
            ToolFailed: The tool raised an exception. Later calls raise SessionTerminatedError.
            SessionTerminatedError: The session is gone.
            TransportError: The connection failed, or the server answered with an error status.
        """
        if problem := _input_problem(input):
            raise ToolCallError("bad_input_shape", problem)
        session = self._open_session()
        try:
            with Translating(self.sid):
                output = await session.call(tool_name, input)
        except ToolFailed as error:
            self._terminated = (error.message, self.sid)
            raise
        except SessionTerminatedError as error:
            self._terminated = (error.reason, self.sid)
            raise
        except HTTPStatusError as error:
            if error.status == 500:
                self._terminated = (error.message, self.sid)
            raise
        if output.error:
            kind = "bad_input_shape" if output.error_kind == "malformed" else output.error_kind
            raise ToolCallError(kind if kind in _REASONS else "not_found", output.error)
        return official_output(output)

    async def supports_score_group(self) -> bool:
        """Return True if the environment scores groups."""
        return bool((await self._known_tools()).supports_score_group)

    async def score_group(self, candidates: Sequence[GroupCandidate | Sequence[Message]]) -> list[GroupScore]:
        """Return the comparative scores of several rollouts of this task, one per candidate, in their order.

        Raises:
            ScoreGroupUnsupported: The environment does not score groups, or not with blocks of these types.
            ScoreGroupFailed: Scoring failed. The session remains usable.
        """
        session = self._open_session()
        group = group_of(candidates)
        problem: ScoreGroupFailed | ScoreGroupUnsupported
        with Translating(self.sid):
            try:
                return [GroupScore(score.reward, score.metadata) for score in await session.score_group(group)]
            except errors.ConfigurationError as error:
                problem = ScoreGroupUnsupported(str(error))
            except errors.ServerError as error:
                if error.status is not None:
                    raise
                problem = ScoreGroupFailed(with_session(error.detail, self.sid))
        raise problem


def _input_problem(given: object) -> str:
    """Return why the arguments of a call cannot be sent, or an empty string."""
    if not isinstance(given, Mapping):
        return f"Tool input must be a dictionary, got {type(given).__name__}"
    others = [key for key in given if not isinstance(key, str)]
    return f"All keys in tool input must be strings. Found non-string keys: {others}" if others else ""
