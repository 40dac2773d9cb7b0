"""The public classes of the official client's rollout modules, and ours: names, parameters and fields are the same."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import typing
from typing import Any

import pytest

MODULES = {
    "api.rollouts": ["Rollout", "RolloutAPI"],
    "api.rollouts.rollout": ["Rollout", "RolloutAPI"],
    "api.rollouts.serializers": [
        *("AssistantMessage", "ReasoningItem", "SystemMessage", "ToolCall", "ToolResult", "UploadType", "UserMessage"),
    ],
    "api.rollouts.serializers.base": [
        *("AssistantMessage", "ReasoningItem", "SystemMessage", "ToolCall", "ToolResult", "UploadType", "UserMessage"),
    ],
    "models": ["Config", "RolloutConfig", "RolloutInfo", "RunInfo", "RunType", "SendLoopConfig", "TrainingStage"],
}
NAMES = [(module, name) for module, names in MODULES.items() for name in names]
MADE_BY_CREATE = {"Rollout"}
"""Classes that no program makes itself: only `create` does."""
INTERNAL = {
    "FlushEvent": "passes inside the official client's queue",
    "InputEvent": "passes inside the official client's queue",
    "LogMessageEvent": "passes inside the official client's queue",
    "RolloutStartedEvent": "passes inside the official client's queue",
    "RolloutUpdateEvent": "passes inside the official client's queue",
    "ShutdownEvent": "passes inside the official client's queue",
    "NormalizedEvent": "passes inside the official client's queue",
    "base_to_normalized": "makes an event of the official client's queue",
}


def both(module: str, name: str) -> tuple[Any, Any]:
    return tuple(
        getattr(importlib.import_module(f"{package}.{module}"), name) for package in ("openreward", "openreward_gym.compat")
    )


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(name, each.kind, each.default) for name, each in inspect.signature(function).parameters.items()]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_parameters_and_methods(module: str, name: str) -> None:
    theirs, ours = both(module, name)
    if not inspect.isclass(theirs):
        # Unions of classes have the classes of the other module, literals the same words.
        assert [getattr(each, "__name__", each) for each in typing.get_args(ours)] == [
            getattr(each, "__name__", each) for each in typing.get_args(theirs)
        ]
        return
    if name not in MADE_BY_CREATE:
        assert parameters(ours) == parameters(theirs)
    if dataclasses.is_dataclass(theirs):
        assert [(one.name, one.default) for one in dataclasses.fields(ours)] == [
            (one.name, one.default) for one in dataclasses.fields(theirs)
        ]
    methods = [key for key, value in vars(theirs).items() if inspect.isfunction(value) and not key.startswith("_")]
    for method in [*methods, *({"__enter__", "__exit__"} & set(vars(theirs)))]:
        assert parameters(getattr(ours, method)) == parameters(getattr(theirs, method)), method


@pytest.mark.parametrize("module", MODULES)
def test_no_name_of_the_official_module_is_forgotten(module: str) -> None:
    official = importlib.import_module(f"openreward.{module}")
    own = importlib.import_module(f"openreward_gym.compat.{module}")
    defined = [
        name
        for name, value in vars(official).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == official.__name__
    ]
    missing = [name for name in defined if not hasattr(own, name)]
    assert set(missing) <= set(INTERNAL)
    assert set(getattr(official, "__all__", ())) - set(INTERNAL) <= set(dir(own))


def test_attributes_that_programs_read() -> None:
    _, ours = both("api.rollouts", "Rollout")
    public = ("event_id", "logged_messages", "environment_id", "variant_id")
    assert all(isinstance(getattr(ours, name), property) for name in public)
