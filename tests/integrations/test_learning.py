"""A test of learning: the reward of the tiny model on `bandit` rises, and it does not where nothing is learned."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean as mean
from typing import Any

import pytest
from learning import rewards_by_step, rise_of

from openreward_gym import RolloutStore, serve
from openreward_gym.reports import summarize
from openreward_gym.viewer.answers import charts, lists
from openreward_gym.viewer.index import RunIndex

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

STEPS, GENERATIONS = 40, 16
SEED = 4  # of ten seeds, all had a rise of more than 0.4 and a p-value of less than 0.00001


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread. For a model of this size, several only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve.local(["bandit"]) as url:
        yield url


def train(url: str, folder: Path, learning_rate: float, steps: int = STEPS) -> list[float]:
    """Train with `examples/train_grpo.py`; return the mean reward of each step in the trainer's log."""
    import torch
    from train_grpo import trainer_of

    torch.manual_seed(SEED)
    settings: dict[str, Any] = {
        "seed": SEED,
        "max_steps": steps,
        "per_device_train_batch_size": GENERATIONS,
        "num_generations": GENERATIONS,
        "max_completion_length": 4,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "constant",
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    trainer = trainer_of(["bandit"], url, "tiny", str(folder), **settings)
    trainer.train()
    return [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]


def test_the_reward_rises(url: str, tmp_path: Path) -> None:
    rewards = train(url, tmp_path, 3e-3)
    rise = rise_of(rewards)
    assert len(rewards) == STEPS
    assert rise.rise > 0.3, rise
    assert rise.p_value < 0.001, rise
    # The record says the same as the trainer's log, by step, group and sample.
    rollouts = list(RolloutStore(tmp_path / "rollouts"))
    assert rewards_by_step(rollouts) == pytest.approx(rewards, abs=1e-6)
    for step in range(STEPS):
        played = [rollout for rollout in rollouts if rollout.step == step]
        assert sorted((one.group == played[0].group, one.sample) for one in played) == [(True, n) for n in range(GENERATIONS)]
    _is_drawn(tmp_path / "rollouts")


def _is_drawn(run: Path) -> None:
    """Check that the report and the viewer have the training as it was. A cut-off answer has no reward in the record."""
    rewards: dict[int, list[float]] = defaultdict(list)
    for rollout in RolloutStore(run):
        if rollout.reward is not None:
            rewards[rollout.step or 0].append(rollout.reward)
    summary = summarize(RolloutStore(run))
    assert (summary.rollouts, summary.mean_turns) == (STEPS * GENERATIONS, 1.0)
    index = RunIndex([run], run.parent / "index.sqlite")
    index.refresh()
    (overview,) = lists.runs(index)["runs"]
    assert (overview["rollouts"], overview["steps"]) == (STEPS * GENERATIONS, STEPS)
    drawn = charts.series(index, overview["key"], "reward", "")
    assert drawn["steps"] == list(range(STEPS))
    assert drawn["count"] == [len(rewards[step]) for step in range(STEPS)]
    assert drawn["mean"] == pytest.approx([mean(rewards[step]) for step in range(STEPS)], abs=1e-5)
    rollout = next(iter(RolloutStore(run)))
    members = lists.group(index, overview["key"], str(rollout.group), rollout.step, False)
    assert sorted(member["sample"] for member in members) == list(range(GENERATIONS))
    index.close()


def test_without_learning_the_reward_does_not_rise(url: str, tmp_path: Path) -> None:
    rise = rise_of(train(url, tmp_path, 0.0, steps=24))
    assert abs(rise.rise) < 0.2, rise
    assert rise.p_value > 0.01, rise
