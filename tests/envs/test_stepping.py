"""Each outcome of a call, and the step that it leads to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scripted_session import Session

from openreward_gym.envs.episode import Episode, take_step
from openreward_gym.errors import (
    CallTimeoutError,
    OutcomeUnknownError,
    ProtocolError,
    ServerError,
    ServerUnreachableError,
    SessionLostError,
    ToolFailedError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.types import AssistantMessage, Task, TerminalTool, TextBlock, ToolCall, ToolOutput, ToolSet, ToolSpec

TOOLS = ToolSet((ToolSpec("t"),))


def play(session: Session, message: AssistantMessage, tools: ToolSet = TOOLS, **arguments: Any) -> Any:
    episode = Episode("e", None, None, Task("train", 0), tools, ())
    return asyncio.run(take_step(session, episode, message, **arguments))


def calls(count: int) -> AssistantMessage:
    return AssistantMessage(tool_calls=[ToolCall("t", {"n": n}) for n in range(count)])


@pytest.mark.parametrize(
    ("error", "stop_reason"),
    [
        (SessionLostError("gone"), "session_lost"),
        (ToolFailedError("raised"), "tool_failed"),
        (ServerError("500", status=500), "tool_failed"),
        (ServerError("429", status=429), "session_lost"),
        (CallTimeoutError("slow, may have run"), "deadline"),
        (OutcomeUnknownError("lost"), "outcome_unknown"),
        (ProtocolError("html"), "outcome_unknown"),
        (TransportTimeoutError("slow"), "deadline"),
        (ServerUnreachableError("nobody"), "session_lost"),
        (TransportError("reset"), "session_lost"),
    ],
)
def test_infrastructure_truncates_under_its_own_name(error: Exception, stop_reason: str) -> None:
    session = Session(ToolOutput(reward=0.25), error)
    step, failure = play(session, calls(3))
    assert (step.truncated, step.terminated, step.stop_reason) == (True, False, stop_reason)
    assert failure is error
    assert step.error == str(error)
    assert (step.reward, step.has_reward) == (0.25, True)
    assert len(session.asked) == 2
    assert [result.call.arguments for result in step.results] == [{"n": 0}]


def test_an_error_that_is_nobodys_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        play(Session(ZeroDivisionError()), calls(1))


def test_the_server_says_the_episode_had_finished() -> None:
    session = Session(ToolOutput((TextBlock("over"),), error="over", error_kind="episode_finished"))
    step, failure = play(session, calls(1))
    assert (step.terminated, step.stop_reason, failure) == (True, "finished", None)


def test_nothing_is_sent_after_the_end() -> None:
    session = Session(ToolOutput(reward=1.0, finished=True))
    step, _ = play(session, calls(3))
    assert len(session.asked) == 1
    assert [result.executed for result in step.results] == [True, False, False]
    assert {result.output.error_kind for result in step.results[1:]} == {"episode_finished"}
    assert (step.reward, step.terminated) == (1.0, True)


def test_a_malformed_call_is_never_sent() -> None:
    session = Session(ToolOutput())
    message = AssistantMessage(tool_calls=[ToolCall("t", content="{oops"), ToolCall("t", {})])
    step, _ = play(session, message)
    assert len(session.asked) == 1
    assert step.results[0].output.error_kind == "malformed"
    assert "{oops" in step.results[0].output.error


@pytest.mark.parametrize(("arg", "arguments"), [("text", {"text": "42"}), (None, {})])
@pytest.mark.parametrize(("finished", "stop_reason"), [(True, "finished"), (False, "message")])
def test_a_terminal_tool_ends_the_episode(arg: str | None, arguments: dict[str, str], finished: bool, stop_reason: str) -> None:
    session = Session(ToolOutput(reward=1.0, finished=finished))
    step, _ = play(session, AssistantMessage("42", reasoning="hidden"), ToolSet(terminal=TerminalTool("submit", arg)))
    assert session.asked == [("submit", arguments)]
    assert (step.terminated, step.stop_reason, step.reward) == (True, stop_reason, 1.0)


def test_a_terminal_tool_that_refuses_the_message_goes_on() -> None:
    session = Session(ToolOutput((TextBlock("too long"),), error="too long", error_kind="input_validation"))
    step, _ = play(session, AssistantMessage("x"), ToolSet(terminal=TerminalTool("submit", "text")))
    assert (step.terminated, step.truncated) == (False, False)


def test_no_reward_is_not_zero() -> None:
    step, _ = play(Session(ToolOutput()), calls(1))
    assert (step.reward, step.has_reward) == (0.0, False)
    step, _ = play(Session(ToolOutput(reward=0.0)), calls(1))
    assert (step.reward, step.has_reward) == (0.0, True)
