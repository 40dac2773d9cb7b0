"""Values of wrong types at every place of what providers send: an error of this package, or a record that can be read again."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openreward_gym import chat
from openreward_gym.errors import ConfigurationError, MessageError
from openreward_gym.recording import Recorder
from openreward_gym.recording.log import RolloutLog
from openreward_gym.types import AssistantMessage, Rollout, UserMessage


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE: list[Any] = [None, 7, -1.5, True, "", "text", "\ud800", [], [3], [None], {}, {"a": {"b": [1]}}, math.nan, 10**400]
DEEP = [nested(300), nested(100_000)]

CALL = {"id": "k1", "type": "function", "function": {"name": "book", "arguments": '{"seat": "4C"}'}}
CHAT: dict[str, Any] = {
    "id": "chat-1",
    "object": "chat.completion",
    "created": 1,
    "model": "ferry-1",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I book it."},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                ],
                "reasoning_details": [{"type": "reasoning.text", "text": "Seat 4C.", "signature": "s", "id": "r", "index": 0}],
                "refusal": "no",
                "tool_calls": [CALL, {"id": "k2", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}],
                "function_call": {"name": "old", "arguments": "{}"},
                "annotations": [{"type": "url_citation"}],
            },
            "logprobs": {"content": [{"token": "I", "logprob": -0.5, "bytes": [73], "top_logprobs": []}]},
            "token_ids": [1, 2],
            "prompt_token_ids": [3],
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}, "cost": 0.1},
}
CHAT_MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "name": "ana", "content": "hi"},
    {"role": "tool", "tool_call_id": "k1", "content": [{"type": "text", "text": "done"}]},
]
CHAT_CHUNKS: list[dict[str, Any]] = [
    {"id": "s", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "I "}}]},
    {
        "id": "s",
        "choices": [
            {
                "index": 0,
                "delta": {"tool_calls": [{"index": 0, **CALL}], "reasoning": "x"},
                "logprobs": {"content": [{"logprob": -1.0}]},
            }
        ],
    },
    {"id": "s", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}},
]
RESPONSE: dict[str, Any] = {
    "id": "resp-1",
    "object": "response",
    "model": "ferry-1",
    "status": "incomplete",
    "incomplete_details": {"reason": "max_output_tokens"},
    "instructions": "Be brief.",
    "temperature": 0.5,
    "tools": [{"type": "function", "name": "book", "description": "Book.", "parameters": {"type": "object"}, "strict": True}],
    "output": [
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Seat."}], "encrypted_content": "e"},
        {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Yes."}],
        },
        {"type": "function_call", "id": "f", "call_id": "k", "name": "book", "arguments": "{}", "status": "completed"},
        {"type": "shell_call", "call_id": "sh", "action": {"commands": ["ls"]}, "environment": {"type": "local"}},
        {"type": "web_search_call", "id": "w", "status": "completed"},
    ],
    "usage": {"input_tokens": 4, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 7},
}
RESPONSE_ITEMS: list[dict[str, Any]] = [
    {
        "role": "user",
        "content": [{"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": "data:image/png;base64,AA=="}],
    },
    *RESPONSE["output"],
    {"type": "function_call_output", "call_id": "k", "output": [{"type": "input_text", "text": "done"}]},
    {"type": "shell_call_output", "call_id": "sh", "output": [{"stdout": "a", "stderr": "b", "outcome": {"type": "exit"}}]},
]
RESPONSE_EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "sequence_number": 0, "response": {"id": "r", "status": "in_progress", "output": []}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "role": "assistant", "content": []}},
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Yes."},
    {"type": "response.output_item.done", "output_index": 1, "item": RESPONSE["output"][2]},
    {"type": "error", "sequence_number": 4, "code": "server_error", "message": "down"},
]
ANTHROPIC: dict[str, Any] = {
    "id": "msg-1",
    "type": "message",
    "role": "assistant",
    "model": "ferry-1",
    "stop_reason": "tool_use",
    "content": [
        {"type": "thinking", "thinking": "Seat.", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "Yes.", "citations": [{"cited_text": "c"}]},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        {"type": "tool_use", "id": "t", "name": "book", "input": {"seat": "4C"}},
    ],
    "usage": {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 1},
}
ANTHROPIC_MESSAGES: list[dict[str, Any]] = [
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "ok"}], "is_error": True}],
    }
]
ANTHROPIC_EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {"id": "m", "role": "assistant", "model": "f", "content": [], "usage": {"input_tokens": 1}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "book", "input": {}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]
GEMINI: dict[str, Any] = {
    "response_id": "g-1",
    "model_version": "ferry-1",
    "prompt_feedback": {"block_reason": None},
    "candidates": [
        {
            "index": 0,
            "finish_reason": "STOP",
            "content": {
                "role": "model",
                "parts": [
                    {"text": "Seat.", "thought": True, "thought_signature": "cw=="},
                    {"text": "Yes."},
                    {"inline_data": {"mime_type": "image/png", "data": "AA=="}},
                    {"function_call": {"id": "c", "name": "book", "args": {"seat": "4C"}}, "thought_signature": "cw=="},
                ],
            },
        }
    ],
    "usage_metadata": {"prompt_token_count": 3, "candidates_token_count": 2, "total_token_count": 5},
}
GEMINI_CONTENTS: list[dict[str, Any]] = [
    {
        "role": "user",
        "parts": [{"functionResponse": {"id": "c", "name": "book", "response": {"result": "ok"}, "parts": [{"text": "x"}]}}],
    }
]
GEMINI_CHUNKS: list[dict[str, Any]] = [
    {**GEMINI, "candidates": [{"content": {"role": "model", "parts": [{"text": "Y"}]}}]},
    {
        **GEMINI,
        "candidates": [
            {"content": {"parts": [{"text": "es."}]}, "citation_metadata": {"citations": [{}]}, "finish_reason": "STOP"}
        ],
    },
]
FAILURE = {"type": "error", "error": {"type": "overloaded_error", "message": "down", "code": 529}}
BLOCKED = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}

SOURCES: list[tuple[str, Any]] = [
    ("log_openai_completions", CHAT),
    ("log_openai_completions", CHAT_MESSAGES),
    ("log_openai_completions", CHAT_CHUNKS),
    ("log_openai_completions", FAILURE),
    ("log_openai_response", RESPONSE),
    ("log_openai_response", RESPONSE_ITEMS),
    ("log_openai_response", RESPONSE_EVENTS),
    ("log_anthropic_message", ANTHROPIC),
    ("log_anthropic_message", ANTHROPIC_MESSAGES),
    ("log_anthropic_message", ANTHROPIC_EVENTS),
    ("log_gdm_message", GEMINI),
    ("log_gdm_message", GEMINI_CONTENTS),
    ("log_gdm_message", GEMINI_CHUNKS),
    ("log_gdm_message", BLOCKED),
]


def paths(value: Any) -> Iterator[tuple[str | int, ...]]:
    yield ()
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from ((key, *path) for path in paths(inner))


def with_value(data: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    result = copy.deepcopy(data)
    holder = result
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return result


def mutants(data: Any) -> Iterator[tuple[tuple[str | int, ...], Any, Any]]:
    for path in paths(data):
        for value in [*HOSTILE, *DEEP]:
            yield path, value, with_value(data, path, value)


def state(log: RolloutLog) -> Any:
    rollout = log.rollout
    return (
        [*rollout.messages],
        copy.copy(rollout.tools),
        rollout.sampling,
        rollout.metadata,
        rollout.model,
        rollout.task,
        rollout.step,
    )


@pytest.mark.parametrize(("logger", "data"), SOURCES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(SOURCES)])
def test_a_value_of_a_wrong_type_is_refused_or_recorded(tmp_path: Path, logger: str, data: Any) -> None:
    recorder = Recorder(tmp_path)
    for path, value, mutant in mutants(data):
        log = recorder.create()
        log.log(UserMessage("hi"))
        before = state(log)
        try:
            getattr(log, logger)(mutant)
        except MessageError:
            assert state(log) == before, (path, value)
        except Exception as error:  # the message names the place
            pytest.fail(f"{path} = {value!r:.80}: {type(error).__name__}: {error}")
        log.log(AssistantMessage("after"))
        line = Rollout.from_line(log.rollout.to_line()).to_line()  # NaN becomes text
        assert Rollout.from_line(line).to_line() == line, (path, value)
        recorder._ended(log)


@pytest.mark.parametrize(("logger", "data"), SOURCES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(SOURCES)])
def test_the_same_values_are_actions_or_refused(logger: str, data: Any) -> None:
    for path, value, mutant in mutants(data):
        try:
            assert isinstance(chat.parse_action(mutant), AssistantMessage)
        except MessageError:
            pass
        except Exception as error:
            pytest.fail(f"{path} = {value!r:.80}: {type(error).__name__}: {error}")


FACTS: list[dict[str, Any]] = [
    {"reward": "much"},
    {"reward": [1.0]},
    {"metadata": {"x": object()}},
    {"metadata": nested(100_000)},
    {"rollout_info": 3},
    {"rollout_info": {"task_index": "three"}},
    {"rollout_info": {"current_step": [1]}},
    {"rollout_info": {"env_version": 2}},
]


@pytest.mark.parametrize("fact", FACTS, ids=range(len(FACTS)))
def test_a_wrong_fact_beside_a_message_logs_nothing(tmp_path: Path, fact: dict[str, Any]) -> None:
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        log.log(UserMessage("hi"))
        before = state(log)
        with pytest.raises(ConfigurationError):
            log.log(AssistantMessage("yes"), **fact)
        assert state(log) == before
        log.log(AssistantMessage("yes"), reward=1)
    assert [message.text for message in log.rollout.messages] == ["hi", "yes"]
