"""Validation of values against a JSON Schema with the `jsonschema` library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from openreward_gym.envs.spaces.patterns import name_matches, read_pattern
from openreward_gym.envs.spaces.schema_limits import OutOfStepsError, StepBudget, plain_schema, shortened
from openreward_gym.envs.spaces.schema_shapes import as_dict, as_list, json_key
from openreward_gym.types import Json

_MAX_ERRORS = 10
_MAX_ERROR_CHARS = 300
_MAX_ENUMS = 1_000
_MAX_SHOWN = 50
"""Number of enumerated values that an error lists."""
_DEEPEST_VALUE = 200
_DEEPEST_CHECK = 100
"""Keywords inside each other. At Python's own limit the Rust code below the library panics, which no program survives."""
_STEPS = 200_000
_STEPS_PER_VALUE = 20
_SHORT_NAME = 20

Keyword = Callable[[Any, Any, Any, Any], Iterator[Any]]


class SchemaChecker:
    """Validate values against the schema `root` and parts of it, in bounded time.

    References to other documents are never fetched: the server chooses the schema, and must not choose what this machine
    connects to. Malformed keywords and references to nothing are ignored, and so is what is left of a schema that takes too
    many steps: the server still judges the call.

    Example:
        >>> SchemaChecker({"type": "object", "required": ["city"]}).errors({})
        ["arguments: 'city' is a required property"]
    """

    def __init__(self, root: dict[str, Json]) -> None:
        self._root = root
        self._validators: dict[bool, Any] = {}
        self._whole: Any = None

    def valid(self, values: list[Json], part: Json, budget: StepBudget, *, formats: bool) -> list[Json]:
        """Return the `values` that are valid under `part`, a schema whose references start from the root.

        Raises:
            OutOfStepsError: The budget is not enough.
        """
        if formats not in self._validators:
            self._validators[formats] = _validator(as_dict(plain_schema(self._root)), formats=formats)
        validator = self._validators[formats]
        validator.format_checker.start(budget)
        validator = validator.evolve(schema=part)
        return [value for value in values if _is_valid(validator, value)]

    def errors(self, value: Json) -> list[str]:
        """Return one line per error in `value`, worded for the model that wrote it. OpenAPI's `nullable` is understood."""
        value, size = _without_long_integers(value)
        if size is None:
            return [f"arguments: nested in more than {_DEEPEST_VALUE} levels"]
        errors: list[Any] = []
        try:
            if self._whole is None:
                self._whole = _validator(as_dict(plain_schema(self._root, nullable=True)), formats=True)
            self._whole.format_checker.start(StepBudget(_STEPS + _STEPS_PER_VALUE * size))
            errors.extend(self._whole.iter_errors(value))
        except (OutOfStepsError, _TooDeepError, RecursionError):  # the errors so far are right
            pass
        errors.sort(key=lambda error: [str(step) for step in error.absolute_path])
        lines = [_line(error) for error in errors[:_MAX_ERRORS]]
        if len(errors) > _MAX_ERRORS:
            lines.append(f"and {len(errors) - _MAX_ERRORS} more errors")
        return lines


class _TooDeepError(Exception):
    """A check is nested too deeply, as with references in a circle."""


