"""What `step` takes, as the one thing it means: an assistant's message."""

from __future__ import annotations

from typing import Any

from openreward_gym.chat import parse_action
from openreward_gym.errors import ConfigurationError
from openreward_gym.types import AssistantMessage

ACTION_FORMS = (
    '{"name": ..., "arguments": {...}}, a list of such calls, an OpenAI, Anthropic or Gemini tool call or message '
    "(dict or SDK object), an AssistantMessage, or plain text"
)


def as_message(action: Any) -> AssistantMessage:
    """Read an action.

    Raises:
        ConfigurationError: It is nothing a step can take. (A call with wrong arguments is a fine action.)
    """
    if isinstance(action, AssistantMessage):
        return action
    try:
        return parse_action(action)
    except (TypeError, ValueError) as error:
        shown = repr(action)
        shown = shown if len(shown) <= 200 else shown[:200] + "..."
        raise ConfigurationError(f"step() cannot take {shown} ({error}); it takes {ACTION_FORMS}") from None
