"""The harness: the loop that sends the conversation to the model through verifiers, and the model's messages to the session."""

from __future__ import annotations

import asyncio
import os
import re
import weakref
from collections.abc import Mapping, Sequence
from itertools import dropwhile
from typing import Any, cast

import httpx
import openai
import verifiers.v1 as vf
from verifiers.v1.dialects import parse_message, parse_tools
from verifiers.v1.dialects.chat import message_to_wire
from verifiers.v1.graph import prepare_turn

from openreward_gym.chat import from_openai
from openreward_gym.chat.failures import kind_of_failure
from openreward_gym.envs.turns import is_no_answer
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, PolicyError
from openreward_gym.integrations.episode import Answer, Episode
from openreward_gym.integrations.verifiers.source import SampledSource, source_of, task_name
from openreward_gym.integrations.verifiers.taskset import INFO, OpenRewardTaskData
from openreward_gym.integrations.verifiers.tokens import sampled_of
from openreward_gym.jsonio import loads
from openreward_gym.types import AssistantMessage, Json, ToolMessage, task_id

_SENT_BACK = ("role", "content", "reasoning", "reasoning_content", "reasoning_details", "tool_calls")
"""The parts of a sampled message that the next request has: by them verifiers knows the turn again."""
# Words of verifiers for the ends of ours that it has, too: its reports count them as truncated.
_STOP_CONDITIONS = {"max_steps": "max_turns", "max_tokens": "max_output_tokens", "context_overflow": "context_length"}


class SessionError(vf.RolloutError):  # type: ignore[misc]  # verifiers has no types here
    """The environment's session could not be opened, or was lost: the rollout has no reward, and can be played again.

    verifiers records it under this name, so that a retry rule can say `type = "SessionError"`.

    Example:
        >>> raise SessionError("the server restarted")  # doctest: +SKIP
    """


class OpenRewardHarnessConfig(vf.HarnessConfig):  # type: ignore[misc]
    """Options of the harness. It has none of its own: those of the episodes are the taskset's.

    Example:
        >>> OpenRewardHarnessConfig(id="openreward-gym-verifiers")  # doctest: +SKIP
    """


class OpenRewardHarness(vf.Harness[OpenRewardHarnessConfig]):  # type: ignore[misc]
    """Plays the tasks of `OpenRewardTaskset`: one session per rollout, with the session's own tools.

    Example:
        >>> OpenRewardHarness(OpenRewardHarnessConfig(id="openreward-gym-verifiers"))  # doctest: +SKIP
    """

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    def __init__(self, config: OpenRewardHarnessConfig) -> None:
        super().__init__(config)
        self._episodes: dict[str, Episode] = {}

    async def setup(self, runtime: Any) -> None:
        """Refuse a container, from which the model's address would be another one than from this process.

        Raises:
            HarnessError: The runtime is not `subprocess`.
        """
        if not isinstance(runtime.config, vf.SubprocessConfig):
            raise vf.HarnessError(
                f"this harness runs in the evaluator's own process, not in the runtime {runtime.config.type!r}: "
                "set --env.agent.runtime.type subprocess"
            )

    async def launch(
        self, ctx: Any, trace: Any, runtime: Any, endpoint: str, secret: str, mcp_urls: Mapping[str, str], data: Any
    ) -> Any:
        """Play one episode.

        Raises:
            SessionError: The session could not be opened, or was lost.
            TaskError: The environment does not have the task.
            HarnessError: The task is not one of `OpenRewardTaskset`.
        """
        task = trace.task.data
        if not isinstance(task, OpenRewardTaskData):
            raise vf.HarnessError(f"this harness plays the tasks of openreward-gym, not {type(task).__name__}")
        source = source_of(task.source, model={"name": ctx.model}, **_sampling(ctx))
        episode = self._episodes[trace.id] = source.episode()
        await _begin(episode, source, task, ctx, trace)
        messages = _opening(episode, data, task)
        try:
            await _Loop(episode, trace, ctx, model_client(endpoint, secret)).play(messages)
        finally:
            trace.info[INFO] = _info(episode)
        if episode.error is not None:
            raise SessionError(episode.error)
        if not _is_terminated(episode):
            _stop(trace, episode.stop_reason)
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")

    async def cleanup(self, trace: Any, runtime: Any) -> None:
        """Close the session. An episode that a timeout or a cancellation interrupted is recorded so."""
        episode = self._episodes.pop(trace.id, None)
        if episode is None:
            return
        if trace.is_timeout:
            await episode.end("deadline")
        await episode.aclose()


_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, openai.AsyncOpenAI] = weakref.WeakKeyDictionary()


def model_client(endpoint: str, secret: str) -> openai.AsyncOpenAI:
    """Return a client of verifiers' model endpoint. All clients of an event loop share their connections."""
    running = asyncio.get_running_loop()
    if running not in _clients:
        _clients[running] = openai.AsyncOpenAI(base_url=endpoint, api_key=secret, timeout=None)
    return _clients[running].with_options(base_url=endpoint, api_key=secret)


async def close_clients() -> None:
    """Close the connections of the running event loop to verifiers' model endpoint."""
    client = _clients.pop(asyncio.get_running_loop(), None)
    if client is not None:
        await client.close()


def _sampling(ctx: Any) -> dict[str, dict[str, Json]]:
    """Return the sampling parameters as run info, without those that change from request to request."""
    sampling = {name: value for name, value in ctx.sampling.model_dump().items() if value is not None and name != "cache_salt"}
    return {"sampling": sampling} if sampling else {}


