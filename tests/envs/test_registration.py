"""Names for `gymnasium.make`. A wrong name is refused with a hint at the right call."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest

import openreward_gym
from openreward_gym.errors import ConfigurationError


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_an_environment_has_to_be_named(make: Callable[[str], Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"gymnasium\.make\('OpenReward-v0', environment='weather'"):
        make("OpenReward-v0")


@pytest.mark.parametrize("function", [openreward_gym.spec, openreward_gym.register])
@pytest.mark.parametrize("wrong", [3, None, "", " ", ["echo"], b"echo"])
def test_what_is_no_name_has_no_spec(function: Callable[[Any], Any], wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"environment must be a name .* not {re.escape(repr(wrong))}"):
        function(wrong)


@pytest.mark.parametrize("function", [openreward_gym.spec, openreward_gym.register])
def test_a_class_has_no_spec_and_is_made_without_one(function: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"Ended'> is a class.*gymnasium\.make\('OpenReward-v0', environment=Ended\)"):
        function(type("Ended", (), {}))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"id": dict}, "id must be a Gymnasium id"),
        ({"id": ""}, "id must be a Gymnasium id"),
        ({"id": "a b"}, "cannot be registered"),
        ({"id": "CartPole-v1"}, "already a Gymnasium environment"),
        ({"id": "OpenReward-v0"}, "makes every environment"),
    ],
)
def test_wrong_ids(arguments: dict[str, Any], says: str) -> None:
    before = dict(gym.registry)
    with pytest.raises(ConfigurationError, match=says):
        openreward_gym.register("echo", **arguments)
    assert dict(gym.registry) == before
