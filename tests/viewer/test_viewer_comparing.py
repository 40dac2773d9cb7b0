"""Comparisons of runs."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym.errors import ConfigurationError
from openreward_gym.store import RolloutStore
from openreward_gym.types import Task
from openreward_gym.viewer import queries
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.queries import comparison


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
    low, high = second["against_first"]["interval"]
    assert low <= 1 / 3 <= high
    assert [(row["task"], row["rewards"], row["counts"]) for row in result["tasks"]] == [
        ("b", [0.0, 1.0], [1, 2]),
        ("a", [0.5, 0.5], [2, 1]),
        ("c", [1.0, 1.0], [1, 1]),
    ]
    assert (result["tasks"][0]["prompt"], result["tasks"][0]["index"], result["common"]) == ("What do you say?", 3, 3)
    assert (second["rollouts"], second["discarded"], second["tokens"]) == (5, 5, None)


def test_many_tasks_have_the_same_figures_another_way(index: RunIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    before = comparison(index, ["one", "two, too"])["runs"][1]["against_first"]
    monkeypatch.setattr(queries, "_RESAMPLED_TASKS", 1)
    after = comparison(index, ["one", "two, too"])["runs"][1]["against_first"]
    assert after["difference"] == pytest.approx(before["difference"])
    assert after["interval"] == pytest.approx((1 / 3 - 1.96 / 3, 1 / 3 + 1.96 / 3))
    assert after["p"] == pytest.approx(0.3173, abs=1e-3)


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