async def _begin(episode: Episode, source: SampledSource, task: OpenRewardTaskData, ctx: Any, trace: Any) -> None:
    """Open the session of a task."""
    group = task_name(task.source, task.task_index)
    # prime-rl salts the server's prefix cache with the version of the policy, the only word on the step that an environment gets.
    version = str((ctx.sampling.model_extra or {}).get("cache_salt") or "")
    step = int(version) if re.fullmatch("[0-9]{1,9}", version) else None
    group = group if step is None else f"{group}@{step}"
    run = os.environ.get("VF_RUN_ID")
    metadata: dict[str, Json] = {"verifiers": {"trace": trace.id, **({"run": run} if run else {})}}
    sample = source.next_sample(group)
    try:
        await episode.begin(task.task_index, step=step, group=group, sample=sample, metadata=metadata)
    except OpenRewardGymError as error:
        source.return_sample(group, sample)
        # A task that does not exist is not there at the next attempt either.
        kind = vf.TaskError if isinstance(error, ConfigurationError) else SessionError
        raise kind(str(error)) from error


def _opening(episode: Episode, data: Any, task: OpenRewardTaskData) -> list[dict[str, Any]]:
    """Return the messages of the first request: the session's prompt, with what verifiers changed of it.

    Args:
        episode: The episode, whose session has its own prompt.
        data: The task as verifiers wants it played: its prompt may be rewritten, and it may have a system prompt.
        task: The task as it was loaded.
    """
    messages = episode.prompt
    if data.prompt and data.prompt != task.prompt and [parse_message(message) for message in messages] == task.prompt:
        messages = [message_to_wire(message) for message in data.prompt]
    if data.system_prompt is not None:
        rest = dropwhile(lambda message: message["role"] == "system", messages)
        messages = [{"role": "system", "content": data.system_prompt}, *rest]
    return messages


class _Loop:
    """The conversation of one episode with the model."""

    def __init__(self, episode: Episode, trace: Any, ctx: Any, client: openai.AsyncOpenAI) -> None:
        self._episode = episode
        self._trace = trace
        self._is_training = ctx.client.type == "train"
        self._client = client
        self._request: dict[str, Any] = {"model": ctx.model}
        if episode.tools:
            self._request["tools"] = episode.tools

    async def play(self, messages: list[dict[str, Any]]) -> None:
        """Ask the model and play its messages until the episode is over."""
        while not self._episode.done:
            completion = await self._ask(messages)
            if completion is None:
                return
            said, message = self._read(completion)
            if not self._is_training and is_no_answer(message):
                await self._episode.end("policy_unavailable")
                raise vf.ProviderError("the model's answer is empty: no text, no reasoning, no call")
            try:
                answer = await self._episode.act(message)
            except PolicyError as error:
                raise vf.ProviderError(str(error)) from error
            messages += [said, *answer.openai]
            if answer.done:
                self._add_to_trace(messages, answer)

    def _add_to_trace(self, messages: Sequence[Mapping[str, Any]], answer: Answer) -> None:
        """Add what followed the model's last turn to the trace. No request to the model carries it."""
        conversation = [parse_message(message) for message in messages]
        for typed, message in zip(reversed(conversation), reversed(answer.messages), strict=False):
            if isinstance(typed, vf.ToolMessage) and isinstance(message, ToolMessage):
                typed.name = message.name
        tools = parse_tools(self._request.get("tools"))
        prepare_turn(self._trace, conversation, tools).commit_prompt()

    async def _ask(self, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        """Return the model's completion. None if the request was refused and the episode is over for that reason."""
        try:
            # The SDK retries what a busy server refuses, and marks the retries, which verifiers then counts as one turn.
            response = await self._client.post(
                "/chat/completions", body={**self._request, "messages": messages}, cast_to=httpx.Response
            )
        except openai.APIStatusError as error:
            if self._trace.stop_condition is not None:
                await self._episode.end(self._trace.stop_condition)
                return None
            if kind_of_failure(error.status_code, error.body) == "context_overflow":
                await self._episode.end("context_overflow")
                return None
            await self._episode.end("policy_unavailable")
            raise
        except openai.APIConnectionError as error:
            await self._episode.end("policy_unavailable")
            raise vf.InterceptionError(f"no connection to verifiers' model endpoint: {error}") from error
        return cast(dict[str, Any], loads(response.content))

    def _read(self, completion: Mapping[str, Any]) -> tuple[dict[str, Any], AssistantMessage]:
        """Return the model's message as the next request has it, and as the environment gets it."""
        raw = completion["choices"][0]["message"]
        said = {name: raw[name] for name in _SENT_BACK if raw.get(name) is not None}
        if not said.get("tool_calls"):
            said.setdefault("content", "")
        message = cast(AssistantMessage, from_openai(dict(completion))[0])
        return said, message.replace(sampled=sampled_of(self._trace, message.sampled))


def _info(episode: Episode) -> dict[str, Json]:
    """Return what a trace has of an episode. The task's spec, which may hold the answer, is not in it."""
    task, options = episode.task, episode.source.options
    assert task is not None
    identity = task_id(episode.source.name, task.split or options.split, task.spec, task.index, options.variant)
    return {"task": identity, "reward": episode.reward, "stop_reason": episode.stop_reason}


def _is_terminated(episode: Episode) -> bool:
    return episode.rollout is not None and episode.rollout.status == "completed"


def _stop(trace: Any, stop_reason: str) -> None:
    """Tell verifiers why an episode was truncated. A limit of verifiers has said so itself."""
    if stop_reason == "deadline":
        trace.record_timeout("agent")
    else:
        trace.stop(_STOP_CONDITIONS.get(stop_reason, stop_reason))
