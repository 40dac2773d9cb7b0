"""Coverage of the 95 % intervals and error rate of the paired test, by simulation.

    python benchmarks/coverage.py                 # the tables of docs/concepts/statistics.md, about ten minutes on one core
    python benchmarks/coverage.py --runs 100      # a quick look

A simulated run has tasks with repeats. The expected reward of each task is drawn from a beta distribution, and its rewards from
that expectation: zeros and ones, or continuous between 0 and 1 (beta distributed again). The correlation is the share of the
rewards' variance that is between tasks: at 0 all tasks are equal, at 1 all repeats of a task agree. The interval covers if it
holds the expected reward from which everything was drawn. Rewards of mean 0.9 mirror those of mean 0.1, and so do the intervals.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openreward_gym.reports.statistics import compare, reward_interval

SPREAD = 1 / 3
"""Variance of continuous rewards, as a share of the largest possible one, mean (1 - mean); 1/3 is uniform for a mean of 0.5."""
TASKS = (5, 8, 12, 24, 100, 500)
PLANS = ((1, 1.0), (4, 0.0), (4, 0.4), (4, 0.8), (16, 0.1), (16, 0.8), (64, 0.0), (64, 0.3), (64, 1.0))
"""(repeats, correlation)."""
MEANS = (0.5, 0.1, 0.02)
OTHER_REWARDS: dict[str, tuple[float, Callable[[np.random.Generator, int], NDArray[np.float64]]]] = {
    "normal": (0.5, lambda rng, tasks: rng.normal(0.5, 1.0, tasks)),
    "exponential": (3.0, lambda rng, tasks: rng.exponential(3.0, tasks)),
    "lognormal": (float(np.exp(0.5)), lambda rng, tasks: rng.lognormal(0.0, 1.0, tasks)),
    "-1 or 1": (-0.6, lambda rng, tasks: np.where(rng.random(tasks) < 0.2, 1.0, -1.0)),
    "Student's t, 3 degrees of freedom": (0.0, lambda rng, tasks: rng.standard_t(3, tasks)),
}
PAIRS = ((0.5, 0.5), (0.1, 0.1), (0.02, 0.02), (0.5, 0.7), (0.02, 0.1), (0.9, 0.98))


def expectations(rng: np.random.Generator, mean: float, variance: float, tasks: int) -> NDArray[np.float64]:
    """Draw the tasks' expected rewards; `variance` is a share of the largest possible one."""
    if variance <= 0:
        return np.full(tasks, mean)
    if variance >= 1:
        return (rng.random(tasks) < mean).astype(float)
    size = 1 / variance - 1
    return rng.beta(mean * size, (1 - mean) * size, tasks)


def rewards_of(
    rng: np.random.Generator, expected: NDArray[np.float64], repeats: NDArray[np.int64], correlation: float, continuous: bool
) -> list[list[float]]:
    """Draw each task's rewards, `repeats` of them, from its expected reward."""
    if not continuous:
        counts = zip(rng.binomial(repeats, expected).tolist(), repeats.tolist(), strict=True)
        return [[1.0] * right + [0.0] * (count - right) for right, count in counts]
    if correlation >= 1:
        return [[reward] * count for reward, count in zip(expected.tolist(), repeats.tolist(), strict=True)]
    size = (1 - correlation * SPREAD) / ((1 - correlation) * SPREAD) - 1
    inside = np.clip(expected, 1e-9, 1 - 1e-9)
    drawn = rng.beta(inside[:, None] * size, (1 - inside[:, None]) * size, (len(expected), int(repeats.max())))
    return [rewards[:count] for rewards, count in zip(drawn.tolist(), repeats.tolist(), strict=True)]


@dataclass(frozen=True)
class Cell:
    """A cell of the grid. An unbalanced run has 1 to `repeats` rewards per task."""

    tasks: int
    repeats: int
    correlation: float
    mean: float
    continuous: bool
    unbalanced: bool = False

    def draw(self, rng: np.random.Generator) -> list[list[float]]:
        """Draw the rewards of a run by task."""
        expected = expectations(rng, self.mean, self.correlation * (SPREAD if self.continuous else 1.0), self.tasks)
        counts = rng.integers(1, self.repeats + 1, self.tasks) if self.unbalanced else np.full(self.tasks, self.repeats)
        return rewards_of(rng, expected, counts, self.correlation, self.continuous)

    def coverage(self, runs: int, seed: int = 0) -> float:
        """Return the share of simulated runs whose interval covers the expected reward; exactly, if few outcomes are possible."""
        if not self.continuous and (self.repeats == 1 or self.correlation >= 1):
            return self._exact_coverage()
        rng = np.random.default_rng(seed)
        covered = 0
        for _ in range(runs):
            interval = reward_interval(self.draw(rng))
            assert interval is not None
            covered += interval[0] - 1e-12 <= self.mean <= interval[1] + 1e-12
        return covered / runs

    def _exact_coverage(self) -> float:
        """Sum the probabilities of the numbers of solved tasks whose interval covers the expected reward."""
        n, chance, total = self.tasks, self.mean, 0.0
        for right in range(n + 1):
            low, high = reward_interval([[1.0]] * right + [[0.0]] * (n - right)) or (0.0, 0.0)
            if low <= chance <= high:
                total += math.comb(n, right) * chance**right * (1 - chance) ** (n - right)
        return total

    def __str__(self) -> str:
        repeats = f"1 to {self.repeats}" if self.unbalanced else str(self.repeats)
        kind = "continuous" if self.continuous else "0 or 1"
        return f"{self.tasks} tasks, {repeats} repeats, correlation {self.correlation:g}, {kind}, mean {self.mean:g}"


