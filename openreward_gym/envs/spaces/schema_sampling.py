"""Random values that are valid under a JSON Schema."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from openreward_gym.envs.spaces.schema_checking import SchemaChecker
from openreward_gym.envs.spaces.schema_limits import OutOfStepsError, StepBudget, plain_schema
from openreward_gym.envs.spaces.schema_shapes import (
    Schema,
    SchemaShapes,
    UnsatisfiableError,
    as_dict,
    as_list,
    exact,
    json_key,
    number,
    tuple_form,
    types_of,
)
from openreward_gym.envs.spaces.string_sampling import BufferedRandom, sample_string
from openreward_gym.types import Json

_ATTEMPTS = 24
_DEEP = 4
"""Nesting depth from which on a sample has only what its schema requires."""
_DEEPEST = 48
_NODES = 600
"""Number of values in a sample after which it has only what its schema requires."""
_FAILURES = 400
"""Number of failed attempts in a sample after which each value is attempted only once."""
_STEPS = 40_000
"""Steps of one sample: up to a second. A sample of a tool with ten arguments takes some 40."""
_FALLBACK_STEPS = 1_000
"""Steps for each argument on its own, where those of the sample are not enough."""
_MOST_FALLBACKS = 20
_MOST_ITEMS = 1_000
_FEW = 500
"""Number of enumerated values up to which all are checked. Of more, some are drawn and checked."""
_SUGGESTED = 0.25
"""Probability of taking the schema's own default or example."""

