"""Anthropic messages: blocks in turns of user and assistant, with the system prompt beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from openreward_gym.chat.dialect import Dialect, assistant, merged, opaque, opened, role_of, tool_call, total
from openreward_gym.chat.history import ANTHROPIC_RULES, HistoryRules, ToolNames
from openreward_gym.chat.plain import details_of, integer, object_at, rest_of, text_at
from openreward_gym.chat.streams import ANTHROPIC_STREAM, StreamFormat
from openreward_gym.jsonio import Json
from openreward_gym.types import (
    Block,
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
)

_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_OWN_TYPES = ("tool_use", "thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use", "container_upload", "fallback")


class AnthropicDialect(Dialect):
    """The format of Anthropic's messages API.

    Example:
        >>> AnthropicDialect().read_message({"role": "assistant", "content": "Hi", "stop_reason": "end_turn"}).ended
        'stop'
    """

    provider = "anthropic"
    stream: ClassVar[StreamFormat] = ANTHROPIC_STREAM
    rules: ClassVar[HistoryRules] = ANTHROPIC_RULES

    def is_message(self, data: Mapping[str, Json]) -> bool:
        content = data.get("content")
        if "role" not in data or not isinstance(content, list):
            return False
        if data.get("type") == "message" or "stop_reason" in data:
            return True
        return any(isinstance(part, dict) and self.is_part(part) for part in content)

    def is_part(self, data: Mapping[str, Json]) -> bool:
        kind = data.get("type")
        return kind in _OWN_TYPES or (isinstance(kind, str) and kind.endswith(("_tool_result", "_tool_listing")))

    def read_turn(self, data: Mapping[str, Json]) -> Message:
        role = role_of(data, _ROLES)
        blocks = self.read_content(data.get("content"))
        if role != "assistant":
            return Message(role, tuple(blocks), metadata=rest_of(data, "role", "content") or None)
        usage = object_at(data, "usage")
        sampled = Sampled(_usage(usage) if usage else None, text_at(data, "stop_reason"), model=text_at(data, "model"))
        return assistant(blocks, sampled, rest_of(data, "role", "content", "type", "model", "stop_reason", "usage"))

    def read_object(self, data: Mapping[str, Json]) -> list[Block]:
        kind = data.get("type")
        if kind == "text" and isinstance(data.get("text"), str):
            return [TextBlock(data["text"], extra=self.keep(rest_of(data, "type", "text")))]
        if kind == "tool_use":
            rest = rest_of(data, "type", "id", "name", "input")
            return [tool_call(data.get("name"), data.get("input"), data.get("id"), self.keep(rest))]
        if kind == "tool_result":
            content = data.get("content")
            rest = rest_of(data, "type", "tool_use_id", "content", "is_error")
            rest |= {name: data[name] for name in ("content", "is_error") if name in data and not data[name]}
            content = content if isinstance(content, str) else self.read_content(content)
            call_id, is_error = str(data.get("tool_use_id") or ""), bool(data.get("is_error"))
            return [ToolResult(content, call_id, is_error=is_error, extra=self.keep(rest))]
        if kind == "thinking":
            rest = rest_of(data, "type", "thinking", "signature")
            return [ReasoningItem(text_at(data, "thinking"), signature=text_at(data, "signature"), extra=self.keep(rest))]
        if kind == "redacted_thinking":
            return [ReasoningItem(content_reference=text_at(data, "data"), extra=self.keep(rest_of(data, "data")))]
        source = data["source"] if kind == "image" and isinstance(data.get("source"), Mapping) else {}
        if source.get("type") == "base64" and isinstance(source.get("data"), str):
            mime_type = str(source.get("media_type", "image/png"))
            rest = rest_of(data, "type", "source")
            if further := rest_of(source, "type", "data", "media_type"):
                rest["source"] = further
            return [ImageBlock(source["data"], mime_type, extra=self.keep(rest))]
        return [opaque(data)]

    def write(self, messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
        return self.prompt_and_turns(messages, assistant_role="assistant", content_field="content")

    def write_request(
        self, messages: Iterable[Message], *, rules: HistoryRules | None = None, names: ToolNames | None = None
    ) -> tuple[str | None, list[dict[str, Json]]]:
        system, turns = super().write_request(messages, rules=rules, names=names)
        for turn in turns:
            turn["content"] = _with_words(turn["content"])
        return opened(system, merged(turns, "content"), "content", "assistant", lambda text: {"type": "text", "text": text})

    def write_part(self, block: Block) -> dict[str, Json]:
        if isinstance(block, OpaqueBlock):
            return dict(block.raw)
        rest = self.kept(block)
        if isinstance(block, TextBlock):
            return {"type": "text", "text": block.text, **rest}
        if isinstance(block, ImageBlock):
            source = {"type": "base64", "media_type": block.mime_type, "data": block.data, **rest.pop("source", {})}
            return {"type": "image", "source": source, **rest}
        if isinstance(block, ToolCall):
            return {"type": "tool_use", "id": block.call_id, "name": block.name, "input": dict(block.arguments or {}), **rest}
        if isinstance(block, ToolResult):
            content = block.content if isinstance(block.content, str) else [self.write_part(part) for part in block.blocks]
            result = {"type": "tool_result", "tool_use_id": block.call_id, **({"content": content} if content else {})}
            return {**result, **({"is_error": True} if block.is_error else {}), **rest}
        if rest.get("type") == "redacted_thinking":
            return {"type": "redacted_thinking", "data": block.content_reference, **rest}
        if block.signature is not None:
            return {"type": "thinking", "thinking": block.content or "", "signature": block.signature, **rest}
        # The API refuses thinking without a signature, which the reasoning of other models lacks.
        return {"type": "text", "text": block.content or block.summary or ""}


def _with_words(content: Iterable[dict[str, Json]]) -> list[dict[str, Json]]:
    """Return the parts without texts that are empty or white space, which the API refuses, also inside of results."""
    parts = [part for part in content if part.get("type") != "text" or str(part.get("text") or "").strip()]
    return [
        {**part, "content": _with_words(part["content"])}
        if part.get("type") == "tool_result" and isinstance(part.get("content"), list)
        else part
        for part in parts
    ]


_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens")


def _usage(usage: Json) -> Usage:
    # Anthropic counts tokens read from or written to its cache apart from the other input.
    cached = integer(usage, "cache_read_input_tokens")
    return Usage(
        total(integer(usage, "input_tokens"), cached, integer(usage, "cache_creation_input_tokens")),
        integer(usage, "output_tokens"),
        cached,
        integer(usage, "output_tokens_details", "thinking_tokens"),
        extra=details_of(usage, {*((name,) for name in _COUNTS), ("output_tokens_details", "thinking_tokens")}),
    )


def from_anthropic(messages: Any, *, system: Any = None) -> list[Message]:
    """Read Anthropic messages: one, a list of them, or a whole `Message` answer.

    A list may also have the events of streamed answers, which become one message each.

    Blocks of unknown types, such as tools that run at the provider, are kept as `OpaqueBlock`s. Raises as `Dialect.read`.

    Args:
        messages: The messages, as dictionaries or SDK objects.
        system: The system prompt, text or blocks; None if it is missing.

    Example:
        >>> from_anthropic([{"role": "user", "content": "Hi"}], system="Be brief.")[0].text
        'Be brief.'
    """
    return AnthropicDialect().read(messages, system=system)


def to_anthropic(messages: Iterable[Message], *, for_server: bool = False) -> tuple[str | None, list[dict[str, Json]]]:
    """Return (system prompt, `messages`). Neighbouring turns of one side are merged, as the API requires.

    System messages are joined by a blank line; the prompt stays None without any.

    Args:
        messages: The conversation.
        for_server: Write a history that the API can parse: see `server_history`. By default calls are as they were recorded.

    Example:
        >>> from openreward_gym.types import UserMessage
        >>> to_anthropic([UserMessage("Hi")])
        (None, [{'role': 'user', 'content': [{'type': 'text', 'text': 'Hi'}]}])
    """
    dialect = AnthropicDialect()
    return (dialect.write_request if for_server else dialect.write)(messages)
