"""The words for the figures of a report: the terminal, the page and the viewer say the same."""

from __future__ import annotations

import math
from collections.abc import Mapping

from openreward_gym.reports.intervals import MIN_TASKS
from openreward_gym.reports.statistics import Comparison

MOST_DIGITS = 1e9
"""The absolute value from which a number is written with an exponent."""


def number_text(value: float | None, digits: int = 3) -> str:
    """Return `value` with a fixed number of digits, from `MOST_DIGITS` on with an exponent; None is a dash."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if abs(value) < MOST_DIGITS else f"{value:.{digits}e}"


def signed_text(value: float | None) -> str:
    """Return a difference with its sign; None is a dash."""
    return f"+{number_text(value)}" if value is not None and math.copysign(1, value) > 0 else number_text(value)


def count_text(count: int, noun: str) -> str:
    """Return a count and its noun, in the plural unless the count is 1."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def interval_text(interval: tuple[float, float] | None) -> str:
    """Return the bounds of an interval; None is a dash."""
    return "-" if interval is None else f"{number_text(interval[0])} to {number_text(interval[1])}"


def mean_text(mean: float | None, interval: tuple[float, float] | None, tasks: int) -> str:
    """Return a mean over tasks with its 95 % interval, or the reason why there is none; a dash without a mean."""
    if mean is None:
        return "-"
    if interval is not None:
        return f"{number_text(mean)}, 95 % interval {interval_text(interval)} ({count_text(tasks, 'task')})"
    return f"{number_text(mean)} ({count_text(tasks, 'task')}: too few for an interval, which needs {MIN_TASKS})"


def bounds_text(bounds: tuple[float, float] | None, possible: tuple[float, float] | None) -> str:
    """Return what rollouts and units without a reward could do to the mean; empty if all have one."""
    if bounds is None or possible is None:
        return ""
    (lowest, highest), (low, high) = bounds, possible
    source = "" if (low, high) == (0.0, 1.0) else ", the range of the observed rewards"
    return f"between {lowest:.3f} (if each had {low:g}) and {highest:.3f} (if each had {high:g}{source})"


def counts_text(counts: Mapping[str, int]) -> str:
    """Return names and their counts."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def coverage_text(coverage: Mapping[str, int]) -> str:
    """Return the number of expected units and its parts."""
    parts = ", ".join(f"{coverage[name]} {name}" for name in ("successful", "failed", "omitted", "missing"))
    return f"{coverage['expected']} expected = {parts}"


def pass_text(
    rates: Mapping[int, float],
    intervals: Mapping[int, tuple[float, float] | None],
    tasks: Mapping[int, int],
    only: int | None = None,
) -> str:
    """Return pass@k or pass^k for each k, or for one: the mean, its interval, and how many tasks count if not every one does."""
    parts = []
    for k, rate in rates.items():
        if only is not None and k != only:
            continue
        text = (f"{k}: " if only is None else "") + f"{rate:.3f}"
        if (interval := intervals.get(k)) is not None:
            text += f" ({interval_text(interval)})"
        if tasks[k] < tasks[1]:
            text += f" over the {tasks[k]} of {count_text(tasks[1], 'task')} with {k} rewards"
        parts.append(text)
    return ", ".join(parts)


def comparison_text(comparison: Comparison) -> str:
    """Return the difference with its interval and p-value, or the reason why there are none."""
    alone = ""
    if comparison.only_first or comparison.only_second:
        alone = f"; {count_text(comparison.only_first, 'task')} only in the first, {comparison.only_second} only here"
    if not comparison.tasks:
        return "no task in common" + alone
    common = count_text(comparison.tasks, "common task")
    text = f"mean reward {number_text(comparison.second)} against {number_text(comparison.first)} on {common}"
    return f"{text}, difference {signed_text(comparison.difference)} ({paired_test_text(comparison)}){alone}"


def paired_test_text(comparison: Comparison) -> str:
    """Return the interval and the p-values of a comparison, or that it has too few tasks."""
    if comparison.interval is None or comparison.p_value is None:
        if comparison.tasks >= MIN_TASKS:
            return "the rewards are too large for an interval"
        return f"too few tasks for an interval, which needs {MIN_TASKS} common ones"
    low, high = comparison.interval
    text = f"95 % interval {signed_text(low)} to {signed_text(high)}, p = {comparison.p_value:.4f}"
    if comparison.adjusted_p_value is not None:
        text += f", {comparison.adjusted_p_value:.4f} after Holm's correction for several comparisons"
    return text