def coverage_of_others(name: str, tasks: int, runs: int, seed: int = 0) -> float:
    """Return the coverage for rewards that are not between 0 and 1, one per task."""
    rng = np.random.default_rng(seed)
    mean, draw = OTHER_REWARDS[name]
    intervals = (reward_interval([[reward] for reward in draw(rng, tasks).tolist()]) for _ in range(runs))
    return sum(interval is not None and interval[0] <= mean <= interval[1] for interval in intervals) / runs


def paired(
    tasks: int, repeats: int, correlation: float, means: tuple[float, float], continuous: bool, runs: int, seed: int = 0
) -> tuple[float, float]:
    """Return (coverage of the difference, share of p-values below 0.05) for two runs; equal means are those of equal policies."""
    rng = np.random.default_rng(seed)
    covered = rejected = 0
    counts = np.full(tasks, repeats)
    variance = correlation * (SPREAD if continuous else 1.0)
    for _ in range(runs):
        expected = [expectations(rng, mean, variance, tasks) for mean in means]
        if means[0] == means[1]:
            expected[1] = expected[0]
        sides = [rewards_of(rng, of_run, counts, correlation, continuous) for of_run in expected]
        comparison = compare(*({str(task): rewards for task, rewards in enumerate(of_run)} for of_run in sides))
        assert comparison.interval is not None
        assert comparison.p_value is not None
        low, high = comparison.interval
        assert (comparison.p_value < 0.05) == (low > 0 or high < 0)
        covered += low - 1e-12 <= means[1] - means[0] <= high + 1e-12
        rejected += comparison.p_value < 0.05
    return covered / runs, rejected / runs


def table(head: list[str], rows: Iterator[list[Any]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400, help="simulated runs per number [default: 400]")
    runs = parser.parse_args().runs
    measured: dict[Cell, float] = {}

    def percent(cell: Cell) -> str:
        measured[cell] = cell.coverage(runs)
        return f"{100 * measured[cell]:.1f}"

    for continuous in (False, True):
        for mean in MEANS:
            kind = "continuous" if continuous else "0 or 1"
            print(f"Rewards {kind}, mean {mean:g}; columns: repeats × correlation\n")
            table(
                ["tasks", *(f"{repeats} × {correlation:g}" for repeats, correlation in PLANS)],
                ([tasks, *(percent(Cell(tasks, *plan, mean, continuous)) for plan in PLANS)] for tasks in TASKS),
            )
    print("1 to 16 repeats per task, correlation 0.4\n")
    kinds = [(mean, continuous) for continuous in (False, True) for mean in MEANS]
    table(
        ["tasks", *(f"{'continuous' if continuous else '0 or 1'}, {mean:g}" for mean, continuous in kinds)],
        ([tasks, *(percent(Cell(tasks, 16, 0.4, *kind, unbalanced=True)) for kind in kinds)] for tasks in TASKS),
    )
    for title, few in (("below 8 tasks", True), ("from 8 tasks on", False)):
        worst = sorted((share, str(cell)) for cell, share in measured.items() if (cell.tasks < 8) == few)[:3]
        print(f"Lowest {title}: " + "; ".join(f"{100 * share:.1f} % ({cell})" for share, cell in worst) + "\n")
    print("Other rewards, one per task\n")
    table(
        ["tasks", *OTHER_REWARDS],
        ([tasks, *(f"{100 * coverage_of_others(name, tasks, runs):.1f}" for name in OTHER_REWARDS)] for tasks in TASKS),
    )
    print("Two runs: coverage of the difference in %, and for equal runs how often p < 0.05, in %:\n")
    plans = ((1, 0.5), (4, 0.4), (16, 0.8))
    columns = [(continuous, pair) for continuous in (False, True) for pair in PAIRS]
    table(
        ["tasks", "repeats × correlation", *(f"{'continuous' if c else '0 or 1'}, {a:g} and {b:g}" for c, (a, b) in columns)],
        (
            [tasks, f"{plan[0]} × {plan[1]:g}"]
            + [
                f"{100 * covered:.1f}" + (f" ({100 * rejected:.1f})" if pair[0] == pair[1] else "")
                for continuous, pair in columns
                for covered, rejected in [paired(tasks, *plan, pair, continuous, runs)]
            ]
            for tasks in (5, 8, 12, 24, 100)
            for plan in plans
        ),
    )


if __name__ == "__main__":
    main()
