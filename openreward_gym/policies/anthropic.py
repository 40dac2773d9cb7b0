"""Policy for Anthropic's models."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Mapping
from typing import Any, cast

from openreward_gym.chat import AnthropicDialect, from_anthropic
from openreward_gym.chat.history import ANTHROPIC_RULES
from openreward_gym.policies.functions import function_specs
from openreward_gym.policies.model import ModelPolicy
from openreward_gym.policies.policy import Transcript
from openreward_gym.types import AssistantMessage, ToolSet

MAX_TOKENS = 8192
"""Default limit on the tokens of a response. The API requires a limit."""


class AnthropicPolicy(ModelPolicy):
    """A model behind Anthropic's Messages API. The arguments are those of `ModelPolicy`."""

    provider = "anthropic"
    sdk = "anthropic"
    key_env = "ANTHROPIC_API_KEY"
    rules = ANTHROPIC_RULES

    def parameters(self) -> Collection[str]:
        resource = importlib.import_module("anthropic.resources.messages").AsyncMessages
        return inspect.signature(resource.create).parameters.keys() - {"self"}

    def make_client(self, key: str) -> Any:
        return self._sdk.AsyncAnthropic(api_key=key, base_url=self.url, max_retries=0, timeout=self._timeout_s)

    def request(self, transcript: Transcript, tools: ToolSet) -> dict[str, Any]:
        names = self.names(tools)
        system, messages = AnthropicDialect().write_request(transcript, rules=self.rules, names=names)
        functions = function_specs(tools, "input_schema", names)
        return {
            "model": self.model,
            "max_tokens": MAX_TOKENS,
            "messages": messages,
            **({"system": system} if system else {}),
            **({"tools": functions} if functions else {}),
            **self.sampling,
        }

    async def send(self, client: Any, request: Mapping[str, Any]) -> Any:
        return await client.messages.create(**request)

    def read(self, answer: Any) -> AssistantMessage:
        return cast(AssistantMessage, from_anthropic(answer)[0])
