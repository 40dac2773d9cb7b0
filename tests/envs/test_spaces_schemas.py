"""Samples of `ToolCallSpace` are valid under any JSON Schema of a tool."""

from __future__ import annotations

import datetime
import enum
import ipaddress
import json
import os
import re
import time
import uuid
from typing import Annotated, Any, Literal

import jsonschema
import numpy as np
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from openreward_gym.envs.spaces import ToolCallSpace
from openreward_gym.types import Json, ToolSpec

EXAMPLES = 3_000 if os.environ.get("OPENREWARD_GYM_LONG") else 150
SETTINGS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def space_of(schema: Any, seed: int = 0) -> ToolCallSpace:
    return ToolCallSpace([ToolSpec("tool", "", schema)], seed=seed)


def samples_of(schema: Any, n: int = 40, seed: int = 0) -> list[dict[str, Json]]:
    space = space_of(schema, seed)
    return [space.sample()["arguments"] for _ in range(n)]


def field_samples(schema: Any, n: int = 60) -> list[Json]:
    """Samples of `schema` as a required argument, each checked."""
    whole = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    return [arguments["x"] for arguments in checked(whole, n)]


def checked(schema: Any, n: int = 40) -> list[dict[str, Json]]:
    space = space_of(schema)
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    validator.check_schema(schema)
    calls = [space.sample() for _ in range(n)]
    for call in calls:
        validator(schema).validate(call["arguments"])
        assert space.validate(call) == []
        assert space.contains(call)
    return [call["arguments"] for call in calls]


# ---- random schemas, each of which some value satisfies ----

names = st.sampled_from(["a", "b", "c", "path", "n", "key with space", "é", "$ref", "type", "nullable"])
scalars = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(-5, 5), st.text(max_size=4))
PATTERNS = [
    r"^[a-z]+$",
    r"^\d{3}-\d{4}$",
    r"^(foo|bar)+$",
    r"^[^\s,]{2,8}$",
    r"x\w*y",
    r"^[A-Z][a-z]{0,10}( [A-Z][a-z]*)?$",
    r"^(?P<q>['\"]).*(?P=q)$",
    r"^\S+@\S+\.\w{2,3}$",
    r"^$|^a{5}$",
    r"^(?=.*[0-9])[a-z0-9]+$",
]

UNIQUE = [{"type": "integer"}, {"type": "string"}, {"enum": [0, 1, 2, True, "1", [1], None]}]
CONDITION = {"if": {"type": "object", "required": ["flag"]}, "then": {"required": ["x"]}}


@st.composite
def strings(draw: st.DrawFn) -> dict[str, Json]:
    schema: dict[str, Json] = {"type": "string"}
    if draw(st.booleans()):
        return {**schema, "pattern": draw(st.sampled_from(PATTERNS))}
    if draw(st.booleans()):
        return {**schema, "format": draw(st.sampled_from(["date", "uuid", "email", "uri", "never heard of"]))}
    if draw(st.booleans()):
        schema["minLength"] = draw(st.integers(0, 40))
    if draw(st.booleans()):
        schema["maxLength"] = schema.get("minLength", 0) + draw(st.integers(0, 10))
    return schema


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Json]:
    kind = draw(st.sampled_from(["integer", "number"]))
    schema: dict[str, Json] = {"type": kind}
    low = draw(st.integers(-1000, 1000)) if kind == "integer" else draw(st.floats(-1e6, 1e6))
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = low + draw(st.integers(20, 100))
    if draw(st.booleans()):
        schema["multipleOf"] = draw(st.sampled_from([1, 2, 3, 7, 0.5, 0.25, 0.1, 0.01, 10]))
    return schema


