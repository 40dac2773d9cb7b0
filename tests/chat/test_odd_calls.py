"""Calls that servers write in odd ways are calls, in the four formats: what can be read is read, and nothing raises."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from openreward_gym import chat
from openreward_gym.types import Message, ToolCall, codec

CHAT_CALLS: list[tuple[str, Any, ToolCall]] = [
    ("no name", {"id": "a", "function": {"arguments": "{}"}}, ToolCall("", {}, "a", "{}")),
    ("name null", {"id": "a", "function": {"name": None, "arguments": "{"}}, ToolCall("", None, "a", "{")),
    ("name a number", {"id": "a", "function": {"name": 7, "arguments": "{}"}}, ToolCall("7", {}, "a", "{}")),
    ("name an object", {"id": "a", "function": {"name": {"x": 1}, "arguments": "{}"}}, ToolCall('{"x": 1}', {}, "a", "{}")),
    ("no function", {"id": "a", "type": "function"}, ToolCall("", {}, "a", "")),
    ("function null", {"id": "a", "type": "function", "function": None}, ToolCall("", {}, "a", "")),
    ("function a name", {"id": "a", "function": "ls", "arguments": {"p": 1}}, ToolCall("ls", {"p": 1}, "a")),
    ("flat", {"id": "a", "name": "ls", "arguments": '{"p": 1}'}, ToolCall("ls", {"p": 1}, "a", '{"p": 1}')),
    ("arguments an object", {"id": "a", "function": {"name": "ls", "arguments": {"p": 1}}}, ToolCall("ls", {"p": 1}, "a")),
    ("arguments a list", {"id": "a", "function": {"name": "ls", "arguments": [1]}}, ToolCall("ls", None, "a", "[1]")),
    ("arguments null", {"id": "a", "function": {"name": "ls", "arguments": None}}, ToolCall("ls", {}, "a", "")),
    ("arguments false", {"id": "a", "function": {"name": "ls", "arguments": False}}, ToolCall("ls", None, "a", "false")),
    ("id a number", {"id": 0, "function": {"name": "ls", "arguments": "{}"}}, ToolCall("ls", {}, "0", "{}")),
    ("id null", {"id": None, "function": {"name": "ls", "arguments": "{}"}}, ToolCall("ls", {}, "", "{}")),
    ("not an object", "ls(1)", ToolCall("", None, "", "ls(1)")),
    ("null", None, ToolCall("", None, "", "null")),
]


@pytest.mark.parametrize(("call", "expected"), [case[1:] for case in CHAT_CALLS], ids=[case[0] for case in CHAT_CALLS])
def test_odd_entries_of_tool_calls(call: Any, expected: ToolCall) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    (read,) = chat.from_openai([message])
    assert read.tool_calls == (expected,)
    assert codec.read_as(Message, codec.write(read)) == read
    body: dict[str, Any] = {"object": "chat.completion"}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    (read,) = chat.from_openai(ChatCompletion.construct(**body))
    assert read.tool_calls == (expected,)
    chat.to_openai([read])
    chat.to_openai([read], for_server=True)


@pytest.mark.parametrize("calls", [{"id": "a", "function": {"name": "ls", "arguments": "{}"}}, None, []])
def test_tool_calls_that_are_no_list(calls: Any) -> None:
    (read,) = chat.from_openai([{"role": "assistant", "content": "x", "tool_calls": calls}])
    assert len(read.tool_calls) == bool(calls)


@pytest.mark.parametrize("name", [None, "", 5])
def test_calls_without_a_name_in_other_formats(name: Any) -> None:
    expected = "" if name is None else str(name)
    item = {"type": "function_call", "call_id": "a", "name": name, "arguments": "{}"}
    block = {"type": "tool_use", "id": "a", "name": name, "input": {}}
    part = {"functionCall": {"id": "a", "name": name, "args": {}}}
    readings = [
        chat.from_openai_responses([item]),
        chat.from_anthropic([{"role": "assistant", "content": [block]}]),
        chat.from_gemini([{"role": "model", "parts": [part]}]),
    ]
    for (message,) in readings:
        assert [(call.name, call.call_id, call.arguments) for call in message.tool_calls] == [(expected, "a", {})]


@pytest.mark.parametrize("name", [None, 5, ["ls"]])
def test_an_item_with_an_odd_name_is_written_as_it_came(name: Any) -> None:
    item = {"type": "function_call", "call_id": "a", "name": name, "arguments": "{}"}
    messages = chat.from_openai_responses([item])
    assert chat.to_openai_responses(messages) == [item]
    assert isinstance(chat.to_openai_responses(messages, for_server=True)[0]["name"], str)


def test_an_action_may_be_a_call_without_a_name() -> None:
    action = chat.parse_action({"id": "a", "type": "function", "function": {"name": None, "arguments": "{}"}})
    assert action.tool_calls[0].name == ""


def test_the_record_s_form_is_the_default() -> None:
    identity = "x" * 50
    torn = Message("assistant", (ToolCall("", None, identity, '{"city": "Sea'),))
    (written,) = chat.to_openai([torn])
    assert written["tool_calls"][0] == {
        "id": "x" * 50,
        "type": "function",
        "function": {"name": "", "arguments": '{"city": "Sea'},
    }
    sent, result = chat.to_openai([torn], for_server=True)
    assert sent["tool_calls"][0]["function"] == {"name": "unknown_tool", "arguments": "{}"}
    assert result["tool_call_id"] == sent["tool_calls"][0]["id"]
    assert chat.to_openai_responses([torn], for_server=True)[0]["arguments"] == "{}"
    assert chat.to_anthropic([torn], for_server=True)[1][1]["content"][0]["input"] == {}
    assert chat.to_gemini([torn], for_server=True)[1][1]["parts"][0]["function_call"]["args"] == {}
