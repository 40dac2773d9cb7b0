"""Chat messages as what tables hold: one JSON text each, or structs of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from openreward_gym.export import exact
from openreward_gym.export.columns import Compat


def message_cells(messages: Iterable[Mapping[str, Any]], compat: Compat) -> list[Any]:
    """Chat messages as the cells of a `messages` column.

    Raises:
        DamagedNumberError: "json": a message has a number that `datasets` would give back as another.
    """
    return list(map(exact.message_bytes if compat == "json" else plain_message, messages))


def plain_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of texts alone: arguments as JSON strings, `<image>` where an image is."""
    plain = {**message}
    if isinstance(message["content"], list):
        texts = ["<image>" if part["type"] == "image" else part["text"] for part in message["content"]]
        plain["content"] = "\n".join(texts)
    if "tool_calls" in message:
        plain["tool_calls"] = [with_text_arguments(call) for call in message["tool_calls"]]
    return plain


def with_text_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call whose arguments are a JSON string."""
    function = call["function"]
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else exact.encode(arguments)
    return {**call, "function": {**function, "arguments": text}}
