"""collect() against the SDK's server: every (task, sample) has one outcome, and a failure gives no reward."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from openreward_gym import acollect, collect
from openreward_gym.collect.inventory import Inventory, TaskChoice, select_indices
from openreward_gym.errors import (
    ConfigurationError,
    EnvironmentNotFoundError,
    ServerUnreachableError,
    SplitNotFoundError,
    StoreError,
)
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import AssistantMessage, Message, Task, ToolCall, ToolSet


async def answers(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    """Call `finish` with the right answer."""
    return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"}, "c")])


def run(server_url: str, output: Path, policy: Any = answers, **arguments: Any) -> Any:
    return collect("echo", policy, base_url=server_url, output=output, progress=False, **arguments)


def test_every_task_and_sample_once(server_url: str, tmp_path: Path) -> None:
    result = run(server_url, tmp_path / "run", repeats=3, concurrency=4)
    assert (result.coverage.expected, result.coverage.successful, result.coverage.complete) == (15, 15, True)
    assert result.metrics.mean_reward == 1.0
    made = {(rollout.task.index, rollout.sample) for rollout in result.store}
    assert made == {(index, sample) for index in range(5) for sample in range(3)}
    assert len({rollout.group for rollout in result.store}) == 5
    assert {rollout.run for rollout in result.store} == {"run"}
    folder = tmp_path / "run"
    assert len((folder / "tasks.jsonl").read_text().splitlines()) == 15
    assert json.loads((folder / "coverage.json").read_text())["missing"] == 0
    assert json.loads((folder / "run.json").read_text())["policy"] == "answers"


def test_tasks_are_chosen(server_url: str, tmp_path: Path) -> None:
    result = run(server_url, tmp_path / "run", tasks="1,3:")
    assert sorted(rollout.task.index for rollout in result.store) == [1, 3, 4]


@pytest.mark.parametrize(
    ("tasks", "indices"),
    [(None, range(10)), ("3", [3]), ("::4", [0, 4, 8]), ("-2:", [8, 9]), ("1, 1,2", [1, 2]), ([7, 5], [7, 5])],
)
def test_select_indices(tasks: Any, indices: Any) -> None:
    assert select_indices(tasks, 10, "train") == list(indices)


@pytest.mark.parametrize("tasks", ["10", "x", "1:2:3:4", "5:5", [], [True], [-1], "", ["1"]])
def test_invalid_indices(tasks: Any) -> None:
    with pytest.raises(ConfigurationError):
        select_indices(tasks, 10, "train")


@pytest.mark.parametrize("tasks", [None, "::1", "0:5,1:"])
def test_a_server_that_reports_too_many_tasks(tasks: Any) -> None:
    with pytest.raises(ConfigurationError, match="and a run has at most 10,000,000"):
        select_indices(tasks, 10**9, "train")
    assert select_indices("-2:", 10**9, "train") == [10**9 - 2, 10**9 - 1]


def test_a_failing_policy_fails_its_rollout_alone(server_url: str, tmp_path: Path) -> None:
    class Picky:
        name = "picky"

        def begin(self, task: Task, sample: int, seed: int) -> Any:
            if task.index == 2:
                raise RuntimeError("I do not like 2")
            return answers

    result = run(server_url, tmp_path / "run", Picky())
    assert (result.coverage.successful, result.coverage.failed, result.coverage.missing) == (4, 1, 0)
    (failure,) = result.store.failures()
    assert (failure.source, failure.kind) == ("policy", "policy_failed")
    assert "I do not like 2" in failure.message
    again = run(server_url, tmp_path / "run", resume=True, allow_changed=True)
    assert again.coverage.complete
    assert len(again.store) == 5


def test_a_tool_that_raises_is_a_failure_not_a_reward(server_url: str, tmp_path: Path) -> None:
    async def breaks(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        return AssistantMessage(tool_calls=[ToolCall("fail", {"text": "boom"})])

    result = run(server_url, tmp_path / "run", breaks, tasks="0")
    assert result.coverage.failed == 1
    assert result.metrics.rollouts == 0
    failures = list(result.store.failures())
    assert [failure.attempt for failure in failures] == [0, 1, 2]
    for failure in failures:
        assert (failure.source, failure.kind, failure.stage) == ("environment", "tool_failed", "call")
        assert "boom" in failure.message


def test_a_finished_run_is_not_overwritten(server_url: str, tmp_path: Path) -> None:
    run(server_url, tmp_path / "run", tasks="0")
    with pytest.raises(StoreError, match="already holds a run"):
        run(server_url, tmp_path / "run", tasks="0")
    with pytest.raises(StoreError, match="another run"):
        run(server_url, tmp_path / "run", tasks="1", resume=True)
    assert len(run(server_url, tmp_path / "run", tasks="0", resume=True).store) == 1


def test_the_same_seed_plays_the_same_random_calls(server_url: str, tmp_path: Path) -> None:
    def calls(name: str, seed: int) -> list[str]:
        result = collect(
            "large", "random", base_url=server_url, output=tmp_path / name, tasks="0:3", max_steps=1, seed=seed, progress=False
        )
        rollouts = sorted(result.store, key=lambda rollout: rollout.task.index or 0)
        return [repr(part) for rollout in rollouts for turn in rollout.turns for part in turn.tool_calls]

    assert calls("a", 7) == calls("b", 7) != calls("c", 8)


def test_a_script_is_played(server_url: str, tmp_path: Path) -> None:
    script = tmp_path / "script.jsonl"
    wrong, right = ({"name": "finish", "arguments": {"text": text}} for text in ("wrong", "right"))
    echo = {"name": "echo", "arguments": {"text": "x"}}
    lines = [{"steps": [wrong]}, {"task_index": 1, "steps": [echo, right]}]
    script.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run(server_url, tmp_path / "run", f"scripted:{script}", tasks="0,1")
    rewards = {rollout.task.index: (rollout.reward, rollout.num_turns) for rollout in result.store}
    assert rewards == {0: (0.0, 1), 1: (1.5, 2)}


@pytest.mark.parametrize("line", ["{", "[]", '{"steps": 3}', '{"steps": [{"no": "name"}]}'])
def test_an_invalid_script(tmp_path: Path, line: str) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text('{"steps": []}\n\n' + line)
    with pytest.raises(ConfigurationError, match="line 3"):
        collect("echo", f"scripted:{script}", base_url="http://127.0.0.1:9", progress=False)


@pytest.mark.parametrize("policy", ["gpt", "scripted:", "no.such.module:thing", "json:nothing", 5])
def test_invalid_policies(policy: Any) -> None:
    with pytest.raises(ConfigurationError):
        collect("echo", policy, base_url="http://127.0.0.1:9", progress=False)


def test_a_collection_that_cannot_run(server_url: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentNotFoundError):
        collect("ecoh", answers, base_url=server_url, output=tmp_path / "a", progress=False)
    with pytest.raises(SplitNotFoundError):
        run(server_url, tmp_path / "b", split="trian")
    with pytest.raises(ConfigurationError, match="repeats"):
        run(server_url, tmp_path / "c", repeats=0)
    with pytest.raises(ConfigurationError, match="is a URL"):
        collect("echo", answers, base_url=server_url, output="s3://bucket/run", progress=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ServerUnreachableError):
        collect("echo", answers, base_url=nobody, output=tmp_path / "d", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_the_async_form(server_url: str, tmp_path: Path) -> None:
    result = asyncio.run(acollect("echo", answers, base_url=server_url, output=tmp_path / "run", progress=False))
    assert len(RolloutStore(tmp_path / "run")) == len(result.store) == 5


def test_the_inventory_is_stable() -> None:
    tasks = [
        TaskChoice("train", 0),
        TaskChoice("train", 1),
        TaskChoice("train", None, {"a": 1}),
        TaskChoice("train", None, {"a": 1}),
    ]
    inventory = Inventory("e", None, tasks, 2)
    ids = [unit.id for unit in inventory]
    assert ids == [unit.id for unit in Inventory("e", None, tasks, 2)]
    assert len(set(ids)) == 8
    assert [inventory.find(unit.group, unit.sample) for unit in inventory] == list(range(8))
    assert inventory.find("e", 0) is None
    assert inventory.find(inventory.groups[0], 2) is None
