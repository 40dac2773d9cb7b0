"""What several rollouts of a task say together: pass@k, pass^k, and whether two runs differ."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb

DRAWS = 2000


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean of finite numbers: also of ones whose sum is beyond every float. ValueError for none."""
    numbers = list(values)
    if not numbers:
        raise ValueError("the mean of no values")
    try:
        return math.fsum(numbers) / len(numbers)
    except OverflowError:
        return statistics.mean(numbers)


def median(ordered: Sequence[float]) -> float:
    """The median of a sorted, non-empty sequence of finite numbers."""
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return mean((low, high))


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that of `k` samples at least one is right, where `c` of `n` were: 1 - C(n-c, k) / C(n, k).

    The unbiased estimator of Chen et al., Evaluating Large Language Models Trained on Code (2021). `k` is at most `n`.
    """
    return 1.0 - comb(n - c, k) / comb(n, k)


def pass_hat_k(n: int, c: int, k: int) -> float:
    """The chance that all of `k` samples are right, where `c` of `n` were: C(c, k) / C(n, k).

    pass^k of Yao et al., tau-bench (2024). `k` is at most `n`.
    """
    return comb(c, k) / comb(n, k)


def passes(by_task: Sequence[tuple[int, int]]) -> tuple[dict[int, float], dict[int, float]]:
    """(pass@k, pass^k) over tasks given as (n, c), for k = 1, 2, 4, ... as far as every task has samples."""
    fewest = min((n for n, _ in by_task), default=0)
    ks = [1 << power for power in range(fewest.bit_length()) if 1 << power <= fewest]
    return (
        {k: mean(pass_at_k(n, c, k) for n, c in by_task) for k in ks},
        {k: mean(pass_hat_k(n, c, k) for n, c in by_task) for k in ks},
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs on the tasks that both have, task by task.

    Attributes:
        tasks: How many tasks both have rewards for. only_first, only_second: how many one of them has alone.
        first, second: The means over the common tasks of the tasks' mean rewards; None without any.
        difference: second - first.
        interval: The difference's 95 % interval, a bootstrap over tasks; None for fewer than two tasks.
        p_value: Of a paired permutation test (signs of the tasks' differences are flipped): the chance of such a
            difference where there is none. None for fewer than two tasks.
    """

    tasks: int
    only_first: int
    only_second: int
    first: float | None = None
    second: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None


def compare(first: Mapping[str, Sequence[float]], second: Mapping[str, Sequence[float]]) -> Comparison:
    """Compare two runs given as rewards by task; seeded, so that the same rewards give the same numbers."""
    common = sorted(task for task in first if first[task] and second.get(task))
    counts = len(common), sum(1 for t in first if t not in common), sum(1 for t in second if t not in common)
    if not common:
        return Comparison(*counts)
    pairs = [(mean(first[task]), mean(second[task])) for task in common]
    differences = [b - a for a, b in pairs]
    means = mean(a for a, _ in pairs), mean(b for _, b in pairs), mean(differences)
    if len(common) < 2:
        return Comparison(*counts, *means)
    draw = random.Random(0)
    drawn = sorted(mean(draw.choices(differences, k=len(differences))) for _ in range(DRAWS))
    observed = abs(sum(differences)) - 1e-12
    extreme = sum(abs(sum(d if draw.random() < 0.5 else -d for d in differences)) >= observed for _ in range(DRAWS))
    interval = drawn[int(0.025 * DRAWS)], drawn[int(0.975 * DRAWS) - 1]
    return Comparison(*counts, *means, interval, (extreme + 1) / (DRAWS + 1))
