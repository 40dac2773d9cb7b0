"""Limits on the work that a schema can cause, and the removal of what is malformed in it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from openreward_gym.types import Json

_DEEPEST = 200
"""Nesting depth from which on a schema accepts every value. `Validator` needs about two Python frames per level."""
_HOLDS_VALUES = frozenset({"default", "const", "enum", "examples", "example"})
"""Keywords whose value is data, not a schema."""
_OF_CONSTANT = frozenset({"const", "title", "description"})
_FEW = 50
"""Number of alternatives up to which constants stay alternatives. More would take too many steps."""
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
"""Keywords whose value has schemas by names that are no keywords."""
_ADDRESSES = frozenset({"$schema", "$id", "id", "$ref", "$dynamicRef", "$recursiveRef"})
_KINDS: dict[str, Any] = {
    **dict.fromkeys(_MAPS, dict),
    **dict.fromkeys(_ADDRESSES | {"$anchor", "$dynamicAnchor", "pattern", "format"}, str),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems", "enum", "examples", "required"), list),
    "type": (str, list),
}
"""The types of keywords whose value would be used before it is checked."""
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_LONG_BITS = 14_000
"""Integers of more bits may have more digits than Python writes (`sys.get_int_max_str_digits`)."""


class OutOfStepsError(Exception):
    """A schema takes more steps than there are for it. The sampler and the checker catch this error."""


class StepBudget:
    """A number of steps, about ten microseconds each, that one sample or one check may take.

    Example:
        >>> budget = StepBudget(3)
        >>> budget.spend(2)
        >>> budget.left
        1
    """

    __slots__ = ("left",)

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int = 1) -> None:
        """Take steps from the budget, or raise OutOfStepsError if it has fewer."""
        self.left -= steps
        if self.left < 0:
            raise OutOfStepsError


class LongInteger(int):
    """An integer of too many digits to be written, with a short representation for messages."""

    def __repr__(self) -> str:
        return f"an integer of about {int(self.bit_length() * 0.30103):,} digits"


def shortened(value: Json) -> Json:
    """Return an integer of too many digits as a LongInteger, and any other value as it is."""
    return LongInteger(value) if type(value) is int and value.bit_length() > _LONG_BITS else value


def plain_schema(schema: Json, *, nullable: bool = False) -> Json:
    """Return `schema` without malformed keywords, and without parts that are nested too deeply.

    Args:
        schema: Any value that a server may send as a schema. It is not changed.
        nullable: Replace OpenAPI's `nullable: true` by JSON Schema's type null.
    """
    return _Copier(nullable).schema(schema, 0)


class _Copier:
    """Copies each part of a schema once, also where it is used several times."""

    def __init__(self, nullable: bool) -> None:
        self._nullable = nullable
        self._copies: dict[int, Json] = {}

    def schema(self, node: Any, depth: int) -> Json:
        if not isinstance(node, (dict, list)):
            return shortened(node)
        if depth > _DEEPEST:
            return True
        if id(node) not in self._copies:
            self._copies[id(node)] = True  # stands for the part inside itself
            if isinstance(node, list):
                self._copies[id(node)] = [self.schema(item, depth + 1) for item in node]
            else:
                self._copies[id(node)] = self._keywords(node, depth)
        return self._copies[id(node)]

    def _keywords(self, node: dict[str, Any], depth: int) -> Json:
        copied: dict[str, Json] = {}
        for key, value in node.items():
            if not isinstance(key, str) or not isinstance(value, _KINDS.get(key, object)):
                continue
            if key in _MAPS and isinstance(value, dict):
                parts = {name: self.schema(part, depth + 1) for name, part in value.items() if isinstance(name, str)}
                copied[key] = parts
            else:
                copied[key] = value if key in _HOLDS_VALUES else self.schema(value, depth + 1)
        if depth:
            copied.pop("$schema", None)  # it would change the dialect in the middle
        for key in _ADDRESSES & copied.keys():
            if not _is_address(copied[key]):
                del copied[key]
        for key in ("anyOf", "oneOf"):
            values = _constants(copied.get(key, []))
            if values and "enum" not in copied:
                del copied[key]
                copied["enum"] = values
        if "type" in copied:
            self._name_types(copied)
        if copied.get("enum") == []:
            del copied["enum"]
        return copied

    def _name_types(self, copied: dict[str, Json]) -> None:
        """Replace `type` by the types that JSON Schema has."""
        types = copied.pop("type")
        known = [name for name in ([types] if isinstance(types, str) else types) if isinstance(name, str) and name in _TYPES]
        if self._nullable and copied.get("nullable") is True and known:
            known.append("null")
        if known:
            copied["type"] = known[0] if len(known) == 1 else known


def _constants(branches: list[Json]) -> list[Json]:
    """Return the values of alternatives that are many different constants, as Python's enums are written; else none."""
    if len(branches) <= _FEW or not all(isinstance(branch, dict) and branch.keys() <= _OF_CONSTANT for branch in branches):
        return []
    values = [branch.get("const") for branch in branches]
    is_plain = all(type(value) is str or type(value) is int for value in values)
    return values if is_plain and len(set(values)) == len(values) else []


def _is_address(value: str) -> bool:
    try:
        urlsplit(value)
    except ValueError:
        return False
    return True
