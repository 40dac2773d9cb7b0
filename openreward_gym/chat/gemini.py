"""Gemini contents: parts in turns of user and model. Dictionaries may use snake_case (the SDK's) or camelCase (REST's)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from openreward_gym.chat.pieces import given_back, kept, opaque, prompt_and_turns, total
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
    text_of,
)

_ROLES: dict[str, Role] = {"user": "user", "model": "assistant", "assistant": "assistant", "function": "tool", "tool": "tool"}
_RESULT_KEYS = ("result", "output", "error")


def from_gemini(contents: Any, *, system: Any = None) -> list[Message]:
    """Turns of a conversation: one `Content`, a list of them, or a whole `GenerateContentResponse` (its first
    candidate), as dicts or SDK objects.

    Parts of unknown types (files, code that ran at the provider) are kept as `OpaqueBlock`s.

    Args:
        contents: What is read.
        system: The system instruction: text, a `Content` or its parts; None for none.

    Raises:
        ValueError: A role is not of this format.
        TypeError: It is no content at all.
    """
    found = [_message(item) for item in as_list(plain(contents))]
    if system is not None:
        given = plain(system)
        parts = given.get("parts") if isinstance(given, Mapping) else given
        found.insert(0, Message("system", tuple(_parts(parts))))
    return found


def _message(data: Json) -> Message:
    if isinstance(data, str):
        return Message("user", (TextBlock(data),))
    if not isinstance(data, Mapping):
        raise TypeError(f"a content is a dictionary or an SDK's object, not {type(data).__name__}")
    if isinstance(data.get("candidates"), list):
        return _answer(data)
    role = data.get("role") or "user"
    if role not in _ROLES:
        raise ValueError(f"a content's role is user or model, not {role!r}")
    blocks = _parts(data.get("parts"))
    if _ROLES[role] == "assistant":
        return AssistantMessage(blocks)
    return Message(_ROLES[role], tuple(blocks), detail=rest_of(data, "role", "parts") or None)


def _answer(data: Mapping[str, Json]) -> AssistantMessage:
    data = _snake(data)
    candidate = _snake(data["candidates"][0]) if data["candidates"] else {}
    usage = _snake(data.get("usage_metadata") or {})
    sampled = Sampled(
        usage=None
        if not usage
        else Usage(
            integer(usage, "prompt_token_count"),
            total(integer(usage, "candidates_token_count"), integer(usage, "thoughts_token_count")),
            integer(usage, "cached_content_token_count"),
            integer(usage, "thoughts_token_count"),
        ),
        stop_reason=candidate.get("finish_reason"),
        model=data.get("model_version"),
        metadata={"id": data["response_id"]} if data.get("response_id") else None,
    )
    return AssistantMessage(_parts((candidate.get("content") or {}).get("parts")), sampled=sampled)


def _snake(data: Mapping[str, Json]) -> dict[str, Json]:
    """`data` with its own keys in snake_case; what is inside stays, as arguments' names are the tool's."""
    return {re.sub(r"(?<=[a-z0-9])[A-Z]", lambda match: "_" + match[0].lower(), key): value for key, value in data.items()}


def _parts(parts: Json) -> list[Block]:
    if parts is None or parts == "":
        return []
    return [block for part in as_list(parts) for block in blocks_of(part)]


def blocks_of(data: Json) -> list[Block]:
    """What one part says; a thought signature stays with what it signs."""
    if isinstance(data, str):
        return [TextBlock(data)] if data else []
    if not isinstance(data, Mapping):
        return [opaque(data)]
    part = _snake(data)
    signature = part.get("thought_signature")
    rest = rest_of(part, "text", "thought", "thought_signature", "function_call", "function_response", "inline_data")
    if part.get("thought"):
        return [ReasoningItem(part.get("text"), signature=signature, extra=kept("gemini", rest))]
    if signature is not None:
        rest["thought_signature"] = signature
    if isinstance(part.get("function_call"), Mapping):
        return [_call(part["function_call"], rest)]
    if isinstance(part.get("function_response"), Mapping):
        return [_tool_result(part["function_response"], rest)]
    inline = part.get("inline_data")
    if isinstance(inline, Mapping):
        inline = _snake(inline)
        if str(inline.get("mime_type", "")).startswith("image/") and isinstance(inline.get("data"), str):
            return [ImageBlock(inline["data"], inline["mime_type"], extra=kept("gemini", rest))]
        return [opaque(data)]
    if isinstance(part.get("text"), str):
        if not part["text"] and signature is not None:
            return [ReasoningItem(signature=signature)]
        return [TextBlock(part["text"], extra=kept("gemini", rest))]
    return [opaque(data)]


def _call(call: Mapping[str, Json], rest: Mapping[str, Json]) -> ToolCall:
    if not isinstance(call.get("name"), str):
        raise ValueError(f"a function call without a name: {json.dumps(call)[:200]}")
    arguments = call.get("args")
    given = dict(arguments) if isinstance(arguments, Mapping) else {} if arguments is None else None
    return ToolCall(
        call["name"],
        given,
        str(call.get("id") or ""),
        None if given is not None else json.dumps(arguments),
        extra=kept("gemini", {**rest, **rest_of(call, "name", "args", "id")}),
    )


def _tool_result(answer: Mapping[str, Json], rest: Mapping[str, Json]) -> ToolResult:
    response = answer.get("response")
    values = dict(response) if isinstance(response, Mapping) else {}
    keys = list(values)
    extra = {**rest, **rest_of(answer, "id", "name", "response")}
    if len(keys) == 1 and keys[0] in _RESULT_KEYS and isinstance(values[keys[0]], str):
        content = values[keys[0]]
        if keys[0] == "output":
            extra["key"] = "output"
    else:
        content = json.dumps(response, ensure_ascii=False)
        extra["response"] = response
    return ToolResult(
        content, str(answer.get("id") or ""), str(answer.get("name") or ""), keys == ["error"], extra=kept("gemini", extra)
    )


def to_gemini(messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
    """(system instruction, `contents`) in snake_case; neighbouring turns of one side become one.

    A function response must name its function: where a result does not, the name is taken from its call.
    """
    names: dict[str, str] = {}

    def write(message: Message) -> list[dict[str, Json]]:
        names.update((block.call_id, block.name) for block in message.blocks if isinstance(block, ToolCall))
        return [_to_part(block, names) for block in message.blocks]

    return prompt_and_turns(messages, write, assistant_role="model", content_field="parts")


def _to_part(block: Block, names: Mapping[str, str]) -> dict[str, Json]:
    if isinstance(block, OpaqueBlock):
        return dict(block.raw)
    rest = given_back(block, "gemini")
    if isinstance(block, TextBlock):
        return {"text": block.text, **rest}
    if isinstance(block, ImageBlock):
        return {"inline_data": {"mime_type": block.mime_type, "data": block.data}, **rest}
    if isinstance(block, ReasoningItem):
        signature = {} if block.signature is None else {"thought_signature": block.signature}
        return {"text": block.content or block.summary or "", "thought": True, **signature, **rest}
    if isinstance(block, ToolCall):
        inner = {key: rest.pop(key) for key in ("partial_args", "will_continue") if key in rest}
        identity = {"id": block.call_id} if block.call_id else {}
        return {"function_call": {**identity, "name": block.name, "args": dict(block.arguments or {}), **inner}, **rest}
    key = "error" if block.is_error else rest.pop("key", "result")
    response = rest.pop("response", None) or {key: text_of(block.blocks)}
    more = {name: rest.pop(name) for name in ("will_continue", "scheduling", "parts") if name in rest}
    identity = {"id": block.call_id} if block.call_id else {}
    name = block.name or names.get(block.call_id, "")
    return {"function_response": {**identity, "name": name, "response": response, **more}, **rest}
