"""Gymnasium spaces as JSON Schema, for the JSON of `values`, and as English text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.values import is_picture, number, unsupported
from openreward_gym.types import Json

MAX_BOUNDED_ITEMS = 32
"""Maximum length of an array whose schema has bounds per element. Longer arrays with unequal bounds have only a type."""

MAX_CHARSET = 128
"""Maximum number of characters of a Text space whose schema has a pattern."""

Schema = dict[str, Json]


def schema_of(space: spaces.Space[Any]) -> Schema:
    """Return the JSON Schema of the elements of `space`.

    Raises:
        ConfigurationError: The space cannot be written as JSON.

    Example:
        >>> schema_of(spaces.Discrete(3))
        {'type': 'integer', 'minimum': 0, 'maximum': 2}
    """
    match space:
        case spaces.Discrete():
            return _integers(space.start, space.n)
        case spaces.Box():
            plain: Schema = {"type": _number_type(space)}
            bounds = zip(space.low.ravel(), space.high.ravel(), strict=True)
            return _nested(space.shape, [_bounded(plain, low, high) for low, high in bounds], plain)
        case spaces.MultiDiscrete():
            ranges = zip(space.start.ravel(), space.nvec.ravel(), strict=True)
            return _nested(space.shape, [_integers(first, count) for first, count in ranges], {"type": "integer"})
        case spaces.MultiBinary():
            bit: Schema = {"type": "integer", "enum": [0, 1]}
            return _nested(space.shape, [bit] * math.prod(space.shape), bit)
        case spaces.Text():
            schema: Schema = {"type": "string", "minLength": space.min_length, "maxLength": space.max_length}
            if len(space.characters) <= MAX_CHARSET:
                schema["pattern"] = f"^[{''.join(map(re.escape, sorted(space.characters)))}]*$"
            return schema
        case spaces.Dict():
            if not all(isinstance(name, str) for name in space.spaces):
                raise ConfigurationError(f"a Dict space cannot be bridged unless its keys are strings: {list(space.spaces)}")
            return _object({name: schema_of(inner) for name, inner in space.spaces.items()})
        case spaces.Tuple():
            items = [schema_of(inner) for inner in space.spaces]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        case spaces.Sequence():
            return {"type": "array", "items": schema_of(space.feature_space)}
        case spaces.OneOf():
            choices: list[Schema] = [{"type": "integer", "enum": [i]} for i in range(len(space.spaces))]
            pairs = zip(choices, space.spaces, strict=True)
            return {"anyOf": [_object({"choice": choice, "value": schema_of(inner)}) for choice, inner in pairs]}
    raise unsupported(space)


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _integers(first: Any, count: Any) -> Schema:
    return {"type": "integer", "minimum": int(first), "maximum": int(first + count - 1)}


def _number_type(space: spaces.Space[Any]) -> str:
    return {"b": "boolean", "i": "integer", "u": "integer"}.get(np.dtype(space.dtype).kind, "number")


def _bounded(plain: Schema, low: Any, high: Any) -> Schema:
    """Return `plain` with bounds, except those that every number of the dtype satisfies."""
    if plain["type"] == "boolean":
        return plain
    limits: Any = np.iinfo(low.dtype) if plain["type"] == "integer" else np.finfo(low.dtype)
    has_wide_dtype = low.dtype.itemsize > 1
    schema = dict(plain)
    if math.isfinite(low) and not (has_wide_dtype and low <= limits.min):
        schema["minimum"] = number(low)
    if math.isfinite(high) and not (has_wide_dtype and high >= limits.max):
        schema["maximum"] = number(high)
    return schema


def _nested(shape: Sequence[int], items: list[Schema], plain: Schema) -> Schema:
    """Return the schema of nested arrays from those of all elements, in C order, and that of an element without bounds."""
    if not shape:
        return items[0]
    length, inner = shape[0], len(items) // shape[0] if shape[0] else 0
    rows = [_nested(shape[1:], items[i * inner : (i + 1) * inner], plain) for i in range(length)]
    schema: Schema = {"type": "array", "minItems": length, "maxItems": length}
    if all(row == rows[0] for row in rows):
        return {**schema, **({"items": rows[0]} if rows else {})}
    if length <= MAX_BOUNDED_ITEMS:
        return {**schema, "prefixItems": rows}
    return {**schema, "items": _nested(shape[1:], [plain] * inner, plain)}


def words_of(space: spaces.Space[Any]) -> str:
    """Return a description of the elements of `space`, for a model.

    Example:
        >>> words_of(spaces.Box(0, 1, (3,)))
        'an array of 3 numbers from 0.0 to 1.0'
    """
    match space:
        case spaces.Dict():
            return f"an object with {', '.join(f'{name} ({words_of(inner)})' for name, inner in space.spaces.items())}"
        case spaces.Tuple():
            return f"an array of {len(space.spaces)}: {', '.join(f'({words_of(inner)})' for inner in space.spaces)}"
        case spaces.Sequence():
            return f"an array of any length, each element {words_of(space.feature_space)}"
        case spaces.OneOf():
            choices = "; ".join(f"choice {i}: {words_of(inner)}" for i, inner in enumerate(space.spaces))
            return f"an object with choice and value, one of {choices}"
        case spaces.Text():
            return f"a string of {space.min_length} to {space.max_length} characters"
        case spaces.Discrete():
            return f"an integer from {space.start} to {space.start + space.n - 1}"
        case spaces.Box() if is_picture(space):
            sides = space.shape[1:] if space.shape[0] in (1, 3) else space.shape
            return f"a picture of {'x'.join(map(str, sides[:2]))} pixels"
    return _words_of_array(space)


def _words_of_array(space: Any) -> str:
    one = "bit" if isinstance(space, spaces.MultiBinary) else _number_type(space)
    many = "bits (0 or 1)" if one == "bit" else f"{one}s"
    limits = ""
    if isinstance(space, spaces.Box) and len(set(space.low.ravel())) == len(set(space.high.ravel())) == 1:
        bounds = _bounded({"type": one}, space.low.ravel()[0], space.high.ravel()[0])
        limits = f" from {bounds['minimum']} to {bounds['maximum']}" if {"minimum", "maximum"} <= bounds.keys() else ""
    if not space.shape:
        return f"{'an' if one == 'integer' else 'a'} {one}{limits}"
    return f"an array of {'x'.join(map(str, space.shape))} {many}{limits}"
