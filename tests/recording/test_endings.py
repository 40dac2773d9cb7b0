"""How a log ends whose last turn failed or was withheld, for every logger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openreward_gym import RolloutStore
from openreward_gym.recording import Recorder
from openreward_gym.types import AssistantMessage, Message, Sampled, Usage, UserMessage

ERROR = {"type": "overloaded_error", "message": "Too busy."}
CALL = {"id": "c", "type": "function", "function": {"name": "book", "arguments": "{"}}


def chat(reason: str | None, **message: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"finish_reason": reason, "message": {"role": "assistant", **message}}]}


def anthropic(reason: str, *texts: str) -> dict[str, Any]:
    content = [{"type": "text", "text": text} for text in texts]
    return {"type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": reason}


def response(status: str, **fields: Any) -> dict[str, Any]:
    return {"object": "response", "model": "m", "status": status, "output": [], **fields}


def gemini(reason: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": reason}], "modelVersion": "m"}


LAST: list[tuple[str, Any, tuple[str, str, str | None]]] = [
    ("log_openai_completions", {"error": ERROR}, ("error", "policy_failed", "Too busy.")),
    (
        "log_openai_completions",
        chat("error", content="Half", tool_calls=[CALL]),
        ("error", "policy_failed", "the provider gave no answer"),
    ),
    ("log_openai_completions", {"choices": []}, ("error", "policy_failed", "the provider gave no answer")),
    ("log_openai_completions", chat("stop", content=""), ("error", "policy_failed", "the provider gave no answer")),
    ("log_openai_completions", chat("content_filter", content="Half"), ("truncated", "content_filter", None)),
    ("log_openai_completions", chat("content_filter", tool_calls=[CALL]), ("truncated", "content_filter", None)),
    ("log_openai_completions", chat("stop", refusal="I will not."), ("completed", "message", None)),
    ("log_openai_completions", chat("stop", content="Yes."), ("completed", "message", None)),
    ("log_openai_completions", chat("tool_calls", tool_calls=[CALL]), ("cancelled", "cancelled", None)),
    ("log_openai_response", response("failed", error=ERROR), ("error", "policy_failed", "Too busy.")),
    ("log_openai_response", response("cancelled"), ("error", "policy_failed", "the provider gave no answer")),
    (
        "log_openai_response",
        response("incomplete", incomplete_details={"reason": "content_filter"}),
        ("truncated", "content_filter", None),
    ),
    ("log_openai_response", {"error": ERROR}, ("error", "policy_failed", "Too busy.")),
    ("log_anthropic_message", {"type": "error", "error": ERROR}, ("error", "policy_failed", "Too busy.")),
    ("log_anthropic_message", anthropic("refusal"), ("truncated", "refusal", None)),
    ("log_anthropic_message", anthropic("refusal", "Half a sent"), ("truncated", "refusal", None)),
    ("log_anthropic_message", anthropic("end_turn", "I will not."), ("completed", "message", None)),
    ("log_gdm_message", {"promptFeedback": {"blockReason": "JAILBREAK"}}, ("truncated", "content_filter", None)),
    ("log_gdm_message", gemini("PROHIBITED_CONTENT"), ("truncated", "content_filter", None)),
    ("log_gdm_message", {"error": ERROR}, ("error", "policy_failed", "Too busy.")),
    ("log_gdm_message", gemini("STOP", {"text": "Yes."}), ("completed", "message", None)),
    ("log_gdm_message", gemini("MAX_TOKENS", {"text": "Ye"}), ("truncated", "length", None)),
    ("log_openai_completions", chat("length", content="", reasoning_content="Hm"), ("truncated", "length", None)),
    ("log_anthropic_message", anthropic("model_context_window_exceeded", "Ye"), ("truncated", "context_overflow", None)),
    ("log", AssistantMessage("", ended="content_filter"), ("truncated", "content_filter", None)),
    ("log", Message("assistant", (), ended="refusal"), ("truncated", "refusal", None)),
    ("log", AssistantMessage("I will not.", ended="refusal"), ("completed", "message", None)),
    (
        "log",
        AssistantMessage("Half", sampled=Sampled(stop_reason="abort"), ended="error"),
        ("error", "policy_failed", "the provider gave no answer"),
    ),
]


@pytest.mark.parametrize("is_left", [True, False])
@pytest.mark.parametrize(("logger", "value", "ending"), LAST)
def test_a_log_ends_as_its_last_turn_did(
    tmp_path: Path, logger: str, value: Any, ending: tuple[str, str, str | None], is_left: bool
) -> None:
    recorder = Recorder(tmp_path)
    log = recorder.create()
    log.log(UserMessage("Book me a seat."))
    getattr(log, logger)(value)
    if is_left:
        recorder.close()  # the rollout is open
    else:
        log.close()
    rollout = RolloutStore(tmp_path)[0]
    assert (rollout.status, rollout.stop_reason, rollout.error) == ending
    assert rollout.messages[-1].origin == "policy"
    assert rollout.reward is None


def test_a_failure_that_was_answered_later_does_not_end_the_log(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        log.log(UserMessage("Book me a seat."))
        log.log_openai_completions({"error": ERROR})
        log.log_openai_completions({**chat("stop", content="Done."), "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
    rollout = RolloutStore(tmp_path)[0]
    assert (rollout.status, rollout.error) == ("completed", None)
    assert [(m.role, m.origin, m.ended) for m in rollout.messages] == [
        ("user", "given", None),
        ("assistant", "policy", "error"),
        ("assistant", "policy", "stop"),
    ]


def test_a_failure_at_the_end_makes_no_answer_before_it_a_given_one(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        log.log(UserMessage("Book me a seat."))
        log.log_openai_completions({"role": "assistant", "content": "Which one?"})
        log.log(UserMessage("4C"))
        log.log_openai_completions({"id": "c", "model": "m", "choices": []})
    assert [m.origin for m in log.rollout.messages] == ["given", "policy", "environment", "policy"]


def test_the_caller_s_end_wins_and_a_failure_is_not_finished(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    closed = recorder.create(rollout_name="closed")
    closed.log_anthropic_message({"type": "error", "error": ERROR})
    closed.close("cancelled", "operator", "stopped by hand")
    failed = recorder.create(rollout_name="failed")
    failed.log_anthropic_message({"type": "error", "error": ERROR}, is_finished=True)
    blocked = recorder.create(rollout_name="blocked")
    blocked.log_gdm_message({"prompt_feedback": {"block_reason": "SAFETY"}}, is_finished=True)
    assert [(r.name, r.status, r.stop_reason, r.error) for r in RolloutStore(tmp_path)] == [
        ("closed", "cancelled", "operator", "stopped by hand"),
        ("failed", "error", "policy_failed", "Too busy."),
        ("blocked", "truncated", "content_filter", None),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        gemini("MALFORMED_FUNCTION_CALL"),
        gemini("FINISH_REASON_UNSPECIFIED"),
    ],
)
def test_an_answer_without_content_is_a_failure_whatever_ended_it(tmp_path: Path, answer: dict[str, Any]) -> None:
    with Recorder(tmp_path).rollout() as log:
        log.log_gdm_message("How far is Riga?")
        log.log_gdm_message(answer)
    assert (log.rollout.status, log.rollout.stop_reason) == ("error", "policy_failed")


def test_a_closing_message_without_words_that_the_caller_calls_the_end_is_no_failure(tmp_path: Path) -> None:
    with Recorder(tmp_path).rollout() as log:
        log.log(AssistantMessage("Riga is far."))
        log.log(AssistantMessage(), reward=1.0, is_finished=True)
    assert (log.rollout.status, log.rollout.reward) == ("completed", 1.0)


def test_a_message_keeps_the_reward_end_and_time_that_it_has(tmp_path: Path) -> None:
    with Recorder(tmp_path).rollout() as log:
        log.log(AssistantMessage("Riga", ended_at="2031-05-06T07:08:09+00:00"))
        log.log(UserMessage("Near.", reward=0.25))
        log.log(UserMessage("There.", reward=0.5, finished=True))
    assert (log.rollout.reward, log.rollout.status, log.rollout.stop_reason) == (0.75, "completed", "finished")
    assert log.rollout.messages[0].ended_at == "2031-05-06T07:08:09+00:00"


def test_what_a_given_history_earned_and_cost_is_not_the_rollouts(tmp_path: Path) -> None:
    old = Sampled(usage=Usage(900, 90), cost_usd=2.0)
    history = [UserMessage("A"), AssistantMessage("B", sampled=old, reward=7.0, finished=True)]
    with Recorder(tmp_path).rollout(prompt=history) as log:
        log.log(AssistantMessage("C", sampled=Sampled(usage=Usage(10, 1), cost_usd=0.5)))
    assert (log.rollout.reward, log.rollout.cost_usd, log.rollout.usage) == (None, 0.5, Usage(10, 1))
    assert log.rollout.stop_reason == "message"


@pytest.mark.parametrize("media", [{"audio": {"id": "a1", "transcript": "Riga."}}, {"images": [{"type": "image_url"}]}])
def test_speech_and_pictures_are_answers(tmp_path: Path, media: dict[str, Any]) -> None:
    with Recorder(tmp_path).rollout() as log:
        log.log_openai_completions(chat("stop", content=None, **media))
    assert log.rollout.status == "completed"
