"""Tool calls in raw text: well-formed calls, malformed calls and arbitrary text."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openreward_gym.chat.raw_text import FORMATS, MAX_CALLS, from_raw_text
from openreward_gym.types import AssistantMessage, ReasoningItem, TextBlock, ToolCall, ToolSpec

EXAMPLES = 5_000 if os.environ.get("OPENREWARD_GYM_LONG") else 200
TYPES = {"integer": 3, "number": 1.5, "boolean": True, "array": [1, "x"], "object": {"a": None}, "null": None}
TOOLS = [
    ToolSpec(
        "f",
        input_schema={
            "properties": {
                **{name: {"type": name} for name in TYPES},
                "s": {"type": "string"},
                "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "either": {"type": ["array", "null"]},
            }
        },
    ),
    ToolSpec("nothing"),
]


def read(text: str) -> tuple[str, str, list[tuple[str, Any]]]:
    message = from_raw_text(text, tools=TOOLS)
    return message.reasoning, message.text, [(call.name, call.arguments) for call in message.tool_calls]


ONE = [("f", {"n": 1})]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello.", ("", "Hello.", [])),
        ("", ("", "", [])),
        ('<tool_call>\n{"name": "f", "arguments": {"n": 1}}\n</tool_call>', ("", "", ONE)),
        ('<tool_call>{"name": "f", "arguments": "{\\"n\\": 1}"}</tool_call>', ("", "", ONE)),
        ('Well.\n<tool_call>{"name": "f", "arguments": {"n": 1}}</tool_call><|im_end|>\n', ("", "Well.", ONE)),
        ('<tool_call>{"name": "f", "arguments": {"n": 1}}', ("", "", ONE)),
        ('<tool_call>{"name": "f"}</tool_call>', ("", "", [("f", {})])),
        (
            '<think>\nhm <tool_call>{"name": "g"}</tool_call>\n</think>\n\n'
            '<tool_call>{"name": "f", "arguments": {"n": 1}}</tool_call>',
            ('hm <tool_call>{"name": "g"}</tool_call>', "", ONE),
        ),
        ("the prompt opened it</think>The answer.", ("the prompt opened it", "The answer.", [])),
        ("<think>never ends", ("never ends", "", [])),
        (
            'a <tool_call>{"name": "f", "arguments": {"n": 1}}</tool_call> b <tool_call>{"name": "g"}</tool_call> c',
            ("", "abc", [*ONE, ("g", {})]),
        ),
        ('<tool_call>[{"name": "f", "arguments": {"n": 1}}, {"name": "g"}]</tool_call>', ("", "", [*ONE, ("g", {})])),
        ('<tool_call>{"name": "f", "arguments": {"n": 1}}\n{"name": "g"}</tool_call>', ("", "", [*ONE, ("g", {})])),
        ('<tool_call>{"name": "f", "arguments": {"n": 1}}<tool_call>{"name": "g"}', ("", "", [*ONE, ("g", {})])),
        (
            '<tool_call>{"name": "f", "arguments": {"s": "a </tool_call> b"}}</tool_call>',
            ("", "", [("f", {"s": "a </tool_call> b"})]),
        ),
        ('<tool_call>{"name": "f", "arguments": {"s": "two\nlines"}}</tool_call>', ("", "", [("f", {"s": "two\nlines"})])),
        ("<tool_call>\n<function=nothing>\n</function>\n</tool_call>", ("", "", [("nothing", {})])),
        (
            "<tool_call>\n<function=f>\n<parameter=s>\na\n b <c>\n\n</parameter>\n"
            "<parameter=integer>\n3\n</parameter>\n</function>\n</tool_call>",
            ("", "", [("f", {"s": "a\n b <c>\n", "integer": 3})]),
        ),
        ("<function=f><parameter=s>3</parameter></function>", ("", "", [("f", {"s": "3"})])),
        ("<function=f><parameter=maybe>null</parameter></function>", ("", "", [("f", {"maybe": "null"})])),
        ("<function=f><parameter=either>null</parameter></function>", ("", "", [("f", {"either": None})])),
        ("<function=f><parameter=integer>three</parameter></function>", ("", "", [("f", {"integer": "three"})])),
        ("<function=unknown><parameter=x>3</parameter></function>", ("", "", [("unknown", {"x": "3"})])),
        ('<function=f>{"n": 1}</function>', ("", "", ONE)),
        ('<function=f>{"n": 1}</function> and <function=g>{}</function>', ("", "and", [*ONE, ("g", {})])),
        ('<|python_tag|>{"name": "f", "parameters": {"n": 1}}<|eom_id|>', ("", "", ONE)),
        ('<|python_tag|>{"name": "f", "parameters": {"n": 1}}; {"name": "g", "parameters": {}}', ("", "", [*ONE, ("g", {})])),
        ('<|python_tag|>{"name": "f", "parameters": {"n": 1}}\nThat is it.', ("", "That is it.", ONE)),
        ('{"name": "f", "parameters": {"n": 1}}', ("", "", ONE)),
        ('{"type": "function", "name": "f", "parameters": {"n": 1}}<|eot_id|>', ("", "", ONE)),
        ('{"function": "f", "parameters": {"n": 1}}', ("", "", ONE)),
        ('[{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\\"n\\": 1}"}}]', ("", "", ONE)),
        ('Sure:\n```json\n{"name": "f", "arguments": {"n": 1}}\n```\nDone.', ("", "Sure:Done.", ONE)),
        ('{"name": "Bob", "age": 3}', ("", '{"name": "Bob", "age": 3}', [])),
        ("[1, 2]", ("", "[1, 2]", [])),
        ("[]", ("", "[]", [])),
        ('```json\n{"a": 1}\n```', ("", '```json\n{"a": 1}\n```', [])),
        ("```python\nprint({})\n```", ("", "```python\nprint({})\n```", [])),
    ],
)
def test_what_models_write(text: str, expected: tuple[str, str, list[tuple[str, Any]]]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('<tool_call>{"name": "f", "arguments": {"n": </tool_call>', "f"),
        ("<tool_call>{'name': 'f'}</tool_call>", ""),
        ("<tool_call>f(n=1)</tool_call>", ""),
        ("<tool_call>[1]</tool_call>", ""),
        ("<|python_tag|>print(1)", ""),
        ('{"name": "f", "arguments": [1]}', "f"),
        ('<tool_call>{"name": "f", "arguments": "city"}</tool_call>', "f"),
        ("<function=f><parameter=s>rm -rf /ho", "f"),
        ("<function=f><parameter=s>rm -rf /ho</function>", "f"),
        ('<function=f>{"n": 1', "f"),
        ("<function=f>{n: 1}</function>", "f"),
        ("<function=f>what?</function>", "f"),
        ("<function=f", "f"),
    ],
)
def test_what_cannot_be_read_is_a_malformed_call(text: str, name: str) -> None:
    (call,) = from_raw_text(text, tools=TOOLS).tool_calls
    assert (call.name, call.arguments) == (name, None)
    assert call.content


def test_only_the_formats_asked_for() -> None:
    text = '<tool_call>{"name": "f", "arguments": {}}</tool_call><function=g>{}</function>'
    assert [call.name for call in from_raw_text(text).tool_calls] == ["f", "g"]
    assert [call.name for call in from_raw_text(text, formats=["function"]).tool_calls] == ["g"]
    assert from_raw_text(text, formats=["json"]) == AssistantMessage(text)
    assert from_raw_text(text, formats=["llama"]).tool_calls == ()


names = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters='"\\<>{}'), min_size=1, max_size=20)
names = names.filter(lambda name: name.strip() == name and name.strip("\"'") == name)
# A text with the end of reasoning in it is read as reasoning: a call inside of it must not run.
words = st.text(max_size=20).filter(lambda text: "think>" not in text)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
calls = st.builds(ToolCall, names, st.dictionaries(words, json_values, max_size=4))


def as_tool_call(call: ToolCall) -> str:
    return "<tool_call>\n" + json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False) + "\n</tool_call>"


def as_llama(call: ToolCall) -> str:
    return json.dumps({"name": call.name, "parameters": call.arguments})


@given(st.lists(calls, min_size=1, max_size=4), st.sampled_from(["tool_call", "llama", "plain", "list", "fenced"]))
@settings(max_examples=EXAMPLES, deadline=None)
def test_calls_come_back_as_they_were_written(said: list[ToolCall], form: str) -> None:
    text = {
        "tool_call": lambda: "\n".join(map(as_tool_call, said)),
        "llama": lambda: "<|python_tag|>" + "; ".join(map(as_llama, said)),
        "plain": lambda: "; ".join(map(as_llama, said)),
        "list": lambda: json.dumps([{"name": call.name, "arguments": call.arguments} for call in said]),
        "fenced": lambda: "So:\n```json\n" + "\n".join(map(as_llama, said)) + "\n```",
    }[form]()
    assert [(call.name, call.arguments) for call in from_raw_text(text).tool_calls] == [(c.name, c.arguments) for c in said]


texts = st.text(alphabet=st.characters(exclude_characters="<>", exclude_categories=["Cs"]), max_size=40)


@given(st.dictionaries(st.text("abc_", min_size=1, max_size=5), texts, max_size=4))
@settings(max_examples=EXAMPLES, deadline=None)
def test_parameters_keep_their_text(arguments: dict[str, str]) -> None:
    body = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    (call,) = from_raw_text(f"<tool_call>\n<function=any>\n{body}</function>\n</tool_call>").tool_calls
    assert call.arguments == arguments


@pytest.mark.parametrize("name", TYPES)
def test_parameters_have_the_type_of_their_schema(name: str) -> None:
    (call,) = from_raw_text(
        f"<function=f><parameter={name}>{json.dumps(TYPES[name])}</parameter></function>", tools=TOOLS
    ).tool_calls
    assert call.arguments == {name: TYPES[name]}


PIECES = ["<tool_call>", "</tool_call>", "<function=f>", "</function>", "<parameter=x>", "</parameter>", "<|python_tag|>"]
PIECES += ["<think>", "</think>", "```json\n", "\n```", '{"name": "f"', ', "arguments": ', "{}", "}", "[", "]", '"', "\\"]
RANGES: list[Callable[[random.Random], int]] = [
    lambda draw: draw.randrange(128),
    lambda draw: draw.randrange(0xD800),
    lambda draw: draw.randrange(0xE000, 0x110000),
]
PIECES += ["<|im_end|>", " ", "\n", ";", "x", "\ud800", "1e999"]


def test_any_text_is_read() -> None:
    # Drawn without Hypothesis, which takes ten times as long for a text as the reader does.
    draw = random.Random(0)
    for _ in range(EXAMPLES * 10):
        pieces = [
            draw.choice(PIECES) if draw.random() < 0.7 else chr(draw.choice(RANGES)(draw)) for _ in range(draw.randrange(20))
        ]
        text, formats = "".join(pieces), draw.sample(list(FORMATS), draw.randrange(len(FORMATS)))
        message = from_raw_text(text, formats=formats, tools=TOOLS)
        assert all(isinstance(block, TextBlock | ToolCall | ReasoningItem) for block in message.blocks), (text, formats)
        assert all(call.arguments is None or isinstance(call.arguments, dict) for call in message.tool_calls), (text, formats)
        assert from_raw_text(text, formats=formats, tools=TOOLS) == message, (text, formats)


def test_a_model_that_repeats_itself_is_stopped() -> None:
    one = '<tool_call>{"name": "f", "arguments": {"n": 1}}</tool_call>'
    message = from_raw_text(one * 1_000)
    assert len(message.tool_calls) == MAX_CALLS
    assert message.text == one * (1_000 - MAX_CALLS)
    assert len(from_raw_text("<|python_tag|>" + '{"name": "f"};' * 1_000).tool_calls) == MAX_CALLS


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>" * 50_000,
        "<function=" * 50_000,
        "<function=f></function>" * 20_000,
        "```json\n" * 60_000,
        "```json\n{}\n```\n" * 20_000,
        "[" * 100_000,
        '{"a":' * 50_000,
        "<tool_call>{" * 30_000,
        "<tool_call>[" * 30_000,
        " " * 500_000 + "x" + "<|im_end|>" * 10_000,
        "<think>" * 50_000,
        '{"name": "f", "arguments": {"s": "' + "x" * 500_000,
        "<parameter=x>" * 50_000,
        "<function=f>" + "<parameter=x></parameter>" * 20_000,
    ],
    ids=range(14),
)
def test_long_and_hostile_texts_are_read_at_once(text: str) -> None:
    begun = time.process_time()
    from_raw_text(text, tools=TOOLS)
    assert time.process_time() - begun < 5.0
