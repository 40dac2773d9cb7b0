"""Parsing of a local model's answers into thoughts, calls and text."""

from __future__ import annotations

from openreward_gym.policies.transformers import read_answer
from openreward_gym.types import ReasoningItem, TextBlock, ToolCall


def test_answers() -> None:
    call = '<tool_call>\n{"name": "look", "arguments": {"a": 1}}\n</tool_call>'
    assert read_answer("Hello.") == [TextBlock("Hello.")]
    assert read_answer(call) == [ToolCall("look", {"a": 1}, "call_0")]
    assert read_answer(f"<think>\nHm.\n</think>\n\nI look. {call} {call} Done.") == [
        ReasoningItem("Hm."),
        TextBlock("I look."),
        ToolCall("look", {"a": 1}, "call_0"),
        ToolCall("look", {"a": 1}, "call_1"),
        TextBlock("Done."),
    ]
    # Templates that open the thought themselves; an empty one; a call that was cut off.
    assert read_answer("Hm.</think>Yes.") == [ReasoningItem("Hm."), TextBlock("Yes.")]
    assert read_answer("<think>\n\n</think>\n\nYes.") == [TextBlock("Yes.")]
    assert read_answer('<tool_call>{"name": "look", "arg') == [ToolCall("look", None, "call_0", '{"name": "look", "arg')]


def test_invalid_calls() -> None:
    assert read_answer("<tool_call>what?</tool_call>") == [TextBlock("<tool_call>what?</tool_call>")]
    assert read_answer('<tool_call>{"arguments": {}}</tool_call>') == [TextBlock('<tool_call>{"arguments": {}}</tool_call>')]
    assert read_answer('<tool_call>{"name": "look"}</tool_call>') == [ToolCall("look", {}, "call_0")]
    (malformed,) = read_answer('<tool_call>{"name": "look", "arguments": [1]}</tool_call>')
    assert isinstance(malformed, ToolCall)
    assert (malformed.arguments, malformed.content) == (None, "[1]")
    assert read_answer("") == []
