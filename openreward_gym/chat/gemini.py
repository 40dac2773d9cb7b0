"""Gemini contents: parts in turns of user and model. Keys may be in snake_case (the SDK's) or camelCase (REST's)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from openreward_gym.chat.dialect import Dialect, assistant, content_of, opaque, tool_call, total
from openreward_gym.chat.plain import integer, rest_of
from openreward_gym.jsonio import Json
from openreward_gym.types import (
    AssistantMessage,
    Block,
    Ended,
    ImageBlock,
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

_ROLES: Mapping[str, Role] = {"user": "user", "model": "assistant", "assistant": "assistant", "function": "tool", "tool": "tool"}


class GeminiDialect(Dialect):
    """The format of the Gemini API, written in snake_case.

    Example:
        >>> GeminiDialect().read_part({"functionCall": {"name": "add", "args": {"a": 1}}})[0].name
        'add'
    """

    provider = "gemini"

    def is_message(self, data: Mapping[str, Json]) -> bool:
        return isinstance(data.get("candidates"), list) or isinstance(data.get("parts"), list)

    def is_part(self, data: Mapping[str, Json]) -> bool:
        return "function_call" in data or "functionCall" in data or ("text" in data and data.get("type") is None)

    def read_message(self, data: Json) -> Message:
        if isinstance(data, str):
            return Message("user", (TextBlock(data),))
        if not isinstance(data, Mapping):
            raise TypeError(f"a content is a dictionary or an SDK object, not {type(data).__name__}")
        if isinstance(data.get("candidates"), list):
            return self._answer(data)
        role = data.get("role") or "user"
        if not isinstance(role, str) or role not in _ROLES:
            raise ValueError(f"a content's role is user or model, not {role!r}")
        blocks = self.read_content(data.get("parts"))
        if _ROLES[role] == "assistant":
            return AssistantMessage(blocks)
        return Message(_ROLES[role], tuple(blocks), metadata=rest_of(data, "role", "parts") or None)

    def _answer(self, data: Mapping[str, Json]) -> AssistantMessage:
        data = _snake(data)
        candidate = _snake(data["candidates"][0]) if data["candidates"] else {}
        usage = _usage(_snake(data.get("usage_metadata") or {}))
        sampled = Sampled(usage, candidate.get("finish_reason"), model=data.get("model_version"))
        blocks = self.read_content((candidate.get("content") or {}).get("parts"))
        # Without a candidate the prompt was blocked, or the API failed.
        ended: Ended | None = None if data["candidates"] else "content_filter" if data.get("prompt_feedback") else "error"
        return assistant(blocks, sampled, rest_of({"id": data.get("response_id") or None}), ended=ended)

    def read_content(self, content: Json) -> list[Block]:
        # A system instruction may be a whole content.
        return super().read_content(content["parts"] if isinstance(content, Mapping) and "parts" in content else content)

    def read_object(self, data: Mapping[str, Json]) -> list[Block]:
        part = _snake(data)
        signature = part.get("thought_signature")
        rest = rest_of(part, "text", "thought", "thought_signature", "function_call", "function_response", "inline_data")
        if part.get("thought"):
            return [ReasoningItem(part.get("text"), signature=signature, extra=self.keep(rest))]
        if signature is not None:
            rest["thought_signature"] = signature  # it stays with the part that it signs
        if isinstance(part.get("function_call"), Mapping):
            return [self._call(part["function_call"], rest)]
        if isinstance(part.get("function_response"), Mapping):
            return [self._tool_result(part["function_response"], rest)]
        inline = part.get("inline_data")
        if isinstance(inline, Mapping):
            inline = _snake(inline)
            if str(inline.get("mime_type", "")).startswith("image/") and isinstance(inline.get("data"), str):
                return [ImageBlock(inline["data"], inline["mime_type"], extra=self.keep(rest))]
        elif isinstance(part.get("text"), str):
            is_signature = not part["text"] and signature is not None
            return [ReasoningItem(signature=signature) if is_signature else TextBlock(part["text"], extra=self.keep(rest))]
        return [opaque(data)]

    def _call(self, call: Mapping[str, Json], rest: Mapping[str, Json]) -> ToolCall:
        if not isinstance(call.get("name"), str):
            raise ValueError(f"a function call has no name: {json.dumps(call)[:200]}")
        extra = self.keep({**rest, **rest_of(call, "name", "args", "id")})
        return tool_call(call["name"], call.get("args"), call.get("id"), extra)

    def _tool_result(self, answer: Mapping[str, Json], rest: Mapping[str, Json]) -> ToolResult:
        response = answer.get("response")
        values = response if isinstance(response, Mapping) else {}
        key = next(iter(values)) if len(values) == 1 else ""
        extra = {**rest, **rest_of(answer, "id", "name", "response")}
        if key in ("result", "output", "error") and isinstance(values[key], str):
            content = values[key]
            if key == "output":
                extra["key"] = key
        else:
            content = json.dumps(response, ensure_ascii=False)
            extra["response"] = response
        call_id, name = str(answer.get("id") or ""), str(answer.get("name") or "")
        return ToolResult(content, call_id, name, is_error=key == "error", extra=self.keep(extra))

    def write(self, messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
        return self.prompt_and_turns(_named(messages), assistant_role="model", content_field="parts")

    def write_part(self, block: Block) -> dict[str, Json]:
        if isinstance(block, OpaqueBlock):
            return dict(block.raw)
        rest = self.kept(block)
        if isinstance(block, TextBlock):
            return {"text": block.text, **rest}
        if isinstance(block, ImageBlock):
            return {"inline_data": {"mime_type": block.mime_type, "data": block.data}, **rest}
        if isinstance(block, ReasoningItem):
            signature = {} if block.signature is None else {"thought_signature": block.signature}
            return {"text": block.content or block.summary or "", "thought": True, **signature, **rest}
        identity = {"id": block.call_id} if block.call_id else {}
        if isinstance(block, ToolCall):
            inner = {key: rest.pop(key) for key in ("partial_args", "will_continue") if key in rest}
            return {"function_call": {**identity, "name": block.name, "args": dict(block.arguments or {}), **inner}, **rest}
        key = "error" if block.is_error else rest.pop("key", "result")
        response = rest.pop("response", None) or {key: text_of(block.blocks)}
        beside = {name: rest.pop(name) for name in ("will_continue", "scheduling", "parts") if name in rest}
        return {"function_response": {**identity, "name": block.name, "response": response, **beside}, **rest}


def _usage(usage: Json) -> Usage | None:
    if not usage:
        return None
    thoughts = integer(usage, "thoughts_token_count")
    output = total(integer(usage, "candidates_token_count"), thoughts)
    return Usage(integer(usage, "prompt_token_count"), output, integer(usage, "cached_content_token_count"), thoughts)


def _snake(data: Mapping[str, Json]) -> dict[str, Json]:
    """Return `data` with its own keys in snake_case. Keys further inside stay: the names of arguments are the tool's."""
    return {re.sub(r"(?<=[a-z0-9])[A-Z]", lambda match: "_" + match[0].lower(), key): value for key, value in data.items()}


