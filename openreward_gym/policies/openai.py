"""Policy for OpenAI-compatible models: OpenAI, vLLM, SGLang, OpenRouter, llama.cpp, `transformers serve`, ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast, get_args

from openreward_gym.chat import ReasoningField, from_openai, from_openai_responses, to_openai, to_openai_responses
from openreward_gym.errors import ConfigurationError
from openreward_gym.policies.model import ModelPolicy, function_specs
from openreward_gym.policies.policy import Transcript
from openreward_gym.types import AssistantMessage, Json, ToolSet

Api: TypeAlias = Literal["chat", "responses"]


class OpenAIPolicy(ModelPolicy):
    """A model behind OpenAI's Chat Completions or Responses API.

    Args:
        model: Name of the model.
        api: "chat" or "responses".
        reasoning_field: Field of a chat message in which the server expects past reasoning. An empty string omits past
            reasoning, as OpenAI expects.
        **options: The arguments of `ModelPolicy`.
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
        functions = function_specs(tools, "parameters")
        if self.api == "responses":
            # The server stores nothing: it returns reasoning encrypted, and the next request sends it back.
            stateless: dict[str, Any] = {"store": False, "include": ["reasoning.encrypted_content"]}
            offers = [{"type": "function", "strict": False, **function} for function in functions]
            request = {"input": to_openai_responses(transcript), **stateless}
        else:
            offers = [{"type": "function", "function": function} for function in functions]
            request = {"messages": _images_to_user(to_openai(transcript, reasoning=self._reasoning_field))}
        return {"model": self.model, **request, **({"tools": offers} if offers else {}), **self.sampling}

    async def send(self, client: Any, request: Mapping[str, Any]) -> Any:
        if self.api == "responses":
            return await client.responses.create(**request)
        return await client.chat.completions.create(**request)

    def read(self, answer: Any) -> AssistantMessage:
        messages = from_openai_responses(answer) if self.api == "responses" else from_openai(answer)
        return cast(AssistantMessage, messages[0])


def _images_to_user(messages: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """Move images of tool results into a user message after the results, because a "tool" message can only hold text."""
    moved: list[dict[str, Json]] = []
    images_waiting: list[Json] = []
    for message in messages:
        if message["role"] != "tool" and images_waiting:
            moved.append({"role": "user", "content": images_waiting})
            images_waiting = []
        if message["role"] == "tool" and isinstance(message["content"], list):
            images = [part for part in message["content"] if part.get("type") == "image_url"]
            texts = [part for part in message["content"] if part.get("type") != "image_url"]
            images_waiting += images
            if images:
                message = {**message, "content": texts or "The image follows."}
        moved.append(message)
    return [*moved, {"role": "user", "content": images_waiting}] if images_waiting else moved
