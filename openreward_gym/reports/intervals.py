"""Confidence intervals of a mean over tasks, and the paired test of two runs.

The unit is the task: its rewards enter as one mean, so samples of one task that agree do not count as independent. The intervals
are tested by simulation, see `benchmarks/coverage.py` and the page "How sure is the mean?" of the documentation.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

MIN_TASKS = 5
"""The smallest number of tasks for an interval or a p-value."""

ALPHA = 0.05
_Z = NormalDist().inv_cdf(1 - ALPHA / 2)
_FLAT = 1e-12
"""Values of range 0 to 1 that differ by less are equal up to rounding."""
_MOST_SKEW = 0.25
"""The largest correction for skewness in a paired test, in units of 1 / sqrt(n): beyond it, a few tasks would decide."""
_LARGE_COUNT = 500.0
"""From this number of successes and of failures on, the score interval stands for the binomial one, which is almost equal."""


def mean_interval(values: Sequence[float], low: float, high: float) -> tuple[float, float] | None:
    """Return the 95 % interval of the expected value of tasks; None for fewer than `MIN_TASKS`.

    The values are mapped to 0 to 1. If all are 0 or 1, the interval is the mid-P binomial interval (Berry and Armitage 1995).
    Otherwise it is the same with the effective sample size n m (1 - m) / variance (Korn and Graubard 1998), in which

    - the t quantile replaces the normal one, with the degrees of freedom of the variance ratio (Satterthwaite 1946);
    - up to half a task at the far bound is added to the variance if the sum is due to fewer than three tasks: few tasks
      with a rare high value do not show how many tasks could have one;
    - the bounds move outward to those of the skewness-corrected t interval (Hall 1992), the more, the less the values
      resemble zeros and ones.

    If all values are equal, at most the share 1 - 0.05^(1/n) of the tasks has another value (the rule of three, Hanley and
    Lippman-Hand 1983), which may be anywhere in the range.

    Args:
        values: One value per task: the mean of its rewards.
        low: The smallest possible reward.
        high: The largest possible reward, more than `low`.

    Example:
        >>> mean_interval([1.0, 1.0], 0.0, 1.0) is None
        True
        >>> [round(bound, 3) for bound in mean_interval([1.0] * 10, 0.0, 1.0)]
        [0.741, 1.0]
    """
    if len(values) < MIN_TASKS:
        return None
    scale = max(abs(low), abs(high))
    first, last = low / scale, high / scale
    unit = np.clip((np.asarray(values, dtype=float) / scale - first) / (last - first), 0.0, 1.0)
    if np.ptp(unit) < _FLAT:
        share = 1 - ALPHA ** (1 / len(unit))
        mean = float(unit[0])
        bounds = mean - share * mean, mean + share * (1 - mean)
    else:
        bounds = 1 - _upper_limit(1 - unit), _upper_limit(unit)
    lower, upper = ((first + bound * (last - first)) * scale for bound in bounds)
    return max(low, lower), min(high, upper)


def unbounded_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of the expected value of tasks whose rewards have no known bounds.

    It is the union of Student's t interval and the one with a correction for skewness (Hall 1992). None for fewer than
    `MIN_TASKS` values, or if all are equal.

    Example:
        >>> low, high = unbounded_interval([-2.0, 3.0, 1.0, 2.5, 0.5])
        >>> low < 1.0 < high
        True
    """
    scale = max(map(abs, values), default=0.0)
    if len(values) < MIN_TASKS or not scale:
        return None
    unit = np.asarray(values, dtype=float) / scale
    if np.ptp(unit) < _FLAT:
        return None
    mean = float(unit.mean())
    low, high = _Student(unit - mean).limits()
    # Bounds beyond the largest float have no place in JSON.
    largest = sys.float_info.max
    return max(-largest, (mean + low) * scale), min(largest, (mean + high) * scale)


def _upper_limit(unit: NDArray[np.float64]) -> float:
    """Return the upper limit of the mean of values between 0 and 1 that are not all equal."""
    n = len(unit)
    mean = float(unit.mean())
    deviations = unit - mean
    variance = float((deviations * deviations).mean())
    ratio = variance / (mean * (1 - mean))
    count: float = n
    if ratio < 1 - _FLAT:
        unseen = _unseen_tasks(unit)
        widened = (n * variance + unseen * (1 - mean) ** 2) / (n + unseen)
        quantile = t_quantile(1 - ALPHA / 2, _freedom(deviations, mean))
        # Zeros and ones have the largest variance of all values between 0 and 1, so the effective size is never below n.
        count = max(n, (n - 1) * mean * (1 - mean) / widened * (_Z / quantile) ** 2)
    limit = _binomial_upper(count * mean, count)
    skewed = mean + _Student(deviations).limits()[1]
    return limit + max(0.0, 1 - ratio) ** 2 * max(0.0, min(1.0, skewed) - limit)


