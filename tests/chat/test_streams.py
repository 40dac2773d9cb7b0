"""Streamed answers: their chunks as one list are one message; a chunk alone is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic.types as at
import pytest
from google.genai import types as gt
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseTextDeltaEvent
from rollout_strategies import EXAMPLES

from openreward_gym import chat
from openreward_gym.errors import MessageError
from openreward_gym.recording.recorder import Recorder
from openreward_gym.types import ReasoningItem, TextBlock, ToolCall, Usage

texts = st.lists(st.text(max_size=6), min_size=1, max_size=5)


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice], **fields}


@given(texts, texts, texts)
@settings(max_examples=EXAMPLES, deadline=None)
def test_chunks_of_a_chat_are_one_message(thoughts: list[str], words: list[str], arguments: list[str]) -> None:
    call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "pay", "arguments": ""}}
    chunks = [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"reasoning_content": text}) for text in thoughts),
        *(chunk({"content": text}) for text in words),
        chunk({"tool_calls": [call]}),
        *(chunk({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}) for text in arguments),
        chunk({}, "tool_calls"),
        {**chunk({}), "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}},
    ]
    whole = {
        "id": "c1",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "content": "".join(words),
                    "reasoning_content": "".join(thoughts),
                    "tool_calls": [
                        {"id": "t1", "type": "function", "function": {"name": "pay", "arguments": "".join(arguments)}}
                    ],
                },
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
    for value in (chunks, [ChatCompletionChunk.model_validate(item) for item in chunks], iter(chunks)):
        assert chat.from_openai(value) == chat.from_openai(whole)


def test_parallel_calls_and_choices_of_a_streamed_chat() -> None:
    def piece(index: int, text: str, **fields: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": index, "function": {"arguments": text}, **fields}]})

    chunks = [
        piece(0, "", id="a", function={"name": "f", "arguments": '{"x"'}),
        piece(1, "", id="b", function={"name": "g", "arguments": "{"}),
        piece(0, ": 1}"),
        piece(1, "}"),
        chunk({"content": "another"}, "stop", index=1),
        chunk({}, "tool_calls", logprobs={"content": [{"token": "x", "logprob": -1.0}]}),
    ]
    (message,) = chat.from_openai(chunks)
    assert [(c.name, c.call_id, c.content) for c in message.tool_calls] == [("f", "a", '{"x": 1}'), ("g", "b", "{}")]
    assert message.sampled is not None
    (other,) = (message.sampled.metadata or {})["choices"]
    assert other["message"]["content"] == "another"
    # Some servers number all calls 0, each whole.
    both = [{"index": 0, "id": name, "function": {"name": name, "arguments": "{}"}} for name in ("f", "g")]
    (message,) = chat.from_openai([chunk({"tool_calls": both[:1]}), chunk({"tool_calls": both[1:]}), chunk({}, "stop")])
    assert [call.name for call in message.tool_calls] == ["f", "g"]


def test_a_list_may_have_several_streams_and_messages() -> None:
    first = [chunk({"content": "a"}), chunk({"content": "b"}, "stop")]
    second = [{**item, "id": "c2"} for item in first]
    messages = chat.from_openai([{"role": "user", "content": "u"}, *first, *second, {"role": "user", "content": "v"}])
    assert [message.text for message in messages] == ["u", "ab", "ab", "v"]


def test_a_stream_that_broke_off_has_no_end() -> None:
    (message,) = chat.from_openai([chunk({"content": "The fer"}), chunk({"content": "ry"})])
    assert (message.text, message.ended) == ("The ferry", "unknown")
    events = [event for event in ANTHROPIC_EVENTS if event["type"] not in ("message_delta", "message_stop")]
    assert chat.from_anthropic(events)[0].ended == "unknown"
    assert chat.from_openai_responses(RESPONSE_EVENTS[:-1])[0].ended == "unknown"


def text_delta(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": text}}


ANTHROPIC_EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [],
            "usage": {"input_tokens": 5},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "A "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "city."}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    text_delta("Let me "),
    text_delta("look."),
    {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {"cited_text": "c"}}},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "look", "input": {}}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"city":'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ' "Oslo"}'}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
]


def test_events_of_anthropic_are_one_message() -> None:
    (message,) = chat.from_anthropic(ANTHROPIC_EVENTS)
    assert message.blocks == (
        ReasoningItem("A city.", signature="sig"),
        TextBlock("Let me look.", extra={"anthropic": {"citations": [{"cited_text": "c"}]}}),
        ToolCall("look", {"city": "Oslo"}, "t", '{"city": "Oslo"}'),
    )
    assert message.sampled is not None
    assert (message.usage, message.ended, message.sampled.model) == (Usage(5, 9), "tool_calls", "claude")


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": 0, **fields}


CALL = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": '{"a": 1}', "status": "completed"}
RESPONSE_EVENTS: list[dict[str, Any]] = [
    event("created", response={"id": "r", "model": "m", "status": "in_progress", "output": []}),
    event("output_item.added", output_index=0, item={"type": "message", "role": "assistant", "id": "x", "content": []}),
    event("output_text.delta", output_index=0, content_index=0, item_id="x", delta="The fer"),
    event("output_text.delta", output_index=0, content_index=0, item_id="x", delta="ry."),
    event("output_item.added", output_index=1, item={**CALL, "arguments": "", "status": "in_progress"}),
    event("function_call_arguments.delta", output_index=1, item_id="fc", delta='{"a":'),
    event("output_item.done", output_index=1, item=CALL),
    event("completed", response={"id": "r", "model": "m", "status": "completed", "output": [CALL], "usage": {"input_tokens": 2}}),
]


def test_events_of_a_response_are_one_message() -> None:
    (message,) = chat.from_openai_responses(RESPONSE_EVENTS)
    assert message == chat.from_openai_responses(RESPONSE_EVENTS[-1]["response"])[0]
    assert chat.from_openai_responses(RESPONSE_EVENTS[-1]) == [message]  # the last event has the whole response
    (broken,) = chat.from_openai_responses(RESPONSE_EVENTS[:-1])
    assert (broken.text, [call.content for call in broken.tool_calls]) == ("The ferry.", ['{"a": 1}'])
    (early,) = chat.from_openai_responses(RESPONSE_EVENTS[:6])
    assert [call.content for call in early.tool_calls] == ['{"a":']


def gemini_chunk(*parts: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, **({"finish_reason": finish} if finish else {})}
    return {"response_id": "g", "model_version": "gemini-3", "candidates": [candidate]}


def test_chunks_of_gemini_are_one_message() -> None:
    chunks = [
        gemini_chunk({"text": "A ", "thought": True}),
        gemini_chunk({"text": "city.", "thought": True}, {"text": "I "}),
        gemini_chunk({"text": "look."}),
        gemini_chunk({"function_call": {"name": "look", "args": {}}}, finish="STOP"),
        {"response_id": "g", "usage_metadata": {"prompt_token_count": 3, "candidates_token_count": 4}},
    ]
    for value in (chunks, [gt.GenerateContentResponse.model_validate(item) for item in chunks]):
        (message,) = chat.from_gemini(value)
        assert message.blocks == (ReasoningItem("A city."), TextBlock("I look."), ToolCall("look", {}))
        assert (message.usage, message.ended) == (Usage(3, 4), "tool_calls")
    assert len(chat.from_gemini([*chunks, *chunks])) == 2


ONE_CHUNKS: list[tuple[str, Any]] = [
    ("log_openai_completions", chunk({"content": "a"})),
    ("log_openai_completions", ChatCompletionChunk.model_validate(chunk({"content": "a"}))),
    ("log_openai_completions", [chunk({"content": "a"})]),
    ("log_openai_completions", [{"role": "user", "content": "u"}, chunk({})]),
    ("log_anthropic_message", text_delta("a")),
    ("log_anthropic_message", at.RawContentBlockDeltaEvent.model_validate(text_delta("a"))),
    ("log_openai_response", RESPONSE_EVENTS[0]),
    ("log_openai_response", ResponseTextDeltaEvent.model_validate({**RESPONSE_EVENTS[2], "logprobs": []})),
    ("log_gdm_message", gemini_chunk({"text": "a"})),
    ("log_gdm_message", gt.GenerateContentResponse.model_validate(gemini_chunk({"text": "a"}))),
]


@pytest.mark.parametrize(("logger", "value"), ONE_CHUNKS)
def test_a_chunk_alone_is_refused_and_nothing_is_taken(tmp_path: Path, logger: str, value: Any) -> None:
    with Recorder(tmp_path) as recorder, recorder.rollout() as log:
        with pytest.raises(TypeError, match=r"one chunk of a streamed answer.*: collect the chunks and pass them as one list"):
            getattr(log, logger)(value)
        assert log.rollout.messages == []


def test_a_chunk_is_no_action() -> None:
    with pytest.raises(TypeError, match="is not an action"):
        chat.parse_action(json.loads(json.dumps(chunk({"content": "a"}))))


def test_chunks_of_gemini_without_ids_are_one_answer() -> None:
    def chunk(text: str, **fields: Any) -> dict[str, Any]:
        return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, **fields}]}

    chunks = [chunk("Vil"), chunk("ni"), chunk("us", finishReason="STOP"), {"usageMetadata": {"promptTokenCount": 4}}]
    (message,) = chat.from_gemini(chunks)
    assert (message.text, message.ended, message.usage) == ("Vilnius", "stop", Usage(4))
    first, second = chat.from_gemini([chunk("A", finishReason="STOP"), chunk("B", finishReason="STOP")])
    assert (first.text, second.text) == ("A", "B")


@pytest.mark.parametrize("odd", [3, "x", None, [[]]])
def test_an_odd_entry_among_streamed_calls_has_no_continuation(odd: Any) -> None:
    piece = {"type": "function", "function": {"name": "go", "arguments": ""}}
    chunks = [chunk({"tool_calls": [odd, piece]}), chunk({"tool_calls": [{"function": {"arguments": "{}"}}]})]
    with pytest.raises(MessageError):
        chat.from_openai(chunks)
