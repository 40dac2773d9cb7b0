"""The archive: every record exactly, beside columns to search by."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.export.conversation import Conversation, ReadImage, is_image
from openreward_gym.export.formats.base import Format, further_columns
from openreward_gym.export.select import rewards_of, tokens_of, turns_of
from openreward_gym.export.source import Record
from openreward_gym.export.tables import Columns, Row
from openreward_gym.types.rollout import Rollout


class Rollouts(Format):
    """One row a rollout. `record`, `messages` and `images` are the record; the other columns repeat what is asked for often."""

    name = "rollouts"
    about = "the archive: every record exactly, with columns to search by"
    statuses = None
    trains = False
    image_column = False

    def columns(self) -> Columns:
        columns = dict.fromkeys(
            ("rollout_id", "run", "name", "environment", "split", "task_id", "group", "model", "status"), "text"
        )
        columns |= dict.fromkeys(("stop_reason", "error", "started_at", "ended_at"), "text")
        columns |= dict.fromkeys(
            ("task_index", "sample", "attempt", "step", "seed", "num_turns", "num_tool_calls", "tokens"), "int"
        )
        columns |= dict.fromkeys(("reward", "final_reward", "advantage"), "float")
        return columns | {
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
        yield archive_row(conversation, self.context.read_image)


def archive_row(conversation: Conversation, read_image: ReadImage) -> Row:
    """The row of a record."""
    original = conversation.original
    record = {key: value for key, value in original.items() if key != "messages"}
    messages, images = _images_moved_out(original.get("messages") or [], read_image)
    shown = further_columns(conversation)
    return {
        **{name: shown[name] for name in ("run", "environment", "split", "task_id", "group", "model", "status", "stop_reason")},
        **{name: shown[name] for name in ("reward", "final_reward")},
        **{name: _int64(shown[name]) for name in ("task_index", "seed")},
        **{name: _int64(original.get(name)) for name in ("sample", "step")},
        "attempt": _int64(original.get("attempt", 0)),
        "rollout_id": original["id"],
        **{name: original.get(name) for name in ("name", "error", "started_at", "ended_at")},
        "advantage": None if original.get("advantage") is None else float(original["advantage"]),
        "rewards": rewards_of(original),
        "num_turns": turns_of(original),
        "num_tool_calls": sum(
            1
            for message in messages
            if message["role"] == "assistant"
            for p in message.get("blocks", ())
            if p["type"] == "tool_call"
        ),
        "tokens": _int64(tokens_of(original)),
        "messages": messages,
        "record": record,
        "image_sha256": list(images),
        "images": list(images.values()),
    }


def _images_moved_out(messages: list[Record], read_image: ReadImage) -> tuple[list[Record], dict[str, bytes]]:
    """(messages without the bytes of images, those bytes by SHA-256); what is no image stays inside its message."""
    images: dict[str, bytes] = {}
    if not any(True for _ in image_parts(messages)):
        return messages, images
    messages = copy.deepcopy(messages)
    for part in image_parts(messages):
        content = read_image(part)
        if content is None:
            continue
        inside = part.get("data")
        text = base64.b64encode(content).decode("ascii")
        if not is_image(content) and inside is None:
            part["data"] = text
            del part["sha256"]
        elif not is_image(content):
            continue
        elif inside is None or inside == text:
            sha256 = hashlib.sha256(content).hexdigest()
            images[sha256] = content
            if inside is not None:
                part.update(data="", sha256_of_data=sha256)
    return messages, images


def image_parts(messages: Iterable[Record]) -> Iterator[Record]:
    return (part for message in messages for part in message.get("blocks", ()) if part.get("type") == "image")


def _int64(value: Any) -> int | None:
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def read_rollouts(path: str | os.PathLike[str]) -> Iterator[Rollout]:
    """The records of an archive, exactly as they were, one in memory at a time.

    The archive's columns are read as text: what `datasets` would make of their numbers does not matter. Images that were
    in a store's folder come inside the rollouts.

    Args:
        path: The folder that `write` made, its `rollouts` folder, or one Parquet file.

    Raises:
        ConfigurationError: There is no archive.
        RecordError: A row is not a rollout.
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
    record: Record = _loads(row["record"])
    messages = [_loads(message) for message in row["messages"]]
    contents = dict(zip(row.get("image_sha256") or (), (image["bytes"] for image in row.get("images") or ()), strict=True))
    for part in image_parts(messages):
        if "sha256_of_data" in part:
            part["data"] = base64.b64encode(contents[part.pop("sha256_of_data")]).decode("ascii")
        elif part.get("data") is None and part.get("sha256") in contents:
            part["data"] = base64.b64encode(contents[part.pop("sha256")]).decode("ascii")
    if messages:
        record["messages"] = messages
    return record


def _loads(text: Any) -> Any:
    return json.loads(text) if isinstance(text, str) else text
