"""Mistakes of a program that plays an env: each is an error that says what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from openreward_gym import (
    AssistantMessage,
    Message,
    OpenRewardEnv,
    OpenRewardVectorEnv,
    ToolCall,
    ToolSet,
    UserMessage,
    collect,
    export,
)
from openreward_gym.errors import ConfigurationError, ResetNeededError


@pytest.mark.parametrize("options", [["x"], "test", 3, [("task_index", 1)]])
def test_options_of_reset_are_a_dict(server_url: str, options: Any) -> None:
    env = OpenRewardEnv("echo", base_url=server_url)
    with pytest.raises(ConfigurationError, match=r"the options of reset\(\) must be a dict like"):
        env.reset(options=options)
    envs = OpenRewardVectorEnv(2, environment="echo", base_url=server_url)
    with envs, pytest.raises(ConfigurationError, match=r"the options of reset\(\) must be a dict like"):
        envs.reset(options=options)


@pytest.mark.parametrize("seed", ["3", -1, 1.5, [1]])
def test_seeds_are_integers(server_url: str, seed: Any) -> None:
    env = OpenRewardEnv("echo", base_url=server_url)
    with pytest.raises(ConfigurationError, match=r"the seed of reset\(\) must be an integer from 0, or None, not"):
        env.reset(seed=seed)


@pytest.mark.parametrize("seed", ["34", 1.5, [1]])
def test_seeds_of_a_vector_environment(server_url: str, seed: Any) -> None:
    envs = OpenRewardVectorEnv(2, environment="echo", base_url=server_url)
    with envs, pytest.raises(ConfigurationError, match="seed must be an integer or a list of 2"):
        envs.reset(seed=seed)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (3, "step() cannot take 3: 3 is not a call. It takes "),
        (
            UserMessage("Hi"),
            "step() cannot take UserMessage('Hi'): its role is 'user', and an action is a turn of the ",
        ),
        ({"nam": "echo"}, "step() cannot take {'nam': 'echo'}: a call needs a \"name\". It takes "),
    ],
)
def test_an_action_of_a_wrong_type(server_url: str, action: Any, words: str) -> None:
    env = OpenRewardEnv("echo", base_url=server_url)
    env.reset()
    with pytest.raises(ConfigurationError) as caught:
        env.step(action)
    assert str(caught.value).startswith(words)
    assert str(caught.value).count("AssistantMessage") == 1
    env.close()


def test_a_closed_vector_environment_stays_closed(server_url: str) -> None:
    envs = OpenRewardVectorEnv(2, environment="echo", base_url=server_url)
    envs.reset()
    envs.close()
    for use in (envs.reset, lambda: envs.step(["", ""]), lambda: envs.send(["", ""]), envs.recv, envs.async_reset):
        with pytest.raises(ConfigurationError, match="this vector environment was closed: make another one"):
            use()
    assert repr(envs) == f"OpenRewardVectorEnv('echo', num_envs=2, split='train', base_url='{server_url}')"


def test_an_env_before_its_first_reset(server_url: str) -> None:
    env = OpenRewardEnv("echo", base_url=server_url)
    assert (env.messages, env.episode, env.last_step, env.session_id) == ((), None, None, None)
    with pytest.raises(ResetNeededError, match=r"step\(\) was called before reset\(\): call env.reset\(\) first"):
        env.step("Hi")
    env.close()


def finishes(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"})])


def test_in_a_notebook_whose_event_loop_runs(server_url: str, tmp_path: Path) -> None:
    """A cell runs inside of a running event loop: the synchronous names work there, without `await`."""

    async def cell() -> None:
        env = OpenRewardEnv("echo", base_url=server_url)
        env.reset()
        env.step({"name": "echo", "arguments": {"text": "x"}})
        env.close()
        with OpenRewardVectorEnv(2, environment="echo", base_url=server_url) as envs:
            envs.reset()
        result = collect("echo", finishes, base_url=server_url, tasks="0", output=tmp_path / "run", progress=False)
        assert result.coverage.complete
        assert repr(result).startswith(f"<CollectionResult {tmp_path / 'run'}: 1 of 1 units successful")
        export.to_dataset(result.store, format="rollouts")

    asyncio.run(cell())