def arrays(items: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Json]]:
    @st.composite
    def build(draw: st.DrawFn) -> dict[str, Json]:
        schema: dict[str, Json] = {"type": "array"}
        if draw(st.booleans()):
            schema["items"] = draw(items)
        if draw(st.booleans()):
            schema["prefixItems"] = draw(st.lists(items, min_size=1, max_size=3))
        if draw(st.booleans()):
            schema["minItems"] = draw(st.integers(0, 4))
        if draw(st.booleans()):
            schema["maxItems"] = schema.get("minItems", 0) + draw(st.integers(0, 3))
        if draw(st.booleans()) and schema.keys().isdisjoint({"items", "prefixItems"}):
            schema["uniqueItems"] = True
            schema["items"] = draw(st.sampled_from(UNIQUE))
        return schema

    return build()


def objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Json]]:
    @st.composite
    def build(draw: st.DrawFn) -> dict[str, Json]:
        properties = draw(st.dictionaries(names, values, max_size=4))
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        if draw(st.booleans()) and properties:
            schema["required"] = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
            if draw(st.booleans()):
                schema["dependentRequired"] = {
                    draw(st.sampled_from(sorted(properties))): draw(st.permutations(sorted(properties)))[:1]
                }
        if draw(st.booleans()):
            schema["additionalProperties"] = draw(st.one_of(st.booleans(), values))
        if schema.get("additionalProperties") is not False and draw(st.booleans()):
            schema["minProperties"] = draw(st.integers(0, 6))
        if draw(st.booleans()):
            schema["maxProperties"] = len(properties) + 6
        return schema

    return build()


