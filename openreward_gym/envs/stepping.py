"""One step of an episode: the assistant's message goes to the session, what it did comes back as a `Step`.

What a model does wrong is an observation. What infrastructure does wrong ends the episode as truncated, with its own
stop reason and no reward: never a reward of 0 that looks like the environment's.
"""

from __future__ import annotations

import time
from typing import Literal, Protocol, TypeAlias

from openreward_gym.envs.episode import CallResult, Episode, Step
from openreward_gym.errors import (
    OpenRewardGymError,
    OutcomeUnknownError,
    ProtocolError,
    ServerError,
    SessionLostError,
    ToolFailedError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.types import AssistantMessage, StopReason, TextBlock, ToolCall, ToolOutput
from openreward_gym.types.rollout import now_iso

OnMessage: TypeAlias = Literal["terminate", "truncate", "nudge"]

NUDGE = "Please go on by calling one of the tools: {tools}."
NOT_EXECUTED = "Not executed: the episode had already ended with an earlier call of the same message."

FAILURES = (TransportError, SessionLostError, ToolFailedError, ServerError, ProtocolError)


class ToolSession(Protocol):
    """What a step needs of a session."""

    async def call(self, name: str, arguments: dict[str, object], *, timeout_s: float | None = None) -> ToolOutput: ...


def stop_reason_of(error: OpenRewardGymError) -> StopReason:
    """The name of an ending that infrastructure caused."""
    # The order matters: "unknown" and "timeout" are both transport errors.
    if isinstance(error, TransportTimeoutError):
        return "deadline"
    if isinstance(error, OutcomeUnknownError):
        return "outcome_unknown"
    if isinstance(error, ToolFailedError):
        return "tool_failed"
    if isinstance(error, ServerError):
        # A 500 is the environment's own exception; anything else stood between us and it, and nothing ran.
        return "tool_failed" if error.status == 500 else "session_lost"
    # An answer that is no answer: whatever was asked may have been done.
    return "outcome_unknown" if isinstance(error, ProtocolError) else "session_lost"


async def take_step(
    session: ToolSession,
    episode: Episode,
    action: AssistantMessage,
    *,
    on_message: OnMessage = "terminate",
    timeout_s: float | None = None,
) -> tuple[Step, OpenRewardGymError | None]:
    """Play `action` and return the step with the failure that ended it, None if none did.

    Calls run in their order, one after the other; one that ends the episode leaves the rest unexecuted. `timeout_s`
    bounds each call, in seconds; None leaves it to the session.
    """
    started_at = ended_at = now_iso()
    step = Step(action, started_at=started_at)
    begun = time.perf_counter()
    failure: OpenRewardGymError | None = None
    calls = action.tool_calls
    is_answer = not calls
    if is_answer:
        calls = _message_calls(episode, action, step, on_message)
    results: list[CallResult] = []
    for call in calls:
        # The first call begins with the step, each further one where the one before it ended.
        started_at = ended_at
        executed = False
        if step.terminated:
            output = ToolOutput((TextBlock(NOT_EXECUTED),), error=NOT_EXECUTED, error_kind="episode_finished")
        elif call.arguments is None:
            output = _malformed(call)
        else:
            executed = True
            try:
                output = await session.call(call.name, dict(call.arguments), timeout_s=timeout_s)
            except FAILURES as error:
                # No result is made up for the call: the step says what went wrong.
                failure, step.error = error, str(error)
                break
            _count(step, output)
        ended_at = now_iso()
        results.append(CallResult(call, output, started_at, ended_at, executed))
    step.results = tuple(results)
    if is_answer and results and not results[0].output.error and not step.terminated:
        # A terminal tool ends the episode by what it is, whether or not it says so.
        step.terminated, step.stop_reason = True, "message"
    if failure is not None:
        step.truncated, step.terminated = True, False
        step.stop_reason = stop_reason_of(failure)
    step.environment_s = time.perf_counter() - begun
    step.ended_at = ended_at if failure is None else now_iso()
    return step, failure


def _message_calls(episode: Episode, action: AssistantMessage, step: Step, on_message: OnMessage) -> tuple[ToolCall, ...]:
    """The call that a plain message makes: the terminal tool's where there is one; else none, and the step says what follows."""
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


def _malformed(call: ToolCall) -> ToolOutput:
    text = f"The arguments of {call.name!r} are not a JSON object: {(call.content or '')[:200]!r}. Send an object."
    return ToolOutput((TextBlock(text),), error=text, error_kind="malformed")


def _count(step: Step, output: ToolOutput) -> None:
    if output.reward is not None:
        step.reward += output.reward
        step.has_reward = True
    if output.finished or output.error_kind == "episode_finished":
        step.terminated, step.stop_reason = True, "finished"
