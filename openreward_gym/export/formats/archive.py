"""The archive: every record exactly, beside columns to search by."""

from __future__ import annotations

import base64
import copy
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from openreward_gym import jsonio
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.conversation import Conversation, ReadImage
from openreward_gym.export.formats.base import Format, extra_columns
from openreward_gym.export.reader import Annotations, Record, is_model_turn, num_turns_of, number_of, rewards_of, tokens_of
from openreward_gym.export.reasons import RECORD_FINDINGS
from openreward_gym.export.tables import Columns, Row
from openreward_gym.images import is_raster
from openreward_gym.types import Rollout


class Archive(Format):
    """One row per rollout. `record`, `messages` and `images` are the record; the other columns repeat often needed values."""

    name = "rollouts"
    about = "the archive: every record exactly, with columns to search by"
    statuses = None
    trains = False
    image_column = False
    remarks = RECORD_FINDINGS

    def columns(self) -> Columns:
        return {
            **dict.fromkeys(("rollout_id", "run", "name", "environment", "split", "task_id", "group", "model", "status"), "text"),
            **dict.fromkeys(("stop_reason", "error", "started_at", "ended_at"), "text"),
            **dict.fromkeys(("task_index", "sample", "attempt", "step", "seed"), "int"),
            **dict.fromkeys(("num_turns", "num_tool_calls", "tokens"), "int"),
            **dict.fromkeys(("reward", "final_reward", "advantage"), "float"),
            "rewards": "floats",
            "messages": "objects",
            "record": "object",
            "image_sha256": "texts",
            "images": "images",
        }

    def all_columns(self) -> Columns:
        return self.columns()

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        original = conversation.original
        messages, images = _move_images_out(original.get("messages") or [], self.context.read_image)
        turn_blocks = (message.get("blocks", ()) for message in messages if is_model_turn(message))
        row = {
            **extra_columns(conversation.record, Annotations()),
            **{name: original.get(name) for name in ("name", "error", "started_at", "ended_at", "sample", "step")},
            "rollout_id": original["id"],
            "attempt": original.get("attempt", 0),
            "advantage": number_of(original.get("advantage")),
            "rewards": rewards_of(original),
            "num_turns": num_turns_of(original),
            "num_tool_calls": sum(block["type"] == "tool_call" for blocks in turn_blocks for block in blocks),
            "tokens": tokens_of(original),
            "messages": messages,
            "record": {key: value for key, value in original.items() if key != "messages"},
            "image_sha256": list(images),
            "images": list(images.values()),
        }
        yield {name: _int64(row[name]) if kind == "int" else row[name] for name, kind in self.columns().items()}


def _int64(value: Any) -> int | None:
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def _move_images_out(messages: list[Record], read_image: ReadImage) -> tuple[list[Record], dict[str, bytes]]:
    """Return the messages without the bytes of images, and those bytes by SHA-256. Data of other kinds stay in their message."""
    images: dict[str, bytes] = {}
    if next(image_blocks(messages), None) is None:
        return messages, images
    messages = copy.deepcopy(messages)
    for block in image_blocks(messages):
        content = read_image(block)
        if content is None:
            continue
        inside = block.get("data")
        text = base64.b64encode(content).decode("ascii")
        if not is_raster(content):
            if not inside:
                block["data"] = text
                del block["sha256"]
        elif not inside or inside == text:
            sha256 = hashlib.sha256(content).hexdigest()
            images[sha256] = content
            if inside:
                block.update(data="", sha256_of_data=sha256)
    return messages, images


def image_blocks(messages: Iterable[Record]) -> Iterator[Record]:
    """Yield the image blocks of a record's messages."""
    return (block for message in messages for block in message.get("blocks", ()) if block.get("type") == "image")


def read_rollouts(path: str | os.PathLike[str]) -> Iterator[Rollout]:
    """Read the records of an archive exactly as they were, one in memory at a time.

    The archive's columns are read as text, so that the number parsing of `datasets` does not matter. Images that were in a
    store's folder come inside the rollouts.

    Args:
        path: The folder that `write` made, its `rollouts` folder, or one Parquet file.

    Raises:
        ConfigurationError: The path has no archive.
        RecordError: A row is not a valid record.
    """
    import pyarrow.parquet as pq

    files = _files(Path(path))

    def read() -> Iterator[Rollout]:
        for file in files:
            with pq.ParquetFile(file) as parquet:
                wanted = [name for name in ("record", "messages", "image_sha256", "images") if name in parquet.schema_arrow.names]
                for batch in parquet.iter_batches(batch_size=64, columns=wanted):
                    for row in batch.to_pylist():
                        yield Rollout.from_dict(_record_of(row))

    return read()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for folder in (path / "rollouts", path):
        files = sorted(folder.glob("*.parquet"))
        if files:
            return files
    raise ConfigurationError(f"{path} has no archive: write one with export.write(..., formats=['rollouts'])")


def _record_of(row: dict[str, Any]) -> Record:
    record: Record = _parse(row["record"])
    messages = [_parse(message) for message in row["messages"]]
    contents = dict(zip(row.get("image_sha256") or (), (image["bytes"] for image in row.get("images") or ()), strict=True))
    for block in image_blocks(messages):
        key = "sha256_of_data" if "sha256_of_data" in block else "sha256"
        if not block.get("data") and block.get(key) in contents:
            block["data"] = base64.b64encode(contents[block.pop(key)]).decode("ascii")
    if messages:
        record["messages"] = messages
    return record


def _parse(text: Any) -> Any:
    return jsonio.loads(text) if isinstance(text, str) else text
