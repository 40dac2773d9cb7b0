"""The tables of providers' words: each line says what it is there for, and texts that only look alike mean something else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from openreward_gym.chat.dialect import ended_of
from openreward_gym.chat.failures import failure_words, kind_of_failure
from openreward_gym.chat.finish_reasons import ENDINGS, FINISH_REASONS
from openreward_gym.chat.provider_words import WORDINGS
from openreward_gym.chat.wording import Wording

LINES = [pytest.param(line, id=f"{line.kind}-{line.providers.split()[0]}-{number}") for number, line in enumerate(WORDINGS)]
TRANSCRIPT_KINDS = ("context_overflow", "content_filter")
LISTED = (
    "openai responses azure anthropic gemini openrouter vllm sglang llama.cpp ollama tgi tensorrt-llm lmstudio together "
    "fireworks groq mistral deepseek xai z.ai dashscope bedrock transformers"
)


@pytest.mark.parametrize("line", LINES)
def test_an_example_means_what_its_line_says(line: Wording) -> None:
    assert kind_of_failure(line.status, line.body) == line.kind
    text = repr(line.body)
    assert re.search(line.pattern, text, re.IGNORECASE), "the pattern is not in its own example"


@pytest.mark.parametrize("line", [line for line in LINES if line.values[0].kind in TRANSCRIPT_KINDS])  # type: ignore[union-attr]
def test_the_words_count_with_any_status_and_in_any_body(line: Wording) -> None:
    words = failure_words(line.body)
    bodies: list[Any] = [
        line.body,
        words,
        {"error": words},
        {"detail": words},
        {"error": {"message": words}},
        [{"message": words}],
    ]
    for body in bodies:
        if kind_of_failure(400, body) != line.kind:  # known by a code alone
            assert body != line.body
            continue
        for status in (None, 200, 400, 404, 413, 422, 429, 500, 502, 503):
            assert kind_of_failure(status, body) == line.kind, (status, body)


def test_finish_reasons_of_all_providers_are_there() -> None:
    assert list(FINISH_REASONS) == LISTED.split()
    for words in FINISH_REASONS.values():
        for word, ended in words.items():
            assert ENDINGS[word] == ended, "two providers mean different things by one word"
            assert ended_of(word) == ended_of(word.upper()) == ended


NO_OVERFLOW = [
    # A rate, not a window.
    (429, "rate_limited", "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000"),
    (429, "quota", "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 342389. Reduce the input."),
    (429, "rate_limited", "Too many tokens, please wait before trying again."),
    (503, "unavailable", "The model's context cache is restarting"),
    (429, "rate_limited", "The engine is overloaded: capacity exceeded"),
    (429, "rate_limited", "Tokens per minute limit exceeded - too many tokens processed."),
    (429, "rate_limited", "You exceeded your current quota, please check your plan and billing details.\nPlease retry in 47.4s."),
    # A parameter that was wrong before the first turn.
    (
        400,
        "refused",
        "max_tokens is too large: 6000. This model supports at most 4096 completion tokens, whereas you provided 6000.",
    ),
    (400, "refused", "max_tokens=140000 cannot be greater than max_model_len=max_total_tokens=131072."),
    (422, "refused", "Input validation error: `max_new_tokens` must be <= 512. Given: 1000"),
    (400, "refused", "max_tokens: 1000000 > 64000, which is the maximum allowed number of output tokens for claude-sonnet-4"),
    # The answer alone fills the window.
    (
        400,
        "refused",
        "This model's maximum context length is 8192 tokens. However, you requested 8256 tokens (64 in the messages, 8192 in the "
        "completion). Please reduce the length of the messages or completion.",
    ),
    (
        400,
        "refused",
        "You passed 12 input tokens and requested 4096 output tokens. However, the model's context length is only 2048",
    ),
    (400, "refused", "input length and `max_tokens` exceed context limit: 40 + 300000 > 200000, decrease input length"),
    # Something else.
    (400, "refused", "Invalid 'messages[1].content': string too short"),
    (400, "refused", "Unknown parameter: 'context_window'"),
    (404, "refused", "404 page not found"),
    # Numbers that are also codes of z.ai.
    (429, "rate_limited", "Rate limit reached on tokens per minute (TPM): Limit 6000, Used 1113, Requested 5000"),
    (503, "unavailable", "upstream connect error, reset after 1261 ms"),
    (500, "unavailable", "worker 1301 died"),
]


@pytest.mark.parametrize(("status", "kind", "words"), NO_OVERFLOW)
def test_what_only_looks_like_an_overflow(status: int, kind: str, words: str) -> None:
    for body in ({"error": {"message": words}}, {"error": words}, words):
        assert kind_of_failure(status, body) == kind


@pytest.mark.parametrize(
    "words",
    [
        "'max_tokens' or 'max_completion_tokens' is too large: 2048. This model's maximum context length is 8192 tokens and your "
        "request has 7000 input tokens (2048 > 8192 - 7000).",
        "This model's maximum context length is 131072 tokens. However, you requested 8192 output tokens and your prompt "
        "contains at least 123000 input tokens, for a total of at least 131192 tokens.",
        "input length and max_tokens exceed context limit: 188240 + 21333 > 200000, decrease input length or max_tokens",
    ],
)
def test_a_prompt_that_leaves_no_room_for_the_answer_is_an_overflow(words: str) -> None:
    assert kind_of_failure(400, {"error": {"message": words}}) == "context_overflow"


def test_what_a_server_repeats_of_the_request_says_nothing() -> None:
    turn = {"role": "user", "content": "The log says: prompt is too long, content_filter, invalid_api_key"}
    body = {"detail": [{"type": "missing", "loc": ["body", "messages", 0, "name"], "msg": "Field required", "input": turn}]}
    assert kind_of_failure(422, body) == "refused"
    assert failure_words(body) == "body.messages.0.name: Field required"


STATUSES = {
    **dict.fromkeys((401, 403), "bad_key"),
    402: "quota",
    429: "rate_limited",
    **dict.fromkeys((400, 404, 405, 406, 410, 413, 415, 418, 422, 451), "refused"),
    **dict.fromkeys((408, 409, 424, 425, 498, 499, 500, 501, 502, 503, 504, 507, *range(520, 531)), "unavailable"),
}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_a_status_without_words(status: int, kind: str) -> None:
    for body in ("", None, {}, {"error": {"message": "Sorry."}}, "<html><title>Oops</title></html>"):
        assert kind_of_failure(status, body) == kind
    for code in (status, str(status)):
        assert kind_of_failure(200, {"error": {"message": "Sorry.", "code": code}}) == kind


SHAPES: list[tuple[Any, str]] = [
    ({"error": "No such luck."}, "No such luck."),
    ({"error": {"message": "No such luck.", "code": "x"}}, "No such luck."),
    ({"error": {"message": {"detail": [{"loc": ["body", "n"], "msg": "Not permitted", "input": 3}]}}}, "body.n: Not permitted"),
    ({"object": "error", "message": "No such luck.", "code": 400}, "No such luck."),
    ({"detail": "No such luck."}, "No such luck."),
    ({"detail": [{"loc": ["body", "a"], "msg": "A"}, {"loc": ["body", "b"], "msg": "B"}]}, "body.a: A; body.b: B"),
    ({"message": "No such luck."}, "No such luck."),
    ({"errors": [{"message": "No such"}, "luck"]}, "No such; luck"),
    ([{"error": {"message": "No such luck."}}], "No such luck."),
    ({"statusCode": 400, "error": "Bad Request", "message": "body must have model"}, "Bad Request: body must have model"),
    ({"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "No luck."}, "Bad Request: No luck."),
    ({"base_resp": {"status_code": 2013, "status_msg": "No such luck."}, "choices": None}, "No such luck."),
    ({"error": {"message": "Provider error", "metadata": {"raw": "No such luck."}}}, "Provider error: No such luck."),
    ('{"error": {"message": "No such luck."}}', "No such luck."),
    ({"error": {"message": '{"error": {"message": "No such luck."}}'}}, "No such luck."),
    ("No   such\n luck.", "No such luck."),
    ("<!DOCTYPE html><html><head><title>502 &amp; more</title><style>p {}</style></head><body><p>No such luck.</p></body></html>",
     "502 & more - No such luck."),
    ({"code": "E_LUCK", "hint": None}, '{"code": "E_LUCK"}'),
    ({}, ""),
    ("", ""),
    (None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("body", "words"), SHAPES)
def test_the_words_are_found_in_any_shape(body: Any, words: str) -> None:
    assert failure_words(body) == words


def test_long_and_nested_bodies_are_cut() -> None:
    assert len(failure_words("word " * 5000)) < 2010
    assert len(failure_words("<html>" + "<p>word</p>" * 5000)) < 400
    nested: Any = "deep"
    for _ in range(200):
        nested = {"error": nested}
    assert kind_of_failure(400, nested) == "refused"
    assert isinstance(failure_words(nested), str)
    assert kind_of_failure(400, "[" * 100_000) == "refused"
