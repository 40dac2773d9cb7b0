"""Nouns as JSON and back: exact, checked on the way in, unknown fields kept."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from rollout_strategies import EXAMPLES, messages, rollouts

from openreward_gym.errors import RecordError, SchemaVersionError
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    OpaqueBlock,
    Rollout,
    Sampled,
    SystemMessage,
    TextBlock,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
)
from openreward_gym.types.codec import FieldError, read_as, write

LINE: dict[str, Any] = {"schema": "openreward-gym/rollout/1", "id": "r", "status": "completed"}


@given(messages)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_message_survives_its_json_and_a_pickle(message: Message) -> None:
    again = read_as(Message, json.loads(json.dumps(write(message))))
    assert again == message
    assert pickle.loads(pickle.dumps(again)) == message


@given(rollouts)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_rollout_survives_its_line(rollout: Rollout) -> None:
    again = Rollout.from_line(rollout.to_line())
    assert again == rollout
    assert again.to_line() == rollout.to_line()


def test_a_message_is_read_as_the_class_of_its_role() -> None:
    kinds = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage, "tool": ToolMessage}
    for role, kind in kinds.items():
        assert type(read_as(Message, {"role": role, "blocks": [{"type": "text", "text": "x"}]})) is kind


def test_what_is_at_its_default_is_not_written() -> None:
    assert write(Message("user", (TextBlock("hi"),))) == {"role": "user", "blocks": [{"type": "text", "text": "hi"}]}
    assert write(ImageBlock("AAAA", "image/gif")) == {"type": "image", "data": "AAAA", "mimeType": "image/gif"}
    assert write(Sampled(usage=Usage(output_tokens=0))) == {"usage": {"output_tokens": 0}}
    assert write(Message("tool", weight=0.0, reward=0.0)) == {"role": "tool", "weight": 0.0, "reward": 0.0}


def test_unknown_fields_pass_through_at_every_level() -> None:
    line = {
        **LINE,
        "newer": [1],
        "environment": {"name": "e", "region": "eu"},
        "task": {"index": 1, "level": 3},
        "tools": [{"name": "t", "strict": True}],
        "usage": {"input_tokens": 1, "audio_tokens": 2},
        "messages": [
            {
                "role": "assistant",
                "mood": "good",
                "sampled": {"model": "m", "system_fingerprint": "f"},
                "blocks": [{"type": "text", "text": "x", "annotations": [1]}, {"type": "video", "url": "u"}],
            }
        ],
    }
    assert Rollout.from_dict(line).to_dict() == line


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"status": "odd"}, "status"),
        ({"sample": "1"}, "sample"),
        ({"sample": True}, "sample"),
        ({"reward": "high"}, "reward"),
        ({"reward": 10**400}, "reward"),
        ({"messages": {}}, "messages"),
        ({"messages": [{"role": "robot"}]}, "messages.0.role"),
        ({"messages": [{}]}, "messages.0.role"),
        ({"messages": ["hello"]}, "messages.0"),
        ({"messages": [{"role": "user", "origin": "nobody"}]}, "messages.0.origin"),
        ({"messages": [{"role": "user", "blocks": [{"type": "text", "text": 3}]}]}, "messages.0.blocks.0.text"),
        ({"messages": [{"role": "user", "blocks": [{"type": "text"}]}]}, "messages.0.blocks.0.text"),
        ({"messages": [{"role": "user", "blocks": ["hi"]}]}, "messages.0.blocks.0"),
        ({"messages": [{"role": "assistant", "sampled": {"token_ids": [1, 2.0]}}]}, "messages.0.sampled.token_ids.1"),
        ({"metrics": {"speed": "fast"}}, "metrics.speed"),
        ({"tools": [{"description": "nameless"}]}, "tools.0.name"),
    ],
)
def test_the_first_wrong_field_is_named(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(RecordError, match=rf"not a rollout: {place}: "):
        Rollout.from_dict({**LINE, **changes})


def test_a_field_error_tells_where_and_what() -> None:
    with pytest.raises(FieldError) as caught:
        read_as(Message, {"role": "user", "blocks": [{"type": "tool_call", "name": "f", "arguments": [1]}]})
    assert caught.value.path == ("blocks", 0, "arguments")
    assert caught.value.value == [1]


def test_a_newer_major_version_is_refused() -> None:
    with pytest.raises(SchemaVersionError, match="upgrade"):
        Rollout.from_dict({**LINE, "schema": "openreward-gym/rollout/2"})


def test_non_finite_numbers_are_text_in_the_line_and_numbers_again() -> None:
    rollout = Rollout(status="completed", reward=float("inf"), metadata={"loss": float("nan")})
    line = rollout.to_line()
    assert json.loads(line, parse_constant=pytest.fail)["reward"] == "inf"
    assert Rollout.from_line(line).reward == float("inf")


def test_a_block_that_cannot_be_read_is_kept_as_it_came() -> None:
    for raw in (
        {"type": "text", "words": 1},
        {"type": "opaque"},
        {"type": "tool_result"},
        {"type": "audio", "data": "x"},
        {"no": 1},
    ):
        message = Message("user", (OpaqueBlock(raw),))
        assert read_as(Message, write(message)).blocks[0].type == str(raw.get("type", ""))
        again = read_as(Message, write(message)).blocks[0]
        assert isinstance(again, OpaqueBlock)
        assert {**again.raw} == raw or {**again.raw} == {"type": "", **raw}


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": Infinity}', '{"a": -Infinity}', '{"a": 1e999}', "[1]", "{", '"x"', "null"])
def test_arguments_are_those_of_a_strict_json_object_alone(text: str) -> None:
    call = ToolCall("f", content=text)
    assert call.arguments is None
    assert call.arguments_json == text
    assert read_as(ToolCall, write(call)) == call


def test_arguments_keep_big_integers_and_the_model_s_own_text() -> None:
    call = ToolCall("f", content='{ "n": 123456789012345678901234567890 }')
    assert call.arguments == {"n": 123456789012345678901234567890}
    assert call.arguments_json == '{ "n": 123456789012345678901234567890 }'
    assert ToolCall("f", content="  ").arguments == {}


@pytest.mark.parametrize("text", ['{ "city": "Oslo" }', '{"city": ', "[1]", '{"x": NaN}'])
def test_arguments_that_are_a_text_are_the_text_that_the_model_wrote(text: str) -> None:
    call = ToolCall("f", text, call_id="c")  # type: ignore[arg-type]
    assert call == ToolCall("f", content=text, call_id="c")
    assert call.content == text
    record = Rollout(status="completed", messages=[Message("assistant", (call,))])
    assert Rollout.from_line(record.to_line()) == record


@pytest.mark.parametrize("arguments", [[1], 3, b"{}"])
def test_other_arguments_are_refused_where_the_call_is_made(arguments: object) -> None:
    with pytest.raises(TypeError, match="arguments of a ToolCall are an object"):
        ToolCall("f", arguments)  # type: ignore[arg-type]


def test_an_integer_with_more_digits_than_python_writes_is_described() -> None:
    with pytest.raises(RecordError, match=r"status: must be one of .* with more digits than Python writes"):
        Rollout.from_dict({"schema": "openreward-gym/rollout/1", "id": "r", "status": [10**5000]})
