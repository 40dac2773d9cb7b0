"""SDK objects as plain JSON values, and typed reads from such values."""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from openreward_gym.errors import MessageError
from openreward_gym.jsonio import Json

_PLAIN = frozenset({str, int, float, bool, type(None)})


def plain(value: Any) -> Json:
    """Return `value` as JSON values, at every depth.

    Pydantic models and dataclasses become dictionaries without their None fields; bytes become base64 text.
    Dictionaries keep their None values.

    Raises:
        TypeError: A value inside has no JSON form.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        # Tested before Mapping: nearly all actions are dictionaries, and an abstract class takes ten times as long to test.
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
        # OpenAI's and Anthropic's models have names of the API that are no names of Python ("async"); Gemini's are in snake_case.
        by_alias = hasattr(value, "to_dict")
        return plain(dump(exclude_none=True, warnings=False, by_alias=by_alias))
    if callable(to_list := getattr(value, "tolist", None)):
        return plain(to_list())  # NumPy numbers and arrays, as a space samples them
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: plain(item) for name, item in fields.items() if item is not None}
    if isinstance(value, Iterable):
        # pydantic keeps a field of type `Iterable` as a lazy iterator.
        return [plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} is neither a dictionary nor an SDK object")


def as_list(value: Any) -> list[Any]:
    """Return a sequence as a list, and any other value (text included) as a list of one."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]


def rest_of(data: Mapping[str, Json], *known: str) -> dict[str, Json]:
    """Return the fields of `data` that are neither in `known` nor None."""
    return {key: value for key, value in data.items() if key not in known and value is not None}


def details_of(usage: Mapping[str, Json], read: Collection[tuple[str, ...]]) -> dict[str, Json]:
    """Return the counts of a provider's `usage` that are not at the paths `read`, as the `extra` of a `Usage`.

    Counts of zero and empty objects are left out.
    """
    details = _without(usage, read, ())
    return {"details": details} if details else {}


def _without(value: Json, read: Collection[tuple[str, ...]], path: tuple[str, ...]) -> Json:
    if not isinstance(value, Mapping):
        return value
    rest = {key: _without(item, read, (*path, key)) for key, item in value.items() if (*path, key) not in read}
    return {key: item for key, item in rest.items() if item not in (None, 0, {}, [])}


def object_at(data: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    """Return the object at `name`, an empty one if it is missing or None; raise MessageError for another value."""
    value = data.get(name)
    if value is None or isinstance(value, Mapping):
        return value or {}
    raise MessageError(f"{name} must be an object, not {shown(value)}")


def list_at(data: Mapping[str, Json], name: str, kind: type | tuple[type, ...] = object) -> list[Any]:
    """Return the list at `name`, an empty one if it is missing or None.

    Raises:
        MessageError: The value is not a list, or one of its entries is not of the type `kind`.
    """
    value = data.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise MessageError(f"{name} must be a list, not {shown(value)}")
    for place, item in enumerate(value):
        if not isinstance(item, kind) or (isinstance(item, bool) and kind is not object):
            raise MessageError(f"{name}[{place}] has the wrong type: {shown(item)}")
    return value


def text_at(data: Mapping[str, Json], name: str) -> str | None:
    """Return the text at `name`, or None; raise MessageError for another value."""
    value = data.get(name)
    if value is None or isinstance(value, str):
        return value
    raise MessageError(f"{name} must be text, not {shown(value)}")


def shown(value: Any) -> str:
    """Return the beginning of a value's `repr`, or its type where it cannot be shown."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deeply"
    except ValueError:  # Python writes integers of up to 4,300 digits
        return f"a value of type {type(value).__name__} with an integer of too many digits"
    return text if len(text) <= 200 else text[:200] + "..."


def json_text(value: Json) -> str:
    """Return text unchanged, and any other value as JSON text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def integer(data: Any, *path: str) -> int | None:
    """Return the integer at `path` inside `data`; None if it is something else or missing."""
    data = _at(data, path)
    return data if isinstance(data, int) and not isinstance(data, bool) else None


def number(data: Any, *path: str) -> float | None:
    """Return the number at `path` inside `data`; None if it is something else, beyond a float's range, or missing."""
    data = _at(data, path)
    if isinstance(data, bool) or not isinstance(data, (int, float)):
        return None
    return float(data) if abs(data) <= sys.float_info.max or not isinstance(data, int) else None


def _at(data: Any, path: Iterable[str]) -> Any:
    for name in path:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data
