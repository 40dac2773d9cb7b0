"""RecordRollouts: what happened in an env is what the store has."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.errors import ConfigurationError
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import AssistantMessage, Sampled, TextBlock, ToolCall, Usage
from openreward_gym.wrappers import RecordRollouts


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def test_an_episode_becomes_a_rollout(server_url: str, tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "run")
    env = RecordRollouts(OpenRewardEnv("dialogue", base_url=server_url), store, model={"name": "me"}, metadata={"k": 1})
    env.describe(group="g", sample=2)
    env.reset(seed=1)
    message = AssistantMessage(
        "let me look",
        [ToolCall("look", content="{}", call_id="c9")],
        reasoning="hm",
        sampled=Sampled(usage=Usage(10, 5), stop_reason="tool_calls", token_ids=(1, 2), logprobs=(-0.5, -1.0), model="m"),
    )
    env.unwrapped.annotate(temperature=0.7)
    env.step(message)
    env.step("1")
    (rollout,) = store
    assert (rollout.status, rollout.stop_reason, rollout.reward, rollout.final_reward) == ("completed", "finished", 1.0, 1.0)
    assert (rollout.group, rollout.sample, rollout.seed) == ("g", 2, 1)
    assert (rollout.task.index, rollout.task.spec) == (1, {"number": 1, "split": "train"})
    assert rollout.environment.name == "dialogue"
    assert rollout.environment.origin == server_url
    assert [m.role for m in rollout.messages] == ["system", "user", "assistant", "tool", "assistant", "tool"]
    answer = rollout.messages[2]
    assert (answer.reasoning, answer.text) == ("hm", "let me look")
    assert (answer.tool_calls[0].call_id, answer.tool_calls[0].content) == ("c9", "{}")
    assert answer.sampled == message.sampled
    assert [m.origin for m in rollout.messages] == ["given", "given", "policy", "environment", "policy", "environment"]
    assert answer.metadata == {"temperature": 0.7}
    assert rollout.messages[3].call_id == "c9"
    assert rollout.messages[3].reward is None
    assert rollout.messages[5].reward == 1.0
    assert rollout.messages[5].finished
    assert rollout.usage is not None
    assert rollout.usage.output_tokens == 5
    assert rollout.model == {"name": "me"}
    assert rollout.terminal_tool is not None
    assert {tool.name for tool in rollout.tools or ()} == {"look", "only_in_1"}
    assert rollout.timing is not None
    assert rollout.timing.environment_s is not None
    env.close()


def test_episodes_left_early_are_recorded_as_such(server_url: str, tmp_path: Path) -> None:
    env = RecordRollouts(OpenRewardEnv("echo", base_url=server_url), tmp_path / "run")
    env.reset()
    env.step(call("echo", text="1"))
    env.reset()
    env.reset()
    env.step(call("echo", text="2"))
    env.close()
    env.close()
    first, second = RolloutStore(tmp_path / "run")
    assert (first.status, first.stop_reason, first.reward) == ("cancelled", "cancelled", 0.5)
    assert second.messages[-1].blocks == (TextBlock(text="2"),)


def test_a_failure_is_never_a_reward(server_url: str, tmp_path: Path) -> None:
    env = RecordRollouts(OpenRewardEnv("echo", base_url=server_url), tmp_path / "run")
    env.reset()
    env.step(call("fail", text="boom"))
    env.close()
    (rollout,) = RolloutStore(tmp_path / "run")
    assert (rollout.status, rollout.stop_reason, rollout.reward) == ("error", "tool_failed", None)
    assert "boom" in (rollout.error or "")
    assert [m.role for m in rollout.messages] == ["user", "assistant"]


def test_wrappers_between_do_not_hide_anything(server_url: str, tmp_path: Path) -> None:
    inside = gym.make("OpenReward-v0", environment="echo", base_url=server_url, max_episode_steps=2)
    shaped = gym.wrappers.TransformReward(inside, lambda reward: 10.0 * float(reward))
    env = RecordRollouts(shaped, tmp_path / "run")
    env.reset()
    env.step(call("echo", text="1"))
    assert env.step(call("echo", text="2"))[3]
    env.close()
    (rollout,) = RolloutStore(tmp_path / "run")
    assert (rollout.status, rollout.reward) == ("truncated", 1.0)
    assert rollout.metrics == {"wrapped_return": 10.0}


def test_the_async_face_through_foreign_wrappers(server_url: str, tmp_path: Path) -> None:
    async def play(inside: gym.Env[Any, Any], name: str) -> None:
        env = RecordRollouts(inside, tmp_path / name)
        await env.areset(seed=0)
        await env.astep(call("finish", text="right"))
        await env.aclose()

    asyncio.run(play(OpenRewardEnv("echo", base_url=server_url), "ours"))
    asyncio.run(play(gym.make("OpenReward-v0", environment="echo", base_url=server_url), "theirs"))
    for name in ("ours", "theirs"):
        assert [rollout.reward for rollout in RolloutStore(tmp_path / name)] == [1.0]


def test_the_spec_rebuilds_the_stack(server_url: str, tmp_path: Path) -> None:
    env = RecordRollouts(gym.make("OpenReward-v0", environment="echo", base_url=server_url), str(tmp_path / "run"))
    assert env.spec is not None
    again = gym.make(env.spec)
    again.reset()
    again.step(call("finish", text="right"))
    again.close()
    assert len(RolloutStore(tmp_path / "run")) == 1
    env.close()


def test_in_a_sync_vector_env(server_url: str, tmp_path: Path) -> None:
    envs = gym.make_vec(
        "OpenReward-v0",
        num_envs=3,
        vectorization_mode="sync",
        wrappers=[lambda env: RecordRollouts(env, tmp_path / "run")],
        environment="echo",
        base_url=server_url,
    )
    envs.reset(seed=0)
    envs.step([call("finish", text="right")] * 3)
    envs.close()
    assert sorted(rollout.task.index or 0 for rollout in RolloutStore(tmp_path / "run")) == [0, 1, 2]


def test_only_openreward_environments_are_recorded(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="OpenReward environment"):
        RecordRollouts(gym.make("CartPole-v1"), tmp_path / "run")


def test_what_is_left_at_the_programs_end_is_written(server_url: str, tmp_path: Path) -> None:
    program = f"""
    from openreward_gym.envs.env import OpenRewardEnv
    from openreward_gym.wrappers import RecordRollouts
    env = RecordRollouts(OpenRewardEnv("echo", base_url={server_url!r}), {str(tmp_path / "run")!r})
    env.reset()
    env.step({{"name": "echo", "arguments": {{"text": "last words"}}}})
    raise SystemExit(3)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert run.returncode == 3, run.stderr
    (rollout,) = RolloutStore(tmp_path / "run")
    assert rollout.status == "cancelled"