def combinations(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Json]]:
    typed = {
        "string": strings(),
        "integer": st.just({"type": "integer"}),
        "null": st.just({"type": "null"}),
        "array": arrays(st.just({"type": "boolean"})),
    }
    one_of = st.lists(st.sampled_from(sorted(typed)), min_size=1, unique=True).flatmap(
        lambda kinds: st.tuples(*(typed[kind] for kind in kinds)).map(lambda branches: {"oneOf": list(branches)})
    )
    either = st.tuples(parts, parts)
    return st.one_of(
        st.lists(parts, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
        one_of,
        either.map(
            lambda pair: {
                "allOf": [
                    {"type": "object", "properties": {"left": pair[0]}, "required": ["left"]},
                    {"properties": {"right": pair[1], "left": True}, "required": ["right"]},
                ]
            }
        ),
        either.map(
            lambda pair: {"if": {"type": "object", "required": ["flag"]}, "then": {"required": ["x"]}, "anyOf": list(pair)}
        ),
        parts.map(lambda part: {"allOf": [part], "description": "one", "title": "One"}),
        parts.map(lambda part: {"anyOf": [part, {"type": "null"}], "default": None}),
        st.sampled_from(["tree", "chain", "leaf"]).map(lambda name: {"$ref": f"#/$defs/{name}"}),
    )


leaves = st.one_of(
    strings(),
    numbers(),
    st.sampled_from([{}, True, {"type": "boolean"}, {"type": "null"}, {"type": ["integer", "null"], "minimum": 3}]),
    st.lists(scalars, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    scalars.map(lambda value: {"const": value}),
    st.tuples(strings(), scalars).map(lambda pair: {**pair[0], "default": pair[1], "examples": [1, "abc"]}),
)
schemas = st.recursive(leaves, lambda inner: st.one_of(arrays(inner), objects(inner), combinations(inner)), max_leaves=6)

DEFINITIONS = {
    "leaf": {"type": "integer", "minimum": 0},
    "tree": {
        "type": "object",
        "properties": {"value": {"$ref": "#/$defs/leaf"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
        "required": ["value", "children"],
        "additionalProperties": False,
    },
    "chain": {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/chain"}, {"type": "null"}]}, "value": {"$ref": "#/$defs/leaf"}},
        "required": ["next"],
    },
}


@SETTINGS
@given(objects(schemas), st.integers(0, 2**32 - 1))
def test_samples_of_random_schemas_are_valid(schema: dict[str, Json], seed: int) -> None:
    schema = {**schema, "$defs": DEFINITIONS}
    space = space_of(schema, seed)
    validator = jsonschema.Draft202012Validator(schema)
    for _ in range(4):
        call = space.sample()
        validator.validate(call["arguments"])
        assert space.validate(call) == []


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
KEYWORDS = re.findall(
    r"\S+",
    "type enum const minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern "
    "format items prefixItems additionalItems minItems maxItems uniqueItems contains minContains properties "
    "required additionalProperties patternProperties propertyNames minProperties maxProperties dependentRequired "
    "dependentSchemas allOf anyOf oneOf not if then else $ref $defs default examples nullable unevaluatedProperties ",
)
ODD = ["object", "array", "string", "#", "#/$defs/x", "(", "http://127.0.0.1:9/x", -1, 1e308]
nonsense = st.recursive(
    st.one_of(json_values, st.sampled_from(ODD)),
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4),
        st.lists(inner, max_size=3),
        st.dictionaries(names, inner, max_size=3),
    ),
    max_leaves=12,
)


@SETTINGS
@given(st.dictionaries(st.sampled_from(KEYWORDS), nonsense, max_size=6), json_values)
def test_nothing_a_server_sends_as_a_schema_breaks_the_space(schema: dict[str, Json], value: Json) -> None:
    space = space_of(schema)
    started = time.process_time()
    call = space.sample()
    assert time.process_time() - started < 10
    assert isinstance(call["arguments"], dict)
    assert space.contains(call)
    for errors in (space.validate(call), space.validate({"name": "tool", "arguments": value})):
        assert all(isinstance(error, str) and len(error) < 500 for error in errors)


@SETTINGS
@given(schemas, schemas)
def test_merged_schemas_are_met_or_given_up(a: Json, b: Json) -> None:
    # Under `allOf` two schemas may contradict each other; where a value of both is found, it is one.
    schema = {"type": "object", "properties": {"x": {"allOf": [a, b]}}, "$defs": DEFINITIONS}
    for arguments in samples_of(schema, 4):
        jsonschema.Draft202012Validator(schema).validate(arguments)


# ---- keyword by keyword: what is covered, and that it is covered widely ----


def kinds(values: list[Json]) -> set[str]:
    return {type(value).__name__ for value in values}


def test_types() -> None:
    assert kinds(field_samples({"type": ["integer", "string", "null", "boolean"]})) == {"int", "str", "NoneType", "bool"}
    assert kinds(field_samples({"type": "object"})) == {"dict"}
    assert kinds(field_samples({"type": "array"})) == {"list"}
    assert kinds(field_samples({"minLength": 2})) == {"str"}
    assert kinds(field_samples({"minimum": 2})) <= {"int", "float"}
    assert len(kinds(field_samples({}))) > 1
    assert len(kinds(field_samples(True))) > 1


def test_enumerations() -> None:
    assert set(field_samples({"enum": ["a", 1, None]})) == {"a", 1, None}
    assert set(field_samples({"type": "string", "enum": ["a", 1, None]})) == {"a"}
    assert set(field_samples({"const": 7})) == {7}
    assert set(field_samples({"allOf": [{"enum": ["a", "b", "c"]}, {"enum": ["b", "c", "d"]}, {"not": {"const": "b"}}]})) == {"c"}
    # 1 and true are different values of JSON, and the same one of Python.
    assert kinds(field_samples({"allOf": [{"enum": [True, 2]}, {"enum": [1, 2]}]})) == {"int"}


def test_numeric_bounds() -> None:
    assert set(field_samples({"type": "integer", "minimum": 3, "maximum": 5})) == {3, 4, 5}
    assert set(field_samples({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5})) == {4}
    assert set(field_samples({"type": "integer", "minimum": 0.5, "maximum": 1.5})) == {1}
    assert set(field_samples({"type": "integer", "multipleOf": 7, "minimum": -7, "maximum": 7})) == {-7, 0, 7}
    assert set(field_samples({"type": "integer", "multipleOf": 1.5, "minimum": 1, "maximum": 7})) == {3, 6}
    assert all(0 < value < 1e-9 for value in field_samples({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e-9}))
    assert all(value >= 10**30 for value in field_samples({"type": "integer", "minimum": 10**30}))
    assert all(value >= 10**400 for value in field_samples({"type": "number", "minimum": 10**400}, 5))
    field_samples({"type": "number", "minimum": -1.7e308, "maximum": 1.7e308})
    field_samples({"type": "number", "multipleOf": 0.1, "minimum": 5})
    field_samples({"allOf": [{"type": "integer", "multipleOf": 4}, {"type": "number", "multipleOf": 6, "minimum": 1}]})
    draft4 = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "object",
        "properties": {"x": {"type": "integer", "minimum": 1, "exclusiveMinimum": True, "maximum": 2}},
        "required": ["x"],
    }
    assert [arguments["x"] for arguments in checked(draft4, 3)] == [2, 2, 2]


def test_lengths() -> None:
    assert {len(text) for text in field_samples({"type": "string", "minLength": 2, "maxLength": 4})} == {2, 3, 4}
    assert set(field_samples({"type": "string", "maxLength": 0})) == {""}
    assert all(len(text) == 5_000 for text in field_samples({"type": "string", "minLength": 5_000, "maxLength": 5_000}, 3))
    assert {len(items) for items in field_samples({"type": "array", "minItems": 2, "maxItems": 3})} == {2, 3}
    assert all(len(value) >= 3 for value in field_samples({"type": "object", "minProperties": 3}))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern: str) -> None:
    assert all(re.search(pattern, text) for text in field_samples({"type": "string", "pattern": pattern}))


