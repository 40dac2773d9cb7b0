"""Actions in any form, as the assistant message that an env takes."""

from __future__ import annotations

import json
from typing import Any

from openreward_gym.chat.anthropic import AnthropicDialect
from openreward_gym.chat.completions import OpenAIChatDialect
from openreward_gym.chat.dialect import Dialect
from openreward_gym.chat.gemini import GeminiDialect
from openreward_gym.chat.plain import plain
from openreward_gym.chat.responses import OpenAIResponsesDialect
from openreward_gym.jsonio import Json, loads
from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    TextBlock,
    ToolCall,
    ToolResult,
)

_ARGUMENTS = ("arguments", "input", "args")
# The first one that recognises an object reads it. Every chat message has a role, so that chat completions come last.
_ANTHROPIC, _CHAT = AnthropicDialect(), OpenAIChatDialect()
_DIALECTS: tuple[Dialect, ...] = (OpenAIResponsesDialect(), _ANTHROPIC, GeminiDialect(), _CHAT)


def parse_action(value: Any) -> AssistantMessage:
    """Return an action as an assistant message.

    An action is one of these:

    - an AssistantMessage, a ToolCall, or another block of an assistant's turn;
    - a call as `{"name", "arguments"}`, or an OpenAI, Anthropic or Gemini tool call;
    - a message or whole answer of one of these providers, read with its text, reasoning, usage and token ids;
    - a list of calls, blocks or items;
    - a JSON string of a call or of a list of calls, or plain text.

    Objects may be dictionaries or SDK objects.

    Raises:
        TypeError: The value is not an action.

    Example:
        >>> parse_action({"name": "add", "arguments": {"a": 1}}).tool_calls[0].name
        'add'
        >>> parse_action("It is 7 degrees.").text
        'It is 7 degrees.'
    """
    if isinstance(value, AssistantMessage):
        return value
    if isinstance(value, str):
        return _of_text(value)
    try:
        if isinstance(value, (list, tuple)):
            return AssistantMessage([block for item in value for block in _blocks(item)])
        if isinstance(value, Message):
            return _assistant(value)
        if isinstance(value, (TextBlock, ImageBlock, ReasoningItem, ToolCall, ToolResult, OpaqueBlock)):
            return AssistantMessage(_blocks(value))
        data = plain(value)
        if not isinstance(data, dict):
            raise TypeError(f"it is a {type(data).__name__}")
        message = _message(data)
        return AssistantMessage(_blocks_of(data)) if message is None else message
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        shown = repr(value) if not isinstance(error, RecursionError) else f"a {type(value).__name__}"
        raise TypeError(
            f"{shown if len(shown) <= 200 else shown[:200] + '...'} is not an action ({error}): give a call "
            "{'name': ..., 'arguments': {...}}, a list of calls, an AssistantMessage, an OpenAI, Anthropic or Gemini message or "
            "tool call, or text"
        ) from None


def _of_text(text: str) -> AssistantMessage:
    """Read a JSON string of a call, or of a list of calls, as these calls, and any other text as the assistant's text."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            data = loads(text)
            calls = [_call(item) for item in (data if isinstance(data, list) else [data])]
        except (ValueError, TypeError):
            return AssistantMessage(text)
        if calls:
            return AssistantMessage(calls)
    return AssistantMessage(text)


def _message(data: dict[str, Json]) -> AssistantMessage | None:
    """Read a message or whole answer of a provider; None if the object is smaller than a message."""
    dialect = next((dialect for dialect in _DIALECTS if dialect.is_message(data)), None)
    return None if dialect is None else _assistant(dialect.read_message(data))


def _assistant(message: Message) -> AssistantMessage:
    if isinstance(message, AssistantMessage):
        return message
    if message.role != "assistant":
        raise TypeError(f"its role is {message.role!r}, and an action is a turn of the assistant")
    return AssistantMessage(
        message.blocks,
        sampled=message.sampled,
        origin=message.origin,
        weight=message.weight,
        ended=message.ended,
        metadata=message.metadata,
    )


def _blocks(item: Any) -> list[Block]:
    """Read one entry of a list of calls, blocks, items or messages."""
    if isinstance(item, Message):
        return list(_assistant(item).blocks)
    if isinstance(item, (TextBlock, ImageBlock, ReasoningItem, ToolCall, OpaqueBlock)):
        return [item]
    if isinstance(item, ToolResult):
        raise TypeError("a tool's result comes from the environment")
    data = plain(item)
    if not isinstance(data, dict):
        raise TypeError(f"{data!r} is not a call")
    message = _message(data)
    return _blocks_of(data) if message is None else list(message.blocks)


def _blocks_of(data: dict[str, Json]) -> list[Block]:
    """Read one call, block, item or part."""
    if "name" not in data and data.get("type") in ("text", "image", "tool_call"):
        return _ANTHROPIC.read_part(data)
    dialect = next((dialect for dialect in _DIALECTS if dialect.is_part(data)), None)
    return [_call(data)] if dialect is None else dialect.read_part(data)


def _call(data: Json) -> ToolCall:
    """Read a call as `{"name", "arguments"}`, or an entry of a chat completion's `tool_calls`.

    Raises:
        ValueError: The value is neither.
    """
    if not isinstance(data, dict):
        raise ValueError(f"a call is an object, not {data!r}")
    if _CHAT.is_part(data):
        return _CHAT.read_call(data)
    name = data.get("name")
    if not isinstance(name, str):
        raise ValueError('a call needs a "name"')
    written = next((data[key] for key in _ARGUMENTS if key in data), None)
    if written is None and data.keys() - {"name", "id", "call_id", "type", *_ARGUMENTS}:
        raise ValueError('a call has "arguments" beside its "name", and no other fields')
    call_id = str(data.get("call_id") or data.get("id") or data.get("tool_call_id") or "")
    if isinstance(written, str):
        return ToolCall(name, call_id=call_id, content=written)
    if written is not None and not isinstance(written, dict):
        # A malformed call is kept as the model made it: the env answers it with an error.
        return ToolCall(name, call_id=call_id, content=json.dumps(written))
    return ToolCall(name, written or {}, call_id)
