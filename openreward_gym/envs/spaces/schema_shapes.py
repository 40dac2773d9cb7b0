"""Flattening of JSON Schemas: follow references, merge `allOf`, choose a branch of `anyOf` and `oneOf`."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, TypeAlias

from openreward_gym.envs.spaces.patterns import name_matches
from openreward_gym.envs.spaces.schema_limits import StepBudget
from openreward_gym.types import Json

Schema: TypeAlias = dict[str, Json]
Choose: TypeAlias = Callable[[list[Json]], Json]

CHECKED = frozenset(
    {"oneOf", "not", "if", "contains", "dependentSchemas", "dependencies", "propertyNames"}
    | {"unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"}
)
"""Keywords that construction cannot guarantee, so that values are checked against schemas that have one of them."""

_COMBINING = frozenset({"$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "if"})
_UNMERGED = frozenset({"pattern", "not", "contains", "dependentSchemas", "dependencies", "unevaluatedItems", "dependentRequired"})
_OBJECT = frozenset({"properties", "patternProperties", "additionalProperties"})
_ARRAY = frozenset({"items", "prefixItems", "additionalItems"})
_DEEPEST = 40
_CACHED = 20_000

CONFLICTS = "\0conflicts"
"""Key in a merged schema for the schemas that could not be merged completely: values are checked against these."""


class UnsatisfiableError(Exception):
    """No value of a schema was found. The sampler catches this error."""


class SchemaShapes:
    """Flattened parts of the schema `root`.

    Merged parts are cached, so that a part is the same object each time and callers can cache by its id.

    Attributes:
        budget: The steps that are left for the current sample. A method that needs more raises OutOfStepsError.
    """

    def __init__(self, root: Schema) -> None:
        self.budget = StepBudget(0)
        self._root = root
        self._targets: dict[str, Json] = {}
        self._parts: dict[tuple[str, int, int], tuple[Json, Json, Json]] = {}
        self._anchors: dict[str, Json] | None = None

    def trim(self) -> None:
        """Clear the cache of merged parts if it has grown very large."""
        if len(self._parts) > _CACHED:
            self._parts.clear()

    def flat(self, schema: Json, choose: Choose, checks: list[Schema], depth: int = 0) -> Schema:
        """Return `schema` without references and combinations, with one branch of several by `choose`.

        Schemas that a value of the result must still be checked against are appended to `checks`.

        Raises:
            UnsatisfiableError: The chosen parts contradict each other, or refer to each other endlessly.
        """
        if schema is False or depth > _DEEPEST:
            raise UnsatisfiableError
        self.budget.spend()
        if not isinstance(schema, dict):
            return {}
        if not schema.keys().isdisjoint(CHECKED):
            checks.append(schema)
        if schema.keys().isdisjoint(_COMBINING):
            return schema
        flat: Schema = self._cached("base", schema, schema, lambda: _without_combining(schema))
        parts = [self.target(schema[key]) for key in ("$ref", "$dynamicRef", "$recursiveRef") if key in schema]
        parts.extend(as_list(schema.get("allOf")))
        parts.extend(choose(branches) for key in ("anyOf", "oneOf") if (branches := as_list(schema.get(key))))
        if "if" in schema:
            parts.append(choose([{"allOf": [schema["if"], schema.get("then", True)]}, schema.get("else", True)]))
        for part in parts:
            flat = self.merge(flat, self.flat(part, choose, checks, depth + 1))
        checks.extend(flat.get(CONFLICTS, ()))
        return flat

    def target(self, reference: Json) -> Json:
        """Return the schema that a reference points to. A reference out of the root, or to nothing, gives True (any value)."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return True
        if reference not in self._targets:
            self._targets[reference] = self._find(reference)
        return self._targets[reference]

    def _find(self, reference: str) -> Json:
        if reference != "#" and not reference.startswith("#/"):
            if self._anchors is None:
                self._anchors = _anchors(self._root)
            return self._anchors.get(reference[1:], True)
        node: Json = self._root
        for step in reference[2:].split("/") if len(reference) > 1 else ():
            key = step.replace("~1", "/").replace("~0", "~").replace("%25", "%").replace("%24", "$")
            if isinstance(node, list) and key.isascii() and key.isdigit() and len(key) < 10 and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, dict) and key in node:
                node = node[key]
            else:
                return True
        return node

    def both(self, a: Json, b: Json) -> Json:
        """Return a schema of the values that are valid under both. It is merged later: recursive schemas would not end."""
        if a is False or b is False:
            return False
        if not isinstance(a, dict) or not a or a is b:
            return b
        if not isinstance(b, dict) or not b:
            return a
        return self._cached("both", a, b, lambda: {"allOf": [a, b]})

    def merge(self, a: Schema, b: Schema) -> Schema:
        """Merge two flat schemas, or raise UnsatisfiableError if they have no type or no enumerated value in common."""
        if not a or not b or a is b:
            return a or b
        merged: Schema = self._cached("merge", a, b, lambda: self._merge(a, b))
        return merged

    def property(self, flat: Schema, name: str) -> Json:
        """Return the schema of the property `name` of a flat object schema."""
        properties = as_dict(flat.get("properties"))
        schemas = [properties[name]] if name in properties else []
        patterns = as_dict(flat.get("patternProperties"))
        schemas += [schema for pattern, schema in patterns.items() if name_matches(pattern, name, self.budget)]
        if not schemas:
            return flat.get("additionalProperties", flat.get("unevaluatedProperties", True))
        combined: Json = True
        for schema in schemas:
            combined = self.both(combined, schema)
        return combined

    def item(self, flat: Schema, index: int) -> Json:
        """Return the schema of the item at `index` of a flat array schema."""
        prefix, others = tuple_form(flat)
        return prefix[index] if index < len(prefix) else others

    def _cached(self, operation: str, a: Json, b: Json, make: Callable[[], Json]) -> Json:
        key = (operation, id(a), id(b))
        if key not in self._parts:
            self._parts[key] = (a, b, make())  # with `a` and `b`, so that their ids stay theirs
        return self._parts[key][2]

    def _merge(self, a: Schema, b: Schema) -> Schema:
        merged = {**b, **a}
        conflicts = [*a.get(CONFLICTS, ()), *b.get(CONFLICTS, ())]
        for key in a.keys() & b.keys():
            mine, other = a[key], b[key]
            if mine == other and type(mine) is type(other):
                continue
            if key in _MERGES:
                merged[key] = _MERGES[key](mine, other)
            elif key == "propertyNames":
                merged[key] = self.both(mine, other)
            elif key in _UNMERGED:
                conflicts += [a, b]
        if "const" in merged or "enum" in merged:
            sets = [set_ for side in (a, b) if (set_ := _enumerated(side)) is not None]
            merged.pop("const", None)
            others = [{json_key(value) for value in values} for values in sets[1:]]
            merged["enum"] = [value for value in sets[0] if all(json_key(value) in keys for keys in others)]
            if not merged["enum"]:
                raise UnsatisfiableError
        if not _OBJECT.isdisjoint(a) and not _OBJECT.isdisjoint(b):
            self._merge_properties(merged, a, b)
        if not _ARRAY.isdisjoint(a) and not _ARRAY.isdisjoint(b):
            self._merge_items(merged, a, b)
        if conflicts:
            merged[CONFLICTS] = conflicts
        return merged

    def _merge_properties(self, merged: Schema, a: Schema, b: Schema) -> None:
        names = dict.fromkeys([*as_dict(a.get("properties")), *as_dict(b.get("properties"))])
        self.budget.spend(len(names) // 4)
        merged["properties"] = {
            name: self.both(
                self.property({k: a[k] for k in _OBJECT & a.keys()}, name),
                self.property({k: b[k] for k in _OBJECT & b.keys()}, name),
            )
            for name in names
        }
        patterns = dict(as_dict(a.get("patternProperties")))
        for pattern, schema in as_dict(b.get("patternProperties")).items():
            patterns[pattern] = self.both(patterns.get(pattern, True), schema)
        if patterns:
            merged["patternProperties"] = patterns
        merged["additionalProperties"] = self.both(a.get("additionalProperties", True), b.get("additionalProperties", True))

    def _merge_items(self, merged: Schema, a: Schema, b: Schema) -> None:
        longest = max(len(tuple_form(a)[0]), len(tuple_form(b)[0]))
        merged.pop("additionalItems", None)
        merged["prefixItems"] = [self.both(self.item(a, i), self.item(b, i)) for i in range(longest)]
        merged["items"] = self.both(self.item(a, longest), self.item(b, longest))


def as_dict(value: Json) -> Schema:
    """Return `value` if it is an object, else an empty one. A server's schema may be malformed anywhere."""
    return value if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    """Return `value` if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def types_of(flat: Schema) -> list[str]:
    """Return the types that a flat schema names, an empty list if it names none."""
    types = flat.get("type")
    return [types] if isinstance(types, str) else [name for name in as_list(types) if isinstance(name, str)]


def tuple_form(flat: Schema) -> tuple[list[Json], Json]:
    """Return the schemas of the first items and the schema of all others, for every draft of JSON Schema."""
    items = flat.get("items", True)
    if isinstance(items, list):
        return items, flat.get("additionalItems", True)
    return as_list(flat.get("prefixItems")), items


def json_key(value: Json) -> Any:
    """Return a hashable key that is equal for values that JSON Schema calls equal: 1 equals 1.0 but not True."""
    if isinstance(value, bool) or value is None:
        return (type(value).__name__, value)
    if isinstance(value, dict):
        return ("object", frozenset((key, json_key(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return ("array", tuple(json_key(item) for item in value))
    return value


def number(value: Json) -> float | int | None:
    """Return `value` if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def exact(value: float | int) -> Fraction:
    """Return a number as the fraction that its digits say: 0.1 is a tenth."""
    return Fraction(value) if isinstance(value, int) else Fraction(str(value))


def _without_combining(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key not in _COMBINING}


def _enumerated(flat: Schema) -> list[Json] | None:
    if "const" in flat:
        return [flat["const"]]
    return as_list(flat["enum"]) if "enum" in flat else None


def _tighter(tightest: Callable[[Json, Json], Json], mine: Json, other: Json) -> Json:
    """Return the tighter of two bounds: the greater of two minima (`tightest` is max), the lesser of two maxima (min)."""
    if number(mine) is not None and number(other) is not None:
        return tightest(mine, other)
    if isinstance(mine, bool):  # draft 4's exclusiveMinimum and exclusiveMaximum
        return mine or other
    return other if number(mine) is None else mine


def _common_types(mine: Json, other: Json) -> list[str]:
    a, b = types_of({"type": mine}), types_of({"type": other})
    common = [name for name in a if name in b or (name == "integer" and "number" in b)]
    common += [name for name in b if name == "integer" and "number" in a and name not in common]
    if not common:
        raise UnsatisfiableError
    return common


def _common_multiple(mine: Json, other: Json) -> Json:
    if not number(mine) or not number(other):
        return mine if number(mine) else other
    a, b = exact(mine), exact(other)
    common = Fraction(math.lcm(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator)
    if common.denominator == 1:
        return common.numerator
    try:
        return float(common)
    except OverflowError:
        raise UnsatisfiableError from None


_MERGES: dict[str, Callable[[Json, Json], Json]] = {
    **dict.fromkeys(
        ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"), partial(_tighter, max)
    ),
    **dict.fromkeys(
        ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"), partial(_tighter, min)
    ),
    "type": _common_types,
    "required": lambda mine, other: list(
        dict.fromkeys(name for name in (*as_list(mine), *as_list(other)) if isinstance(name, str))
    ),
    "multipleOf": _common_multiple,
    "uniqueItems": lambda mine, other: bool(mine or other),
}


def _anchors(root: Json) -> dict[str, Json]:
    """Return the parts of a schema that have a name, by their names."""
    anchors: dict[str, Json] = {}
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            anchors |= {part[key]: part for key in ("$anchor", "$dynamicAnchor") if isinstance(part.get(key), str)}
        waiting.extend(part.values() if isinstance(part, dict) else as_list(part))
    return anchors