def test_patterns_with_lengths() -> None:
    assert all(len(text) >= 30 for text in field_samples({"type": "string", "pattern": "^[a-z]+$", "minLength": 30}))
    assert all(len(text) >= 30 for text in field_samples({"type": "string", "pattern": "^ab", "minLength": 30}))
    field_samples({"type": "string", "pattern": "^(a|bb)*$", "minLength": 3, "maxLength": 6})


@pytest.mark.parametrize(
    ("form", "read"),
    [
        ("date", datetime.date.fromisoformat),
        ("date-time", datetime.datetime.fromisoformat),
        ("time", datetime.time.fromisoformat),
        ("uuid", uuid.UUID),
        ("ipv4", ipaddress.IPv4Address),
        ("ipv6", ipaddress.IPv6Address),
        ("uri", pydantic.TypeAdapter(pydantic.AnyUrl).validate_python),
        ("duration", pydantic.TypeAdapter(datetime.timedelta).validate_python),
        ("regex", re.compile),
        ("email", re.compile(r"[^@\s]+@[^@\s]+\.\w+").fullmatch),
        ("hostname", re.compile(r"[a-z]+\.[a-z]+").fullmatch),
        ("json-pointer", re.compile(r"/.*").fullmatch),
    ],
)
def test_formats(form: str, read: Any) -> None:
    assert all(read(text) is not None for text in field_samples({"type": "string", "format": form}))


def test_arrays() -> None:
    pair = {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False, "minItems": 2}
    assert all([type(item) for item in value] == [int, str] for value in field_samples(pair))
    unique = {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 3}
    assert {tuple(sorted(value)) for value in field_samples(unique)} == {("a", "b", "c")}
    flags = {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 2}
    assert all(sorted(value) == [False, True] for value in field_samples(flags))
    contains = {"type": "array", "items": {"type": "integer"}, "contains": {"minimum": 1000}, "minContains": 2, "maxContains": 3}
    field_samples(contains)
    draft7 = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"x": {"items": [{"type": "integer"}], "additionalItems": {"type": "null"}, "minItems": 3}},
        "required": ["x"],
    }
    assert checked(draft7)[0]["x"][1:3] == [None, None]


