"""Every way Gymnasium has to play several sessions says the same: in turn, in processes, on one event loop."""

from __future__ import annotations

import json
import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from counting import eventually, sessions
from gymnasium.vector import AutoresetMode, VectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from openreward_gym.envs.batches import merged_infos
from openreward_gym.envs.vector import OpenRewardVectorEnv
from openreward_gym.options import ObsMode

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # from Python 3.12 on, beside threads

ENVS = 2
TOLD = ("task_index", "stop_reason", "error", "tool", "n_calls", "reward_is_null", "metadata", "final_obs")


def make(url: str, mode: str, autoreset: AutoresetMode, **vector_kwargs: Any) -> Any:
    if mode == "vector_entry_point":
        return gym.make_vec(
            "OpenReward-v0", ENVS, vectorization_mode=mode, environment="echo", base_url=url, autoreset_mode=autoreset
        )
    return gym.make_vec(
        "OpenReward-v0",
        ENVS,
        vectorization_mode=mode,
        vector_kwargs={"autoreset_mode": autoreset, **vector_kwargs},
        environment="echo",
        base_url=url,
    )


def trajectory(envs: Any, autoreset: AutoresetMode, steps: int = 7) -> list[Any]:
    try:
        observations, infos = envs.reset(seed=1)
        trace: list[Any] = [observations, infos["task_index"].tolist()]
        for i in range(steps):
            text = {"name": "echo", "arguments": {"text": f"é\0\ud83e {i}"}}
            end = {"name": "finish", "arguments": {"text": "right" if i % 2 else "wrong"}}
            actions = (text if i % 2 == 0 else end, end if i % 3 == 0 else text)
            observations, rewards, terminations, truncations, infos = envs.step(actions)
            assert envs.observation_space.contains(observations)
            trace += [observations, rewards.tolist(), terminations.tolist(), truncations.tolist()]
            trace += [infos[key].tolist() for key in TOLD if key in infos]
            ended = terminations | truncations
            if autoreset is AutoresetMode.DISABLED and ended.any():
                observations, infos = envs.reset(options={"reset_mask": ended})
                trace += [observations, infos["task_index"].tolist()]
        return trace
    finally:
        envs.close()


@pytest.fixture(scope="module")
def in_turn(server_url: str) -> dict[AutoresetMode, list[Any]]:
    """The trajectories of Gymnasium's SyncVectorEnv."""
    return {mode: trajectory(make(server_url, "sync", mode), mode) for mode in AutoresetMode}


@pytest.mark.parametrize("autoreset", list(AutoresetMode))
def test_one_event_loop(server_url: str, in_turn: dict[AutoresetMode, list[Any]], autoreset: AutoresetMode) -> None:
    assert trajectory(make(server_url, "vector_entry_point", autoreset), autoreset) == in_turn[autoreset]


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("autoreset", list(AutoresetMode))
def test_processes(server_url: str, in_turn: dict[AutoresetMode, list[Any]], autoreset: AutoresetMode, context: str) -> None:
    assert trajectory(make(server_url, "async", autoreset, context=context), autoreset) == in_turn[autoreset]


@pytest.mark.parametrize("autoreset", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_processes_without_shared_memory(
    server_url: str, in_turn: dict[AutoresetMode, list[Any]], autoreset: AutoresetMode
) -> None:
    envs = make(server_url, "async", autoreset, context="fork", shared_memory=False)
    assert trajectory(envs, autoreset) == in_turn[autoreset]


# ---- infos ----

values = st.one_of(
    st.tuples(st.just("int"), st.integers(-5, 5)),
    st.tuples(st.just("float"), st.floats(-1, 1)),
    st.tuples(st.just("bool"), st.booleans()),
    st.tuples(st.just("str"), st.text(max_size=3)),
    st.tuples(st.just("tuple"), st.tuples(st.integers(), st.text(max_size=2))),
    st.tuples(st.just("dict"), st.fixed_dictionaries({"inner": st.integers(0, 3)})),
)
infos = st.lists(st.lists(values, max_size=4).map(lambda pairs: dict(pairs)), min_size=1, max_size=4)


@given(infos)
@settings(derandomize=True)
def test_infos_are_merged_as_gymnasium_merges_them(rows: list[dict[str, Any]]) -> None:
    envs: VectorEnv[Any, Any, Any] = VectorEnv()
    envs.num_envs = len(rows)
    expected: dict[str, Any] = {}
    for place, info in enumerate(rows):
        expected = envs._add_info(expected, info, place)
    same(merged_infos(dict(enumerate(rows)), len(rows)), expected)


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, dict):
            same(value, b[key])
        else:
            assert value.dtype == b[key].dtype
            assert value.tolist() == b[key].tolist()


JSON_VALUES: list[Any] = [None, 1, 1.5, True, "text", [1, None], {"a": None}, {"a": {"b": [1.5]}}, [], {}, {"episode": 1}]


def random_call(source: random.Random) -> dict[str, Any]:
    name = source.choice(["value", "image", "nothing", "texts", "echo", "unknown", "count"])
    arguments: dict[str, Any] = {
        "value": {"value": source.choice(JSON_VALUES)},
        "texts": {"count": source.randrange(4), "seed": source.randrange(1000)},
        "echo": {"text": source.choice(["", "\0", "\udfff"])} if source.random() < 0.9 else {"txt": 1},
    }.get(name, {})
    return {"name": name, "arguments": arguments}


@pytest.mark.parametrize("outputs", [400, pytest.param(10_000, marks=pytest.mark.matrix)])
@pytest.mark.parametrize("obs_mode", ["text", "blocks", "messages"])
def test_nothing_a_tool_says_breaks_the_merging(server_url: str, obs_mode: ObsMode, outputs: int) -> None:
    source = random.Random(7)
    with OpenRewardVectorEnv(16, environment="echo", base_url=server_url, obs_mode=obs_mode) as envs:
        envs.reset(seed=0)
        kinds: dict[str, Any] = {}
        for _ in range(outputs // 3 // 16 + 1):
            observations, _, _, _, infos = envs.step([random_call(source) for _ in range(16)])
            assert envs.observation_space.contains(observations)
            columns: dict[str, Any] = {**infos}
            for key, column in columns.items():
                assert column.shape == (16,)
                assert kinds.setdefault(key, column.dtype) == column.dtype
            assert len([json.loads(text) for text in infos["metadata"]]) == 16
            assert np.issubdtype(infos["task_index"].dtype, np.integer)


def test_a_worker_that_is_killed_takes_no_other_session_with_it(server_url: str) -> None:
    """Its own session cannot be given back by anyone: it is the server's to end, once nobody pings it."""
    before = sessions(server_url)
    envs = make(server_url, "async", AutoresetMode.NEXT_STEP, context="spawn")
    envs.reset(seed=0)
    assert sessions(server_url) == before + ENVS
    envs.processes[0].kill()
    envs.processes[0].join()
    with pytest.raises((EOFError, ConnectionError)):
        envs.step([{"name": "echo", "arguments": {"text": "hi"}}] * ENVS)
    envs.close(terminate=True)
    assert eventually(lambda: sessions(server_url) == before + 1)
