"""Policy for Anthropic's models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from openreward_gym.chat import from_anthropic, to_anthropic
from openreward_gym.policies.model import ModelPolicy, function_specs
from openreward_gym.policies.policy import Transcript
from openreward_gym.types import AssistantMessage, ToolSet

MAX_TOKENS = 8192
"""Default limit on the tokens of a response. The API requires a limit."""


class AnthropicPolicy(ModelPolicy):
    """A model behind Anthropic's Messages API. The arguments are those of `ModelPolicy`."""

    provider = "anthropic"
    sdk = "anthropic"
    key_env = "ANTHROPIC_API_KEY"

    def make_client(self, key: str) -> Any:
        return self._sdk.AsyncAnthropic(api_key=key, base_url=self.url, max_retries=0, timeout=self._timeout_s)

    def request(self, transcript: Transcript, tools: ToolSet) -> dict[str, Any]:
        system, turns = to_anthropic(transcript)
        # The API refuses empty texts and turns, which environments and models do produce.
        messages = [{**turn, "content": [b for b in turn["content"] if b.get("text") != ""]} for turn in turns]
        functions = function_specs(tools, "input_schema")
        return {
            "model": self.model,
            "max_tokens": MAX_TOKENS,
            "messages": [turn for turn in messages if turn["content"]],
            **({"system": system} if system else {}),
            **({"tools": functions} if functions else {}),
            **self.sampling,
        }

    async def send(self, client: Any, request: Mapping[str, Any]) -> Any:
        return await client.messages.create(**request)

    def read(self, answer: Any) -> AssistantMessage:
        return cast(AssistantMessage, from_anthropic(answer)[0])
