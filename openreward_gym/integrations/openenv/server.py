"""An OpenReward environment behind OpenEnv's server: one episode per session, over its WebSocket, HTTP and MCP routes."""

from __future__ import annotations

import asyncio
import functools
import random
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, Literal, Unpack

from openenv.core.env_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.mcp_types import CallToolObservation, ListToolsObservation, Tool
from openenv.core.env_server.types import Action, EnvironmentMetadata, Observation, State
from pydantic import Field

from openreward_gym.checks import integer
from openreward_gym.errors import ConfigurationError, ResetNeededError, SessionLostError
from openreward_gym.integrations.episode import Answer, Episode, EpisodeOptions, Episodes
from openreward_gym.protocol import Client, loop
from openreward_gym.suggestions import unknown_option
from openreward_gym.types import ImageBlock, Json, Message, Task, TextBlock

CLOSE_S = 10.0
"""Seconds to wait for a session to be closed."""
_RESET_OPTIONS = ("seed", "episode_id", "index", "task_index", "split", "task_spec", "step", "group", "sample")


def make_app(environment: str | type[Any], *, max_sessions: int, **options: Unpack[EpisodeOptions]) -> Any:
    """Return the application; see `openreward_gym.integrations.openenv.app`."""
    integer(1)("max_sessions", max_sessions)
    episodes = Episodes(environment, **options)
    return create_app(
        functools.partial(OpenRewardSession, episodes),
        OpenRewardAction,
        OpenRewardObservation,
        env_name=episodes.name,
        max_concurrent_envs=max_sessions,
    )


class OpenRewardAction(Action):  # the types of OpenEnv are not read
    """An action: a call of a tool, a message of the model, or a request for the tools.

    Example:
        >>> OpenRewardAction(type="call_tool", tool_name="get_weather", arguments={"city": "Oslo"}).tool_name
        'get_weather'
    """

    type: Literal["call_tool", "message", "list_tools"] = Field(description="Kind of the action")
    tool_name: str = Field(default="", description="Name of the tool to call")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Arguments of the tool")
    message: str | dict[str, Any] = Field(
        default="", description="Message of the model: text, or a message in the format of OpenAI's chat API"
    )


class OpenRewardObservation(Observation):  # the types of OpenEnv are not read
    """The prompt of an episode, or what followed a message of the model.

    Example:
        >>> OpenRewardObservation(messages=[{"role": "tool", "content": "7 C"}], text="7 C", reward=1.0).done
        False
    """

    messages: list[dict[str, Any]] = Field(
        description="Messages to append to the conversation, in the format of OpenAI's chat API"
    )
    text: str = Field(default="", description="Their texts, on lines of their own")