def _freedom(deviations: NDArray[np.float64], mean: float) -> float:
    """Return the degrees of freedom of the ratio variance / (mean (1 - mean)), at least those of the variance itself."""
    n = len(deviations)
    squares = deviations * deviations
    variance = float(squares.mean())
    # The influence of each task on the ratio (delta method). It is zero for zeros and ones, whose ratio is always 1.
    influence = squares - variance - variance / (mean * (1 - mean)) * (1 - 2 * mean) * deviations
    spread = float((influence * influence).mean()) / variance**2
    return max(n - 1.0, 2 * (n - 1) ** 2 / (max(spread, _FLAT) * (n + 1)))


def _unseen_tasks(values: NDArray[np.float64]) -> float:
    """Return how much of a task with an extreme value is added: 0.5 if one task makes the sum, 0 if three or more do."""
    largest = float(np.abs(values).max(initial=0.0))
    if not largest:
        return 0.5
    sizes = np.abs(values) / largest
    contributing = float(sizes.sum()) ** 2 / float((sizes * sizes).sum())
    return min(0.5, max(0.0, (3 - contributing) / 4))


class _Student:
    """The t statistic of a mean, as it is and with its skewness removed by a monotone cubic transformation (Hall 1992)."""

    def __init__(self, deviations: NDArray[np.float64], unseen: float = 0.0, most_skew: float = math.inf) -> None:
        n = len(deviations)
        variance = float((deviations * deviations).mean())
        skew = float(((deviations / math.sqrt(variance)) ** 3).mean()) / math.sqrt(n)
        self.skew = max(-most_skew, min(most_skew, skew))
        self.freedom = n - 1
        self.error = math.sqrt((n * variance + unseen) / (n + unseen) / (n - 1))

    def limits(self) -> tuple[float, float]:
        """Return the bounds of the 95 % interval, relative to the mean: the wider of both forms on each side."""
        quantile = t_quantile(1 - ALPHA / 2, self.freedom)
        low, high = min(-quantile, -self._inverse(quantile)), max(quantile, -self._inverse(-quantile))
        return self.error * low, self.error * high

    def p_value(self, mean: float) -> float:
        """Return the p-value of the hypothesis that the expected value is 0: the larger of both forms."""
        t = mean / self.error
        stretch = self._stretch
        corrected = (self.skew * (t * stretch) ** 2 / 3 + self.skew**2 * (t * stretch) ** 3 / 27 + self.skew / 6) / stretch
        return max(t_p_value(t, self.freedom), t_p_value(t + corrected, self.freedom))

    @property
    def _stretch(self) -> float:
        """The transformation is for a standard error with the divisor n."""
        return math.sqrt((self.freedom + 1) / self.freedom)

    def _inverse(self, quantile: float) -> float:
        if abs(self.skew) < 1e-9:
            return quantile
        y = quantile * self._stretch - self.skew / 6
        return (math.cbrt(1 + self.skew * y) - 1) * 3 / self.skew / self._stretch


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The 95 % interval and the two-sided p-value of a mean difference. The p-value is below 0.05 if the interval excludes 0."""

    interval: tuple[float, float]
    p_value: float


def paired_test(differences: Sequence[float], span: float) -> PairedTest | None:
    """Test whether the mean of paired differences is 0; None for fewer than `MIN_TASKS` differences.

    The differences that are not rejected at 5 % by any of three tests form the interval, and the largest of the three
    p-values is the p-value:

    - Student's paired t test; up to half a task with the largest possible difference is added to the variance if the
      differences are due to fewer than three tasks;
    - the same with a correction for skewness (Hall 1992);
    - a bound for "no difference": of m differences that are not 0, all have the same sign by chance with the
      probability 2^(1-m), so no test of signs has a smaller p-value.

    Equal differences have no spread: one more task without a difference is added. If every difference is 0, the interval
    is that of `mean_interval` for equal values.

    Args:
        differences: One difference of mean rewards per common task.
        span: The largest possible difference of two rewards.

    Example:
        >>> paired_test([0.5] * 10, 1.0).p_value < 0.05
        True
    """
    if len(differences) < MIN_TASKS:
        return None
    values = np.asarray(differences, dtype=float) / span
    values[np.abs(values) < _FLAT] = 0.0
    different = int(np.count_nonzero(values))
    if not different:
        share = 1 - ALPHA ** (1 / len(values))
        return PairedTest((-share * span, share * span), 1.0)
    if np.ptp(values) < _FLAT:
        values = np.append(values, 0.0)
    mean = float(values.mean())
    student = _Student(values - mean, _unseen_tasks(values), _MOST_SKEW)
    p_value = min(1.0, max(student.p_value(mean), 2.0 ** (1 - different)))
    low, high = (mean + limit for limit in student.limits())
    if p_value >= ALPHA:
        low, high = min(low, 0.0), max(high, 0.0)
    return PairedTest((max(-1.0, low) * span, min(1.0, high) * span), p_value)


def sign_flip_p_value(differences: Sequence[float]) -> float:
    """Return the p-value of the paired permutation test that flips the signs of a few differences, counting all 2^n flips.

    Example:
        >>> sign_flip_p_value([0.5, 0.5])
        0.5
    """
    scale = max(map(abs, differences), default=0.0) or 1.0
    scaled = [difference / scale for difference in differences]
    observed = abs(math.fsum(scaled)) * (1 - _FLAT)
    flips = list(itertools.product((-1, 1), repeat=len(scaled)))
    return sum(abs(math.fsum(map(operator.mul, signs, scaled))) >= observed for signs in flips) / len(flips)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number by the step-down method of Holm (1979).

    Example:
        >>> holm([0.01, 0.04])
        [0.02, 0.04]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=lambda number: p_values[number])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = largest
    return adjusted


def _binomial_upper(successes: float, trials: float) -> float:
    """Return the upper mid-P limit of a proportion; the numbers need not be integers."""
    failures = trials - successes
    if min(successes, failures) > _LARGE_COUNT:
        return wilson_interval(successes, trials)[1]
    scale = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(failures + 1)

    def excess(share: float) -> float:
        # P(fewer) + P(equal) / 2 = P(at most) - P(equal) / 2
        equal = math.exp(scale + successes * math.log(share) + failures * math.log1p(-share))
        return 1 - incomplete_beta(successes + 1, failures, share) - equal / 2 - ALPHA / 2

    return _root(excess, successes / trials, 1.0, at_high=-ALPHA / 2)


def wilson_interval(successes: float, trials: float, z: float = _Z) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (Wilson 1927); `z` is the normal quantile (1.96 for 95 %)."""
    share = successes / trials
    centre = share + z * z / (2 * trials)
    margin = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)


