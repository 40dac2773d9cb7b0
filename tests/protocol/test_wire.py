"""Tests of the wire's JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openreward.environments import types as sdk
from openreward.environments.utils import flatten_messages as sdk_flatten

from openreward_gym.errors import ProtocolError
from openreward_gym.hiding import Redactor, Secret
from openreward_gym.protocol.wire import (
    dumps,
    dumps_call,
    encode_messages,
    flatten_messages,
    loads,
    read_blocks,
    read_detail,
    read_messages,
    read_output,
    read_splits,
    read_tools,
)
from openreward_gym.types import (
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Split,
    TerminalTool,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolOutput,
    ToolResult,
    ToolSpec,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("data", [b"", b"<html>no</html>", b"{", b"[" * 100_000, b'"\xff"', b"9" * 5000, b"\x00"])
def test_other_text_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="not JSON"):
        loads(data)


def test_secrets_are_written_in_the_clear() -> None:
    assert dumps({"judge": Secret("s3cret"), "big": 2**70}) == b'{"judge":"s3cret","big":1180591620717411303424}'
    with pytest.raises(TypeError):
        dumps([object()])


@pytest.mark.parametrize("arguments", [{}, {"a": 1, "b": None}, {"a": 2**70}, {"a": "\ud800"}, {"a": [1.5, {"b": "\u00e9"}]}])
def test_the_body_of_a_call(arguments: dict[str, Any]) -> None:
    assert json.loads(dumps_call("tool", arguments).decode()) == {"name": "tool", "input": arguments}


def test_blocks_keep_what_this_version_does_not_know() -> None:
    raw = [
        {"type": "text", "text": "a", "detail": {"x": 1}, "colour": "red"},
        {"type": "image", "data": "AA==", "mimeType": "image/webp", "detail": None},
        {"type": "hologram", "depth": 3},
        {"type": "text"},
        {"type": "image", "data": 7},
    ]
    assert read_blocks(raw) == (
        TextBlock("a", {"x": 1}, {"colour": "red"}),
        ImageBlock("AA==", "image/webp"),
        OpaqueBlock({"type": "hologram", "depth": 3}),
        OpaqueBlock({"type": "text"}),
        OpaqueBlock({"type": "image", "data": 7}),
    )


CONVERSATION = [
    Message("system", (TextBlock("s"),)),
    Message("user", (TextBlock("u", {"a": 1}), ImageBlock("AA==", "image/png"))),
    Message("assistant", (ReasoningItem("r", signature="sig"), TextBlock("t"), ToolCall("f", {"x": 1}, "id1"))),
    Message("user", (ToolResult((TextBlock("out"), ImageBlock("AA==")), "id1", is_error=True),)),
]


def test_messages_come_back_from_the_sdks_models_unchanged() -> None:
    raw = encode_messages(CONVERSATION)
    parsed = [sdk.Message.model_validate(entry) for entry in raw]
    assert read_messages([entry.model_dump() for entry in parsed]) == tuple(CONVERSATION)


def test_a_conversation_is_flattened_as_the_sdk_does() -> None:
    parsed = [sdk.Message.model_validate(entry) for entry in encode_messages(CONVERSATION)]
    wanted = read_blocks([block.model_dump() for block in sdk_flatten(parsed)])
    assert flatten_messages(CONVERSATION) == wanted
    assert flatten_messages(CONVERSATION[1:2]) == CONVERSATION[1].blocks


def test_tool_turns_ride_in_user_turns_and_opaque_blocks_as_they_came() -> None:
    (raw,) = encode_messages([ToolMessage([TextBlock("out"), OpaqueBlock({"type": "x", "y": 1})], "id1", extra={"z": 2})])
    # What only a record keeps is no field of the standard.
    assert (raw.keys(), raw["role"]) == ({"role", "blocks", "detail"}, "user")
    (result,) = raw["blocks"]
    assert (result["type"], result["tool_call_id"]) == ("tool_result", "id1")
    assert result["blocks"] == [{"type": "text", "text": "out", "detail": None}, {"type": "x", "y": 1}]


def test_outputs() -> None:
    ok = {"blocks": [], "metadata": {"a": 1}, "reward": 1, "finished": True, "new": 2}
    output = read_output({"ok": True, "output": ok})
    assert output == ToolOutput((), 1.0, True, {"a": 1}, extra={"new": 2})
    assert type(output.reward) is float
    assert read_output({"ok": True, "output": {"blocks": []}}) == ToolOutput()
    assert read_output({"ok": True, "output": {"blocks": [], "reward": 10**400}}).reward == math.inf


@pytest.mark.parametrize(
    ("error", "reason", "kind"),
    [
        ("no", "not_found", "not_found"),
        ("no", "name_collision", "name_collision"),
        ("no", "input_validation", "input_validation"),
        ("no", "episode_finished", "episode_finished"),
        ("no", "a_new_reason", "other"),
        ("Tool name collision: 'a'", None, "name_collision"),
        ("Tool input validation error: []", None, "input_validation"),
        ("'a' is not a valid tool", None, "not_found"),
        ("something", None, "other"),
    ],
)
def test_wrong_calls(error: str, reason: str | None, kind: str) -> None:
    output = read_output({"ok": False, "error": error, "reason": reason})
    assert (output.text, output.error, output.error_kind) == (error, error, kind)
    assert output.finished == (kind == "episode_finished")


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"ok": 1},
        {"ok": True},
        {"ok": True, "output": []},
        {"ok": True, "output": {"blocks": "x"}},
        {"ok": True, "output": {"blocks": [1]}},
        {"ok": True, "output": {"blocks": [], "reward": "1"}},
        {"ok": True, "output": {"blocks": [], "reward": True}},
    ],
)
def test_what_is_no_output_is_a_protocol_error(value: Any) -> None:
    with pytest.raises(ProtocolError, match="the server sent"):
        read_output(value)


@given(value=values)
def test_nothing_that_is_read_raises_anything_else(value: Any) -> None:
    for read in (read_output, read_blocks, read_messages, read_tools, read_splits):
        try:
            read(value)
        except ProtocolError:
            pass
    read_detail(dumps(value), Redactor([]))


def test_tools() -> None:
    tool = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
    tools = read_tools(
        {"tools": [tool, {"name": "g"}], "terminal_tool": {"name": "t", "arg": None}, "supports_score_group": True}
    )
    assert tools.tools == (ToolSpec("f", "d", {"type": "object"}), ToolSpec("g"))
    assert tools.terminal == TerminalTool("t")
    assert (tools.supports_score_group, tools.message_block_types) == (True, None)
    assert read_tools({"tools": [], "message_block_types": ["text"]}).message_block_types == ("text",)
    assert read_splits([{"name": "train", "type": "train"}, "dev", {"name": "x"}]) == [
        Split("train", "train"),
        Split("dev"),
        Split("x"),
    ]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"detail":"Invalid split"}', "Invalid split"),
        (b'{"message":"no"}', "no"),
        (b'{"detail":[{"loc":["body"]}]}', '[{"loc": ["body"]}]'),
        (b"<html>\n  Bad   Gateway", "an HTML page: Bad Gateway"),
        (b"<!doctype html><style>b {}</style><h1>502</h1> <p>Bad Gateway</p", "an HTML page: 502 Bad Gateway"),
        (b"", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_what_a_refusal_says(body: bytes, detail: str) -> None:
    assert read_detail(body, Redactor([])) == detail


def test_long_refusals_are_cut() -> None:
    assert len(read_detail(b'{"detail":"' + b"x" * 100_000 + b'"}', Redactor([]))) < 1100


def test_a_secret_shows_nowhere_but_to_the_transport() -> None:
    secret = Secret("sk-very-secret")
    assert "very" not in f"{secret!r} {secret} {[secret]} { ({'a': secret}) }"
    assert dumps({"a": secret}) == b'{"a":"sk-very-secret"}'
