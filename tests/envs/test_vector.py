"""The vector environment against a real server: Gymnasium's contract, partial batches, what goes wrong."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from counting import eventually, sessions
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from launch import served

from openreward_gym.envs.vector import OpenRewardVectorEnv
from openreward_gym.errors import ConfigurationError, ResetNeededError, ServerError, TransportError


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


ECHO = call("echo", text="hi")
FINISH = call("finish", text="right")


@pytest.fixture
def make(server_url: str) -> Iterator[Callable[..., OpenRewardVectorEnv]]:
    made: list[OpenRewardVectorEnv] = []

    def build(num_envs: int = 4, environment: str = "echo", **arguments: Any) -> OpenRewardVectorEnv:
        made.append(OpenRewardVectorEnv(num_envs, environment=environment, **{"base_url": server_url, **arguments}))
        return made[-1]

    yield build
    for envs in made:
        envs.close()


Make = Callable[..., OpenRewardVectorEnv]

# ---- Gymnasium's contract ----


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("echo",), {"num_envs": 2}, TypeError),
        ((), {"nonsense": 1}, ConfigurationError),
        ((0,), {}, ConfigurationError),
        ((2,), {"environment": "echo", "base_url": "http://[", "max_steps": 3}, ConfigurationError),
        ((2,), {"environment": "echo", "prefetch": -1}, ConfigurationError),
        ((2,), {"environment": "echo", "base_url": "http://127.0.0.1:9", "wrap": lambda env: 1 / 0}, ZeroDivisionError),
    ],
)
def test_one_that_could_not_be_made_is_collected_in_silence(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    with pytest.raises(error):
        OpenRewardVectorEnv(*arguments, **options)
    gc.collect()
    assert not [one.exc_value for one in ignored]


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from openreward_gym import OpenRewardVectorEnv
envs = OpenRewardVectorEnv(200, environment="echo", base_url=sys.argv[1], transport=sys.argv[2])
envs.reset(seed=1)
for _ in range(2):
    _, _, _, truncated, _ = envs.step([{"name": "echo", "arguments": {"text": "hi"}}] * 200)
    print(truncated.size, truncated.sum())
envs.close()
"""


@pytest.mark.parametrize("transport", ["fast", "httpx"])
def test_few_open_files_cost_no_row(server_url: str, transport: str) -> None:
    words = [sys.executable, "-c", FEW_FILES, server_url, transport]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["200 0", "200 0"]
    assert "of 200 envs reset and step at once, because this process may open only" in ran.stderr
    assert "ulimit -n is 64" in ran.stderr


def test_made_by_gymnasium(server_url: str) -> None:
    envs: Any = gym.make_vec(
        "OpenReward-v0", 3, vectorization_mode="vector_entry_point", environment="echo", base_url=server_url, split="train"
    )
    with envs:
        assert envs.num_envs == 3
        assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        assert envs.spec.id == "OpenReward-v0"
        assert "num_envs=3" in repr(envs)
        observations, infos = envs.reset(seed=1)
        assert observations in envs.observation_space
        assert infos["task_index"].tolist() == [1, 2, 3]
        actions = envs.action_space.sample()
        assert actions in envs.action_space
        observations, rewards, terminations, truncations, infos = envs.step(actions)
        assert observations in envs.observation_space
        assert (rewards.dtype, terminations.dtype, truncations.dtype) == (np.float64, np.bool_, np.bool_)
        assert {key[1:] for key in infos if key.startswith("_")} == {key for key in infos if not key.startswith("_")}
    assert envs.closed
    envs.close()


