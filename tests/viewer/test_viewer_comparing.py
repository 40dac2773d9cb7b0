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
from openreward_gym.viewer.answers.comparing import comparison
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


def test_tasks_without_an_id_are_those_of_the_report(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with RolloutStore(tmp_path / name) as store:
            for number in range(6):
                task = Task(index=number) if number < 4 else Task()
                store.append(simple(f"r{number}", "x", task=task, reward=1.0, group=None if number < 5 else "g"))
    index = RunIndex([tmp_path], tmp_path / "index.sqlite")
    index.refresh()
    paired = comparison(index, ["a", "b"])["runs"][1]["against_first"]
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
