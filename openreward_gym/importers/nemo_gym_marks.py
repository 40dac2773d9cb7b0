"""The rest of a message beside its items in a row: with both, the message is read exactly as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from openreward_gym.chat import from_openai_responses
from openreward_gym.importers.nemo_gym_items import TOKEN_FIELDS, with_tokens
from openreward_gym.jsonio import Json
from openreward_gym.types import Block, ImageBlock, Message, ReasoningItem, Sampled, TextBlock, ToolCall, codec

_SAMPLED_TOKENS = ("prompt_token_ids", "token_ids", "logprobs")
# The fields of blocks that items have.
_SAID: Mapping[type, tuple[str, ...]] = {
    TextBlock: ("text",),
    ReasoningItem: ("content",),
    ImageBlock: ("data",),
    ToolCall: ("content", "arguments"),
}


def marks_of(messages: Sequence[Message], items: Sequence[Sequence[Json]]) -> list[dict[str, Json]]:
    """Return each message without what its items say: its origin, weight, end, reward and so on, and the number of its items.

    A message that its items and the rest do not make again is there whole, under `message`.
    """
    return [_mark_of(message, own) for message, own in zip(messages, items, strict=True)]


def _mark_of(message: Message, items: Sequence[Json]) -> dict[str, Json]:
    sampled = message.sampled
    if sampled is not None and any(TOKEN_FIELDS[1] in item for item in items):
        in_items: dict[str, Any] = dict.fromkeys(_SAMPLED_TOKENS)
        sampled = replace(sampled, **in_items)
    rest = codec.write(message.replace(blocks=(), sampled=sampled))
    mark = {**rest, "items": len(items), "outline": [_outline(block) for block in message.blocks]}
    return mark if read_marked(items, [mark]) == [message] else {"items": len(items), "message": codec.write(message)}


def _outline(block: Block) -> dict[str, Json]:
    """Return a block without what its item says: its text, its image or its arguments (as text where `content` is true)."""
    outline = {name: value for name, value in codec.write(block).items() if name not in _SAID.get(type(block), ())}
    return {**outline, "content": True} if isinstance(block, ToolCall) and block.content is not None else outline


def read_marked(items: Json, marks: Json) -> list[Message] | None:
    """Read the items of a row that this package wrote with `marks_of`; None where the marks are not of these items."""
    items = items if isinstance(items, list | tuple) else []
    if not isinstance(marks, list) or not all(isinstance(mark, dict) for mark in marks):
        return None
    if sum(int(mark.get("items") or 0) for mark in marks) != len(items):
        return None
    messages, position = [], 0
    for mark in marks:
        own = items[position : position + int(mark["items"])]
        position += len(own)
        if isinstance(mark.get("message"), dict):
            messages.append(codec.read_as(Message, mark["message"]))
            continue
        fields = {name: value for name, value in mark.items() if name not in ("items", "outline")}
        read = with_tokens(from_openai_responses(list(own)), own) if "outline" in mark else []
        if "outline" in mark:
            blocks = _filled(mark["outline"], read)
            if blocks is None:
                return None
            fields["blocks"] = blocks
        message = codec.read_as(Message, fields)
        if read and read[0].sampled is not None:
            tokens = {name: value for name in _SAMPLED_TOKENS if (value := getattr(read[0].sampled, name)) is not None}
            message = message.replace(sampled=replace(message.sampled or Sampled(), **tokens))
        messages.append(message)
    return messages


def _filled(outline: Json, messages: Sequence[Message]) -> list[dict[str, Json]] | None:
    """Return the blocks of an outline with what the items of the message say; None where the outline is not of these items."""
    if not isinstance(outline, list) or len(messages) != 1 or len(outline) != len(messages[0].blocks):
        return None
    blocks = []
    for own, block in zip(outline, messages[0].blocks, strict=True):
        if not isinstance(own, Mapping) or own.get("type") != block.type:
            return None
        said = {name: value for name in _SAID.get(type(block), ()) if (value := getattr(block, name)) is not None}
        if isinstance(block, ToolCall):
            # The item has the arguments as text, whether the record had the text or the object.
            said.pop("arguments" if own.get("content") is True else "content", None)
        blocks.append({**own, **said})
    return blocks
