"""Blocks and messages, read from the wire's JSON and written to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from openreward_gym.protocol.wire.exact_json import expected
from openreward_gym.types import (
    Block,
    ImageBlock,
    Json,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Role,
    TextBlock,
    ToolCall,
    ToolResult,
)

# The fields that this version knows.
_TEXT = frozenset(("type", "text", "detail"))
_IMAGE = frozenset(("type", "data", "mimeType", "detail"))
_REASONING = frozenset(("type", "text", "signature", "detail"))
_TOOL_CALL = frozenset(("type", "id", "name", "input", "detail"))
_TOOL_RESULT = frozenset(("type", "tool_call_id", "blocks", "is_error", "detail"))
_MESSAGE = frozenset(("role", "blocks", "detail"))


def read_blocks(value: Json) -> tuple[Block, ...]:
    """The blocks of a prompt, an output or a message.

    Raises:
        ProtocolError: It is not a list of objects.
    """
    if not isinstance(value, list):
        raise expected("a list of blocks", got=value)
    return tuple([_read_block(raw) for raw in value])


def _read_block(raw: Json) -> Block:
    if not isinstance(raw, dict):
        raise expected("a block", got=raw)
    kind = raw.get("type")
    detail = raw.get("detail")
    if kind == "text" and isinstance(raw.get("text"), str):
        return TextBlock(raw["text"], detail, unknown_fields(raw, _TEXT))
    if kind == "image" and isinstance(raw.get("data"), str):
        mime_type = raw.get("mimeType")
        return ImageBlock(
            raw["data"],
            mime_type if isinstance(mime_type, str) else "image/png",
            detail,
            unknown_fields(raw, _IMAGE),
        )
    if kind == "reasoning" and isinstance(raw.get("text"), str):
        signature = raw.get("signature")
        return ReasoningItem(
            raw["text"],
            signature=signature if isinstance(signature, str) else None,
            detail=detail,
            extra=unknown_fields(raw, _REASONING),
        )
    if kind == "tool_call" and isinstance(raw.get("name"), str) and isinstance(raw.get("input"), dict):
        return ToolCall(
            raw["name"],
            raw["input"],
            str(raw.get("id") or ""),
            detail=detail,
            extra=unknown_fields(raw, _TOOL_CALL),
        )
    if kind == "tool_result" and isinstance(raw.get("blocks"), list):
        return ToolResult(
            read_blocks(raw["blocks"]),
            str(raw.get("tool_call_id") or ""),
            is_error=bool(raw.get("is_error")),
            detail=detail,
            extra=unknown_fields(raw, _TOOL_RESULT),
        )
    return OpaqueBlock(raw)


def read_messages(value: Json) -> tuple[Message, ...]:
    """The role-tagged messages of `/messages`.

    Raises:
        ProtocolError: It is not a list of messages.
    """
    if not isinstance(value, list):
        raise expected("a list of messages", got=value)
    return tuple([_read_message(raw) for raw in value])


def _read_message(raw: Json) -> Message:
    role: Json = raw.get("role") if isinstance(raw, dict) else None
    if role not in ("system", "user", "assistant", "tool"):
        raise expected("a message with a role", got=raw)
    checked: Role = role
    return Message(
        checked, read_blocks(raw.get("blocks")), metadata=raw.get("detail"), extra=unknown_fields(raw, _MESSAGE)
    )


def encode_messages(messages: Iterable[Message]) -> list[Json]:
    """`messages` as the wire has them: tool results ride in user turns, there is no role `tool`."""
    return [
        {
            **message.extra,
            "role": "user" if message.role == "tool" else message.role,
            "blocks": [_encode_block(block) for block in message.blocks],
            "detail": message.detail,
        }
        for message in messages
    ]


def _encode_block(block: Block) -> Json:
    if isinstance(block, OpaqueBlock):
        return dict(block.raw)
    fields: dict[str, Json]
    if isinstance(block, TextBlock):
        fields = {"text": block.text}
    elif isinstance(block, ImageBlock):
        fields = {"data": block.data, "mimeType": block.mime_type}
    elif isinstance(block, ReasoningItem):
        fields = {"text": block.content or block.summary or "", "signature": block.signature}
    elif isinstance(block, ToolCall):
        fields = {"id": block.call_id, "name": block.name, "input": dict(block.arguments or {})}
    else:
        fields = {
            "tool_call_id": block.call_id,
            "blocks": [_encode_block(inner) for inner in block.blocks],
            "is_error": block.is_error,
        }
    return {**block.extra, "type": block.type, **fields, "detail": block.detail}


def flatten_messages(messages: Sequence[Message]) -> tuple[Block, ...]:
    """A conversation as the blocks of one prompt, as the reference server writes it for those who ask for `/prompt`."""
    if len(messages) == 1 and messages[0].role == "user" and all(b.type in ("text", "image") for b in messages[0].blocks):
        return messages[0].blocks
    blocks: list[Block] = []
    for message in messages:
        blocks.append(TextBlock(f"[{message.role}]", {"role": message.role}))
        for block in message.blocks:
            if isinstance(block, ReasoningItem):
                blocks.append(TextBlock(f"<think>{block.content}</think>", {"type": "reasoning"}))
            elif isinstance(block, ToolCall):
                text = f"[tool_call {block.name}] {json.dumps(block.arguments)}"
                blocks.append(TextBlock(text, {"type": "tool_call", "id": block.call_id}))
            elif isinstance(block, ToolResult):
                head = "[tool_result (error)]" if block.is_error else "[tool_result]"
                blocks.append(TextBlock(head, {"type": "tool_result", "tool_call_id": block.call_id}))
                blocks.extend(block.blocks)
            else:
                blocks.append(block)
    return tuple(blocks)


def unknown_fields(raw: dict[str, Json], known: frozenset[str]) -> dict[str, Json]:
    """The fields of `raw` that this version does not know."""
    if raw.keys() <= known:
        return {}
    return {name: value for name, value in raw.items() if name not in known}
