"""Guarantees of a collection, tested with real processes, real signals and damaged files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from collectors import Collector, coverage_of, once_each

from openreward_gym import collect
from openreward_gym.collect.inventory import Inventory, TaskChoice
from openreward_gym.collect.outcomes import REFUSED_TIMES, Outcomes
from openreward_gym.collect.run_folder import RunLock
from openreward_gym.errors import RecordError, StoreError
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import AssistantMessage, Message, Task, ToolCall, ToolSet


async def right(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"}, "c")])


def play(server_url: str, output: Path, **arguments: Any) -> Any:
    return collect("echo", **{"policy": right, "base_url": server_url, "output": output, "progress": False, **arguments})


# The inventory and run.json ---------------------------------------------------------------------------------------------


def test_the_inventory_is_written_before_anything_is_played(server_url: str, tmp_path: Path) -> None:
    seen: list[int] = []

    async def looks(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        seen.append(len((tmp_path / "run" / "tasks.jsonl").read_text().splitlines()))
        return await right(transcript, tools)

    play(server_url, tmp_path / "run", policy=looks, repeats=2)
    assert seen == [10] * 10


def test_run_json_has_the_configuration_without_keys(server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2")
    play(server_url, tmp_path / "run", tasks="0", secrets_env={"token": "MY_SECRET"}, seed=7)
    text = (tmp_path / "run" / "run.json").read_text()
    run = json.loads(text)
    assert "hunter2" not in text
    assert run["origin"] == server_url
    assert run["behaviour"]["secrets_env"] == ["token"]
    assert server_url not in json.dumps(run["behaviour"])
    assert run["behaviour"]["seed"] == 7
    assert run["versions"]["openreward-gym"]
    assert set(run["digests"]) == {"tasks", "behaviour"}


def test_resume_refuses_what_changed(server_url: str, tmp_path: Path) -> None:
    play(server_url, tmp_path / "run", tasks="0", seed=1)
    before = (tmp_path / "run" / "run.json").read_bytes()
    for changed, word in (({"seed": 2}, "seed was 1 and is 2"), ({"max_steps": 3}, "max_steps"), ({"tasks": "1"}, "other tasks")):
        with pytest.raises(StoreError, match=word):
            play(server_url, tmp_path / "run", **{"tasks": "0", "seed": 1, "resume": True, **changed})
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    assert len((tmp_path / "run" / "tasks.jsonl").read_text().splitlines()) == 1
    # What is not behaviour may differ.
    assert play(server_url, tmp_path / "run", tasks="0", seed=1, resume=True, concurrency=3).coverage.complete


def test_allow_changed_is_remembered(server_url: str, tmp_path: Path) -> None:
    play(server_url, tmp_path / "run", tasks="0:2", repeats=1)
    result = play(server_url, tmp_path / "run", tasks="0:2", repeats=3, resume=True, allow_changed=True)
    assert result.coverage.successful == once_each(result.store) == 6
    (change,) = json.loads((tmp_path / "run" / "run.json").read_text())["changes"]
    assert "its tasks.jsonl lists other tasks" in change["changed"]
    # Now this is the run.
    assert play(server_url, tmp_path / "run", tasks="0:2", repeats=3, resume=True).coverage.complete


# The lock ---------------------------------------------------------------------------------------------------------------


def test_a_second_collector_is_refused(server_url: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = Collector(tmp_path, "echo", "--policy", "mine:never", "--base-url", server_url, "--output", run)
    first.wait_for("started")
    with pytest.raises(StoreError, match=rf"process {first.process.pid} on {socket.gethostname()}"):
        play(server_url, run, resume=True)
    first.signal(signal.SIGKILL)
    first.end()
    # The dead one's lock is nobody's.
    assert play(server_url, run, resume=True, allow_changed=True).coverage.complete


def test_a_lock_of_another_machine(tmp_path: Path) -> None:
    path = tmp_path / "collector.lock"
    path.write_text(json.dumps({"pid": 7, "host": "elsewhere", "since": "then"}))
    with pytest.raises(StoreError, match="process 7 on elsewhere"), RunLock(tmp_path):
        pass
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
    with RunLock(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert path.read_text() == ""


# Signals ----------------------------------------------------------------------------------------------------------------


def test_an_interrupt_drains(server_url: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    where = ("--base-url", server_url, "--output", run)
    how = ("--tasks", "0:2000", "--concurrency", 4, "--max-steps", 1)
    collector = Collector(tmp_path, "large", "--policy", "mine:slowly", *where, *how)
    collector.wait_for("rollout")
    collector.signal(signal.SIGINT)
    collector.wait_for("message")
    code, errors = collector.end()
    assert code == 75
    assert "--resume" in errors
    assert "Traceback" not in errors
    coverage = coverage_of(run)
    assert coverage["failed"] == 0
    assert coverage["missing"] > 0
    # What was under way was played to its end: no attempt was left.
    attempts = sum(len(path.read_text().splitlines()) for path in (run / "attempts").iterdir())
    assert attempts == coverage["successful"] == once_each(RolloutStore(run))


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM]])
def test_a_second_interrupt_or_a_term_stops_at_once(server_url: str, tmp_path: Path, signals: list[signal.Signals]) -> None:
    run = tmp_path / "run"
    collector = Collector(tmp_path, "echo", "--policy", "mine:never", "--base-url", server_url, "--output", run)
    collector.wait_for("started")
    deadline = time.monotonic() + 30
    while not list(run.glob("attempts/*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.01)
    collector.signal(signals[0])
    for number in signals[1:]:
        # Two signals that come at the same moment are one to the operating system.
        collector.wait_for("message")
        collector.signal(number)
    code, errors = collector.end()
    assert code == 75, errors
    assert "Traceback" not in errors
    assert coverage_of(run) == {"expected": 5, "successful": 0, "failed": 0, "omitted": 0, "missing": 5}


def test_a_run_deadline_leaves_what_is_under_way(server_url: str, tmp_path: Path) -> None:
    async def never(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        await asyncio.sleep(600)
        raise AssertionError

    begun = time.monotonic()
    result = play(server_url, tmp_path / "run", policy=never, run_timeout_s=0.5)
    assert time.monotonic() - begun < 60
    assert (result.interrupted, result.coverage.missing) == (True, 5)


def test_an_episode_deadline_is_an_ending(server_url: str, tmp_path: Path) -> None:
    async def slow(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        if len(transcript) > 1:
            await asyncio.sleep(600)
        return AssistantMessage(tool_calls=[ToolCall("echo", {"text": "x"})])

    result = play(server_url, tmp_path / "run", policy=slow, tasks="0", episode_timeout_s=2.5)
    (rollout,) = result.store
    assert (rollout.status, rollout.stop_reason, rollout.reward) == ("truncated", "deadline", 0.5)


def test_a_step_deadline_is_an_ending(server_url: str, tmp_path: Path) -> None:
    async def waits(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        return AssistantMessage(tool_calls=[ToolCall("slow", {"seconds": 30.0})])

    result = play(server_url, tmp_path / "run", policy=waits, tasks="0", step_timeout_s=0.3)
    (rollout,) = result.store
    assert (rollout.status, rollout.stop_reason, rollout.reward) == ("truncated", "deadline", None)


# Files ------------------------------------------------------------------------------------------------------------------


def test_a_torn_line_is_played_again(server_url: str, tmp_path: Path) -> None:
    play(server_url, tmp_path / "run")
    (shard,) = (tmp_path / "run" / "rollouts").iterdir()
    shard.write_bytes(shard.read_bytes()[:-10])
    result = play(server_url, tmp_path / "run", resume=True)
    assert once_each(result.store) == result.coverage.successful == 5
    assert len(list(result.store.damage())) == 0
    # The new attempt is the next one.
    assert sorted(rollout.attempt for rollout in result.store) == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("kind", ["rollouts", "attempts"])
def test_other_damage_is_reported_and_nothing_is_changed(server_url: str, tmp_path: Path, kind: str) -> None:
    run = tmp_path / "run"
    play(server_url, run)
    (shard,) = (run / kind).iterdir()
    lines = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(lines[0] + b'{"broken": \n' + b"".join(lines[2:]))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "collector.lock"}
    with pytest.raises(RecordError, match=rf"{shard.name}: line 2 \(byte {len(lines[0])}\)"):
        play(server_url, run, resume=True)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "collector.lock"}


def test_a_full_disk_is_a_clear_error_and_the_run_goes_on_later(server_url: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # A limit on the size of files is the disk that is full, as far as writing knows.
    before = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))"
    )
    where = ("--base-url", server_url, "--output", run)
    arguments = ("large", "--policy", "mine:answer", *where, "--tasks", "0:60", "--max-steps", 1)
    code, errors = Collector(tmp_path, *arguments, before=before).end()
    assert code == 1
    assert "was not written" in errors
    assert "Traceback" not in errors
    made = once_each(RolloutStore(run))
    assert 0 < made < 60
    code, errors = Collector(tmp_path, *arguments, "--resume").end()
    assert code == 0, errors
    assert coverage_of(run)["successful"] == once_each(RolloutStore(run)) == 60


def test_attempts_are_reserved_before_they_start(server_url: str, tmp_path: Path) -> None:
    reserved: list[bool] = []

    async def looks(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        lines = [
            json.loads(line) for path in (tmp_path / "run" / "attempts").iterdir() for line in path.read_text().split("\n")[:-1]
        ]
        reserved.append(len(lines) == len(reserved) + 1)
        return await right(transcript, tools)

    play(server_url, tmp_path / "run", policy=looks, concurrency=1)
    assert reserved == [True] * 5


def test_the_newest_attempt_wins(tmp_path: Path) -> None:
    inventory = Inventory("e", None, [TaskChoice("train", n) for n in range(4)], 1)
    groups = inventory.groups
    (tmp_path / "attempts").mkdir()
    (tmp_path / "failures").mkdir()
    (tmp_path / "rollouts").mkdir()
    attempts = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]
    rows = [{"group": groups[place], "sample": 0, "attempt": attempt} for place, attempt in attempts]
    (tmp_path / "attempts" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    schema, source = "openreward-gym/failure/1", "environment"
    failed = [{"schema": schema, "source": source, "kind": "x", "task": groups[n], "sample": 0} for n in (0, 1, 2)]
    (tmp_path / "failures" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in failed))
    rollout = {"schema": "openreward-gym/rollout/1", "status": "completed", "group": groups[2], "sample": 0, "attempt": 1}
    (tmp_path / "rollouts" / "a.jsonl").write_text(json.dumps(rollout) + "\n\n")
    outcomes = Outcomes(inventory)
    outcomes.read(tmp_path)
    # 0 failed; 1 failed and was lost in a second attempt; 2 failed and then came through; 3 was never tried.
    coverage = outcomes.coverage()
    assert (coverage.successful, coverage.failed, coverage.missing, coverage.omitted) == (1, 1, 2, 0)
    pending = list(outcomes.pending())
    assert {unit.task.index for unit in pending} == {0, 1, 3}
    assert [unit.task.index for unit in pending][-1] == 3
    assert outcomes.next_attempt(inventory.unit(1)) == 2


def test_units_that_were_omitted_stay_so_when_the_files_are_read_again(tmp_path: Path) -> None:
    inventory = Inventory("e", None, [TaskChoice("train", n) for n in range(3)], 1)
    (tmp_path / "failures").mkdir()
    failure = {"schema": "openreward-gym/failure/1", "source": "policy", "kind": "x", "sample": 0}
    lines = [json.dumps({**failure, "task": group}) + "\n" for group in inventory.groups]
    (tmp_path / "failures" / "a.jsonl").write_text("".join(lines))
    outcomes = Outcomes(inventory)
    outcomes.read(tmp_path)
    outcomes.omit_beyond(2)
    outcomes.read(tmp_path)
    assert (outcomes.coverage().failed, outcomes.coverage().omitted) == (2, 1)


def test_a_run_begins_with_units_of_several_tasks(tmp_path: Path) -> None:
    outcomes = Outcomes(Inventory("e", None, [TaskChoice("train", n) for n in range(7)], 3))
    begun = [(unit.task.index, unit.sample) for unit in outcomes.pending()]
    assert begun[:8] == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (0, 1), (0, 2), (1, 1)]
    assert sorted(begun) == [(task, sample) for task in range(7) for sample in range(3)]


def test_no_unit_is_given_up_because_a_quota_was_used_up(tmp_path: Path) -> None:
    inventory = Inventory("e", None, [TaskChoice("train", n) for n in range(4)], 1)
    (tmp_path / "failures").mkdir()
    (tmp_path / "rollouts").mkdir()
    failure = {"schema": "openreward-gym/failure/1", "source": "policy", "kind": "policy_refused", "sample": 0}
    statuses = zip(inventory.groups, (400, 402, 429), strict=False)
    lines = [json.dumps({**failure, "task": group, "http_status": status}) + "\n" for group, status in statuses]
    (tmp_path / "failures" / "a.jsonl").write_text("".join(lines) * REFUSED_TIMES)
    rollout = {"schema": "openreward-gym/rollout/1", "status": "completed", "group": inventory.groups[3], "sample": 0}
    (tmp_path / "rollouts" / "a.jsonl").write_text(json.dumps(rollout) + "\n")
    outcomes = Outcomes(inventory)
    outcomes.read(tmp_path)
    assert (outcomes.coverage().failed, outcomes.given_up) == (3, 1)
    assert {unit.task.index for unit in outcomes.pending()} == {1, 2}


def test_a_limit_omits_and_a_resume_plays_the_rest(server_url: str, tmp_path: Path) -> None:
    result = play(server_url, tmp_path / "run", limit=2, repeats=2)
    coverage = result.coverage
    assert (coverage.expected, coverage.successful, coverage.omitted, coverage.missing) == (10, 4, 6, 0)
    assert coverage.complete
    assert play(server_url, tmp_path / "run", repeats=2, resume=True).coverage.successful == 10


def test_a_resume_begins_with_what_takes_longest(server_url: str, tmp_path: Path) -> None:
    begun: list[int] = []

    class Noting:
        """Notes which tasks it begins."""

        name = "noting"

        def begin(self, task: Task, sample: int, seed: int) -> Any:
            begun.append(task.index or 0)
            return right

    arguments: dict[str, Any] = {"policy": Noting(), "tasks": "0:4", "concurrency": 1}
    play(server_url, tmp_path / "run", repeats=1, **arguments)
    assert begun == [0, 1, 2, 3]
    begun.clear()
    # The later a task, the longer it took.
    (shard,) = (tmp_path / "run" / "rollouts").glob("*.jsonl")
    rollouts = [json.loads(line) for line in shard.read_text().splitlines()]
    for rollout in rollouts:
        took = {"started_at": "2026-01-01T00:00:00+00:00", "ended_at": f"2026-01-01T00:0{rollout['task']['index']}:00+00:00"}
        rollout.update(took)
    shard.write_text("".join(json.dumps(rollout) + "\n" for rollout in rollouts))
    result = play(server_url, tmp_path / "run", repeats=2, resume=True, allow_changed=True, **arguments)
    # By the first samples of each task, the second ones of the slow tasks come first.
    assert begun == [3, 2, 1, 0]
    assert result.coverage.successful == 8
