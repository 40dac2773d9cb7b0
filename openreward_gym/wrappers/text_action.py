"""For models that write their tool calls as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium

from openreward_gym.envs.episode import as_message
from openreward_gym.envs.spaces import UnicodeText
from openreward_gym.errors import ConfigurationError
from openreward_gym.chat.raw_text import FORMATS, from_raw_text
from openreward_gym.types import AssistantMessage, TextBlock
from openreward_gym.wrappers.base import Wrapper


class TextAction(Wrapper):
    """Takes a model's raw text as the action, and finds the tool calls in it.

    Understood are `<tool_call>{...}</tool_call>` (Hermes, Qwen), `<function=NAME>` with `<parameter=KEY>` (Qwen-Coder) or
    JSON (Llama), `<|python_tag|>{...}` and plain JSON (Llama), fenced JSON; several calls; reasoning in `<think>`. A text
    without a call is the assistant's plain message. A call that cannot be read gets an error as its observation.

    Messages that have tool calls already pass as they are, so a policy may send either. The text as the model wrote it is
    kept with the step where calls were found in it, for recorders.

    Args:
        env: An OpenReward environment, wrapped or not.
        formats: The formats that are looked for, of "tool_call", "function", "llama" and "json".

    Raises:
        ConfigurationError: There is no such format, or `env` is no OpenReward environment.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, formats: Sequence[str] = FORMATS) -> None:
        unknown = [name for name in formats if name not in FORMATS]
        if unknown or isinstance(formats, str) or not formats:
            raise ConfigurationError(f"formats must be a list of some of {', '.join(FORMATS)}, not {formats!r}")
        super().__init__(env, formats=list(formats))
        self.formats = tuple(formats)
        self.action_space = UnicodeText()

    def on_action(self, action: Any) -> Any:
        message = AssistantMessage(action) if isinstance(action, str) else as_message(action)
        if message.tool_calls or not message.text:
            return message
        read = from_raw_text(message.text, formats=self.formats, tools=self.unwrapped.tools.tools)
        if read.tool_calls:
            self.unwrapped.annotate(raw_text=message.text)
        others = tuple(block for block in message.blocks if not isinstance(block, TextBlock))
        return AssistantMessage((*others, *read.blocks), sampled=message.sampled)
