"""An episode's data, and the playing of one step.

A model's mistake is an observation. A failure of the connection or the server truncates the episode, with its own stop reason
and without a reward.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from openreward_gym.chat import parse_action
from openreward_gym.chat.dialect import tool_call
from openreward_gym.chat.failures import error_text
from openreward_gym.chat.plain import plain, shown
from openreward_gym.chat.streams import BROKE_OFF
from openreward_gym.envs.turns import MOST_REPLIES, REPLIES, TurnKind, turn_kind
from openreward_gym.errors import (
    ConfigurationError,
    MessageError,
    OpenRewardGymError,
    OutcomeUnknownError,
    PolicyError,
    ProtocolError,
    ServerError,
    SessionLostError,
    ToolFailedError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.options import OnLength, OnMessage
from openreward_gym.types import (
    AssistantMessage,
    Json,
    Message,
    Origin,
    StopReason,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolOutput,
    ToolSet,
    UserMessage,
)
from openreward_gym.types.rollout import now_iso

NUDGE = "Please go on by calling one of the tools: {tools}."
NOT_EXECUTED = "Not executed: the episode had already ended with an earlier call of the same message."
MALFORMED_CHARS = 4000
"""Characters of a malformed call that the error message has."""

_CALL = {"name", "arguments"}
ACTION_FORMS = (
    '{"name": ..., "arguments": {...}}, a list of such calls, an OpenAI, Anthropic or Gemini tool call or message '
    "(dict or SDK object), an AssistantMessage, or plain text"
)

FAILURES = (TransportError, SessionLostError, ToolFailedError, ServerError, ProtocolError)
"""Errors of the connection, the server and the environment, as opposed to the caller's mistakes."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """A call and its output. `executed` is False if the call was not sent: it was malformed, or the episode had ended.

    Example:
        >>> result = CallResult(ToolCall("get_weather"), ToolOutput((TextBlock("7 C"),)), started_at="", ended_at="")
        >>> result.message.text, result.message.origin
        ('7 C', 'environment')
    """

    call: ToolCall
    output: ToolOutput
    started_at: str
    ended_at: str
    executed: bool = True

    @property
    def message(self) -> ToolMessage:
        """The output as the message that answers the call. The origin of an answer that no server gave is the client."""
        sent = self.executed and self.output.error_kind != "malformed"
        origin: Origin = "environment" if sent else "client"
        return self.output.answer(self.call, origin=origin, started_at=self.started_at, ended_at=self.ended_at)


@dataclass
class Step:
    """One step: the assistant's message, and the results of its calls.

    Attributes:
        action: The assistant's message, as the env took it.
        results: The results of its calls, in order.
        kind: What the message was taken for, see `openreward_gym.envs.turns`.
        reply: The env's answer to a message that reached no tool and did not end the episode, or an empty string.
        reward: The sum of the rewards of the calls, 0.0 if no call has a reward.
        has_reward: True if any call has a reward.
        terminated, truncated, stop_reason: The values that `step` returned.
        error: Description of a failure of the connection or the server, or an empty string.
        started_at, ended_at: Times in ISO 8601, UTC.
        environment_s: Seconds spent in the environment.
        policy_s: Seconds between the last observation and this action.
        annotations: Data added with `env.unwrapped.annotate(...)`.

    Example:
        >>> step = Step(AssistantMessage("Hello"), reply="Call a tool.")
        >>> [(message.role, message.origin) for message in step.messages]
        [('assistant', 'policy'), ('user', 'client')]
    """

    action: AssistantMessage
    results: tuple[CallResult, ...] = ()
    kind: TurnKind = "calls"
    reply: str = ""
    reward: float = 0.0
    has_reward: bool = False
    terminated: bool = False
    truncated: bool = False
    stop_reason: StopReason | str = ""
    error: str = ""
    started_at: str = ""
    ended_at: str = ""
    environment_s: float = 0.0
    policy_s: float = 0.0
    annotations: dict[str, Json] = field(default_factory=dict)

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """The messages of the step, with origins and times: the action, a tool's message for each result, and the reply."""
        metadata = self.action.metadata
        if self.annotations:
            metadata = {**(metadata if isinstance(metadata, dict) else {}), **self.annotations}
        origin = self.action.origin or "policy"
        action = self.action.replace(origin=origin, ended_at=self.started_at or None, metadata=metadata)
        reply = [UserMessage(self.reply, origin="client")] if self.reply else []
        return (action, *(result.message for result in self.results), *reply)


