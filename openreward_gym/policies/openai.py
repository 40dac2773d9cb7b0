"""Policy for OpenAI-compatible models: OpenAI, vLLM, SGLang, OpenRouter, llama.cpp, `transformers serve`, ..."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias, cast, get_args
from urllib.parse import urlsplit

from openreward_gym.chat import OpenAIChatDialect, OpenAIResponsesDialect, ReasoningField, from_openai, from_openai_responses
from openreward_gym.chat.history import CHAT_RULES, NINE_CHARACTERS, RESPONSES_RULES
from openreward_gym.chat.openai import arrival_of_reasoning
from openreward_gym.chat.plain import plain
from openreward_gym.errors import ConfigurationError
from openreward_gym.policies.functions import function_specs
from openreward_gym.policies.model import ModelPolicy
from openreward_gym.policies.parameters import extensions, known_to_sdk, unsupported
from openreward_gym.policies.policy import Transcript
from openreward_gym.types import AssistantMessage, Json, Sampled, ToolSet

Api: TypeAlias = Literal["chat", "responses"]
DeveloperRole: TypeAlias = Literal["developer", "system"]

STATELESS: Mapping[str, Any] = {"store": False, "include": ["reasoning.encrypted_content"]}
"""The server stores nothing: it returns reasoning encrypted, and the next request sends it back."""


class OpenAIPolicy(ModelPolicy):
    """A model behind OpenAI's Chat Completions or Responses API.

    Args:
        model: Name of the model.
        api: "chat" or "responses".
        reasoning_field: Field of a chat message in which the server gets the reasoning of earlier turns: "reasoning_content",
            "reasoning" or "reasoning_details". "auto" sends each turn's reasoning in the field in which it arrived, and none to a
            server that sends none, such as OpenAI's. An empty string never sends any.
        developer_role: Role in which the server gets a developer message: "developer", or "system" for models whose chat template
            knows no developer. Most templates leave such a message out without an error.
        **options: The arguments of `ModelPolicy`.
    """

    provider = "openai"
    sdk = "openai"
    key_env = "OPENAI_API_KEY"

    def __init__(
        self,
        model: str,
        *,
        api: Api = "chat",
        reasoning_field: ReasoningField = "auto",
        developer_role: DeveloperRole = "developer",
        **options: Any,
    ) -> None:
        if api not in get_args(Api):
            raise ConfigurationError(f"api must be one of {', '.join(get_args(Api))}, not {api!r}")
        if reasoning_field not in get_args(ReasoningField):
            fields = ", ".join(repr(field) for field in get_args(ReasoningField))
            raise ConfigurationError(f"reasoning_field must be one of {fields}, not {reasoning_field!r}")
        if developer_role not in get_args(DeveloperRole):
            raise ConfigurationError(f"developer_role must be 'developer' or 'system', not {developer_role!r}")
        self.api = api
        self._reasoning_field: ReasoningField = reasoning_field
        self._developer_role: DeveloperRole = developer_role
        super().__init__(model, **options)
        self.rules = RESPONSES_RULES if api == "responses" else CHAT_RULES
        host = urlsplit(self.url or "").hostname or ""
        if host == "mistral.ai" or host.endswith(".mistral.ai"):
            self.rules = NINE_CHARACTERS

    @property
    def settings(self) -> dict[str, Any]:
        field = {"reasoning_field": self._reasoning_field} if self.api == "chat" else {}
        role = {"developer_role": self._developer_role} if self._developer_role != "developer" else {}
        return {**super().settings, "api": self.api, **field, **role}

    def parameters(self) -> Collection[str]:
        module, name = ("responses", "AsyncResponses") if self.api == "responses" else ("chat", "AsyncCompletions")
        resource = getattr(importlib.import_module(f"openai.resources.{module}"), name)
        return inspect.signature(resource.create).parameters.keys() - {"self"}

    def make_client(self, key: str) -> Any:
        return self._sdk.AsyncOpenAI(api_key=key, base_url=self.url, max_retries=0, timeout=self._timeout_s)

    def request(self, transcript: Transcript, tools: ToolSet) -> dict[str, Any]:
        names = self.names(tools)
        functions = function_specs(tools, "parameters", names)
        if self.api == "responses":
            offers = [{"type": "function", "strict": False, **function} for function in functions]
            _, items = OpenAIResponsesDialect().write_request(transcript, rules=self.rules, names=names)
            request = {"input": self._in_role(items), **STATELESS}
        else:
            offers = [{"type": "function", "function": function} for function in functions]
            dialect = OpenAIChatDialect(self._reasoning_field)
            _, messages = dialect.write_request(transcript, rules=self.rules, names=names)
            request = {"messages": self._in_role(_images_to_user(messages))}
        return {"model": self.model, **request, **({"tools": offers} if offers else {}), **self.sampling}

    def _in_role(self, messages: list[dict[str, Json]]) -> list[dict[str, Json]]:
        """Return messages with the developer's in the role that the server takes."""
        return [{**m, "role": self._developer_role} if m.get("role") == "developer" else m for m in messages]

    def translate(self, parameters: Mapping[str, Json]) -> dict[str, Any]:
        own = dict(parameters)
        body, metadata = extensions(own.pop("metadata", {}))
        if self.api == "responses":
            request = {**own, **({"metadata": metadata} if metadata else {})}
            if isinstance(request.get("tool_choice"), Mapping) and "function" in request["tool_choice"]:
                request["tool_choice"] = {"type": "function", **request["tool_choice"]["function"]}
            if "include" in request:
                request["include"] = [*dict.fromkeys([*STATELESS["include"], *request["include"]])]
            function = "openai.resources.responses", "AsyncResponses"
        else:
            request = chat_parameters(own, self.name, is_hosted=not (self.url or os.environ.get("OPENAI_BASE_URL")))
            request |= {"metadata": metadata} if metadata else {}
            function = "openai.resources.chat.completions", "AsyncCompletions"
        # Model servers take many parameters of their own.
        request = known_to_sdk(request, *function)
        return request if not body else {**request, "extra_body": {**request.get("extra_body", {}), **body}}

    async def send(self, client: Any, request: Mapping[str, Any]) -> Any:
        if self.api == "responses":
            return await client.responses.create(**request)
        return await client.chat.completions.create(**request)

    def read(self, answer: Any) -> AssistantMessage:
        if self.api == "responses":
            return cast(AssistantMessage, from_openai_responses(answer)[0])
        data = plain(answer)
        message = cast(AssistantMessage, from_openai(data)[0])
        if field := arrival_of_reasoning(data):
            sampled = message.sampled or Sampled()
            metadata = {**(sampled.metadata or {}), "reasoning_field": field}
            message = message.replace(sampled=replace(sampled, metadata=metadata))
        return message