def t_p_value(t: float, freedom: float) -> float:
    """Return the two-sided p-value of Student's t."""
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


@functools.lru_cache(maxsize=4096)
def t_quantile(probability: float, freedom: float) -> float:
    """Return a quantile of Student's t distribution, for a probability above 0.5."""
    normal = NormalDist().inv_cdf(probability)
    if freedom > 1e6:
        return normal
    tail = 2 * (1 - probability)
    return _root(lambda t: t_p_value(t, freedom) - tail, normal, normal * 10)


def _root(function: Callable[[float], float], low: float, high: float, at_high: float | None = None) -> float:
    """Return where a falling function crosses 0 between two bounds, by Ridders' method (1979)."""
    above = function(low)
    below = function(high) if at_high is None else at_high
    for _ in range(60):
        middle = (low + high) / 2
        value = function(middle)
        guess = middle + (middle - low) * value / math.sqrt(value * value - above * below)
        at_guess = function(guess)
        if abs(at_guess) < 1e-12:
            return guess
        for place, height in ((middle, value), (guess, at_guess)):
            if height > 0 and place > low:
                low, above = place, height
            elif height <= 0 and place < high:
                high, below = place, height
        if high - low < 1e-13 * high:
            break
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22).

    Example:
        >>> round(incomplete_beta(2.0, 3.0, 0.5), 4)
        0.6875
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    # The fraction converges fast below the mean; above it, I_x(a, b) = 1 - I_(1-x)(b, a).
    above = x > (a + 1) / (a + b + 2)
    if above:
        a, b, x = b, a, 1 - x
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    # Lentz's method: numerators and denominators of the convergents, kept away from 0.
    tiny = 1e-300
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    fraction = d
    for m in range(1, 2000):
        k = a + 2 * m
        for term in (m * (b - m) * x / ((k - 1) * k), -(a + m) * (a + b + m) * x / (k * (k + 1))):
            d = 1 / (1 + term * d or tiny)
            c = 1 + term / c or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return 1 - front * fraction if above else front * fraction
