"""Any OpenAI-compatible model: OpenAI, vLLM, SGLang, OpenRouter, llama.cpp, `transformers serve`, ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from openreward_gym.chat import ReasoningField, from_openai, from_openai_responses, to_openai, to_openai_responses
from openreward_gym.errors import ConfigurationError
from openreward_gym.policies.base import Transcript
from openreward_gym.policies.model import NO_ARGUMENTS, ModelPolicy
from openreward_gym.types import AssistantMessage, Json, ToolSet

Api: TypeAlias = Literal["chat", "responses"]


class OpenAIPolicy(ModelPolicy):
    """A model behind OpenAI's chat completions or responses.

    Args:
        model: The model's name.
        api: "chat" or "responses".
        reasoning_field: Where a server wants past reasoning in chat messages; empty leaves it out, as OpenAI wants it.
        **options: As for `ModelPolicy`.
    """

    provider = "openai"
    sdk = "openai"
    key_env = "OPENAI_API_KEY"

    def __init__(self, model: str, *, api: Api = "chat", reasoning_field: ReasoningField = "", **options: Any) -> None:
        if api not in get_args(Api):
            raise ConfigurationError(f"api must be one of {', '.join(get_args(Api))}, not {api!r}")
        self.api = api
        self._reasoning_field: ReasoningField = reasoning_field
        super().__init__(model, **options)

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "api": self.api}

    def make_client(self, key: str) -> Any:
        return self._sdk.AsyncOpenAI(api_key=key, base_url=self.url, max_retries=0, timeout=self._timeout_s)

    def request(self, transcript: Transcript, tools: ToolSet) -> dict[str, Any]:
        functions = [
            {"name": tool.name, "description": tool.description, "parameters": dict(tool.input_schema or NO_ARGUMENTS)}
            for tool in tools
        ]
        if self.api == "responses":
            # Nothing is kept there: reasoning comes back encrypted, and goes along with the next request.
            kept: dict[str, Any] = {"store": False, "include": ["reasoning.encrypted_content"]}
            offered = [{"type": "function", "strict": False, **function} for function in functions]
            request = {"input": to_openai_responses(transcript), **kept}
        else:
            offered = [{"type": "function", "function": function} for function in functions]
            request = {"messages": _images_to_user(to_openai(transcript, reasoning=self._reasoning_field))}
        return {"model": self.model, **request, **({"tools": offered} if offered else {}), **self.sampling}

    async def send(self, client: Any, request: Mapping[str, Any]) -> Any:
        if self.api == "responses":
            return await client.responses.create(**request)
        return await client.chat.completions.create(**request)

    def read(self, answer: Any) -> AssistantMessage:
        message = (from_openai_responses(answer) if self.api == "responses" else from_openai(answer))[0]
        assert isinstance(message, AssistantMessage)
        return message


def _images_to_user(messages: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """Images of tool results in a user message after the results: a "tool" message holds text alone."""
    found: list[dict[str, Json]] = []
    waiting: list[Json] = []
    for message in messages:
        if message["role"] != "tool" and waiting:
            found.append({"role": "user", "content": waiting})
            waiting = []
        if message["role"] == "tool" and isinstance(message["content"], list):
            images = [part for part in message["content"] if part.get("type") == "image_url"]
            rest = [part for part in message["content"] if part.get("type") != "image_url"]
            waiting += images
            if images:
                message = {**message, "content": rest or "The image follows."}
        found.append(message)
    return [*found, {"role": "user", "content": waiting}] if waiting else found
