"""Rows as Arrow and Parquet: explicit types always, nothing inferred, one row group in memory at a time."""

from __future__ import annotations

import os
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from openreward_gym import jsonio
from openreward_gym.errors import RecordError
from openreward_gym.export.json_columns import column_bytes
from openreward_gym.export.options import Compat

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset, Features

Row: TypeAlias = dict[str, Any]
Columns: TypeAlias = Mapping[str, str]
"""The columns of a format and their kinds.

text, int, float, bool   a value or None
texts, ids, floats       a list of texts, of token ids, of floats
messages                 the result of `Format.cells`; "json": a list of `Json`; "string": a list of structs
tools                    tool definitions or None; "json": a list of `Json`; "string": one JSON string
objects                  a list of JSON values: a list of `Json`, or of JSON strings
object                   a JSON object or None: `Json`, or a JSON string
images                   a list of image files' bytes
verl_...                 the structs of verl's tables
"""

_ROWS_PER_GROUP = 250
# Readers decode a row group at a time.
_BYTES_PER_GROUP = 8 << 20
_BYTES_PER_FILE = 500 << 20
# Offsets into Arrow's text columns have 32 bits.
_MAX_TEXT_BYTES = 2**31 - 1


def features_of(columns: Columns, compat: Compat) -> Features:
    """Return the `datasets.Features` of a table."""
    from datasets import Features, Image, Json, List, Value

    text = Value("string")
    function = {"name": text, "arguments": text}
    message = {
        "role": text,
        "content": text,
        "reasoning_content": text,
        "tool_calls": List({"id": text, "type": text, "function": function}),
        "tool_call_id": text,
        "name": text,
    }
    as_json = compat == "json"
    kinds = {
        "text": text,
        "int": Value("int64"),
        "float": Value("float64"),
        "bool": Value("bool"),
        "texts": List(text),
        "ids": List(Value("int32")),
        "floats": List(Value("float64")),
        "messages": List(Json()) if as_json else List(message),
        "tools": List(Json()) if as_json else text,
        "objects": List(Json()) if as_json else List(text),
        "object": Json() if as_json else text,
        "images": List(Image()),
        "verl_messages": List({"role": text, "content": text}),
        "verl_turns": List({"role": text, "content": text, "reasoning_content": text}),
        "verl_reward": {"style": text, "ground_truth": text},
        "verl_extra": {
            "split": text,
            "index": Value("int64"),
            "task_id": text,
            "need_tools_kwargs": Value("bool"),
            "tools": text,
            "task_spec": text,
        },
    }
    return Features({name: kinds[kind] for name, kind in columns.items()})


def _column_of(kind: str, compat: Compat) -> _TextLists | _Values:
    """Return an empty column of a kind (see `Columns`)."""
    if compat == "json":
        if kind == "messages":
            return _TextLists(list)
        if kind in ("tools", "objects"):
            return _TextLists(_remember_last(lambda value: list(map(column_bytes, value))))
    encoders: dict[str, Callable[[Any], Any]] = {
        "text": jsonio.escape_surrogates,
        "ids": lambda value: np.asarray(value, dtype=np.int32),
        "images": lambda value: [{"bytes": item, "path": None} for item in value],
        "tools": _remember_last(jsonio.dumps),
        "objects": lambda value: list(map(jsonio.dumps, value)),
        "object": column_bytes if compat == "json" else jsonio.dumps,
    }
    return _Values(encoders.get(kind, lambda value: value))


