"""Every public name of the official client is here, with its parameters, defaults and fields."""

from __future__ import annotations

import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import openreward
import pytest
from installing import kept_environment
from sdk_shape import shape_of
from sdk_table import ABSENT, LATER, PASSED, SAME, compared, passed_names

import openreward_gym
from openreward_gym import compat

SCRIPT = Path(__file__).parents[1] / "servers" / "sdk_shape.py"
KNOWN = (SAME, PASSED, ABSENT)


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    return shape_of("openreward_gym.compat")


def test_each_name_of_the_newest_client(ours: dict[str, Any]) -> None:
    statuses = compared(shape_of("openreward"), ours, passed=passed_names())
    assert {name: status for name, (status, _) in statuses.items() if status not in KNOWN} == {}
    assert len(statuses) > 90


@pytest.mark.matrix
def test_each_name_of_an_older_client(ours: dict[str, Any]) -> None:
    python = kept_environment("openreward-0.1.131", "openreward==0.1.131")
    ran = subprocess.run([python, SCRIPT, "openreward"], capture_output=True, text=True, check=True, timeout=120)
    theirs = json.loads(ran.stdout)
    statuses = compared(theirs, ours, passed=passed_names())
    assert {name: status for name, (status, _) in statuses.items() if status not in KNOWN} == {}
    newest = shape_of("openreward").keys()
    assert theirs.keys() <= newest
    assert {name.rpartition(".")[2] for name in newest - theirs.keys()} == LATER


def test_names_that_are_passed_through_are_the_sdk_s_own() -> None:
    for name in compat.PASSED_THROUGH:
        theirs = getattr(openreward, name)
        one = getattr(compat, name)
        if name in ("judging", "toolsets", "tools"):
            assert one.__all__ == theirs.__all__
            assert all(getattr(one, public) is getattr(theirs, public) for public in theirs.__all__)
        else:
            assert one is theirs


def test_the_package_says_where_a_name_of_the_sdk_is() -> None:
    for name in openreward.__all__:
        if name not in openreward_gym.__all__:
            with pytest.raises(ImportError, match=f"from openreward_gym.compat import {name}"):
                getattr(openreward_gym, name)
    with pytest.raises(AttributeError):
        getattr(openreward_gym, "no_such_name")  # noqa: B009


@pytest.mark.parametrize("path", ["environments.types", "environments.server", "judging.types", "tools.web", "toolsets.cli"])
def test_modules_below_those_passed_through_are_the_sdk_s_own(path: str) -> None:
    theirs = importlib.import_module(f"openreward.{path}")
    specification = theirs.__spec__
    assert importlib.import_module(f"openreward_gym.compat.{path}") is theirs
    assert theirs.__spec__ is specification
    assert theirs.__name__ == f"openreward.{path}"


@pytest.mark.parametrize("path", ["toolsets.no_such", "tools.web.no_such", "no_such.web"])
def test_a_module_that_the_sdk_has_not_is_not_found(path: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        importlib.import_module(f"openreward_gym.compat.{path}")
