"""OpenRewardEnv against the SDK's server."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
import socket
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest
from fault_server import Fault, running
from gymnasium.utils.env_checker import check_env

import openreward_gym
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.errors import (
    ConfigurationError,
    EnvironmentNotFoundError,
    ResetNeededError,
    ServerUnreachableError,
    SplitNotFoundError,
    TaskNotFoundError,
    TransportTimeoutError,
)
from openreward_gym.types import AssistantMessage, ToolCall


@pytest.fixture
def env(server_url: str) -> Iterator[OpenRewardEnv]:
    made = OpenRewardEnv("echo", base_url=server_url)
    yield made
    made.close()


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def test_an_episode_from_prompt_to_reward(env: OpenRewardEnv) -> None:
    observation, info = env.reset(seed=3)
    assert observation == 'task {"number": 3, "split": "train"}, asked 1 times'
    assert observation in env.observation_space
    assert info["task_index"] == 3
    assert {tool["name"] for tool in info["tools"]} >= {"echo", "finish"}
    observation, reward, terminated, truncated, info = env.step(call("echo", text="hi"))
    assert (observation, reward, terminated, truncated) == ("hi", 0.5, False, False)
    assert info["tool"] == "echo"
    observation, reward, terminated, truncated, info = env.step(call("finish", text="right"))
    assert (reward, terminated, truncated, info["stop_reason"]) == (1.0, True, False, "finished")
    assert env.session_id is None
    assert [message.role for message in env.messages] == ["user", "assistant", "tool", "assistant", "tool"]


def test_gymnasiums_own_check(server_url: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw = OpenRewardEnv("echo", base_url=server_url)
        check_env(raw, skip_render_check=True)
        raw.close()
        made = gym.make("OpenReward-v0", environment="echo", base_url=server_url, split="train")
        made.close()


@pytest.mark.parametrize("obs_mode", ["text", "blocks", "messages"])
@pytest.mark.parametrize("render_mode", [None, "ansi", "rgb_array"])
def test_check_env_in_every_mode(server_url: str, obs_mode: str, render_mode: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = gym.make("OpenReward-v0", environment="echo", base_url=server_url, obs_mode=obs_mode, render_mode=render_mode)
        check_env(made.unwrapped, skip_render_check=render_mode is None)
        made.close()


def test_make_by_every_name(server_url: str) -> None:
    by_module = gym.make("openreward_gym:OpenReward-v0", environment="echo", base_url=server_url)
    name = openreward_gym.register("echo", base_url=server_url)
    by_name = gym.make(name)
    by_spec = gym.make(openreward_gym.spec("echo", base_url=server_url, split="test"))
    for made in (by_module, by_name, by_spec):
        observation, _ = made.reset(seed=0)
        assert observation.startswith("task ")
        assert made.spec is not None
        again = gym.make(gym.envs.registration.EnvSpec.from_json(made.spec.to_json()))
        assert again.reset(seed=0)[0] == observation
        again.close()
        made.close()
    gym.registry.pop(name)


def test_a_seed_names_a_task(env: OpenRewardEnv) -> None:
    seen = [env.reset(seed=seed)[1]["task_index"] for seed in range(5)]
    assert seen == [0, 1, 2, 3, 4]
    assert env.reset(seed=12)[1]["task_index"] == 2
    assert [env.reset()[1]["task_index"] for _ in range(3)] == [3, 4, 0]


def test_reset_options(env: OpenRewardEnv) -> None:
    assert env.reset(options={"task_index": 4})[1]["task_index"] == 4
    observation, info = env.reset(options={"split": "test", "task_index": 1})
    assert '"split": "test"' in observation
    assert info["split"] == "test"
    observation, info = env.reset(options={"task_spec": {"mine": True}})
    assert '{"mine": true}' in observation
    assert info["task_index"] == -1


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"task_indx": 1}, ConfigurationError, "no option 'task_indx'"),
        ({"task_index": "one"}, ConfigurationError, "integer"),
        ({"task_index": 0, "task_spec": {}}, ConfigurationError, "not both"),
        ({"split": "trian"}, SplitNotFoundError, "trian"),
        ({"task_index": 99}, TaskNotFoundError, "99"),
        ({"task_index": -1}, ConfigurationError, "-1"),
    ],
)
def test_wrong_options(env: OpenRewardEnv, options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        env.reset(options=options)
    env.reset()


def test_wrong_names(server_url: str) -> None:
    with pytest.raises(EnvironmentNotFoundError, match=r"ecoh.*echo"):
        OpenRewardEnv("ecoh", base_url=server_url).reset()
    with pytest.raises(SplitNotFoundError, match=r"trian.*train"):
        OpenRewardEnv("echo", base_url=server_url, split="trian").reset()
    with pytest.raises(TaskNotFoundError, match="500"):
        OpenRewardEnv("echo", base_url=server_url, task_index=500).reset()


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    env = OpenRewardEnv("echo", base_url=url)
    with pytest.raises(ServerUnreachableError, match=r"127\.0\.0\.1"):
        env.reset()
    env.close()


@pytest.mark.parametrize(
    "arguments",
    [
        {"environment": ""},
        {"obs_mode": "pixels"},
        {"task_order": "backwards"},
        {"max_steps": 0},
        {"step_timeout_s": -1},
        {"on_message": "shout"},
        {"render_mode": "hologram"},
        {"on_failure": "ignore"},
        {"max_steps": True},
        {"max_steps": math.nan},
        {"environment": None},
        {"base_url": 8080},
        {"variant": 1},
        {"split": None},
        {"task_index": "one"},
        {"task_index": -1},
        {"secrets_env": ["KEY"]},
        {"env_overrides": {1: "x"}},
    ],
)
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        OpenRewardEnv(**{"environment": "echo", "base_url": "http://127.0.0.1:9", **arguments})


def test_step_before_reset_and_after_the_end(env: OpenRewardEnv) -> None:
    with pytest.raises(ResetNeededError, match="before reset"):
        env.step(call("echo", text="x"))
    env.reset()
    env.step(call("finish", text="right"))
    with pytest.raises(ResetNeededError, match="after the episode ended"):
        env.step(call("echo", text="x"))
    env.reset()
    assert env.step(call("echo", text="x"))[0] == "x"


def test_a_models_mistakes_are_observations(env: OpenRewardEnv) -> None:
    env.reset()
    observation, reward, terminated, truncated, info = env.step(call("no_such_tool"))
    assert info["error_kind"] == "not_found"
    assert "no_such_tool" in observation
    assert (reward, terminated, truncated) == (0.0, False, False)
    *_, info = env.step(call("echo", text=5))
    assert info["error_kind"] == "input_validation"
    *_, info = env.step(call("echo"))
    assert info["error_kind"] == "input_validation"
    *_, info = env.step({"name": "echo", "arguments": "{not json"})
    assert info["error_kind"] == "malformed"
    observation, *_ = env.step(call("echo", text="still here"))
    assert observation == "still here"


@pytest.mark.parametrize("action", [None, 3, {"arguments": {}}, [1], object()])
def test_what_is_no_action(env: OpenRewardEnv, action: Any) -> None:
    env.reset()
    with pytest.raises(ConfigurationError, match=r"step\(\) cannot take"):
        env.step(action)
    assert env.step(call("echo", text="x"))[0] == "x"


def test_parallel_calls_run_in_order_and_stop_at_the_end(env: OpenRewardEnv) -> None:
    env.reset()
    observation, reward, terminated, *_ = env.step([call("echo", text="a"), call("echo", text="b")])
    assert observation == "[echo]\na\n\n[echo]\nb"
    assert reward == 1.0
    _, reward, terminated, _, info = env.step([call("finish", text="right"), call("echo", text="late")])
    assert (reward, terminated, info["n_calls"]) == (1.0, True, 2)
    assert env.last_step is not None
    assert [result.executed for result in env.last_step.results] == [True, False]


def test_null_reward_is_kept_apart_from_zero(env: OpenRewardEnv) -> None:
    env.reset()
    *_, info = env.step(call("image"))
    assert not info["reward_is_null"]
    _, reward, *_, info = env.step(call("count"))
    assert reward == 0.0
    assert info["reward_is_null"]


def test_a_plain_message(server_url: str, env: OpenRewardEnv) -> None:
    env.reset()
    *_, terminated, truncated, info = env.step("I give up.")
    assert (terminated, truncated, info["stop_reason"]) == (True, False, "message")
    nudging = OpenRewardEnv("echo", base_url=server_url, on_message="nudge")
    nudging.reset()
    observation, *_, terminated, truncated, info = nudging.step("Hm.")
    assert (terminated, truncated) == (False, False)
    assert "echo" in observation
    nudging.close()
    cutting = OpenRewardEnv("echo", base_url=server_url, on_message="truncate")
    cutting.reset()
    *_, terminated, truncated, info = cutting.step("Hm.")
    assert (terminated, truncated) == (False, True)
    cutting.close()


def test_a_terminal_tool_takes_the_message(server_url: str) -> None:
    env = OpenRewardEnv("dialogue", base_url=server_url)
    observation, info = env.reset(seed=2)
    assert observation == "[system]\nBe short.\n\n[user]\nSay 2."
    assert "only_in_2" in {tool["name"] for tool in info["tools"]}
    assert "only_in_2" not in {tool.name for tool in env.action_space.tools}
    _, reward, terminated, _, info = env.step(AssistantMessage("2", reasoning="it says so"))
    assert (reward, terminated, info["stop_reason"]) == (1.0, True, "finished")
    env.close()


def test_images_and_messages(server_url: str) -> None:
    blocks = OpenRewardEnv("echo", base_url=server_url, obs_mode="blocks")
    blocks.reset()
    observation, *_, info = blocks.step(call("image"))
    assert [block["type"] for block in observation] == ["text", "image"]
    assert observation[1]["data"].startswith(b"\x89PNG")
    assert observation in blocks.observation_space
    assert json.loads(info["metadata"]) == {"a": [1, None]}
    blocks.close()
    messages = OpenRewardEnv("echo", base_url=server_url, obs_mode="messages")
    messages.reset()
    observation, *_ = messages.step({"id": "c1", **call("echo", text="x")})
    assert [message["role"] for message in observation] == ["user", "assistant", "tool"]
    assert observation[1]["tool_calls"][0]["id"] == observation[2]["tool_call_id"] == "c1"
    assert observation in messages.observation_space
    messages.close()


def test_limits(server_url: str) -> None:
    env = OpenRewardEnv("echo", base_url=server_url, max_steps=2)
    env.reset()
    assert not env.step(call("echo", text="1"))[3]
    *_, terminated, truncated, info = env.step(call("echo", text="2"))
    assert (terminated, truncated, info["stop_reason"]) == (False, True, "max_steps")
    env.close()
    slow = OpenRewardEnv("echo", base_url=server_url, step_timeout_s=0.3)
    slow.reset()
    *_, truncated, info = slow.step(call("slow", seconds=30))
    assert (truncated, info["stop_reason"], info["reward_is_null"]) == (True, "deadline", True)
    slow.close()
    short = OpenRewardEnv("echo", base_url=server_url, episode_timeout_s=0.4)
    short.reset()
    *_, truncated, info = short.step(call("slow", seconds=30))
    assert (truncated, info["stop_reason"]) == (True, "deadline")
    short.close()


def test_a_tool_that_raises_ends_the_episode(server_url: str, env: OpenRewardEnv) -> None:
    env.reset()
    observation, _, terminated, truncated, info = env.step(call("fail", text="out of disk"))
    assert (terminated, truncated, info["stop_reason"]) == (False, True, "tool_failed")
    assert "out of disk" in observation
    assert info["reward_is_null"]
    raising = OpenRewardEnv("echo", base_url=server_url, on_failure="raise")
    raising.reset()
    with pytest.raises(openreward_gym.OpenRewardGymError, match="out of disk"):
        raising.step(call("fail", text="out of disk"))
    raising.close()


def test_long_observations_say_what_is_missing(server_url: str) -> None:
    env = OpenRewardEnv("echo", base_url=server_url, max_obs_chars=100)
    env.reset()
    observation, *_, info = env.step(call("echo", text="x" * 1000))
    assert len(observation) <= 100
    assert "characters cut" in observation
    assert info["obs_truncated_chars"] > 900
    assert observation in env.observation_space
    env.close()


def test_the_async_face(server_url: str) -> None:
    async def play() -> tuple[str, float]:
        env = OpenRewardEnv("echo", base_url=server_url)
        await env.areset(seed=1)
        with pytest.raises(ConfigurationError, match=r"await env\.astep"):
            env.step(call("echo", text="x"))
        observation, *_ = await env.astep(call("echo", text="async"))
        _, reward, *_ = await env.astep(call("finish", text="right"))
        await env.aclose()
        return observation, reward

    assert asyncio.run(play()) == ("async", 1.0)


@pytest.mark.parametrize("transport", ["fast", "httpx"])
def test_the_action_space_is_known_on_the_event_loop_of_the_session(server_url: str, transport: str) -> None:
    async def play() -> list[str]:
        env = OpenRewardEnv("echo", base_url=server_url, transport=transport)
        await env.areset(seed=1)
        names = [tool.name for tool in env.action_space.tools]
        await env.aclose()
        return names

    assert "echo" in asyncio.run(asyncio.wait_for(play(), 30))


def test_an_env_that_could_not_be_made_has_a_repr() -> None:
    assert repr(OpenRewardEnv.__new__(OpenRewardEnv)) == "OpenRewardEnv(not made)"


def test_a_session_of_the_background_loop_can_be_stepped_from_another(server_url: str) -> None:
    env = OpenRewardEnv("echo", base_url=server_url)
    env.reset()

    async def step() -> str:
        return str((await env.astep(call("echo", text="hop")))[0])

    assert asyncio.run(step()) == "hop"
    env.close()


def test_a_cancelled_step_ends_the_episode(server_url: str) -> None:
    async def play() -> None:
        env = OpenRewardEnv("echo", base_url=server_url)
        await env.areset()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await env.astep(call("slow", seconds=30))
        with pytest.raises(ResetNeededError):
            await env.astep(call("echo", text="x"))
        assert env.last_step is not None
        assert env.last_step.stop_reason == "cancelled"
        await env.aclose()

    asyncio.run(play())


def test_copies_carry_no_session(server_url: str, env: OpenRewardEnv) -> None:
    env.reset(seed=2)
    copy = pickle.loads(pickle.dumps(env))
    assert copy.session_id is None
    assert copy.reset(seed=2)[0] == env.reset(seed=2)[0]
    copy.close()


def test_close_is_idempotent_and_not_the_end(env: OpenRewardEnv) -> None:
    env.close()
    env.reset()
    env.close()
    env.close()
    assert env.reset()[0].startswith("task")


def test_no_key_shows(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENREWARD_API_KEY", "sk-very-secret")
    made = gym.make("OpenReward-v0", environment="echo", base_url=server_url)
    made.reset()
    assert made.spec is not None
    shown = repr(made) + repr(made.unwrapped.__dict__) + made.spec.to_json() + repr(pickle.dumps(made.unwrapped))
    assert "sk-very-secret" not in shown
    made.close()


def test_making_an_env_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"connected to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    made = OpenRewardEnv("echo", base_url="http://127.0.0.1:9")
    assert made.observation_space is not None
    made.close()


def test_an_index_only_environment(server_url: str) -> None:
    env = OpenRewardEnv("large", base_url=server_url)
    observation, info = env.reset(seed=9_999)
    assert info["task_index"] == 9_999
    assert '"number": 9999' in observation
    assert env.step(call("answer", text="9999"))[1] == 1.0
    env.close()


def test_a_call_from_a_dataclass(env: OpenRewardEnv) -> None:
    env.reset()
    assert env.step(ToolCall("echo", {"text": "typed"}))[0] == "typed"
    assert env.step('{"name": "echo", "arguments": {"text": "json"}}')[0] == "json"


def test_human_rendering_prints_each_message_once(server_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    env = OpenRewardEnv("echo", base_url=server_url, render_mode="human")
    env.reset(seed=0)
    env.step(call("echo", text="only once"))
    assert env.render() is None
    printed = capsys.readouterr().out
    assert printed.count("[tool_call echo]") == 1
    assert printed.count("\nonly once\n") == 1
    env.close()


def test_a_reset_that_takes_too_long(server_url: str) -> None:
    env = OpenRewardEnv("slowstart", base_url=server_url, reset_timeout_s=0.3)
    with pytest.raises(TransportTimeoutError, match=r"0\.3"):
        env.reset(options={"task_spec": {"setup_s": 20}})
    env.close()


def test_a_server_that_never_says_how_many_tasks_it_has() -> None:
    with running() as server:
        server.inject("/num_tasks", Fault("cut", at="answer", how="stall"), times=9)
        env = OpenRewardEnv("fault", base_url=server.url, reset_timeout_s=0.3)
        with pytest.raises(TransportTimeoutError, match=r"0\.3"):
            env.reset(seed=0)
        env.close()
