"""Model servers that fail, through the providers' own SDKs: each API gives one typed error with the server's words."""

from __future__ import annotations

import asyncio
import email.utils
import json
import time
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest
from chat_model import AnyServer
from launch import free_port

from openreward_gym.chat.failures import failure_words
from openreward_gym.chat.finish_reasons import FINISH_REASONS
from openreward_gym.chat.provider_words import WORDINGS
from openreward_gym.chat.wording import Wording
from openreward_gym.errors import AuthenticationError, ContextOverflowError, PolicyError
from openreward_gym.policies import resolve
from openreward_gym.policies.sdk_errors import broken_exchange, retry_after_s
from openreward_gym.retrying import retries_heard_by
from openreward_gym.types import AssistantMessage, ToolSet, UserMessage

# The SDK of Google's does what its HTTP library warns of.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Inheritance class AiohttpClientSession:DeprecationWarning", "ignore:.*is not a valid"
)

APIS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "chat": ("openai", "/v1", {}),
    "responses": ("openai", "/v1", {"api": "responses"}),
    "anthropic": ("anthropic", "", {"max_tokens": 64}),
    "gemini": ("google", "", {}),
}
KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "google": "GEMINI_API_KEY"}
PROMPT = (UserMessage("Hi"),)
Answer: TypeAlias = tuple[int, Any, dict[str, str]]


class Played:
    """A server, and one policy for each API of it, on one event loop. `heard` has what the last play retried."""

    def __init__(self, server: AnyServer) -> None:
        self.server = server
        self.runner = asyncio.Runner()
        self.heard: list[tuple[Exception, float]] = []
        self.policies: dict[str, Any] = {}
        for api, (provider, path, options) in APIS.items():
            self.policies[api] = resolve(f"{provider}:m", url=server.url + path, patience_s=0.0, **options)

    def play(self, api: str, *answers: Answer, patience_s: float = 0.0) -> Any:
        """Return what a policy makes of the server's answers: a message or an error. Retries wait as long as the server says."""
        policy = self.policies[api]
        self.server.answer_with(*answers)
        self.heard = []

        async def call() -> AssistantMessage:
            with retries_heard_by(lambda error, wait_s: self.heard.append((error, wait_s))):
                message: AssistantMessage = await policy(PROMPT, ToolSet())
            return message

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(policy, "_patience_s", patience_s)
            patch.setattr(policy._pace, "refused", lambda wait_s: None)
            patch.setattr("openreward_gym.policies.model.random.uniform", lambda low, high: 0.0 if patience_s else high)
            try:
                return self.runner.run(call())
            except Exception as error:
                return error


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with pytest.MonkeyPatch.context() as patch, AnyServer() as server:
        for name in KEYS.values():
            patch.setenv(name, "secret-key-0123")
        patch.delenv("GOOGLE_API_KEY", raising=False)
        played = Played(server)
        yield played
        for policy in played.policies.values():
            played.runner.run(policy.aclose())
        played.runner.close()


def chat(message: dict[str, Any], reason: str | None = "stop") -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return 200, {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}, {}


def responses(*output: Any, **fields: Any) -> Answer:
    body = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": list(output)}
    return 200, {**body, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], **fields}, {}


def messages(*content: Any, reason: str = "end_turn") -> Answer:
    body = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": list(content), "stop_reason": reason}
    return 200, {**body, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}, {}


def gemini(*parts: Any, reason: str = "STOP") -> Answer:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": reason}
    return 200, {"candidates": [candidate], "modelVersion": "m"}, {}


SPOKEN = {
    "chat": chat({"content": "Hello"}),
    "responses": responses({"type": "message", "id": "x", "role": "assistant", "status": "completed",
                            "content": [{"type": "output_text", "text": "Hello", "annotations": []}]}),
    "anthropic": messages({"type": "text", "text": "Hello"}),
    "gemini": gemini({"text": "Hello"}),
}  # fmt: skip
LINES = [pytest.param(line, id=f"{line.kind}-{line.providers.split()[0]}-{number}") for number, line in enumerate(WORDINGS)]
KINDS = {
    "context_overflow": "context_overflow",
    "quota": "policy_refused",
    "model_not_found": "policy_refused",
    "refused": "policy_refused",
    "rate_limited": "rate_limited",
    "unavailable": "policy_unavailable",
}


