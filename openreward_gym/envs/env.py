"""A session of an OpenReward environment as a `gymnasium.Env`."""

from __future__ import annotations

import asyncio
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any, Self, Unpack, cast, get_args

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers.utils import create_zero_array

from openreward_gym.envs.clients import LoopBoundSession, SharedClient, open_episode, reset_deadline, resolve_host
from openreward_gym.envs.episode import FAILURES, Episode, Step, as_message, stop_reason_of, take_step
from openreward_gym.envs.observations import (
    Renderer,
    TranscriptObserver,
    conversation_text,
    observation_space,
    reset_info,
    step_info,
    step_text,
    truncated,
)
from openreward_gym.envs.registration import shown_spec
from openreward_gym.envs.spaces import ToolCallSpace
from openreward_gym.envs.tasks import TaskChooser, TaskRequest, task_request
from openreward_gym.envs.typed_dicts import Info
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, ResetNeededError
from openreward_gym.options import EnvKeywords, EnvOptions, RenderMode, signature_from
from openreward_gym.protocol import loop
from openreward_gym.protocol.session import Session
from openreward_gym.protocol.transport import TransportLike
from openreward_gym.types import AssistantMessage, Json, Message, StopReason, Task, ToolSet
from openreward_gym.types.rollout import now_iso, server_origin

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    ObsT = TypeVar("ObsT", default=Any)
else:
    from typing import TypeVar

    ObsT = TypeVar("ObsT")

EnvStep = tuple[ObsT, float, bool, bool, Info]


