"""Whatever a server or the platform answers, a program of the official client gets a result or a named error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gateway import DIFFICULTY, KEY, Gateway, gateway

from openreward_gym.compat import OpenReward
from openreward_gym.compat.api.errors import OpenRewardError

NONSENSE: list[Any] = [
    *(None, True, 7, "text", [], {}, [None], [[]], {"a": 1}, {"tasks": 7}, {"tasks": [None]}, {"tools": 7}, {"tools": [None]}),
    *({"tools": [{"name": 7}]}, {"tools": [{"name": "a", "input_schema": 7}]}, {"tools": [], "terminal_tool": 7}, {"secrets": 7}),
    *({"secrets": [None]}, {"num_tasks": "many"}, {"task": 7}, {"tasks": [{**DIFFICULTY, "response_chars": None}]}),
    *({"tasks": [{"task_index": 1}]}, [{"role": 7}], [{"role": "user", "blocks": 7}], [{"type": "tool_call"}], [{"type": 7}]),
    *([{"name": 7}], [{"role": "tool", "blocks": [{"type": "text", "text": 7}]}], {"env_name": 7, "tasks": [{}]}),
]
# Schemas that a server may send: each format is made of them, or refused by name.
SCHEMAS: list[Any] = [
    *({"anyOf": 7}, {"anyOf": [7]}, {"oneOf": {"a": 1}}, {"allOf": []}, {"type": ["array"]}, {"type": 7}, {"properties": None}),
    *({"title": {"title": []}}, {"anyOf": [{"anyOf": [{"type": "null"}]}]}, {"type": "array", "items": None}),
]


@pytest.fixture
def platform(server_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    with gateway(server_url) as platform:
        monkeypatch.setenv("OPENREWARD_SESSION_URL", platform.url)
        monkeypatch.setenv("OPENREWARD_API_URL", platform.url)
        yield platform


REQUESTS: list[tuple[str, Callable[[Any], Any]]] = [
    ("splits", lambda one: one.list_splits()),
    ("tasks", lambda one: one.list_tasks("train")),
    ("num_tasks", lambda one: one.num_tasks("train")),
    ("task", lambda one: one.get_task("train", 0)),
    ("task_range", lambda one: one.get_task_range("train")),
    ("tools", lambda one: [one.list_tools(format) for format in (None, "openai", "openrouter", "anthropic", "google")]),
    ("tools", lambda one: [one.terminal_tool(), one.supports_score_group()]),
    ("required-secrets", lambda one: one.list_required_secrets()),
    ("task-difficulty", lambda one: one.get_task_difficulty()),
]
IN_SESSION: list[tuple[str, Callable[[Any], Any]]] = [
    ("prompt", lambda one: one.get_prompt()),
    ("messages", lambda one: [one.get_messages(format) for format in (None, "openai", "anthropic", "google")]),
    ("task_tools", lambda one: [one.list_tools("openai"), one.terminal_tool()]),
    ("version", lambda one: one.version()),
    ("call", lambda one: one.call_tool("echo", {"text": "a"})),
    ("score_group", lambda one: one.score_group([[]])),
]


def named(request: Callable[[Any], Any], one: Any) -> str:
    """Return the class of the error of a request, or "" for a result. Any other exception fails the test."""
    try:
        request(one)
    except OpenRewardError as error:
        return type(error).__name__
    except ValueError:  # a conversation that a format cannot express
        return "ValueError"
    return ""


@pytest.mark.parametrize(("segment", "request_"), REQUESTS)
def test_nonsense_about_an_environment(segment: str, request_: Callable[[Any], Any], platform: Gateway) -> None:
    with OpenReward(KEY) as client:
        environment = client.environments.get("owner/name")
        results = set()
        for nonsense in NONSENSE:
            platform.instead = {segment: nonsense}
            results.add(named(request_, environment))
        assert "TransportError" in results
        assert results <= {"", "TransportError"}


@pytest.mark.parametrize(("segment", "request_"), IN_SESSION)
def test_nonsense_in_a_session(segment: str, request_: Callable[[Any], Any], platform: Gateway) -> None:
    with OpenReward(KEY) as client, client.environments.get("owner/name").session(split="train", index=0) as session:
        results = set()
        # A call is repeated while no answer came.
        for nonsense in NONSENSE[:3] if segment in ("call", "score_group") else NONSENSE:
            platform.instead = {segment: nonsense}
            results.add(named(request_, session))
        assert results & {"TransportError", "MaxRetriesError"}


def test_odd_schemas(platform: Gateway) -> None:
    with OpenReward(KEY) as client:
        environment = client.environments.get("owner/name")
        for schema in SCHEMAS:
            platform.instead = {"tools": {"tools": [{"name": "a", "description": "b", "input_schema": schema}]}}
            for format in ("openai", "openrouter", "anthropic", "google"):
                assert len(environment.list_tools(format)) == 1
