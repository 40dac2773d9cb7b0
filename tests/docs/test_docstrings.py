"""The examples in docstrings run, and whatever a user constructs or calls has one."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import typer.main
from documents import ROOT
from generated import rooms

from openreward_gym import cli, wrappers

COMMANDS = vars(typer.main.get_command(cli.app))["commands"]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Public classes without an example, by reason.
WITHOUT_EXAMPLE = {
    # The package makes these; the examples of the functions and classes that return them show them.
    "collect.Reporter": "made by `collect`",
    "envs.Episode": "made by `OpenRewardEnv.reset`",
    "protocol.Request": "made by `Client`, for a transport",
    "protocol.Response": "made by a transport",
    "recording.RolloutLog": "made by `Recorder.rollout`",
    "store.Label": "made by `read_labels`",
    "store.MergeReport": "made by `merge`",
    "store.RolloutView": "made by `RolloutStore.filter` and `open`",
    # The base of classes that have examples.
    "options.Options": "base class",
}


TRAINERS = {"nemo_gym", "openenv", "skyrl", "tinker", "verifiers", "verl"}
"""Modules of `openreward_gym.integrations` that need a package which is not installed beside the tests."""


def modules_with_examples() -> list[str]:
    """Return the modules of the package whose text has a `>>>` prompt."""
    names = []
    for path in sorted((ROOT / "openreward_gym").rglob("*.py")):
        if TRAINERS & set(path.parts) and "integrations" in path.parts:
            continue
        if "node_modules" not in path.parts and ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def public_classes() -> dict[str, type]:
    """Return the classes in the rooms' `__all__` that need an example, by name.

    Exceptions are caught, protocols are implemented, and aliases of types are annotations. A plain record is a dataclass without
    methods or properties; the examples of the classes that hold it show it.
    """
    classes: dict[str, type] = {}
    for room, names in rooms().items():
        module = importlib.import_module(f"openreward_gym.{room}")
        classes.update((f"{room}.{name}", value) for name in names if needs_example(value := getattr(module, name)))
    return classes


def needs_example(value: object) -> bool:
    """Return True for a class that users construct or call methods of."""
    if not inspect.isclass(value) or value is Any or issubclass(value, BaseException):
        return False
    return not getattr(value, "_is_protocol", False) and not is_plain_record(value)


def is_plain_record(cls: type) -> bool:
    """Return True for a dataclass whose own body has fields only."""
    members = [member for name, member in vars(cls).items() if not name.startswith("_")]
    behaviour = (FunctionType, property, classmethod, staticmethod)
    return dataclasses.is_dataclass(cls) and not any(isinstance(member, behaviour) for member in members)


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    output: list[str] = []
    found = doctest.DocTestFinder(exclude_empty=True).find(module, name)
    assert any(one.examples for one in found), f"{name} has a prompt outside of a docstring that doctest reads"
    for example in found:
        runner.run(example, out=output.append)
    assert not runner.failures, "".join(output)


def test_each_public_class_has_an_example() -> None:
    missing = [name for name, cls in public_classes().items() if ">>> " not in (cls.__doc__ or "")]
    assert sorted(set(missing) - set(WITHOUT_EXAMPLE)) == []


def test_the_list_of_classes_without_an_example_is_up_to_date() -> None:
    classes = public_classes()
    assert [name for name in WITHOUT_EXAMPLE if name not in classes or ">>> " in (classes[name].__doc__ or "")] == []


@pytest.mark.parametrize("name", wrappers.__all__)
def test_each_wrapper_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(wrappers, name).__doc__ or "")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_an_example(name: str) -> None:
    assert f"Example: openreward-gym {name}" in " ".join((COMMANDS[name].help or "").split())
