"""Options objects: checked, frozen, and built from flat keywords; every public function takes all of them."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import openreward_gym
from openreward_gym.envs import OpenRewardEnv, OpenRewardVectorEnv
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import (
    ClientOptions,
    EnvOptions,
    EpisodeLimits,
    Options,
    RetryBudget,
    RetryLimits,
    RunOptions,
    SessionOptions,
)
from openreward_gym.protocol.client import Client
from openreward_gym.protocol.environment import RemoteEnvironment

FULL: dict[str, Any] = {
    "environment": "shop",
    "task_order": "shuffle",
    "max_steps": 4,
    "secret_domains": {"key": ["a.example.com", "b.example.com"]},
    "env_overrides": {"REGION": "north"},
    "ping_interval_s": 2.5,
    "retry_limits": {"attempts": 2},
}


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    taken = inspect.signature(function).parameters
    return {name: one for name, one in taken.items() if name != "self" and one.kind is not inspect.Parameter.VAR_KEYWORD}


def test_flat_keywords_and_back() -> None:
    options = EnvOptions.from_keywords(FULL)
    assert options.session.secret_domains == {"key": ("a.example.com", "b.example.com")}
    assert options.client.retry_limits == RetryLimits(attempts=2)
    assert EnvOptions.from_keywords(options.to_keywords()) == options
    assert set(options.changes()) == set(FULL)
    assert pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize("cls", [ClientOptions, SessionOptions, EpisodeLimits, EnvOptions, RunOptions, RetryLimits, RetryBudget])
def test_options_are_frozen_slotted_and_have_distinct_names(cls: type[Options]) -> None:
    options = cls.from_keywords({"environment": "shop"} if "environment" in cls.names() else {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(options, dataclasses.fields(cls)[0].name, None)
    assert not hasattr(options, "__dict__")
    assert len(set(cls.names())) == len(cls.names())


def test_mappings_are_copied() -> None:
    overrides = {"REGION": "north"}
    options = SessionOptions(env_overrides=overrides)
    overrides["REGION"] = "south"
    assert options.env_overrides == {"REGION": "north"}


def test_a_copy_is_checked_too() -> None:
    with pytest.raises(ConfigurationError, match="max_steps"):
        dataclasses.replace(EpisodeLimits(), max_steps=0)


def test_values_that_may_be_secret_are_not_shown() -> None:
    options = EnvOptions.from_keywords({**FULL, "env_overrides": {"TOKEN": "tk-1"}, "base_url": "http://me:pw-2@127.0.0.1"})
    assert "tk-1" not in repr(options)
    assert "pw-2" not in repr(options)
    with pytest.raises(ConfigurationError) as refused:
        SessionOptions(secrets_env="sk-3")  # type: ignore[arg-type]
    assert "sk-3" not in str(refused.value)


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"environment": " "}, "environment must be a name"),
        ({"idle_timeout_s": 0}, "idle_timeout_s must be a positive number"),
        ({"request_timeout_s": float("inf")}, "request_timeout_s must be a positive number"),
        ({"secret_domains": {"key": "a.example.com"}}, "list of host names"),
        ({"secrets_env": {"key": 3}}, "secrets_env"),
        ({"retry_limits": {"attempt": 3}}, "Did you mean 'attempts'"),
        ({"retry_limits": 3}, "retry_limits must be RetryLimits"),
        ({"on_reset_failure": "ignore"}, "on_reset_failure must be one of"),
        ({"task_index": True}, "task_index must be an integer from 0 or None, not True"),
    ],
)
def test_wrong_values(keywords: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        EnvOptions.from_keywords({"environment": "shop", **keywords})


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("max_step", "max_steps"), ("secret_domain", "secret_domains"), ("toolsets", "toolset"), ("obsmode", "obs_mode")],
)
def test_an_unknown_name_is_refused_with_the_near_one(wrong: str, right: str) -> None:
    import gymnasium

    makers: list[Callable[..., Any]] = [
        OpenRewardEnv,
        OpenRewardVectorEnv,
        openreward_gym.spec,
        openreward_gym.register,
    ]
    for make in makers:
        with pytest.raises(ConfigurationError, match=f"{wrong}.*Did you mean '{right}'"):
            make(environment="shop", **{wrong: 1})
    options: dict[str, Any] = {wrong: 1}
    with pytest.raises(ConfigurationError, match=f"Did you mean '{right}'"):
        gymnasium.make("OpenReward-v0", environment="shop", **options)
    with pytest.raises(ConfigurationError, match=f"Did you mean '{right}'"):
        gymnasium.make_vec("OpenReward-v0", environment="shop", vectorization_mode="vector_entry_point", **options)


@pytest.mark.parametrize(
    ("wrong", "right"), [("num_env", "num_envs"), ("prefech", "prefetch"), ("max_episode_step", "max_episode_steps")]
)
def test_a_vector_env_suggests_its_own_parameters(wrong: str, right: str) -> None:
    options: dict[str, Any] = {wrong: 1}
    with pytest.raises(ConfigurationError, match=f"{wrong}.*Did you mean '{right}'"):
        OpenRewardVectorEnv(environment="shop", **options)


@pytest.mark.parametrize("name", ["max_steps", "max_episode_steps"])
@pytest.mark.parametrize("value", ["3", 0, 2.5, True])
def test_a_vector_env_refuses_wrong_limits_of_steps_by_name(name: str, value: Any) -> None:
    limits = {"max_steps": 5, "max_episode_steps": 5, name: value}
    with pytest.raises(ConfigurationError, match=f"{name} must be an integer from 1 or None, not {value!r}"):
        OpenRewardVectorEnv(environment="shop", **limits)


def test_a_name_near_to_none_lists_all() -> None:
    with pytest.raises(ConfigurationError, match=r"has no option 'zzzz'.*base_url.*max_steps"):
        OpenRewardEnv("shop", zzzz=1)  # type: ignore[call-arg]


def test_an_env_takes_every_option_with_its_default() -> None:
    expected = {name: one.default for name, one in EnvOptions.declarations().items()}
    for function in (OpenRewardEnv.__init__, OpenRewardVectorEnv.__init__):
        taken = {name: one.default for name, one in parameters(function).items()}
        assert {name: taken[name] for name in expected} == expected


def test_a_run_takes_every_option() -> None:
    from openreward_gym.collect import acollect, collect, estimate

    for function in (collect, acollect, estimate):
        assert set(RunOptions.names()) <= set(parameters(function))


def test_every_option_of_a_client_and_a_session_is_one_of_an_env() -> None:
    """The timeouts of a session are an env's own: opening is `reset_timeout_s`."""
    of_client = set(parameters(Client))
    task = {"split", "index", "task", "task_spec"}
    of_session = set(parameters(RemoteEnvironment.session)) - task
    assert of_client == set(ClientOptions.names())
    assert of_session == set(SessionOptions.names())
    assert of_client | (of_session - {"open_timeout_s"}) <= set(EnvOptions.names())
    for function in (openreward_gym.spec, openreward_gym.register):
        for name, value in FULL.items():
            function("shop", **({} if name == "environment" else {name: value}))


def test_copies_and_specs_carry_the_options() -> None:
    env = OpenRewardEnv(**FULL)
    assert pickle.loads(pickle.dumps(env)).options == env.options == EnvOptions.from_keywords(FULL)
    made = openreward_gym.spec(FULL["environment"], **{name: value for name, value in FULL.items() if name != "environment"})
    assert made.kwargs == FULL
    assert "north" not in made.to_json()
