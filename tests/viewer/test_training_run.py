"""The training example: the viewer shows its records."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest
from training_run import train

from openreward_gym.store import RolloutStore
from openreward_gym.types import Rollout
from openreward_gym.viewer.answers import lists
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.replay import ReplayCheck


@pytest.fixture(scope="module")
def run(examples: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example") / "training"
    assert asyncio.run(train(examples, folder, steps=3, tasks=2, samples=3, seed=1)) == 18
    return folder


def test_it_has_all_that_a_training_has(run: Path) -> None:
    groups: dict[str, list[Rollout]] = defaultdict(list)
    for rollout in RolloutStore.open(run):
        groups[str(rollout.group)].append(rollout)
    assert {len(group) for group in groups.values()} == {3}
    assert {rollout.step for group in groups.values() for rollout in group} == {0, 1, 2}
    for group in groups.values():
        assert len({rollout.task.id for rollout in group}) == 1
        assert sum(rollout.advantage or 0.0 for rollout in group) == pytest.approx(0.0)
        equal = len({rollout.reward for rollout in group}) == 1
        assert {rollout.discard_reason == "zero_advantage" for rollout in group} == {equal}
    assert 0 < sum((rollout.reward or 0.0) > 0.9 for group in groups.values() for rollout in group) < 18


def test_the_viewer_shows_it_and_its_calls_can_be_made_again(run: Path, examples: str, tmp_path: Path) -> None:
    index = RunIndex([run], tmp_path / "index.sqlite")
    index.refresh()
    (overview,) = lists.runs(index)["runs"]
    assert (overview["key"], overview["rollouts"], overview["steps"], overview["metrics"]) == (
        "training",
        18,
        3,
        ["answered", "length"],
    )
    assert overview["discarded"] > 0
    assert ReplayCheck(examples)(RolloutStore.open(run)[0])["same"]
    index.close()
