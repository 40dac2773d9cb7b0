"""Records of other systems: their conversion to rollouts, and the reasons why a record cannot be read."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from openreward_gym.errors import StoreError
from openreward_gym.importers.files import open_file, read_beside, read_file
from openreward_gym.importers.grouping import GroupBy
from openreward_gym.importers.reasons import UNREADABLE, explain, reason_of, wrong
from openreward_gym.jsonio import Json, loads
from openreward_gym.store import Damage
from openreward_gym.store.files import kind_of
from openreward_gym.types import Rollout, ToolSpec

__all__ = [
    "NO_ROWS",
    "GroupBy",
    "checked",
    "convert_each",
    "files_of",
    "identity",
    "open_file",
    "read_file",
    "read_lines",
    "tool_of",
]

T = TypeVar("T")

ROWS = tuple(f"**/*.{ending}{packed}" for ending in ("jsonl", "ndjson", "json", "parquet") for packed in ("", ".gz", ".zst"))
"""The names of files with records in a folder."""

NO_ROWS = "no .jsonl, .json or .parquet file there"
"""What is said of a folder without them."""

_REPORT = "report.json"
# Files that exports and datasets have beside their data.
_BESIDE = (_REPORT, "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


def files_of(
    path: str | os.PathLike[str], missing: str, patterns: Sequence[str] = ROWS, formats: Sequence[str] = ()
) -> list[Path]:
    """Return the file at `path`, or the files of a folder with records, by name.

    Hidden files, and those that stand beside the data of an export or a dataset (its report, its card), are left out.

    Args:
        path: The file or folder.
        missing: What to say of a folder without such files.
        patterns: Patterns of the names of these files, relative to the folder.
        formats: The formats of this package's exports that the importer reads. Of a folder with several exports, only the files
            of these are returned.

    Raises:
        StoreError: There are no such files, or those of several formats, which have the same rollouts.
    """
    place = Path(path)
    if not place.is_dir():
        if not place.exists():
            raise StoreError(f"{path}: cannot be read: No such file or directory")
        if not place.is_file():
            raise StoreError(f"{path}: not a file but {kind_of(place.stat().st_mode)}")
        return [place]
    files = sorted({file for pattern in patterns for file in place.glob(pattern) if _is_data(file, place)})
    left_out: dict[str, None] = {}
    for report in sorted(place.glob(f"**/{_REPORT}")):
        written = _written(report)
        readable = [name for name in formats if name in written and written[name] & {*files}]
        if len(readable) > 1:
            folders = " or ".join(str(report.parent / name) for name in readable)
            raise StoreError(f"{report.parent}: several formats of the same rollouts: name the folder of one, {folders}")
        others = {file for name, own in written.items() if name not in readable for file in own}
        left_out |= dict.fromkeys(name for name in written if name not in readable)
        files = [file for file in files if file not in others]
    if not files and left_out:
        raise StoreError(f"{path}: an export in the format {', '.join(left_out)}, which this importer does not read")
    if not files:
        raise StoreError(f"{path}: {missing}")
    return files


def _is_data(file: Path, folder: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not is_hidden and file.name not in _BESIDE and file.is_file()


def _written(report: Path) -> dict[str, set[Path]]:
    """Return the files that an export wrote in each format, by its report; empty for another file of this name."""
    try:
        formats = loads(read_beside(report))["formats"]
        return {str(name): {report.parent / file for file in entry["files"]} for name, entry in formats.items()}
    except (OSError, *UNREADABLE):
        return {}


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
        row_id = identity(content, number)
        try:
            converted = convert(value, row_id)
            rollouts = [checked(one) for one in (converted if isinstance(converted, list) else [converted])]
        except UNREADABLE as error:
            reason = explain(error, value, lambda row, row_id=row_id: convert(row, row_id))  # type: ignore[misc]
            yield Damage(number, reason, os.fspath(path), unit=unit)
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


def identity(content: bytes, number: int) -> str:
    """Return an id for a record without one: the same id for the same record of the same file."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number}:{hashlib.sha256(content).hexdigest()}"))


def tool_of(tool: Mapping[str, Json]) -> ToolSpec:
    """Read a tool of OpenAI's formats. Its name, description, parameters and `strict` may be inside `function` or `custom`."""
    function = tool if "name" in tool else tool.get("function") or tool.get("custom") or tool
    parameters = function.get("parameters") or function.get("input_schema")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise wrong("tools[].parameters", "an object", parameters)
    strict = {"strict": function["strict"]} if "strict" in function else {}
    return ToolSpec(function["name"], function.get("description") or "", parameters, strict)
