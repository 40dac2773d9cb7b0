"""Comparisons of runs."""

from __future__ import annotations

import random
from pathlib import Path

import httpx
import pytest
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym.errors import ConfigurationError
from openreward_gym.reports import make_report
from openreward_gym.reports.texts import comparison_text
from openreward_gym.store import RolloutStore
from openreward_gym.types import Task
from openreward_gym.viewer.answers import lists
from openreward_gym.viewer.answers.comparing import attempts, comparison, for_a_file
from openreward_gym.viewer.index import RunIndex


def run(folder: Path, name: str, rewards: dict[str, list[float | None]], **fields: object) -> None:
    with RolloutStore(folder / name) as store:
        for task, values in rewards.items():
            for number, reward in enumerate(values):
                store.append(simple(f"{task}{number}", "x", task=Task(id=task, index=3), reward=reward, **fields))


@pytest.fixture
def index(tmp_path: Path) -> RunIndex:
    run(tmp_path / "runs", "one", {"a": [0.0, 1.0], "b": [0.0], "c": [1.0], "alone": [1.0]})
    run(tmp_path / "runs", "two, too", {"a": [0.5], "b": [1.0, 1.0], "c": [1.0, None]}, discard_reason="zero_advantage")
    index = RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite")
    index.refresh()
    return index


def test_runs_are_compared_over_the_tasks_they_share(index: RunIndex) -> None:
    result = comparison(index, ["one", "two, too"])
    first, second = result["runs"]
    assert first["against_first"] is None
    assert second["against_first"]["tasks"] == 3
    assert second["against_first"]["difference"] == pytest.approx(1 / 3)
    assert (second["against_first"]["interval"], second["against_first"]["p"]) == (None, None)
    assert "too few tasks" in second["against_first"]["text"]
    assert first["reward"] == pytest.approx((0.5 + 0 + 1 + 1) / 4)
    assert "too few for an interval" in first["reward_text"]
    assert [(row["task"], row["rewards"], row["counts"]) for row in result["tasks"]] == [
        ("b", [0.0, 1.0], [1, 2]),
        ("a", [0.5, 0.5], [2, 1]),
        ("c", [1.0, 1.0], [1, 1]),
    ]
    assert (result["tasks"][0]["prompt"], result["tasks"][0]["index"], result["common"]) == ("What do you say?", 3, 3)
    assert (second["rollouts"], second["discarded"], second["tokens"]) == (5, 5, None)
    assert [second["against_first"][name] for name in ("wins", "losses", "ties", "only_first", "only_second")] == [1, 0, 2, 1, 0]
    assert [(row["task"], row["rewards"]) for row in result["alone"]] == [("alone", [1.0, None])]
    assert result["only"] == 1
    assert (first["unrewarded"], first["bounds"], first["bounds_text"]) == (0, None, "")
    assert (second["unrewarded"], second["bounds"]) == (1, (pytest.approx(2 / 3), pytest.approx(2.5 / 3)))
    assert second["bounds_text"] == "between 0.667 (if each had 0) and 0.833 (if each had 1)"


def test_the_viewer_has_the_figures_of_the_report(tmp_path: Path) -> None:
    draw = random.Random(5)
    for number, name in enumerate(("a", "b", "c")):
        run(
            tmp_path / "runs",
            name,
            {str(task): [float(draw.random() < 0.3 + 0.2 * number)] * (task % 3 + 1) for task in range(30)},
        )
    index = RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite")
    index.refresh()
    folders = [str(tmp_path / "runs" / name) for name in ("a", "b", "c")]
    report = make_report(folders)
    result = comparison(index, ["a", "b", "c"])
    overview = {of_run["key"]: of_run["reward"] for of_run in lists.runs(index)["runs"]}
    for folder, name, figures in zip(folders, ("a", "b", "c"), result["runs"], strict=True):
        summary = report.runs[folder]
        assert figures["reward"] == pytest.approx(summary.mean_reward)
        assert overview[name] == pytest.approx(summary.mean_reward)
        assert figures["reward_text"] == summary.mean_line
        assert figures["interval"] == summary.reward_interval
        assert {k: (mean, interval, tasks) for k, mean, interval, tasks in figures["pass_at_k"]} == {
            k: (rate, summary.pass_at_k_intervals[k], summary.pass_tasks[k]) for k, rate in summary.pass_at_k.items()
        }
        if name != "a":
            paired = report.comparisons[folder]
            against = figures["against_first"]
            assert (against["difference"], against["interval"], against["p"]) == (
                paired.difference,
                paired.interval,
                paired.p_value,
            )
            assert against["adjusted_p"] == paired.adjusted_p_value
            assert against["text"] in comparison_text(paired)


