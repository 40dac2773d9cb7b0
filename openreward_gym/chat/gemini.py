"""Gemini contents: parts in turns of user and model. Keys may be in snake_case (the SDK's) or camelCase (REST's)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from openreward_gym.chat.dialect import (
    Dialect,
    assistant,
    content_of,
    merged,
    opaque,
    opened,
    role_of,
    sendable,
    tool_call,
    total,
)
from openreward_gym.chat.history import GEMINI_RULES, HistoryRules, ToolNames
from openreward_gym.chat.plain import details_of, integer, list_at, object_at, rest_of, shown, text_at
from openreward_gym.chat.streams import GEMINI_STREAM, StreamFormat
from openreward_gym.errors import MessageError
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
    stream: ClassVar[StreamFormat] = GEMINI_STREAM
    rules: ClassVar[HistoryRules] = GEMINI_RULES

    def is_message(self, data: Mapping[str, Json]) -> bool:
        return self.stream.is_chunk(data) or isinstance(data.get("parts"), list)

    def is_part(self, data: Mapping[str, Json]) -> bool:
        return data.get("type") is None and not _PARTS.isdisjoint(_snake(data))

    def read_text(self, text: str) -> Message:
        return Message("user", (TextBlock(text),))

    def read_turn(self, data: Mapping[str, Json]) -> Message:
        if self.stream.is_chunk(data):
            return self._answer(data)
        if not data.keys() & {"role", "parts"} or "content" in data:
            raise MessageError(f"{shown(dict(data))} is neither a content, with parts and a role, nor an answer with candidates")
        role = role_of(data, _ROLES, "user")
        blocks, rest = self.read_content(data.get("parts")), rest_of(data, "role", "parts")
        return assistant(blocks, Sampled(), rest) if role == "assistant" else Message(role, tuple(blocks), metadata=rest or None)

    def _answer(self, data: Mapping[str, Json]) -> AssistantMessage:
        data = _snake(data)
        candidates = list_at(data, "candidates", Mapping)
        candidate = _snake(candidates[0]) if candidates else {}
        # Without a candidate the prompt was blocked, or the API failed.
        block_reason = None if candidates else text_at(_snake(object_at(data, "prompt_feedback")), "block_reason")
        ended: Ended | None = None if candidates else "content_filter" if block_reason else "error"
        usage = _usage(_snake(object_at(data, "usage_metadata")))
        stop_reason = text_at(candidate, "finish_reason") or block_reason
        sampled = Sampled(usage, stop_reason, model=text_at(data, "model_version"))
        content = object_at(candidate, "content")
        blocks = self.read_content(content.get("parts"))
        fields = {**rest_of(content, "role", "parts"), **rest_of(candidate, "content", "finish_reason")}
        fields |= rest_of(data, "candidates", "usage_metadata", "model_version", "response_id")
        fields |= rest_of({"id": data.get("response_id") or None})
        if not fields.get("index"):
            fields.pop("index", None)
        if candidates[1:]:
            fields["candidates"] = candidates[1:]
        return assistant(blocks, sampled, fields, ended=ended)

    def read_content(self, content: Json) -> list[Block]:
        # A system instruction may be a whole content.
        return super().read_content(content["parts"] if isinstance(content, Mapping) and "parts" in content else content)

    def read_object(self, data: Mapping[str, Json]) -> list[Block]:
        part = _snake(data)
        if sum(name in part for name in _CONTENT) > 1:
            return [opaque(data)]
        signature = text_at(part, "thought_signature")
        rest = rest_of(part, "text", "thought", "thought_signature", "function_call", "function_response", "inline_data")
        if "thought" in part and not (part["thought"] is True and isinstance(part.get("text"), str)):
            rest["thought"] = part["thought"]  # of a call, an image, ... or written without need
        elif "thought" in part:
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
                if further := rest_of(inline, "data", "mime_type"):
                    rest["inline_data"] = further
                return [ImageBlock(inline["data"], inline["mime_type"], extra=self.keep(rest))]
        elif isinstance(part.get("text"), str):
            if not part["text"] and signature is not None:
                further = rest_of(rest, "thought_signature")
                return [ReasoningItem(signature=signature, extra=self.keep({"is_signature": True, **further}))]
            return [TextBlock(part["text"], extra=self.keep(rest))]
        return [opaque(data)]

    def _call(self, call: Mapping[str, Json], rest: Mapping[str, Json]) -> ToolCall:
        call = _snake(call)
        extra = self.keep({**rest, **rest_of(call, "name", "args", "id")})
        return tool_call(call.get("name"), call.get("args"), call.get("id"), extra)

    def _tool_result(self, answer: Mapping[str, Json], rest: Mapping[str, Json]) -> ToolResult:
        answer = _snake(answer)
        response, parts = answer.get("response"), answer.get("parts")
        values = response if isinstance(response, Mapping) else {}
        key = next(iter(values)) if len(values) == 1 else ""
        extra = {**rest, **rest_of(answer, "id", "name", "response", "parts")}
        if key in ("result", "output", "error") and isinstance(values[key], str):
            content = values[key]
            if key == "output":
                extra["key"] = key
        else:
            content = json.dumps(response, ensure_ascii=False)
            extra["response"] = response
        call_id, name = str(answer.get("id") or ""), str(answer.get("name") or "")
        blocks: str | list[Block] = content
        if isinstance(parts, list):
            extra["parts"] = len(parts)  # the last blocks are the parts of the response
            blocks = [TextBlock(content), *(block for part in parts for block in self.read_part(part))]
        return ToolResult(blocks, call_id, name, is_error=key == "error", extra=self.keep(extra))

    def write(self, messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
        return self.prompt_and_turns(_named(sendable(messages)), assistant_role="model", content_field="parts")

    def write_request(
        self, messages: Iterable[Message], *, rules: HistoryRules | None = None, names: ToolNames | None = None
    ) -> tuple[str | None, list[dict[str, Json]]]:
        system, turns = super().write_request(messages, rules=rules, names=names)
        # The API refuses empty texts, except one that has the signature of a thought.
        turns = [
            {**turn, "parts": [p for p in turn["parts"] if p.get("text") != "" or "thought_signature" in p]} for turn in turns
        ]
        return opened(system, merged(turns, "parts"), "parts", "model", lambda text: {"text": text})

    def write_part(self, block: Block) -> dict[str, Json]:
        if isinstance(block, OpaqueBlock):
            return dict(block.raw)
        rest = self.kept(block)
        if isinstance(block, TextBlock):
            return {"text": block.text, **rest}
        if isinstance(block, ImageBlock):
            inline: dict[str, Json] = {"mime_type": block.mime_type, "data": block.data, **rest.pop("inline_data", {})}
            return {"inline_data": inline, **rest}
        if isinstance(block, ReasoningItem):
            signature = {} if block.signature is None else {"thought_signature": block.signature}
            if rest.pop("is_signature", False):
                return {"text": "", **signature, **rest}
            return {"text": block.content or block.summary or "", "thought": True, **signature, **rest}
        if isinstance(block, ToolCall):
            inner: dict[str, Json] = {key: rest.pop(key) for key in ("partial_args", "will_continue") if key in rest}
            call = {**_identity(block), "name": block.name, "args": dict(block.arguments or {}), **inner}
            return {"function_call": call, **rest}
        return self._write_result(block, rest)

    def _write_result(self, result: ToolResult, rest: dict[str, Json]) -> dict[str, Json]:
        key = "error" if result.is_error else rest.pop("key", "result")
        count = rest.pop("parts", 0)
        texts, parts = (result.blocks[:-count], result.blocks[-count:]) if count else (result.blocks, ())
        response = rest.pop("response", None) or {key: text_of([block for block in texts if not isinstance(block, ImageBlock)])}
        beside: dict[str, Json] = {name: rest.pop(name) for name in ("will_continue", "scheduling") if name in rest}
        if parts:
            beside["parts"] = [self.write_part(part) for part in parts]
        return {"function_response": {**_identity(result), "name": result.name, "response": response, **beside}, **rest}


def _identity(block: ToolCall | ToolResult) -> dict[str, Json]:
    return {"id": block.call_id} if block.call_id else {}


_RUN_THERE = ("executable_code", "code_execution_result", "tool_call", "tool_response")
_CONTENT = ("text", "function_call", "function_response", "inline_data")
_PARTS = frozenset(("text", "function_call", "inline_data", "file_data", *_RUN_THERE))
_COUNTS = ("prompt_token_count", "candidates_token_count", "thoughts_token_count", "cached_content_token_count")


def _usage(usage: Json) -> Usage | None:
    if not usage:
        return None
    prompt, candidates, thoughts, cached = (integer(usage, name) for name in _COUNTS)
    read = {(name,) for name in _COUNTS}
    if integer(usage, "total_token_count") == total(prompt, candidates, thoughts):
        read.add(("total_token_count",))
    return Usage(prompt, total(candidates, thoughts), cached, thoughts, extra=details_of(usage, read))


def _snake(data: Mapping[str, Json]) -> dict[str, Json]:
    """Return `data` with its own keys in snake_case. Keys further inside stay: the names of arguments are the tool's."""
    return {re.sub(r"(?<=[a-z0-9])[A-Z]", lambda match: "_" + match[0].lower(), key): value for key, value in data.items()}


