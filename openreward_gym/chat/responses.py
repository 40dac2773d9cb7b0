"""OpenAI responses: a flat list of items, in and out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from openreward_gym.chat.pieces import (
    assistant,
    blocks_in,
    data_url,
    given_back,
    image_of_url,
    kept,
    opaque,
    written_arguments,
    written_role,
)
from openreward_gym.chat.plain import as_list, integer, json_text, plain, rest_of
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
    text_of,
)

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_TEXTS = ("input_text", "output_text", "text")


def from_openai_responses(items: Any) -> list[Message]:
    """Items of a response: one, a list of them (input or output), or a whole `Response`, as dicts or SDK objects.

    Items that the assistant said one after the other (reasoning, text, calls, and tools that run at the provider) become
    one assistant's message. Items and parts of unknown types are kept as `OpaqueBlock`s of the assistant.

    Raises:
        TypeError: It is no item at all.
    """
    data = plain(items)
    if isinstance(data, Mapping) and isinstance(data.get("output"), list) and "role" not in data and data.get("type") is None:
        return [_response(data)]
    messages: list[Message] = []
    turn: list[Block] = []

    def end_turn() -> None:
        if turn:
            messages.append(AssistantMessage(turn))
            turn.clear()

    for item in as_list(data):
        if isinstance(item, str):
            item = {"role": "user", "content": item}
        if not isinstance(item, Mapping):
            raise TypeError(f"an item is a dictionary or an SDK's object, not {type(item).__name__}")
        if (message := _turn_of_others(item)) is not None:
            end_turn()
            messages.append(message)
        else:
            turn += blocks_of(item)
    end_turn()
    return messages


def _response(data: Mapping[str, Json]) -> AssistantMessage:
    usage = data.get("usage")
    incomplete = data.get("incomplete_details")
    sampled = Sampled(
        usage=None
        if not usage
        else Usage(
            integer(usage, "input_tokens"),
            integer(usage, "output_tokens"),
            integer(usage, "input_tokens_details", "cached_tokens"),
            integer(usage, "output_tokens_details", "reasoning_tokens"),
        ),
        stop_reason=(incomplete or {}).get("reason") or data.get("status"),
        model=data.get("model"),
        metadata={"id": data["id"]} if data.get("id") else None,
    )
    return assistant([block for item in data["output"] for block in blocks_of(item)], {}, sampled)


def _turn_of_others(item: Mapping[str, Json]) -> Message | None:
    """A message of the system, the user or a tool; None for anything the assistant said."""
    role = item.get("role")
    if item.get("type") in _OUTPUTS:
        return Message("tool", (_tool_result(item),))
    if role not in _ROLES or role == "assistant" or item.get("type", "message") != "message":
        return None
    rest = rest_of(item, "role", "content", "type")
    if role == "developer":
        rest["role"] = role
    return Message(_ROLES[role], tuple(_parts(item.get("content"))), detail=rest or None)


def blocks_of(item: Mapping[str, Json]) -> list[Block]:
    """What one of the assistant's items says."""
    kind = item.get("type")
    if kind in _CALLS and isinstance(item.get("name"), str):
        arguments, text = written_arguments(item.get(_CALLS[kind]))
        rest = rest_of(item, "type", "name", "call_id", _CALLS[kind])
        if kind != "function_call":
            rest["type"] = kind
        return [ToolCall(item["name"], arguments, str(item.get("call_id") or ""), text, extra=kept("openai", rest))]
    if kind == "reasoning":
        return [_reasoning(item)]
    if item.get("role") == "assistant" and kind in (None, "message"):
        # The item's own id and status stay with its first part: so an item is put together again.
        blocks = _parts(item.get("content"))
        rest = rest_of(item, "role", "content", "type")
        if rest and blocks and isinstance(blocks[0], TextBlock):
            first = blocks[0]
            blocks[0] = TextBlock(first.text, first.detail, kept("openai", {**given_back(first, "openai"), "item": rest}))
        return blocks
    return [opaque(item)]