_FINITE_TYPES: dict[str, list[Json]] = {"boolean": [False, True], "null": [None]}
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "null": (type(None),),
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int, float),
    "number": (int, float),
}
"""The types of values, too many rather than too few."""
_TYPE_KEYWORDS = {
    "object": ("properties", "required", "patternProperties", "additionalProperties", "minProperties", "propertyNames"),
    "array": ("items", "prefixItems", "minItems", "uniqueItems", "contains"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


class SchemaSampler:
    """Draw random arguments that are valid under a tool's input schema.

    Values are constructed from the schema. For `oneOf`, `not`, `if`, `contains` and similar keywords a value is constructed,
    checked, and drawn again if it is invalid. Attempts and steps are limited, so that a sample of any schema ends. Where they
    are not enough, and where no value is valid, the arguments are those that have a valid value by themselves, or none.
    Malformed keywords are ignored.

    Example:
        >>> sampler = SchemaSampler({"type": "object", "properties": {"n": {"enum": [3]}}, "required": ["n"]})
        >>> sampler.arguments(np.random.default_rng(0))
        {'n': 3}
    """

    def __init__(self, root: Schema) -> None:
        self._checker = SchemaChecker(root)
        root = as_dict(plain_schema(root))
        root.pop("$schema", None)  # it would change the checker's dialect for parts of the root
        self._shapes = SchemaShapes(root)
        self._values: dict[int, tuple[Schema, list[Json]]] = {}
        self._typed_values: dict[int, tuple[Schema, list[Json]]] = {}
        self._heights: dict[int, tuple[Json, float]] = {}
        self._object = self._shapes.both(root, {"type": "object"}) if types_of(root) != ["object"] else root

    def arguments(self, generator: np.random.Generator) -> dict[str, Json]:
        """Return random arguments for the tool."""
        self._shapes.trim()
        if len(self._heights) > _NODES * 10:
            self._heights.clear()
        if len(self._typed_values) > _FEW:
            self._typed_values.clear()
        rng = BufferedRandom(generator)
        try:
            value = self._draw(rng, _STEPS).value(self._object, 0)
        except (UnsatisfiableError, OutOfStepsError, RecursionError):
            return self._separately(rng)
        return value if isinstance(value, dict) else {}

    def _draw(self, rng: BufferedRandom, steps: int) -> _Draw:
        self._shapes.budget = StepBudget(steps)
        return _Draw(self._shapes, self._checker, self._values, self._typed_values, self._heights, rng)

    def _separately(self, rng: BufferedRandom) -> dict[str, Json]:
        """Return the required arguments that have a value each, for a schema of which no whole value was found."""
        arguments: dict[str, Json] = {}
        required = [name for name in as_list(self._object.get("required")) if isinstance(name, str)]
        for name in required[:_MOST_FALLBACKS]:
            draw = self._draw(rng, _FALLBACK_STEPS)
            try:
                arguments[name] = draw.value(self._shapes.property(self._object, name), 1)
            except (UnsatisfiableError, OutOfStepsError, RecursionError):
                continue
        return arguments

    def choices(self, name: str) -> list[Json] | None:
        """Return the values of an enumerated argument, in the schema's order, or None for any other argument."""
        self._shapes.budget = StepBudget(_STEPS)
        try:
            flat = self._shapes.flat(self._object, lambda branches: branches[0], [])
            return self._finite(self._shapes.property(flat, name), 0)
        except (UnsatisfiableError, OutOfStepsError):
            return None

    def _finite(self, schema: Json, depth: int) -> list[Json] | None:
        if not isinstance(schema, dict) or depth > _DEEP:
            return None
        self._shapes.budget.spend()
        if "const" in schema:
            return [schema["const"]]
        if "enum" in schema:
            return as_list(schema["enum"])
        if "$ref" in schema:
            return self._finite(self._shapes.target(schema["$ref"]), depth + 1)
        branches = as_list(schema.get("anyOf")) or as_list(schema.get("oneOf"))
        if branches:
            parts = [self._finite(branch, depth + 1) for branch in branches]
        else:
            parts = [_FINITE_TYPES.get(name) for name in types_of(schema)]
        if not parts or None in parts:
            return None
        return [value for part in parts for value in part or ()]


@dataclass(slots=True)
class _Draw:
    """Construction of one sample, within limits on its size and on failed attempts."""

    shapes: SchemaShapes
    checker: SchemaChecker
    valid_values: dict[int, tuple[Schema, list[Json]]]
    typed_values: dict[int, tuple[Schema, list[Json]]]
    heights: dict[int, tuple[Json, float]]
    rng: BufferedRandom
    nodes: int = _NODES
    failures: int = _FAILURES
    budget: StepBudget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = self.shapes.budget

    def value(self, schema: Json, depth: int) -> Json:
        """Return a value of `schema`, a part of the root, or raise UnsatisfiableError."""
        if depth > _DEEPEST:
            raise UnsatisfiableError
        self.nodes -= 1
        attempt = 0
        while True:
            checks: list[Schema] = []
            try:
                flat = self.shapes.flat(schema, lambda branches: self._branch(branches, depth, attempt), checks)  # noqa: B023
                value = self._of(flat, depth)
                if all(self.checker.valid([value], check, self.budget, formats=False) for check in checks):
                    return value
            except UnsatisfiableError:
                pass
            attempt += 1
            self.failures -= 1
            if attempt >= _ATTEMPTS or self.failures <= 0:
                raise UnsatisfiableError

    def _tight(self, depth: int) -> bool:
        return depth >= _DEEP or self.nodes <= 0

    def _branch(self, branches: list[Json], depth: int, attempt: int) -> Json:
        if self._tight(depth) and attempt == 0:
            return min(branches, key=lambda branch: self._height(branch, ()))
        return self.rng.choice(branches)

    def _height(self, schema: Json, above: tuple[int, ...]) -> float:
        """Return the nesting depth of the smallest value of `schema`. It is infinite for a schema that contains itself."""
        if schema is False or id(schema) in above or len(above) > _DEEPEST:
            return math.inf
        if not isinstance(schema, dict):
            return 0
        if id(schema) in self.heights:
            return self.heights[id(schema)][1]
        self.budget.spend()
        height = self._height_of(schema, (*above, id(schema)))
        if height < math.inf:  # an infinite one may be due to the schemas above
            self.heights[id(schema)] = (schema, height)
        return height

    def _height_of(self, schema: Schema, above: tuple[int, ...]) -> float:
        parts = [self.shapes.target(schema["$ref"])] if "$ref" in schema else []
        heights = [self._height(part, above) for part in parts + as_list(schema.get("allOf"))]
        sets = [branches for key in ("anyOf", "oneOf") if (branches := as_list(schema.get(key)))]
        heights += [min(self._height(branch, above) for branch in branches) for branches in sets]
        types = types_of(schema)
        if "const" not in schema and "enum" not in schema and (not types or set(types) <= {"object", "array"}):
            if as_list(schema.get("required")) and "array" not in types:
                needed = [self.shapes.property(schema, name) for name in as_list(schema["required"]) if isinstance(name, str)]
                heights += [1 + self._height(part, above) for part in needed]
            least = number(schema.get("minItems"))
            if least and "object" not in types:
                prefix, others = tuple_form(schema)
                heights += [1 + self._height(part, above) for part in prefix[: int(least)] or [others]]
        return max(heights, default=0)

    def _of(self, flat: Schema, depth: int) -> Json:
        if "enum" in flat or "const" in flat:
            return self._one_of(flat, [flat["const"]] if "const" in flat else as_list(flat["enum"]))
        if "default" in flat or "examples" in flat:
            suggested = [flat["default"]] if "default" in flat else []
            suggested += as_list(flat.get("examples"))
            if self.rng.chance(_SUGGESTED):
                try:
                    return self._one_of(flat, suggested)
                except UnsatisfiableError:
                    pass
        kind = self._kind(flat, depth)
        if kind == "object":
            return self._object(flat, depth)
        if kind == "array":
            return self._array(flat, depth)
        if kind == "string":
            return self._string(flat)
        if kind == "integer" or kind == "number":
            return self._number(flat, integral=kind == "integer")
        return self.rng.chance(0.5) if kind == "boolean" else None

    def _one_of(self, flat: Schema, values: list[Json]) -> Json:
        """Return one of the `values` that the other keywords of `flat` allow."""
        if len(values) <= _FEW:
            return self.rng.choice(self._listed(flat, values))
        values = self._of_types(flat, values)
        for _ in range(_ATTEMPTS if values else 0):
            value = self.rng.choice(values)
            if self.checker.valid([value], _besides(flat), self.budget, formats=True):
                return value
        start = self.rng.below(max(1, len(values)))
        return self.rng.choice(self._listed(flat, (values[start:] + values[:start])[:_FEW]))

    def _of_types(self, flat: Schema, values: list[Json]) -> list[Json]:
        """Return the `values` of the types of `flat`."""
        types = types_of(flat)
        if not types:
            return values
        if id(flat) not in self.typed_values:
            self.budget.spend(len(values) // 50)
            kinds = tuple(kind for name in types for kind in _PYTHON_TYPES.get(name, ()))
            self.typed_values[id(flat)] = (flat, [value for value in values if isinstance(value, kinds)])
        return self.typed_values[id(flat)][1]

    def _listed(self, flat: Schema, values: list[Json]) -> list[Json]:
        """Return the `values` that the other keywords of `flat` allow."""
        if id(flat) not in self.valid_values:
            if len(self.valid_values) > _NODES * 10:
                self.valid_values.clear()
            self.valid_values[id(flat)] = (flat, self.checker.valid(values, _besides(flat), self.budget, formats=True))
        _, valid = self.valid_values[id(flat)]
        if not valid:
            raise UnsatisfiableError
        return valid

    def _kind(self, flat: Schema, depth: int) -> str:
        types = types_of(flat)
        if len(types) == 1:
            return types[0]
        if not types:
            for kind, keywords in _TYPE_KEYWORDS.items():
                if any(keyword in flat for keyword in keywords):
                    return kind
            types = ["string", "integer", "boolean"]
        if self._tight(depth):
            types = [name for name in types if name not in ("object", "array")] or types
        return self.rng.choice(types)

    def _string(self, flat: Schema) -> str:
        pattern, form = flat.get("pattern"), flat.get("format")
        text = sample_string(
            self.rng,
            low=math.ceil(number(flat.get("minLength")) or 0),
            high=None if number(flat.get("maxLength")) is None else math.floor(flat["maxLength"]),
            form=form if isinstance(form, str) else "",
            pattern=pattern if isinstance(pattern, str) else None,
            budget=self.budget,
        )
        if text is None:
            raise UnsatisfiableError
        return text

    def _number(self, flat: Schema, *, integral: bool) -> float | int:
        low, low_open = _bound(flat, "minimum", "exclusiveMinimum", max)
        high, high_open = _bound(flat, "maximum", "exclusiveMaximum", min)
        multiple = number(flat.get("multipleOf")) or None
        if integral or multiple is not None:
            return self._multiple(low, low_open, high, high_open, multiple, integral)
        try:
            first = float(low) if low is not None else (-100.0 if high is None else float(high) - 100.0)
            last = float(high) if high is not None else max(100.0, first + 100.0)
        except OverflowError:  # bounds that no float can hold are integers
            return self._multiple(low, low_open, high, high_open, None, True)
        roll = self.rng.random()
        drawn = first * (1 - roll) + last * roll
        for value in (round(drawn, 2), drawn, first + (last - first) / 2, first, last):
            above = low is None or (value > low if low_open else value >= low)
            below = high is None or (value < high if high_open else value <= high)
            if above and below and math.isfinite(value):
                return value
        raise UnsatisfiableError

    def _multiple(
        self, low: Any, low_open: bool, high: Any, high_open: bool, multiple: float | int | None, integral: bool
    ) -> float | int:
        """Return a multiple of `multiple` (None: of 1) between the bounds, by the arithmetic of `jsonschema`."""
        step = Fraction(1) if multiple is None else exact(multiple)
        if integral:
            step = Fraction(step.numerator)  # the integers among the multiples of p/q are those of p
        last = None
        if high is not None:
            last = math.floor(Fraction(high) / step)
            if high_open and last * step == Fraction(high):
                last -= 1
        if low is not None:
            first = math.ceil(Fraction(low) / step)
            if low_open and first * step == Fraction(low):
                first += 1
        else:
            first = -20 if last is None else min(-20, last - 100)
        if last is None:
            last = max(100, first + 100)
        if first > last:
            raise UnsatisfiableError
        for _ in range(_ATTEMPTS):
            k = self.rng.between(first, last)
            drawn = k * step
            try:
                value: float | int = drawn.numerator if drawn.denominator == 1 else float(drawn)
            except OverflowError:
                continue
            if multiple is None or _is_multiple(value, multiple):
                return value
        if first <= 0 <= last:
            return 0
        raise UnsatisfiableError

    def _array(self, flat: Schema, depth: int) -> list[Json]:
        low = math.ceil(number(flat.get("minItems")) or 0)
        high = None if number(flat.get("maxItems")) is None else math.floor(flat["maxItems"])
        prefix, _ = tuple_form(flat)
        contains = flat.get("contains", False)
        needed = math.ceil(number(flat.get("minContains", 1)) or 0) if contains is not False else 0
        low = max(low, needed)
        if high is not None and high < low:
            raise UnsatisfiableError
        wanted = low
        if not self._tight(depth):
            reach = max(len(prefix), low) + self.rng.below(3)
            wanted = max(low, reach if high is None else min(high, reach))
        wanted = max(0, min(wanted, _MOST_ITEMS))
        items: list[Json] = []
        seen: set[Any] = set()
        for index in range(wanted):
            schema = self.shapes.item(flat, index)
            if index >= wanted - needed:
                schema = self.shapes.both(schema, contains)
            try:
                items.append(self._item(schema, depth, seen if flat.get("uniqueItems") is True else None))
            except UnsatisfiableError:
                if len(items) < low:
                    raise
                break
        return items

    def _item(self, schema: Json, depth: int, seen: set[Any] | None) -> Json:
        """Return an item that is not in `seen`, and add it there. With `seen` None, items may repeat."""
        if seen is None:
            return self.value(schema, depth + 1)
        flat = self.shapes.flat(schema, self.rng.choice, [])
        if "enum" in flat or types_of(flat) == ["boolean"]:
            values = as_list(flat.get("enum", [False, True]))
            for _ in range(_ATTEMPTS if len(values) > _FEW else 0):
                if json_key(value := self._one_of(flat, values)) not in seen:
                    seen.add(json_key(value))
                    return value
            values = self._listed(flat, values) if len(values) <= _FEW else values
            self.budget.spend(len(values) // 50)
            left = [value for value in values if json_key(value) not in seen]
            if left:
                seen.add(json_key(value := self.rng.choice(left)))
                return value
        for _ in range(_ATTEMPTS):
            value = self.value(schema, depth + 1)
            if json_key(value) not in seen:
                seen.add(json_key(value))
                return value
        raise UnsatisfiableError

    def _object(self, flat: Schema, depth: int) -> dict[str, Json]:
        properties = as_dict(flat.get("properties"))
        required = [name for name in as_list(flat.get("required")) if isinstance(name, str)]
        low = math.ceil(number(flat.get("minProperties")) or 0)
        high = math.inf if number(flat.get("maxProperties")) is None else math.floor(flat["maxProperties"])
        tight = self._tight(depth)
        chosen = dict.fromkeys(required)
        optional = [name for name in properties if name not in chosen]
        for left, name in zip(range(len(optional), 0, -1), optional, strict=True):
            if len(chosen) + left <= low or (not tight and len(chosen) < high and self.rng.chance(0.5)):
                chosen[name] = None
        _close(chosen, as_dict(flat.get("dependentRequired")))
        made: dict[str, Json] = {}
        # Keep the order of the schema, as a model would.
        for name in [*(name for name in properties if name in chosen), *(name for name in chosen if name not in properties)]:
            try:
                made[name] = self.value(self.shapes.property(flat, name), depth + 1)
            except UnsatisfiableError:
                if name in required:
                    raise
        self._extend(made, flat, depth, low, high)
        return made

    def _extend(self, made: dict[str, Json], flat: Schema, depth: int, low: int, high: float) -> None:
        """Add properties that `flat` does not name: as many as it requires, and a few more if it describes them."""
        others = flat.get("additionalProperties", flat.get("unevaluatedProperties", True))
        patterns = list(as_dict(flat.get("patternProperties")))
        described = isinstance(others, dict) and bool(others)
        wanted = low if self._tight(depth) or not (described or patterns) else max(low, len(made) + self.rng.below(3))
        named = self.shapes.both({"type": "string", "minLength": 1}, flat.get("propertyNames", True))
        for _ in range(_ATTEMPTS + min(wanted, _MOST_ITEMS)):
            self.budget.spend()
            if len(made) >= min(wanted, high, _MOST_ITEMS):
                return
            if patterns and (not described or self.rng.chance(0.5)):
                name = sample_string(self.rng, pattern=self.rng.choice(patterns), budget=self.budget)
            else:
                name = self.value(named, depth + 1)
            if not isinstance(name, str) or name in made:
                continue
            try:
                made[name] = self.value(self.shapes.property(flat, name), depth + 1)
            except UnsatisfiableError:
                if self.failures <= 0:
                    break  # otherwise a schema that contains itself would be tried without end
        if len(made) < low:
            raise UnsatisfiableError


def _besides(flat: Schema) -> Schema:
    """Return a schema without its enumerated values: comparing them with each other would take quadratic time."""
    return {key: value for key, value in flat.items() if key not in ("enum", "const")}


def _close(chosen: dict[str, None], needs: dict[str, Json]) -> None:
    """Add to `chosen` the properties that its members require."""
    waiting = list(chosen)
    while waiting:
        for name in as_list(needs.get(waiting.pop())):
            if isinstance(name, str) and name not in chosen:
                chosen[name] = None
                waiting.append(name)


def _bound(flat: Schema, inclusive: str, exclusive: str, tighter: Any) -> tuple[float | int | None, bool]:
    """Return a bound, or None without one, and True if the bound itself is excluded."""
    closed, opened = number(flat.get(inclusive)), number(flat.get(exclusive))
    if flat.get(exclusive) is True:  # draft 4
        return closed, True
    if closed is None or (opened is not None and tighter(opened, closed) == opened):
        return opened, True
    return closed, False


def _is_multiple(value: float | int, multiple: float | int) -> bool:
    if isinstance(multiple, float):
        try:
            quotient = value / multiple
        except OverflowError:
            return False
        return math.isfinite(quotient) and int(quotient) == quotient
    return value % multiple == 0
