"""The lengths of rows in tokens, for `ExportOptions.min_length` and `max_length`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openreward_gym import jsonio
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.conversation import ChatMessage, Conversation
from openreward_gym.export.options import ExportOptions
from openreward_gym.export.tables import Row
from openreward_gym.export.template import ChatTemplate

# Columns of messages that follow each other. Of two alternatives, the longer one counts.
_SEQUENCES = (("messages",), ("prompt", "completion"), ("prompt", "chosen"), ("prompt", "rejected"), ("prompt",))


class LengthLimits:
    """The limits on the length of a row.

    Raises:
        ConfigurationError: There is a limit, but no tokenizer.
    """

    def __init__(self, options: ExportOptions, template: ChatTemplate | None) -> None:
        self._least, self._most = options.min_length, options.max_length
        self._template = template
        if self and template is None:
            name = "max_length" if self._most is not None else "min_length"
            raise ConfigurationError(f"{name} counts tokens: pass tokenizer='a model's name or folder' too")

    def __bool__(self) -> bool:
        return self._least is not None or self._most is not None

    def reason_against(self, row: Row, conversation: Conversation) -> str | None:
        """Return the reason for which a row is left out; None if it is within the limits."""
        try:
            length = self._length_of(row, conversation)
        except Exception as error:  # a template raises errors of any type
            reason = str(error).splitlines()[0][:100] if str(error) else repr(error)
            return f"the template refuses it: {reason}"
        if self._most is not None and length > self._most:
            return f"longer than {self._most} tokens"
        if self._least is not None and length < self._least:
            return f"shorter than {self._least} tokens"
        return None

    def _length_of(self, row: Row, conversation: Conversation) -> int:
        if "input_ids" in row:
            return len(row["input_ids"])
        sequences = [columns for columns in _SEQUENCES if all(_is_chat(row.get(column)) for column in columns)]
        texts = [
            self._render([message for column in columns for message in map(_message_of, row[column])], conversation.tools)
            for columns in sequences
        ]
        # Lines of other shapes (sharegpt, atif ...) hold the whole conversation.
        texts = texts or [self._render(conversation.messages, conversation.tools)]
        assert self._template is not None
        return max(map(len, self._template.encode(texts)))

    def _render(self, messages: list[ChatMessage], tools: Any) -> str:
        assert self._template is not None
        return self._template.render(messages, tools)


def _is_chat(cells: Any) -> bool:
    """Return True for cells of chat messages, encoded or not."""
    if not isinstance(cells, Sequence) or isinstance(cells, (str, bytes)) or not cells:
        return False
    return all(isinstance(cell, bytes) or (isinstance(cell, dict) and "role" in cell and "content" in cell) for cell in cells)


def _message_of(cell: Any) -> ChatMessage:
    """Return the chat message of a cell, with arguments as objects."""
    message: ChatMessage = jsonio.loads(cell) if isinstance(cell, bytes) else cell
    if not message.get("tool_calls"):
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": _object(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _object(arguments: Any) -> Any:
    if isinstance(arguments, str):
        try:
            return jsonio.loads(arguments)
        except ValueError:
            return arguments
    return arguments
