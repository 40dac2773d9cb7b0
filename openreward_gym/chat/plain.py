"""SDK objects as plain JSON values, and what is asked of such values."""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from openreward_gym.types import Json

_PLAIN = frozenset({str, int, float, bool, type(None)})


def plain(value: Any) -> Json:
    """`value` with everything inside it as JSON values: pydantic models and dataclasses become dictionaries without
    their None fields, bytes become base64 text. Dictionaries keep their None values.

    Raises:
        TypeError: It holds something that has no JSON form.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        # What nearly all actions are, and an abstract class takes ten times as long to ask.
        return {key if type(key) is str else str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (str, bool, int, float)) and not isinstance(value, enum.Enum):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, date):
        return value.isoformat()
    if callable(dump := getattr(value, "model_dump", None)):
        return plain(dump(exclude_none=True, warnings=False))
    if callable(to_list := getattr(value, "tolist", None)):
        return plain(to_list())  # numpy's numbers and arrays, as a space samples them
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: plain(item) for name, item in fields.items() if item is not None}
    if isinstance(value, Iterable):
        # An SDK's lazy sequence: pydantic keeps what is typed `Iterable` as an iterator.
        return [plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} is neither a dictionary nor an SDK's object")


def as_list(value: Any) -> list[Any]:
    """`value` if it is a list, a list of it alone otherwise."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]


def rest_of(data: Mapping[str, Json], *known: str) -> dict[str, Json]:
    """The fields of `data` that are neither in `known` nor None."""
    return {key: value for key, value in data.items() if key not in known and value is not None}


def json_text(value: Json) -> str:
    """`value` itself where it is text, its JSON otherwise."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def integer(data: Any, *path: str) -> int | None:
    """The integer at `path` inside `data`; None where there is none."""
    data = _at(data, path)
    return data if isinstance(data, int) and not isinstance(data, bool) else None


def number(data: Any, *path: str) -> float | None:
    """The number at `path` inside `data`; None where there is none."""
    data = _at(data, path)
    return float(data) if isinstance(data, (int, float)) and not isinstance(data, bool) else None


def _at(data: Any, path: Iterable[str]) -> Any:
    for name in path:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data
