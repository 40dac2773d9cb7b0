"""Parsing of a local model's answers into thoughts, calls and text."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from openreward_gym.policies.transformers import read_answer
from openreward_gym.types import ReasoningItem, TextBlock, ToolCall


def test_answers() -> None:
    call = '<tool_call>\n{"name": "look", "arguments": {"a": 1}}\n</tool_call>'
    assert read_answer("Hello.") == [TextBlock("Hello.")]
    assert read_answer(call) == [ToolCall("look", {"a": 1}, "call_0", '{"a": 1}')]
    assert read_answer(f"<think>\nHm.\n</think>\n\nI look. {call} {call} Done.") == [
        ReasoningItem("Hm."),
        TextBlock("I look. "),
        ToolCall("look", {"a": 1}, "call_0", '{"a": 1}'),
        ToolCall("look", {"a": 1}, "call_1", '{"a": 1}'),
        TextBlock(" Done."),
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
    (not_strict,) = read_answer('<tool_call>{"name": "look", "arguments": {"a": NaN}}</tool_call>')
    assert isinstance(not_strict, ToolCall)
    assert (not_strict.arguments, not_strict.content) == (None, '{"a": NaN}')
    assert read_answer("") == []


plain = st.text(st.characters(exclude_characters="<\n", exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(plain, plain, st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False) | st.text()), st.booleans())
def test_texts_and_arguments_stay_as_they_were_decoded(
    thought: str, text: str, arguments: dict[str, object], thinks: bool
) -> None:
    verbatim = json.dumps(arguments, indent=1)
    call = '<tool_call>\n{"arguments":  ' + verbatim + ', "name": "look"}\n</tool_call>'
    start = f"<think>\n{thought}\n</think>\n\n" if thinks else ""
    blocks = read_answer(f"{start}{text}\n{call}")
    assert blocks == [
        *([ReasoningItem(thought)] if thinks else []),
        TextBlock(text),
        ToolCall("look", arguments, "call_0", verbatim),
    ]
    assert read_answer(f" \n{text}  ") == [TextBlock(f" \n{text}  ")]