@dataclass(slots=True)
class Episode:
    """One episode, from `reset` to its end.

    Attributes:
        environment, variant: Names of the environment and its variant. A variant of None is the default one.
        base_url: URL of the server; None for the hosted platform.
        task: The task. `task.spec` is None if the server does not send it.
        tools: The tools of the session.
        prompt: The messages that the environment opened with.
        seed: The seed passed to `reset`, or None.
        session_id: The server's id of the session. Records do not contain it.
        started_at, ended_at: Times in ISO 8601, UTC. `ended_at` is empty while the episode runs.
        reset_s: Duration of the reset, in seconds.
        steps: The steps so far.
    """

    environment: str
    variant: str | None
    base_url: str | None
    task: Task
    tools: ToolSet
    prompt: tuple[Message, ...]
    seed: int | None = None
    session_id: str | None = None
    started_at: str = ""
    ended_at: str = ""
    reset_s: float = 0.0
    steps: list[Step] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """True if the last step ended the episode."""
        return bool(self.steps) and (self.steps[-1].terminated or self.steps[-1].truncated)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The transcript so far: the prompt, then each assistant turn and the answers to it."""
        return (*self.prompt, *(message for step in self.steps for message in step.messages))


class ToolSession(Protocol):
    """The part of a session that a step uses."""

    async def call(self, name: str, arguments: dict[str, object], *, timeout_s: float | None = None) -> ToolOutput: ...


def stop_reason_of(error: OpenRewardGymError) -> StopReason:
    """Return the stop reason of an episode that a failure of the connection or the server ended."""
    # The order of the tests matters: both timeouts and unknown outcomes are transport errors.
    if isinstance(error, TransportTimeoutError):
        return "deadline"
    if isinstance(error, OutcomeUnknownError):
        return "outcome_unknown"
    if isinstance(error, ToolFailedError):
        return "tool_failed"
    if isinstance(error, ServerError):
        # Status 500 is an exception of the environment. Other statuses come from a proxy, and nothing ran.
        return "tool_failed" if error.status == 500 else "session_lost"
    # After an unreadable response the call may have run.
    return "outcome_unknown" if isinstance(error, ProtocolError) else "session_lost"


async def take_step(
    session: ToolSession,
    episode: Episode,
    action: AssistantMessage,
    *,
    on_message: OnMessage = "terminate",
    on_length: OnLength = "tell",
    timeout_s: float | None = None,
) -> tuple[Step, OpenRewardGymError | None]:
    """Play an action: its calls one after the other, until one of them ends the episode.

    Of a message that is neither calls nor an answer nothing reaches a tool: the step has a reply and the episode goes on, or it
    is truncated, as `turn_kind` and `on_length` say. `timeout_s` limits each call in seconds; None leaves that to the session.

    Returns:
        The step, and the failure that ended it or None.
    """
    started_at = ended_at = now_iso()
    step = Step(action, kind=turn_kind(action, episode.tools, on_length), started_at=started_at)
    begun = time.perf_counter()
    failure: OpenRewardGymError | None = None
    results: list[CallResult] = []
    for call in _calls_of(episode, step, on_message, on_length):
        # The first call begins with the step, each further call when the one before it ended.
        started_at = ended_at
        executed = False
        if step.terminated:
            output = ToolOutput((TextBlock(NOT_EXECUTED),), error=NOT_EXECUTED, error_kind="episode_finished")
        elif step.kind == "cut_off":
            output = ToolOutput((TextBlock(REPLIES["cut_off"]),), error=REPLIES["cut_off"], error_kind="cut_off")
        elif not call.name or call.arguments is None:
            output = _malformed(call, episode.tools)
        else:
            executed = True
            try:
                output = await session.call(call.name, dict(call.arguments), timeout_s=timeout_s)
            except FAILURES as error:
                # The call gets no invented result: the step has the error.
                failure, step.error = error, str(error)
                break
            _count(step, output)
        ended_at = now_iso()
        results.append(CallResult(call, output, started_at, ended_at, executed))
    step.results = tuple(results)
    if step.kind == "answer" and results and not results[0].output.error and not step.terminated:
        # A terminal tool ends the episode even if its output does not say so.
        step.terminated, step.stop_reason = True, "message"
    if failure is not None:
        step.truncated, step.terminated = True, False
        step.stop_reason = stop_reason_of(failure)
    elif not step.terminated and not step.truncated and _is_stuck(episode, step):
        step.truncated, step.stop_reason = True, "length" if step.kind == "cut_off" else "no_action"
    step.environment_s = time.perf_counter() - begun
    step.ended_at = ended_at if failure is None else now_iso()
    return step, failure


def _calls_of(episode: Episode, step: Step, on_message: OnMessage, on_length: OnLength) -> tuple[ToolCall, ...]:
    """Return the calls of a step. A step without calls gets its reply or its end here."""
    action, kind = step.action, step.kind
    if kind == "answer":
        return _message_calls(episode, action, step, on_message)
    if kind == "withheld" or (kind == "cut_off" and on_length == "truncate"):
        step.truncated, step.stop_reason = True, str(action.ended)
        return ()
    if not action.tool_calls:
        step.reply = REPLIES.get(kind, "")
    return action.tool_calls


def _is_stuck(episode: Episode, step: Step) -> bool:
    """Return whether nothing of the last turns, this one included, reached the environment."""
    if any(result.executed for result in step.results):
        return False
    recent = episode.steps[1 - MOST_REPLIES :]
    return len(recent) == MOST_REPLIES - 1 and not any(result.executed for one in recent for result in one.results)


def _message_calls(episode: Episode, action: AssistantMessage, step: Step, on_message: OnMessage) -> tuple[ToolCall, ...]:
    """Return the call of the terminal tool for a plain message. Without such a tool, apply `on_message` to the step."""
    terminal = episode.tools.terminal
    if terminal is not None:
        arguments = {} if terminal.arg is None else {terminal.arg: action.text}
        return (ToolCall(terminal.name, arguments),)
    if on_message == "nudge":
        step.reply = NUDGE.format(tools=", ".join(tool.name for tool in episode.tools) or "(none)")
    elif on_message == "terminate":
        step.terminated, step.stop_reason = True, "message"
    else:
        step.truncated, step.stop_reason = True, "message"
    return ()


def _malformed(call: ToolCall, tools: ToolSet) -> ToolOutput:
    """Return the answer to a call that cannot be sent. The history of the conversation has the call's text here alone."""
    if not call.name:
        names = ", ".join(tool.name for tool in tools) or "(none)"
        text = f"The call has no tool name. Its arguments: {_cut(call.arguments_json)}. Call one of the tools: {names}."
    else:
        text = f"The arguments of {call.name!r} are not a JSON object: {_cut(call.arguments_json)}. Send an object."
    return ToolOutput((TextBlock(text),), error=text, error_kind="malformed")


