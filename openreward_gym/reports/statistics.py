"""Estimates from several rollouts per task: pass@k, pass^k, intervals of the mean reward, and the comparison of two runs."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb

from openreward_gym.types.rollout import Rollout

RESAMPLES = 2000
"""Draws of each bootstrap and permutation test."""


def mean(values: Iterable[float]) -> float:
    """Return the arithmetic mean of finite numbers, even where their sum overflows a float.

    Raises:
        ValueError: `values` is empty.
    """
    numbers = list(values)
    if not numbers:
        raise ValueError("the mean of an empty sequence is not defined")
    try:
        return math.fsum(numbers) / len(numbers)
    except OverflowError:
        return statistics.mean(numbers)


def median(ordered: Sequence[float]) -> float:
    """Return the median of a sorted, non-empty sequence of finite numbers."""
    return mean((ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]))


def pass_at_k(n: int, c: int, k: int) -> float:
    """Estimate the probability that at least one of `k` samples is correct, given `c` correct of `n`.

    The unbiased estimator 1 - C(n-c, k) / C(n, k) of Chen et al., Evaluating Large Language Models Trained on Code (2021).
    `k` must not exceed `n`.

    Example:
        >>> pass_at_k(4, 2, 1)
        0.5
    """
    return 1.0 - comb(n - c, k) / comb(n, k)


def pass_hat_k(n: int, c: int, k: int) -> float:
    """Estimate the probability that all of `k` samples are correct, given `c` correct of `n`: C(c, k) / C(n, k).

    This is pass^k of Yao et al., tau-bench (2024). `k` must not exceed `n`.

    Example:
        >>> round(pass_hat_k(4, 2, 2), 3)
        0.167
    """
    return comb(c, k) / comb(n, k)


def passes(by_task: Sequence[tuple[int, int]]) -> tuple[dict[int, float], dict[int, float]]:
    """Return (pass@k, pass^k), averaged over tasks given as (n, c), for k = 1, 2, 4, ... up to the smallest n."""
    fewest = min((n for n, _ in by_task), default=0)
    ks = [1 << power for power in range(fewest.bit_length()) if 1 << power <= fewest]
    return (
        {k: mean(pass_at_k(n, c, k) for n, c in by_task) for k in ks},
        {k: mean(pass_hat_k(n, c, k) for n, c in by_task) for k in ks},
    )


def reward_interval(by_task: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean reward; None for fewer than two rewards.

    If every reward is 0 or 1, this is Wilson's score interval (Wilson 1927). Otherwise it is the 2.5 % and 97.5 %
    quantiles of a bootstrap over tasks, seeded so that equal rewards give equal intervals.

    Example:
        >>> low, high = reward_interval([[1.0, 0.0], [1.0, 1.0]])
        >>> low < 0.75 < high
        True
    """
    rewards = [reward for task in by_task for reward in task]
    if len(rewards) < 2:
        return None
    if set(rewards) <= {0.0, 1.0}:
        return wilson_interval(sum(rewards), len(rewards))
    tasks = [task for task in by_task if task]
    rng = random.Random(0)
    means = sorted(mean(reward for task in rng.choices(tasks, k=len(tasks)) for reward in task) for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def wilson_interval(successes: float, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion; `z` is the normal quantile (1.96 for 95 %)."""
    share = successes / trials
    centre = share + z * z / (2 * trials)
    margin = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs compared task by task, over the tasks that both have.

    Attributes:
        tasks: The number of tasks for which both runs have rewards.
        only_first: The number of tasks that only the first run has.
        only_second: The number of tasks that only the second run has.
        first: The mean of the tasks' mean rewards in the first run; None without a common task.
        second: The same of the second run.
        difference: second - first.
        interval: The 95 % interval of the difference, from a bootstrap over tasks; None for fewer than two tasks.
        p_value: The p-value of a paired permutation test that flips the signs of the tasks' differences: the probability
            of a difference at least as large if the runs do not differ. None for fewer than two tasks.

    Example:
        >>> compare({"a": [0.0]}, {"a": [1.0]})
        Comparison(tasks=1, only_first=0, only_second=0, first=0.0, second=1.0, difference=1.0, interval=None, p_value=None)
    """

    tasks: int
    only_first: int
    only_second: int
    first: float | None = None
    second: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None


def compare(
    first: Mapping[str, Sequence[float]] | Iterable[Rollout], second: Mapping[str, Sequence[float]] | Iterable[Rollout]
) -> Comparison:
    """Compare two runs task by task.

    The tests are seeded: equal rewards give equal numbers.

    Args:
        first: The baseline: rewards by task, or rollouts (a `RolloutStore`, a list), which are read once.
        second: The run that is compared with it.

    Example:
        >>> comparison = compare({"a": [0.0, 1.0], "b": [0.0]}, {"a": [1.0, 1.0], "b": [1.0], "c": [0.0]})
        >>> comparison.tasks, comparison.only_second, comparison.difference
        (2, 1, 0.75)
    """
    before, after = (runs if isinstance(runs, Mapping) else rewards_by_task(runs) for runs in (first, second))
    common = sorted(task for task in before if before[task] and after.get(task))
    counts = len(common), len(before.keys() - common), len(after.keys() - common)
    if not common:
        return Comparison(*counts)
    pairs = [(mean(before[task]), mean(after[task])) for task in common]
    differences = [b - a for a, b in pairs]
    means = mean(a for a, _ in pairs), mean(b for _, b in pairs), mean(differences)
    if len(common) < 2:
        return Comparison(*counts, *means)
    rng = random.Random(0)
    resampled = sorted(mean(rng.choices(differences, k=len(differences))) for _ in range(RESAMPLES))
    observed = abs(sum(differences)) - 1e-12
    extreme = sum(abs(sum(d if rng.random() < 0.5 else -d for d in differences)) >= observed for _ in range(RESAMPLES))
    interval = resampled[int(0.025 * RESAMPLES)], resampled[int(0.975 * RESAMPLES) - 1]
    return Comparison(*counts, *means, interval, (extreme + 1) / (RESAMPLES + 1))


def rewards_by_task(rollouts: Iterable[Rollout]) -> dict[str, list[float]]:
    """Return the finite rewards of `rollouts` by task."""
    rewards: dict[str, list[float]] = {}
    for rollout in rollouts:
        if rollout.reward is not None and math.isfinite(rollout.reward):
            rewards.setdefault(task_key(rollout), []).append(rollout.reward)
    return rewards


def task_key(rollout: Rollout) -> str:
    """Return the task's id; for a task without one, its environment, split and index, or else the rollout's group or own id."""
    if rollout.task.id or rollout.task.index is not None:
        return rollout.task.id or f"{rollout.environment.name}/{rollout.environment.split}/{rollout.task.index}"
    return rollout.group or f"rollout {rollout.id}"
