"""Anthropic messages: blocks in turns of user and assistant, the system prompt beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from openreward_gym.chat.pieces import blocks_in, given_back, kept, opaque, prompt_and_turns, total
from openreward_gym.chat.plain import as_list, integer, plain, rest_of
from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Json,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Role,
    Sampled,
    TextBlock,
    ToolCall,
    ToolResult,
    Usage,
)

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


def from_anthropic(messages: Any, *, system: Any = None) -> list[Message]:
    """Messages of a conversation: one, a list of them, or a whole `Message` answer, as dicts or SDK objects.

    Blocks of unknown types (what runs at the provider) are kept as `OpaqueBlock`s.

    Args:
        messages: What is read.
        system: The system prompt, text or blocks; None for none.

    Raises:
        ValueError: A role is not of this format.
        TypeError: It is no message at all.
    """
    found = [_message(item) for item in as_list(plain(messages))]
    if system is not None:
        found.insert(0, Message("system", tuple(_blocks(plain(system)))))
    return found


def _message(data: Json) -> Message:
    if not isinstance(data, Mapping):
        raise TypeError(f"a message is a dictionary or an SDK's object, not {type(data).__name__}")
    role = data.get("role")
    if role not in _ROLES:
        raise ValueError(f"a message's role is user, assistant or system, not {role!r}")
    blocks = _blocks(data.get("content"))
    if role != "assistant":
        return Message(_ROLES[role], tuple(blocks), detail=rest_of(data, "role", "content") or None)
    rest = rest_of(data, "role", "content", "type", "model", "stop_reason", "usage")
    usage = data.get("usage")
    sampled = Sampled(_usage(usage) if usage else None, data.get("stop_reason"), model=data.get("model"), metadata=rest or None)
    return AssistantMessage(blocks, sampled=None if sampled == Sampled() else sampled)


def _usage(usage: Json) -> Usage:
    cached = integer(usage, "cache_read_input_tokens")
    # Anthropic counts what it read from or wrote to its cache apart from the other input.
    return Usage(
        total(integer(usage, "input_tokens"), cached, integer(usage, "cache_creation_input_tokens")),
        integer(usage, "output_tokens"),
        cached,
        integer(usage, "output_tokens_details", "thinking_tokens"),
    )


def _blocks(content: Json) -> list[Block]:
    return blocks_in(content, block_of)


def block_of(data: Json) -> Block:
    """One block of a message's content."""
    if isinstance(data, str):
        return TextBlock(data)
    if not isinstance(data, Mapping):
        return opaque(data)
    kind = data.get("type")
    if kind == "text" and isinstance(data.get("text"), str):
        return TextBlock(data["text"], extra=kept("anthropic", rest_of(data, "type", "text")))
    if kind == "thinking":
        rest = rest_of(data, "type", "thinking", "signature")
        return ReasoningItem(data.get("thinking"), signature=data.get("signature"), extra=kept("anthropic", rest))
    if kind == "redacted_thinking":
        return ReasoningItem(content_reference=data.get("data"), extra=kept("anthropic", {"type": kind}))
    if kind == "tool_use" and isinstance(data.get("name"), str):
        rest = rest_of(data, "type", "id", "name", "input")
        arguments = data.get("input")
        given = dict(arguments) if isinstance(arguments, Mapping) else {} if arguments is None else None
        text = None if given is not None else str(arguments)
        return ToolCall(data["name"], given, str(data.get("id") or ""), text, extra=kept("anthropic", rest))
    if kind == "tool_result":
        content = data.get("content")
        rest = rest_of(data, "type", "tool_use_id", "content", "is_error")
        return ToolResult(
            content if isinstance(content, str) else _blocks(content),
            str(data.get("tool_use_id") or ""),
            is_error=bool(data.get("is_error")),
            extra=kept("anthropic", rest),
        )
    source = data.get("source")
    if kind == "image" and isinstance(source, Mapping) and source.get("type") == "base64" and isinstance(source.get("data"), str):
        rest = rest_of(data, "type", "source")
        return ImageBlock(source["data"], str(source.get("media_type", "image/png")), extra=kept("anthropic", rest))
    return opaque(data)


def to_anthropic(messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
    """(system prompt, `messages`); neighbouring turns of one side become one, as the API wants them.

    The system prompt is None where there is no system message; several are joined by a blank line.
    """

    def write(message: Message) -> list[dict[str, Json]]:
        return [to_block(block) for block in message.blocks]

    return prompt_and_turns(messages, write, assistant_role="assistant", content_field="content")


def to_block(block: Block) -> dict[str, Json]:
    """One block in Anthropic's form."""
    if isinstance(block, OpaqueBlock):
        return dict(block.raw)
    rest = given_back(block, "anthropic")
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text, **rest}
    if isinstance(block, ImageBlock):
        return {"type": "image", "source": {"type": "base64", "media_type": block.mime_type, "data": block.data}, **rest}
    if isinstance(block, ToolCall):
        return {"type": "tool_use", "id": block.call_id, "name": block.name, "input": dict(block.arguments or {}), **rest}
    if isinstance(block, ToolResult):
        content = block.content if isinstance(block.content, str) else [to_block(part) for part in block.blocks]
        error = {"is_error": True} if block.is_error else {}
        return {"type": "tool_result", "tool_use_id": block.call_id, "content": content, **error, **rest}
    if rest.get("type") == "redacted_thinking":
        return {"type": "redacted_thinking", "data": block.content_reference}
    if block.signature is not None:
        return {"type": "thinking", "thinking": block.content or "", "signature": block.signature, **rest}
    # Thoughts of another model carry no signature, and the API refuses thinking without one.
    return {"type": "text", "text": block.content or block.summary or ""}