def test_in_our_vector_env(server_url: str, tmp_path: Path) -> None:
    from openreward_gym.envs.vector import OpenRewardVectorEnv

    with RolloutStore(tmp_path / "run") as store:
        envs = OpenRewardVectorEnv(3, environment="echo", base_url=server_url, wrap=lambda env: RecordRollouts(env, store))
        envs.reset(seed=0)
        envs.step([call("finish", text="right"), call("echo", text="x"), call("fail", text="boom")])
        envs.close()
    results = {rollout.task.index: (rollout.status, rollout.reward) for rollout in RolloutStore(tmp_path / "run")}
    assert results == {0: ("completed", 1.0), 1: ("cancelled", 0.5), 2: ("error", None)}


@pytest.mark.parametrize(
    ("fields", "model"),
    [
        ({}, {"name": "answering"}),
        ({"metadata": {"model": "of-metadata"}}, {"name": "of-metadata"}),
        (
            {"metadata": {"model": "of-metadata"}, "model": {"model_name": "of-info", "checkpoint": "c1"}},
            {"name": "of-info", "checkpoint": "c1"},
        ),
        ({"model": {"checkpoint": "c1"}}, {"name": "answering", "checkpoint": "c1"}),
    ],
)
def test_the_record_names_its_model(server_url: str, tmp_path: Path, fields: dict[str, Any], model: dict[str, Any]) -> None:
    env = RecordRollouts(OpenRewardEnv("echo", base_url=server_url), tmp_path / "run", **fields)
    env.reset()
    env.step(AssistantMessage("", [ToolCall("echo", {"text": "1"})], sampled=Sampled(model="answering")))
    env.close()
    assert env.last_rollout is not None
    assert env.last_rollout.model == model


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"choices": [{"finish_reason": "content_filter", "message": {"role": "assistant", "content": "1"}}]}, "content_filter"),
        (
            {"type": "message", "role": "assistant", "stop_reason": "refusal", "content": [{"type": "text", "text": "1"}]},
            "refusal",
        ),
        ({"type": "message", "role": "assistant", "stop_reason": "refusal", "content": []}, "refusal"),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "content_filter"),
    ],
)
def test_an_answer_that_was_withheld_reaches_no_tool(
    server_url: str, tmp_path: Path, answer: dict[str, Any], reason: str
) -> None:
    env = RecordRollouts(OpenRewardEnv("dialogue", split="train", base_url=server_url), tmp_path / "run")
    env.reset(seed=1)
    _, reward, terminated, truncated, info = env.step(answer)
    assert (reward, terminated, truncated, info["stop_reason"]) == (0.0, False, True, reason)
    rollout = env.last_rollout
    assert rollout is not None
    assert (rollout.status, rollout.stop_reason, rollout.reward) == ("truncated", reason, None)
    assert rollout.messages[-1].ended == reason
    env.close()
