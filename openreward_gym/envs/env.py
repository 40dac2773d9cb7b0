"""A session of an OpenReward environment as a `gymnasium.Env`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import gymnasium

from openreward_gym.chat import to_openai
from openreward_gym.envs import catalog, hosting, rendering
from openreward_gym.envs.actions import as_message
from openreward_gym.envs.arguments import RENDER_MODES, check_arguments, observation_space
from openreward_gym.envs.episode import Episode, Step
from openreward_gym.envs.holder import SessionHolder
from openreward_gym.envs.observations import (
    Info,
    ObsMode,
    conversation_text,
    reset_info,
    step_info,
    step_text,
    truncated,
)
from openreward_gym.envs.opening import open_episode, reset_deadline
from openreward_gym.envs.spaces import ToolCallSpace
from openreward_gym.envs.stepping import OnMessage, take_step
from openreward_gym.envs.tasks import TaskChooser, TaskOrder, TaskRequest, task_request
from openreward_gym.errors import OpenRewardGymError, ResetNeededError
from openreward_gym.protocol import loop
from openreward_gym.protocol.client import RemoteEnvironment
from openreward_gym.protocol.session import Session
from openreward_gym.types import Json, Message, Task, ToolSet
from openreward_gym.types.rollout import now_iso

Observation = Any
StepResult = tuple[Observation, float, bool, bool, Info]


class OpenRewardEnv(gymnasium.Env[Observation, Any]):
    """One episode at a time of an OpenReward environment.

    The observation is text (`obs_mode="text"`), a tuple of text and image blocks ("blocks") or the whole transcript as
    OpenAI-style messages ("messages"). The action is a tool call `{"name": str, "arguments": dict}`, a list of them, a
    provider's message, or plain text; see `step`. No network before the first use of a space or `reset`.

    Args:
        environment: The environment's name: "weather" on one server, "owner/name" on the platform. Or a class, a subclass of
            the SDK's `Environment`, which is then played in this process (and cannot be in a spec's JSON). Required.
        base_url: The server; None for the hosted platform (`OPENREWARD_URL` and its like).
        variant: A variant of the environment; None for its default.
        split: Where tasks come from.
        task_index: Always this task; None leaves the choice to `task_order` and the seed.
        task_order: "sequential" (seed s gives task s % n), "random" or "shuffle".
        obs_mode: "text", "blocks" or "messages".
        toolset: A toolset of the SDK's that the session gets beside the environment's own tools; None for none.
        secrets_env: The environment's secrets: name of the secret -> name of the environment variable that holds it.
        env_overrides: Environment variables of the hosted session.
        api_key_env: The environment variable that holds the API key.
        max_steps: Truncates the episode after so many steps; None never does.
        reset_timeout_s: Seconds a reset may take; hosted environments are brought up in it.
        step_timeout_s: Seconds a call may take; None for no limit of ours.
        episode_timeout_s: Seconds from the end of `reset` after which the episode is truncated; None for no limit.
        on_message: What a plain message does where the environment has no terminal tool: "terminate" the episode,
            "truncate" it, or "nudge" the model to call a tool.
        on_failure: "truncate" ends the episode when infrastructure fails in a step (with its `stop_reason`), "raise"
            raises the error too.
        max_obs_chars: Longer text observations lose their middle, and say so; None never cuts.
        transport: How a server is reached: a name ("fast", "httpx"), or an `httpx.AsyncClient` or ASGI application (which
            cannot be in a spec). "in-process" plays what `openreward-gym serve` serves (built-in names, "module:Class")
            without one.
        render_mode: None, "ansi", "human" or "rgb_array".

    Raises:
        ConfigurationError: An argument is not one of those above.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 1}  # noqa: RUF012 (Gymnasium's own)

    def __init__(
        self,
        environment: str | type[Any] = "",  # refused below: without a default, `gymnasium.make` ends in a bare TypeError
        *,
        base_url: str | None = None,
        variant: str | None = None,
        split: str = "train",
        task_index: int | None = None,
        task_order: TaskOrder = "sequential",
        obs_mode: ObsMode = "text",
        toolset: str | None = None,
        secrets_env: Mapping[str, str] | None = None,
        env_overrides: Mapping[str, str] | None = None,
        api_key_env: str = "OPENREWARD_API_KEY",
        max_steps: int | None = None,
        reset_timeout_s: float = 900.0,
        step_timeout_s: float | None = 600.0,
        episode_timeout_s: float | None = None,
        on_message: OnMessage = "terminate",
        on_failure: str = "truncate",
        max_obs_chars: int | None = None,
        transport: Any = "fast",
        render_mode: str | None = None,
    ) -> None:
        self._given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        check_arguments(self._given)
        self._arguments = {**self._given, **hosting.resolve(environment, base_url, transport)._asdict()}
        self.environment: str = self._arguments["environment"]
        self.variant = variant
        self.split = split
        self.obs_mode = obs_mode
        self.render_mode = render_mode
        self.max_steps = max_steps
        self.task_index = task_index
        self._chooser = TaskChooser(task_order)
        self._action_space: ToolCallSpace | None = None
        self.observation_space = observation_space(obs_mode, max_obs_chars)
        self._holder = SessionHolder(*(self._arguments[name] for name in ("base_url", "api_key_env", "transport")))
        self._adopted: tuple[Session, Episode] | None = None
        self._episode: Episode | None = None
        self._deadline: float | None = None
        self._observed_at = 0.0
        self._notes: dict[str, Json] = {}
        self._painter = rendering.Painter()

    # Spaces and what else can be known ----------------------------------------------------------------------------

    @property  # type: ignore[override]
    def action_space(self) -> ToolCallSpace:
        """The environment's shared tools as a space; asked from the server once per process, then remembered."""
        if self._action_space is None:
            tools = catalog.known_tools(self._where)
            if tools is None:
                tools = loop.run(self._shared_tools())
            self._action_space = ToolCallSpace(tools.tools, tools.terminal, message=True)
        return self._action_space

    @action_space.setter
    def action_space(self, space: ToolCallSpace) -> None:
        self._action_space = space

    @property
    def tools(self) -> ToolSet:
        """What the running session offers; before the first reset, what the environment offers to all."""
        if self._episode is not None:
            return self._episode.tools
        return ToolSet(self.action_space.tools, self.action_space.terminal)

    @property
    def episode(self) -> Episode | None:
        """What has happened since the last reset; None before the first. It stays after the episode's end."""
        return self._episode

    @property
    def messages(self) -> tuple[Message, ...]:
        """The transcript so far; empty before the first reset."""
        return () if self._episode is None else self._episode.messages

    @property
    def last_step(self) -> Step | None:
        """The last step with all it brought; None before the first one of an episode."""
        return self._episode.steps[-1] if self._episode and self._episode.steps else None

    @property
    def session_id(self) -> str | None:
        """The server's id of the running session; None without one."""
        return None if self._holder.session is None else self._holder.session.session_id

    def annotate(self, **data: Json) -> None:
        """Keep `data` (JSON values) with the next step, for a recorder: what the policy knows and the env does not."""
        self._notes.update(data)

    def truncate(self, stop_reason: str) -> None:
        """End the running episode from outside (a wrapper's limit): its last step says so, its session is closed."""
        if self._holder.session is None or self._holder.loop is None or self._episode is None or not self._episode.steps:
            return
        step = self._episode.steps[-1]
        step.truncated, step.stop_reason = True, stop_reason
        self._holder.loop.call_soon_threadsafe(self._retire_session)

    # Gymnasium's face ---------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Open a session on a task and return the environment's prompt.

        Args:
            seed: Chooses the task, as `task_order` says. None goes on to the next task.
            options: `{"task_index": int}`, `{"task_spec": dict}`, `{"split": str}` or an index or spec with a split.

        Returns:
            The observation and the info of gymnasium.md's fixed keys, with `tools` and `action_mask`.

        Raises:
            ConfigurationError: An option is wrong; SplitNotFoundError, TaskNotFoundError, EnvironmentNotFoundError.
            TransportError, ServerError, SessionLostError: The session could not be opened.
        """
        return self._holder.run(self.areset(seed=seed, options=options))

    def step(self, action: Any) -> StepResult:
        """Play one assistant message.

        Args:
            action: `{"name": str, "arguments": dict}`; a list of calls, which run in order; a provider's tool call or
                message, as dict or SDK object; a JSON string of a call; an AssistantMessage; or plain text, which goes
                to the terminal tool where there is one and otherwise does what `on_message` says.

        Returns:
            observation, reward (0.0 where the environment gave none: see `info["reward_is_null"]`), terminated,
            truncated, info. A wrong call is an observation; a lost session truncates, with `info["stop_reason"]`.

        Raises:
            ResetNeededError: Before a reset, or after the end.
            ConfigurationError: `action` is none of the above.
        """
        return self._holder.run(self.astep(action))

    def render(self) -> Any:
        """The transcript as text ("ansi"), the latest image or the transcript drawn ("rgb_array"), or None ("human" prints)."""
        if self.render_mode is None:
            return None
        return self._painter.render(self.render_mode, self._episode)

    def close(self) -> None:
        """Close the session; can be called again, and the env can be reset afterwards."""
        if not self._holder.is_empty:
            self._holder.run(self.aclose())

    # The same, async ----------------------------------------------------------------------------------------------

    async def areset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """`reset` as a coroutine."""
        super().reset(seed=seed)
        request = task_request(options, self.split, self.task_index)
        return await self._holder.on_loop(self._reset(request, seed))

    async def astep(self, action: Any) -> StepResult:
        """`step` as a coroutine."""
        if self._episode is None:
            raise ResetNeededError("step() was called before reset(): call env.reset() first")
        if self._holder.session is None or self._episode.done:
            raise ResetNeededError("step() was called after the episode ended: call env.reset() to begin the next one")
        return await self._holder.on_loop(self._step(action))

    async def aclose(self) -> None:
        """`close` as a coroutine."""
        await self._holder.on_loop(self._close())

    # Behind both --------------------------------------------------------------------------------------------------

    @property
    def _where(self) -> catalog.Where:
        return catalog.Where(self._arguments["base_url"], self.environment, self.variant)

    def _remote(self) -> RemoteEnvironment:
        return self._holder.client().environment(self.environment, self.variant)

    async def _shared_tools(self) -> ToolSet:
        async def ask() -> ToolSet:
            return await catalog.tools(self._where, self._remote())

        try:
            return await self._holder.on_loop(ask())
        finally:
            if self._holder.session is None:
                await self.aclose()

    async def choose_task(self, request: TaskRequest, seed: int | None) -> TaskRequest:
        """`request` with the index that the task order gives where it names neither index nor spec."""
        if request.spec is not None or request.index is not None:
            return request
        async with reset_deadline(self._arguments["reset_timeout_s"]):
            n = await catalog.num_tasks(self._where, self._remote(), request.split)
        return TaskRequest(request.split, self._chooser.choose(n, seed, self.np_random))

    async def open_session(self, request: TaskRequest, seed: int | None) -> tuple[Session, Episode]:
        """A new session on a chosen task, with its episode. It is the caller's until `adopt` takes it."""
        given = self._arguments
        async with reset_deadline(given["reset_timeout_s"]):
            remote = self._remote()
            task = Task(request.split, None, request.spec)
            if request.index is not None:
                task = await remote.task(request.split, request.index)
            return await open_episode(remote, task, given, seed)

    def adopt(self, session: Session, episode: Episode) -> None:
        """Begin the next reset with a session that `open_session` opened, of this env or of another with its arguments."""
        self._adopted = (session, episode)

    async def _reset(self, request: TaskRequest, seed: int | None) -> tuple[Observation, Info]:
        await self._holder.end_session()
        self._episode = None
        given = self._arguments
        adopted, self._adopted = self._adopted, None
        if adopted is None:
            adopted = await self.open_session(await self.choose_task(request, seed), seed)
        self._holder.session, self._episode = adopted
        self._observed_at = time.perf_counter()
        self._deadline = None if given["episode_timeout_s"] is None else self._observed_at + given["episode_timeout_s"]
        info = reset_info(self._episode)
        prompt = self._episode.prompt
        observation = self._observe(conversation_text(prompt), info)
        if self.render_mode == "human":
            self._painter.print_new(self._episode)
        return observation, info

    async def _step(self, action: Any) -> StepResult:
        assert self._holder.session is not None
        assert self._episode is not None
        policy_s = time.perf_counter() - self._observed_at
        message = as_message(action)
        timeout_s, given = self._arguments["step_timeout_s"], self._arguments
        left = None if self._deadline is None else self._deadline - time.perf_counter()
        failure: OpenRewardGymError | None = None
        if left is not None and left <= 0:
            step = Step(message, truncated=True, stop_reason="deadline", started_at=now_iso(), ended_at=now_iso())
            step.error = f"the episode took longer than episode_timeout_s={given['episode_timeout_s']}"
        else:
            if left is not None:
                timeout_s = left if timeout_s is None else min(timeout_s, left)
            try:
                step, failure = await take_step(
                    self._holder.session, self._episode, message, on_message=given["on_message"], timeout_s=timeout_s
                )
            except asyncio.CancelledError:
                # The call may be running: this session cannot be stepped again.
                self._episode.steps.append(Step(message, truncated=True, stop_reason="cancelled", policy_s=policy_s))
                self._retire_session()
                raise
        step.policy_s = policy_s
        step.annotations, self._notes = self._notes, {}
        self._episode.steps.append(step)
        full = self.max_steps is not None and len(self._episode.steps) >= self.max_steps
        if full and not step.terminated and not step.truncated:
            step.truncated, step.stop_reason = True, "max_steps"
        if step.terminated or step.truncated:
            self._retire_session()
        info = step_info(self._episode, step)
        observation = self._observe(step_text(step), info)
        if self.render_mode == "human":
            self._painter.print_new(self._episode)
        self._observed_at = time.perf_counter()
        if failure is not None and given["on_failure"] == "raise":
            raise failure
        return observation, step.reward, step.terminated, step.truncated, info

    def _observe(self, text: str, info: Info) -> Observation:
        assert self._episode is not None
        if self.obs_mode == "blocks":
            return info["blocks"]
        if self.obs_mode == "messages":
            return tuple(to_openai(self._episode.messages))
        text, info["obs_truncated_chars"] = truncated(text, self._arguments["max_obs_chars"])
        return text

    def _retire_session(self) -> None:
        """End the episode, and close its session without making the step wait for it."""
        if self._episode is not None:
            self._episode.ended_at = now_iso()
        self._holder.let_go()

    async def _close(self) -> None:
        await self._holder.end_session()
        adopted, self._adopted = self._adopted, None
        if adopted is not None:
            await adopted[0].close()
        await self._holder.close()

    # Copies carry the arguments, never a session -------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {"arguments": self._given, "spec": self.spec, "np_random": self._np_random}

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, **state["arguments"])
        self.spec = state["spec"]
        self._np_random = state["np_random"]

    def __repr__(self) -> str:
        where = f", base_url={self._given['base_url']!r}" if self._given["base_url"] else ""
        return f"{type(self).__name__}({self.environment!r}, split={self.split!r}{where})"

    def __str__(self) -> str:
        return repr(self)
