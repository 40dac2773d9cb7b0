"""Parameters of a request as each policy takes them, and those that it cannot follow."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Any

import pytest
from providers import Providers, providing

from openreward_gym.errors import ConfigurationError
from openreward_gym.policies import resolve
from openreward_gym.policies.parameters import ParametrizedPolicy, extensions, requested, with_parameters
from openreward_gym.types import AssistantMessage, Task, ToolSet, ToolSpec, UserMessage

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

TRANSCRIPT = (UserMessage("What's the weather like in Seattle?"),)
TOOLS = ToolSet((ToolSpec("get_weather", "", {"type": "object", "properties": {}}, {"strict": True}),))
FUNCTION = {"type": "function", "name": "get_weather"}


@pytest.fixture(scope="module")
def server() -> Iterator[Providers]:
    with providing() as server:
        yield server


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "not-a-key")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def sent(server: Providers, name: str, parameters: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Return the request that a policy sends with the parameters."""
    server.requests.clear()
    url = f"{server.url}/v1" if name.startswith("openai") else server.url
    policy: Any = resolve(name, url=url, **options)

    async def ask() -> None:
        await with_parameters(policy, parameters)(TRANSCRIPT, TOOLS)  # type: ignore[operator]
        await policy.aclose()

    asyncio.run(ask())
    return server.requests[0]


