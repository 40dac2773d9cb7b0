"""Reasons why a record of another system cannot be read, with the field that is wrong."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from openreward_gym.jsonio import Json
from openreward_gym.types.codec import shown

UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
"""The errors that reading another system's object may raise, which may have any shape."""

# What Python says of a value of another type, and the type that the reader expected.
_EXPECTED = {
    r"attribute '(get|items|keys|values)'|not a mapping|dictionary update|argument of type|not subscriptable": "an object",
    r"indices must be|is not iterable|has no len|can only concatenate list|'slice'": "a list or an object",
    r"unhashable|attribute '\w+'|expected str|must be str|expected string": "text",
    r"real number|unsupported operand|not supported between|too large to convert|convert .*float|as an integer": "a number",
}


def reason_of(error: Exception) -> str:
    """Return the reason why a record cannot be read. The text of a KeyError is only the name of the missing key."""
    if isinstance(error, KeyError):
        return f"no field {error}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)[:500] or type(error).__name__


def wrong(name: str, expected: str, value: Json) -> ValueError:
    """Return the error for a field of a wrong type."""
    return ValueError(f'"{name}" must be {expected}, it is {shown(value)}')


def explain(error: Exception, value: Json, read: Callable[[Json], object]) -> str:
    """Return the reason why `read(value)` raised an error; of Python's own errors, with the field that they are of.

    Args:
        error: The error.
        value: The record.
        read: Reads a record. It is called once more.

    Example:
        >>> def read(record):
        ...     return record["usage"].get("tokens")
        >>> try:
        ...     read({"usage": "12"})
        ... except AttributeError as error:
        ...     explain(error, {"usage": "12"}, read)
        '"usage" must be an object, it is \\'12\\''
    """
    expected = next((word for pattern, word in _EXPECTED.items() if re.search(pattern, str(error))), "")
    if not expected and not isinstance(error, (KeyError, IndexError)):
        return reason_of(error)
    fields: list[tuple[str, Json]] = []
    with contextlib.suppress(*UNREADABLE):
        read(_traced(value, "", fields))
    if not expected:
        return f'{reason_of(error)} in "{fields[-1][0]}"' if fields else reason_of(error)
    # Most fields are text: which of them is meant cannot be told, unless it is the last one.
    meant = [n for n, (_, field) in enumerate(fields) if _is_meant(field, str(error))]
    if meant and (meant[-1] == len(fields) - 1 or not isinstance(fields[meant[-1]][1], str)):
        path, field = fields[meant[-1]]
        return str(wrong(path, expected, field))
    return f"a field has a wrong type: it must be {expected}"


def _is_meant(field: Json, error: str) -> bool:
    """Return whether Python's words are of this value: they name its type."""
    kind = next((kind for kind in (dict, list) if isinstance(field, kind)), type(field)).__name__
    return f"'{kind}'" in error or ("too large" in error and kind == "int" and abs(field) > 1e308)


def _traced(value: Json, path: str, fields: list[tuple[str, Json]]) -> Json:
    """Return a record that notes each field that is read."""
    if isinstance(value, dict):
        inner = {name: _traced(item, f"{path}.{name}".lstrip("."), fields) for name, item in value.items()}
        return _Object(inner, path, fields)
    if isinstance(value, list):
        return _List((_traced(item, f"{path}[{number}]", fields) for number, item in enumerate(value)), path, fields)
    return value


class _Object(dict[str, Any]):
    def __init__(self, values: dict[str, Any], path: str, fields: list[tuple[str, Json]]) -> None:
        super().__init__(values)
        self._path, self._fields = path, fields

    def _note(self, name: str, value: Json) -> Json:
        self._fields.append((f"{self._path}.{name}".lstrip("."), value))
        return value

    def get(self, name: str, default: Any = None) -> Any:
        return self._note(name, super().get(name, default))

    def __getitem__(self, name: str) -> Any:
        return self._note(name, super().__getitem__(name)) if name in self else super().__getitem__(name)

    def items(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        for name, value in super().items():
            yield name, self._note(name, value)

    def values(self) -> Iterator[Any]:  # type: ignore[override]
        yield from (value for _, value in self.items())


class _List(list[Any]):
    def __init__(self, items: Iterator[Any], path: str, fields: list[tuple[str, Json]]) -> None:
        super().__init__(items)
        self._path, self._fields = path, fields

    def __iter__(self) -> Iterator[Any]:
        for number, item in enumerate(super().__iter__()):
            self._fields.append((f"{self._path}[{number}]", item))
            yield item

    def __getitem__(self, number: Any) -> Any:
        item = super().__getitem__(number)
        if isinstance(number, int):
            self._fields.append((f"{self._path}[{number}]", item))
        return item
