"""What chat messages in OpenAI's format cannot say of a message of ours, kept beside the fields of the format.

Providers differ in what a turn may hold: a signature of reasoning (Anthropic), items with ids (Responses), text after a call.
A chat message in OpenAI's format keeps such things under the key `openreward`, and only where there are any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from openreward_gym.jsonio import Json
from openreward_gym.types import Message, Sampled, ToolCall, codec

M = TypeVar("M", bound=Message)

BESIDE = "openreward"
"""The key of a chat message that holds what the format has no field for."""

_PROVIDERS = ("openai", "anthropic", "gemini")
_FIELDS = ("role", "blocks", "call_id", "name", "is_error", "metadata")


def losses(message: Message, read: Message) -> dict[str, Json]:
    """Return what a message has and `read`, made from its chat message, lacks. Empty where both are the same conversation.

    Args:
        message: The message.
        read: What a reader makes of its chat message.

    Example:
        >>> from openreward_gym.types import AssistantMessage, ReasoningItem
        >>> losses(AssistantMessage([ReasoningItem("Hm.", signature="s1")]), AssistantMessage(reasoning="Hm."))
        {'role': 'assistant', 'blocks': [{'type': 'reasoning', 'content': 'Hm.', 'signature': 's1'}]}
    """
    own, other = _spoken(message), _spoken(read)
    return {} if own == other else codec.write(own)


def restored(read: M, beside: Mapping[str, Json]) -> M | Message:
    """Return a message as it was before it was written, from a chat message and what is kept beside. Unknown data is ignored."""
    field = beside.get("reasoning_field")
    if isinstance(field, str):
        read = read.replace(sampled=replace(read.sampled or Sampled(), metadata={"reasoning_field": field}))
    if "role" not in beside:
        return read
    try:
        spoken = codec.read_as(Message, {name: beside[name] for name in _FIELDS if name in beside})
    except (codec.FieldError, RecursionError):
        return read
    return spoken.replace(sampled=read.sampled)


def _spoken(message: Message) -> Message:
    """Return a message with those fields alone that dialects write: of the metadata, what a provider's message had."""
    metadata: dict[str, Any] = {}
    if isinstance(message.metadata, Mapping) and message.origin not in ("environment", "client"):
        metadata = {name: message.metadata[name] for name in _PROVIDERS if name in message.metadata}
        if message.role == "system" and message.metadata.get("role") == "developer":
            metadata["role"] = "developer"
    return Message(
        message.role,
        tuple(_written_call(block) if isinstance(block, ToolCall) else block for block in message.blocks),
        call_id=(message.call_id or "") if message.role == "tool" else None,
        name=message.name or None,
        is_error=message.is_error,
        metadata=metadata or None,
    )


def _written_call(call: ToolCall) -> ToolCall:
    """Return a call with the text of its arguments, which is all that a chat message has of them."""
    return call if call.content is not None else replace(call, content=call.arguments_json)
