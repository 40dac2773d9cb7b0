"""Checks values against a JSON Schema, by the `jsonschema` library."""

from __future__ import annotations

from typing import Any

from openreward_gym.types import Json

_MAX_ERRORS = 10
_MAX_ERROR_CHARS = 300
_HOLDS_VALUES = frozenset({"default", "const", "enum", "examples", "example"})
"""Keywords whose content is data, not a schema."""


class SchemaChecker:
    """Checks values against one schema and parts of it.

    The library is loaded at the first check. References to other documents are never fetched: a server chooses the schema,
    and must not choose what this machine connects to. A schema that is itself broken accepts everything, as nobody who
    calls the tool could do better.

    Args:
        root: The whole schema, which references inside of it start from.
    """

    def __init__(self, root: dict[str, Json]) -> None:
        self._root = root
        self._parts: dict[bool, Any] = {}
        self._whole: Any = None

    def accepts(self, value: Json, part: Json, *, formats: bool = False) -> bool:
        """Whether `value` is valid under `part`, a schema whose references start from the root."""
        if formats not in self._parts:
            self._parts[formats] = _validator(self._root, formats=formats)
        try:
            return bool(self._parts[formats].evolve(schema=part).is_valid(value))
        except Exception:  # a broken schema raises anything: unknown types, bad patterns, references to nowhere
            return True

    def errors(self, value: Json) -> list[str]:
        """What is wrong with `value`, a line each, in words for who made it; empty if nothing is.

        Formats are checked, and OpenAPI's `nullable` counts.
        """
        if self._whole is None:
            self._whole = _validator(_with_null(self._root), formats=True)
        try:
            found = sorted(self._whole.iter_errors(value), key=lambda error: [str(step) for step in error.absolute_path])
        except Exception:  # as above
            return []
        lines = [_line(error) for error in found[:_MAX_ERRORS]]
        if len(found) > _MAX_ERRORS:
            lines.append(f"and {len(found) - _MAX_ERRORS} more errors")
        return lines


def _validator(schema: dict[str, Json], *, formats: bool) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing import Registry

    kind = validator_for(schema, default=Draft202012Validator)
    # Without a registry of its own the validator fetches references from the network.
    return kind(schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER if formats else None)


def _with_null(schema: Json) -> Json:
    """`schema` with OpenAPI's `nullable: true` written as JSON Schema's type null."""
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
    # Of "is not valid under any of the given schemas" the reader wants the reason in the branch that came nearest.
    deepest = error
    while deepest.context:
        deepest = max(deepest.context, key=lambda inner: (len(inner.absolute_path), -len(inner.schema_path)))
    text = error.message if deepest is error else f"{error.message}: {deepest.message}"
    if len(text) > _MAX_ERROR_CHARS:
        # The value comes first in the library's messages and may be long; what is asked of it comes last.
        text = f"{text[:100]} ... {text[-(_MAX_ERROR_CHARS - 105) :]}"
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    return f"arguments{where}: {text}"
