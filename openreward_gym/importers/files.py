"""Files of records: JSON lines, a JSON array, JSON objects over many lines, or Parquet; plain, or packed with gzip or zstd."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Literal, NamedTuple, TypeAlias, cast

from openreward_gym.chat.plain import plain
from openreward_gym.errors import StoreError
from openreward_gym.jsonio import Json, dumps, loads
from openreward_gym.store.files import FREE_BYTES, MOST_RATIO, Unpacked, open_regular

_BOM = b"\xef\xbb\xbf"
_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_SPACE = re.compile(r"[\s,]*")
_Line: TypeAlias = tuple[int, bytes | str]
_BUFFER = 1 << 18
_MAX_HEAD_LINES = 20
"""Number of lines that are read to tell JSON lines, with a damaged first line, from other files."""


class Record(NamedTuple):
    """A record of a file.

    Attributes:
        number: Its line, or its number in a file that does not have a record per line; from 1.
        value: The record; None where it cannot be read.
        content: The bytes that its id is derived from.
        reason: Why it cannot be read; empty where it can.
        unit: What `number` counts.
    """

    number: int
    value: Json
    content: bytes
    reason: str = ""
    unit: Literal["line", "record"] = "line"


def read_file(path: str | os.PathLike[str], is_record: Callable[[list[Json]], bool] | None = None) -> Iterator[Record]:
    """Yield the records of a file. Lines and Parquet are streamed; a JSON array, or objects over many lines, are read whole.

    Args:
        path: The file. Its form is told from its content, not from its name.
        is_record: Tells whether a JSON array that is the whole file is one record, not an array of records; by default it
            never is.

    Raises:
        StoreError: The file cannot be opened.
    """
    if _start(path) == _PARQUET:
        yield from _parquet(path)
        return
    with open_file(path) as file:
        numbered = _numbered(file)
        head = list(itertools.islice(numbered, _MAX_HEAD_LINES))
        form = _form([line for _, line in head if isinstance(line, bytes)])
        source: Iterable[_Line] = itertools.chain(head, numbered)
        if form == "whole":
            source = list(source)
            records = list(_whole(b"".join(line for _, line in source if isinstance(line, bytes)), is_record))
            if not (records and records[0].reason and any(_is_object(line) for _, line in source[1:])):
                yield from records
                yield from (_record(number, line) for number, line in source[-1:] if isinstance(line, str))
                return
        for number, line in source:
            if form == "other" and isinstance(line, bytes):
                begin = line.strip()[:40].decode("utf-8", "backslashreplace")
                yield Record(1, None, b"", f"neither JSON nor JSON lines: the file begins with {begin!r}")
                return
            yield _record(number, line)


def _record(number: int, line: bytes | str) -> Record:
    if isinstance(line, str):
        return Record(number, None, b"", f"the file ends here: {line}")
    try:
        return Record(number, loads(line), line.rstrip(b"\r\n"))
    except ValueError as error:
        return Record(number, None, b"", f"not JSON: {error}")


def open_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file to read its bytes, unpacked if it is packed with gzip or zstd.

    Raises:
        StoreError: The file cannot be opened.
    """
    try:
        start = _start(path)
        if start.startswith(_GZIP):
            packed = _open(path)
            return io.BufferedReader(Unpacked(cast(IO[bytes], gzip.GzipFile(fileobj=packed)), packed, path), _BUFFER)
        if start == _ZSTD:
            # A heavy import, which only these files need.
            import pyarrow

            packed = _open(path)
            return io.BufferedReader(Unpacked(pyarrow.CompressedInputStream(packed, "zstd"), packed, path), _BUFFER)
        return _open(path)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_beside(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file that stands beside others, or that a record names.

    Raises:
        FileNotFoundError: There is no such file.
        StoreError: It is no regular file, or cannot be opened.
        OSError, ValueError: It cannot be read, or its name is no file's.
    """
    with _open(path) as file:
        return file.read()


def _start(path: str | os.PathLike[str]) -> bytes:
    try:
        with _open(path) as file:
            return file.read(4)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error


def _open(path: str | os.PathLike[str]) -> IO[bytes]:
    # Folders of downloaded data sets are full of links.
    return open_regular(os.path.realpath(path))


def _numbered(file: Iterable[bytes]) -> Iterator[_Line]:
    """Yield (number, line); of a file that cannot be read to its end, last the reason as text."""
    number = 0
    try:
        for number, line in enumerate(file, 1):
            content = line.removeprefix(_BOM) if number == 1 else line
            if content.strip():
                yield number, content
    except (OSError, EOFError, zlib.error) as error:
        yield number + 1, str(getattr(error, "strerror", None) or error)


def _form(head: list[bytes]) -> Literal["lines", "whole", "other"]:
    """Tell a file's form from its first lines."""
    first = head[0] if head else b""
    try:
        return "whole" if isinstance(loads(first), list) and len(head) == 1 else "lines"
    except ValueError:
        # A line that was torn off rarely ends where JSON over many lines breaks.
        if first.startswith(b"[") or (first.startswith(b"{") and first.rstrip().endswith((b"{", b"[", b",", b":"))):
            return "whole"
    if any(map(_is_object, head)):
        return "lines"
    return "whole" if first.lstrip().startswith((b"[", b"{")) else "other"


def _is_object(line: bytes | str) -> bool:
    """Return whether a line is a JSON object that begins in its first column."""
    if isinstance(line, str) or not line.startswith(b"{"):
        return False
    try:
        loads(line)
    except ValueError:
        return False
    return True


def _whole(data: bytes, is_record: Callable[[list[Json]], bool] | None) -> Iterator[Record]:
    """Yield the records of an array, or of objects of which each has many lines."""
    number = 0
    for value, reason in _values(data):
        items = value if isinstance(value, list) and not (is_record is not None and is_record(value)) else [value]
        for item in items:
            number += 1
            yield Record(number, item, b"" if reason else dumps(item), reason, "record")


def _values(data: bytes) -> Iterator[tuple[Json, str]]:
    """Yield (value, "") of the JSON values one after another, and (None, reason) where the text is not JSON."""
    try:
        yield loads(data), ""
        return
    except ValueError as error:
        reason = f"not JSON: {error}"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        yield None, reason
        return
    # The values before the damage can be read, those in an array too.
    decoder = json.JSONDecoder()
    position = _SPACE.match(text.removeprefix("[")).end() + text.startswith("[")  # type: ignore[union-attr]
    while position < len(text) and text[position] != "]":
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            yield None, reason
            return
        yield value, ""
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
    if text.startswith("["):
        yield None, reason


def _parquet(path: str | os.PathLike[str]) -> Iterator[Record]:
    # A heavy import, which only these files need.
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        table = pyarrow.parquet.ParquetFile(path)
        if (reason := _too_large(table.metadata, os.path.getsize(path))) is not None:
            yield Record(1, None, b"", reason, "record")
            return
        batches = table.iter_batches(batch_size=256)
        for row in (row for batch in batches for row in batch.to_pylist()):
            number += 1
            value = _without_nulls(plain(row))
            yield Record(number, value, dumps(value), unit="record")
    except (OSError, TypeError, pyarrow.ArrowException) as error:
        reason = f"cannot be read as Parquet from here: {' '.join(str(error).split())}"
        yield Record(number + 1, None, b"", reason, "record")


def _too_large(metadata: Any, packed_bytes: int) -> str | None:
    """Return why a Parquet file is not read, if it would unpack to something much larger than itself."""
    # Equal values take no room in a file: rows are counted too.
    unpacked = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    if max(unpacked, metadata.num_rows) <= max(FREE_BYTES, MOST_RATIO * packed_bytes):
        return None
    return f"unpacks to more than {MOST_RATIO} times its size, as only bombs do: not read"


def _without_nulls(value: Json) -> Json:
    # A struct of Parquet has the fields of all structs of its column; those that it does not use are null.
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
