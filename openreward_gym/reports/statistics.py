"""Estimates from several rollouts per task: pass@k, pass^k, intervals of the mean reward, and the comparison of two runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb

from openreward_gym.reports.intervals import MIN_TASKS, holm, mean_interval, paired_test, sign_flip_p_value, unbounded_interval
from openreward_gym.types.rollout import Rollout


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


@dataclass(frozen=True, slots=True)
class PassRate:
    """pass@k or pass^k for one k, averaged over the tasks with at least k rewards.

    Attributes:
        mean: The mean over these tasks.
        interval: Its 95 % interval, see `reward_interval`; None for fewer than five tasks.
        tasks: The number of these tasks.

    Example:
        >>> PassRate(mean=0.5, interval=None, tasks=2).tasks
        2
    """

    mean: float
    interval: tuple[float, float] | None
    tasks: int


def passes(by_task: Sequence[tuple[int, int]]) -> tuple[dict[int, PassRate], dict[int, PassRate]]:
    """Return (pass@k, pass^k) over tasks given as (n, c), for k = 1, 2, 4, ... up to the largest n."""
    most = max((n for n, _ in by_task), default=0)
    at: dict[int, PassRate] = {}
    hat: dict[int, PassRate] = {}
    for power in range(most.bit_length()):
        k = 1 << power
        counted = [(n, c) for n, c in by_task if n >= k]
        for rates, estimate in ((at, pass_at_k), (hat, pass_hat_k)):
            values = {pair: estimate(*pair, k) for pair in set(counted)}
            of_tasks = [values[pair] for pair in counted]
            rates[k] = PassRate(mean(of_tasks), mean_interval(of_tasks, 0.0, 1.0), len(of_tasks))
    return at, hat


def reward_bounds(by_task: Iterable[Sequence[float]]) -> tuple[float, float] | None:
    """Return the smallest and largest possible reward: 0 and 1 if all are between them, else the observed range.

    None without a reward.
    """
    ranges = [(min(rewards), max(rewards)) for rewards in by_task if rewards]
    if not ranges:
        return None
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def mean_bounds(by_task: Sequence[tuple[Sequence[float], int]], unplayed: int = 0) -> tuple[float, float] | None:
    """Return the mean reward if everything without a reward had the smallest, or the largest, reward possible.

    None if everything has a reward, or nothing has. None also if unplayed units cannot make the numbers of units per task
    equal: then it is not known whose they are.

    Args:
        by_task: Each task's rewards, and the number of its rollouts without one.
        unplayed: The number of failed and missing units of a collection, which have no rollout.

    Example:
        >>> mean_bounds([([1.0], 1), ([0.0, 1.0], 0)])
        (0.5, 0.75)
    """
    possible = reward_bounds(rewards for rewards, _ in by_task)
    if possible is None or not (unplayed or any(missing for _, missing in by_task)):
        return None
    sizes = [len(rewards) + missing for rewards, missing in by_task]
    units = sum(sizes) + unplayed
    if unplayed and not any(units % repeats == 0 for repeats in range(max(sizes), units // len(sizes) + 1)):
        return None

    def filled(reward: float) -> float:
        if not unplayed:
            return mean(mean([*rewards, *[reward] * missing]) for rewards, missing in by_task)
        # All tasks have equally many units, so that the mean over units is the mean over tasks.
        known = [reward for rewards, _ in by_task for reward in rewards]
        return mean([*known, *[reward] * (unplayed + sum(missing for _, missing in by_task))])

    return filled(possible[0]), filled(possible[1])


def macro_mean(by_task: Iterable[Sequence[float]]) -> float | None:
    """Return the mean of the tasks' mean rewards; tasks without a reward do not count. None without a reward."""
    means = [mean(rewards) for rewards in by_task if rewards]
    return mean(means) if means else None


def reward_interval(by_task: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean reward: of the mean of the tasks' means; None for fewer than five tasks.

    The unit is the task. Rewards between 0 and 1, or of two different values, have the interval of
    `openreward_gym.reports.intervals.mean_interval`; others that of `unbounded_interval`.

    Args:
        by_task: The rewards of each task. Tasks without a reward do not count.

    Example:
        >>> low, high = reward_interval([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
        >>> low < 0.5 < high
        True
    """
    means = [mean(rewards) for rewards in by_task if rewards]
    bounds = reward_bounds(by_task)
    if bounds is None:
        return None
    low, high = bounds
    if bounds == (0.0, 1.0) or all(reward in bounds for rewards in by_task for reward in rewards):
        # Equal rewards outside 0 to 1 tell only how large rewards are: -1 may have been 1.
        return mean_interval(means, low, high) if low < high else mean_interval(means, -abs(low), abs(low))
    # Tasks whose rewards differ may have equal means, such as -1 and 3 in each: the range is all that is known then.
    return unbounded_interval(means) or mean_interval(means, low, high)


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
        interval: The 95 % interval of the difference; None for fewer than five common tasks.
        p_value: The two-sided p-value of the same test over the tasks' differences (`reports.intervals.paired_test`): below
            0.05 if and only if the interval excludes 0. For fewer than five common tasks, which cannot decide anything at
            5 %, the p-value of the permutation test that flips signs, at least 0.125. None without a common task.
        adjusted_p_value: `p_value` after Holm's correction for the number of comparisons in a report; None if there is only
            one comparison.

    Example:
        >>> comparison = compare({"a": [0.0]}, {"a": [1.0]})
        >>> comparison.tasks, comparison.difference, comparison.interval
        (1, 1.0, None)
    """

    tasks: int
    only_first: int
    only_second: int
    first: float | None = None
    second: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    adjusted_p_value: float | None = None


def compare(
    first: Mapping[str, Sequence[float]] | Iterable[Rollout], second: Mapping[str, Sequence[float]] | Iterable[Rollout]
) -> Comparison:
    """Compare two runs task by task.

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
    means = mean(a for a, _ in pairs), mean(b for _, b in pairs)
    differences = [b - a for a, b in pairs]
    # Differences of rewards of opposite signs near the largest float have no value that a float can hold.
    if not math.isfinite(math.fsum(abs(difference) / len(differences) for difference in differences)):
        return Comparison(*counts, *means)
    low, high = reward_bounds(of_run[task] for task in common for of_run in (before, after)) or (0.0, 1.0)
    span = (high - low) or abs(high)
    test = paired_test(differences, span) if math.isfinite(span) else None
    if test is None:
        return Comparison(
            *counts, *means, mean(differences), p_value=sign_flip_p_value(differences) if len(common) < MIN_TASKS else None
        )
    return Comparison(*counts, *means, mean(differences), test.interval, test.p_value)


def compare_with_first(runs: Sequence[Mapping[str, Sequence[float]]]) -> list[Comparison]:
    """Compare each later run with the first, given their rewards by task; the p-values of several are adjusted (Holm)."""
    comparisons = [compare(runs[0], run) for run in runs[1:]]
    tested = [(number, one.p_value) for number, one in enumerate(comparisons) if one.interval and one.p_value is not None]
    if len(tested) > 1:
        for (number, _), adjusted in zip(tested, holm([p_value for _, p_value in tested]), strict=True):
            comparisons[number] = replace(comparisons[number], adjusted_p_value=adjusted)
    return comparisons


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