def test_metadata_is_not_shared(make: Make) -> None:
    first, second = make(1), make(1, autoreset_mode="SAME_STEP")
    assert first.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert second.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_no_network_before_it_is_needed() -> None:
    with OpenRewardVectorEnv(2, environment="echo", base_url="http://127.0.0.1:9") as envs:
        assert envs.observation_space.contains(("", ""))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"num_envs": 0}, "num_envs must be an integer from 1"),
        ({"num_envs": 1.5}, "num_envs must be an integer"),
        ({"prefetch": -1}, "prefetch must be an integer from 0"),
        ({"max_inflight": 0}, "max_inflight must be an integer from 1"),
        ({"autoreset_mode": "sometimes"}, "NEXT_STEP, SAME_STEP, DISABLED"),
        ({"obs_mode": "smell"}, "obs_mode"),
        ({"wrap": lambda env: "nothing"}, "must return the env with something around it"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        OpenRewardVectorEnv(environment="echo", **arguments)


def test_max_episode_steps_is_our_limit_too(make: Make) -> None:
    for arguments in (
        {"max_episode_steps": 1},
        {"max_episode_steps": 5, "max_steps": 1},
        {"max_episode_steps": 1, "max_steps": 5},
    ):
        envs = make(1, **arguments)
        envs.reset(seed=0)
        _, _, _, truncations, infos = envs.step([ECHO])
        assert truncations[0]
        assert infos["stop_reason"][0] == "max_steps"


# ---- resets ----


def test_seeds(make: Make) -> None:
    envs = make()
    assert envs.reset(seed=3)[1]["task_index"].tolist() == [3, 4, 0, 1]
    assert envs.reset(seed=[2, None, 0, 1])[1]["task_index"].tolist() == [2, 0, 0, 1]
    assert envs.reset()[1]["task_index"].tolist() == [3, 1, 1, 2]
    with pytest.raises(ConfigurationError, match="list of 4"):
        envs.reset(seed=[1, 2])


def test_options_for_each_env(make: Make) -> None:
    envs = make(2)
    options = {"task_index": [4, 2]}
    assert envs.reset(options=options)[1]["task_index"].tolist() == [4, 2]
    assert options == {"task_index": [4, 2]}
    assert envs.reset(options={"task_index": 3})[1]["task_index"].tolist() == [3, 3]
    assert envs.reset(options={"split": "test"})[1]["split"].tolist() == ["test", "test"]
    observations, _ = envs.reset(options={"task_spec": [{"a": 1}, {"b": 2}]})
    assert ['"a": 1' in observations[0], '"b": 2' in observations[1]] == [True, True]
    with pytest.raises(ConfigurationError, match="must have 2 elements, got 3"):
        envs.reset(options={"task_index": [1, 2, 3]})
    with pytest.raises(ConfigurationError, match="no option"):
        envs.reset(options={"task_idx": 1})
    assert envs.reset(seed=0)[1]["task_index"].tolist() == [0, 1]


def test_a_mask_resets_some(make: Make) -> None:
    envs = make(3)
    first, _ = envs.reset(seed=0)
    envs.step([ECHO] * 3)
    options = {"reset_mask": np.array([False, True, False])}
    observations, infos = envs.reset(seed=[None, 4, None], options=options)
    assert set(options) == {"reset_mask"}  # Gymnasium's own vector environments take it out of the caller's dict
    assert observations == ("hi", first[1].replace("1", "4", 1), "hi")
    assert infos["_task_index"].tolist() == [False, True, False]
    assert infos["task_index"][1] == 4


@pytest.mark.parametrize("mask", [[True, False], np.array([1, 0]), np.array([False, False]), np.array([True])])
def test_wrong_masks(make: Make, mask: Any) -> None:
    with pytest.raises(ConfigurationError, match="reset_mask"):
        make(2).reset(options={"reset_mask": mask})


def test_resets_run_at_once(server_url: str, make: Make) -> None:
    envs = make(8, "slowstart")
    envs.async_reset(options={"task_spec": {"setup_s": 120}})
    assert eventually(lambda: sessions(server_url) == 8)
    assert sorted(envs.cancel()) == list(range(8))  # none was there before the last one began


def test_a_reset_ends_what_was_under_way(make: Make, server_url: str) -> None:
    envs = make(2)
    envs.reset(seed=0)
    envs.send([call("slow", seconds=60.0), ECHO])
    observations, infos = envs.reset(seed=2)
    assert infos["task_index"].tolist() == [2, 3]
    assert all(observation.startswith("task") for observation in observations)
    assert envs.step([ECHO, ECHO])[0] == ("hi", "hi")
    assert eventually(lambda: sessions(server_url) == 2)


# ---- steps ----


def test_rewards_and_ends(make: Make) -> None:
    envs = make(autoreset_mode="DISABLED")
    envs.reset(seed=0)
    _, rewards, terminations, truncations, infos = envs.step([ECHO, FINISH, call("fail", text="x"), call("nothing")])
    assert rewards.tolist() == [0.5, 1.0, 0.0, 0.0]
    assert terminations.tolist() == [False, True, False, False]
    assert truncations.tolist() == [False, False, True, False]
    assert infos["stop_reason"].tolist() == ["", "finished", "tool_failed", ""]
    assert infos["reward_is_null"].tolist() == [False, False, True, True]
    assert infos["env_id"].tolist() == [0, 1, 2, 3]


def test_a_wrong_action_is_found_before_anything_is_sent(make: Make) -> None:
    envs = make(2)
    envs.reset(seed=0)
    with pytest.raises(ConfigurationError, match="step\\(\\) cannot take 17"):
        envs.step([ECHO, 17])
    for actions in ([ECHO], ECHO, "text"):
        with pytest.raises(ConfigurationError, match="one action per env"):
            envs.step(actions)  # type: ignore[arg-type]
    assert envs.step([call("count")] * 2)[0] == ("0", "0")


def test_a_step_needs_a_reset(make: Make) -> None:
    with pytest.raises(ResetNeededError, match="env 0"):
        make(2).step([ECHO, ECHO])


def test_next_step_ignores_the_action_after_an_end(make: Make) -> None:
    envs = make(2)
    envs.reset(seed=0)
    envs.step([FINISH, ECHO])
    observations, rewards, terminations, _, infos = envs.step([None, ECHO])
    assert observations[0].startswith("task")
    assert (rewards[0], terminations[0], infos["task_index"][0]) == (0.0, False, 1)
    assert infos["_tools"].tolist() == [True, False]


def test_same_step_brings_the_end_and_the_beginning(make: Make) -> None:
    envs = make(2, autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=0)
    observations, rewards, terminations, _, infos = envs.step([FINISH, ECHO])
    assert observations[0].startswith("task")
    assert (rewards[0], terminations[0]) == (1.0, True)
    assert infos["final_obs"].tolist() == ["over", None]
    assert infos["_final_obs"].tolist() == [True, False]
    assert infos["final_info"]["stop_reason"][0] == "finished"
    assert infos["task_index"][0] == 1
    assert envs.step([ECHO, ECHO])[0] == ("hi", "hi")


def test_disabled_waits_for_a_reset(make: Make, server_url: str) -> None:
    envs = make(2, autoreset_mode="Disabled")
    envs.reset(seed=0)
    envs.step([FINISH, ECHO])
    assert eventually(lambda: sessions(server_url) == 1)
    with pytest.raises(ResetNeededError, match="env 0 has no episode"):
        envs.step([ECHO, ECHO])
    assert envs.step_subset({1: call("count")})[1][0] == "1"
    envs.reset(options={"reset_mask": np.array([True, False])})
    assert envs.step([call("count")] * 2)[0] == ("0", "1")


# ---- partial batches ----


def test_the_fast_do_not_wait_for_the_slow(make: Make) -> None:
    envs = make(4)
    envs.reset(seed=0)
    envs.send([call("slow", seconds=60.0), ECHO, ECHO, ECHO])
    seen: list[int] = []
    for _ in range(3):
        observations, _, _, _, infos = envs.recv(min_envs=1)
        ids = infos["env_id"].tolist()
        assert len(observations) == len(ids) >= 1
        seen += ids
        envs.send([ECHO] * len(ids), ids)
    assert 0 not in seen
    assert envs.stats()["in_flight"] + envs.stats()["waiting"] == 4


def test_each_row_comes_once(make: Make) -> None:
    envs = make(4)
    envs.async_reset(seed=0)
    seen: list[int] = []
    while len(seen) < 4:
        _, rewards, _, _, infos = envs.recv(min_envs=1, max_envs=1)
        assert rewards.tolist() == [0.0]
        seen += infos["env_id"].tolist()
    assert sorted(seen) == [0, 1, 2, 3]
    with pytest.raises(ConfigurationError, match="nothing is in flight"):
        envs.recv()


def test_recv_waits_for_as_many_as_there_are(make: Make) -> None:
    envs = make(3)
    envs.reset(seed=0)
    envs.send([ECHO, call("echo", text="you")], [2, 0])
    observations, rewards, _, _, infos = envs.recv(min_envs=3)
    assert dict(zip(infos["env_id"].tolist(), observations, strict=True)) == {2: "hi", 0: "you"}
    assert rewards.tolist() == [0.5, 0.5]


def test_recv_gives_up_waiting(make: Make) -> None:
    envs = make(2)
    envs.reset(seed=0)
    envs.send([call("slow", seconds=4.0), ECHO])
    observations, *_ = envs.recv(min_envs=2, timeout_s=2.0)
    assert observations == ("hi",)
    observations, rewards, _, _, infos = envs.recv(timeout_s=0.01)
    assert (observations, rewards.shape, infos) == ((), (0,), {})
    assert envs.recv(timeout_s=30)[0] == ("done",)


@pytest.mark.parametrize(("least", "most"), [(0, None), (-1, None), (3, 2)])
def test_recv_refuses_odd_numbers(make: Make, least: int, most: int | None) -> None:
    with pytest.raises(ConfigurationError, match="min_envs"):
        make(2).recv(least, max_envs=most)


def test_a_busy_env_takes_no_second_action(make: Make) -> None:
    envs = make(2)
    envs.reset(seed=0)
    envs.send([ECHO], [1])
    for attempt in (lambda: envs.send([ECHO], [1]), lambda: envs.step([ECHO, ECHO]), lambda: envs.step_subset({1: ECHO})):
        with pytest.raises(ConfigurationError, match=r"envs \[1\] are still busy"):
            attempt()
    assert envs.recv()[0] == ("hi",)


@pytest.mark.parametrize("ids", [[0, 0], [2], [-1]])
def test_ids_are_checked(make: Make, ids: list[int]) -> None:
    envs = make(2)
    envs.reset(seed=0)
    with pytest.raises(ConfigurationError, match="distinct integers from 0 to 1"):
        envs.send([ECHO] * len(ids), ids)


def test_a_subset_beside_others_under_way(make: Make) -> None:
    envs = make(3)
    envs.reset(seed=0)
    envs.send([call("slow", seconds=0.5)], [0])
    results = envs.step_subset({2: ECHO, 1: FINISH})
    assert sorted(results) == [1, 2]
    assert results[1][:4] == ("over", 1.0, True, False)
    assert results[2][0] == "hi"
    assert envs.recv()[0] == ("done",)


# ---- what goes wrong ----


def test_cancelled_envs_are_truncated(make: Make, server_url: str) -> None:
    envs = make(3)
    envs.reset(seed=0)
    envs.send([call("slow", seconds=60.0), call("slow", seconds=60.0)], [0, 2])
    assert envs.cancel([1, 2]) == (2,)
    observations, _, terminations, truncations, infos = envs.recv()
    assert (observations, terminations.tolist(), truncations.tolist()) == (("",), [False], [True])
    assert (infos["env_id"][0], infos["stop_reason"][0]) == (2, "cancelled")
    assert envs.cancel() == (0,)
    assert envs.recv()[4]["stop_reason"].tolist() == ["cancelled"]
    assert eventually(lambda: sessions(server_url) == 1)
    assert envs.step([ECHO] * 3)[4]["task_index"].tolist() == [1, 1, 3]  # NEXT_STEP: two new episodes


def test_a_cancelled_reset_leaves_no_session(make: Make, server_url: str) -> None:
    envs = make(2, "slowstart")
    envs.async_reset(options={"task_spec": {"setup_s": 30}})
    assert eventually(lambda: envs.stats()["resets"] == 2)
    assert sorted(envs.cancel()) == [0, 1]
    assert envs.recv(min_envs=2)[4]["stop_reason"].tolist() == ["cancelled", "cancelled"]
    assert eventually(lambda: sessions(server_url) == 0)


def test_one_slow_session_does_not_hold_the_batch(make: Make) -> None:
    envs = make(3, step_timeout_s=2.5)
    envs.reset(seed=0)
    begun = time.perf_counter()
    observations, _, _, truncations, infos = envs.step([ECHO, call("slow", seconds=60.0), ECHO])
    assert time.perf_counter() - begun < 30
    assert truncations.tolist() == [False, True, False]
    assert infos["stop_reason"].tolist() == ["", "deadline", ""]
    assert observations[::2] == ("hi", "hi")


def test_a_session_that_cannot_be_opened_is_a_row(make: Make) -> None:
    envs = make(3, "slowstart", autoreset_mode="DISABLED")
    specs = [{"setup_s": 0}, {"setup_s": "never"}, {"setup_s": 0}]
    observations, infos = envs.reset(options={"task_spec": specs})
    assert observations[1] == ""
    assert infos["stop_reason"].tolist() == ["", "tool_failed", ""]
    assert infos["error_kind"][1] == "infrastructure"
    assert infos["error"][1]
    observations, _, terminations, truncations, infos = envs.step([call("ready")] * 3)
    assert observations == ("ready", "", "ready")
    assert (terminations.tolist(), truncations.tolist()) == ([False] * 3, [False, True, False])
    assert infos["error"][1]
    envs.reset(options={"reset_mask": np.array([False, True, False]), "task_spec": {"setup_s": 0}})
    assert envs.step([call("ready")] * 3)[0] == ("ready",) * 3


def test_a_reset_of_all_that_all_fail_raises(make: Make) -> None:
    with pytest.raises(ServerError, match="no disk left"):
        make(2, "broken").reset()
    with pytest.raises(TransportError):
        make(2, base_url="http://127.0.0.1:9").reset()


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_a_server_that_dies_truncates_every_row(mode: str) -> None:
    with served() as url:
        envs = OpenRewardVectorEnv(
            3, environment="echo", base_url=url, autoreset_mode=mode, reset_timeout_s=2.5, step_timeout_s=2.5
        )
        envs.reset(seed=0)
        assert envs.step([ECHO] * 3)[0] == ("hi",) * 3
    for _ in range(2):
        observations, _, terminations, truncations, infos = envs.step([ECHO] * 3)
        assert truncations.all()
        assert not terminations.any()
        assert len(observations) == 3
        assert all(infos["error"])
    assert envs.stats()["failures"] >= 6
    envs.close()


def test_on_failure_raise_raises_nothing_here(make: Make) -> None:
    envs = make(2, on_failure="raise")
    envs.reset(seed=0)
    _, _, _, truncations, infos = envs.step([call("fail", text="x"), ECHO])
    assert truncations.tolist() == [True, False]
    assert infos["stop_reason"].tolist() == ["tool_failed", ""]


class Clumsy(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper with a mistake in it."""

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        return 1 // 0 if result[0] == "hi" else result


def test_a_wrappers_mistake_costs_one_row(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    envs = make(2, wrap=Clumsy)
    envs.reset(seed=0)
    observations, _, _, truncations, infos = envs.step([ECHO, call("echo", text="you")])
    assert observations == ("", "you")
    assert truncations.tolist() == [True, False]
    assert "division" in infos["error"][0]
    assert "ZeroDivisionError" in caplog.text


# ---- tasks in turn, sessions ahead ----


def played(envs: OpenRewardVectorEnv, episodes: int, seed: int | None = 0) -> list[list[int]]:
    """Each env's task indices over some episodes of one step."""
    _, infos = envs.reset(seed=seed)
    tasks = [[int(index)] for index in infos["task_index"]]
    for _ in range(episodes - 1):
        envs.step(["done"] * envs.num_envs)
        infos = envs.step([None] * envs.num_envs)[4]
        for env_id, index in enumerate(infos["task_index"]):
            tasks[env_id].append(int(index))
    return tasks


@pytest.mark.parametrize("order", ["sequential", "random", "shuffle"])
def test_sessions_ahead_change_no_task(make: Make, order: str) -> None:
    without = played(make(3, "large", task_order=order), 4)
    assert played(make(3, "large", task_order=order, prefetch=7), 4) == without
    again = make(3, "large", task_order=order, prefetch=7)
    played(again, 2, seed=5)
    assert played(again, 4) == without  # a seed starts the order anew, whatever was opened ahead


@pytest.mark.parametrize("prefetch", [0, 5])
@pytest.mark.parametrize("order", ["sequential", "shuffle"])
def test_shared_tasks_are_played_once_each(make: Make, prefetch: int, order: str) -> None:
    envs = make(4, "large", share_tasks=True, prefetch=prefetch, task_order=order)
    tasks = [index for column in played(envs, 5) for index in column]
    assert len(set(tasks)) == 20
    if order == "sequential":
        assert sorted(tasks) == list(range(20))
        assert [envs.reset(seed=7)[1]["task_index"].tolist()] == [[7, 8, 9, 10]]


def test_sessions_are_held_ready_and_given_back(make: Make, server_url: str) -> None:
    envs = make(2, "large", prefetch=4)
    envs.reset(seed=0)
    assert eventually(lambda: envs.stats()["ready_ahead"] == 4)
    assert sessions(server_url) == 6
    envs.step([call("answer", text="0")] * 2)
    envs.step([None] * 2)
    assert envs.stats()["ready_share"] == 0.5
    envs.close()
    assert eventually(lambda: sessions(server_url) == 0)


def test_a_session_that_was_lost_while_it_waited_is_opened_anew(make: Make, server_url: str) -> None:
    envs = make(1, "large", prefetch=2)
    envs.reset(seed=0)
    assert eventually(lambda: envs.stats()["ready_ahead"] == 2)
    session, _ = envs._prefetchers[0]._prefetched[0].opening.result()
    session.mark_lost("the test says so")
    envs.step([call("answer", text="0")])
    _, _, _, _, infos = envs.step([None])
    assert (infos["task_index"][0], infos["error"][0]) == (1, "")
    assert envs.step([call("answer", text="1")])[1].tolist() == [1.0]


def test_prefetching_hides_the_time_to_set_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make(2, "slowstart", prefetch=8, share_tasks=True)
    envs.reset(seed=0)
    assert eventually(lambda: envs.stats()["ready_ahead"] == 8)

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    # From here on every setup takes forever: a reset that waited for one would never end.
    (prefetcher,) = envs._prefetchers
    monkeypatch.setattr(prefetcher, "_open", never)
    for _ in range(3):
        envs.step(["done"] * 2)
        _, _, _, _, infos = envs.step([None] * 2)
        assert infos["error"].tolist() == ["", ""]
    assert envs.stats()["ready_share"] == 6 / 8


class Counting(gym.Wrapper[Any, Any, Any, Any]):
    """Counts how many of its kind are at work at once."""

    lock = threading.Lock()
    now = most = 0

    def step(self, action: Any) -> Any:
        kind = type(self)
        with kind.lock:
            kind.now += 1
            kind.most = max(kind.most, kind.now)
        try:
            return self.env.step(action)
        finally:
            with kind.lock:
                kind.now -= 1


@pytest.mark.parametrize(("limit", "most", "seconds"), [(2, 2, 0.3), (None, 6, 2.5)])
def test_only_so_many_at_once(make: Make, limit: int | None, most: int, seconds: float) -> None:
    kind = type("Counted", (Counting,), {"now": 0, "most": 0})
    envs = make(6, max_inflight=limit, wrap=kind, prefetch=3)
    envs.reset(seed=0)
    assert envs.step([call("slow", seconds=seconds)] * 6)[0] == ("done",) * 6
    assert kind.most == most  # type: ignore[attr-defined]


# ---- wrappers and friends ----


def test_gymnasiums_wrappers_inside_and_outside(make: Make) -> None:
    inner = make(2, wrap=lambda env: gym.wrappers.TimeLimit(env, 2), autoreset_mode="SAME_STEP")
    envs: Any = RecordEpisodeStatistics(inner)
    envs.reset(seed=0)
    envs.step([ECHO, ECHO])
    _, _, terminations, truncations, infos = envs.step([ECHO, FINISH])
    assert terminations.tolist() == [False, True]
    assert truncations.tolist()[0]
    assert infos["episode"]["r"].tolist() == [1.0, 1.5]
    listed: Any = DictInfoToList(make(2))
    _, rows = listed.reset(seed=0)
    assert [row["task_index"] for row in rows] == [0, 1]


def test_attributes_of_the_envs(make: Make) -> None:
    envs = make(2, render_mode="ansi")
    envs.reset(seed=0)
    assert envs.get_attr("split") == ("train", "train")
    envs.set_attr("max_steps", [1, None])
    assert envs.step([ECHO, ECHO])[3].tolist() == [True, False]
    frames = envs.render()
    assert frames is not None
    assert ["hi" in frame for frame in frames] == [True, True]
    with pytest.raises(ConfigurationError, match="one value or 2"):
        envs.set_attr("max_steps", [1, 2, 3])
    assert make(1).render() is None


# ---- nothing is left behind ----


def test_an_error_in_the_policy_leaves_no_session(server_url: str) -> None:
    def policy() -> None:
        with OpenRewardVectorEnv(3, environment="echo", base_url=server_url, prefetch=3) as envs:
            envs.reset(seed=0)
            envs.send([call("slow", seconds=60.0)], [1])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        policy()
    assert eventually(lambda: sessions(server_url) == 0)


def test_a_forgotten_environment_leaves_no_session(server_url: str) -> None:
    def play() -> None:
        envs = OpenRewardVectorEnv(3, environment="echo", base_url=server_url, prefetch=2)
        envs.reset(seed=0)
        envs.step([ECHO] * 3)
        assert eventually(lambda: envs.stats()["ready_ahead"] == 2)
        assert sessions(server_url) == 5

    play()
    gc.collect()
    assert eventually(lambda: sessions(server_url) == 0)


def test_closing_waits_no_longer_than_it_is_told(make: Make, server_url: str) -> None:
    envs = make(3)
    envs.reset(seed=0)
    envs.send([call("slow", seconds=60.0)] * 3)
    begun = time.perf_counter()
    envs.close(timeout=5)
    assert time.perf_counter() - begun < 30
    again = make(3)
    again.reset(seed=0)
    again.close(terminate=True)
    assert eventually(lambda: sessions(server_url) == 0)
