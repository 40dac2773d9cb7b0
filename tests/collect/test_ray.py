"""`engine="ray"`: real worker processes; one is killed, one kills itself, the driver is killed, an environment hangs."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from collectors import Collector, coverage_of, once_each

from openreward_gym import collect
from openreward_gym.collect import StopSignal
from openreward_gym.collect import ray as ray_engine
from openreward_gym.collect.progress import Reporter
from openreward_gym.collect.run_folder import RunLock, exclude_worker, writing_for
from openreward_gym.errors import ConfigurationError, MissingExtraError, StoreError
from openreward_gym.options import RetryBudget, RunOptions
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import AssistantMessage, Message, Rollout, Task, ToolCall, ToolSet

WORKERS = 3
HUNG_S = 300.0
"""Seconds after which a collector counts as hung. Where many tests share two cores, Ray alone takes a minute to start."""


async def right(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"}, "c")])


async def in_a_while(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    await asyncio.sleep(0.1)
    return await right(transcript, tools)


class Fatal:
    """End the worker's process in task 2."""

    name = "fatal"

    def begin(self, task: Task, sample: int, seed: int) -> Any:
        if task.index == 2:
            os._exit(7)
        return right


class Hanging:
    """Wait for a tool that never answers in task 0."""

    name = "hanging"

    def begin(self, task: Task, sample: int, seed: int) -> Any:
        async def play(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
            if task.index == 0:
                return AssistantMessage(tool_calls=[ToolCall("slow", {"seconds": 600.0})])
            return await right(transcript, tools)

        return play


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster on this machine that the user has started."""
    ray: Any = importlib.import_module("ray")
    # Without an address it would join the cluster of a test in another process.
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


def play(server_url: str, output: Path, policy: Any = right, **arguments: Any) -> Any:
    options = {"base_url": server_url, "output": output, "progress": False, "engine": "ray", "workers": WORKERS, **arguments}
    return collect("echo", policy, **options)


def writers(run: Path) -> set[int]:
    """Return the ids of the processes that wrote shards of rollouts."""
    return {int(path.stem.rsplit("-", 2)[1]) for path in (run / "rollouts").glob("*.jsonl")}


@pytest.mark.matrix
def test_workers_play_and_write_their_own_shards(cluster: Any, server_url: str, tmp_path: Path) -> None:
    result = play(server_url, tmp_path / "run", repeats=6, concurrency=6, advantages="group")
    assert result.coverage.successful == result.coverage.expected == once_each(result.store) == 30
    assert len(writers(tmp_path / "run")) == WORKERS
    assert os.getpid() not in writers(tmp_path / "run")
    assert result.metrics.mean_reward == 1.0
    assert all(rollout.messages and rollout.run == "run" for rollout in result.store)
    assert coverage_of(tmp_path / "run")["successful"] == 30
    # The user's Ray is still the user's.
    assert cluster.is_initialized()
    # The engine is no part of what is played: the run goes on without it.
    again = collect(
        "echo", right, base_url=server_url, output=tmp_path / "run", repeats=6, advantages="group", resume=True, progress=False
    )
    assert len(again.store) == 30


class Killer(Reporter):
    """Kill a worker once some rollouts exist."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = run
        self.killed: int | None = None

    def finished(self, rollout: Rollout, step_seconds: list[float]) -> None:
        super().finished(rollout, step_seconds)
        if self.killed is None and self.counts.done >= 10:
            self.killed = min(writers(self.run))
            os.kill(self.killed, signal.SIGKILL)


@pytest.mark.matrix
def test_a_killed_workers_tasks_are_played_again(cluster: Any, server_url: str, tmp_path: Path) -> None:
    killer = Killer(tmp_path / "run")
    result = play(server_url, tmp_path / "run", in_a_while, repeats=12, concurrency=12, progress=killer)
    assert killer.killed is not None
    assert result.coverage.successful == result.coverage.expected == once_each(result.store) == 60
    lost = list(result.store.failures())
    # What it had under way, and no more; each was played again, once.
    assert 0 < len(lost) <= 8
    assert {(failure.source, failure.kind) for failure in lost} == {("client", "worker_lost")}
    assert all(str(killer.killed) in failure.message for failure in lost)
    again = {(failure.task, failure.sample) for failure in lost}
    assert {(r.group, r.sample): r.attempt for r in result.store if (r.group, r.sample) in again} == dict.fromkeys(again, 1)
    assert len(writers(tmp_path / "run")) == WORKERS + 1


@pytest.mark.matrix
def test_a_task_that_kills_its_workers_fails_alone(cluster: Any, server_url: str, tmp_path: Path) -> None:
    result = play(server_url, tmp_path / "run", Fatal(), concurrency=1, workers=1)
    assert (result.coverage.successful, result.coverage.failed, result.coverage.missing) == (4, 1, 0)
    failures = list(result.store.failures())
    assert [(failure.kind, failure.attempt) for failure in failures] == [("worker_lost", 0), ("worker_lost", 1)]


@pytest.mark.matrix
def test_an_environment_that_hangs_holds_up_its_own_alone(cluster: Any, server_url: str, tmp_path: Path) -> None:
    result = play(server_url, tmp_path / "run", Hanging(), repeats=4, concurrency=6, step_timeout_s=8.0)
    assert result.coverage.complete
    ended = {(rollout.task.index, rollout.stop_reason) for rollout in result.store}
    assert ended == {(0, "deadline"), (1, "finished"), (2, "finished"), (3, "finished"), (4, "finished")}
    hung = [rollout for rollout in result.store if rollout.task.index == 0]
    assert all(rollout.reward is None for rollout in hung)
    # The others had ended before the first of them gave up.
    gave_up = min(rollout.ended_at or "" for rollout in hung)
    assert all((rollout.ended_at or "") < gave_up for rollout in result.store if rollout.task.index != 0)


@pytest.mark.matrix
def test_the_command_begins_a_ray_and_a_killed_driver_leaves_nothing_double(server_url: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    where = ("--base-url", server_url, "--output", run, "--repeats", 12, "--concurrency", 8)
    ray = ("--engine", "ray", "--workers", 2)
    first = Collector(tmp_path, "echo", "--policy", "mine:slowly", *where, *ray, limit_s=HUNG_S)
    for _ in range(10):
        first.wait_for("rollout")
    first.signal(signal.SIGKILL)
    first.end()
    # At once: its workers may still live.
    code, errors = Collector(tmp_path, "echo", "--policy", "mine:slowly", *where, "--resume", limit_s=HUNG_S).end()
    assert code == 0, errors
    store = RolloutStore(run)
    assert coverage_of(run)["successful"] == once_each(store) == len(store) == 60
    assert not list(store.failures())


@pytest.mark.matrix
def test_ctrl_c_drains_the_workers(server_url: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    where = ("--base-url", server_url, "--output", run, "--repeats", 40, "--concurrency", 4, "--engine", "ray", "--workers", 2)
    collector = Collector(tmp_path, "echo", "--policy", "mine:slowly", *where, limit_s=HUNG_S)
    collector.wait_for("rollout")
    collector.signal(signal.SIGINT)
    code, errors = collector.end()
    assert code == 75, errors
    assert "Traceback" not in errors
    coverage = coverage_of(run)
    assert 0 < coverage["successful"] == once_each(RolloutStore(run)) < 200
    # What was under way came to its end.
    assert coverage["failed"] == 0


def children(pid: int, name: str | None = None) -> list[int]:
    """Return the child processes, of one program if it is named."""
    command = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [int(line.split()[0]) for line in lines if name in (None, Path(line.split()[1]).name.split(".")[0])]


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A Ray cluster of a head and two nodes on this machine."""
    utils: Any = importlib.import_module("ray.cluster_utils")
    health = {"health_check_initial_delay_ms": 2000, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": health})
    for _ in range(2):
        cluster.add_node(num_cpus=4)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.mark.matrix
def test_the_attempts_of_a_dead_node_are_played_on_the_others(nodes: Any, server_url: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    where = ("--base-url", server_url, "--output", run, "--repeats", 60, "--concurrency", 8, "--engine", "ray", "--workers", 4)
    environ = {"RAY_ADDRESS": nodes.address}
    collector = Collector(tmp_path, "echo", "--policy", "mine:slowly", *where, environ=environ, limit_s=HUNG_S)
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in nodes.worker_nodes}
    playing: list[int] = []
    while not playing:  # Ray may have placed no worker on one of the nodes
        collector.wait_for("rollout")
        playing = [pid for pid in raylets if writers(run) & set(children(pid))]
    victim = raylets[playing[0]]
    os.kill(playing[0], signal.SIGKILL)
    killed_at = time.monotonic()
    assert victim.node_id[:8] in collector.wait_for_words("is gone")["text"]
    assert time.monotonic() - killed_at < 15
    code, errors = collector.end()
    assert code == 0, errors
    assert "Traceback" not in errors
    store = RolloutStore(run)
    assert coverage_of(run)["successful"] == once_each(store) == len(store) == 300
    assert {(failure.kind, "is gone" in failure.message) for failure in store.failures()} <= {("worker_lost", True)}


@pytest.mark.matrix
@pytest.mark.parametrize("programs", [["raylet"], ["raylet", "gcs_server"]])
def test_the_death_of_the_only_node_ends_the_collection(programs: list[str], server_url: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    where = ("--base-url", server_url, "--output", run, "--repeats", 40, "--concurrency", 4, "--engine", "ray", "--workers", 2)
    collector = Collector(tmp_path, "echo", "--policy", "mine:slowly", *where, limit_s=HUNG_S)
    collector.wait_for("rollout")
    pids = [pid for program in programs for pid in children(collector.process.pid, program)]
    assert len(pids) == len(programs)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    if "gcs_server" in programs:
        # Nobody tells what became of the workers. The first interrupt is answered at once, the second one ends.
        collector.signal(signal.SIGINT)
        collector.wait_for_words("stopping")
        collector.signal(signal.SIGINT)
    else:
        collector.wait_for_words("the collection stops: the Ray node of this process")
    ended_at = time.monotonic()
    code, errors = collector.end()
    assert time.monotonic() - ended_at < 20
    assert code == 75, errors
    assert "--resume" in errors
    coverage = coverage_of(run)
    assert 0 < coverage["successful"] == once_each(RolloutStore(run)) < 200


def test_a_worker_that_was_replaced_writes_nothing_more(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        with writing_for(tmp_path, lock.holder, "worker-1"):
            pass
        exclude_worker(tmp_path, "worker-1")
        with pytest.raises(StoreError, match="taken for dead"), writing_for(tmp_path, lock.holder, "worker-1"):
            pass
        with writing_for(tmp_path, lock.holder, "worker-2"):
            pass


def test_a_worker_of_a_dead_collector_writes_nothing_more(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        with writing_for(tmp_path, lock.holder):
            pass
        with pytest.raises(StoreError, match="no longer collects"), writing_for(tmp_path, {**lock.holder, "pid": 1}):
            pass
    with pytest.raises(StoreError, match="no longer collects"), writing_for(tmp_path, lock.holder):
        pass


def test_a_new_collector_waits_for_what_is_being_written(tmp_path: Path) -> None:
    holder = {"pid": 7, "host": socket.gethostname(), "since": "then"}
    (tmp_path / "collector.lock").write_text(json.dumps(holder))
    order: list[str] = []

    def takes_over() -> None:
        with RunLock(tmp_path):
            order.append("taken")

    with writing_for(tmp_path, holder):
        thread = threading.Thread(target=takes_over)
        thread.start()
        deadline = time.monotonic() + 5
        while str(os.getpid()) not in (tmp_path / "collector.lock").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        order.append("written")
    thread.join()
    assert order == ["written", "taken"]


@pytest.mark.matrix
def test_options_that_cannot_be_sent_to_workers(tmp_path: Path) -> None:
    lock = threading.Lock()

    async def holds_a_lock(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        with lock:
            return AssistantMessage("")

    with pytest.raises(ConfigurationError, match="cannot be sent to Ray workers"):
        play("http://127.0.0.1:9", tmp_path / "run", holds_a_lock)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.matrix
def test_workers_open_credentials_that_travel_sealed(cluster: Any, server_url: str, tmp_path: Path) -> None:
    async def prints_its_key(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        if len(transcript) < 3:
            return AssistantMessage(tool_calls=[ToolCall("echo", {"text": "ov-3Hn6Jd9Wz1"}, "c")])
        return await right(transcript, tools)

    options = {
        "base_url": server_url.replace("http://", "http://me:pw-8Rk2Lm4Qx@"),
        "env_overrides": {"API_KEY": "ov-3Hn6Jd9Wz1"},
    }
    job = ray_engine.pickle_options(RunOptions.from_keywords({"environment": "echo", "policy": "random", **options}))
    assert b"pw-8Rk2Lm4Qx" not in job
    assert b"ov-3Hn6Jd9Wz1" not in job
    result = play("", tmp_path / "run", prints_its_key, tasks="0:2", **options)
    assert result.coverage.complete
    # Only a worker that has the value can cut it out.
    assert result.metrics.redacted["env_overrides"] >= 4
    assert not [path for path in (tmp_path / "run").rglob("*.json*") if b"ov-3Hn6Jd9Wz1" in path.read_bytes()]


@pytest.mark.anyio
async def test_workers_that_are_waited_for_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def starts_one(self: ray_engine.RayPlayer) -> None:
        self._ready = 1
        await asyncio.sleep(1.0)

    monkeypatch.setattr(ray_engine, "SILENT_S", 0.1)
    monkeypatch.setattr(ray_engine.RayPlayer, "_start", starts_one)
    options = RunOptions.from_keywords({"environment": "echo", "policy": "random", "engine": "ray", "workers": 2})
    said: list[str] = []
    with RunLock(tmp_path) as lock:
        player = await ray_engine.RayPlayer.start(options, b"", RolloutStore(tmp_path), lock, said.append, StopSignal())
        await player.aclose()
    assert said == ["waiting for Ray: 1 of 2 workers have started (does the cluster have the resources that they request?)"]


def test_collections_that_cannot_run_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(ConfigurationError, match="workers"):
        play(nowhere, tmp_path / "run", engine="local")
    with pytest.raises(ConfigurationError, match="engine must be one of local, ray, not 'spark'"):
        play(nowhere, tmp_path / "run", engine="spark")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"openreward-gym\[ray\]"):
        play(nowhere, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


async def failing(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    return AssistantMessage(tool_calls=[ToolCall("fail", {"text": "boom"})])


@pytest.mark.matrix
def test_a_tool_that_raises_on_the_server_is_a_failure_and_no_rollout(cluster: Any, server_url: str, tmp_path: Path) -> None:
    result = play(server_url, tmp_path / "run", policy=failing, tasks="0:2", retries={"tool_failed": RetryBudget(1)})
    assert (result.coverage.successful, result.coverage.failed) == (0, 2)
    assert len(result.store) == 0
    assert {failure.kind for failure in result.store.failures()} == {"tool_failed"}


class IdleKiller(Reporter):
    """Kill the workers that have played nothing, once there is a rollout."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = run
        self.killed: list[int] = []

    def finished(self, rollout: Rollout, step_seconds: list[float]) -> None:
        super().finished(rollout, step_seconds)
        if not self.killed:
            raylets = children(os.getpid(), "raylet")
            actors = {pid for raylet in raylets for pid in children(raylet, "ray::RayWorker")}
            self.killed = sorted(actors - writers(self.run))
            for pid in self.killed:
                os.kill(pid, signal.SIGKILL)


@pytest.mark.matrix
def test_the_death_of_an_idle_worker_costs_no_attempt(cluster: Any, server_url: str, tmp_path: Path) -> None:
    killer = IdleKiller(tmp_path / "run")
    result = play(server_url, tmp_path / "run", in_a_while, repeats=8, concurrency=1, workers=2, progress=killer)
    assert killer.killed
    assert result.coverage.successful == once_each(result.store) == 40
    assert not list(result.store.failures())