def test_chat_completions(server: Providers) -> None:
    parameters = {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 7,
        "tool_choice": FUNCTION,
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
        "top_logprobs": 2,
        "metadata": {"extra_body": '{"top_k": 3}', "user": "u"},
        "repetition_penalty": 1.1,
        "user": "someone",
    }
    request = sent(server, "openai:good", parameters)
    assert request["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}
    assert request["response_format"] == {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}
    names = ("temperature", "top_p", "max_tokens", "parallel_tool_calls", "reasoning_effort", "verbosity")
    assert [request[name] for name in names] == [0.5, 0.9, 7, False, "low", "low"]
    assert (request["logprobs"], request["top_logprobs"], request["top_k"], request["repetition_penalty"]) == (True, 2, 3, 1.1)
    assert (request["metadata"], request["user"]) == ({"user": "u"}, "someone")
    assert request["tools"][0]["function"]["strict"] is True
    assert resolve("openai:m").with_parameters({"max_output_tokens": 7}).sampling == {"max_completion_tokens": 7}  # type: ignore[union-attr]


def test_responses(server: Providers) -> None:
    parameters = {
        "max_output_tokens": 7,
        "tool_choice": FUNCTION,
        "reasoning": {"effort": "low", "summary": "auto"},
        "truncation": "auto",
        "max_tool_calls": 3,
        "include": ["message.output_text.logprobs"],
        "metadata": {"user": "u"},
        "min_p": 0.1,
    }
    request = sent(server, "openai:good", parameters, api="responses")
    assert request["include"] == ["reasoning.encrypted_content", "message.output_text.logprobs"]
    assert {name: request[name] for name in parameters if name != "include"} == {
        name: value for name, value in parameters.items() if name != "include"
    }
    assert request["store"] is False


def test_anthropic(server: Providers) -> None:
    parameters = {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 7,
        "parallel_tool_calls": False,
        "metadata": {"user_id": "u"},
    }
    request = sent(server, "anthropic:good", parameters)
    assert [request[name] for name in ("temperature", "top_p", "max_tokens")] == [0.5, 0.9, 7]
    assert request["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert request["metadata"] == {"user_id": "u"}
    request = sent(server, "anthropic:good", {"parallel_tool_calls": False, "tool_choice": "required"})
    assert request["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert sent(server, "anthropic:good", {"tool_choice": FUNCTION})["tool_choice"] == {"type": "tool", "name": "get_weather"}


def test_google(server: Providers) -> None:
    request = sent(server, "google:good", {"temperature": 0.5, "max_output_tokens": 7, "tool_choice": FUNCTION})
    assert request["generationConfig"] == {"temperature": 0.5, "maxOutputTokens": 7}
    config = request["toolConfig"]["functionCallingConfig"]
    assert (config["mode"], config["allowedFunctionNames"]) == ("ANY", ["get_weather"])


@pytest.mark.parametrize("name", ["openai:good", "anthropic:good", "google:good"])
def test_an_option_of_the_policy_wins(server: Providers, name: str) -> None:
    limit = "max_output_tokens" if name.startswith("google") else "max_tokens"
    policy: Any = resolve(name, url=server.url, temperature=0.1, **{limit: 5})
    other: Any = with_parameters(policy, {"temperature": 0.9, "max_output_tokens": 7, "top_p": 0.5})
    assert other.sampling == {"temperature": 0.1, limit: 5, "top_p": 0.5}
    assert policy.sampling == {"temperature": 0.1, limit: 5}
    assert other.settings["sampling"] == other.sampling
    assert with_parameters(policy, {"temperature": None, "tool_choice": "auto", "parallel_tool_calls": True}) is policy


def test_bodies_are_joined(server: Providers) -> None:
    policy: Any = resolve("openai:good", url=server.url, extra_body={"top_k": 1})
    assert policy.with_parameters({"top_k": 5, "min_p": 0.1}).sampling == {"extra_body": {"top_k": 1, "min_p": 0.1}}


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("openai:m", {}, {"truncation": "auto"}),
        ("openai:m", {}, {"max_tool_calls": 3}),
        ("openai:m", {}, {"reasoning": {"summary": "auto"}}),
        ("openai:m", {}, {"tool_choice": {"type": "web_search"}}),
        ("openai:m", {}, {"include": ["reasoning.encrypted_content"]}),
        ("openai:m", {"api": "responses"}, {"previous_response_id": "r"}),
        ("openai:m", {"api": "responses"}, {"background": True}),
        ("openai:m", {}, {"stream": True}),
        ("openai:m", {}, {"model": "n"}),
        ("anthropic:m", {}, {"reasoning": {"effort": "low"}}),
        ("anthropic:m", {}, {"metadata": {"a": "b"}}),
        ("anthropic:m", {}, {"tool_choice": "any"}),
        ("anthropic:m", {}, {"top_k": 3}),
        ("google:m", {}, {"parallel_tool_calls": False}),
        ("google:m", {}, {"metadata": {"a": "b"}}),
        ("google:m", {}, {"tool_choice": {"type": "custom"}}),
        ("random", {}, {"temperature": 0.5}),
        ("random", {}, {"metadata": {"a": "b"}}),
    ],
)
def test_what_cannot_be_followed_is_named(name: str, options: dict[str, Any], parameters: dict[str, Any]) -> None:
    policy = resolve(name, **options)
    (parameter,) = parameters
    with pytest.raises(ConfigurationError, match=f"cannot follow {parameter}="):
        with_parameters(policy, parameters)


def test_plain_functions_and_objects_get_the_parameters() -> None:
    def plain(transcript: Any, tools: Any, parameters: Any = None) -> AssistantMessage:
        return AssistantMessage(str(parameters))

    def anything(transcript: Any, tools: Any, **keywords: Any) -> AssistantMessage:
        return AssistantMessage(str(keywords["parameters"]))

    class Object:
        async def __call__(self, transcript: Any, tools: Any, *, parameters: Any = None) -> AssistantMessage:
            return AssistantMessage(str(parameters))

    class Episodic:
        name = "mine"

        def begin(self, task: Task, sample: int, seed: int, parameters: Any = None) -> Any:
            return functools.partial(plain, parameters=parameters)

    asked = {"temperature": 0.5}
    for function in (plain, anything, functools.partial(plain)):
        assert with_parameters(function, asked)((), ToolSet()).text == "{'temperature': 0.5}"  # type: ignore[arg-type,operator,union-attr]
    played: Any = with_parameters(Object(), asked)
    assert asyncio.run(played((), ToolSet())).text == "{'temperature': 0.5}"
    episodic: Any = with_parameters(Episodic(), asked)
    assert (episodic.name, episodic.begin(Task(), 0, 0)((), ToolSet()).text) == ("mine", "{'temperature': 0.5}")
    assert not isinstance(Object(), ParametrizedPolicy)


def test_which_parameters_ask_for_something() -> None:
    nothing = {
        "tool_choice": "auto",
        "metadata": {},
        "stream": False,
        "store": False,
        "include": [],
        "text": {"format": {"type": "text"}},
    }
    assert requested({**nothing, "temperature": 0, "x": False}) == {"temperature": 0, "x": False}
    for name, value in {"temperature": -1, "top_p": 2, "max_output_tokens": 0, "parallel_tool_calls": 1, "include": [3]}.items():
        with pytest.raises(ValueError, match=f"its parameter {name} must be"):
            requested({name: value})


def test_extensions_in_metadata() -> None:
    assert extensions({"extra_body": {"a": 1}, "chat_template_kwargs": '{"b": 2}', "c": "3"}) == (
        {"a": 1, "chat_template_kwargs": {"b": 2}},
        {"c": "3"},
    )
    for value in ("{", "3", 3, [1]):
        with pytest.raises(ConfigurationError, match=r"metadata\.extra_body"):
            extensions({"extra_body": value})
