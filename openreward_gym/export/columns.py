"""Columns of a table that is being made: values come in one by one, and go out as Arrow arrays."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from openreward_gym.errors import RecordError
from openreward_gym.export import exact

if TYPE_CHECKING:
    import pyarrow as pa

Compat: TypeAlias = Literal["json", "string"]

# Offsets into Arrow's text columns have 32 bits.
_MOST_BYTES = 2**31 - 1


class Column(Protocol):
    """A column of a row group."""

    def add(self, value: Any) -> int:
        """Add a row's value, None for none; returns about how many bytes it has."""

    def take(self, kind: pa.DataType) -> pa.Array:
        """All values as an array; the column is empty afterwards."""


def column_of(kind: str, compat: Compat) -> Column:
    """An empty column of a kind (see `openreward_gym.export.tables`)."""
    if compat == "json":
        if kind == "messages":
            return TextLists(list)
        if kind in ("tools", "objects"):
            return TextLists(_remembered(lambda value: list(map(exact.column_bytes, value))))
    encoders: dict[str, Callable[[Any], Any]] = {
        "text": exact.clean,
        "ids": lambda value: np.asarray(value, dtype=np.int32),
        "images": lambda value: [{"bytes": item, "path": None} for item in value],
        "tools": _remembered(exact.encode_bytes),
        "objects": lambda value: list(map(exact.encode_bytes, value)),
        "object": exact.column_bytes if compat == "json" else exact.encode_bytes,
    }
    return Values(encoders.get(kind, lambda value: value))


class TextLists:
    """Lists of UTF-8 texts, kept as one run of bytes for each row: many small objects are slow to keep and to copy."""

    def __init__(self, encode: Callable[[Any], list[bytes]]) -> None:
        self._encode = encode
        self._clear()

    def _clear(self) -> None:
        self._rows: list[bytes] = []
        self._lengths = array("q")
        self._counts = array("q")
        self._missing: list[int] = []

    def add(self, value: Any) -> int:
        if value is None:
            self._missing.append(len(self._counts))
            self._counts.append(0)
            return 1
        texts = self._encode(value)
        row = b"".join(texts)
        self._rows.append(row)
        self._lengths.extend(map(len, texts))
        self._counts.append(len(texts))
        return len(row)

    def take(self, kind: pa.DataType) -> pa.Array:
        import pyarrow as pa

        data = b"".join(self._rows)
        if len(data) > _MOST_BYTES:
            raise RecordError(
                f"{len(data):,} bytes of text in a few rows: a table takes 2 GiB at most, leave them out by `where`"
            )
        texts = pa.StringArray.from_buffers(len(self._lengths), pa.py_buffer(_offsets(self._lengths)), pa.py_buffer(data))
        offsets = _offsets(self._counts)
        if self._missing:
            missing = np.zeros(len(offsets), dtype=bool)
            missing[self._missing] = True
            lists = pa.ListArray.from_arrays(pa.array(offsets, mask=missing), texts)
        else:
            lists = pa.ListArray.from_arrays(offsets, texts)
        self._clear()
        return lists.cast(kind)


def _offsets(lengths: array[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(np.frombuffer(lengths, dtype=np.int64), out=offsets[1:])
    return offsets


class Values:
    """Values that Arrow takes as they are, or as `encode` makes them."""

    def __init__(self, encode: Callable[[Any], Any]) -> None:
        self._encode = encode
        self._cells: list[Any] = []

    def add(self, value: Any) -> int:
        cell = None if value is None else self._encode(value)
        self._cells.append(cell)
        return _size_of(cell)

    def take(self, kind: pa.DataType) -> pa.Array:
        import pyarrow as pa

        cells, self._cells = self._cells, []
        if isinstance(kind, pa.BaseExtensionType):
            return pa.array(cells, type=kind.storage_type).cast(kind)
        return pa.array(cells, type=kind)


def _size_of(cell: Any) -> int:
    """Roughly, and cheap: what is big is images, ids and messages' texts."""
    if isinstance(cell, (str, bytes)):
        return len(cell)
    if isinstance(cell, np.ndarray):
        return cell.nbytes
    if not isinstance(cell, list):
        return 8
    if cell and isinstance(cell[0], dict):
        return sum(len(item.get("bytes") or item.get("content") or "") + 200 for item in cell)
    return sum(len(item) if isinstance(item, (str, bytes)) else 8 for item in cell)


def _remembered(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`encode`, which asked about the same object again gives the same cell: rollouts of an environment share their tools."""
    last: list[Any] = [None, None]

    def encoded(value: Any) -> Any:
        if value is not last[0]:
            last[:] = value, encode(value)
        return last[1]

    return encoded
