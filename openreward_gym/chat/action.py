"""Anything a policy may say, as the one thing an env understands: an assistant's message."""

from __future__ import annotations

import json
from typing import Any

from openreward_gym.chat import anthropic, completions, gemini, responses
from openreward_gym.chat.pieces import assistant
from openreward_gym.chat.plain import plain
from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Json,
    Message,
    OpaqueBlock,
    ReasoningItem,
    TextBlock,
    ToolCall,
    ToolResult,
)

_ARGUMENTS = ("arguments", "input", "args")


def parse_action(value: Any) -> AssistantMessage:
    """An action as an assistant's message.

    Takes an AssistantMessage; a call as `{"name", "arguments"}`, a ToolCall, or an OpenAI, Anthropic or Gemini tool call;
    a whole message or a whole answer of theirs, with its text, reasoning, usage and token ids; each as a dictionary or
    an SDK's object; a list of calls, blocks or items; a JSON string of a call or of a list of calls; plain text.

    Raises:
        TypeError: It is none of these; the message shows what was given and what is taken.
    """
    if isinstance(value, Message):
        return _of_message(value)
    if isinstance(value, str):
        return _of_text(value)
    try:
        if isinstance(value, (list, tuple)):
            return AssistantMessage([block for item in value for block in _blocks(item)])
        if isinstance(value, (TextBlock, ImageBlock, ReasoningItem, ToolCall, OpaqueBlock)):
            return AssistantMessage([value])
        return _of_data(plain(value))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise TypeError(_refusal(value, error)) from None


def _refusal(value: Any, error: Exception) -> str:
    shown = repr(value)
    shown = shown if len(shown) <= 200 else shown[:200] + "..."
    return (
        f"{shown} is not an action ({error}): give a call {{'name': ..., 'arguments': {{...}}}}, a list of calls, "
        "an AssistantMessage, an OpenAI, Anthropic or Gemini message or tool call, or text"
    )


def _of_message(message: Message) -> AssistantMessage:
    if isinstance(message, AssistantMessage):
        return message
    if message.role != "assistant":
        raise TypeError(_refusal(message, ValueError(f"its role is {message.role!r}: an action is what the assistant says")))
    return AssistantMessage(message.blocks)


def _of_text(text: str) -> AssistantMessage:
    """A JSON string of a call, or of a list of calls, is these calls; any other text is what the assistant says."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            data = json.loads(text)
            calls = [_call(item) for item in (data if isinstance(data, list) else [data])]
        except (ValueError, TypeError, RecursionError):
            return AssistantMessage(text)
        if calls:
            return AssistantMessage(calls)
    return AssistantMessage(text)


def _of_data(data: Json) -> AssistantMessage:
    if not isinstance(data, dict):
        raise TypeError(f"it is a {type(data).__name__}")
    message = _whole_message(data)
    if message is None:
        return AssistantMessage(_blocks_of(data))
    if not isinstance(message, AssistantMessage):
        raise TypeError(f"its role is {message.role!r}: an action is what the assistant says")
    return message


# From here on `data` is plain: a mapping is a dict.


def _whole_message(data: dict[str, Json]) -> Message | None:
    """A message or an answer of one of the providers; None for anything smaller."""
    if isinstance(data.get("choices"), list):
        return completions.from_openai(data)[0]
    if isinstance(data.get("candidates"), list) or isinstance(data.get("parts"), list):
        return gemini.from_gemini(data)[0]
    if isinstance(data.get("output"), list) and "type" not in data:
        return responses.from_openai_responses(data)[0]
    if "role" not in data:
        return None
    content = data.get("content")
    if isinstance(content, list):
        kinds = {part.get("type") for part in content if isinstance(part, dict)}
        if "output_text" in kinds:
            return assistant(responses.blocks_of({**data, "type": "message"}), {})
        if kinds & {"tool_use", "thinking", "redacted_thinking"} or data.get("type") == "message":
            return anthropic.from_anthropic(data)[0]
    return completions.from_openai(data)[0]


def _blocks(item: Any) -> list[Block]:
    """The blocks of one entry of a list."""
    if isinstance(item, Message):
        return list(_of_message(item).blocks)
    if isinstance(item, (TextBlock, ImageBlock, ReasoningItem, ToolCall, OpaqueBlock)):
        return [item]
    if isinstance(item, ToolResult):
        raise TypeError("a tool's result is what the environment says")
    data = plain(item)
    if not isinstance(data, dict):
        raise TypeError(f"{data!r} is not a call")
    if (message := _whole_message(data)) is not None:
        return list(_of_message(message).blocks)
    return _blocks_of(data)


def _blocks_of(data: dict[str, Json]) -> list[Block]:
    """The blocks of one call, block, item or part."""
    kind = data.get("type")
    if kind in ("tool_use", "thinking", "redacted_thinking"):
        return [anthropic.block_of(data)]
    if kind in ("reasoning", "function_call", "custom_tool_call"):
        return responses.blocks_of(data)
    if kind in ("text", "image", "tool_call") and "name" not in data:
        return [anthropic.block_of(data)]
    if "function_call" in data or "functionCall" in data or ("text" in data and kind is None):
        return gemini.blocks_of(data)
    return [_call(data)]


def _call(data: Json) -> ToolCall:
    """A call in any of the plain forms, or one of a chat completion's `tool_calls`.

    Raises:
        ValueError: It is none of them.
    """
    if not isinstance(data, dict):
        raise ValueError(f"a call is an object, not {data!r}")
    if isinstance(data.get("function"), dict) or isinstance(data.get("custom"), dict):
        return completions.call_of(data)
    name = data.get("name")
    if not isinstance(name, str):
        raise ValueError('a call needs a "name"')
    given = [data[key] for key in _ARGUMENTS if key in data]
    if not given and data.keys() - {"name", "id", "call_id", "type"}:
        raise ValueError('a call has "arguments" beside its "name", and no other fields')
    arguments = given[0] if given and given[0] is not None else {}
    call_id = str(data.get("call_id") or data.get("id") or data.get("tool_call_id") or "")
    if isinstance(arguments, str):
        return ToolCall(name, call_id=call_id, content=arguments)
    if not isinstance(arguments, dict):
        # A malformed call, as the model made it: for the env to answer, not for us to raise.
        return ToolCall(name, call_id=call_id, content=json.dumps(arguments))
    return ToolCall(name, arguments, call_id)