class _TextLists:
    """A column of lists of UTF-8 texts. It keeps one bytes object per row: many small objects are slow to keep and to copy."""

    def __init__(self, encode: Callable[[Any], list[bytes]]) -> None:
        self._encode = encode
        self._clear()

    def _clear(self) -> None:
        self._rows: list[bytes] = []
        self._lengths = array("q")
        self._counts = array("q")
        self._missing: list[int] = []

    def add(self, value: Any) -> int:
        """Add a row's value, None for a missing one, and return about how many bytes it takes."""
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
        """Return all values as an array, and empty the column."""
        import pyarrow as pa

        data = b"".join(self._rows)
        if len(data) > _MAX_TEXT_BYTES:
            raise RecordError(
                f"a few rows have {len(data):,} bytes of text, but a table takes 2 GiB at most: leave them out (where=...)"
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


class _Values:
    """A column of values that Arrow takes as `encode` returns them."""

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
    """Return roughly how many bytes a cell takes. Images, ids and texts of messages are the large ones."""
    if isinstance(cell, (str, bytes)):
        return len(cell)
    if isinstance(cell, np.ndarray):
        return cell.nbytes
    if not isinstance(cell, list):
        return 8
    if cell and isinstance(cell[0], dict):
        return sum(len(item.get("bytes") or item.get("content") or "") + 200 for item in cell)
    return sum(len(item) if isinstance(item, (str, bytes)) else 8 for item in cell)


def _remember_last(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap `encode` to return the last result again for the same object: rollouts of an environment share their tools."""
    last: list[Any] = [None, None]

    def encoded(value: Any) -> Any:
        if value is not last[0]:
            last[:] = value, encode(value)
        return last[1]

    return encoded


def _batches(rows: Iterable[Row], columns: Columns, compat: Compat, features: Features) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches that fit into memory. Each cell is encoded as it comes, and no row is kept."""
    import pyarrow as pa

    schema = features.arrow_schema
    named = [(name, _column_of(kind, compat)) for name, kind in columns.items()]
    count = size = 0

    def batch() -> pa.RecordBatch:
        arrays = [column.take(field.type) for (_, column), field in zip(named, schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    for row in rows:
        count += 1
        for name, column in named:
            size += column.add(row.get(name))
        if count == _ROWS_PER_GROUP or size >= _BYTES_PER_GROUP:
            yield batch()
            count = size = 0
    if count:
        yield batch()


def write_parquet(rows: Iterable[Row], columns: Columns, compat: Compat, folder: Path, for_hub: bool) -> list[Path]:
    """Write rows to `folder/train-00000-of-0000N.parquet` and return the files, at least one, when all rows are written.

    `for_hub` writes chunks of which the Hub stores each once.
    """
    features = features_of(columns, compat)
    schema = features.arrow_schema
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Path] = []
    writer: pq.ParquetWriter | None = None

    def next_file() -> pq.ParquetWriter:
        if writer is not None:
            writer.close()
        parts.append(folder / f".train-{len(parts):05d}.{os.getpid()}.part")
        return _open_parquet(parts[-1], schema, for_hub)

    try:
        writer = next_file()
        written = 0
        for batch in _batches(rows, columns, compat, features):
            if written >= _BYTES_PER_FILE:
                writer, written = next_file(), 0
            writer.write_batch(batch, row_group_size=batch.num_rows)
            written += batch.nbytes
        writer.close()
    except BaseException:
        if writer is not None:
            writer.close()
        for part in parts:
            part.unlink(missing_ok=True)
        raise
    for old in folder.glob("train-*-of-*.parquet"):
        old.unlink()
    files = [folder / f"train-{number:05d}-of-{len(parts):05d}.parquet" for number in range(len(parts))]
    for part, file in zip(parts, files, strict=True):
        part.replace(file)
    return files


def _open_parquet(path: Path, schema: pa.Schema, for_hub: bool) -> pq.ParquetWriter:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def holds_ids(kind: pa.DataType) -> bool:
        return bool(pa.types.is_list(kind) and pa.types.is_int32(kind.value_type))

    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        # Long texts do not repeat within a row group: dictionaries cost time and make it bigger.
        use_dictionary=False,
        # The high bytes of token ids are nearly all the same.
        column_encoding={f"{field.name}.list.element": "BYTE_STREAM_SPLIT" for field in schema if holds_ids(field.type)},
        # The Hub stores each chunk of content once, over files and versions (to find them takes a sixth of the writing time); a
        # page index lets its viewer seek.
        use_content_defined_chunking=for_hub,
        write_page_index=True,
    )


def write_jsonl(rows: Iterable[Row], folder: Path) -> list[Path]:
    """Write rows to `folder/train.jsonl` and return the file, which appears when all rows are written."""
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / "train.jsonl", folder / f".train.jsonl.{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            for row in rows:
                file.write(jsonio.dumps(row) + b"\n")
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)
    return [path]


def dataset_of(rows: Iterable[Row], columns: Columns, compat: Compat) -> Dataset:
    """Return the rows as a `datasets.Dataset` in memory."""
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, Split

    features = features_of(columns, compat)
    table = pa.Table.from_batches(list(_batches(rows, columns, compat, features)), schema=features.arrow_schema)
    # Without a fingerprint, `datasets` would hash the whole table.
    return Dataset(table, info=DatasetInfo(features=features), split=Split.TRAIN, fingerprint=uuid.uuid4().hex[:16])
