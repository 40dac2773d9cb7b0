"""Policy for Google's Gemini models."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping
from typing import Any, cast

from openreward_gym.chat import GeminiDialect, from_gemini
from openreward_gym.chat.history import GEMINI_RULES
from openreward_gym.errors import MessageError
from openreward_gym.jsonio import loads
from openreward_gym.policies.functions import function_specs
from openreward_gym.policies.model import ModelPolicy
from openreward_gym.policies.parameters import unsupported
from openreward_gym.policies.policy import Transcript
from openreward_gym.types import AssistantMessage, Json, ToolSet


class GooglePolicy(ModelPolicy):
    """A model behind the Gemini API. The arguments are those of `ModelPolicy`."""

    provider = "google"
    sdk = "google.genai"
    key_env = "GEMINI_API_KEY"
    rules = GEMINI_RULES

    def parameters(self) -> Collection[str]:
        fields: Mapping[str, Any] = self._sdk.types.GenerateContentConfig.model_fields
        return fields.keys() | {one.alias for one in fields.values() if one.alias}

    def make_client(self, key: str) -> Any:
        options: dict[str, Any] = {"timeout": int(self._timeout_s * 1000)}
        if self.url is not None:
            options["base_url"] = self.url
        return self._sdk.Client(api_key=key, vertexai=False, http_options=options)

    async def close_client(self, client: Any) -> None:
        await client.aio.aclose()
        client.close()

    def request(self, transcript: Transcript, tools: ToolSet) -> dict[str, Any]:
        names = self.names(tools)
        system, contents = GeminiDialect().write_request(transcript, rules=self.rules, names=names)
        declarations = function_specs(tools, "parameters_json_schema", names)
        config: dict[str, Any] = {"automatic_function_calling": {"disable": True}, **self.sampling}
        if system:
            config["system_instruction"] = system
        if declarations:
            config["tools"] = [{"function_declarations": declarations}]
        return {"model": self.model, "contents": [_with_bytes(content) for content in contents], "config": config}

    def translate(self, parameters: Mapping[str, Json]) -> dict[str, Any]:
        request: dict[str, Any] = {}
        for name, value in parameters.items():
            if name in ("temperature", "top_p", "max_output_tokens"):
                request[name] = value
            elif name == "tool_choice":
                request["tool_config"] = {"function_calling_config": self._tool_choice(value)}
            else:
                hint = "Google has a parameter of its own: --policy-option thinking_config=..." if name == "reasoning" else ""
                raise unsupported(name, value, self.name, hint or "the Gemini API has no such parameter")
        return request

    def _tool_choice(self, value: Json) -> dict[str, Any]:
        kinds = {"required": "ANY", "none": "NONE", "auto": "AUTO"}
        if isinstance(value, str) and value in kinds:
            return {"mode": kinds[value]}
        if isinstance(value, Mapping) and value.get("type") == "function" and isinstance(value.get("name"), str):
            return {"mode": "ANY", "allowed_function_names": [value["name"]]}
        raise unsupported("tool_choice", value, self.name, 'it is "none", "auto", "required" or a function')

    async def send(self, client: Any, request: Mapping[str, Any]) -> Any:
        config_class = self._sdk.types.GenerateContentConfig
        if "should_return_http_response" not in config_class.model_fields:  # an older SDK
            return await client.aio.models.generate_content(**request)
        # The SDK's own classes raise on a call that is not quite as they expect, and the model's turn would be lost.
        config = config_class(**request["config"], should_return_http_response=True)
        answer = await client.aio.models.generate_content(**{**request, "config": config})
        try:
            return loads(answer.sdk_http_response.body or "{}")
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            raise MessageError(str(error)) from None

    def read(self, answer: Any) -> AssistantMessage:
        return cast(AssistantMessage, from_gemini(answer)[0])


def _with_bytes(content: Mapping[str, Json]) -> dict[str, Any]:
    """Convert a turn to the form of the SDK, which takes data and signatures as bytes instead of base64."""
    parts = []
    for part in content["parts"]:
        part = dict(part)
        if isinstance(part.get("thought_signature"), str):
            part["thought_signature"] = base64.b64decode(part["thought_signature"])
        inline = part.get("inline_data")
        if isinstance(inline, Mapping) and isinstance(inline.get("data"), str):
            part["inline_data"] = {**inline, "data": base64.b64decode(inline["data"])}
        parts.append(part)
    return {**content, "parts": parts}
