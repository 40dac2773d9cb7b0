"""This package's blocks, messages and outputs as the official client's, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from openreward_gym import types as ours
from openreward_gym.compat.api.environments.types import (
    GroupCandidate,
    ImageBlock,
    Message,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolOutput,
    ToolResultBlock,
)
from openreward_gym.errors import ConfigurationError
from openreward_gym.protocol import wire
from openreward_gym.types.messages import MESSAGE_CLASSES

_ROLES = ("system", "user", "assistant")


def official_blocks(blocks: Iterable[ours.Block]) -> list[Any]:
    """Return blocks as the official client's. One of an unknown type is left out, as there."""
    return [known for block in blocks if (known := _official_block(block)) is not None]


def _official_block(block: ours.Block) -> Any:
    if isinstance(block, ours.TextBlock):
        return TextBlock(block.text, block.detail)
    if isinstance(block, ours.ImageBlock):
        return ImageBlock(block.data, block.mime_type, block.detail)
    if isinstance(block, ours.ReasoningItem):
        return ReasoningBlock(block.content or "", block.signature, block.detail)
    if isinstance(block, ours.ToolCall):
        return ToolCallBlock(block.call_id, block.name, dict(block.arguments or {}), block.detail)
    if isinstance(block, ours.ToolResult):
        return ToolResultBlock(block.call_id, official_blocks(block.blocks), block.is_error, block.detail)
    return None


def official_messages(messages: Iterable[ours.Message]) -> list[Message]:
    """Return messages as the official client's."""
    return [Message(cast(Any, message.role), official_blocks(message.blocks), message.metadata) for message in messages]


def official_output(output: ours.ToolOutput) -> ToolOutput:
    """Return a tool's output as the official client's."""
    return ToolOutput(official_blocks(output.blocks), output.metadata, output.reward, output.finished)


def group_of(candidates: Sequence[GroupCandidate | Sequence[Message]]) -> list[wire.GroupCandidate]:
    """Return the candidates of a group as this package's."""
    group = []
    for candidate in candidates:
        metadata = getattr(candidate, "metadata", None)
        messages: Any = getattr(candidate, "messages", candidate)
        group.append(wire.GroupCandidate([_message(message) for message in messages], metadata))
    return group


def _message(message: Any) -> ours.Message:
    if message.role not in _ROLES:
        raise ConfigurationError(f"{message.role!r} is not the role of a message; choose one of system, user, assistant")
    return MESSAGE_CLASSES[message.role](tuple(map(_block, message.blocks)), metadata=getattr(message, "detail", None))


def _block(block: Any) -> ours.Block:
    """Return a block of the official client's, or one that looks like it, as this package's."""
    kind, detail = getattr(block, "type", "text"), getattr(block, "detail", None)
    if kind == "image":
        return ours.ImageBlock(block.data, block.mimeType, detail)
    if kind == "reasoning":
        return ours.ReasoningItem(block.text, signature=getattr(block, "signature", None), detail=detail)
    if kind == "tool_call":
        return ours.ToolCall(block.name, dict(block.input), block.id, detail=detail)
    if kind == "tool_result":
        is_error = getattr(block, "is_error", False)
        return ours.ToolResult(tuple(map(_block, block.blocks)), block.tool_call_id, is_error=is_error, detail=detail)
    return ours.TextBlock(block.text, detail)
