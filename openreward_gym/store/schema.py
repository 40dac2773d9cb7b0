"""The JSON Schema of a record, for readers in other languages; published as `rollout.schema.json` beside this file.

python -m openreward_gym.store.schema > openreward_gym/store/rollout.schema.json
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from openreward_gym.jsonio import Json
from openreward_gym.types import OpaqueBlock
from openreward_gym.types.codec import codec_of
from openreward_gym.types.rollout import SCHEMA, Rollout

PUBLISHED = "rollout.schema.json"

# JSON has no NaN and no infinities: they are written as the strings that float() reads back.
_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
_SCALARS: Mapping[Any, dict[str, Json]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    float: _NUMBER,
}


def rollout_schema() -> dict[str, Json]:
    """Return the JSON Schema (draft 2020-12) of a line of a run's `rollouts/*.jsonl`.

    Fields that it does not name are allowed everywhere: a reader keeps them.

    Example:
        >>> rollout_schema()["required"]
        ['schema', 'id', 'status']
    """
    definitions: dict[str, Json] = {}
    rollout = _object_schema(Rollout, definitions)
    name = {"const": SCHEMA, "type": "string", "description": "The record's format and its major version."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA,
        **rollout,
        "properties": {"schema": name, "id": {"type": "string"}, **rollout["properties"]},
        "required": ["schema", "id", *rollout["required"]],
        "$defs": dict(sorted(definitions.items())),
    }


def _object_schema(cls: type[Any], definitions: dict[str, Json]) -> dict[str, Json]:
    codec = codec_of(cls)
    properties: dict[str, Json] = {} if codec.tag is None else {codec.tag[0]: {"const": codec.tag[1]}}
    for key, (annotation, _) in codec.schemas.items():
        properties[key] = _schema(annotation, definitions)
    required = [*properties][: codec.tag is not None] + [key for key, (_, needed) in codec.schemas.items() if needed]
    summary = (cls.__doc__ or "").strip().split("\n")[0]
    return {"title": cls.__name__, "description": summary, "type": "object", "properties": properties, "required": required}


def _schema(annotation: Any, definitions: dict[str, Json]) -> dict[str, Json]:
    if annotation is Any:
        return {}
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return {"anyOf": [{"type": "null"} if kind is type(None) else _schema(kind, definitions) for kind in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (list, tuple, Sequence):
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    if annotation.__name__ not in definitions:
        definitions[annotation.__name__] = {}  # a class may hold itself
        definitions[annotation.__name__] = (
            _opaque_schema() if annotation is OpaqueBlock else _object_schema(annotation, definitions)
        )
    return {"$ref": f"#/$defs/{annotation.__name__}"}


def _opaque_schema() -> dict[str, Json]:
    known = ["text", "image", "reasoning", "tool_call", "tool_result"]
    return {"title": "OpaqueBlock", "type": "object", "properties": {"type": {"type": "string", "not": {"enum": known}}}}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(rollout_schema(), indent=2) + "\n")