class OpenRewardSession(Environment):  # the types of OpenEnv are not read
    """A session of OpenEnv, which plays one episode after the other.

    Args:
        episodes: The source of the episodes.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, episodes: Episodes) -> None:
        super().__init__()
        self.mcp_client = McpTools(self)
        self._episodes = episodes
        self._episode: Episode | None = None
        self._episode_id: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: Any) -> Observation:
        """`reset_async` on the event loop of this package, for a caller without one. The server awaits `reset_async`."""
        return loop.run(self.reset_async(seed, episode_id, **options))

    def step(self, action: Action, timeout_s: float | None = None, **options: Any) -> Observation:
        """`step_async` likewise."""
        return loop.run(self.step_async(action, timeout_s))

    async def reset_async(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        index: int | None = None,
        task_index: int | None = None,
        split: str | None = None,
        task_spec: dict[str, Any] | None = None,
        step: int | None = None,
        group: str | None = None,
        sample: int | None = None,
        **unknown: Any,
    ) -> Observation:
        """Begin an episode, and return its prompt. Without a task and a seed, a random seed chooses the task.

        Raises:
            ConfigurationError: An option is unknown. OpenEnv alone would leave it out, and play a random task.
            OpenRewardGymError: The session cannot be opened; OpenEnv sends it as an error to its client.
        """
        for name in unknown:
            raise ConfigurationError(unknown_option("reset()", name, _RESET_OPTIONS))
        task = _task(index if index is not None else task_index, split, task_spec, self._episodes)
        if task is None and seed is None:
            seed = random.SystemRandom().randrange(2**31)
        self._loop = asyncio.get_running_loop()
        if self._episode is None:
            self._episode = self._episodes.episode()
        self._episode_id = episode_id or str(uuid.uuid4())
        metadata: dict[str, Json] = {"openenv": {"episode_id": self._episode_id}}
        await self._episode.begin(task, seed=seed, step=step, group=group, sample=sample, metadata=metadata)
        return self._observation(self._episode.transcript)

    async def step_async(self, action: OpenRewardAction, timeout_s: float | None = None) -> Observation:
        """Play an action.

        Raises:
            ResetNeededError: There is no episode, or it is over.
            SessionLostError: The connection or the server failed: the episode is over, without a reward.
        """
        if action.type == "list_tools":
            tools = [
                Tool(name=t["name"], description=t["description"], input_schema=t["inputSchema"]) for t in await self.tools()
            ]
            return ListToolsObservation(tools=tools, done=self._is_over, metadata={})
        if action.type == "call_tool":
            answer = await self.act({"name": action.tool_name, "arguments": action.arguments})
            return CallToolObservation(
                tool_name=action.tool_name,
                result=tool_result(answer),
                done=answer.done,
                reward=answer.reward,
                metadata=_facts(answer),
            )
        answer = await self.act(action.message)
        return self._observation(answer.messages, answer)

    async def act(self, message: str | Mapping[str, Any]) -> Answer:
        """Play a message of the model; raises as `step_async`."""
        if self._episode is None:
            raise ResetNeededError("there is no episode yet: call reset() first")
        answer = await self._episode.act(message)
        if self._episode.error is not None:
            reason = self._episode.stop_reason
            raise SessionLostError(f"the episode was lost ({reason}), so it has no reward: {self._episode.error}")
        return answer

    async def tools(self) -> list[dict[str, Any]]:
        """Return the tools in MCP's format: those of the task, or those that all tasks share before there is one."""
        is_task = self._episode is not None and len(self._episode.tool_set) > 0
        tools = self._episode.tools if is_task and self._episode is not None else await self._episodes.atools()
        functions = [tool["function"] for tool in tools]
        return [
            {
                "name": function["name"],
                "description": function.get("description") or "",
                "inputSchema": function.get("parameters") or {"type": "object", "properties": {}},
            }
            for function in functions
        ]

    @property
    def _is_over(self) -> bool:
        return self._episode is not None and self._episode.done

    def _observation(self, messages: Sequence[Message], answer: Answer | None = None) -> OpenRewardObservation:
        shown = answer or Answer(tuple(messages), None, False)
        task = self._episode.task if self._episode is not None else None
        facts = _facts(answer) if answer is not None else {"split": task and task.split, "task_index": task and task.index}
        return OpenRewardObservation(messages=shown.openai, text=shown.text, done=shown.done, reward=shown.reward, metadata=facts)

    @property
    def state(self) -> State:
        """The state: the return so far, None where infrastructure spoiled it, the stop reason and the task."""
        episode = self._episode
        if episode is None:
            return State()
        task = episode.task
        return State(
            episode_id=self._episode_id,
            step_count=episode.turns,
            done=episode.done,
            reward=episode.reward,
            stop_reason=episode.stop_reason,
            error=episode.error,
            split=None if task is None else task.split,
            task_index=None if task is None else task.index,
        )

    def get_metadata(self) -> EnvironmentMetadata:
        """Return the name and a description of the environment."""
        return EnvironmentMetadata(name=self._episodes.name, description=f"The OpenReward environment {self._episodes.name}")

    def close(self) -> None:
        """Close the session. An episode that still runs is recorded as cancelled. The server calls this in any thread."""
        episode, home, self._episode = self._episode, self._loop, None
        if episode is None or home is None or home.is_closed():
            return
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            closing: Future[None] = asyncio.run_coroutine_threadsafe(episode.aclose(), home)
            closing.result(CLOSE_S)
            return
        self._closing = running.create_task(episode.aclose())

    async def list_splits(self) -> list[dict[str, Any]]:
        """Return the splits, with their types."""
        async with self._remote() as remote:
            return [{"name": split.name, "type": split.type} for split in await remote.splits()]

    async def num_tasks(self, split: str) -> int:
        """Return the number of tasks of a split."""
        return await self._episodes.anum_tasks(split)

    async def list_tasks(self, split: str) -> list[Any]:
        """Return the specs of the tasks of a split."""
        async with self._remote() as remote:
            return [_described(task) for task in await remote.tasks(split)]

    async def get_task(self, split: str, index: int) -> Any:
        """Return the spec of a task."""
        async with self._remote() as remote:
            return _described(await remote.task(split, index))

    async def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> list[Any]:
        """Return the specs of the tasks from `start` up to `stop`."""
        number = await self.num_tasks(split)
        begin, end, _ = slice(start, stop).indices(number)
        async with self._remote() as remote:
            return [_described(task) for task in await remote.task_range(split, begin, max(begin, end))]

    @asynccontextmanager
    async def _remote(self) -> AsyncIterator[Any]:
        options = self._episodes.options
        async with Client(**options.client.to_keywords()) as client:
            yield client.environment(self._episodes.name, options.variant)