def _cut(text: str) -> str:
    """Return the `repr` of a text, its middle left out if it is long: an error in JSON is mostly at the end."""
    if len(text) <= MALFORMED_CHARS:
        return repr(text)
    half = MALFORMED_CHARS // 2
    return f"{text[:half]!r} ({len(text) - 2 * half} characters left out) {text[-half:]!r}"


def _count(step: Step, output: ToolOutput) -> None:
    if output.reward is not None:
        step.reward += output.reward
        step.has_reward = True
    if output.finished or output.error_kind == "episode_finished":
        step.terminated, step.stop_reason = True, "finished"


def as_message(action: Any) -> AssistantMessage:
    """Convert an action to an assistant message.

    A call with wrong arguments is a valid action, and so is an empty list of calls: a model's mistake is an observation.

    Raises:
        ConfigurationError: `step` does not take such an object.
        PolicyError: The action is the error that a provider sent in place of an answer, or a stream that broke off.
    """
    if isinstance(action, AssistantMessage):
        return _answered(action)
    if type(action) is dict and action.keys() == _CALL and type(action["name"]) is str and type(action["arguments"]) is dict:
        # The commonest form needs no search for a provider's format.
        return AssistantMessage((tool_call(action["name"], plain(action["arguments"]), ""),))
    try:
        return _answered(parse_action(action))
    except MessageError as error:
        reason = f": {error.reason}" if error.reason and len(error.reason) < 100 else ""
        raise ConfigurationError(f"step() cannot take {shown(action)}{reason}. It takes {ACTION_FORMS}.") from None


def _answered(action: AssistantMessage) -> AssistantMessage:
    if action.ended == "error":
        raise PolicyError(f"the model gave no answer: {error_text(action)}", kind="policy_unavailable", delivery="delivered")
    if action.sampled is not None and (action.sampled.metadata or {}).get(BROKE_OFF):
        raise PolicyError(
            "the stream of the model's answer broke off, so nothing of it is used: send the request again",
            kind="policy_unavailable",
            delivery="delivered",
        )
    return action