def test_objects() -> None:
    optional = samples_of({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "required": ["b"]})
    assert {tuple(value) for value in optional} == {("a", "b"), ("b",)}
    assert all("made up" in value for value in checked({"type": "object", "required": ["made up"]}))
    table = {"type": "object", "additionalProperties": {"type": "integer"}}
    assert {len(value) for value in checked(table)} == {0, 1, 2}
    checked({"type": "object", "patternProperties": {"^x-[a-z]{3}$": {"type": "integer"}}, "additionalProperties": False})
    checked({"type": "object", "propertyNames": {"pattern": "^[A-Z]{3}$"}, "minProperties": 2})
    needs = {"type": "object", "properties": {"a": True, "b": True, "c": True}, "dependentRequired": {"a": ["b"], "b": ["c"]}}
    assert any("a" in value for value in checked(needs))
    checked(
        {
            "type": "object",
            "properties": {"kind": {"enum": ["a", "b"]}},
            "dependentSchemas": {"kind": {"required": ["x"], "properties": {"x": {"type": "integer"}}}},
        }
    )
    closed = {
        "allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "null"}}}],
        "unevaluatedProperties": False,
    }
    assert {name for value in checked(closed) for name in value} == {"a", "b"}


def test_combinations() -> None:
    assert kinds(field_samples({"anyOf": [{"type": "integer"}, {"type": "string"}]})) == {"int", "str"}
    overlapping = {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "integer", "maximum": 10}]}
    assert all(not 0 <= value <= 10 for value in field_samples(overlapping))
    assert all("a" in value and "b" in value for value in checked({"allOf": [{"required": ["a"]}, {"required": ["b"]}]}))
    conditional = {
        "type": "object",
        "properties": {"kind": {"enum": ["circle", "square"]}},
        "required": ["kind"],
        "if": {"properties": {"kind": {"const": "circle"}}},
        "then": {"properties": {"radius": {"type": "number"}}, "required": ["radius"]},
        "else": {"properties": {"side": {"type": "number"}}, "required": ["side"]},
    }
    assert {tuple(value) for value in checked(conditional)} == {("kind", "radius"), ("kind", "side")}
    assert {
        value["x"] for value in checked({"anyOf": [{"type": "string"}, {"properties": {"x": {"const": 1}}, "required": ["x"]}]})
    } == {1}


def one_reference(reference: str, definitions: dict[str, Json], **beside: Json) -> dict[str, Json]:
    x = {"$ref": reference, **beside}
    return {"type": "object", "properties": {"x": x}, "required": ["x"], "$defs": definitions}


def test_references() -> None:
    checked(one_reference("#/$defs/tree", DEFINITIONS))
    checked(one_reference("#/$defs/chain", DEFINITIONS))
    assert checked(one_reference("#/$defs/a~1b%25", {"a/b%": {"type": "null"}}))[0] == {"x": None}
    assert checked(one_reference("#leaf", {"l": {"$anchor": "leaf", "type": "null"}}))[0] == {"x": None}
    assert all(value["x"] >= 5 for value in checked(one_reference("#/$defs/l", {"l": {"type": "integer"}}, minimum=5)))
    checked({"$ref": "#/definitions/A", "definitions": {"A": {"type": "object", "required": ["x"]}}})
    checked({"type": "object", "properties": {"more": {"$ref": "#"}}})


def test_a_schema_that_contains_itself_without_end_still_gives_a_call() -> None:
    endless = {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]}
    assert samples_of(endless, 2) == [{}, {}]
    circular = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    assert samples_of(circular, 2) == [{}, {}]


