"""The contract of the integrations: an episode that a trainer's own loop plays, and a source of such episodes.

A trainer has its own loop, its own types and its own idea of an error. What it needs of an environment is the same everywhere: a
prompt and tools in OpenAI's format, an answer to each message of the model, and a reward that is None where infrastructure
spoiled the episode.
"""

from __future__ import annotations

import asyncio
import os
import uuid
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, Unpack

from openreward_gym.chat import to_openai
from openreward_gym.checks import integer, names, writable_folder
from openreward_gym.envs.clients import SharedClient, resolve_host
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.episode import FAILURES, as_message, stop_reason_of
from openreward_gym.envs.episode import Episode as PlayedEpisode
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, PolicyError, ResetNeededError
from openreward_gym.integrations.opening import open_in_attempts
from openreward_gym.options import EnvKeywords, EnvOptions, signature_from
from openreward_gym.policies.functions import function_specs
from openreward_gym.protocol import loop
from openreward_gym.protocol.transport import TransportLike
from openreward_gym.redaction import RecordRedactor
from openreward_gym.store import RolloutStore
from openreward_gym.types import AssistantMessage, Ended, Json, Message, Rollout, Sampled, Task, ToolSet
from openreward_gym.wrappers.record import FIELD_CHECKS, RecordRollouts, rollout_of
from openreward_gym.wrappers.text_action import TextAction

T = TypeVar("T")

TaskLike: TypeAlias = int | Mapping[str, Json] | Task
"""A task: its index in the split, its spec, or a `Task`."""

_SPOILED = ("policy_unavailable", "policy_failed")
"""Stop reasons of `Episode.end` which say that infrastructure spoiled the episode."""

PROMPTS_AT_ONCE = 16
"""Number of sessions that `Episodes.rows` has open at the same time."""


