"""Rows as Arrow and Parquet: explicit types always, nothing inferred, a row group at a time in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from openreward_gym.export import exact
from openreward_gym.export.columns import Compat, column_of

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, Features

Row: TypeAlias = dict[str, Any]
Columns: TypeAlias = dict[str, str]
"""The columns of a format and their kinds.

text, int, float, bool   a value or None
texts, ids, floats       a list of texts, of token ids, of floats
messages                 what `message_cells` makes of chat messages; "json": a list of `Json`; "string": a list of structs
tools                    tool definitions or None; "json": a list of `Json`; "string": one JSON string
objects                  a list of JSON values: a list of `Json`, or of JSON strings
object                   a JSON object or None: `Json`, or a JSON string
images                   a list of image files' bytes
verl_...                 the structs of verl's table
"""

ROWS_A_GROUP = 250
# Arrow's text columns end at 2 GiB, and readers decode a row group at a time.
_BYTES_A_GROUP = 8 << 20
_BYTES_A_FILE = 500 << 20


def features_of(columns: Columns, compat: Compat) -> Features:
    """The `datasets.Features` of a table."""
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


class RowGroup:
    """Rows as columns of cells, encoded as they come: no row is held, which spares memory and the garbage collector."""

    def __init__(self, columns: Columns, compat: Compat, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns = [(name, column_of(kind, compat)) for name, kind in columns.items()]
        self.rows = 0
        self.size = 0

    def add(self, row: Row) -> None:
        """Add a row; `size` grows by about its bytes."""
        self.rows += 1
        for name, column in self._columns:
            self.size += column.add(row.get(name))

    def take(self) -> pa.RecordBatch:
        """The rows as one batch of Arrow arrays; the group is empty afterwards."""
        import pyarrow as pa

        arrays = [column.take(field.type) for (_, column), field in zip(self._columns, self._schema, strict=True)]
        self.rows = self.size = 0
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def batches(rows: Iterable[Row], columns: Columns, compat: Compat, features: Features) -> Iterator[pa.RecordBatch]:
    """The rows in batches of a size that memory and readers bear."""
    group = RowGroup(columns, compat, features.arrow_schema)
    for row in rows:
        group.add(row)
        if group.rows == ROWS_A_GROUP or group.size >= _BYTES_A_GROUP:
            yield group.take()
    if group.rows:
        yield group.take()


def write_parquet(
    rows: Iterable[Row], columns: Columns, compat: Compat, folder: Path, split: str, *, for_hub: bool = False
) -> tuple[int, list[Path]]:
    """Write rows to `folder/split-00000-of-0000N.parquet`; returns their number and the files.

    The files appear when all rows are written. There is one file, without rows, where there are none.
    """

    features = features_of(columns, compat)
    schema = features.arrow_schema
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Path] = []
    count, written = 0, 0
    writer = None
    try:
        for batch in batches(rows, columns, compat, features):
            if writer is None or written >= _BYTES_A_FILE:
                if writer is not None:
                    writer.close()
                parts.append(folder / f".{split}-{len(parts):05d}.{os.getpid()}.part")
                writer, written = _open_parquet(parts[-1], schema, for_hub), 0
            writer.write_batch(batch, row_group_size=batch.num_rows)
            written += batch.nbytes
            count += batch.num_rows
        if writer is None:
            parts.append(folder / f".{split}-{0:05d}.{os.getpid()}.part")
            writer = _open_parquet(parts[-1], schema, for_hub)
        writer.close()
    except BaseException:
        if writer is not None:
            writer.close()
        for part in parts:
            part.unlink(missing_ok=True)
        raise
    for old in folder.glob(f"{split}-*-of-*.parquet"):
        old.unlink()
    files = [folder / f"{split}-{number:05d}-of-{len(parts):05d}.parquet" for number in range(len(parts))]
    for part, file in zip(parts, files, strict=True):
        part.replace(file)
    return count, files


def _open_parquet(path: Path, schema: pa.Schema, for_hub: bool) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        # Long texts do not repeat within a row group: dictionaries cost time and make it bigger.
        use_dictionary=False,
        # Token ids: their high bytes are nearly all the same.
        column_encoding={
            f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in schema.names if _holds_ids(schema.field(name).type)
        },
        # The Hub stores each chunk of content once, over files and versions (finding them is a sixth of the writing); a page
        # index lets its viewer seek.
        use_content_defined_chunking=for_hub,
        write_page_index=True,
    )


def _holds_ids(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) and pa.types.is_int32(kind.value_type))


def write_jsonl(rows: Iterable[Row], folder: Path, split: str) -> tuple[int, list[Path]]:
    """Write rows to `folder/split.jsonl`; returns their number and the file, which appears when all are written."""
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / f"{split}.jsonl", folder / f".{split}.jsonl.{os.getpid()}.part"
    count = 0
    try:
        with part.open("wb") as file:
            for row in rows:
                file.write(exact.encode_bytes(row) + b"\n")
                count += 1
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)
    return count, [path]


def dataset_of(rows: Iterable[Row], columns: Columns, compat: Compat) -> Dataset:
    """The rows as a `datasets.Dataset` in memory."""
    import uuid

    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, Split

    features = features_of(columns, compat)
    table = pa.Table.from_batches(list(batches(rows, columns, compat, features)), schema=features.arrow_schema)
    # Without a fingerprint of ours, `datasets` would hash the whole table.
    return Dataset(table, info=DatasetInfo(features=features), split=Split.TRAIN, fingerprint=uuid.uuid4().hex[:16])


def write_json(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
