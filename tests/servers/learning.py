"""A test of learning: whether the rewards at the end of a training run are higher than at its beginning."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from openreward_gym.reports.intervals import t_p_value
from openreward_gym.types import Rollout


@dataclass(frozen=True)
class Rise:
    """The mean reward of the first and of the last steps, and the two-sided p-value of Welch's test that they are the same."""

    first: float
    last: float
    p_value: float

    @property
    def rise(self) -> float:
        return self.last - self.first


def rise_of(rewards: Sequence[float], steps: int = 8) -> Rise:
    """Compare the mean rewards of the first and of the last `steps` steps of a run."""
    first, last = rewards[:steps], rewards[-steps:]
    variances = [statistics.variance(part) / steps for part in (first, last)]
    difference, error = statistics.fmean(last) - statistics.fmean(first), sum(variances)
    if error == 0.0:
        p_value = 0.0 if difference else 1.0
    else:
        freedom = error**2 / sum(variance**2 / (steps - 1) for variance in variances)
        p_value = t_p_value(difference / math.sqrt(error), freedom)
    return Rise(statistics.fmean(first), statistics.fmean(last), p_value)


def rewards_by_step(rollouts: Iterable[Rollout]) -> list[float]:
    """Return the mean reward of each step, in their order, as a trainer counts it.

    An episode that was truncated before the environment gave a reward counts 0. What infrastructure spoiled does not count.
    """
    rewards: dict[int, list[float]] = defaultdict(list)
    for rollout in rollouts:
        if rollout.step is not None and rollout.status in ("completed", "truncated"):
            rewards[rollout.step].append(rollout.reward or 0.0)
    return [statistics.fmean(rewards[step]) for step in sorted(rewards)]
