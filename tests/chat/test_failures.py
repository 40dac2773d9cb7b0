"""Answers that are none: errors with status 200, blocked prompts, and answers that a filter withheld."""

from __future__ import annotations

import time
import typing
from typing import Any

import anthropic.types.beta as abt
import pytest
from google.genai import types as gt
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from openai.types.responses.response_status import ResponseStatus

from openreward_gym import chat
from openreward_gym.chat.dialect import ended_of
from openreward_gym.chat.failures import error_text, failure_words, kind_of_failure
from openreward_gym.envs.episode import as_message
from openreward_gym.errors import PolicyError
from openreward_gym.types import Message, Usage

READERS = (chat.from_openai, chat.from_openai_responses, chat.from_anthropic, chat.from_gemini)
BODIES: list[tuple[dict[str, Any], str]] = [
    ({"error": {"message": "Engine is dead.", "type": "InternalServerError", "param": None, "code": 500}}, "Engine is dead."),
    ({"error": "queue full"}, "queue full"),
    ({"type": "error", "error": {"type": "api_error", "message": "Try again."}, "request_id": "req_1"}, "Try again."),
    ({"object": "error", "message": "Model is loading.", "type": "NotReady", "code": 503}, "Model is loading."),
    ({"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED", "details": [{"reason": "R"}]}}, "Quota."),
    ({"error": {"message": "Upstream.", "code": 502, "metadata": {"provider_name": "P"}}, "user_id": "u1"}, "Upstream."),
    ({"type": "error", "sequence_number": 3, "code": "server_error", "message": "Sorry.", "param": None}, "Sorry."),
    ({"id": "c1", "object": "chat.completion", "choices": None, "error": {"message": "No worker."}}, "No worker."),
]


@pytest.mark.parametrize(("body", "words"), BODIES)
def test_the_body_of_an_error_is_a_turn_that_failed(body: dict[str, Any], words: str) -> None:
    for read in READERS:
        (message,) = read(body)
        assert (message.role, message.blocks, message.ended) == ("assistant", (), "error")
        assert error_text(message) == words
        assert read([body]) == [message]
    assert chat.parse_action(body).ended == chat.parse_action([body]).ended == "error"
    with pytest.raises(PolicyError, match=rf"the model gave no answer: {words}"):
        as_message(body)


def test_all_fields_of_an_error_are_kept() -> None:
    (message,) = chat.from_anthropic(BODIES[2][0])
    assert message.sampled is not None
    assert message.sampled.metadata == {"error": {"type": "api_error", "message": "Try again."}, "request_id": "req_1"}
    (message,) = chat.from_openai(BODIES[3][0])
    assert message.sampled is not None
    assert message.sampled.metadata == {"error": {"message": "Model is loading.", "type": "NotReady", "code": 503}}


FAILED: list[tuple[Any, Any]] = [
    (chat.from_openai, {"choices": [{"finish_reason": "stop", "message": {"content": "Part"}, "error": {"message": "cut"}}]}),
    (chat.from_openai, {"choices": [{"finish_reason": "error", "message": {"role": "assistant", "content": "Part"}}]}),
    (chat.from_openai, {"choices": [{"finish_reason": "stop", "message": {"content": "Part"}}], "error": {"message": "cut"}}),
    (chat.from_openai, {"choices": [], "model": "m"}),
    (chat.from_openai, ChatCompletion.model_construct(error={"message": "cut"})),
    (chat.from_openai_responses, {"object": "response", "status": "failed", "error": {"code": "server_error", "message": "cut"}}),
    (chat.from_openai_responses, {"output": [], "status": "cancelled"}),
    (chat.from_openai_responses, Response.model_construct(status="failed", output=[], error=None)),
    (chat.from_gemini, {"candidates": [], "promptFeedback": {"safetyRatings": []}}),
    (chat.from_gemini, gt.GenerateContentResponse(model_version="g", response_id="r")),
    (chat.from_gemini, [{"error": {"code": 503, "message": "cut", "status": "UNAVAILABLE"}}]),
]


@pytest.mark.parametrize(("read", "answer"), FAILED)
def test_an_answer_with_an_error_failed(read: Any, answer: Any) -> None:
    (message,) = read(answer)
    assert message.ended == "error"
    assert chat.parse_action(answer).ended == "error"


@pytest.mark.parametrize("reason", [*gt.BlockedReason])
@pytest.mark.parametrize("candidates", [None, []])
def test_a_blocked_prompt_of_gemini(reason: gt.BlockedReason, candidates: list[Any] | None) -> None:
    feedback = gt.GenerateContentResponsePromptFeedback(block_reason=reason, block_reason_message="Not this.")
    usage = gt.GenerateContentResponseUsageMetadata(prompt_token_count=31)
    answer = gt.GenerateContentResponse(candidates=candidates, prompt_feedback=feedback, usage_metadata=usage)
    rest = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
    for value in (answer, rest, [answer], [rest]):
        (message,) = chat.from_gemini(value)
        assert (message.role, message.blocks, message.ended) == ("assistant", (), "content_filter")
        assert (message.stop_reason, message.usage) == (reason.value, Usage(31))
        assert message.sampled is not None
        (kept,) = (message.sampled.metadata or {}).values()
        assert "Not this." in kept.values()
        assert chat.parse_action(value).ended == "content_filter"