@pytest.mark.parametrize("line", LINES)
def test_each_wording_becomes_its_typed_error(played: Played, line: Wording) -> None:
    words = failure_words(line.body)
    assert words
    for api in APIS:
        result = played.play(api, (line.status, line.body, {}))
        assert len(played.server.moments) == 1
        if line.kind == "content_filter":
            assert isinstance(result, AssistantMessage), result
            assert (result.ended, result.blocks) == ("content_filter", ())
            assert words in failure_words(result.sampled.metadata or {})  # type: ignore[union-attr]
            continue
        assert f"HTTP {line.status}: {words.rstrip('.')}" in str(result)
        assert result.status == line.status
        if line.kind == "bad_key":
            assert type(result) is AuthenticationError
            continue
        assert isinstance(result, ContextOverflowError) == (line.kind == "context_overflow")
        assert (result.kind, result.delivery) == (KINDS[line.kind], "delivered")


@pytest.mark.parametrize("api", ["chat", "responses", "anthropic"])  # Google's SDK drops what is not an answer
@pytest.mark.parametrize("kind", ["context_overflow", "content_filter", "quota"])
def test_the_words_count_with_status_200(played: Played, api: str, kind: str) -> None:
    lines = [line for line in WORDINGS if line.kind == kind and isinstance(line.body, dict) and "error" in line.body][:6]
    for line in lines:
        result = played.play(api, (200, line.body, {}))
        if kind == "content_filter":
            assert result.ended == kind
        else:
            assert result.kind == KINDS[kind], (line, result)
            assert failure_words(line.body)[:100] in str(result)


