"""A rollout in pieces: large ones are sent as they are read, and not as a whole."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import orjson

from openreward_gym.errors import ConfigurationError, RecordError
from openreward_gym.redaction import without_tokens
from openreward_gym.types.rollout import SCHEMA, Rollout
from openreward_gym.viewer.index import NotFoundError, RolloutPlace, RunIndex
from openreward_gym.viewer.rows import objects_in, parse_record
from openreward_gym.viewer.running import RUNNING_LENGTH

LARGE_BYTES = 2_000_000
"""Size of the line of a rollout from which on it is sent in pieces."""
PIECE_BYTES = 1_000_000
"""Bytes of messages in a piece; a piece has at least one message."""
LONGEST_TEXT = 250_000
"""Characters of a text that a piece holds; `text` gives the rest."""
TEXT_PART = 4_000_000
"""The largest number of characters in an answer of `text`."""
MEMORY_BYTES = 200_000_000
"""Bytes of lines whose parsed records are kept."""

_BEGINNING = 120


class LargeRecords:
    """The parsed records of the large rollouts that were opened last."""

    def __init__(self) -> None:
        self._records: OrderedDict[RolloutPlace, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, index: RunIndex, place: RolloutPlace, rollout_id: str) -> dict[str, Any]:
        """Return the record at a place.

        Raises:
            StoreError: The file cannot be read.
            RecordError: The line is not a valid rollout.
        """
        with self._lock:  # of several requests for one rollout, the first one reads it
            if place not in self._records:
                line = index.read(place)
                index.remember(rollout_id, place, line)
                self._records[place] = _parsed(line)
                while len(self._records) > 1 and sum(one.length for one in self._records) > MEMORY_BYTES:
                    self._records.popitem(last=False)
            self._records.move_to_end(place)
            return self._records[place]


def _parsed(line: bytes) -> Any:
    """Return a large record. Its messages are validated when they are sent, because that takes most of the time."""
    try:
        record = orjson.loads(line)
    except ValueError:
        record = orjson.loads(Rollout.from_line(line).to_line().encode("utf-8", "backslashreplace"))
    messages = record.get("messages") if isinstance(record, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        Rollout.from_line(line)
        raise RecordError("not a rollout: its messages are not a list of objects")
    Rollout.from_dict({**record, "messages": []})
    return record


def record_at(index: RunIndex, large: LargeRecords, place: RolloutPlace, rollout_id: str) -> dict[str, Any]:
    """Return the record of a large or a running rollout."""
    if place.length == RUNNING_LENGTH:
        record = index.running(place).record()
        Rollout.from_dict({**record, "messages": []})
        return record
    return large.get(index, place, rollout_id) if place.length > LARGE_BYTES else parse_record(index.read(place))


def piece(record: Mapping[str, Any], first: int, *, tokens: bool = False) -> tuple[list[bytes], int | None]:
    """Return messages from a number on as JSON, and the number of the next one; None at the end.

    Raises:
        RecordError: One of the messages is not valid.
    """
    messages: list[bytes] = []
    sent: list[dict[str, Any]] = []
    size, following = 0, None
    every = objects_in(record.get("messages"))
    for number in range(first, len(every)):
        message = cut(every[number], tokens=tokens)
        data = orjson.dumps(message)
        if messages and size + len(data) > PIECE_BYTES:
            following = number
            break
        messages.append(data)
        sent.append(message)
        size += len(data)
    Rollout.from_dict({"schema": SCHEMA, "status": "running", "messages": sent})  # validates the types that the page relies on
    return messages, following


def cut(message: dict[str, Any], *, tokens: bool = False) -> dict[str, Any]:
    """Return a message with its long texts cut, and without recorded tokens.

    A block with cut texts has `cut`, their lengths by field. `sampled` has `left_out` if it had tokens, and their count.
    """
    blocks = [_cut_block(block) if isinstance(block, dict) else block for block in message.get("blocks") or ()]
    result = {**message, "blocks": blocks}
    sampled = message.get("sampled")
    if not tokens and isinstance(sampled, dict):
        short = without_tokens(sampled)
        if short != sampled:
            ids = sampled.get("token_ids")
            result["sampled"] = {**short, "left_out": {"tokens": len(ids) if isinstance(ids, list) else None}}
    return result


def _cut_block(block: dict[str, Any]) -> dict[str, Any]:
    long = {name: len(text) for name in ("text", "content", "summary") if len(text := _text_in(block, name)) > LONGEST_TEXT}
    if not long:
        return block
    result = {**block, **{name: _text_in(block, name)[:LONGEST_TEXT] for name in long}, "cut": long}
    if "content" in long and "arguments" in block:
        result["arguments"] = None
    return result


def _text_in(block: Mapping[str, Any], name: str) -> str:
    text = block.get(name)
    if name == "content" and text is None and block.get("arguments") is not None:
        return orjson.dumps(block["arguments"], default=str).decode()
    return text if isinstance(text, str) else ""


def outline(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a table of contents needs of each message."""
    entries = []
    for message in objects_in(record.get("messages")):
        blocks = objects_in(message.get("blocks"))
        texts = [text for block in blocks for name in ("text", "content") if isinstance(text := block.get(name), str)]
        tools = [block.get("name") for block in blocks if block.get("type") == "tool_call"]
        entry = {
            "role": message.get("role"),
            "origin": message.get("origin"),
            "tools": tools or None,
            "is_error": message.get("is_error") or None,
            "reward": message.get("reward"),
            "text": " ".join(texts[0][: 4 * _BEGINNING].split())[:_BEGINNING] if texts else None,
            "length": sum(map(len, texts)),
        }
        entries.append({name: value for name, value in entry.items() if value is not None})
    return entries


def text(record: Mapping[str, Any], message: int, block: int, field: str, first: int, length: int) -> dict[str, Any]:
    """Return a part of a text: `{"text", "next", "total"}`; `next` is None at the end.

    Raises:
        NotFoundError: The rollout has no such text.
        ConfigurationError: Blocks have no such field.
    """
    if field not in ("text", "content", "summary"):
        raise ConfigurationError(f"the texts of a block are text, content and summary, not {field[:40]!r}")
    messages = objects_in(record.get("messages"))
    blocks = messages[message].get("blocks") if message < len(messages) else None
    found = blocks[block] if isinstance(blocks, list) and block < len(blocks) else None
    if not isinstance(found, dict):
        raise NotFoundError("There is no such block in this rollout.")
    whole = _text_in(found, field)
    end = first + min(length or TEXT_PART, TEXT_PART)
    return {"text": whole[first:end], "next": end if end < len(whole) else None, "total": len(whole)}
