"""Tools and messages in the formats of providers are the official client's, for any schema and any conversation."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreward_gym.compat.api.environments import client as ours
from openreward_gym.compat.api.environments import types as our_types

theirs = importlib.import_module("openreward.api.environments.client")
their_types = importlib.import_module("openreward.api.environments.types")

KEYWORDS = [
    *(
        "title",
        "description",
        "default",
        "additionalProperties",
        "patternProperties",
        "not",
        "$ref",
        "$defs",
        "examples",
        "items",
    ),
    *("properties", "enum", "additional_properties", "example"),
]
TYPES = ["string", "array", "null", "object", ["array", "null"], ["string", "null"]]
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3))


def _nodes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keywords = st.dictionaries(st.sampled_from(KEYWORDS), st.one_of(leaves, inner), max_size=3)
    kinds = st.fixed_dictionaries({}, optional={"type": st.sampled_from(TYPES)})
    choices = st.lists(st.one_of(inner, st.just({"type": "null"})), max_size=3)
    choice = st.dictionaries(st.sampled_from(["anyOf", "oneOf", "allOf"]), choices, max_size=2)
    properties = st.fixed_dictionaries({}, optional={"properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2)})
    return st.tuples(keywords, kinds, choice, properties).map(lambda parts: {k: v for part in parts for k, v in part.items()})


schemas = st.recursive(st.just({"type": "string"}), _nodes, max_leaves=8)


@given(schemas, st.sampled_from(["openai", "openrouter", "anthropic", "google"]))
def test_a_schema_is_sanitized_the_same(schema: Any, provider: Any) -> None:
    assert ours.sanitize_tool_schema(schema, provider) == theirs.sanitize_tool_schema(schema, provider)


@given(st.one_of(st.none(), st.just({}), schemas), st.sampled_from([None, "openai", "anthropic", "google"]))
def test_tools_are_converted_the_same(schema: Any, format: Any) -> None:
    answer = {
        "tools": [
            {"name": "go", "description": "Go.", "input_schema": schema},
            {"name": "n", "description": "", "input_schema": None},
        ]
    }
    wanted, converted = theirs.convert_tool_response(answer, format), ours.convert_tool_response(answer, format)
    if format is None:
        wanted, converted = [[dataclasses.asdict(tool) for tool in tools] for tools in (wanted, converted)]
    assert converted == wanted


def test_the_parameters_for_openrouter_stand_where_its_api_reads_them_and_where_the_sdk_writes_them() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    answer = {"tools": [{"name": "go", "description": "Go.", "input_schema": schema}]}
    (wanted,) = theirs.convert_tool_response(answer, "openrouter")
    (tool,) = ours.convert_tool_response(answer, "openrouter")
    assert tool["function"].pop("parameters") == schema
    assert tool == wanted


def block(types: Any, kind: str, number: int) -> Any:
    made = {
        "text": lambda: types.TextBlock(f"text {number}"),
        "image": lambda: types.ImageBlock("AAAA", "image/png"),
        "reasoning": lambda: types.ReasoningBlock("hm", signature="s" if number % 2 else None),
        "tool_call": lambda: types.ToolCallBlock(f"c{number}", "go", {"n": number}),
        "tool_result": lambda: types.ToolResultBlock(
            f"c{number}", [types.TextBlock("a"), types.TextBlock("b")], is_error=number == 1
        ),
        "image_result": lambda: types.ToolResultBlock(f"c{number}", [types.ImageBlock("AAAA", "image/png")]),
    }
    return made[kind]()


KINDS = ["text", "image", "reasoning", "tool_call", "tool_result", "image_result"]
LIKELY = {"system": ["text"], "user": ["text", "image", "tool_result"], "assistant": ["text", "reasoning", "tool_call"]}


@st.composite
def turns(draw: Any) -> list[tuple[str, list[tuple[str, int]]]]:
    found = []
    for _ in range(draw(st.integers(0, 4))):
        role = draw(st.sampled_from(["system", "user", "assistant"]))
        kinds = st.sampled_from(draw(st.sampled_from([LIKELY[role]] * 6 + [KINDS])))
        found.append((role, draw(st.lists(st.tuples(kinds, st.integers(0, 2)), max_size=3))))
    return found


@given(turns(), st.sampled_from(["openai", "openrouter", "anthropic", "google"]))
def test_a_conversation_is_converted_the_same(conversation: Any, format: Any) -> None:
    results = []
    for client, types in ((theirs, their_types), (ours, our_types)):
        messages = [types.Message(role, [block(types, kind, n) for kind, n in blocks]) for role, blocks in conversation]
        try:
            results.append(client.convert_messages(messages, format))
        except ValueError:
            results.append("ValueError")
    assert results[0] == results[1]


def test_an_unknown_format_names_those_that_there_are() -> None:
    for convert in (lambda: ours.convert_messages([], "gemini"), lambda: ours.convert_tool_response({"tools": []}, "gemini")):  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="openai, anthropic, google, openrouter"):
            convert()  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match="openai, anthropic, google, openrouter"):
        ours.sanitize_tool_schema({"type": "object"}, "gemini")  # type: ignore[arg-type]


def test_a_choice_that_is_no_list_is_dropped_rather_than_raised() -> None:
    assert ours.sanitize_tool_schema({"type": "object", "oneOf": {"a": 1}}, "openai") == {"type": "object"}
