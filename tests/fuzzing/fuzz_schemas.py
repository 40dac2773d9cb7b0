"""Random JSON Schemas of tools, valid and not: spaces are made, sampled and compared without an exception."""

from __future__ import annotations

import pickle
from random import Random
from typing import Any

import numpy as np
from hostile import NUMBERS, Fuzzer, value

from openreward_gym.envs.spaces import ToolCallSpace
from openreward_gym.policies.functions import object_schema
from openreward_gym.types import ToolSpec

NAMES = ["a", "b", "x", "$ref", "type", "enum", "id", "pattern", "properties", "é", "", "\ud800", "__proto__", "a" * 40]
PATTERNS = [
    r"^[a-z]+$",
    r"^(a+)+$",
    r"(x*)*y",
    r"^\p{L}+$",
    r"\p{Script=Greek}",
    r"(",
    r"[a",
    r"^(?<n>a)\k<n>$",
    r"a{1000}",
    r"((a{99}){99}){99}",
    r"^(?=.*\d)[a-z\d]{3,5}$",
    r"[^]",
    r"[]",
    r"\cA",
    r"\u{1F600}",
    "\ud800",
    r"(a|b|ab)*c",
    r"^\S+@\S+$",
    "\\",
    "(?i)a",
    "a++",
    "^$",
    r"(?:(?:a?){50}){50}",
    r"[[a--b]&&c]",
    r"(?!)",
    r"\b\B",
    r"^.{5}$",
    r"(?P<a>x)(?(a)y|z)",
    r"[z-a]",
    r"[\w-\d]",
    r"\p{Foo}",
    r"[\p{Lu}-z]",
    r"(?i:(a|A)+)+$",
    r"^a{0,4294967294}$",
    r"\N{DIGIT ONE}",
    r"(a)\2",
]
REFERENCES = [
    "#",
    "#/$defs/a",
    "#/$defs/b",
    "#/properties/a",
    "#a",
    "#/nope",
    "http://127.0.0.1:9/x",
    "//[bad",
    "x.json#/y",
    "",
    "#/$defs/a/%25~1~0",
    "#/allOf/0",
    "#/allOf/99999999999999999999",
    "#/allOf/²",
    "file:///etc/passwd",
    "#/enum/0",
]
DIALECTS: list[Any] = [
    3,
    None,
    [],
    {},
    "",
    "http://[bad",
    "http://x/y",
    "http://json-schema.org/draft-03/schema#",
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
]
FORMATS: list[Any] = [
    "date",
    "uuid",
    "email",
    "uri",
    "regex",
    "ipv6",
    "time",
    "hostname",
    "duration",
    "json-pointer",
    "nope",
    "idn-hostname",
    "uri-template",
    "color",
    "date-time",
    3,
]
TYPES: list[Any] = ["object", "array", "string", "number", "integer", "boolean", "null", "any", "", 3, None]
ONE = "items additionalItems contains additionalProperties propertyNames not if then else unevaluatedProperties unevaluatedItems"
MANY = "allOf anyOf oneOf prefixItems items"
BY_NAME = "properties patternProperties $defs definitions dependentSchemas dependencies"
BOUNDS = (
    "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength minItems maxItems minContains maxContains "
    "minProperties maxProperties"
)
OTHERS = (
    "type enum const pattern format uniqueItems required dependentRequired $ref $dynamicRef $recursiveRef $anchor "
    "$dynamicAnchor $id id $schema default examples nullable discriminator extends disallow divisibleBy"
)
KEYWORDS = f"{ONE} {MANY} {BY_NAME} {BOUNDS} {OTHERS}".split()
CHOICES: dict[str, list[Any]] = {
    "pattern": PATTERNS,
    "format": FORMATS,
    "$ref": REFERENCES,
    "$dynamicRef": REFERENCES,
    "$recursiveRef": REFERENCES,
    "$schema": DIALECTS,
    "$id": [*REFERENCES, *DIALECTS],
    "id": [*REFERENCES, *DIALECTS],
    "$anchor": ["a", "b", 3],
    "$dynamicAnchor": ["a", "b", 3],
    "uniqueItems": [True, False, 1],
}


def schema(random: Random, depth: int = 0) -> Any:
    """Return a random schema."""
    if depth > 4 or random.random() < 0.1:
        leaves = [True, False, {}, {"type": "string"}, {"type": "integer"}, {"$ref": random.choice(REFERENCES)}, value(random)]
        return random.choice(leaves)
    made: dict[str, Any] = {}
    if random.random() < 0.6:
        single = random.random() < 0.8
        made["type"] = random.choice(TYPES) if single else [random.choice(TYPES) for _ in range(random.randrange(4))]
    for _ in range(random.randrange(1, 6)):
        key = random.choice(KEYWORDS)
        made[key] = value(random) if random.random() < 0.08 else _of(random, key, depth + 1)
    return made


def _of(random: Random, key: str, depth: int) -> Any:
    """Return a value of a keyword."""
    if key in BY_NAME.split():
        names = PATTERNS if key == "patternProperties" else NAMES
        return {random.choice(names): schema(random, depth) for _ in range(random.randrange(4))}
    if key in MANY.split() and (key != "items" or random.random() < 0.4):
        return [schema(random, depth) for _ in range(random.randrange(4))]
    if key in ONE.split():
        return schema(random, depth)
    if key in BOUNDS.split():
        return random.choice(NUMBERS) if random.random() < 0.5 else random.randrange(6)
    if key in ("enum", "examples"):
        return [value(random) for _ in range(random.randrange(5))]
    if key == "required":
        return [random.choice(NAMES) for _ in range(random.randrange(4))]
    if key == "dependentRequired":
        return {random.choice(NAMES): [random.choice(NAMES)] for _ in range(2)}
    return random.choice(CHOICES[key]) if key in CHOICES else value(random)


def make(random: Random) -> tuple[Any, Any, int]:
    """Return the schema of a tool, a value for it and a seed."""
    root = schema(random)
    if isinstance(root, dict) and random.random() < 0.7:
        root["type"] = "object"
        root.setdefault("properties", {"a": schema(random, 1), "b": schema(random, 1)})
        if random.random() < 0.6:
            root["required"] = ["a"]
        if random.random() < 0.6:
            root["$defs"] = {"a": schema(random, 1), "b": schema(random, 1)}
        if random.random() < 0.2:
            root["$schema"] = random.choice(DIALECTS)
    return root, value(random), random.randrange(2**32)


def check(case: tuple[Any, Any, int]) -> None:
    """Make spaces of a schema, sample them and ask them about values."""
    root, argument, seed = case
    space = ToolCallSpace([ToolSpec("go", "", root)], seed=seed, strict=True)
    call = space.sample()
    assert isinstance(call["arguments"], dict)
    for arguments in (call["arguments"], argument, {"a": argument, "b": argument}):
        errors = space.validate({"name": "go", "arguments": arguments})
        assert all(len(error) < 1_000 for error in errors)
        assert space.contains({"name": "go", "arguments": arguments}) == (not errors)
    try:
        twin = pickle.loads(pickle.dumps(space))
    except RecursionError:  # no schema from a server is nested so deeply
        return
    assert repr(twin) == repr(space)
    if seed % 16 == 0:
        twin.seed(seed)
        assert repr(twin.sample()) == repr(call), "two spaces of one seed gave different samples"
        if isinstance(root, dict) and (values := space._sampler("go").choices("a")):
            space.sample(mask={"arguments": {"go": {"a": np.ones(len(values), np.int8)}}})
    assert object_schema(root)["type"] == "object"


FUZZERS = [Fuzzer("schemas", make, check, 12_000)]