def _reasoning(item: Mapping[str, Json]) -> ReasoningItem:
    content = [part.get("text", "") for part in item.get("content") or () if isinstance(part, Mapping)]
    summary = [part.get("text", "") for part in item.get("summary") or () if isinstance(part, Mapping)]
    rest = rest_of(item, "type", "id", "content", "summary")
    # Several parts are joined for reading, and kept for giving them back.
    if len(content) > 1:
        rest["content"] = item["content"]
    if len(summary) > 1:
        rest["summary"] = item["summary"]
    return ReasoningItem(
        content="\n".join(content) if content else None,
        content_reference=item.get("id"),
        summary="\n".join(summary) if summary else None,
        extra=kept("openai", rest),
    )


def _tool_result(item: Mapping[str, Json]) -> ToolResult:
    output = item.get("output")
    rest = rest_of(item, "type", "call_id", "output")
    if item["type"] != _OUTPUTS[0]:
        rest["type"] = item["type"]
    content = _parts(output) if isinstance(output, list) else json_text(output)
    return ToolResult(content, str(item.get("call_id") or ""), extra=kept("openai", rest))


def _parts(content: Json) -> list[Block]:
    return blocks_in(content, _part)


def _part(part: Json) -> Block:
    if isinstance(part, str):
        return TextBlock(part)
    if isinstance(part, Mapping):
        if part.get("type", "text") in _TEXTS and isinstance(part.get("text"), str):
            rest = {key: value for key, value in rest_of(part, "type", "text").items() if value != []}
            return TextBlock(part["text"], extra=kept("openai", rest))
        if part.get("type") == "input_image":
            return image_of_url(part.get("image_url"), "openai", rest_of(part, "type", "image_url")) or opaque(part)
    return opaque(part)


def to_openai_responses(messages: Iterable[Message]) -> list[dict[str, Json]]:
    """Messages as the `input` items of a response, in order."""
    return [item for message in messages for item in _to_items(message)]


def _to_items(message: Message) -> list[dict[str, Json]]:
    items: list[dict[str, Json]] = []
    parts: list[Block] = []
    role = written_role(message)

    def flush() -> None:
        if parts:
            items.append(_to_message(role, parts))
            parts.clear()

    for block in message.blocks:
        if isinstance(block, TextBlock) and "item" in given_back(block, "openai"):
            flush()
        if (item := _to_item(block)) is None:
            parts.append(block)
        else:
            flush()
            items.append(item)
    flush()
    return items


def _to_item(block: Block) -> dict[str, Json] | None:
    """A block that is an item of its own; None for one that is a part of a message."""
    rest = given_back(block, "openai") if not isinstance(block, OpaqueBlock) else {}
    if isinstance(block, ToolCall):
        kind = str(rest.pop("type", "function_call"))
        return {"type": kind, "call_id": block.call_id, "name": block.name, _CALLS[kind]: block.arguments_json, **rest}
    if isinstance(block, ToolResult):
        content = block.content if isinstance(block.content, str) else [_to_part("user", part) for part in block.blocks]
        return {"type": _OUTPUTS[0], "call_id": block.call_id, "output": content, **rest}
    if isinstance(block, ReasoningItem):
        thought = None if block.content is None else [{"type": "reasoning_text", "text": block.content}]
        summary = [] if block.summary is None else [{"type": "summary_text", "text": block.summary}]
        named = {"type": "reasoning", "id": block.content_reference, "summary": summary, "content": thought, **rest}
        return {name: value for name, value in named.items() if value is not None}
    if isinstance(block, OpaqueBlock) and block.type not in ("refusal", "input_image", "input_file", "input_audio"):
        return dict(block.raw)
    return None


def _to_message(role: str, parts: list[Block]) -> dict[str, Json]:
    rest = given_back(parts[0], "openai").get("item", {}) if isinstance(parts[0], TextBlock) else {}
    return {"type": "message", "role": role, "content": [_to_part(role, part) for part in parts], **rest}


def _to_part(role: str, block: Block) -> dict[str, Json]:
    if isinstance(block, OpaqueBlock):
        return dict(block.raw)
    if isinstance(block, ImageBlock):
        return {"type": "input_image", "image_url": data_url(block), **given_back(block, "openai")}
    kind = "output_text" if role == "assistant" else "input_text"
    rest = rest_of(given_back(block, "openai"), "item") if isinstance(block, TextBlock) else {}
    return {"type": kind, "text": block.text if isinstance(block, TextBlock) else text_of([block]), **rest}
