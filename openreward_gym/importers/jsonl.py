"""Records of other systems: their conversion to rollouts, and the reasons why a record cannot be read."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from openreward_gym.errors import StoreError
from openreward_gym.importers.files import lines, open_file, read_file
from openreward_gym.importers.grouping import GroupBy
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import Rollout, ToolSpec

__all__ = [
    "UNREADABLE",
    "GroupBy",
    "checked",
    "convert_each",
    "files_of",
    "identity",
    "lines",
    "open_file",
    "read_file",
    "read_lines",
    "reason_of",
    "tool_of",
]

T = TypeVar("T")

UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
"""The errors that reading another system's object may raise, which may have any shape."""


def files_of(path: str | os.PathLike[str], pattern: str, missing: str) -> list[Path]:
    """Return the file at `path`, or the files of a folder that match `pattern`, by name; raise StoreError if none exists."""
    place = Path(path)
    files = sorted(place.glob(pattern)) if place.is_dir() else [place]
    if not files or not place.exists():
        raise StoreError(f"{path}: {missing}")
    return files


def read_lines(
    path: str | os.PathLike[str],
    convert: Callable[[dict[str, Json], str], Rollout | list[Rollout]],
    group_by: GroupBy | None = None,
    is_record: Callable[[list[Json]], bool] | None = None,
) -> Iterator[Rollout | Damage]:
    """Yield a rollout for each record of a file (see `read_file`), or a Damage for a record that cannot be read.

    Args:
        path: The file.
        convert: Makes a rollout, or several, from a record and an id. The id is derived from the record and its number, so that
            reading the file again gives the same ids.
        group_by: Groups the rollouts; None for the groups that `convert` gives them.
        is_record: Tells whether a JSON array is a record. `convert` gets it as the object `{"messages": array}`.
    """
    for number, value, content, reason, unit in read_file(path, is_record):
        if isinstance(value, list) and is_record is not None and is_record(value):
            value = {"messages": value}
        if not reason and not isinstance(value, dict):
            reason = f"not a record: a JSON {type(value).__name__}, not an object"
        if reason:
            yield Damage(number, reason, os.fspath(path), unit=unit)
            continue
        try:
            converted = convert(value, identity(content, number))
            rollouts = [checked(one) for one in (converted if isinstance(converted, list) else [converted])]
        except UNREADABLE as error:
            yield Damage(number, reason_of(error), os.fspath(path), unit=unit)
        else:
            yield from rollouts if group_by is None else (group_by.apply(one, value) for one in rollouts)


def convert_each(
    records: Iterable[tuple[int, T]],
    convert: Callable[[int, T], Rollout],
    source: str | os.PathLike[str],
    group_by: GroupBy | None = None,
) -> Iterator[Rollout | Damage]:
    """Yield a rollout for each (number, record), or a Damage, which names the `source`, for a record that cannot be read."""
    for number, record in records:
        try:
            rollout = checked(convert(number, record))
        except UNREADABLE as error:
            yield Damage(number, reason_of(error), os.fspath(source))
        else:
            yield rollout if group_by is None else group_by.apply(rollout, record)


def checked(rollout: Rollout) -> Rollout:
    """Return a rollout as it will be read from a run; raise RecordError if a value has a wrong type."""
    return Rollout.from_line(rollout.to_line())


def reason_of(error: Exception) -> str:
    """Return the reason why a record cannot be read. The text of a KeyError is only the name of the missing key."""
    if isinstance(error, KeyError):
        return f"no field {error}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)[:500] or type(error).__name__


def identity(content: bytes, number: int) -> str:
    """Return an id for a record without one: the same id for the same record of the same file."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number}:{hashlib.sha256(content).hexdigest()}"))


def tool_of(tool: Mapping[str, Json]) -> ToolSpec:
    """Read a tool of OpenAI's formats: its name, description and parameters, which may be inside `function` or `custom`."""
    function = tool if "name" in tool else tool.get("function") or tool.get("custom") or tool
    return ToolSpec(
        function["name"], function.get("description") or "", function.get("parameters") or function.get("input_schema")
    )