def _named(messages: Iterable[Message]) -> Iterable[Message]:
    """Yield the messages with the tool's name, which the API requires, on each result; it is taken from the result's call."""
    names: dict[str, str] = {}
    for message in messages:
        names.update((block.call_id, block.name) for block in message.blocks if isinstance(block, ToolCall))
        blocks = content_of(message)
        if any(isinstance(block, ToolResult) and not block.name for block in blocks):
            blocks = tuple(
                replace(block, name=names.get(block.call_id, "")) if isinstance(block, ToolResult) and not block.name else block
                for block in blocks
            )
            message = message.replace(blocks=blocks)
        yield message


def from_gemini(contents: Any, *, system: Any = None) -> list[Message]:
    """Read Gemini contents: one `Content`, a list of them, or a whole `GenerateContentResponse` (its first candidate).

    Parts of unknown types, such as files and code that ran at the provider, are kept as `OpaqueBlock`s. Raises as `Dialect.read`.

    Args:
        contents: The contents, as dictionaries or SDK objects.
        system: The system instruction: text, a `Content` or its parts; None if it is missing.

    Example:
        >>> from_gemini({"role": "model", "parts": [{"text": "Hello"}]})[0].text
        'Hello'
    """
    return GeminiDialect().read(contents, system=system)


def to_gemini(messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
    """Return (system instruction, `contents`) in snake_case. Neighbouring turns of one side are merged.

    System messages are joined by a blank line; the instruction stays None without any.

    Example:
        >>> from openreward_gym.types import UserMessage
        >>> to_gemini([UserMessage("Hi")])
        (None, [{'role': 'user', 'parts': [{'text': 'Hi'}]}])
    """
    return GeminiDialect().write(messages)