def _named(messages: Iterable[Message]) -> Iterable[Message]:
    """Yield the messages with the tool's name, which the API requires, on each result; it is taken from the result's call."""
    names: dict[str, str] = {}
    for message in messages:
        names.update((block.call_id, block.name) for block in message.blocks if isinstance(block, ToolCall))
        blocks = tuple(part for block in content_of(message) for part in _with_images_beside(block))
        if any(isinstance(block, ToolResult) and not block.name for block in blocks):
            blocks = tuple(
                replace(block, name=names.get(block.call_id, "")) if isinstance(block, ToolResult) and not block.name else block
                for block in blocks
            )
        yield message if blocks == message.blocks else message.replace(blocks=blocks)


def _with_images_beside(block: Block) -> list[Block]:
    """Return a result with its images after it: older models refuse images inside of it. Those that came inside stay there."""
    if not isinstance(block, ToolResult) or "gemini" in block.extra or isinstance(block.content, str):
        return [block]
    images = [part for part in block.blocks if isinstance(part, ImageBlock)]
    rest = [part for part in block.blocks if not isinstance(part, ImageBlock)]
    return [replace(block, content=rest), *images] if images else [block]


def from_gemini(contents: Any, *, system: Any = None) -> list[Message]:
    """Read Gemini contents: one `Content`, a list of them, or a whole `GenerateContentResponse` (its first candidate).

    A list may also have the chunks of streamed answers, which become one message each.

    Parts of unknown types, such as files and code that ran at the provider, are kept as `OpaqueBlock`s. Raises as `Dialect.read`.

    Args:
        contents: The contents, as dictionaries or SDK objects.
        system: The system instruction: text, a `Content` or its parts; None if it is missing.

    Example:
        >>> from_gemini({"role": "model", "parts": [{"text": "Hello"}]})[0].text
        'Hello'
    """
    return GeminiDialect().read(contents, system=system)


def to_gemini(messages: Iterable[Message], *, for_server: bool = False) -> tuple[str | None, list[dict[str, Json]]]:
    """Return (system instruction, `contents`) in snake_case. Neighbouring turns of one side are merged.

    System messages are joined by a blank line; the instruction stays None without any.

    Args:
        messages: The conversation.
        for_server: Write a history that the API can parse: see `server_history`. By default calls are as they were recorded.

    Example:
        >>> from openreward_gym.types import UserMessage
        >>> to_gemini([UserMessage("Hi")])
        (None, [{'role': 'user', 'parts': [{'text': 'Hi'}]}])
    """
    dialect = GeminiDialect()
    return (dialect.write_request if for_server else dialect.write)(messages)
