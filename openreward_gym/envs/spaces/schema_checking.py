"""Validation of values against a JSON Schema with the `jsonschema` library."""

from __future__ import annotations

from typing import Any

from openreward_gym.types import Json

_MAX_ERRORS = 10
_MAX_ERROR_CHARS = 300
_HOLDS_VALUES = frozenset({"default", "const", "enum", "examples", "example"})
"""Keywords whose value is data, not a schema."""


class SchemaChecker:
    """Validate values against the schema `root` and parts of it.

    References to other documents are never fetched: the server chooses the schema, and must not choose what this machine
    connects to. An invalid schema accepts every value, since no caller of the tool could satisfy it.

    Example:
        >>> SchemaChecker({"type": "object", "required": ["city"]}).errors({})
        ["arguments: 'city' is a required property"]
    """

    def __init__(self, root: dict[str, Json]) -> None:
        self._root = root
        self._validators: dict[bool, Any] = {}
        self._whole: Any = None

    def valid(self, values: list[Json], part: Json, *, formats: bool) -> list[Json]:
        """Return the `values` that are valid under `part`, a schema whose references start from the root."""
        try:
            if formats not in self._validators:
                self._validators[formats] = _validator(self._root, formats=formats)
            validator = self._validators[formats].evolve(schema=part)
            return [value for value in values if validator.is_valid(value)]
        except Exception:  # an invalid schema raises any exception: unknown types, bad patterns, dangling references
            return values

    def errors(self, value: Json) -> list[str]:
        """Return one line per error in `value`, worded for the model that wrote it. OpenAPI's `nullable` is understood."""
        try:
            if self._whole is None:
                self._whole = _validator(_with_null(self._root), formats=True)
            errors = sorted(self._whole.iter_errors(value), key=lambda error: [str(step) for step in error.absolute_path])
        except Exception:  # as above
            return []
        lines = [_line(error) for error in errors[:_MAX_ERRORS]]
        if len(errors) > _MAX_ERRORS:
            lines.append(f"and {len(errors) - _MAX_ERRORS} more errors")
        return lines


def _validator(schema: dict[str, Json], *, formats: bool) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing import Registry

    kind = validator_for(schema, default=Draft202012Validator)
    # Without an explicit registry the validator fetches references from the network.
    return kind(schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER if formats else None)


def _with_null(schema: Json) -> Json:
    """Return `schema` with OpenAPI's `nullable: true` replaced by JSON Schema's type null."""
    if isinstance(schema, list):
        return [_with_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: value if key in _HOLDS_VALUES else _with_null(value) for key, value in schema.items()}
    types = plain.get("type")
    if plain.get("nullable") is True and isinstance(types, (str, list)):
        plain["type"] = [*([types] if isinstance(types, str) else types), "null"]
    return plain


def _line(error: Any) -> str:
    # For "is not valid under any of the given schemas" the reason in the nearest branch is the useful one.
    deepest = error
    while deepest.context:
        deepest = max(deepest.context, key=lambda inner: (len(inner.absolute_path), -len(inner.schema_path)))
    text = error.message if deepest is error else f"{error.message}: {deepest.message}"
    if len(text) > _MAX_ERROR_CHARS:
        # The library's messages begin with the value, which may be long, and end with the requirement.
        text = f"{text[:100]} ... {text[-(_MAX_ERROR_CHARS - 105) :]}"
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    return f"arguments{where}: {text}"
