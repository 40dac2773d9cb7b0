"""Rows as Arrow and Parquet: explicit types always, nothing inferred, a row group at a time in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from openreward_gym.export import exact

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, Features

Row: TypeAlias = dict[str, Any]
Columns: TypeAlias = dict[str, str]
"""The columns of a format and their kinds.

text, int, float, bool   a value or None
texts, ids, floats       a list of texts, of token ids, of floats
messages                 chat messages; "json": a list of `Json`; "string": a list of structs with JSON strings inside
tools                    tool definitions or None; "json": a list of `Json`; "string": one JSON string
objects                  a list of JSON values: a list of `Json`, or of JSON strings
object                   a JSON object or None: `Json`, or a JSON string
images                   a list of image files' bytes
verl_...                 the structs of verl's table
"""

Compat: TypeAlias = Literal["json", "string"]

ROWS_A_GROUP = 500
# Arrow's text columns end at 2 GiB, and readers decode a row group at a time.
_BYTES_A_GROUP = 32 << 20
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


def batch_of(rows: list[Row], columns: Columns, compat: Compat, schema: pa.Schema) -> pa.RecordBatch:
    """The rows as one batch of Arrow arrays."""
    import pyarrow as pa

    arrays = []
    for (name, kind), field in zip(columns.items(), schema, strict=True):
        values = [_cell(row.get(name), kind, compat) for row in rows]
        if compat == "json" and kind in ("messages", "tools", "objects"):
            array = pa.array(values, type=pa.list_(pa.string())).cast(field.type)
        elif compat == "json" and kind == "object":
            array = pa.array(values, type=pa.string()).cast(field.type)
        else:
            array = pa.array(values, type=field.type)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _cell(value: Any, kind: str, compat: Compat) -> Any:
    if value is None:
        return None
    if kind in ("messages", "tools", "objects"):
        if compat == "json" and kind == "messages":
            # A message has numbers in its calls alone.
            return [exact.column_text(item) if "tool_calls" in item else exact.encode(item) for item in value]
        if compat == "json":
            return [exact.column_text(item) for item in value]
        if kind == "messages":
            return [plain_message(item) for item in value]
        return exact.encode(value) if kind == "tools" else [exact.encode(item) for item in value]
    if kind == "object":
        return exact.column_text(value) if compat == "json" else exact.encode(value)
    if kind == "images":
        return [{"bytes": item, "path": None} for item in value]
    if kind == "text":
        return exact.clean(value)
    return value


def plain_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of texts alone: arguments as JSON strings, `<image>` where an image is."""
    plain = {**message}
    if isinstance(message["content"], list):
        texts = ["<image>" if part["type"] == "image" else part["text"] for part in message["content"]]
        plain["content"] = "\n".join(texts)
    if "tool_calls" in message:
        plain["tool_calls"] = [with_text_arguments(call) for call in message["tool_calls"]]
    return plain


def with_text_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call whose arguments are a JSON string."""
    function = call["function"]
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else exact.encode(arguments)
    return {**call, "function": {**function, "arguments": text}}


def batches(rows: Iterable[Row], columns: Columns, compat: Compat, features: Features) -> Iterator[pa.RecordBatch]:
    """The rows in batches of a size that memory and readers bear."""
    schema = features.arrow_schema
    waiting: list[Row] = []
    size = 0
    for row in rows:
        waiting.append(row)
        size += _size_of(row)
        if len(waiting) == ROWS_A_GROUP or size >= _BYTES_A_GROUP:
            yield batch_of(waiting, columns, compat, schema)
            waiting, size = [], 0
    if waiting:
        yield batch_of(waiting, columns, compat, schema)


def _size_of(row: Row) -> int:
    """Roughly, and cheap: what is big is images, ids and messages' texts."""
    size = 0
    for value in row.values():
        if isinstance(value, (str, bytes)):
            size += len(value)
        elif isinstance(value, list) and value:
            first = value[0]
            if isinstance(first, dict):
                size += sum(len(content) if isinstance(content := item.get("content"), str) else 512 for item in value)
            else:
                size += sum(len(item) for item in value) if isinstance(first, (str, bytes)) else 8 * len(value)
    return size


def write_parquet(rows: Iterable[Row], columns: Columns, compat: Compat, folder: Path, split: str) -> tuple[int, list[Path]]:
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
                writer, written = _open_parquet(parts[-1], schema), 0
            writer.write_batch(batch, row_group_size=batch.num_rows)
            written += batch.nbytes
            count += batch.num_rows
        if writer is None:
            parts.append(folder / f".{split}-{0:05d}.{os.getpid()}.part")
            writer = _open_parquet(parts[-1], schema)
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


def _open_parquet(path: Path, schema: pa.Schema) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        # Long texts do not repeat within a row group: dictionaries cost time and make it bigger.
        use_dictionary=False,
        # The Hub stores each chunk of content once, over files and versions; a page index lets its viewer seek.
        use_content_defined_chunking=True,
        write_page_index=True,
    )


def write_jsonl(rows: Iterable[Row], folder: Path, split: str) -> tuple[int, list[Path]]:
    """Write rows to `folder/split.jsonl`; returns their number and the file, which appears when all are written."""
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / f"{split}.jsonl", folder / f".{split}.jsonl.{os.getpid()}.part"
    count = 0
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(exact.encode(row) + "\n")
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
