"""Streams of every kind: assembled as the SDKs' own accumulators do it, or refused; never half of an answer in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic.types as at
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from google.genai import types as gt
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter
from rollout_strategies import EXAMPLES

from openreward_gym import chat
from openreward_gym.chat.failures import error_text
from openreward_gym.errors import MessageError
from openreward_gym.types import Message, ToolCall

words = st.text(max_size=8)


def torn(draw: st.DrawFn, text: str) -> list[str]:
    """Return a text in random pieces, some of them empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def chat_chunk(*choices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "q", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": list(choices), **fields}


def piece(delta: dict[str, Any], index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish}


@st.composite
def chat_streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Chunks of one or two choices, interleaved, with text, a refusal and parallel calls whose names come in pieces."""
    streams = []
    for index in range(draw(st.integers(1, 2))):
        pieces: list[dict[str, Any]] = [{"content": text} for text in torn(draw, draw(words))]
        for number in range(draw(st.integers(0, 3))):
            call = {"index": number, "id": f"c{number}", "type": "function", "function": {"name": "", "arguments": ""}}
            pieces.append({"tool_calls": [call]})
            names, arguments = torn(draw, draw(st.text("abc_", min_size=1, max_size=9))), torn(draw, draw(words))
            pieces += [{"tool_calls": [{"index": number, "function": {"name": name}}]} for name in names]
            pieces += [{"tool_calls": [{"index": number, "function": {"arguments": text}}]} for text in arguments]
        pieces = draw(st.permutations(pieces)) if not any("tool_calls" in delta for delta in pieces) else pieces
        streams.append(
            [piece({"role": "assistant"}, index), *(piece(delta, index) for delta in pieces), piece({}, index, "stop")]
        )
    chunks = [chat_chunk(stream.pop(0)) for stream in streams]  # the SDK needs the choices to begin in order
    while any(streams):
        stream = draw(st.sampled_from([stream for stream in streams if stream]))
        chunks.append(chat_chunk(stream.pop(0)))
    return [*chunks, chat_chunk(usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})]


@given(chat_streams())
@settings(max_examples=EXAMPLES * 2, deadline=None)
def test_chunks_of_a_chat_are_what_openai_s_accumulator_gives(chunks: list[dict[str, Any]]) -> None:
    state = ChatCompletionStreamState()
    objects = [ChatCompletionChunk.model_validate(chunk) for chunk in chunks]
    for item in objects:
        state.handle_chunk(item)
    whole = state.current_completion_snapshot
    (message,) = chat.from_openai(chunks)
    expected = whole.choices[0].message
    calls = [(c.id, c.function.name, c.function.arguments) for c in expected.tool_calls or ()]
    assert message.text == (expected.content or "")
    assert [(call.call_id, call.name, call.content) for call in message.tool_calls] == calls
    assert message.usage is not None
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 4)
    assert message.ended == ("tool_calls" if calls else "stop")
    others = (message.sampled.metadata or {}).get("choices", []) if message.sampled else []
    assert [other["message"].get("content") for other in others] == [c.message.content for c in whole.choices[1:]]
    for value in (iter(chunks), (chunk for chunk in objects), tuple(chunks)):
        assert chat.from_openai(value) == [message]
    assert chat.parse_action(chunks).blocks == message.blocks


def call_chunk(index: int | None, **call: Any) -> dict[str, Any]:
    return chat_chunk(piece({"tool_calls": [call if index is None else {"index": index, **call}]}))


END = chat_chunk(piece({}, 0, "stop"))
ODD_CALLS: list[tuple[str, list[dict[str, Any]], list[tuple[str, str, str]]]] = [
    (
        "the name and id again in every chunk",
        [call_chunk(0, id="a", function={"name": "haha", "arguments": text}) for text in ('{"x"', ": 1}")],
        [("a", "haha", '{"x": 1}')],
    ),
    (
        "a name whose pieces are alike",
        [call_chunk(0, id="a", function={"name": "ha"}), call_chunk(0, function={"name": "ha", "arguments": "{}"})],
        [("a", "haha", "{}")],
    ),
    (
        "an empty id first",
        [call_chunk(0, id="", function={"name": "f"}), call_chunk(0, id="late", function={"arguments": "{}"})],
        [("late", "f", "{}")],
    ),
    (
        "all calls with index 0, in pieces",
        [
            call_chunk(0, id="a", function={"name": "f", "arguments": "{"}),
            call_chunk(0, function={"arguments": "}"}),
            call_chunk(0, id="b", function={"name": "g", "arguments": "["}),
            call_chunk(0, function={"arguments": "]"}),
        ],
        [("a", "f", "{}"), ("b", "g", "[]")],
    ),
    (
        "no index, with the id again",
        [call_chunk(None, id="a", function={"name": "f", "arguments": text}) for text in ("{", "}")],
        [("a", "f", "{}")],
    ),
]


@pytest.mark.parametrize(("chunks", "calls"), [case[1:] for case in ODD_CALLS], ids=[case[0] for case in ODD_CALLS])
def test_calls_of_servers_that_stream_them_oddly(chunks: list[dict[str, Any]], calls: list[tuple[str, str, str]]) -> None:
    (message,) = chat.from_openai([*chunks, END])
    assert [(call.call_id, call.name, call.content) for call in message.tool_calls] == calls


def test_a_call_that_never_gets_a_name_is_a_call_without_one() -> None:
    (message,) = chat.from_openai([call_chunk(0, id="a", function={"arguments": "{"}), END])
    assert message.tool_calls == (ToolCall("", None, "a", "{"),)


def test_the_end_of_a_chat_s_stream() -> None:
    text = chat_chunk(piece({"content": "Gate "})), chat_chunk(piece({"content": "12."}))
    usage = {**chat_chunk(usage={"prompt_tokens": 3}), "id": ""}
    (message,) = chat.from_openai([*text, END, usage])
    assert (message.text, message.ended, message.usage and message.usage.input_tokens) == ("Gate 12.", "stop", 3)
    # Fields that are repeated are not joined; columns are.
    ends = [
        {**piece({}, 0, "stop"), "native_finish_reason": "STOP", "content_filter_results": {"hate": {"severity": "safe"}}}
    ] * 2
    logged = [
        {**piece({"content": "a"}), "token_ids": [n], "logprobs": {"content": [{"logprob": -1.0, "token": "a"}]}} for n in (1, 2)
    ]
    (message,) = chat.from_openai([chat_chunk(choice) for choice in [*logged, *ends]])
    assert message.sampled is not None
    assert (message.token_ids, message.logprobs) == ([1, 2], [-1.0, -1.0])
    assert message.sampled.metadata is not None
    assert message.sampled.metadata["native_finish_reason"] == "STOP"
    assert message.sampled.metadata["content_filter_results"] == {"hate": {"severity": "safe"}}
    # One choice that broke off makes the answer one.
    (message,) = chat.from_openai([*text, chat_chunk(piece({"content": "x"}, 1, "stop"))])
    assert (message.text, message.ended) == ("Gate 12.", "unknown")
    # A chunk that holds all of an answer is one.
    assert chat.from_openai(chat_chunk(piece({"content": "All."}, 0, "stop")))[0].text == "All."


def test_two_streams_without_ids_are_two_answers_and_mixed_ones_are_refused() -> None:
    stream = [{**item, "id": None} for item in (chat_chunk(piece({"content": "a"})), END)]
    assert [message.text for message in chat.from_openai([*stream, *stream])] == ["a", "a"]
    mixed = [{**chat_chunk(piece({"content": text})), "id": name} for name in "abab" for text in "xy"]
    with pytest.raises(MessageError, match="several streamed answers are mixed"):
        chat.from_openai(mixed)


ERRORS: list[tuple[Any, list[dict[str, Any]]]] = [
    (chat.from_openai, [chat_chunk(piece({"content": "Gate"})), {"error": {"message": "worker died", "code": 500}}]),
    (
        chat.from_openai,
        [chat_chunk(piece({"content": "Gate"})), chat_chunk(piece({}, 0, "error"), error={"message": "worker died"})],
    ),
    (
        chat.from_gemini,
        [{"response_id": "g", "candidates": [{"content": {"parts": [{"text": "Gate"}]}}]}, {"error": {"message": "worker died"}}],
    ),
    (
        chat.from_anthropic,
        [
            {"type": "message_start", "message": {"role": "assistant", "content": []}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Gate"}},
            {"type": "error", "error": {"type": "overloaded_error", "message": "worker died"}},
        ],
    ),
    (
        chat.from_openai_responses,
        [
            {"type": "response.created", "response": {"id": "r", "output": []}},
            {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Gate"},
            {"type": "error", "sequence_number": 3, "code": "server_error", "message": "worker died"},
        ],
    ),
]


@pytest.mark.parametrize(("read", "chunks"), ERRORS)
def test_a_stream_that_fails_is_one_turn_that_failed(read: Any, chunks: list[dict[str, Any]]) -> None:
    (message,) = read(chunks)
    assert (message.text, message.ended, error_text(message)) == ("Gate", "error", "worker died")


EVENT: TypeAdapter[Any] = TypeAdapter(at.RawMessageStreamEvent)


@st.composite
def anthropic_streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    message: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [],
        "stop_reason": None,
    }
    usage = {"input_tokens": 5, "output_tokens": 1}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {**message, "stop_sequence": None, "usage": usage}}]
    for index in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["text", "thinking", "tool_use"]))
        value = draw(st.dictionaries(words, st.integers() | words, max_size=3))
        text = json.dumps(value, ensure_ascii=draw(st.booleans())) if kind == "tool_use" else draw(words)
        block: dict[str, Any] = {"type": "tool_use", "id": f"t{index}", "name": "f", "input": {}}
        if kind != "tool_use":
            block = {"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})}
        name, field = ("input_json_delta", "partial_json") if kind == "tool_use" else (f"{kind}_delta", kind)
        deltas = [{"type": name, field: part} for part in torn(draw, text)]
        deltas += [{"type": "signature_delta", "signature": "sig"}] if kind == "thinking" else []
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": draw(st.sampled_from(["end_turn", "max_tokens", "refusal"])), "stop_sequence": None}
    return [*events, {"type": "message_delta", "delta": end, "usage": {"output_tokens": 9}}, {"type": "message_stop"}]


def accumulated(events: list[dict[str, Any]]) -> Any:
    snapshot, buffers = None, dict[int, bytes]()
    for event in events:
        snapshot = accumulate_event(event=EVENT.validate_python(event), current_snapshot=snapshot, json_bufs=buffers)
    return snapshot


def without_texts_of_arguments(message: Message) -> Message:
    blocks = [ToolCall(b.name, b.arguments, b.call_id) if isinstance(b, ToolCall) else b for b in message.blocks]
    return message.replace(blocks=tuple(blocks))


@given(anthropic_streams())
@settings(max_examples=EXAMPLES * 2, deadline=None)
def test_events_of_anthropic_are_what_its_accumulator_gives(events: list[dict[str, Any]]) -> None:
    (message,) = chat.from_anthropic(EVENT.validate_python(event) for event in events)
    (expected,) = chat.from_anthropic(accumulated(events))
    assert without_texts_of_arguments(message) == without_texts_of_arguments(expected)
    assert chat.from_anthropic([{"type": "ping"}, *events])[0].blocks == message.blocks


EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage": {"input_tokens": 5}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"gate'}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '": 12}'}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
]


def test_a_torn_argument_stays_as_it_was_written() -> None:
    (message,) = chat.from_anthropic(EVENTS[:3])
    assert [(call.arguments, call.content) for call in message.tool_calls] == [(None, '{"gate')]
    assert message.ended == "unknown"
    (message,) = chat.from_anthropic(EVENTS)  # without message_stop
    assert [(call.arguments, call.content) for call in message.tool_calls] == [({"gate": 12}, '{"gate": 12}')]
    assert message.ended == "tool_calls"


BROKEN: list[tuple[list[dict[str, Any]], str]] = [
    (EVENTS[1:], "no message_start"),
    ([EVENTS[0], *EVENTS[2:]], "block 0 of a streamed answer has no beginning"),
    ([*EVENTS[:2], *EVENTS[1:]], "block 0 of a streamed answer begins twice"),
    ([EVENTS[0], {**EVENTS[2], "index": 4}], "block 4 of a streamed answer has no beginning"),
]


@pytest.mark.parametrize(("events", "words"), BROKEN)
def test_events_without_their_beginning_are_refused(events: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(MessageError, match=words):
        chat.from_anthropic(events)


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


CREATED = event("created", response={"id": "r", "model": "m", "status": "in_progress", "output": []})
TEXT = {"type": "output_text", "text": "Gate 12.", "annotations": []}


def responses(*events: dict[str, Any]) -> Message:
    (message,) = chat.from_openai_responses([CREATED, *events])
    return message


def test_a_response_without_its_last_event() -> None:
    added = event("output_item.added", output_index=0, item={"type": "message", "role": "assistant", "content": []})
    deltas = [event("output_text.delta", output_index=0, content_index=0, delta=text) for text in ("Gate ", "12.")]
    done = event("output_text.done", output_index=0, content_index=0, text="Gate 12.")
    assert responses(added, *deltas).text == responses(*deltas, done).text == responses(added, done).text == "Gate 12."
    assert responses(added, *deltas).ended == "unknown"
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}
    started = event("output_item.added", output_index=1, item=call)
    whole = event("function_call_arguments.done", output_index=1, arguments='{"gate": 12}')
    message = responses(*deltas, started, whole)
    assert [c.content for c in message.tool_calls] == ['{"gate": 12}']
    thoughts = [event("reasoning_summary_text.delta", output_index=0, summary_index=n, delta=text) for n, text in enumerate("ab")]
    assert responses(*thoughts).reasoning == "ab"


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (
            [event("output_text.delta", output_index=0, content_index=3, delta="x")] * 2,
            "part 3 of a streamed item comes before part 0",
        ),
        (
            [event("output_text.delta", output_index="first", content_index=0, delta="x")] * 2,
            "output_index of a chunk must be an integer",
        ),
        ([event("shell_call_command.delta", output_index=0, command_index=0, delta="ls")], "shell_call_command.delta needs"),
    ],
)
def test_events_of_a_response_that_cannot_be_put_together_are_refused(events: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(MessageError, match=words):
        responses(*events)


def test_unknown_pieces_are_no_loss_where_the_item_follows() -> None:
    item = {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}, "environment": {"type": "local"}}
    pieces = [event("shell_call_command.delta", output_index=0, command_index=0, delta=text) for text in "ls"]
    assert responses(*pieces, event("output_item.done", output_index=0, item=item)).tool_calls[0].name == "shell"
    completed = event("completed", response={"id": "r", "status": "completed", "output": [item]})
    assert responses(*pieces, completed).ended == "tool_calls"


def gemini_chunks(*parts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, part in enumerate(parts):
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": [part]}}
        if number == len(parts) - 1:
            candidate["finish_reason"] = "STOP"
        yield {"response_id": "g", "candidates": [candidate]}


def test_gemini_s_chunks_with_columns_and_pieces_of_arguments() -> None:
    chunks = list(gemini_chunks({"text": "Gate "}, {"text": "12."}))
    for number, item in enumerate(chunks):
        item["candidates"][0]["citation_metadata"] = {"citations": [{"start_index": number}]}
    (message,) = chat.from_gemini(gt.GenerateContentResponse.model_validate(item) for item in chunks)
    assert message.text == "Gate 12."
    assert message.sampled is not None
    assert (message.sampled.metadata or {})["citation_metadata"] == {"citations": [{"start_index": 0}, {"start_index": 1}]}
    pieces = {
        "function_call": {"name": "f", "partial_args": [{"json_path": "$.gate", "number_value": 12}], "will_continue": True}
    }
    with pytest.raises(MessageError, match="streamed in pieces"):
        chat.from_gemini(gemini_chunks(pieces, {"function_call": {}}))
    # The chunks of another answer begin another message.
    other = [{**item, "response_id": "h"} for item in gemini_chunks({"text": "No"}, {"text": "pe."})]
    assert [m.text for m in chat.from_gemini([*chunks[:2], *other])] == ["Gate 12.", "Nope."]
