"""The tools of an environment as functions of a provider's API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openreward_gym.chat.history import ToolNames
from openreward_gym.jsonio import Json, escape_surrogates
from openreward_gym.types import ToolSet

_NO_ARGUMENTS: Mapping[str, Json] = {"type": "object", "properties": {}}
# OpenAI: "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level". Anthropic:
# "input_schema does not support oneOf, allOf, or anyOf at the top level". `const` says what `enum` says.
_REFUSED_AT_TOP = ("oneOf", "anyOf", "allOf", "enum", "not", "const", "$ref")
_DEPTH = 16
_ITSELF: dict[str, Json] = {"type": "object", "properties": {}}
"""Stands for a schema inside itself, where it adds nothing."""


def function_specs(tools: ToolSet, schema_key: str, names: ToolNames | None = None) -> list[dict[str, Any]]:
    """Return the tools as a provider's API takes them, with the JSON Schema of the arguments under `schema_key`.

    Args:
        tools: The environment's tools.
        schema_key: The provider's name for the schema of the arguments.
        names: The names under which the server gets the tools; schemas are then mended too (see `object_schema`). None writes
            names and schemas as the environment has them.
    """
    if names is None:
        return [
            {"name": tool.name, "description": tool.description, schema_key: dict(tool.input_schema or _NO_ARGUMENTS)}
            for tool in tools
        ]
    specs = [
        {
            "name": names.sent(tool.name),
            "description": tool.description,
            schema_key: object_schema(tool.input_schema),
            # OpenAI's name for calls that keep to the schema. The tools of an environment do not have it, those of a row may.
            **({"strict": True} if schema_key == "parameters" and tool.extra.get("strict") is True else {}),
        }
        for tool in tools
    ]
    clean: list[dict[str, Any]] = escape_surrogates(specs)
    return clean


def object_schema(schema: Json) -> dict[str, Json]:
    """Return the schema of a tool's arguments in the form that strict APIs demand: an object with `properties`.

    Alternatives at the top level (`anyOf`, `oneOf`) become one object with the properties of all; those that each alternative
    requires are required. Parts of a whole (`allOf`) are joined, and a reference at the top level is followed. A schema that no
    object fits has no properties. The environment checks the arguments by its own schema all the same.

    Example:
        >>> object_schema({"anyOf": [{"properties": {"city": {"type": "string"}}}, {"properties": {"zip": {"type": "string"}}}]})
        {'type': 'object', 'properties': {'city': {'type': 'string'}, 'zip': {'type': 'string'}}}
        >>> object_schema(None)
        {'type': 'object', 'properties': {}}
    """
    if not isinstance(schema, Mapping):
        return dict(_NO_ARGUMENTS)
    flat = _Flattening(schema).flat(schema, _DEPTH)
    if flat is None:
        about = {key: schema[key] for key in ("title", "description") if isinstance(schema.get(key), str)}
        return {**_NO_ARGUMENTS, **about}
    result: dict[str, Json] = _with_items(flat, _DEPTH)
    return result


class _Flattening:
    """Flattens each part of a schema once: parts may refer to each other, and to themselves, many times."""

    def __init__(self, root: Mapping[str, Json]) -> None:
        self._root = root
        self._flat: dict[int, dict[str, Json] | None] = {}

    def flat(self, schema: Json, depth: int) -> dict[str, Json] | None:
        """Return a schema without alternatives, parts and references at its top; None for one that no object fits."""
        if schema is True or (isinstance(schema, Mapping) and depth < 0):
            return dict(_NO_ARGUMENTS)
        if not isinstance(schema, Mapping) or not _takes_objects(schema):
            return None
        if schema.keys() == {"$ref"} and isinstance(schema["$ref"], str):
            return self.flat(_target(self._root, schema["$ref"]), depth - 1)
        if id(schema) not in self._flat:
            self._flat[id(schema)] = _ITSELF
            self._flat[id(schema)] = self._flattened(schema, depth)
        return self._flat[id(schema)]

    def _flattened(self, schema: Mapping[str, Json], depth: int) -> dict[str, Json] | None:
        result: dict[str, Json] = {"type": "object"}
        result |= {key: value for key, value in schema.items() if key not in (*_REFUSED_AT_TOP, "type")}
        own = schema.get("properties")
        properties = {name: _property(value) for name, value in own.items()} if isinstance(own, Mapping) else {}
        required = dict.fromkeys(_names(schema.get("required")))
        parts = _list(schema.get("allOf"))
        if isinstance(schema.get("$ref"), str):
            parts.append(_target(self._root, schema["$ref"]))
        for part in parts:
            flat = self.flat(part, depth - 1)
            if flat is None:
                return None
            for name, value in flat["properties"].items():
                properties.setdefault(name, value)
            required |= dict.fromkeys(_names(flat.get("required")))
        for key in ("anyOf", "oneOf"):
            branches = [branch for one in _list(schema.get(key)) if (branch := self.flat(one, depth - 1)) is not None]
            if not branches and _list(schema.get(key)):
                return None
            for name, kinds in _alternatives(branches).items():
                properties.setdefault(name, kinds[0] if len(kinds) == 1 else {"anyOf": kinds})
            common = [dict.fromkeys(_names(branch.get("required"))) for branch in branches if branch is not _ITSELF]
            required |= {name: None for name in common[0] if all(name in names for names in common)} if common else {}
        result["properties"] = {**properties, **{name: {} for name in required if name not in properties}}
        result.pop("required", None)
        if required:
            result["required"] = list(required)
        return result


def _alternatives(branches: Iterable[Mapping[str, Json]]) -> dict[str, list[Json]]:
    """Return the different schemas that alternatives have for each property."""
    kinds: dict[str, dict[str, Json]] = {}
    for branch in branches:
        for name, kind in branch["properties"].items():
            kinds.setdefault(name, {}).setdefault(_key(kind), kind)
    return {name: list(different.values()) for name, different in kinds.items()}


def _key(schema: Json) -> str:
    """Return a text that is equal for equal schemas."""
    try:
        return repr(schema)
    except (RecursionError, ValueError):  # nested too deeply, or with an integer of too many digits
        return str(id(schema))


def _takes_objects(schema: Mapping[str, Json]) -> bool:
    kind = schema.get("type")
    if isinstance(kind, str):
        return kind == "object"
    return not isinstance(kind, Sequence) or not kind or "object" in kind


def _property(schema: Json) -> Json:
    """Return the schema of a property as an object; APIs refuse `true`, which stands for any value."""
    return schema if isinstance(schema, Mapping) else {"not": {}} if schema is False else {}


def _names(value: Json) -> list[str]:
    return [name for name in _list(value) if isinstance(name, str)]


def _list(value: Json) -> list[Json]:
    return list(value) if isinstance(value, list | tuple) else []


def _target(root: Mapping[str, Json], reference: str) -> Json:
    """Return what a reference into the schema itself (`#/$defs/Arguments`) points to; None for another one."""
    target: Json = root
    if not reference.startswith("#"):
        return True
    for step in reference[1:].split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, Mapping) or step not in target:
            return True
        target = target[step]
    return target


def _with_items(schema: Json, depth: int) -> Json:
    """Return a schema in which each list inside has `items`, which OpenAI demands ("array schema missing items")."""
    if not isinstance(schema, Mapping) or depth < 0:
        return schema
    result = dict(schema)
    for key, value in schema.items():
        if key in ("properties", "$defs", "definitions") and isinstance(value, Mapping):
            result[key] = {name: _with_items(item, depth - 1) for name, item in value.items()}
        elif key in ("items", "additionalProperties"):
            result[key] = _with_items(value, depth - 1)
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(value, list):
            result[key] = [_with_items(item, depth - 1) for item in value]
    kind = schema.get("type")
    is_list = kind == "array" or (isinstance(kind, list) and "array" in kind)
    if is_list and "items" not in schema and "prefixItems" not in schema:
        result["items"] = {}
    return result