class OpenRewardEnv(gymnasium.Env[ObsT, Any]):
    """One episode at a time of an OpenReward environment.

    An env with an open session belongs to its process: in a forked child its methods raise ConfigurationError, and closing it
    there changes nothing. An env that was never reset, and the copy that a pickle makes, can be used in any process.

    The observation is text (`obs_mode="text"`), a tuple of text and image blocks ("blocks") or the complete transcript as
    OpenAI-style messages ("messages"). The action is a tool call `{"name": str, "arguments": dict}`, a list of calls, a
    provider's message, or plain text; see `step`. The env connects to the server at the first use of a space or of `reset`.

    For type checkers, an annotation tells the type of the observations: `env: OpenRewardEnv[str] = OpenRewardEnv(...)`, or
    `OpenRewardEnv[BlocksObservation]` and `OpenRewardEnv[MessagesObservation]`. The types of infos are always known.

    Args:
        environment: Name of the environment: "weather" on one server, "owner/name" on the platform. Or a class, a subclass of
            the SDK's `Environment`, to play in this process (a spec's JSON cannot hold a class). Required.
        base_url: URL of the server. None takes `OPENREWARD_URL`, or the hosted platform.
        variant: Variant of the environment. None takes its default.
        split: Split that tasks come from.
        task_index: Index of the only task to play. None lets `task_order` and the seed choose.
        task_order: "sequential" (seed s gives task s % n), "random" or "shuffle".
        obs_mode: "text", "blocks" or "messages".
        max_obs_chars: Length in characters above which a text observation loses its middle. None cuts nothing.
        render_mode: None, "ansi", "human" or "rgb_array".
        toolset: Name of a toolset of the server to add to the environment's own tools. None adds none.
        secrets_env: Secrets of the environment: the secret's name -> the name of the environment variable that holds it.
        secret_domains: Hosts that may receive a secret: the secret's name -> host names.
        env_overrides: Environment variables to set in the environment's container.
        max_steps: Number of steps after which the episode is truncated. None sets no limit.
        reset_timeout_s: Seconds that a reset may take. Hosted environments are started in it.
        step_timeout_s: Seconds that a call may take. None sets no limit.
        episode_timeout_s: Seconds after the end of `reset` from which the episode is truncated. None sets no limit.
        on_message: Effect of a plain message in an environment without a terminal tool: "terminate" or "truncate" the
            episode, or "nudge" the model to call a tool.
        on_length: Effect of a message that the token limit cut off: "tell" the model, which can write it again; "truncate" the
            episode; or "play" a text as the answer. Calls of such a message are never run.
        on_failure: Effect of a failed connection or server in a step: "truncate" the episode (with its `stop_reason`), or
            "raise" the error as well.
        on_reset_failure: Effect of such a failure in a reset: "raise", "truncate" in the next step, or "auto", which truncates
            where an exception would end a batch of Gymnasium (autoreset, and any reset but the first in `AsyncVectorEnv`), and
            raises otherwise.
        api_key_env: Name of the environment variable that holds the API key.
        transport: Name of a transport ("fast", "httpx"), or an `httpx.AsyncClient` or ASGI application (a spec's JSON cannot
            hold one). "in-process" plays in this process what `openreward-gym serve` serves (built-in names, "module:Class").
        request_timeout_s: Seconds until the response to an ordinary request must begin, and until it must be complete.
        idle_timeout_s: Seconds without data after which a stream counts as dead.
        ping_interval_s: Seconds between two pings of an open session.
        max_answer_bytes: Largest size in bytes of one answer or of one call's event stream, unpacked. A larger one is an error.
        retry_limits: Limits on retrying a request, also as a dict. None takes the defaults.
        max_nesting: Largest number of levels of lists and objects in an answer of the server. A deeper one is an error.
        max_blocks: Largest number of blocks in an output, a prompt or a conversation. More are an error.
        max_images: Largest number of images among them.

    Raises:
        ConfigurationError: An argument is unknown or has a wrong value.

    Example:
        >>> env = OpenRewardEnv("weather", base_url="http://127.0.0.1:8080", max_steps=8)
        >>> env
        OpenRewardEnv('weather', split='train', base_url='http://127.0.0.1:8080')
        >>> env.observation_space
        UnicodeText()
    """

    metadata: dict[str, Any] = {"render_modes": list(get_args(RenderMode)), "render_fps": 1}  # noqa: RUF012 (Gymnasium's own)

    @signature_from(EnvOptions)
    def __init__(
        self,
        environment: str | type[Any] = "",  # refused below: without a default, `gymnasium.make` ends in a bare TypeError
        *,
        base_url: str | None = None,
        transport: TransportLike = "fast",
        **options: Unpack[EnvKeywords],
    ) -> None:
        own = {"environment": environment, "base_url": base_url, "transport": transport}
        self._begin(EnvOptions.from_keywords({**own, **options}, OpenRewardEnv))

    @classmethod
    def from_options(cls, options: EnvOptions, client: SharedClient | None = None) -> Self:
        """Make an env from an options object.

        `client` is shared with other envs of the same environment and event loop, and needs options from `resolve_host`. None
        makes a client for this env.
        """
        env = cls.__new__(cls)
        env._begin(options, client)
        return env

    def _begin(self, options: EnvOptions, client: SharedClient | None = None) -> None:
        self._requested = options
        self.options = resolve_host(options) if client is None else options
        self.environment = str(self.options.environment)
        self.variant = options.variant
        self.split = options.split
        self.obs_mode = options.obs_mode
        self.render_mode = options.render_mode
        self.max_steps = options.limits.max_steps
        self.task_index = options.task_index
        self._chooser = TaskChooser(options.task_order)
        self._spec: EnvSpec | None = None
        self._action_space: ToolCallSpace | None = None
        self.observation_space = observation_space(options.obs_mode, options.max_obs_chars)
        self._bound = LoopBoundSession(SharedClient(self.options) if client is None else client)
        self._adopted: tuple[Session, Episode] | None = None
        self._episode: Episode | None = None
        self._reset_failure: OpenRewardGymError | None = None
        self._closed = self._has_begun = False
        self._deadline: float | None = None
        self._observed_at = 0.0
        self._notes: dict[str, Json] = {}
        self._renderer = Renderer()
        self._transcript = TranscriptObserver()

    @property
    def spec(self) -> EnvSpec | None:
        """The spec that `gymnasium.make` made the env from, or None. It shows no credentials; see `openreward_gym.spec`."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = shown_spec(spec)

    @property  # type: ignore[override]
    def action_space(self) -> ToolCallSpace:
        """The environment's shared tools as a space. The server is asked at the first use."""
        if self._action_space is None:
            tools = loop.run(_shared_tools(self._bound.for_waiting(self.options)))
            self._action_space = ToolCallSpace(tools.tools, tools.terminal, message=True)
        return self._action_space

    @action_space.setter
    def action_space(self, space: ToolCallSpace) -> None:
        self._action_space = space

    @property
    def tools(self) -> ToolSet:
        """The tools of the running session; before the first reset, the tools that all sessions share."""
        if self._episode is not None:
            return self._episode.tools
        return ToolSet(self.action_space.tools, self.action_space.terminal)

    @property
    def episode(self) -> Episode | None:
        """The episode since the last reset, also after its end. None before the first reset."""
        return self._episode

    @property
    def messages(self) -> tuple[Message, ...]:
        """The transcript so far; empty before the first reset."""
        return () if self._episode is None else self._episode.messages

    @property
    def last_step(self) -> Step | None:
        """The last step of the episode, with its results. None before the first step."""
        return self._episode.steps[-1] if self._episode and self._episode.steps else None

    @property
    def session_id(self) -> str | None:
        """The server's id of the running session. None if no session is open."""
        return None if self._bound.session is None else self._bound.session.session_id

    def annotate(self, **data: Json) -> None:
        """Keep JSON values of the policy with the next step, for a recorder."""
        self._notes.update(data)

    def truncate(self, stop_reason: str) -> None:
        """End the running episode from outside, for a wrapper: mark its last step as truncated, and close its session."""
        self._bound.check_process()
        if self._bound.session is None or self._bound.loop is None or self._episode is None or not self._episode.steps:
            return
        step = self._episode.steps[-1]
        step.truncated, step.stop_reason = True, stop_reason
        self._bound.loop.call_soon_threadsafe(self._retire_session)

    def reset(  # type: ignore[override]
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsT, Info]:
        """Open a session on a task and return the environment's prompt.

        Args:
            seed: Chooses the task by `task_order`. None takes the next task.
            options: `{"task_index": int}`, `{"task_spec": dict}`, `{"split": str}`, or an index or spec with a split.

        Returns:
            The observation, and an info with the keys of a step's info, `tools` and `action_mask`.

        Raises:
            ConfigurationError: An option is wrong; SplitNotFoundError, TaskNotFoundError, EnvironmentNotFoundError.
            TransportError, ServerError, SessionLostError: The session could not be opened; see `on_reset_failure`.
        """
        try:
            return self._bound.run(self.areset(seed=seed, options=options))
        except FAILURES as error:
            if self.options.limits.on_reset_failure == "auto" and _survives(sys._getframe(1), self._has_begun):
                return self._failed_reset(error)
            raise

    def step(self, action: Any) -> EnvStep[ObsT]:  # type: ignore[override]
        """Play one assistant message.

        Args:
            action: `{"name": str, "arguments": dict}`; a list of calls, which run in order; a provider's tool call or
                message, as dict or SDK object; a JSON string of a call; an AssistantMessage; or plain text. Plain text goes to
                the terminal tool if the environment has one, and otherwise has the effect of `on_message`.

        Returns:
            observation, reward (0.0 if the environment gave none: see `info["reward_is_null"]`), terminated, truncated, info.
            A wrong call is an observation, and so is an empty list of calls. A lost session truncates the episode, with
            `info["stop_reason"]`.

        Raises:
            ResetNeededError: The env was never reset, its episode has ended, or it was closed.
            ConfigurationError: `action` has none of these forms.
            PolicyError: `action` is the error that a provider sent in place of an answer, or a stream that broke off.
        """
        return self._bound.run(self.astep(action))

    def render(self) -> Any:
        """Return the transcript ("ansi") or an image ("rgb_array"), or print the new messages and return None ("human")."""
        self._bound.check_process()
        if self.render_mode is None:
            return None
        return self._renderer.render(self.render_mode, self._episode)

    def close(self) -> None:
        """Close the session. Calling it again has no effect, and the env can be reset afterwards."""
        self._closed = True
        if not self._bound.is_empty:
            self._bound.run(self.aclose())

    async def areset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[ObsT, Info]:
        """`reset` as a coroutine."""
        try:
            super().reset(seed=seed)
        except gymnasium.error.Error:
            raise ConfigurationError(f"the seed of reset() must be an integer from 0, or None, not {seed!r:.200}") from None
        request = task_request(options, self.split, self.task_index)
        try:
            return await self._bound.on_loop(self._reset(request, seed))
        except FAILURES as error:
            if self.options.limits.on_reset_failure == "truncate":
                return self._failed_reset(error)
            raise

    async def astep(self, action: Any) -> EnvStep[ObsT]:
        """`step` as a coroutine."""
        self._bound.check_process()
        if self._reset_failure is not None:
            return self._failed_step(as_message(action))
        if self._closed:
            raise ResetNeededError("step() was called after close(): the env was closed; call env.reset() to begin an episode")
        if self._episode is None:
            raise ResetNeededError("step() was called before reset(): call env.reset() first")
        if self._bound.session is None or self._episode.done:
            raise ResetNeededError("step() was called after the episode ended: call env.reset() to begin the next one")
        return await self._bound.on_loop(self._step(action))

    async def aclose(self) -> None:
        """`close` as a coroutine."""
        self._closed = True
        if self._bound.is_foreign:
            return
        await self._bound.on_loop(self._close())

    async def end_session(self) -> None:
        """Close the running session, and keep the client for the next reset."""
        if self._bound.session is not None:
            await self._bound.on_loop(self._bound.end_session())

    async def choose_task(self, request: TaskRequest, seed: int | None) -> TaskRequest:
        """Return a request that names its task: the task order chooses an index if `request` has neither index nor spec."""
        if request.spec is not None or request.index is not None:
            return request
        async with reset_deadline(self.options.limits.reset_timeout_s):
            n = await self._bound.num_tasks(request.split)
        return TaskRequest(request.split, self._chooser.choose(n, seed, self.np_random))

    async def open_session(self, request: TaskRequest, seed: int | None) -> tuple[Session, Episode]:
        """Open a session on a chosen task. The caller owns it and its episode until `adopt` takes them."""
        async with reset_deadline(self.options.limits.reset_timeout_s):
            remote = self._bound.remote()
            task = Task(request.split, None, request.spec)
            if request.index is not None:
                task = await remote.task(request.split, request.index)
            return await open_episode(remote, task, self.options, seed)

    def adopt(self, session: Session, episode: Episode) -> None:
        """Let the next reset use a session from `open_session` of this env, or of another env with the same options."""
        self._adopted = (session, episode)

    async def _reset(self, request: TaskRequest, seed: int | None) -> tuple[ObsT, Info]:
        await self._bound.end_session()
        self._episode = self._reset_failure = None
        adopted, self._adopted = self._adopted, None
        if adopted is None:
            adopted = await self.open_session(await self.choose_task(request, seed), seed)
        self._bound.session, self._episode = adopted
        self._transcript = TranscriptObserver()
        self._closed, self._has_begun = False, True
        self._observed_at = time.perf_counter()
        timeout_s = self.options.limits.episode_timeout_s
        self._deadline = None if timeout_s is None else self._observed_at + timeout_s
        info = reset_info(self._episode)
        prompt = self._episode.prompt
        observation = self._observe(conversation_text(prompt), info)
        if self.render_mode == "human":
            self._renderer.print_new(self._episode)
        return observation, info

    async def _step(self, action: Any) -> EnvStep[ObsT]:
        assert self._bound.session is not None
        assert self._episode is not None
        policy_s = time.perf_counter() - self._observed_at
        message = as_message(action)
        limits = self.options.limits
        timeout_s = limits.step_timeout_s
        left = None if self._deadline is None else self._deadline - time.perf_counter()
        failure: OpenRewardGymError | None = None
        if left is not None and left <= 0:
            step = Step(message, truncated=True, stop_reason="deadline", started_at=now_iso(), ended_at=now_iso())
            step.error = f"the episode took longer than episode_timeout_s={limits.episode_timeout_s}"
        else:
            if left is not None:
                timeout_s = left if timeout_s is None else min(timeout_s, left)
            try:
                step, failure = await take_step(
                    self._bound.session,
                    self._episode,
                    message,
                    on_message=limits.on_message,
                    on_length=limits.on_length,
                    timeout_s=timeout_s,
                )
            except asyncio.CancelledError:
                # The call may still be running, so this session cannot be stepped again.
                self._episode.steps.append(Step(message, truncated=True, stop_reason="cancelled", policy_s=policy_s))
                self._retire_session()
                raise
        step.policy_s = policy_s
        step.annotations, self._notes = self._notes, {}
        self._episode.steps.append(step)
        is_last = self.max_steps is not None and len(self._episode.steps) >= self.max_steps
        if is_last and not step.terminated and not step.truncated:
            step.truncated, step.stop_reason = True, "max_steps"
        if step.terminated or step.truncated:
            self._retire_session()
        info = step_info(self._episode, step)
        observation = self._observe(step_text(step), info)
        if self.render_mode == "human":
            self._renderer.print_new(self._episode)
        self._observed_at = time.perf_counter()
        if failure is not None and limits.on_failure == "raise":
            raise failure
        return observation, step.reward, step.terminated, step.truncated, info

    def _observe(self, text: str, info: Info) -> ObsT:
        assert self._episode is not None
        observation: Any
        if self.obs_mode == "blocks":
            observation = info["blocks"]
        elif self.obs_mode == "messages":
            observation = self._transcript.observe(self._episode.messages)
        else:
            observation, info["obs_truncated_chars"] = truncated(text, self.options.max_obs_chars)
        return cast(ObsT, observation)

    def failed_row(
        self,
        error: Exception | str,
        stop_reason: StopReason,
        *,
        action: AssistantMessage | None = None,
        episode: Episode | None = None,
    ) -> tuple[ObsT, float, bool, bool, Info]:
        """Return a truncated row with an error, with the keys of any other row. `episode` is None before one has begun."""
        episode = episode or Episode(self.environment, self.variant, None, Task(self.split), ToolSet(), ())
        error = str(error) or type(error).__name__
        step = Step(action or AssistantMessage(), truncated=True, stop_reason=stop_reason, error=error)
        info: Info = {**reset_info(episode), **step_info(episode, step)}
        return create_zero_array(cast(Any, self.observation_space)), 0.0, False, True, info

    def _failed_reset(self, error: OpenRewardGymError) -> tuple[ObsT, Info]:
        """Return the result of a failed reset that does not raise. The next step is a truncated row."""
        self._episode, self._reset_failure = None, error
        observation, _, _, _, info = self.failed_row(error, stop_reason_of(error))
        return observation, info

    def _failed_step(self, action: AssistantMessage) -> EnvStep[ObsT]:
        error, self._reset_failure = self._reset_failure, None
        assert error is not None
        return self.failed_row(error, stop_reason_of(error), action=action)

    def _retire_session(self) -> None:
        """End the episode, and close its session in the background."""
        if self._episode is not None:
            self._episode.ended_at = now_iso()
        self._bound.end_session_later()

    async def _close(self) -> None:
        self._closed = True
        await self._bound.end_session()
        adopted, self._adopted = self._adopted, None
        if adopted is not None:
            await adopted[0].close()
        await self._bound.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self._requested, "spec": self.spec, "np_random": self._np_random}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._begin(state["options"])
        self.spec = state["spec"]
        self._np_random = state["np_random"]

    def __repr__(self) -> str:
        if "_requested" not in vars(self):
            # A traceback shows an env whose arguments were refused.
            return f"{type(self).__name__}(not made)"
        return f"{type(self).__name__}({self.environment!r}, split={self.split!r}{self.shown_address})"

    @property
    def shown_address(self) -> str:
        """The base URL as it shows in a repr, without credentials. Empty where none was given."""
        url = self._requested.client.base_url
        return f", base_url={server_origin(url)!r}" if url else ""

    def __str__(self) -> str:
        return repr(self)


async def _shared_tools(bound: LoopBoundSession) -> ToolSet:
    try:
        return await bound.on_loop(bound.tools())
    finally:
        if bound.session is None:
            await bound.on_loop(bound.close())


def _survives(frame: FrameType | None, has_begun: bool) -> bool:
    """Return True if an exception in this reset would end a batch of Gymnasium that could go on.

    Gymnasium calls `reset` by itself in a step of a vector environment or of `Autoreset`. An exception in a worker process of
    `AsyncVectorEnv` ends all of them, also in a reset that the caller requests. The first reset of an env (`has_begun` is
    False) raises nevertheless: a wrong address is a mistake.
    """
    # `reset` has no argument for this, so look at the first caller that is not itself a `reset` of a wrapper.
    while frame is not None and frame.f_code.co_name == "reset":
        frame = frame.f_back
    if frame is None or not str(frame.f_globals.get("__name__", "")).startswith("gymnasium."):
        return False
    name = frame.f_code.co_name
    return name == "step" or (name == "_async_worker" and (has_begun or frame.f_locals.get("command") == "step"))