class McpTools:
    """The tools of a session as OpenEnv's server asks an MCP client for them.

    Args:
        session: The session.
    """

    def __init__(self, session: OpenRewardSession) -> None:
        self._session = session

    async def __aenter__(self) -> McpTools:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    def is_connected(self) -> bool:
        """Return True: there is no connection of its own."""
        return True

    async def list_tools(self) -> list[dict[str, Any]]:
        """Return the tools."""
        return await self._session.tools()

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool, and return its result with the reward; raises as `OpenRewardSession.step_async`."""
        answer = await self._session.act({"name": name, "arguments": dict(arguments)})
        return {**tool_result(answer), "meta": {"reward": answer.reward, "done": answer.done, **_facts(answer)}}


def tool_result(answer: Answer) -> dict[str, Any]:
    """Return an answer as the result of a call in MCP: its content, and as `data` its text, or the content if it has images."""
    content: list[dict[str, Any]] = []
    for block in (block for message in answer.messages for block in message.blocks):
        if isinstance(block, TextBlock):
            content.append({"type": "text", "text": block.text})
        elif isinstance(block, ImageBlock):
            content.append({"type": "image", "data": block.data, "mimeType": block.mime_type})
    has_image = any(part["type"] == "image" for part in content)
    is_error = any(message.is_error for message in answer.messages)
    return {"content": content, "data": content if has_image else answer.text, "is_error": is_error}


def _facts(answer: Answer) -> dict[str, Any]:
    return {"stop_reason": answer.stop_reason} if answer.done else {}


def _described(task: Task) -> dict[str, Any]:
    return {"split": task.split, "index": task.index, "task_spec": task.spec}


def _task(index: int | None, split: str | None, spec: Mapping[str, Json] | None, episodes: Episodes) -> Task | None:
    """Return the task that a reset asks for; None where the seed chooses it from the split of the options."""
    if index is not None and spec is not None:
        raise ConfigurationError("reset() takes an index or a task_spec, not both")
    if index is None and spec is None:
        if split not in (None, episodes.options.split):
            raise ConfigurationError(
                f"reset() with split={split!r} needs an index: a seed chooses from {episodes.options.split!r}"
            )
        return None
    return Task(split or episodes.options.split, index, spec)