def test_missing_units_widen_the_bounds_as_in_the_report(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(tmp_path / "runs", name, {str(task): [0.5, None] for task in range(4)})
    (tmp_path / "runs" / "a" / "coverage.json").write_text(
        '{"expected": 12, "successful": 8, "failed": 1, "omitted": 0, "missing": 3}'
    )
    (tmp_path / "runs" / "b" / "coverage.json").write_text("[broken")
    index = RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite")
    index.refresh()
    folder = str(tmp_path / "runs" / "a")
    summary = make_report([folder], {folder: {"failed": 1, "missing": 3, "expected": 12, "successful": 8, "omitted": 0}}).summary
    first, second = comparison(index, ["a", "b"])["runs"]
    assert (first["unplayed"], first["unrewarded"]) == (4, 4)
    assert first["bounds"] == summary.mean_bounds
    assert first["bounds_text"] == summary.bounds_line
    assert second["unplayed"] == 0
    assert comparison(index, ["a", "b"], "reward == 0.5")["runs"][0]["unrewarded"] == 0


def test_all_shared_tasks_are_there(tmp_path: Path) -> None:
    for name, reward in (("a", 0.0), ("b", 1.0)):
        run(tmp_path / "runs", name, {f"task {task}": [reward] for task in range(700)})
    index = RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite")
    index.refresh()
    result = comparison(index, ["a", "b"])
    assert len(result["tasks"]) == result["common"] == 700
    assert result["alone"] == []


def test_a_file_has_every_pair_and_all_together(tmp_path: Path) -> None:
    draw = random.Random(1)
    names = ["a", "b", "c"]
    for name in names:
        run(tmp_path / "runs", name, {str(task): [float(draw.random() < 0.5)] for task in range(12)})
    index = RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite")
    index.refresh()
    stored = for_a_file(index, names, "")
    assert stored["keys"] == names
    for first in names:
        others = [name for name in names if name != first]
        for other in others:
            assert stored["pairs"][first][other] == comparison(index, [first, other])["runs"][1]["against_first"]
        for figures in comparison(index, [first, *others])["runs"][1:]:
            assert stored["together"][first][figures["key"]] == figures["against_first"]
    assert stored["tasks"] == comparison(index, names)["tasks"]


def test_the_attempts_at_a_task_of_all_runs(index: RunIndex) -> None:
    assert [(card["run"], card["id"], card["reward"]) for card in attempts(index, "a")] == [
        ("one", "a0", 0.0),
        ("one", "a1", 1.0),
        ("two, too", "a0", 0.5),
    ]
    assert attempts(index, "nothing") == []


def test_tasks_without_an_id_are_those_of_the_report(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with RolloutStore(tmp_path / name) as store:
            for number in range(6):
                task = Task(index=number) if number < 4 else Task()
                store.append(simple(f"r{number}", "x", task=task, reward=1.0, group=None if number < 5 else "g"))
    index = RunIndex([tmp_path], tmp_path / "index.sqlite")
    index.refresh()
    paired = comparison(index, ["a", "b"])["runs"][1]["against_first"]
    assert [card["id"] for card in attempts(index, "/None/2")] == ["r2", "r2"]
    assert paired["tasks"] == make_report([str(tmp_path / "a"), str(tmp_path / "b")]).comparisons[str(tmp_path / "b")].tasks


@pytest.mark.parametrize("runs", [["one"], ["one", "one"], ["one", "none"], [str(n) for n in range(11)]])
def test_what_cannot_be_compared(index: RunIndex, runs: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        comparison(index, runs)


def test_it_is_asked_with_names_that_have_commas(index: RunIndex, tmp_path: Path) -> None:
    index.close()
    with viewing(tmp_path / "runs") as url, httpx.Client(base_url=url) as client:
        result = client.get("/api/compare", params={"runs": "one,two%2C%20too"}).json()
        assert [figures["key"] for figures in result["runs"]] == ["one", "two, too"]
        assert client.get("/api/compare", params={"runs": "one"}).status_code == 400
