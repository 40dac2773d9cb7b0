"""Lists over all steps of a run, and the figures of a run's part."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym.store import Label, RolloutStore, write_label
from openreward_gym.viewer.answers import bulk, lists
from openreward_gym.viewer.index import RunIndex


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    with RolloutStore(tmp_path / "runs" / "one") as store:
        for step in (None, 0, 1, 2):
            for sample in range(3):
                name = f"{'n' if step is None else step}-{sample}"
                reason = "max_async" if step == 2 and sample == 2 else None
                reward = sample / 2 + (step or 0) / 10
                store.append(simple(name, name, group="g", step=step, sample=sample, reward=reward, discard_reason=reason))
    return tmp_path / "runs"


def indexed(runs: Path) -> RunIndex:
    index = RunIndex([runs], runs.parent / "index.sqlite")
    index.refresh()
    return index


def test_a_list_of_all_steps_has_the_order_of_the_steps(runs: Path) -> None:
    index = indexed(runs)
    answer = json.loads(lists.listing(index, "one", ..., False, "", 0, flat=True))
    every = [card["id"] for group in answer["groups"] for card in group["cards"]]
    assert every == ["n-0", "n-1", "n-2", "0-0", "0-1", "0-2", "1-0", "1-1", "1-2", "2-0", "2-1"]
    assert (answer["rollouts"], answer["next"], answer["sizes"]) == (11, None, [])
    assert lists.ids(index, "one", ..., False, "reward > 1", flat=True) == ["1-2"]
    assert lists.ids(index, "one", ..., True, "") == ["2-2"]
    assert lists.ids(index, "one", ..., False, "", sort="-step", flat=True)[:2] == ["2-0", "2-1"]
    assert lists.ids(index, "one", None, False, "") == ["n-0", "n-1", "n-2"]
    place = lists.position(index, "one", ..., False, "", sort="", flat=True, rollout_id="1-1")
    assert place == {"position": 7}


def test_pages_of_all_steps_come_over_http(runs: Path) -> None:
    with viewing(runs) as url:
        page = httpx.get(f"{url}/api/list?run=one&every=1&flat=1&limit=4&offset=4").json()
        assert [card["id"] for group in page["groups"] for card in group["cards"]] == ["0-1", "0-2", "1-0", "1-1"]
        assert (page["next"], page["rollouts"]) == (8, 11)
        assert httpx.get(f"{url}/api/position?run=one&every=1&flat=1&id=1-1").json() == {"position": 7}
        assert httpx.get(f"{url}/api/ids?run=one&every=1&flat=1&filter=step+%3D%3D+none").json() == ["n-0", "n-1", "n-2"]


def test_a_selection_may_be_of_all_steps(runs: Path) -> None:
    index = indexed(runs)
    query = {"step": None, "every": True, "discarded": False, "filter": "reward >= 1"}
    assert bulk.selected(index, {"run": "one", "list": query}) == ("one", ["n-2", "0-2", "1-2"])
    assert bulk.selected(index, {"run": "one", "list": {**query, "every": False}}) == ("one", ["n-2"])


def test_the_figures_of_a_part_of_a_run(runs: Path) -> None:
    write_label(runs / "one", Label("0-1", 5))
    index = indexed(runs)
    (run,) = lists.runs(index, "step == 2")["runs"]
    assert (run["rollouts"], run["discarded"], run["steps"], run["first_step"]) == (3, 1, 1, 2)
    assert run["reward"] == pytest.approx(0.7)
    (labelled,) = lists.runs(index, "rating == 5")["runs"]
    assert (labelled["rollouts"], labelled["reward"]) == (1, 0.5)
    assert lists.runs(index, "reward > 9")["runs"] == []
    assert "0.5" in lists.intervals(index, "rating == 5")["one"]["text"]
