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
from openreward_gym.policies.parameters import known_to_sdk, unsupported
from openreward_gym.policies.policy import Transcript
from openreward_gym.types import AssistantMessage, Json, ToolSet

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
        # Newer versions of the SDK have no argument for the last three, and the API has them.
        return (inspect.signature(resource.create).parameters.keys() - {"self"}) | {"temperature", "top_p", "top_k"}

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
            # Its newer versions have no argument for parameters that only older models take.
            **known_to_sdk(self.sampling, "anthropic.resources", "AsyncMessages"),
        }

    def translate(self, parameters: Mapping[str, Json]) -> dict[str, Any]:
        request: dict[str, Any] = {}
        for name, value in parameters.items():
            if name in ("temperature", "top_p"):
                request[name] = value
            elif name == "max_output_tokens":
                request["max_tokens"] = value
            elif name == "metadata" and value.keys() == {"user_id"}:
                request[name] = dict(value)
            elif name == "tool_choice":
                request[name] = {**request.get(name, {}), **self._tool_choice(value)}
            elif name == "parallel_tool_calls":
                request["tool_choice"] = {"type": "auto", **request.get("tool_choice", {}), "disable_parallel_tool_use": True}
            else:
                hint = "Anthropic has a parameter of its own: --policy-option thinking=..." if name == "reasoning" else ""
                raise unsupported(name, value, self.name, hint or "Anthropic's API has no such parameter")
        return request

    def _tool_choice(self, value: Json) -> dict[str, Any]:
        kinds = {"required": "any", "none": "none", "auto": "auto"}
        if isinstance(value, str) and value in kinds:
            return {"type": kinds[value]}
        if isinstance(value, Mapping) and value.get("type") == "function" and isinstance(value.get("name"), str):
            return {"type": "tool", "name": value["name"]}
        raise unsupported("tool_choice", value, self.name, 'it is "none", "auto", "required" or a function')

    async def send(self, client: Any, request: Mapping[str, Any]) -> Any:
        return await client.messages.create(**request)

    def read(self, answer: Any) -> AssistantMessage:
        return cast(AssistantMessage, from_anthropic(answer)[0])