LINKED = {"$ref": "#"}
PROPERTIES_OF_ITSELF = {
    "type": "object",
    "patternProperties": {"^(x|y)$": LINKED},
    "minProperties": 2,
    "additionalProperties": False,
}
COSTLY: dict[str, Any] = {
    "names of itself": PROPERTIES_OF_ITSELF,
    "additional properties of itself": {"type": "object", "additionalProperties": LINKED, "minProperties": 2},
    "a pattern beyond its length": {
        "type": "object",
        "properties": {"x": {"type": "string", "pattern": "[0-9]{700}", "maxLength": 9}},
    },
    "a number as its draft": {
        "$schema": 7,
        "type": "object",
        "properties": {"x": {"not": {"type": "string"}}},
        "required": ["x"],
    },
    "thousands of numbers": {"type": "object", "properties": {"x": {"enum": list(range(30_000))}}, "required": ["x"]},
    "thousands of objects": {
        "type": "object",
        "properties": {"x": {"enum": [{"n": n} for n in range(9_000)]}},
        "required": ["x"],
    },
}


@pytest.mark.parametrize("name", list(COSTLY))
def test_an_odd_schema_gives_equal_samples_for_equal_seeds(name: str) -> None:
    """Sampling each of these once took minutes, or did not end."""
    assert samples_of(COSTLY[name], n=2, seed=3) == samples_of(COSTLY[name], n=2, seed=3)
    space_of(COSTLY[name]).validate({"name": "tool", "arguments": {"x": 1}})


def test_a_required_recursion_ends_at_the_branch_that_ends() -> None:
    expression = {
        "type": "object",
        "properties": {"e": {"$ref": "#/$defs/e"}},
        "required": ["e"],
        "$defs": {
            "e": {"anyOf": [{"$ref": "#/$defs/sum"}, {"$ref": "#/$defs/product"}, {"type": "number"}]},
            "sum": {
                "type": "object",
                "properties": {"l": {"$ref": "#/$defs/e"}, "r": {"$ref": "#/$defs/e"}},
                "required": ["l", "r"],
            },
            "product": {"type": "array", "items": {"$ref": "#/$defs/e"}, "minItems": 3},
        },
    }
    assert len({repr(value) for value in checked(expression, 100)}) > 50


def test_defaults_and_examples_are_used_where_they_are_valid() -> None:
    values = field_samples({"type": "string", "default": "d", "examples": ["e", 5]}, 200)
    assert {"d", "e"} < set(values)
    assert None not in field_samples({"type": "string", "default": None})


def test_nullable_is_accepted_and_not_sampled() -> None:
    # OpenAPI's word: JSON Schema does not know it, so null is no valid sample, though a server may take it.
    schema = {"type": "object", "properties": {"x": {"type": "string", "nullable": True}}, "required": ["x"]}
    checked(schema)
    assert space_of(schema).validate({"name": "tool", "arguments": {"x": None}}) == []
    assert space_of(schema).validate({"name": "tool", "arguments": {"x": 1}}) != []


