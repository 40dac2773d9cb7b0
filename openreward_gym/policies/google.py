"""Policy for Google's Gemini models."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, cast

from openreward_gym.chat import from_gemini, to_gemini
from openreward_gym.policies.model import ModelPolicy, function_specs
from openreward_gym.policies.policy import Transcript
from openreward_gym.types import AssistantMessage, Json, ToolSet


class GooglePolicy(ModelPolicy):
    """A model behind the Gemini API. The arguments are those of `ModelPolicy`."""

    provider = "google"
    sdk = "google.genai"
    key_env = "GEMINI_API_KEY"

    def make_client(self, key: str) -> Any:
        options: dict[str, Any] = {"timeout": int(self._timeout_s * 1000)}
        if self.url is not None:
            options["base_url"] = self.url
        return self._sdk.Client(api_key=key, vertexai=False, http_options=options)

    async def close_client(self, client: Any) -> None:
        await client.aio.aclose()
        client.close()

    def request(self, transcript: Transcript, tools: ToolSet) -> dict[str, Any]:
        system, contents = to_gemini(transcript)
        declarations = function_specs(tools, "parameters_json_schema")
        config: dict[str, Any] = {"automatic_function_calling": {"disable": True}, **self.sampling}
        if system:
            config["system_instruction"] = system
        if declarations:
            config["tools"] = [{"function_declarations": declarations}]
        return {"model": self.model, "contents": [_with_bytes(content) for content in contents], "config": config}

    async def send(self, client: Any, request: Mapping[str, Any]) -> Any:
        return await client.aio.models.generate_content(**request)

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