@pytest.mark.parametrize("api", ["chat", "responses", "anthropic"])
def test_a_filter_is_known_in_a_body_that_has_no_field_for_errors(played: Played, api: str) -> None:
    body = {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content.", "request_id": "r"}
    result = played.play(api, (200, body, {}))
    assert (result.ended, result.blocks) == ("content_filter", ())


@pytest.mark.parametrize("provider", FINISH_REASONS)
def test_each_finish_reason_becomes_our_word(played: Played, provider: str) -> None:
    for word, ended in FINISH_REASONS[provider].items():
        api = provider if provider in APIS else "anthropic" if provider == "bedrock" else "chat"
        if provider == "responses":
            is_status = word in ("completed", "failed", "cancelled")
            fields = {"status": word} if is_status else {"status": "incomplete", "incomplete_details": {"reason": word}}
            status, body, headers = SPOKEN[api]
            answer: Any = (status, {**body, **fields}, headers)
        elif api == "anthropic":
            answer = messages({"type": "text", "text": "Hello"}, reason=word)
        elif api == "gemini":
            answer = gemini({"text": "Hello"}, reason=word.upper())
        else:
            answer = chat({"content": "Hello"}, word)
        result = played.play(api, answer)
        if ended == "error":
            assert result.kind == "policy_unavailable"
            assert f"(finish_reason {word.upper() if api == 'gemini' else word})" in str(result)
        else:
            assert (result.ended, result.text, result.stop_reason.lower()) == (ended, "Hello", word)


EMPTY = {
    "chat": [
        chat({"content": ""}),
        chat({"content": None}, None),
        chat({"content": ""}, "error"),
        chat({"content": None, "tool_calls": []}, "tool_calls"),
        (200, {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": []}, {}),
        (200, {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": None}, {}),
        (200, {}, {}),
        (200, b"", {"Content-Type": "text/plain"}),
    ],
    "responses": [
        responses(),
        responses({"type": "message", "id": "x", "role": "assistant", "status": "completed", "content": []}),
        responses(status="failed", error={"code": "server_error", "message": "The server had an error."}),
        responses(status="cancelled"),
        (200, {}, {}),
    ],
    "anthropic": [messages(), messages({"type": "text", "text": ""}), messages(reason="stop_sequence"), (200, None, {})],
    "gemini": [
        gemini(),
        gemini({"text": ""}),
        gemini({"text": "", "thoughtSignature": "c2ln"}),
        gemini(reason="OTHER"),
        (200, {"candidates": []}, {}),
        (200, {}, {}),
    ],
}


@pytest.mark.parametrize(("api", "number"), [(api, number) for api in EMPTY for number in range(len(EMPTY[api]))])
def test_an_empty_answer_is_none(played: Played, api: str, number: int) -> None:
    answer = EMPTY[api][number]
    error = played.play(api, answer)
    assert isinstance(error, PolicyError)
    assert (error.kind, error.delivery) == ("policy_unavailable", "delivered")
    assert "the answer is empty: no text, no reasoning, no call" in str(error) or "The server had an error." in str(error)
    message = played.play(api, answer, SPOKEN[api], patience_s=60.0)
    assert (message.text, len(played.server.moments)) == ("Hello", 2)


DEEP: Any = json.loads("[" * 600 + "]" * 600)
CUT_CALL = {"type": "function_call", "id": "f", "call_id": "c", "name": "ls", "arguments": "{}", "status": "incomplete"}
NOT_EMPTY = [
    ("chat", chat({"content": ""}, "length"), "length"),
    ("chat", chat({"content": None}, "content_filter"), "content_filter"),
    ("chat", chat({"content": None, "refusal": "No."}), "refusal"),
    ("chat", chat({"content": None, "reasoning_content": "Hm."}), "stop"),
    ("chat", chat({"content": "\n"}), "stop"),
    ("responses", responses({"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "gAAA"}), "stop"),
    ("responses", responses(status="incomplete", incomplete_details={"reason": "content_filter"}), "content_filter"),
    ("responses", responses(status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
    ("anthropic", messages(reason="refusal"), "refusal"),
    ("anthropic", messages(reason="pause_turn"), "pause"),
    ("anthropic", messages(reason="model_context_window_exceeded"), "context_overflow"),
    ("gemini", gemini(reason="SAFETY"), "content_filter"),
    ("gemini", gemini(reason="MALFORMED_FUNCTION_CALL"), "malformed"),
    ("gemini", (200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, {}), "content_filter"),
    ("responses", responses(CUT_CALL), "length"),
    ("responses", responses({**CUT_CALL, "status": "completed"}, status="incomplete", incomplete_details=None), "length"),
    ("responses", responses(CUT_CALL, status="incomplete", incomplete_details={"reason": "a_new_word"}), "length"),
    ("gemini", gemini({"inlineData": {"mimeType": "image/png", "data": "aGk="}}), "stop"),
]


@pytest.mark.parametrize(("api", "answer", "ended"), NOT_EMPTY)
def test_an_answer_that_says_why_it_is_empty_or_says_something_is_one(played: Played, api: str, answer: Any, ended: str) -> None:
    result = played.play(api, answer)
    assert isinstance(result, AssistantMessage), result
    assert result.ended == ended


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("status", [408, 409, 425, 429, 498, 500, 502, 503, 504, 520, 522, 524, 529])
def test_what_passes_is_tried_again_and_made_known(played: Played, api: str, status: int) -> None:
    hiccup = (status, {"error": {"message": "A hiccup."}}, {"retry-after-ms": "1"})
    message = played.play(api, hiccup, hiccup, SPOKEN[api], patience_s=60.0)
    assert (message.text, len(played.server.moments)) == ("Hello", 3)
    heard = [(str(error).partition(": ")[2], getattr(error, "status", None), wait_s) for error, wait_s in played.heard]
    assert heard == [(f"HTTP {status}: A hiccup.", status, 0.001)] * 2


@pytest.mark.parametrize("api", APIS)
def test_a_failure_keeps_what_the_server_wants(played: Played, api: str) -> None:
    error = played.play(
        api, (503, b"<html><head><title>503 Busy</title></head></html>", {"Content-Type": "text/html", "Retry-After": "90"})
    )
    assert (error.kind, error.status, error.retry_after_s, error.delivery) == ("policy_unavailable", 503, 90.0, "delivered")
    assert str(error).endswith(":m: HTTP 503: 503 Busy")
    body = json.dumps({"error": {"message": "No worker for secret-key-0123.", "headers": ["Bearer sk-aaaaaaaaaa"]}}).encode()
    error = played.play(api, (400, body, {"Retry-After": "90"}))
    assert (error.kind, error.retry_after_s) == ("policy_refused", None)
    assert str(error).endswith(":m: HTTP 400: No worker for ***.")
    error = played.play(api, (429, [{"error": {"details": [{"retryDelay": "34s"}], "message": "Slow down."}}], {}))
    assert (error.kind, error.retry_after_s) == ("rate_limited", 34.0)


@pytest.mark.parametrize("api", APIS)
def test_a_dead_server_is_named(monkeypatch: pytest.MonkeyPatch, api: str) -> None:
    provider, path, options = APIS[api]
    monkeypatch.setenv(KEYS[provider], "secret-key-0123")
    port = free_port()
    policy: Any = resolve(
        f"{provider}:m", url=f"http://user:password@127.0.0.1:{port}{path}?token=abc", patience_s=0.0, **options
    )
    with pytest.raises(PolicyError) as raised:
        asyncio.run(policy(PROMPT, ToolSet()))
    assert str(raised.value) == f"{provider}:m: http://127.0.0.1:{port}{path}: connection refused"
    assert (raised.value.kind, raised.value.delivery, raised.value.status) == ("policy_unavailable", "not_sent", None)


NOW = 1_800_000_000.0
DATE = email.utils.formatdate(NOW, usegmt=True)


def at(seconds: float) -> str:
    return email.utils.formatdate(NOW + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": at(20)}, 20.0),
        ({"retry-after": at(20 + 3600), "date": at(3600)}, 20.0),  # the server's clock is an hour ahead
        ({"retry-after": at(-5)}, 0.0),
        ({"retry-after": "Fri Jan 15 08:01:40 2027"}, 100.0),  # asctime
        ({"retry-after": "Friday, 15-Jan-27 08:01:40 GMT"}, 100.0),  # RFC 850
        ({"retry-after": at(20), "date": "yesterday"}, 20.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e12"}, None),
        ({"retry-after": at(10**8)}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers, now=NOW) == wait_s


@pytest.mark.parametrize(
    ("body", "wait_s"),
    [
        ({"error": {"details": [{"@type": "x"}, {"retryDelay": "34s"}]}}, 34.0),
        ([{"error": {"details": [{"retryDelay": "0.25s"}]}}], 0.25),
        ({"error": {"message": "Please try again in 9m38.016s. Need more?"}}, 578.016),
        ({"error": {"message": "Please try again in 20ms."}}, 0.02),
        ({"error": {"message": "Please retry after 12 seconds."}}, 12.0),
        ({"error": {"message": "Please retry in 47.434392449s."}}, 47.434392449),
        ({"error": {"message": "Please try again in 2h."}}, 7200.0),
        ({"error": {"message": "Please try again in a moment."}}, None),
        ({"error": {"details": "none"}}, None),
        ({"error": {"details": [{"retryDelay": "soon"}, 3]}}, None),
        ("try again later", None),
    ],
)
def test_a_wait_in_the_body(body: Any, wait_s: float | None) -> None:
    assert retry_after_s({}, body) == wait_s
    assert retry_after_s({"retry-after": "3"}, body) == 3.0


@pytest.mark.parametrize("api", APIS)
def test_a_request_waits_until_the_date_that_the_server_names(played: Played, api: str) -> None:
    moment = time.time()
    dates = {"Date": email.utils.formatdate(moment, usegmt=True), "Retry-After": email.utils.formatdate(moment + 1, usegmt=True)}
    error = played.play(api, (429, {"error": {"message": "Slow down."}}, dates))
    assert (error.kind, error.retry_after_s) == ("rate_limited", 1.0)
    message = played.play(api, (429, {"error": {"message": "Slow down."}}, {"Retry-After": "0.2"}), SPOKEN[api], patience_s=60.0)
    first, second = played.server.moments
    assert message.text == "Hello"
    assert second - first >= 0.2
    assert [wait_s for _, wait_s in played.heard] == [0.2]
    # A wait beyond the patience is for the caller to decide.
    error = played.play(api, (503, {}, {"Retry-After": "120"}), SPOKEN[api], patience_s=60.0)
    assert (error.retry_after_s, len(played.server.moments), played.heard) == (120.0, 1, [])


@pytest.mark.parametrize(
    ("api", "answer", "words"),
    [
        ("chat", chat({"content": False}), "the answer is empty"),
        ("chat", chat({"content": 42}), "the answer is empty"),
        ("gemini", gemini({"text": "half of"}, reason="OTHER"), "the server broke its answer off"),
        ("chat", (200, {"choices": DEEP}, {}), "maximum recursion depth exceeded"),
        ("gemini", (200, {"candidates": DEEP}, {}), "maximum recursion depth exceeded"),
        ("chat", (600, {"error": {"message": "Odd."}}, {}), "HTTP 600: Odd."),
        ("gemini", (200, {}, {"Content-Encoding": "gzip"}), "the connection broke: "),
    ],
)
def test_nonsense_is_no_answer(played: Played, api: str, answer: Answer, words: str) -> None:
    error = played.play(api, answer)
    assert isinstance(error, PolicyError)
    assert error.kind == "policy_unavailable"
    assert words in str(error)


def test_the_reason_of_a_broken_connection_is_that_of_the_system() -> None:
    try:
        try:
            raise ConnectionResetError(104, "Connection reset by peer")
        except OSError:
            [].pop()
    except IndexError as inner:
        error = type("ReadError", (Exception,), {})()
        error.__cause__ = inner
    broken = broken_exchange(error, 1.0)
    assert broken is not None
    assert broken.reason == "the connection broke: [Errno 104] Connection reset by peer"