class _Formats:
    """Carries the budget of a check to all parts of a validator, in the place of its checker of formats."""

    def __init__(self, checker: Any, has_costly_names: bool) -> None:
        self._checker = checker
        self.has_costly_names = has_costly_names
        self.budget = StepBudget(0)
        self.depth = 0
        self._keys: dict[int, tuple[list[Json], frozenset[Any]]] = {}

    def start(self, budget: StepBudget) -> None:
        """Begin a check."""
        self.budget, self.depth = budget, 0

    def keys_of(self, values: list[Json]) -> frozenset[Any]:
        """Return the keys of enumerated values, so that each check takes the same time for few and for many."""
        if id(values) not in self._keys:
            self.budget.spend(1 + len(values) // 50)
            if len(self._keys) > _MAX_ENUMS:
                self._keys.clear()
            self._keys[id(values)] = (values, frozenset(map(json_key, values)))
        return self._keys[id(values)][1]

    def check(self, instance: Any, format: str) -> None:
        if self._checker is not None:
            self._checker.check(instance, format)


def _validator(schema: dict[str, Json], *, formats: bool) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing import Registry

    kind = _bounded_kind(validator_for({"$schema": schema.pop("$schema", "")}, default=Draft202012Validator))
    checker = _Formats(kind.FORMAT_CHECKER if formats else None, _has_costly_names(schema))
    # Without an explicit registry the validator fetches references from the network.
    return kind(schema, registry=Registry(), format_checker=checker)


@lru_cache
def _bounded_kind(kind: Any) -> Any:
    """Return a validator class whose keywords take steps from a budget, and do nothing where they are malformed."""
    from jsonschema.validators import extend

    own: dict[str, Keyword] = {
        "enum": _enum,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
    }
    keywords = {name: own.get(name, check) for name, check in kind.VALIDATORS.items()}
    return extend(kind, {name: _bounded(name, check) for name, check in keywords.items()})


def _bounded(name: str, check: Keyword) -> Keyword:
    def bounded(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        checker: _Formats = validator.format_checker
        budget = checker.budget
        budget.spend()
        if checker.depth >= _DEEPEST_CHECK:
            raise _TooDeepError
        if name.startswith("unevaluated") and checker.has_costly_names and _has_long_names(instance):
            return  # the library matches these names itself
        checker.depth += 1
        try:
            for error in check(validator, value, instance, schema) or ():
                budget.spend(1 + len(error.message) // 200)
                yield error
        except (OutOfStepsError, _TooDeepError, RecursionError):
            raise
        except Exception:  # a malformed keyword raises any exception: unknown types, bad patterns, dangling references
            return
        finally:
            checker.depth -= 1

    return bounded


def _is_valid(validator: Any, value: Json) -> bool:
    validator.format_checker.depth = 0
    try:
        return bool(validator.is_valid(value))
    except (_TooDeepError, RecursionError):
        return True


def _error(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)


def _enum(validator: Any, values: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if json_key(instance) not in validator.format_checker.keys_of(values):
        more = f" and {len(values) - _MAX_SHOWN} more" if len(values) > _MAX_SHOWN else ""
        yield _error(f"{instance!r} is not one of {values[:_MAX_SHOWN]!r}{more}")


def _pattern(validator: Any, source: Any, instance: Any, schema: Any) -> Iterator[Any]:
    pattern = read_pattern(source) if isinstance(instance, str) else None
    if pattern is not None and not pattern.matches(instance, validator.format_checker.budget):
        yield _error(f"{instance!r} does not match {source!r}")


def _pattern_properties(validator: Any, schemas: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    for pattern, part in schemas.items():
        for name, value in instance.items():
            if name_matches(pattern, name, validator.format_checker.budget):
                yield from validator.descend(value, part, path=name, schema_path=pattern)


def _additional_properties(validator: Any, part: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    properties, patterns = as_dict(schema.get("properties")), list(as_dict(schema.get("patternProperties")))
    budget = validator.format_checker.budget
    extras = [
        name
        for name in instance
        if name not in properties and not any(name_matches(pattern, name, budget) for pattern in patterns)
    ]
    if isinstance(part, dict):
        for name in extras:
            yield from validator.descend(instance[name], part, path=name)
    elif part is False and extras:
        names, verb = ", ".join(map(repr, extras[:_MAX_SHOWN])), "was" if len(extras) == 1 else "were"
        yield _error(f"Additional properties are not allowed ({names} {verb} unexpected)")


def _unique_items(validator: Any, unique: Any, items: Any, schema: Any) -> Iterator[Any]:
    if unique is True and isinstance(items, list) and len({json_key(item) for item in items}) < len(items):
        yield _error(f"{items!r} has non-unique elements")


def _has_long_names(instance: Any) -> bool:
    return isinstance(instance, dict) and any(len(name) > _SHORT_NAME for name in instance)


def _has_costly_names(schema: Json) -> bool:
    """Return True if names are matched with a pattern for which `re` may need exponential time."""
    waiting: list[Json] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            patterns = map(read_pattern, as_dict(part.get("patternProperties")))
            if any(pattern is not None and pattern.is_costly for pattern in patterns):
                return True
        waiting.extend(part.values() if isinstance(part, dict) else as_list(part))
    return False


def _without_long_integers(value: Json) -> tuple[Json, int | None]:
    """Return a value whose integers can be shown, and the number of values in it: None for one that is nested too deeply."""
    size, has_long = 0, False
    level: list[Any] = [value]
    for _ in range(_DEEPEST_VALUE + 1):
        size += len(level)
        has_long = has_long or any(shortened(item) is not item for item in level)
        # Each part once: a value that is used several times, or inside itself, would grow from level to level.
        parts = {id(item): item for item in level if isinstance(item, (dict, list, tuple))}.values()
        level = [inner for part in parts for inner in (part.values() if isinstance(part, dict) else part)]
        if not level:
            return (_shown_short(value) if has_long else value), size
    return value, None


def _shown_short(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _shown_short(item) for key, item in value.items()}
    return [_shown_short(item) for item in value] if isinstance(value, (list, tuple)) else shortened(value)


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
    return f"arguments{where[:_MAX_ERROR_CHARS]}: {text}"
