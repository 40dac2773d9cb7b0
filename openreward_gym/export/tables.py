"""Rows as Arrow and Parquet: explicit types always, nothing inferred, one row group per split in memory at a time."""

from __future__ import annotations

import os
import uuid
from array import array
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from openreward_gym import jsonio
from openreward_gym.errors import RecordError
from openreward_gym.export.json_columns import column_bytes
from openreward_gym.export.options import Compat
from openreward_gym.export.splits import TRAIN, split_order

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


class _Batch:
    """Rows that become one record batch. Each cell is encoded as it comes, and no row is kept."""

    def __init__(self, columns: Columns, compat: Compat, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns = [(name, _column_of(kind, compat)) for name, kind in columns.items()]
        self._count = self._size = 0

    def add(self, row: Row) -> pa.RecordBatch | None:
        """Add a row; return the batch when it is full."""
        self._count += 1
        for name, column in self._columns:
            self._size += column.add(row.get(name))
        return self.take() if self._count == _ROWS_PER_GROUP or self._size >= _BYTES_PER_GROUP else None

    def take(self) -> pa.RecordBatch | None:
        """Return the rows since the last batch; None without any."""
        import pyarrow as pa

        if not self._count:
            return None
        self._count = self._size = 0
        arrays = [column.take(field.type) for (_, column), field in zip(self._columns, self._schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


class _ParquetSplit:
    """The files of one split, which get their names when all rows are written.

    The thread of `worker` compresses one batch while the next one is made.
    """

    def __init__(
        self, folder: Path, split: str, batch: _Batch, open_file: Callable[[Path], pq.ParquetWriter], worker: Executor
    ) -> None:
        self._folder = folder
        self._split = split
        self._batch = batch
        self._open_file = open_file
        self._worker = worker
        self._writing: Future[None] | None = None
        self._writer: pq.ParquetWriter | None = None
        self._written = 0
        self.parts: list[Path] = []

    def add(self, row: Row) -> None:
        batch = self._batch.add(row)
        if batch is not None:
            self._write(batch)

    def _write(self, batch: pa.RecordBatch) -> None:
        self._wait()
        if self._writer is None or self._written >= _BYTES_PER_FILE:
            self._next_file()
        assert self._writer is not None
        self._writing = self._worker.submit(self._writer.write_batch, batch, row_group_size=batch.num_rows)
        self._written += batch.nbytes

    def _wait(self) -> None:
        """Wait until the last batch is in the file. Raises the error of its writing."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _next_file(self) -> None:
        self.close()
        self.parts.append(self._folder / f".{self._split}-{len(self.parts):05d}.{os.getpid()}.part")
        self._writer, self._written = self._open_file(self.parts[-1]), 0

    def finish(self) -> None:
        """Write the last rows. A split without rows gets a file, too."""
        batch = self._batch.take()
        if batch is not None:
            self._write(batch)
        elif not self.parts:
            self._next_file()
        self.close()

    def close(self) -> None:
        try:
            self._wait()
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def publish(self) -> list[Path]:
        """Give the files their names, and return them."""
        count = len(self.parts)
        files = [self._folder / f"{self._split}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
        for part, file in zip(self.parts, files, strict=True):
            part.replace(file)
        return files


def write_parquet(
    rows: Iterable[tuple[str, Row]], columns: Columns, compat: Compat, folder: Path, for_hub: bool
) -> dict[str, list[Path]]:
    """Write rows, each with its split, to `folder/SPLIT-00000-of-0000N.parquet`; return the files by split.

    The files appear when all rows are written. Without rows there is an empty one of the split `train`.

    Args:
        for_hub: Whether to write chunks of which the Hub stores each once.
    """
    schema = features_of(columns, compat).arrow_schema
    folder.mkdir(parents=True, exist_ok=True)
    splits: dict[str, _ParquetSplit] = {}
    worker = ThreadPoolExecutor(1, thread_name_prefix="openreward-gym-export")

    def split_of(name: str) -> _ParquetSplit:
        if name not in splits:
            batch = _Batch(columns, compat, schema)
            splits[name] = _ParquetSplit(folder, name, batch, lambda path: _open_parquet(path, schema, for_hub), worker)
        return splits[name]

    try:
        for name, row in rows:
            (splits.get(name) or split_of(name)).add(row)
        for split in splits.values() or [split_of(TRAIN)]:
            split.finish()
    except BaseException:
        for split in splits.values():
            with suppress(Exception):  # the error that is raised is the first one
                split.close()
            for part in split.parts:
                part.unlink(missing_ok=True)
        raise
    finally:
        worker.shutdown()
    return {name: splits[name].publish() for name in sorted(splits, key=split_order)}


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


def write_jsonl(rows: Iterable[tuple[str, Row]], folder: Path) -> dict[str, list[Path]]:
    """Write rows, each with its split, to `folder/SPLIT.jsonl`; return the files by split.

    The files appear when all rows are written. Without rows there is an empty one of the split `train`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, BinaryIO] = {}
    with ExitStack() as stack:

        def file_of(split: str) -> BinaryIO:
            if split not in files:
                files[split] = stack.enter_context((folder / f".{split}.jsonl.{os.getpid()}.part").open("wb"))
            return files[split]

        try:
            for split, row in rows:
                (files.get(split) or file_of(split)).write(jsonio.dumps(row, non_finite="text") + b"\n")
            if not files:
                file_of(TRAIN)
        except BaseException:
            for file in files.values():
                Path(file.name).unlink(missing_ok=True)
            raise
    written = {split: folder / f"{split}.jsonl" for split in sorted(files, key=split_order)}
    for split, path in written.items():
        Path(files[split].name).replace(path)
    return {split: [path] for split, path in written.items()}


def datasets_of(rows: Iterable[tuple[str, Row]], columns: Columns, compat: Compat) -> dict[str, Dataset]:
    """Return the rows of each split as a `datasets.Dataset` in memory; without rows, an empty one of the split `train`."""
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, NamedSplit

    features = features_of(columns, compat)
    schema = features.arrow_schema
    splits: dict[str, tuple[_Batch, list[pa.RecordBatch]]] = {}
    for name, row in rows:
        if name not in splits:
            splits[name] = (_Batch(columns, compat, schema), [])
        batch, batches = splits[name]
        full = batch.add(row)
        if full is not None:
            batches.append(full)
    datasets = {}
    for name in sorted(splits, key=split_order) or [TRAIN]:
        batch, batches = splits.get(name) or (_Batch(columns, compat, schema), [])
        last = batch.take()
        table = pa.Table.from_batches([*batches, *([last] if last is not None else [])], schema=schema)
        # Without a fingerprint, `datasets` would hash the whole table.
        info, fingerprint = DatasetInfo(features=features), uuid.uuid4().hex[:16]
        datasets[name] = Dataset(table, info=info, split=NamedSplit(name), fingerprint=fingerprint)
    return datasets
