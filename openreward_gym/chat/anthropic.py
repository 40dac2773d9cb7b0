"""Anthropic messages: blocks in turns of user and assistant, with the system prompt beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from openreward_gym.chat.dialect import Dialect, assistant, opaque, total
from openreward_gym.chat.plain import integer, json_text, rest_of
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
_OWN_TYPES = frozenset({"tool_use", "thinking", "redacted_thinking"})


class AnthropicDialect(Dialect):
    """The format of Anthropic's messages API."""

    provider = "anthropic"

    def is_message(self, data: Mapping[str, Json]) -> bool:
        content = data.get("content")
        if "role" not in data or not isinstance(content, list):
            return False
        return data.get("type") == "message" or any(isinstance(part, dict) and self.is_part(part) for part in content)

    def is_part(self, data: Mapping[str, Json]) -> bool:
        kind = data.get("type")
        return isinstance(kind, str) and kind in _OWN_TYPES

    def read_message(self, data: Json) -> Message:
        if not isinstance(data, Mapping):
            raise TypeError(f"a message is a dictionary or an SDK object, not {type(data).__name__}")
        role = data.get("role")
        if role not in _ROLES:
            raise ValueError(f"a message's role is user, assistant or system, not {role!r}")
        blocks = self.read_content(data.get("content"))
        if role != "assistant":
            return Message(_ROLES[role], tuple(blocks), metadata=rest_of(data, "role", "content") or None)
        usage = data.get("usage")
        sampled = Sampled(_usage(usage) if usage else None, data.get("stop_reason"), model=data.get("model"))
        return assistant(blocks, sampled, rest_of(data, "role", "content", "type", "model", "stop_reason", "usage"))

    def read_part(self, data: Json) -> list[Block]:
        return [self._block(data)]

    def _block(self, data: Json) -> Block:
        if isinstance(data, str):
            return TextBlock(data)
        if not isinstance(data, Mapping):
            return opaque(data)
        kind = data.get("type")
        if kind == "text" and isinstance(data.get("text"), str):
            return TextBlock(data["text"], extra=self.keep(rest_of(data, "type", "text")))
        if kind == "thinking":
            rest = rest_of(data, "type", "thinking", "signature")
            return ReasoningItem(data.get("thinking"), signature=data.get("signature"), extra=self.keep(rest))
        if kind == "redacted_thinking":
            return ReasoningItem(content_reference=data.get("data"), extra=self.keep({"type": kind}))
        if kind == "tool_use" and isinstance(data.get("name"), str):
            return self._call(data)
        if kind == "tool_result":
            content = data.get("content")
            return ToolResult(
                content if isinstance(content, str) else self.read_content(content),
                str(data.get("tool_use_id") or ""),
                is_error=bool(data.get("is_error")),
                extra=self.keep(rest_of(data, "type", "tool_use_id", "content", "is_error")),
            )
        source = data.get("source")
        if (
            kind == "image"
            and isinstance(source, Mapping)
            and source.get("type") == "base64"
            and isinstance(source.get("data"), str)
        ):
            mime_type = str(source.get("media_type", "image/png"))
            return ImageBlock(source["data"], mime_type, extra=self.keep(rest_of(data, "type", "source")))
        return opaque(data)

    def _call(self, data: Mapping[str, Json]) -> ToolCall:
        written = data.get("input")
        arguments = dict(written) if isinstance(written, Mapping) else {} if written is None else None
        text = None if arguments is not None else json_text(written)
        rest = rest_of(data, "type", "id", "name", "input")
        return ToolCall(data["name"], arguments, str(data.get("id") or ""), text, extra=self.keep(rest))

    def write(self, messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
        return self.prompt_and_turns(messages, assistant_role="assistant", content_field="content")

    def write_part(self, block: Block) -> dict[str, Json]:
        if isinstance(block, OpaqueBlock):
            return dict(block.raw)
        rest = self.kept(block)
        if isinstance(block, TextBlock):
            return {"type": "text", "text": block.text, **rest}
        if isinstance(block, ImageBlock):
            return {"type": "image", "source": {"type": "base64", "media_type": block.mime_type, "data": block.data}, **rest}
        if isinstance(block, ToolCall):
            return {"type": "tool_use", "id": block.call_id, "name": block.name, "input": dict(block.arguments or {}), **rest}
        if isinstance(block, ToolResult):
            content = block.content if isinstance(block.content, str) else [self.write_part(part) for part in block.blocks]
            error = {"is_error": True} if block.is_error else {}
            return {"type": "tool_result", "tool_use_id": block.call_id, "content": content, **error, **rest}
        if rest.get("type") == "redacted_thinking":
            return {"type": "redacted_thinking", "data": block.content_reference}
        if block.signature is not None:
            return {"type": "thinking", "thinking": block.content or "", "signature": block.signature, **rest}
        # The API refuses thinking without a signature, and the reasoning of other models has none.
        return {"type": "text", "text": block.content or block.summary or ""}


def _usage(usage: Json) -> Usage:
    cached = integer(usage, "cache_read_input_tokens")
    # Anthropic counts tokens read from or written to its cache apart from the other input.
    return Usage(
        total(integer(usage, "input_tokens"), cached, integer(usage, "cache_creation_input_tokens")),
        integer(usage, "output_tokens"),
        cached,
        integer(usage, "output_tokens_details", "thinking_tokens"),
    )


def from_anthropic(messages: Any, *, system: Any = None) -> list[Message]:
    """Read Anthropic messages: one, a list of them, or a whole `Message` answer, as dictionaries or SDK objects.

    Blocks of unknown types, such as tools that run at the provider, are kept as `OpaqueBlock`s.

    Args:
        messages: The messages.
        system: The system prompt, text or blocks; None if there is none.

    Raises:
        ValueError: A message has a role that the format does not have.
        TypeError: A value is not a message.

    Example:
        >>> from_anthropic([{"role": "user", "content": "Hi"}], system="Be brief.")[0].text
        'Be brief.'
    """
    return AnthropicDialect().read(messages, system=system)


def to_anthropic(messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
    """Return (system prompt, `messages`). Neighbouring turns of one side are merged, as the API requires.

    The system prompt is None if there is no system message; several are joined by a blank line.

    Example:
        >>> from openreward_gym.types import UserMessage
        >>> to_anthropic([UserMessage("Hi")])
        (None, [{'role': 'user', 'content': [{'type': 'text', 'text': 'Hi'}]}])
    """
    return AnthropicDialect().write(messages)
