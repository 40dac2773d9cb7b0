"""Actions in any form, as the assistant message that an env takes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import chain
from typing import Any

from openreward_gym.chat.anthropic import AnthropicDialect
from openreward_gym.chat.dialect import Dialect, tool_call
from openreward_gym.chat.failures import is_failure, read_failure
from openreward_gym.chat.gemini import GeminiDialect
from openreward_gym.chat.openai import OpenAIChatDialect
from openreward_gym.chat.plain import plain, shown
from openreward_gym.chat.responses import OpenAIResponsesDialect
from openreward_gym.errors import MessageError
from openreward_gym.jsonio import Json, loads
from openreward_gym.types import AssistantMessage, Block, Message, ToolCall, ToolResult

_ARGUMENTS = ("arguments", "input", "args")
_FIELDS = ("blocks", "sampled", "origin", "weight", "ended", "metadata")
# The first one that recognises an object reads it. Every chat message has a role, so that chat completions come last.
_RESPONSES, _ANTHROPIC, _CHAT = OpenAIResponsesDialect(), AnthropicDialect(), OpenAIChatDialect()
_DIALECTS: tuple[Dialect, ...] = (_RESPONSES, _ANTHROPIC, GeminiDialect(), _CHAT)


def parse_action(value: Any) -> AssistantMessage:
    """Return an action as an assistant message.

    An action is one of these:

    - an AssistantMessage, a ToolCall, or another block of an assistant's turn;
    - a call as `{"name", "arguments"}`, or an OpenAI, Anthropic or Gemini tool call;
    - a message or whole answer of one of these providers, read with its text, reasoning, usage and token ids;
    - a list of calls, blocks or items;
    - a JSON string of a call or of a list of calls, or plain text.

    Objects may be dictionaries or SDK objects, and the chunks of a streamed answer a list. An error that a provider sends in
    place of an answer is a message without words that `ended` as "error".

    Raises:
        MessageError: The value is not an action.

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
        return _sequence(value) if isinstance(value, (list, tuple)) else _turn(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise MessageError(
            f"{shown(value)} is not an action ({error}): give a call {{'name': ..., 'arguments': {{...}}}}, a list of calls, an "
            "AssistantMessage, an OpenAI, Anthropic or Gemini message or tool call, or text",
            reason=str(error),
        ) from None


def _sequence(values: Sequence[Any]) -> AssistantMessage:
    """Read a list of calls, blocks, items or messages as one message; the chunks of a streamed answer as that answer."""
    if all(type(item) is ToolCall for item in values):
        return AssistantMessage(values)
    items = [item if isinstance(item, Message | Block) else plain(item) for item in values]
    first = items[0]
    for dialect in _DIALECTS:
        if len(items) > 1 and isinstance(first, dict) and dialect.stream is not None and dialect.stream.is_chunk(first):
            messages = dialect.read(items)
            if len(messages) > 1:
                raise MessageError("an action is one message, not several")
            return _assistant(messages[0])
    typed = [item for item in items if isinstance(item, dict) and "type" in item]
    if len(typed) == len(items) and any(map(_RESPONSES.is_part, typed)):
        turns = [_assistant(message) for message in _RESPONSES.read_items(typed)]
    else:
        turns = [_turn(item) for item in items]
    whole = next((turn for turn in turns if turn.ended == "error" or len(turns) == 1), None)
    return whole or AssistantMessage([*chain.from_iterable(turn.blocks for turn in turns)])


def _of_text(text: str) -> AssistantMessage:
    """Read a JSON string of a call, or of a list of calls, as these calls, and any other text as the assistant's text."""
    calls: list[ToolCall] = []
    if text.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, TypeError):
            data = loads(text)
            calls = [_call(item) for item in (data if isinstance(data, list) else [data])]
    return AssistantMessage(calls or text)


def _turn(value: Any) -> AssistantMessage:
    """Read one message, block, call, item or part, ours or a provider's, as an assistant message."""
    if isinstance(value, Message):
        return _assistant(value)
    if isinstance(value, ToolResult):
        raise MessageError("a tool's result comes from the environment")
    if isinstance(value, Block):
        return AssistantMessage([value])
    data = plain(value)
    if not isinstance(data, dict):
        raise MessageError(f"{shown(data)} is not a call")
    for dialect in _DIALECTS:
        if dialect.is_message(data):
            return _assistant(dialect.read_message(data))
    if "name" not in data and is_failure(data):
        return read_failure(data)
    if "name" not in data and data.get("type") in ("text", "image", "tool_call"):
        return AssistantMessage(_ANTHROPIC.read_part(data))
    for dialect in _DIALECTS:
        if dialect.is_part(data):
            return AssistantMessage(dialect.read_part(data))
        if dialect.stream is not None and "name" not in data:
            dialect.stream.refuse(data)
    return AssistantMessage([_call(data)])


def _assistant(message: Message) -> AssistantMessage:
    if isinstance(message, AssistantMessage):
        return message
    if message.role != "assistant":
        raise MessageError(f"its role is {message.role!r}, and an action is a turn of the assistant")
    return AssistantMessage(**{name: getattr(message, name) for name in _FIELDS})


def _call(data: Json) -> ToolCall:
    """Read a call as `{"name", "arguments"}`, or an entry of a chat completion's `tool_calls`; raise MessageError for others."""
    if not isinstance(data, dict):
        raise MessageError(f"a call is an object, not {shown(data)}")
    if _CHAT.is_part(data):
        return _CHAT.read_call(data)
    name = data.get("name")
    if not isinstance(name, str):
        raise MessageError('a call needs a "name"')
    written = next((data[key] for key in _ARGUMENTS if key in data), None)
    if written is None and data.keys() - {"name", "id", "call_id", "type", *_ARGUMENTS}:
        raise MessageError('a call has "arguments" beside its "name", and no other fields')
    call_id = data.get("call_id") or data.get("id") or data.get("tool_call_id")
    return tool_call(name, written, call_id)