def chat_parameters(parameters: Mapping[str, Json], policy: str, *, is_hosted: bool) -> dict[str, Any]:
    """Return parameters of the Responses API as those of chat completions.

    Args:
        parameters: The parameters, without `metadata`.
        policy: Name of the policy, for errors.
        is_hosted: True for OpenAI's own API, whose newer models take `max_completion_tokens`; other servers take `max_tokens`.

    Raises:
        ConfigurationError: Chat completions have nothing for a parameter.

    Example:
        >>> chat_parameters({"max_output_tokens": 9, "reasoning": {"effort": "low"}}, "openai:m", is_hosted=False)
        {'max_tokens': 9, 'reasoning_effort': 'low'}
    """
    request: dict[str, Any] = {}
    for name, value in parameters.items():
        if name == "max_output_tokens":
            request["max_completion_tokens" if is_hosted else "max_tokens"] = value
        elif name == "tool_choice" and isinstance(value, Mapping) and "function" not in value:
            if value.get("type") != "function" or not isinstance(value.get("name"), str):
                raise unsupported(name, value, policy, 'with api="chat" it is "none", "auto", "required" or a function')
            request[name] = {"type": "function", "function": {"name": value["name"]}}
        elif name == "top_logprobs":
            request |= {"logprobs": True, name: value}
        elif name == "include" and value == ["message.output_text.logprobs"]:
            request["logprobs"] = True
        elif name == "reasoning" and value.keys() <= {"effort"}:
            request["reasoning_effort"] = value["effort"]
        elif name == "text" and value.keys() <= {"format", "verbosity"}:
            request |= _text_parameters(value)
        elif name in ("include", "reasoning", "text", "truncation", "max_tool_calls"):
            raise unsupported(
                name,
                value,
                policy,
                'chat completions have no such parameter; api="responses" does (--policy-option api=responses)',
            )
        else:
            request[name] = value
    return request


def _text_parameters(text: Mapping[str, Json]) -> dict[str, Any]:
    """Return the format and the verbosity of answers as parameters of chat completions."""
    form = text.get("format")
    request: dict[str, Any] = {"verbosity": text["verbosity"]} if text.get("verbosity") is not None else {}
    if not isinstance(form, Mapping) or form.get("type") == "text":
        return request
    if form.get("type") == "json_schema":
        form = {"type": "json_schema", "json_schema": {key: value for key, value in form.items() if key != "type"}}
    return {**request, "response_format": form}


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
