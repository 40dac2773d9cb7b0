"""Commands on collected runs: coverage as it is on disk, charts, comparisons, and merged runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from openreward_gym import collect
from openreward_gym.cli import main
from openreward_gym.collect.inventory import Inventory, TaskChoice
from openreward_gym.collect.outcomes import Coverage, read_coverage
from openreward_gym.store.merge import merge
from openreward_gym.types import AssistantMessage, Message, Task, ToolCall, ToolSet


class Sometimes:
    """A policy that is right in every sample except the numbers in `wrong`."""

    name = "sometimes"

    def __init__(self, *wrong: int) -> None:
        self.wrong = wrong

    def begin(self, task: Task, sample: int, seed: int) -> Any:
        async def play(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
            return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "no" if sample in self.wrong else "right"})])

        return play


def played(server_url: str, output: Path, *wrong: int, **arguments: Any) -> str:
    options: dict[str, Any] = {"base_url": server_url, "output": output, "repeats": 4, "progress": False, **arguments}
    return collect("echo", Sometimes(*wrong), **options).path


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as exit:
        code = int(exit.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_an_inventory_is_read_back(tmp_path: Path) -> None:
    tasks = [TaskChoice("train", 3), TaskChoice("test", None, {"a": 1}), TaskChoice("test", None, {"a": 1})]
    inventory = Inventory("e", "v", tasks, 3)
    inventory.write(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"environment": "e", "variant": "v"}))
    read_back = Inventory.read(tmp_path)
    assert read_back is not None
    assert list(read_back) == list(inventory)
    assert read_back.digest == inventory.digest
    (tmp_path / "run.json").write_text(json.dumps({"environment": "other", "variant": "v"}))
    assert Inventory.read(tmp_path) is None
    assert Inventory.read(tmp_path / "nowhere") is None


def test_coverage_is_what_the_files_say(server_url: str, tmp_path: Path) -> None:
    run = Path(played(server_url, tmp_path / "run", limit=3))
    assert read_coverage(run) == Coverage(20, 12, 0, 8, 0)
    # The collector died before it could write, or what it wrote is of another day.
    (run / "coverage.json").unlink()
    assert read_coverage(run) == Coverage(20, 12, 0, 0, 8)
    (run / "coverage.json").write_text(json.dumps({"expected": 20, "successful": 1, "failed": 0, "omitted": 8, "missing": 11}))
    assert read_coverage(run) == Coverage(20, 12, 0, 0, 8)
    (run / "tasks.jsonl").unlink()
    assert read_coverage(run) is None


def test_a_report_of_two_runs(server_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = played(server_url, tmp_path / "first", 0, 1), played(server_url, tmp_path / "second", 0)
    page, plots = tmp_path / "report.html", tmp_path / "plots"
    code, out, err = run_command(capsys, "report", first, second, "--html", page, "--plots", plots)
    assert (code, err) == (0, "")
    assert f"coverage of {first}: 20 expected = 20 successful, 0 failed, 0 omitted, 0 missing" in out
    assert f"{second} against {first}: mean reward 0.750 against 0.500 on 5 common tasks, difference +0.250" in out
    assert page.read_text().count("<svg") == 3
    assert sorted(path.name for path in plots.iterdir()) == ["rewards.png", "tasks.png", "turns.png"]
    code, out, _ = run_command(capsys, "report", first, "--json")
    data = json.loads(out)
    assert (data["rollouts"], data["mean_reward"], data["comparisons"]) == (20, 0.5, {})
    assert data["coverage"][first]["successful"] == 20


def test_metrics_are_those_of_the_report(server_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Breaks(Sometimes):
        def begin(self, task: Task, sample: int, seed: int) -> Any:
            if (task.index, sample) == (1, 0):
                raise RuntimeError("no model")
            return super().begin(task, sample, seed)

    arguments: dict[str, Any] = {"base_url": server_url, "output": tmp_path / "run", "repeats": 2, "progress": False}
    result = collect("echo", Breaks(1), **arguments)
    assert (result.coverage.failed, result.metrics.unplayed, result.metrics.mean_bounds) == (1, 1, (0.4, 0.5))
    data = json.loads(run_command(capsys, "report", result.path, "--json")[1])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_bytes())
    assert metrics == {name: data[name] for name in metrics}


def test_shards_of_two_machines_are_put_together(server_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = played(server_url, tmp_path / "first", tasks="0:3")
    second = played(server_url, tmp_path / "second", tasks="3:")
    code, out, _ = run_command(capsys, "merge", first, second, "--output", tmp_path / "all")
    assert (code, out) == (0, f"20 rollouts merged into {tmp_path / 'all'}\n")
    # What one machine did not come to is missing in the whole.
    shutil.rmtree(tmp_path / "second" / "rollouts")
    (tmp_path / "second" / "rollouts").mkdir()
    code, _, err = run_command(capsys, "merge", first, second, "--output", tmp_path / "part")
    assert code == 75
    assert err.startswith("8 (task, sample) have none: ")
    third = played(server_url, tmp_path / "third", tasks="2:4")
    code, _, err = run_command(capsys, "merge", first, third, "--output", tmp_path / "double")
    assert code == 1
    assert err.startswith("4 (task, sample) have more than one rollout: ")
    assert run_command(capsys, "merge", first, "--output", tmp_path / "all")[0] == 1


def test_equal_tasks_of_a_run_are_not_duplicates(server_url: str, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"task_index": 1}\n{"task_index": 1}\n')
    run = played(server_url, tmp_path / "run", input=tasks)
    report = merge([run], tmp_path / "merged")
    assert (report.merged, report.doubled, report.gaps, report.complete) == (8, {}, (), True)
