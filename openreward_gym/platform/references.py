"""Reasoning as the platform names it: each provider's handle of hidden reasoning has a prefix of its own.

The record keeps each handle as the provider wrote it, so that it can be sent back, and the prefix beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from openreward_gym.types import Message, ReasoningItem

RESPONSES = "reasoning"
"""Prefix of the id of a reasoning item of OpenAI's Responses API."""
ANTHROPIC = "anthropic:thinking"
"""Prefix of a signature of Anthropic's thinking; it stands alone where there is no signature."""

_KEY = "reference_prefix"
Fields: TypeAlias = tuple[str | None, str | None, str | None]


def with_prefix(messages: list[Message], prefix: str) -> list[Message]:
    """Return the messages with `prefix` noted at each reasoning block.

    Example:
        >>> message = Message("assistant", (ReasoningItem("Hm", "rs_1"),))
        >>> platform_fields(with_prefix([message], RESPONSES)[0].blocks[0])[2]
        'reasoning:rs_1'
    """
    return [_noted(message, prefix) if _has_reasoning(message) else message for message in messages]


def _has_reasoning(message: Message) -> bool:
    return any(isinstance(block, ReasoningItem) for block in message.blocks)


def _noted(message: Message, prefix: str) -> Message:
    blocks = [
        replace(block, extra={**block.extra, _KEY: prefix}) if isinstance(block, ReasoningItem) else block
        for block in message.blocks
    ]
    return message.replace(blocks=tuple(blocks))


def platform_fields(thought: ReasoningItem) -> Fields:
    """Return the `content`, `summary` and `contentReference` of the platform's event of a reasoning block."""
    prefix, content, summary = thought.extra.get(_KEY), thought.content, thought.summary
    reference = thought.content_reference if thought.content_reference is not None else thought.signature
    if prefix == ANTHROPIC:
        # Redacted thinking has data in place of a signature.
        is_redacted = thought.content_reference is not None
        return content, summary, reference if is_redacted else f"{ANTHROPIC}:{reference}" if reference else ANTHROPIC
    if prefix != RESPONSES:
        return content, summary, reference
    fields = thought.extra.get("openai")
    read = fields if isinstance(fields, Mapping) else {}
    sizes: list[int] = read.get("content") or []
    are_sizes = isinstance(sizes, list) and all(type(size) is int and size >= 0 for size in sizes)
    if content is not None and are_sizes and sum(sizes) == len(content):
        # The parts follow each other without a separator in the record; the platform has each on a line.
        ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
        content = "\n".join(content[end - size : end] for end, size in zip(ends, sizes, strict=True))
    if read.get("field") == "summary":
        content, summary = None, content  # a summary that is the reasoning itself
    return content or "", summary or "", f"{RESPONSES}:{reference}" if reference else None


def reasoning_of(content: str | None, summary: str | None, reference: str | None) -> ReasoningItem:
    """Return the reasoning block of an event's fields: the reverse of `platform_fields`.

    Example:
        >>> reasoning_of("Hm", None, "reasoning:rs_1").content_reference
        'rs_1'
    """
    if not isinstance(reference, str):
        return ReasoningItem(content, reference, summary)
    if reference.startswith(f"{RESPONSES}:"):
        fields = {_KEY: RESPONSES}
        return ReasoningItem(content or None, reference.removeprefix(f"{RESPONSES}:"), summary or None, extra=fields)
    if reference == ANTHROPIC or reference.startswith(f"{ANTHROPIC}:"):
        signature = reference.removeprefix(ANTHROPIC).removeprefix(":") or None
        return ReasoningItem(content, None, summary, signature, extra={_KEY: ANTHROPIC})
    return ReasoningItem(content, reference, summary)
