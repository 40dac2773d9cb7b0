"""Gymnasium's own wrappers work around and beneath ours, and a spec rebuilds the stack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from byte_tokenizer import byte_tokenizer
from gymnasium import wrappers
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import vector

import openreward_gym  # noqa: F401  (registers OpenReward-v0)
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.store.store import RolloutStore
from openreward_gym.wrappers import LimitSeconds, LimitSteps, LimitTokens, RecordRollouts, TextAction, TruncateObservation

Env = gym.Env[Any, Any]
ECHO = {"name": "echo", "arguments": {"text": "hi"}}
FINISH = {"name": "finish", "arguments": {"text": "right"}}

AROUND: dict[str, Callable[[Env], Env]] = {
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "TimeLimit": lambda env: wrappers.TimeLimit(env, 5),
    "Autoreset": wrappers.Autoreset,
    "OrderEnforcing": wrappers.OrderEnforcing,
    "PassiveEnvChecker": wrappers.PassiveEnvChecker,
    "TransformObservation": lambda env: wrappers.TransformObservation(env, lambda text: text.upper(), env.observation_space),
    "TransformAction": lambda env: wrappers.TransformAction(env, lambda action: action, env.action_space),
    "TransformReward": lambda env: wrappers.TransformReward(env, lambda reward: float(reward) * 2),
    "ClipReward": lambda env: wrappers.ClipReward(env, 0.0, 0.25),
    "NormalizeReward": wrappers.NormalizeReward,
    "StickyAction": lambda env: wrappers.StickyAction(env, 0.0),
    "RepeatAction": lambda env: wrappers.RepeatAction(env, 2),
    "TimeAwareObservation": lambda env: wrappers.TimeAwareObservation(wrappers.TimeLimit(env, 5), flatten=False),
    "FrameStackObservation": lambda env: wrappers.FrameStackObservation(env, 2),
    "DelayObservation": lambda env: wrappers.DelayObservation(env, 1),
    "RenderCollection": wrappers.RenderCollection,
}


def make(server_url: str, **arguments: Any) -> Env:
    return gym.make("OpenReward-v0", environment="echo", base_url=server_url, render_mode="ansi", **arguments)


def played(env: Env) -> tuple[list[Any], list[float], list[bool]]:
    """Observations, rewards and ends of three steps."""
    env.reset(seed=0)
    results = [env.step(action) for action in (ECHO, ECHO, FINISH)]
    return [result[0] for result in results], [float(result[1]) for result in results], [result[2] for result in results]


@pytest.mark.parametrize("beneath", [True, False], ids=["beneath ours", "around ours"])
@pytest.mark.parametrize("name", [name for name in AROUND if hasattr(wrappers, name)])  # older versions have fewer
def test_their_wrappers(server_url: str, name: str, beneath: bool) -> None:
    def ours(env: Env) -> Env:
        return LimitSeconds(LimitSteps(env, 50), 100.0)

    # What changes the observation to something that is no text goes around ours.
    inner = make(server_url)
    env = ours(AROUND[name](inner)) if beneath else AROUND[name](ours(inner))
    observations, rewards, ends = played(env)
    expected = {"TransformReward": [1.0, 1.0, 2.0], "ClipReward": [0.25] * 3, "RepeatAction": [1.0, 1.0, 1.0]}
    if name != "NormalizeReward":
        assert rewards == expected.get(name, [0.5, 0.5, 1.0])
    assert ends == [False, False, True]
    shown = {"TransformObservation": "HI", "DelayObservation": "hi", "FrameStackObservation": ("hi", "hi")}
    if name == "TimeAwareObservation":
        assert observations[1]["obs"] == "hi"
    else:
        assert observations[1] == shown.get(name, "hi")
    if name == "RenderCollection":
        assert any("hi" in frame for frame in env.render())  # type: ignore[union-attr]
    env.close()


@pytest.mark.parametrize("name", ["RecordEpisodeStatistics", "TransformReward", "PassiveEnvChecker"])
def test_theirs_beneath_ours_async(server_url: str, name: str) -> None:
    async def run() -> list[float]:
        env = LimitSteps(AROUND[name](make(server_url)), 3)
        await env.areset(seed=0)
        rewards = [(await env.astep(action))[1] for action in (ECHO, FINISH)]
        await env.aclose()
        return rewards

    assert asyncio.run(run()) == ([1.0, 2.0] if name == "TransformReward" else [0.5, 1.0])


def test_pictures_as_observations(server_url: str) -> None:
    inner = gym.make("OpenReward-v0", environment="echo", base_url=server_url, render_mode="rgb_array")
    env = wrappers.AddRenderObservation(LimitSteps(inner, 5), render_only=False, obs_key="text")
    observations, rewards, _ = played(env)
    assert rewards == [0.5, 0.5, 1.0]
    assert observations[0]["text"] == "hi"
    assert observations[0]["pixels"].ndim == 3
    env.close()


def test_their_vector_wrappers_around_ours(server_url: str) -> None:
    envs = gym.make_vec(
        "OpenReward-v0",
        2,
        "sync",
        wrappers=[lambda env: LimitSteps(env, 2), lambda env: TruncateObservation(env, max_chars=60)],
        environment="echo",
        base_url=server_url,
    )
    recorded = vector.RecordEpisodeStatistics(vector.DictInfoToList(envs).env)
    recorded.reset(seed=0)
    recorded.step((ECHO, ECHO))
    _, _, terminated, truncated, infos = recorded.step((ECHO, FINISH))
    assert (list(terminated), list(truncated)) == ([False, True], [True, False])
    assert list(infos["episode"]["r"]) == [1.0, 1.5]
    recorded.close()


def test_statistics_count_what_the_env_gave(server_url: str) -> None:
    env = wrappers.RecordEpisodeStatistics(LimitSteps(make(server_url), 2))
    env.reset(seed=0)
    env.step(ECHO)
    *_, truncated, info = env.step(ECHO)
    assert truncated
    assert (info["episode"]["r"], info["episode"]["l"]) == (1.0, 2)
    env.close()


def test_a_spec_rebuilds_the_stack(server_url: str, tmp_path: Path) -> None:
    byte_tokenizer().save_pretrained(str(tmp_path / "bytes"))
    env: Env = make(server_url, max_steps=20)
    env = LimitTokens(LimitSteps(env, 3), 10_000, of="context", tokenizer=str(tmp_path / "bytes"))
    env = wrappers.RecordEpisodeStatistics(LimitSeconds(env, 60.0))
    env = TruncateObservation(RecordRollouts(env, tmp_path / "run", metadata={"k": 1}), max_chars=70, keep="tail")
    env = TextAction(env, formats=["tool_call"])
    assert env.spec is not None
    text = env.spec.to_json()
    again = gym.make(EnvSpec.from_json(text))
    assert again.spec is not None
    assert again.spec.to_json() == text
    assert repr(again) == repr(env)
    for one in (env, again):
        one.reset(seed=0)
        assert one.step(f'<tool_call>{{"name": "echo", "arguments": {{"text": "{"x" * 99}"}}}}</tool_call>')[0].startswith(
            "\n[..."
        )
        one.close()
    assert len(RolloutStore(tmp_path / "run")) == 2
    assert isinstance(again.unwrapped, OpenRewardEnv)
    assert again.unwrapped.max_steps == 20