# ---- what pydantic writes, as the servers' tools do ----


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Point(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: float = Field(ge=0, lt=10)
    y: Annotated[float, Field(gt=0, multiple_of=0.5)] = 1.0


class Circle(BaseModel):
    kind: Literal["circle"]
    centre: Point


class Polygon(BaseModel):
    kind: Literal["polygon"]
    points: list[Point] = Field(min_length=3, max_length=5)


class Node(BaseModel):
    label: Annotated[str, Field(min_length=1, pattern=r"^[A-Z]\w*$")]
    children: list[Node] = []
    parent: Node | None = None


class Everything(BaseModel):
    text: str
    maybe: str | None = None
    count: int = Field(5, ge=1, le=10)
    ratio: float = Field(gt=0, lt=1)
    flag: bool = False
    colour: Colour = Colour.RED
    mode: Literal["r", "w", 3, True]
    many: set[int] = set()
    fixed: tuple[int, str, Point]
    table: dict[str, list[int]] = {}
    keyed: dict[Annotated[str, Field(pattern="^[a-z]{2}$")], int]
    mixed: int | str | list[Point] | None
    shape: Annotated[Circle | Polygon, Field(discriminator="kind")]
    when: datetime.datetime
    day: datetime.date
    long: datetime.timedelta
    identity: uuid.UUID
    address: ipaddress.IPv4Address
    blob: bytes
    anything: Any
    short: Annotated[str, Field(max_length=3)]
    tree: Node


class Empty(BaseModel):
    pass


class Root(pydantic.RootModel[Circle | Polygon]):
    pass


MODELS: list[type[BaseModel]] = [Point, Circle, Polygon, Node, Everything, Empty, Root]


@pytest.mark.parametrize("model", MODELS)
def test_pydantic_models_take_the_samples(model: type[BaseModel]) -> None:
    for arguments in checked(model.model_json_schema(), 60):
        model.model_validate(arguments)


def test_samples_are_json() -> None:
    for arguments in samples_of(Everything.model_json_schema()):
        assert json.loads(json.dumps(arguments, allow_nan=False)) == arguments


# ---- determinism ----


def test_the_same_seed_gives_the_same_samples() -> None:
    schema = Everything.model_json_schema()
    assert samples_of(schema, 20, seed=5) == samples_of(schema, 20, seed=5)
    assert samples_of(schema, 20, seed=5) != samples_of(schema, 20, seed=6)


def test_arguments_can_be_masked() -> None:
    schema = {
        "type": "object",
        "properties": {
            "unit": {"enum": ["c", "f", "k"]},
            "deep": {"anyOf": [{"$ref": "#/$defs/flag"}, {"type": "null"}]},
            "free": {"type": "string"},
        },
        "$defs": {"flag": {"type": "boolean"}},
    }
    space = space_of(schema)
    only = np.array([0, 0, 1], np.int8)
    masked = [space.sample(mask={"arguments": {"tool": {"unit": only, "deep": only}}})["arguments"] for _ in range(10)]
    assert all(arguments["unit"] == "k" and arguments["deep"] is None for arguments in masked)
    even = np.array([0.5, 0.5, 0.0])
    drawn = {space.sample(probability={"arguments": {"tool": {"unit": even}}})["arguments"]["unit"] for _ in range(40)}
    assert drawn == {"c", "f"}
    with pytest.raises(ValueError, match="no enumerated values"):
        space.sample(mask={"arguments": {"tool": {"free": only}}})
    with pytest.raises(ValueError, match="allows none"):
        space.sample(mask={"arguments": {"tool": {"unit": np.zeros(3, np.int8)}}})


# ---- schemas that take too much ----

DOUBLING: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
EITHER: dict[str, Any] = {
    f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{m}"} for m in range(12)], "not": {"$ref": "#/$defs/d0"}} for n in range(12)
}
MALFORMED: dict[str, Any] = {
    "a doubling definition": {**one_reference("#/$defs/d0", {**DOUBLING, "d40": {"type": "integer"}})},
    "definitions that refer to each other": one_reference("#/$defs/d0", EITHER),
    "many required recursions": one_reference("#/$defs/a", {"a": {"required": ["a"] * 3, "additionalProperties": LINKED}}),
    "a giant count": {"type": "object", "minProperties": 10**400, "propertyNames": {"enum": ["a", "b"]}},
    "infinite counts": {"type": "object", "properties": {"x": {"type": "array", "minItems": float("inf"), "items": {}}}},
    "numbers of many digits": one_reference("#/$defs/n", {"n": {"minimum": 10**5000, "multipleOf": 10**4999}}),
    "nested repetitions": one_reference("#/$defs/s", {"s": {"type": "string", "pattern": "((a{999}){999}){999}"}}),
    "one item ten times": one_reference("#/$defs/u", {"u": {"uniqueItems": True, "minItems": 10, "items": {"const": 1}}}),
    "names for which no pattern ends": {
        "type": "object",
        "patternProperties": {"(a*)*b": True},
        "unevaluatedProperties": False,
        "minProperties": 2,
    },
    "no keyword has its type": dict.fromkeys(KEYWORDS, 3),
    "every keyword is a list": {key: ["a"] for key in KEYWORDS},
    "every keyword is an object": {key: {"$schema": {}} for key in KEYWORDS},
    "an address elsewhere": one_reference("http://127.0.0.1:9/schema.json#/x", {}),
    "an address that is none": {
        "$id": "http://[",
        "$schema": "//[",
        "properties": {"x": {"$ref": "http://["}},
        "required": ["x"],
    },
}


@pytest.mark.parametrize("name", list(MALFORMED))
def test_a_sample_of_any_schema_ends(name: str) -> None:
    space = space_of(MALFORMED[name])
    assert isinstance(space.sample()["arguments"], dict)
    assert samples_of(MALFORMED[name], 1, seed=2) == samples_of(MALFORMED[name], 1, seed=2)
    values: list[Any] = [{"x": 1}, {"a" * 400: [1]}, {"x": {"a": [{}] * 50}}]
    for arguments in values:
        space.validate({"name": "tool", "arguments": arguments})


def test_an_argument_that_has_a_value_is_in_the_fallback() -> None:
    never = {"type": "string", "pattern": "^a{9}$", "maxLength": 3}
    schema = {"type": "object", "properties": {"x": never, "y": {"const": 7}}, "required": ["x", "y"]}
    assert samples_of(schema, 2) == [{"y": 7}, {"y": 7}]


def test_values_that_are_no_json_are_refused_with_a_reason() -> None:
    space = ToolCallSpace([ToolSpec("tool", "", {"type": "object", "properties": {"x": {"type": "string"}}})], strict=True)
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    for value in (circle, deep, 10**5000, float("nan"), {"a": 10**5000}):
        call = {"name": "tool", "arguments": {"x": value}}
        assert call not in space
        assert all(len(error) < 500 for error in space.validate(call))
    assert {"name": "tool", "arguments": {"x": "\ud800"}} in space


def test_one_malformed_keyword_does_not_hide_the_others() -> None:
    x = {"type": "integer", "minimum": "3", "multipleOf": 0, "$ref": "#/nowhere", "maximum": 5}
    space = space_of({"$schema": 3, "type": "object", "properties": {"x": x}})
    assert space.validate({"name": "tool", "arguments": {"x": 9}}) == ["arguments.x: 9 is greater than the maximum of 5"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("form", ["enum", "anyOf", "oneOf", "mixed", "unique"])
def test_as_many_values_as_a_server_likes(form: str) -> None:
    names = [f"name {n}" for n in range(50_000)]
    x = {
        "enum": {"type": "string", "enum": names},
        "anyOf": {"anyOf": [{"const": name} for name in names]},
        "oneOf": {"oneOf": [{"const": name} for name in names]},
        "mixed": {"type": "string", "enum": [*range(50_000), "name 7"]},
        "unique": {"type": "array", "uniqueItems": True, "minItems": 20, "items": {"enum": names}},
    }[form]
    space = ToolCallSpace(
        [ToolSpec("tool", "", {"type": "object", "properties": {"x": x}, "required": ["x"]})], seed=1, strict=True
    )
    for _ in range(20):
        call = space.sample()
        assert call in space
        values = call["arguments"]["x"] if form == "unique" else [call["arguments"]["x"]]
        assert all(value.startswith("name ") for value in values)
    assert {"name": "tool", "arguments": {"x": "another"}} not in space


def test_required_names_that_are_no_texts_are_passed_over_where_schemas_are_merged() -> None:
    part = {"type": "object", "required": [{"a": 1}, "a", ["a"]], "properties": {"a": {"const": 2}}}
    schema = {"type": "object", "properties": {"x": {"allOf": [part, {"required": ["a", None]}]}}, "required": ["x"]}
    sample = ToolCallSpace([ToolSpec("go", "", schema)], seed=0).sample()
    assert sample["arguments"]["x"] == {"a": 2}