def test_a_blocked_prompt_after_another_answer() -> None:
    answer = {"response_id": "a", "candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finish_reason": "STOP"}]}
    blocked = {"prompt_feedback": {"block_reason": "OTHER"}}
    assert [message.ended for message in chat.from_gemini([answer, blocked])] == ["stop", "content_filter"]


WITHHELD: list[tuple[Any, Any, str]] = [
    (chat.from_openai, {"choices": [{"finish_reason": "content_filter", "message": {"content": None}}]}, "content_filter"),
    (chat.from_openai, {"error": {"code": "content_filter", "message": "The prompt was filtered."}}, "content_filter"),
    (
        chat.from_openai_responses,
        {"output": [], "status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
        "content_filter",
    ),
    (
        chat.from_openai_responses,
        {"output": [], "status": "failed", "error": {"code": "image_content_policy_violation", "message": "no"}},
        "content_filter",
    ),
    (chat.from_anthropic, {"role": "assistant", "content": [], "stop_reason": "refusal"}, "refusal"),
]


@pytest.mark.parametrize(("read", "answer", "ended"), WITHHELD)
def test_a_withheld_answer_has_no_words(read: Any, answer: Any, ended: str) -> None:
    (message,) = read(answer)
    assert (message.blocks, message.ended) == ((), ended)


def test_what_has_an_error_beside_its_content_is_content() -> None:
    call = {"name": "report", "arguments": {"error": "disk full"}, "error": "no"}
    assert chat.parse_action({"name": "report", "arguments": call["arguments"]}).tool_calls[0].arguments == {"error": "disk full"}
    item = {"type": "mcp_list_tools", "id": "x", "server_label": "s", "tools": [], "error": "unreachable"}
    assert chat.to_openai_responses(chat.from_openai_responses([item])) == [item]
    message: Message = chat.from_openai({"role": "user", "content": "Why?", "error": None})[0]
    assert (message.role, message.ended) == ("user", None)


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-Ab12Cd34Ef56Gh78",
        "sk-ant-api03-Zz9Yy8Xx7Ww6",
        "gsk_0123456789abcdef",
        "AIzaSyA0123456789abcdefghijk",
        "hf_abcdefghijkl",
        "swordfish-17",
    ],
)
def test_secrets_are_not_recorded(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_GATEWAY_KEY", "swordfish-17")
    body = {"error": {"message": f"Incorrect API key provided: {secret}. See docs.", "headers": [f"Bearer {secret}"]}}
    for value in (body, {**body, "choices": [{"message": {"role": "assistant", "content": "x"}}]}):
        message = chat.parse_action(value)
        assert secret not in repr(message)
        assert error_text(message) == "Incorrect API key provided: ***. See docs."


@pytest.mark.parametrize(
    "words",
    [
        "Set HF_HUB_OFFLINE=0, or install hf_transfer.",
        "There is no model hf-internal-testing/tiny-random-gpt2.",
        "Missing bearer authentication in header",
    ],
)
def test_names_and_words_are_no_secrets(words: str) -> None:
    assert failure_words({"error": words}) == words


def test_every_word_of_the_sdks_for_an_end_is_known() -> None:
    responses = set(typing.get_args(ResponseStatus)) - {"in_progress", "queued", "incomplete"}
    words = {*typing.get_args(abt.BetaStopReason), *responses, *(reason.value for reason in gt.FinishReason)}
    unknown = {word for word in words if ended_of(word) == "unknown"}
    # Words that say no reason.
    assert unknown == {
        "FINISH_REASON_UNSPECIFIED",
        "IMAGE_OTHER",
        "NO_IMAGE",
        "ESCALATION",
        "PUP_LIMITED_DISABLED",
        "CONTINUATION",
    }


def test_fields_that_hold_a_secret_are_never_recorded() -> None:
    headers = {
        "X-Api-Key": "plain-word-1",
        "Authorization": "Basic dXNlcjpwYXNz",
        "retry-after": "7",
        "Set-Cookie": "id=9",
        "secret": None,
    }
    (message,) = chat.from_openai({"error": {"message": "No.", "api_key": "plain-word-2", "request": {"headers": headers}}})
    assert message.sampled is not None
    assert message.sampled.metadata is not None
    hidden = {"X-Api-Key": "***", "Authorization": "***", "retry-after": "7", "Set-Cookie": "***", "secret": None}
    assert message.sampled.metadata["error"] == {"message": "No.", "api_key": "***", "request": {"headers": hidden}}


@pytest.mark.parametrize(
    "body", [{"error": {"message": "y" * 20_000_000}}, "<script>" * 1_000_000, {"detail": ["(1 " * 2_000_000]}]
)
def test_a_huge_error_holds_nobody_up(body: Any) -> None:
    begun = time.process_time()
    assert kind_of_failure(400, body) == "refused"
    assert len(failure_words(body)) < 3000
    assert time.process_time() - begun < 5.0  # minutes, when all of it is searched
    assert kind_of_failure(400, "x " * 1_000_000 + "This model's maximum context length is 8192 tokens.") == "context_overflow"


def test_a_code_of_thousands_of_digits_is_no_code() -> None:
    assert kind_of_failure(None, {"error": {"code": 10**5000, "status": 503}}) == "unavailable"
    assert failure_words({"error": {"code": 10**5000, "message": "too busy"}}) == "too busy"
