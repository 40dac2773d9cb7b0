"""Support of models that write their tool calls as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium

from openreward_gym.suggestions import suggests_options
from openreward_gym.chat.raw_text import FORMATS, from_raw_text
from openreward_gym.envs.episode import as_message
from openreward_gym.envs.spaces import UnicodeText
from openreward_gym.errors import ConfigurationError
from openreward_gym.types import AssistantMessage, TextBlock
from openreward_gym.wrappers.base import Wrapper


class TextAction(Wrapper):
    """Take a model's raw text as the action, and parse the tool calls in it.

    The formats are `<tool_call>{...}</tool_call>` (Hermes, Qwen), `<function=NAME>` with `<parameter=KEY>` (Qwen-Coder) or JSON
    (Llama), `<|python_tag|>{...}` and plain JSON (Llama), and fenced JSON; with several calls, and reasoning in `<think>`. A
    text without a call is the assistant's plain message. A malformed call gets an error as its observation.

    Messages that already have tool calls pass unchanged, so a policy may send either. If the text has calls, the step keeps the
    original text for recorders.

    Args:
        env: An OpenReward environment, wrapped or not.
        formats: Formats to look for, from "tool_call", "function", "llama" and "json".

    Raises:
        ConfigurationError: A format is unknown, or `env` is not an OpenReward environment.

    Example:
        >>> from openreward_gym.envs import OpenRewardEnv
        >>> TextAction(OpenRewardEnv("weather"), formats=["tool_call"]).action_space
        UnicodeText()
    """

    @suggests_options
    def __init__(self, env: gymnasium.Env[Any, Any], *, formats: Sequence[str] = FORMATS) -> None:
        unknown = [name for name in formats if name not in FORMATS]
        if unknown or isinstance(formats, str) or not formats:
            raise ConfigurationError(f"formats must be a list of formats from {', '.join(FORMATS)}, not {formats!r}")
        super().__init__(env, formats=list(formats))
        self.formats = tuple(formats)
        self.action_space = UnicodeText()

    def on_action(self, action: Any) -> Any:
        message = AssistantMessage(action) if isinstance(action, str) else as_message(action)
        if message.tool_calls or not message.text:
            return message
        parsed = from_raw_text(message.text, formats=self.formats, tools=self.unwrapped.tools.tools)
        if parsed.tool_calls:
            self.unwrapped.annotate(raw_text=message.text)
        others = tuple(block for block in message.blocks if not isinstance(block, TextBlock))
        return message.replace(blocks=(*others, *parsed.blocks))
