"""A task's conversation in the formats of the providers' APIs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, get_args, overload

from openreward_gym.compat.api.environments.types import Message, Provider
from openreward_gym.errors import ConfigurationError

_PLAIN = ("text", "image")
_ALLOWED = {"system": _PLAIN, "user": (*_PLAIN, "tool_result"), "assistant": (*_PLAIN, "reasoning", "tool_call")}


@overload
def convert_messages(messages: Sequence[Message], format: None = None) -> list[Message]: ...


@overload
def convert_messages(messages: Sequence[Message], format: Literal["openai", "openrouter"]) -> list[dict[str, Any]]: ...


@overload
def convert_messages(messages: Sequence[Message], format: Literal["anthropic", "google"]) -> dict[str, Any]: ...


def convert_messages(
    messages: Sequence[Message], format: Provider | None = None
) -> list[Message] | list[dict[str, Any]] | dict[str, Any]:
    """Return messages in the format of a provider.

    Args:
        messages: The messages.
        format: "openai" or "openrouter" for a list of messages of Chat Completions; "anthropic" for `{"system", "messages"}`;
            "google" for `{"system_instruction", "contents"}`; None for the messages themselves.

    Raises:
        ConfigurationError: (a ValueError) A block stands in a message of a role that cannot have it, or the format cannot express
            it; or there is no such format.

    Example:
        >>> from openreward_gym.compat.api.environments.types import TextBlock
        >>> convert_messages([Message("user", [TextBlock("How warm is it?")])], "openai")
        [{'role': 'user', 'content': 'How warm is it?'}]
    """
    conversation = list(messages)
    if format is None:
        return conversation
    if format not in get_args(Provider):
        raise ConfigurationError(f"Invalid format: {format!r}. Choose one of {', '.join(get_args(Provider))}.")
    for message in conversation:
        _check_blocks(message)
    if format == "anthropic":
        system, turns = _system_and_turns(conversation, format)
        return {"system": system, "messages": [_anthropic_message(message) for message in turns]}
    if format == "google":
        blocks: list[Any] = [block for message in conversation for block in message.blocks]
        names = {block.id: block.name for block in blocks if _type(block) == "tool_call"}
        system, turns = _system_and_turns(conversation, format)
        contents = [
            {
                "role": "model" if message.role == "assistant" else "user",
                "parts": [_google_part(block, names) for block in message.blocks],
            }
            for message in turns
        ]
        return {"system_instruction": system, "contents": contents}
    return [converted for message in conversation for converted in _openai_messages(message, format)]


def _type(block: Any) -> str:
    return getattr(block, "type", None) or "text"


def _check_blocks(message: Message) -> None:
    allowed = _ALLOWED.get(message.role, _PLAIN)
    for block in message.blocks:
        if _type(block) not in allowed:
            raise ConfigurationError(
                f"a {_type(block)!r} block cannot stand in a {message.role!r} message: reasoning and tool calls belong to the "
                "assistant, tool results to the user"
            )


def _system_and_turns(messages: Sequence[Message], format: str) -> tuple[str | None, list[Message]]:
    """Return the text of the system messages at the beginning, and the rest."""
    turns = [message for message in messages if message.role != "system"]
    first = next((number for number, message in enumerate(messages) if message.role != "system"), len(messages))
    system = [block for message in messages[:first] for block in message.blocks]
    if first + len(turns) < len(messages):
        raise ConfigurationError(f"format={format!r} has system messages only at the beginning: move this one there")
    if any(_type(block) != "text" for block in system):
        raise ConfigurationError(f"a system message is text only in format={format!r}")
    return "\n\n".join(block.text for block in system) if system else None, turns  # type: ignore[union-attr]


def _openai_messages(message: Message, format: str) -> list[dict[str, Any]]:
    """Return the messages of Chat Completions for one: each tool result is a message of its own."""
    blocks: list[Any] = list(message.blocks)
    if message.role == "assistant":
        return [_openai_assistant(blocks)]
    results = [
        {"role": "tool", "tool_call_id": block.tool_call_id, "content": _result_text(block, format)}
        for block in blocks
        if _type(block) == "tool_result"
    ]
    rest = [block for block in blocks if _type(block) != "tool_result"]
    if rest or message.role != "user":
        return [*results, {"role": message.role, "content": _openai_content(rest)}]
    return results


def _openai_assistant(blocks: Sequence[Any]) -> dict[str, Any]:
    shown = [block for block in blocks if _type(block) in _PLAIN]
    reasoning = [block.text for block in blocks if _type(block) == "reasoning"]
    calls = [
        {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": json.dumps(dict(block.input))}}
        for block in blocks
        if _type(block) == "tool_call"
    ]
    return {
        "role": "assistant",
        "content": _openai_content(shown) if shown else None,
        **({"reasoning_content": "\n\n".join(reasoning)} if reasoning else {}),
        **({"tool_calls": calls} if calls else {}),
    }


def _openai_content(blocks: Sequence[Any]) -> str | list[dict[str, Any]]:
    if len(blocks) == 1 and _type(blocks[0]) == "text":
        text: str = blocks[0].text
        return text
    return [
        {"type": "text", "text": block.text}
        if _type(block) == "text"
        else {"type": "image_url", "image_url": {"url": f"data:{block.mimeType};base64,{block.data}"}}
        for block in blocks
    ]


def _result_text(result: Any, format: str) -> str:
    if any(_type(block) == "image" for block in result.blocks):
        raise ConfigurationError(f"format={format!r} has no images in tool results: take format='anthropic' or None")
    return "\n".join(block.text for block in result.blocks)


def _anthropic_message(message: Message) -> dict[str, Any]:
    # The API refuses a tool result after anything else.
    blocks = sorted(message.blocks, key=lambda block: _type(block) != "tool_result")
    return {"role": message.role, "content": [_anthropic_block(block) for block in blocks]}


def _anthropic_block(block: Any) -> dict[str, Any]:
    kind = _type(block)
    if kind == "image":
        return {"type": "image", "source": {"type": "base64", "media_type": block.mimeType, "data": block.data}}
    if kind == "reasoning":
        signature = getattr(block, "signature", None)
        return {"type": "thinking", "thinking": block.text, **({"signature": signature} if signature else {})}
    if kind == "tool_call":
        return {"type": "tool_use", "id": block.id, "name": block.name, "input": dict(block.input)}
    if kind == "tool_result":
        result = {
            "type": "tool_result",
            "tool_use_id": block.tool_call_id,
            "content": [_anthropic_block(b) for b in block.blocks],
        }
        return {**result, "is_error": True} if block.is_error else result
    return {"type": "text", "text": block.text}


def _google_part(block: Any, names: dict[str, str]) -> dict[str, Any]:
    kind = _type(block)
    if kind == "image":
        return {"inline_data": {"mime_type": block.mimeType, "data": block.data}}
    if kind == "reasoning":
        raise ConfigurationError("format='google' takes no reasoning: take format='anthropic' or None")
    if kind == "tool_call":
        return {"function_call": {"name": block.name, "args": dict(block.input)}}
    if kind == "tool_result":
        name = names.get(block.tool_call_id)
        if name is None:
            raise ConfigurationError(
                f"no tool call has the id {block.tool_call_id!r} of a tool result; format='google' names results by their tools"
            )
        return {"function_response": {"name": name, "response": {"output": _result_text(block, "google")}}}
    return {"text": block.text}
