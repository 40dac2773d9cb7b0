"""Conversations in the form that chat templates read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

from openreward_gym.chat.history import TEMPLATE_RULES, HistoryRules, server_history
from openreward_gym.chat.openai import to_openai
from openreward_gym.errors import MessageError
from openreward_gym.jsonio import Json
from openreward_gym.types import Message, text_separator

_IMAGES = ("image", "image_url")


def template_messages(
    transcript: Sequence[Message], rules: HistoryRules = TEMPLATE_RULES, *, images: bool = False
) -> list[dict[str, Any]]:
    """Return a conversation as chat templates read it: content as one text, arguments as objects, the developer as system.

    The calls are in the form of `server_history`: malformed arguments are `{}`, and each call has one result after it.

    Args:
        transcript: The conversation.
        rules: The ids of calls that the template takes.
        images: Keep images: the content of a message with one is a list of parts, `{"type": "image"}` among them.

    Raises:
        MessageError: A message has a part that the template cannot show, such as an image without `images`.

    Example:
        >>> from openreward_gym.types import AssistantMessage, ToolCall
        >>> template_messages([AssistantMessage(tool_calls=[ToolCall("ls", {"path": "/"})])])[0]["tool_calls"][0]["function"]
        {'name': 'ls', 'arguments': {'path': '/'}}
    """
    history = to_openai(server_history(transcript, rules), reasoning="reasoning_content")
    return [_template_message(message, images) for message in history]


def _template_message(message: dict[str, Json], images: bool) -> dict[str, Any]:
    converted = {**message, "content": _content(message, images)}
    if message["role"] == "developer":
        converted["role"] = "system"  # templates leave out messages of a role that they do not know
    if message.get("tool_calls"):
        converted["tool_calls"] = []
        for call in message["tool_calls"]:
            function = dict(call.get("function") or {})
            with contextlib.suppress(KeyError, ValueError):  # the input of a custom tool is a text
                function["arguments"] = json.loads(function["arguments"])
            converted["tool_calls"].append({**call, "function": function})
    return converted


def _content(message: dict[str, Json], images: bool) -> str | list[dict[str, str]]:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    readable = ("text", *_IMAGES) if images else ("text",)
    other = next((part.get("type") for part in content if part.get("type") not in readable), None)
    if other is not None:
        raise MessageError(f"a message of the role {message['role']} has a part of the type {other!r}", reason=str(other))
    if any(part["type"] in _IMAGES for part in content):
        return [{"type": "image"} if part["type"] in _IMAGES else {"type": "text", "text": part["text"]} for part in content]
    return text_separator(message["role"]).join(part["text"] for part in content)
