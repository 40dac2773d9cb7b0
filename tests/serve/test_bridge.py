"""A bridged Gymnasium environment has the same trajectories as the env itself."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium import spaces
from gymnasium_environments import Everything, Odd
from test_values import same

import openreward_gym
from openreward_gym import serve
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.values import decode, encode
from openreward_gym.types import ImageBlock, TextBlock

TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"
IDS = ["FrozenLake-v1", TAXI, "Blackjack-v1", "CartPole-v1", "tests/Everything-v0", "tests/Snake-v0"]


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serve.local([*IDS, serve.bridge("FrozenLake-v1", name="Grid", render="ansi", is_slippery=False)]) as base_url:
        yield base_url


def observed(space: gym.Space[Any], exact: Any, blocks: Any) -> Any:
    pictures = [block.content for block in blocks if isinstance(block, ImageBlock)]
    return decode(space, exact, pictures)


def check_the_same(direct: gym.Env[Any, Any], bridged: gym.Env[Any, Any], seed: int, steps: int) -> int:
    """Play the same random actions in both envs, and return the number of steps."""
    base: Any = bridged.unwrapped
    space = direct.observation_space
    direct.action_space.seed(seed)
    observation, _ = direct.reset(seed=seed)
    text, _ = bridged.reset(seed=seed)
    first = base.episode.prompt[0].blocks[1:]
    assert same(observed(space, first[0].detail["observation"], first), as_declared(space, observation))
    played = 0
    while played < steps:
        played += 1
        action = direct.action_space.sample()
        observation, reward, terminated, truncated, _ = direct.step(action)
        call = {"name": "step", "arguments": {"action": encode(direct.action_space, action)}}
        text, got, ended, cut, info = bridged.step(call)
        metadata = json.loads(info["metadata"])
        blocks = base.last_step.results[0].output.blocks
        assert same(observed(space, metadata["observation"], blocks), as_declared(space, observation))
        assert got == float(reward)
        assert (metadata["terminated"], metadata["truncated"]) == (terminated, truncated)
        assert (ended, cut) == (terminated or truncated, False)
        if isinstance(space, spaces.Discrete | spaces.Box) and blocks[0].type != "image":
            assert same(decode(space, json.loads(text.splitlines()[0])), as_declared(space, observation))
        if terminated or truncated:
            assert "The episode is over" in text
            break
    return played


def as_declared(space: gym.Space[Any], observation: Any) -> Any:
    """Return an observation with the types that its space declares; some envs return plain integers."""
    return decode(space, encode(space, observation)) if not isinstance(space, spaces.Box) else observation


@pytest.mark.parametrize("name", IDS)
def test_round_trip(served: str, name: str) -> None:
    for seed in (0, 1, 7):
        direct = gym.make(name)
        bridged = gym.make("OpenReward-v0", environment=name, base_url=served)
        assert check_the_same(direct, bridged, seed, 40) >= 1
        direct.close()
        bridged.close()


def test_round_trip_in_process() -> None:
    for name, environment in ((TAXI, TAXI), ("tests/Everything-v0", serve.bridge("tests/Everything-v0"))):
        host = serve.in_process(environment)
        bridged = gym.make("OpenReward-v0", environment=host.names[0], base_url=host.base_url, transport=host)
        check_the_same(gym.make(name), bridged, 3, 12)
        bridged.close()
        assert len(host.host) == 0
    by_name = gym.make("OpenReward-v0", environment=TAXI, transport="in-process")
    check_the_same(gym.make(TAXI), by_name, 3, 12)
    by_name.close()


def test_bridged_classes_are_garbage_collected() -> None:
    bridged = weakref.ref(serve.bridge("CartPole-v1"))
    serve.in_process(bridged())  # type: ignore[arg-type]
    gc.collect()
    assert bridged() is None


def test_random_actions_of_the_tools_own_space(served: str) -> None:
    """The env accepts random actions from the space that a client derives from the schema."""
    for name in IDS:
        env = gym.make("OpenReward-v0", environment=name, base_url=served)
        env.action_space.seed(0)
        env.reset(seed=0)
        wrong = 0
        for _ in range(10):
            *_, terminated, truncated, info = env.step(env.action_space.sample())
            wrong += info["error_kind"] not in ("", "infrastructure")
            if terminated or truncated:
                break
        assert wrong < 5, name
        env.close()


def test_splits_tasks_and_names(served: str) -> None:
    from openreward_gym.protocol.client import Client

    async def look() -> None:
        async with Client(served) as client:
            names = await client.list_environments()
            assert names[0] == "frozenlake-v1"
            assert "snake-v0" in names
            lake = client.environment("FrozenLake-v1")
            assert [(split.name, split.type) for split in await lake.splits()] == [("train", "train"), ("test", "test")]
            assert [await lake.num_tasks(name) for name in ("train", "test")] == [1000, 100]
            assert (await lake.task("train", 5)).spec == {"seed": 5}
            assert (await lake.task("test", 0)).spec == {"seed": 1000}
            (step,) = await lake.tools()
            assert step.input_schema is not None
            action = step.input_schema["properties"]["action"]
            assert (action["type"], action["minimum"], action["maximum"]) == ("integer", 0, 3)
            (step,) = await client.environment("Snake-v0").tools()
            assert step.input_schema is not None
            assert step.input_schema["properties"]["action"]["enum"] == ["left", "right", "done"]

    asyncio.run(look())


def test_names_and_splits_of_a_class() -> None:
    bridged = serve.bridge("tests/Snake-v0", splits={"train": 3, "dev": [7, 9], "huge": range(10**9)})
    assert (bridged.__name__, bridged.name()) == ("SnakeV0", "Snake-v0")
    assert [(split.name, split.type) for split in bridged.list_splits()] == [
        ("train", "train"),
        ("dev", "validation"),
        ("huge", "validation"),
    ]
    assert bridged.list_tasks("dev") == [{"seed": 7}, {"seed": 9}]
    assert asyncio.run(bridged.get_task("huge", 10**9 - 1)) == {"seed": 10**9 - 1}
    with pytest.raises(NotImplementedError):
        bridged.list_tasks("huge")
    with pytest.raises(IndexError):
        asyncio.run(bridged.get_task("dev", -1))
    with pytest.raises(ValueError, match="no split 'nope'"):
        bridged.list_tasks("nope")
    assert serve.bridge(lambda: Odd()).name() == "Odd"
    assert serve.bridge(gym.make("CartPole-v1"), name="3d").__name__ == "Env3d"


def test_frames_and_action_names() -> None:
    env = OpenRewardEnv(serve.bridge("FrozenLake-v1", render="ansi", action_names=["West", "South", "East", "North"]))
    text, _ = env.reset(seed=0)
    assert "An action is one of West, South, East, North." in text
    assert "SFFF" in text.replace("\x1b[41mS\x1b[0m", "S")
    text, *_ = env.step({"name": "step", "arguments": {"action": "south"}})
    assert "FHFH" in text
    _, _, _, _, info = env.step({"name": "step", "arguments": {"action": "up"}})
    assert "action must be one of West, South, East, North, not 'up'" in info["error"]
    env.close()
    env = OpenRewardEnv(serve.bridge(Everything, render=None), obs_mode="blocks")
    assert len(env.reset(seed=0)[0]) == 2
    env.close()
    env = OpenRewardEnv(serve.bridge("tests/Everything-v0", render="rgb_array", prompt="Play."))
    env.reset(seed=0)
    assert env.episode is not None
    *_, frame = env.episode.prompt[0].blocks
    assert isinstance(frame, ImageBlock)
    assert base64.b64decode(frame.data).startswith(b"\x89PNG")
    assert env.episode.prompt[0].blocks[0] == TextBlock("Play.")
    env.close()


def test_the_env_never_sees_an_invalid_action() -> None:
    """Mistakes in between do not change the trajectory."""
    for mistakes in (False, True):
        env = OpenRewardEnv(serve.bridge("CartPole-v1"))
        env.reset(seed=4)
        results = []
        for action in (0, 1, 1, 0):
            if mistakes:
                for wrong in ({"action": 2}, {"action": "left"}, {}, {"action": 0, "more": 1}, {"action": {"a": "{b}"}}):
                    _, reward, terminated, truncated, info = env.step({"name": "step", "arguments": wrong})
                    assert info["error_kind"] == "input_validation"
                    assert (reward, terminated, truncated, info["reward_is_null"]) == (0.0, False, False, True)
                assert "action must be an integer, not {'a': '{b}'}" in info["error"]
            results.append(env.step({"name": "step", "arguments": {"action": action}})[:2])
        if not mistakes:
            without = results
        env.close()
    assert results == without


def test_an_error_of_the_env_ends_the_episode_without_a_reward(caplog: pytest.LogCaptureFixture) -> None:
    step = {"name": "step", "arguments": {"action": 0}}
    with caplog.at_level(logging.CRITICAL):
        for reward in (float("nan"), "text"):
            env = OpenRewardEnv(serve.bridge(partial(Odd, reward=reward)))
            env.reset()
            _, _, terminated, truncated, info = env.step(step)
            assert (terminated, truncated, info["stop_reason"], info["reward_is_null"]) == (False, True, "tool_failed", True)
            env.close()
        for spec in ({"seed": -1}, {"seed": "x"}, {"sed": 1}, {"options": 3}):
            with pytest.raises(openreward_gym.OpenRewardGymError, match="a task must be"):
                env.reset(options={"task_spec": spec})
    env = OpenRewardEnv(serve.bridge(Everything))
    env.reset(options={"task_spec": {"options": {"level": 3}}})
    assert env.episode is not None
    assert env.episode.prompt[0].blocks[1].detail["info"] == {"options": {"level": 3}}  # type: ignore[union-attr]
    env.close()


def test_each_session_has_its_own_thread() -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("bridge-")]

    def threads_left() -> list[str]:
        for thread in threading.enumerate():
            if thread.name.startswith("bridge-"):
                thread.join(5)
        return threads()

    assert threads_left() == []
    release = threading.Event()
    blocking = serve.bridge(lambda: Odd(wait=release), name="Blocking")
    step = {"name": "step", "arguments": {"action": 0}}

    async def run() -> None:
        envs = [OpenRewardEnv(blocking) for _ in range(3)]
        await asyncio.gather(*[env.areset() for env in envs])
        assert threads() == ["bridge-Blocking"] * 3
        stepping = [asyncio.create_task(env.astep(step)) for env in envs]
        # All three wait in their envs. If they blocked the event loop, this would never end.
        release.set()
        assert all(result[1] == 0.0 for result in await asyncio.gather(*stepping))
        everything = OpenRewardEnv(serve.bridge(Everything))
        await everything.areset(seed=0)
        action = encode(Everything.inner, Everything.inner.sample())
        *_, info = await everything.astep({"name": "step", "arguments": {"action": action}})
        metadata = json.loads(info["metadata"])
        assert metadata["info"] == {
            "threads": 1,
            "mask": [1, 1],
            "big": "<array of shape (40, 40), float64>",
            "odd": "<object>",
        }
        for env in (*envs, everything):
            await env.aclose()

    asyncio.run(run())
    assert threads_left() == []


GRAPH = spaces.Graph(spaces.Discrete(2), None)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: serve.bridge("FrozenLak-v1"), "Gymnasium has FrozenLake-v1"),
        (lambda: serve.bridge("no_such_module:Env-v0"), "cannot import 'no_such_module'"),
        (lambda: serve.bridge(3), "cannot bridge 3"),  # type: ignore[arg-type]
        (lambda: serve.bridge(lambda: 3), "must return a gymnasium.Env, not 3"),  # type: ignore[arg-type,return-value]
        (lambda: serve.bridge(Odd()), "has no spec"),
        (lambda: serve.bridge(Odd, is_slippery=True), "takes no arguments"),
        (lambda: serve.bridge("FrozenLake-v1", slippery=True), "Gymnasium cannot make FrozenLake-v1"),
        (lambda: serve.bridge("FrozenLake-v1", render="human"), "render must be one of ansi, rgb_array"),  # type: ignore[arg-type]
        (lambda: serve.bridge(Odd, render="ansi"), "is made with render_mode=None"),
        (lambda: serve.bridge("FrozenLake-v1", splits={}), "needs a split"),
        (lambda: serve.bridge("FrozenLake-v1", splits={"train": 0}), "must have seeds"),
        (lambda: serve.bridge("FrozenLake-v1", name="a/b"), "cannot be the name"),
        (lambda: serve.bridge("FrozenLake-v1", action_names=["a", "A", "b", "c"]), "must have one name, unlike the others"),
        (lambda: serve.bridge("FrozenLake-v1", action_names=["a"]), "must have one name"),
        (lambda: serve.bridge(lambda: Odd(action=GRAPH)), "Graph spaces cannot be bridged"),
        (lambda: serve.bridge(lambda: Odd(observation=GRAPH)), "Graph spaces cannot be bridged"),
    ],
)
def test_errors_of_bridge(make: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        make()


def test_an_environment_of_a_script(tmp_path: Path) -> None:
    """An env of a script is served both by its id and by a function."""
    script = """
        import gymnasium as gym
        import openreward_gym
        from gymnasium import spaces
        from openreward_gym import serve

        class Counter(gym.Env):
            observation_space, action_space = spaces.Discrete(100), spaces.Discrete(2)
            def reset(self, *, seed=None, options=None):
                self.n = seed
                return self.n, {}
            def step(self, action):
                self.n += int(action)
                return self.n, 1.0, self.n >= 5, False, {}

        gym.register("Counter-v0", "__main__:Counter")
        if __name__ == "__main__":
            with serve.local(["Counter-v0", serve.bridge(lambda: Counter(), name="Made")]) as url:
                for name in ("Counter-v0", "Made"):
                    env = gym.make("OpenReward-v0", environment=name, base_url=url)
                    env.reset(seed=4)
                    print(env.step({"name": "step", "arguments": {"action": 1}})[:3])
                    env.close()
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    ran = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "('5\\nThe episode is over: it reached its end.', 1.0, True)\n" * 2, ran.stderr


def test_the_example() -> None:
    example = Path(__file__).parents[2] / "examples" / "serve_gymnasium.py"
    ran = subprocess.run([sys.executable, str(example), "CartPole-v1", "2"], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "You play CartPole-v1." in ran.stdout
    assert "0: Push cart to the left" in ran.stdout
    assert ran.stdout.count("the same without the server") == 2
