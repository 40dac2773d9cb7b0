"""The undocumented parts of the `openreward` SDK that serve/ relies on.

A failure here means that a new version of the SDK changed one of them: adapt the module that the message names, and the bound
in pyproject.toml.
"""

# mypy: disable-error-code="misc,untyped-decorator"
# (the SDK has no types)

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from typing import Any

import pytest
from echo_environments import Echo, Words
from openreward.environments import Server, TextBlock, ToolOutput, tool

from openreward_gym.serve import host
from openreward_gym.serve.asgi import separate_caches
from openreward_gym.serve.host import Host, SdkLog

USED = {
    "environments.session": ["call_session_tool", "list_session_tools"],
    "environments.utils": ["run_user_callable"],
    "environments.types": [
        "Blocks", "CreateSession", "GetTask", "GetTaskRange", "GroupScore", "ListTasks", "ListToolsOutput", "Message", "NumTasks",
        "RunToolOutput", "ScoreGroup", "ScoreGroupOutput", "ToolCall", "ToolOutput", "ToolSpec",
    ],
    "toolsets": ["BUILTIN_TOOLSETS"],
}  # fmt: skip


@pytest.mark.parametrize(("module", "names"), USED.items())
def test_the_names_that_are_not_in_a_public_list(module: str, names: list[str]) -> None:
    missing = [name for name in names if not hasattr(importlib.import_module(f"openreward.{module}"), name)]
    assert not missing, f"serve/host.py and serve/bridged.py use {missing} of openreward.{module}"


def test_the_loggers_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENREWARD_LOG_LEVEL", raising=False)
    Host([Echo])
    for name in ("environment", "session"):
        module = importlib.import_module(f"openreward.environments.{name}")
        assert isinstance(module.logger, SdkLog), f"serve/host.py replaces the logger of openreward.environments.{name}"
    events: list[str] = []
    monkeypatch.setattr(SdkLog, "info", lambda self, event, **fields: events.append(event))
    asyncio.run(Echo({"n": 0})._call_tool("say", {"words": "hello"}))
    assert events, "the SDK logs calls elsewhere: serve/host.py no longer keeps them off standard output"


class Parent(Echo):
    """Has the tasks 0 and 1."""


class Child(Parent):
    """Has other tasks than its parent."""

    @classmethod
    def list_tasks(cls, split: str) -> list[Any]:
        return [{"n": 7}]


def test_a_subclass_inherits_the_caches_of_its_parent() -> None:
    Server([Parent])
    assert asyncio.run(Parent.get_task("train", 0)) == {"n": 0}
    inherited = asyncio.run(Child.get_task("train", 0))
    assert inherited == {"n": 0}, "the SDK separates the caches itself: separate_caches in serve/asgi.py can go"
    separate_caches([Child])
    assert asyncio.run(Child.get_task("train", 0)) == {"n": 7}, "the SDK keeps its caches elsewhere: see serve/asgi.py"
    assert asyncio.run(Parent.get_task("train", 0)) == {"n": 0}


def test_calls_introspect_a_tool_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Signed(Echo):
        @tool
        async def stop(self) -> ToolOutput:
            """Stop."""
            return ToolOutput(blocks=[TextBlock(text="stopped")])

        @tool
        async def shout(self, arguments: Words) -> ToolOutput:
            """Shout."""
            return ToolOutput(blocks=[TextBlock(text=arguments.words.upper())])

    Host([Signed])
    introspect = host._introspect
    introspected: list[str] = []

    def counted(method: Any) -> Any:
        introspected.append(method.__name__)
        return introspect(method)

    monkeypatch.setattr(host, "_introspect", counted)
    for _ in range(2):
        environment = Signed({"n": 0})
        asyncio.run(environment._call_tool("stop", {}))
        asyncio.run(environment._call_tool("shout", {"words": "hello"}))
    assert introspected == ["stop", "shout"], "the SDK introspects tools in another way: see introspect_tool in serve/host.py"
    for method in (environment.stop, environment.shout):
        results = (introspect(method), host.introspect_tool(method), host.introspect_tool(method))
        assert results[0] == results[1] == results[2], "the SDK's _introspect_tool has another result: see serve/host.py"


def test_the_server_needs_no_model_clients() -> None:
    code = (
        "import sys; from openreward_gym.serve.child import skip_package_init; skip_package_init('openreward');"
        "import openreward.environments;"
        "print('openreward' in sys.modules, {'openai', 'anthropic', 'google.genai'} & {*sys.modules})"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "True set()\n", "skip_package_init in serve/child.py no longer saves the imports of the SDK's clients"
