"""The messages that `rollout.log` takes, with the official client's fields, and their form in the record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from openreward_gym import types
from openreward_gym.chat.plain import shown
from openreward_gym.errors import MessageError
from openreward_gym.jsonio import Json

__all__ = [
    "AssistantMessage",
    "ReasoningItem",
    "SystemMessage",
    "ToolCall",
    "ToolResult",
    "UploadType",
    "UserMessage",
    "recorded_message",
]


@dataclass
class UserMessage:
    """A message of the user.

    Example:
        >>> recorded_message(UserMessage("How warm is it?")).role
        'user'
    """

    content: str
    type: Literal["user_message"] = "user_message"


@dataclass
class AssistantMessage:
    """A text of the model.

    Example:
        >>> recorded_message(AssistantMessage("7 C")).text
        '7 C'
    """

    content: str
    type: Literal["assistant_message"] = "assistant_message"


@dataclass
class SystemMessage:
    """A message of the system.

    Example:
        >>> recorded_message(SystemMessage("Be brief.")).role
        'system'
    """

    content: str
    type: Literal["system_message"] = "system_message"


@dataclass
class ReasoningItem:
    """Reasoning of the model: its text, a provider's handle of it, or a summary.

    Example:
        >>> recorded_message(ReasoningItem("A city.")).reasoning
        'A city.'
    """

    content: str | None = None
    content_reference: str | None = None
    summary: str | None = None
    type: Literal["reasoning"] = "reasoning"


@dataclass
class ToolCall:
    """A call of a tool; `content` is the JSON text of its arguments.

    Example:
        >>> recorded_message(ToolCall("get_weather", '{"city": "Oslo"}', "c1")).tool_calls[0].arguments
        {'city': 'Oslo'}
    """

    name: str
    content: str
    call_id: str
    type: Literal["tool_call"] = "tool_call"


@dataclass
class ToolResult:
    """The answer of a tool to the call `call_id`.

    Example:
        >>> recorded_message(ToolResult("7 C", "c1")).call_id
        'c1'
    """

    content: str
    call_id: str
    type: Literal["tool_result"] = "tool_result"


UploadType: TypeAlias = UserMessage | AssistantMessage | SystemMessage | ReasoningItem | ToolCall | ToolResult

_ROLES: Mapping[str, types.Role] = {"user_message": "user", "assistant_message": "assistant", "system_message": "system"}


def recorded_message(message: Any) -> types.Message:
    """Return a message as it is recorded. Dictionaries and other objects with the same fields are messages too.

    Raises:
        MessageError: It has no known `type`, or a field that is not text.
    """
    if isinstance(message, types.Message):
        return message
    if isinstance(message, types.ReasoningItem | types.ToolCall):
        return types.Message("assistant", (message,))
    if isinstance(message, types.ToolResult):
        return types.split_results(types.Message("tool", (message,)))[0]
    kind = _field(message, "type")
    if kind == "reasoning":
        content, reference, summary = (_text(message, name) for name in ("content", "content_reference", "summary"))
        return types.Message("assistant", (types.ReasoningItem(content, reference, summary),))
    if kind == "tool_call":
        call = types.ToolCall(_text(message, "name") or "", call_id=_text(message, "call_id") or "", content=_json(message))
        return types.Message("assistant", (call,))
    if kind == "tool_result":
        return types.ToolMessage(_json(message), _text(message, "call_id"))
    if isinstance(kind, str) and kind in _ROLES:
        return types.Message(_ROLES[kind], types.as_blocks(_text(message, "content") or ""))
    raise MessageError(
        f"{shown(message)} is not a message: give a UserMessage, AssistantMessage, SystemMessage, ReasoningItem, ToolCall or "
        "ToolResult, or use the log_... method of your model's provider"
    )


def _field(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, Mapping) else getattr(message, name, None)


def _text(message: Any, name: str) -> str | None:
    value = _field(message, name)
    if value is None or isinstance(value, str):
        return value
    raise MessageError(f"{name} of {shown(message)} must be text, not {shown(value)}")


def _json(message: Any) -> str:
    """Return the content of a call or a result: a text, or JSON as text."""
    value: Json = _field(message, "content")
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise MessageError(f"content of {shown(message)} must be text or JSON, not {shown(value)}") from None