class EpisodeOptions(EnvKeywords, total=False):
    """Types of the keyword arguments of `Episodes` and of the integrations, for type checkers.

    Example:
        >>> options: EpisodeOptions = {"output": "runs/grpo", "max_steps": 8}
    """

    base_url: str | None
    transport: TransportLike
    output: str | os.PathLike[str] | RolloutStore | None
    open_attempts: int
    model: Mapping[str, Json] | None
    sampling: Mapping[str, Json] | None
    metadata: Mapping[str, Json] | None
    redact: Sequence[str]
    redact_patterns: Sequence[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What followed a message of the model.

    Attributes:
        messages: The messages to append to the conversation: tools' results, and what the client said in place of a tool. Empty
            after an answer that ended the episode without words.
        reward: The sum of the rewards that came with the messages. None if none came.
        done: Whether the episode is over.
        stop_reason: Why it is over ("finished", "message", "max_steps", "session_lost", ...). Empty while it goes on.
        error: The failure of the connection or the server that ended it; None if none did.

    Example:
        >>> answer = Answer((), reward=1.0, done=True, stop_reason="finished")
        >>> answer.openai, answer.text
        ([], '')
    """

    messages: tuple[Message, ...]
    reward: float | None
    done: bool
    stop_reason: str = ""
    error: str | None = None

    @property
    def openai(self) -> list[dict[str, Json]]:
        """The messages in the format of OpenAI's chat API."""
        return to_openai(self.messages)

    @property
    def text(self) -> str:
        """The texts of the messages, one after the other, on lines of their own."""
        return "\n".join(message.text for message in self.messages)


class Episodes:
    """A source of episodes of one environment. It can be pickled: a copy opens its own connections and writes its own shard.

    The episodes of one event loop share a client, and all share the store.

    Args:
        environment: Name of the environment: "weather" on one server, "owner/name" on the platform. A class is played in this
            process.
        base_url: URL of the server. None takes `OPENREWARD_URL`, or the hosted platform.
        transport: As for `OpenRewardEnv`.
        output: Folder of the run, or a store, in which every episode is recorded. None records nothing.
        open_attempts: Number of attempts to open a session. An environment that raised an exception like ValueError while it was
            set up is not tried again.
        model, sampling, metadata: Run info, written in each rollout, as for `RecordRollouts`.
        redact, redact_patterns: What is cut out of the record, likewise.
        **options: The other options of `OpenRewardEnv`: `split`, `max_steps`, `step_timeout_s`, `on_message`, ...

    Raises:
        ConfigurationError: An option is unknown or has a wrong value, or `output` is not a folder that can be written.

    Example:
        >>> from openreward_gym import serve
        >>> with serve.local(["weather"]) as base_url:
        ...     episodes = Episodes("weather", base_url=base_url, split="train")
        ...     episodes.num_tasks(), episodes.rows(limit=1)[0]["prompt"][-1]["role"]
        (5, 'user')
    """

    @signature_from(EnvOptions)
    def __init__(
        self,
        environment: str | type[Any],
        *,
        base_url: str | None = None,
        transport: TransportLike = "fast",
        output: str | os.PathLike[str] | RolloutStore | None = None,
        open_attempts: int = 3,
        model: Mapping[str, Json] | None = None,
        sampling: Mapping[str, Json] | None = None,
        metadata: Mapping[str, Json] | None = None,
        redact: Sequence[str] = (),
        redact_patterns: Sequence[str] = (),
        **options: Unpack[EnvKeywords],
    ) -> None:
        self._requested = EnvOptions.from_keywords(
            {"environment": environment, "base_url": base_url, "transport": transport, **options}, Episodes
        )
        self.open_attempts: int = integer(1)("open_attempts", open_attempts)
        is_path = output is not None and not isinstance(output, RolloutStore)
        self._output = writable_folder("output", output) if is_path else output
        self.record: dict[str, Any] = {"model": model, "sampling": sampling, "metadata": metadata}
        limits = self._requested.limits
        if limits.on_failure != "truncate" or limits.on_reset_failure == "truncate":
            raise ConfigurationError(
                "on_failure and on_reset_failure are options of OpenRewardEnv alone: a failure in an episode is its `error`, and "
                "one of begin() is raised"
            )
        self._redaction: dict[str, Any] = {
            "redact": names("redact", redact) or (),
            "redact_patterns": names("redact_patterns", redact_patterns) or (),
        }
        self._connect()

    def _connect(self) -> None:
        self.options = resolve_host(self._requested)
        self.store: RolloutStore | None = None
        if self._output is not None:
            self.store = self._output if isinstance(self._output, RolloutStore) else RolloutStore(self._output)
        own = [*(self.options.session.secrets_env or {}).values(), self.options.client.api_key_env]
        self.redactor = RecordRedactor(self._redaction["redact"], self._redaction["redact_patterns"], own=own)
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, SharedClient] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"Episodes({self.name!r}, split={self.options.split!r})"

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_requested", "open_attempts", "_output", "record", "_redaction")
        return {name: value for name, value in vars(self).items() if name in kept}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._connect()

    @property
    def name(self) -> str:
        """Name of the environment."""
        return str(self.options.environment)

    def episode(self) -> Episode:
        """Return an episode that has not begun."""
        return Episode(self)

    def env(self) -> OpenRewardEnv[Any]:
        """Return an env of the running event loop, which shares its client with the other episodes of that loop."""
        return OpenRewardEnv.from_options(self.options, self._client())

    def _client(self) -> SharedClient:
        running = asyncio.get_running_loop()
        client = self._clients.get(running)
        if client is None:
            client = self._clients[running] = SharedClient(self.options)
        return client

    def wrapped(self, env: OpenRewardEnv[Any]) -> TextAction | RecordRollouts:
        """Return an env with calls parsed out of texts, and with recording if there is an output."""
        text = TextAction(env)
        return text if self.store is None else RecordRollouts(text, self.store, **self.record, **self._redaction)

    async def open(self, reset: Callable[[], Awaitable[Any]], known: Mapping[str, Any]) -> None:
        """Open a session in `open_attempts` attempts; see `open_in_attempts`."""
        await open_in_attempts(reset, self.open_attempts, store=self.store, redactor=self.redactor, known=known)

    def num_tasks(self, split: str | None = None) -> int:
        """Return the number of tasks of a split. None takes the split of the options.

        Raises:
            ConfigurationError: The split has no tasks; SplitNotFoundError, EnvironmentNotFoundError.
            TransportError, ServerError: The server cannot be reached, or failed.
        """
        return loop.run(self.anum_tasks(split))

    async def anum_tasks(self, split: str | None = None) -> int:
        """`num_tasks` as a coroutine."""
        client, user = self._client(), _User()
        try:
            return await client.num_tasks(user, split or self.options.split)
        finally:
            await client.release(user)

    def tools(self) -> list[dict[str, Any]]:
        """Return the tools that all sessions share, in OpenAI's format. A task may have other ones."""
        return loop.run(self.atools())

    async def atools(self) -> list[dict[str, Any]]:
        """`tools` as a coroutine."""
        client, user = self._client(), _User()
        try:
            return openai_tools(await client.tools(user))
        finally:
            await client.release(user)

    def rows(self, limit: int | None = None, *, tasks: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Return a row per task for a trainer's dataset: `environment`, `split`, `task_index`, and `prompt` as OpenAI messages.

        A session is opened for each task, because the prompt is the session's.

        Args:
            limit: Largest number of tasks. None takes all.
            tasks: Indices of the tasks. None takes them from 0.

        Raises:
            ConfigurationError, TransportError, ServerError, SessionLostError: As `Episode.begin`.
        """
        return loop.run(self.arows(limit, tasks=tasks))

    async def arows(self, limit: int | None = None, *, tasks: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """`rows` as a coroutine."""

        def row(index: int, env: OpenRewardEnv[Any]) -> dict[str, Any]:
            prompt = to_openai(env.messages)
            return {"environment": self.name, "split": self.options.split, "task_index": index, "prompt": prompt}

        return await self.aread_tasks(row, limit, tasks=tasks)

    async def aread_tasks(
        self, read: Callable[[int, OpenRewardEnv[Any]], T], limit: int | None = None, *, tasks: Sequence[int] | None = None
    ) -> list[T]:
        """Open a session on each task, and return what `read` makes of the task's index and its env.

        Args:
            read: Gets the index and the env after its reset, which has the prompt (`env.messages`) and the tools (`env.tools`).
            limit, tasks: As for `rows`.

        Raises:
            ConfigurationError, TransportError, ServerError, SessionLostError: As `rows`.
        """
        chosen: Sequence[int] = range(await self.anum_tasks()) if tasks is None else tasks
        if limit is not None:
            chosen = chosen[: integer(1)("limit", limit)]
        at_once = asyncio.Semaphore(PROMPTS_AT_ONCE)

        async def of_task(index: int) -> T:
            async with at_once:
                env = self.env()
                options, known = {"task_index": index}, {"split": self.options.split, "index": index}
                try:
                    await self.open(lambda: env.areset(options=options), known)
                    return read(index, env)
                finally:
                    await env.aclose()

        try:
            async with asyncio.TaskGroup() as group:
                results = [group.create_task(of_task(index)) for index in chosen]
        except* OpenRewardGymError as errors:
            raise errors.exceptions[0] from None
        return [done.result() for done in results]

    def close(self) -> None:
        """Close the store's shards, if the store was made here. The source can be used again."""
        if self.store is not None and self.store is not self._output:
            self.store.close()


class Episode:
    """An episode that a trainer's loop plays: `begin`, then `act` with each message of the model until `done`.

    Args:
        environment: Name of the environment, or a source of episodes.
        **options: The options of `Episodes`, where `environment` is a name.

    Example:
        >>> import asyncio
        >>> from openreward_gym import serve
        >>> async def play(base_url):
        ...     episode = Episode("weather", base_url=base_url)
        ...     await episode.begin(0)
        ...     answer = await episode.act('<tool_call>{"name": "get_weather", "arguments": {"city": "Lima"}}</tool_call>')
        ...     await episode.aclose()
        ...     return answer.openai[0]["role"], answer.done
        >>> with serve.local(["weather"]) as base_url:
        ...     asyncio.run(play(base_url))
        ('tool', False)
    """

    def __init__(self, environment: str | type[Any] | Episodes, **options: Unpack[EpisodeOptions]) -> None:
        if isinstance(environment, Episodes):
            if options:
                listed = ", ".join(options)
                raise ConfigurationError(f"options belong to the source of episodes, not to an episode of it: {listed}")
            self.source = environment
        else:
            self.source = Episodes(environment, **options)
        self._env: TextAction | RecordRollouts | None = None
        self._opening: asyncio.Future[None] | None = None
        self._is_closed = False
        self._reset_state()

    def _reset_state(self) -> None:
        self._fields: dict[str, Any] = {}
        self._played: PlayedEpisode | None = None
        self._end: str | None = None
        self._error: str | None = None
        self._rollout: Rollout | None = None

    def __repr__(self) -> str:
        state = self.stop_reason if self.done else "not begun" if self._played is None else "running"
        return f"{type(self).__name__}({self.source.name!r}, {state})"

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.source, self._env, self._opening, self._is_closed = state["source"], None, None, False
        self._reset_state()

    async def begin(
        self,
        task: TaskLike | None = None,
        *,
        seed: int | None = None,
        step: int | None = None,
        group: str | None = None,
        sample: int | None = None,
        attempt: int | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> None:
        """Open a session on a task. An episode that still runs is ended and recorded as cancelled.

        Args:
            task: The index in the split, the spec, or a `Task`. None lets the seed choose.
            seed: Chooses the task if `task` is None. None takes the next task.
            step: Step of the training, for the record.
            group: Name of the group of rollouts that are compared, for the record.
            sample: Number of the rollout in its group, for the record.
            attempt: Number of the attempt at it, from 0, for the record.
            metadata: Free JSON data for the record, beside that of the source.

        Raises:
            ConfigurationError: The task, split or environment does not exist, or an argument is wrong.
            TransportError, ServerError, SessionLostError, ...: The session could not be opened in `open_attempts` attempts. The
                failure is in the store's failures, `done` is True and `reward` is None.
        """
        options = _reset_options(task)
        if self._opening is not None:
            raise ConfigurationError("begin() was called while another begin() of this episode runs: take an episode for each")
        fields: dict[str, Any] = {"step": step, "group": group, "sample": sample, "attempt": attempt}
        fields = {name: FIELD_CHECKS[name](name, value) for name, value in fields.items()}
        if group is not None and sample is not None:
            fields["name"] = f"{group}-{sample}"
        if metadata is not None:
            fields["metadata"] = {**(self.source.record["metadata"] or {}), **metadata}
        fields |= self._further_fields()
        fields = {"id": str(uuid.uuid4()), **{name: value for name, value in fields.items() if value is not None}}
        if self._env is None:
            self._env = self.source.wrapped(self.source.env())
        if isinstance(self._env, RecordRollouts):
            self._env.describe(**fields)
        self._reset_state()
        self._fields = {**{name: value for name, value in self.source.record.items() if value is not None}, **fields}
        await self._open(options, seed)
        self._played = self._env.unwrapped.episode

    def _further_fields(self) -> dict[str, Any]:
        """Return fields of the record that a kind of episode has of its own."""
        return {}

    async def _open(self, options: dict[str, Any] | None, seed: int | None) -> None:
        env, source, named = self._env, self.source, options or {}
        assert env is not None
        known = {**self._fields, "split": named.get("split") or source.options.split, "index": named.get("task_index")}
        self._is_closed = False
        self._opening = asyncio.ensure_future(source.open(lambda: env.areset(seed=seed, options=options), known))
        try:
            await self._opening
        except FAILURES as error:
            self._error, self._end = str(error), stop_reason_of(error)
            raise
        except asyncio.CancelledError:
            self._end = "cancelled"
            if not self._is_closed:
                raise
            raise ResetNeededError("the episode was closed while begin() opened its session: begin it again") from None
        finally:
            self._opening = None

    async def act(self, message: Any, *, sampled: Sampled | None = None, ended: Ended | None = None) -> Answer:
        """Play a message of the model: run its calls, or give its text to the environment as the answer.

        Args:
            message: A text, in which calls in the formats of `openreward_gym.wrappers.TextAction` are found; or a message as
                `OpenRewardEnv.step` takes it: OpenAI's, another provider's, or an AssistantMessage.
            sampled: What is known of the sampling, for the record: token ids, logprobs, usage. None keeps that of the message.
            ended: How the sampling ended. "length" means that the token limit cut the message off, so that nothing of it is
                run. None keeps what the message says.

        Returns:
            The answer. A wrong call is answered by an error for the model to read. A failure of the connection or of the server
            ends the episode, and has no message.

        Raises:
            ResetNeededError: The episode has not begun, or is over.
            ConfigurationError: `message` is not a message of a model.
            PolicyError: `message` is the error that a provider sent in place of an answer: the episode is over, without a reward.
        """
        if self._played is None or self._env is None:
            raise ResetNeededError("act() was called before begin(): call `await episode.begin(task)` first")
        if self.done:
            raise ResetNeededError(f"act() was called after the episode ended ({self.stop_reason}): begin the next one")
        try:
            turn = AssistantMessage(message) if isinstance(message, str) else as_message(message)
        except PolicyError as error:
            self._error = str(error)
            await self.end("policy_unavailable")
            raise
        if sampled is not None or ended is not None:
            turn = turn.replace(sampled=sampled or turn.sampled, ended=ended or turn.ended)
        try:
            _, _, terminated, truncated, info = await self._env.astep(turn)
        except asyncio.CancelledError:
            # The call may still be running, so that its session is closed, and nothing more can be played.
            self._end = "cancelled"
            raise
        step = self._played.steps[-1]
        if terminated or truncated:
            self._finish(str(info.get("stop_reason", "")))
        if step.error:
            self._error = step.error
        reward = step.reward if step.has_reward else None
        return Answer(step.messages[1:], reward, self.done, self.stop_reason, step.error or None)

    async def end(self, stop_reason: str) -> None:
        """End the episode from outside: it is recorded as truncated with this stop reason, and its session is closed.

        An episode that is over already stays as it is, except that one whose `act` was cancelled gets this stop reason.

        Args:
            stop_reason: Why the trainer ends it: "max_turns", "context_overflow", "cancelled", ... The episode has no reward
                after "policy_unavailable" (the model's server failed) and "policy_failed".
        """
        if self._played is None or self._env is None or (self.done and not self._is_interrupted):
            return
        if isinstance(self._env, RecordRollouts):
            self._env.truncate(stop_reason)
        else:
            self._env.unwrapped.truncate(stop_reason)
        self._finish(stop_reason)
        await self._env.unwrapped.end_session()

    @property
    def _is_interrupted(self) -> bool:
        """Whether a cancelled `act` ended the episode, which is recorded when it is closed or given another reason."""
        return self._end == "cancelled" and self._rollout is None and not self._is_closed

    def _finish(self, stop_reason: str) -> None:
        self._end = stop_reason
        written = self._env.last_rollout if isinstance(self._env, RecordRollouts) else None
        if written is not None and written.id == self._fields["id"]:
            self._rollout = written

    async def aclose(self) -> None:
        """Close the session. An episode that still runs is recorded as cancelled, if the model has said anything."""
        self._is_closed, opening = True, self._opening
        if opening is not None and opening.get_loop() is asyncio.get_running_loop():
            opening.cancel()
            await asyncio.wait([opening])
        if self._env is not None:
            running = self._played is not None and (not self.done or self._end == "cancelled")
            await self._env.aclose()
            if running:
                self._finish("cancelled")

    @property
    def prompt(self) -> list[dict[str, Any]]:
        """The messages that the environment opened with, in OpenAI's format. Empty before `begin`."""
        return [] if self._played is None else to_openai(self._played.prompt)

    @property
    def tool_set(self) -> ToolSet:
        """The tools of the task. Empty before `begin`."""
        return ToolSet() if self._played is None else self._played.tools

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools of the task, in OpenAI's format. Empty before `begin`."""
        return openai_tools(self.tool_set)

    @property
    def transcript(self) -> tuple[Message, ...]:
        """The conversation so far. Empty before `begin`."""
        return () if self._played is None else self._played.messages

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far, in OpenAI's format."""
        return to_openai(self.transcript)

    @property
    def task(self) -> Task | None:
        """The task that is played. None before `begin`."""
        return None if self._played is None else self._played.task

    @property
    def turns(self) -> int:
        """Number of messages of the model."""
        return 0 if self._played is None else len(self._played.steps)

    @property
    def done(self) -> bool:
        """Whether the episode is over, also because `begin` failed."""
        return self._end is not None

    @property
    def stop_reason(self) -> str:
        """Why the episode is over; empty while it runs."""
        return self._end or ""

    @property
    def error(self) -> str | None:
        """The failure of infrastructure that spoiled the episode. None if none did."""
        return self._error

    @property
    def reward(self) -> float | None:
        """The return of the episode so far: the sum of its rewards, 0.0 if there was none.

        None before `begin`, and where infrastructure spoiled the episode: the session could not be opened or was lost, a request
        ran into a deadline, the model's server failed, or a filter took the model's answer away. Such an episode says nothing
        about the model. Leave it out, or play it again.
        """
        if self._played is None or self._error is not None or self._end in _SPOILED:
            return None
        if any(step.kind == "withheld" and step.stop_reason != "context_overflow" for step in self._played.steps):
            return None
        return sum((step.reward for step in self._played.steps), 0.0)

    @property
    def rollout(self) -> Rollout | None:
        """The record of the episode, without what is redacted. None until it is over, and where `begin` failed."""
        if self._played is None or not self.done:
            return None
        if self._rollout is None:
            fields: dict[str, Any] = {**self._fields}
            if not self._played.done:
                fields |= {"terminated": False, "truncated": self._end != "cancelled", "stop_reason": self._end}
            self._rollout = self.source.redactor.rollout(rollout_of(self._played, **fields))
        return self._rollout


class _User:
    """A user of a shared client: an object that can be referenced weakly."""


def openai_tools(tools: ToolSet) -> list[dict[str, Any]]:
    """Return tools in the format of OpenAI's chat API.

    Example:
        >>> from openreward_gym.types import ToolSpec
        >>> openai_tools(ToolSet((ToolSpec("look", "Look around."),)))[0]["function"]["name"]
        'look'
    """
    return [{"type": "function", "function": spec} for spec in function_specs(tools, "parameters")]


def _reset_options(task: TaskLike | None) -> dict[str, Any] | None:
    """Return the options of a reset that plays the task."""
    if task is None:
        return None
    if isinstance(task, Task):
        named: dict[str, Any] = {"task_spec": task.spec} if task.index is None else {"task_index": task.index}
        return {**({"split": task.split} if task.split else {}), **named}
    if isinstance(task, Mapping):
        return {"task_spec": task}
    return {"task_index": integer(0)("task", task)}
