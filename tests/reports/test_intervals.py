"""Intervals and tests over tasks: against published values, exact coverage, and each other."""

from __future__ import annotations

import math
import random
import sys
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreward_gym.reports.intervals import (
    MIN_TASKS,
    holm,
    incomplete_beta,
    mean_interval,
    paired_test,
    sign_flip_p_value,
    t_p_value,
    t_quantile,
    unbounded_interval,
    wilson_interval,
)
from openreward_gym.reports.statistics import Comparison, compare, compare_with_first, passes, reward_interval
from openreward_gym.reports.texts import comparison_text

UNIT = st.floats(0, 1, allow_subnormal=False)


def test_the_beta_function_against_binomial_sums() -> None:
    for n, k, x in ((5, 2, 0.3), (40, 3, 0.01), (40, 3, 0.5), (200, 190, 0.97)):
        tail = math.fsum(comb(n, i) * x**i * (1 - x) ** (n - i) for i in range(k, n + 1))
        assert incomplete_beta(k, n - k + 1, x) == pytest.approx(tail, rel=1e-10)
    assert incomplete_beta(2, 2, 0.5) == pytest.approx(0.5)
    assert (incomplete_beta(2, 3, 0.0), incomplete_beta(2, 3, 1.0)) == (0.0, 1.0)


def test_t_quantiles_against_a_printed_table() -> None:
    for freedom, quantile in ((1, 12.706), (4, 2.776), (7, 2.365), (30, 2.042), (120, 1.980), (1e9, 1.960)):
        assert t_quantile(0.975, freedom) == pytest.approx(quantile, abs=6e-4)
        assert t_p_value(quantile, freedom) == pytest.approx(0.05, abs=2e-4)


def test_wilson_against_a_published_value() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20)[0] == pytest.approx(0.0, abs=1e-12)
    assert wilson_interval(20, 20)[1] == pytest.approx(1.0)


def test_zeros_and_ones_have_the_published_mid_p_interval() -> None:
    # Newcombe 1998, table I, method 6: 81 of 263 gives 0.2544 to 0.3658, 15 of 148 gives 0.0601 to 0.1581.
    assert mean_interval([1.0] * 81 + [0.0] * 182, 0, 1) == pytest.approx((0.2544, 0.3658), abs=1e-4)
    assert mean_interval([1.0] * 15 + [0.0] * 133, 0, 1) == pytest.approx((0.0601, 0.1581), abs=1e-4)
    # Repeats that agree add nothing.
    many = [[1.0] * 64] * 15 + [[0.0] * 64] * 133
    assert reward_interval(many) == pytest.approx((0.0601, 0.1581), abs=1e-4)


@pytest.mark.parametrize("tasks", [5, 6, 7, 8, 9, 12, 17, 24, 40, 100])
def test_the_coverage_of_zeros_and_ones_is_never_low(tasks: int) -> None:
    intervals = [reward_interval([[1.0]] * right + [[0.0]] * (tasks - right)) or (0, 0) for right in range(tasks + 1)]
    shares = []
    for chance in (number / 200 for number in range(1, 200)):
        covering = [right for right, (low, high) in enumerate(intervals) if low <= chance <= high]
        shares.append(sum(comb(tasks, right) * chance**right * (1 - chance) ** (tasks - right) for right in covering))
    assert min(shares) > 0.91
    assert 0.945 < sum(shares) / len(shares) < 0.985


def test_equal_rewards_have_an_interval_that_is_not_a_point() -> None:
    # The rule of three: 0 of 100 leaves up to 3 %.
    assert reward_interval([[0.0]] * 100) == pytest.approx((0.0, 0.0295), abs=1e-4)
    assert reward_interval([[1.0, 1.0]] * 100) == pytest.approx((0.9705, 1.0), abs=1e-4)
    for reward in (0.5, -3.0, 7.0, -1.0, 1e300, 1e-300):
        low, high = reward_interval([[reward] * 3] * 8) or (0.0, 0.0)
        assert low <= reward <= high
        assert low < high


def test_too_few_tasks_have_no_interval() -> None:
    few: list[list[list[float]]] = [[], [[]], [[1.0] * 64], [[0.0], [1.0], [0.0], [1.0]], [[0.3]] * 4, [[-5.0], [9.0]]]
    for rewards in (*few, [[1.0], [1.0], [1.0], [1.0], []]):
        assert reward_interval(rewards) is None
    assert reward_interval([[0.0], [1.0], [0.0], [1.0], [1.0]]) is not None
    assert reward_interval([[-5.0], [9.0], [2.0], [1.0], [1.0]]) is not None


def test_the_interval_is_about_the_mean_of_tasks() -> None:
    # One task with most of the rewards: the mean over rewards is 0.99, that over tasks 0.5.
    low, high = reward_interval([[1.0] * 1000, [1.0], [1.0], [0.0], [0.0], [0.0]]) or (0.0, 0.0)
    assert low + high == pytest.approx(1.0)


@given(st.lists(UNIT, min_size=MIN_TASKS, max_size=40))
def test_intervals_are_ordered_within_bounds_and_mirrored(values: list[float]) -> None:
    low, high = mean_interval(values, 0, 1) or (1.0, 0.0)
    mean = math.fsum(values) / len(values)
    assert 0 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1
    assert low < high
    mirrored = mean_interval([1 - value for value in values], 0, 1) or (1.0, 0.0)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_bounds_beyond_the_largest_float_are_that_float() -> None:
    largest = sys.float_info.max
    interval = unbounded_interval([0.0, 1.0, largest, largest, largest])
    assert interval is not None
    assert -largest < interval[0] < 0 < interval[1] == largest


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=MIN_TASKS, max_size=40), st.sampled_from([0.25, 4.0, 1e3]))
def test_unbounded_intervals_scale(values: list[float], factor: float) -> None:
    interval = unbounded_interval(values)
    scaled = unbounded_interval([factor * value for value in values])
    if interval is None:
        assert scaled is None
    else:
        assert interval[0] <= math.fsum(values) / len(values) <= interval[1]
        assert scaled == pytest.approx((factor * interval[0], factor * interval[1]), rel=1e-6, abs=1e-6)


def test_rewards_beyond_all_floats_have_an_interval() -> None:
    low, high = reward_interval([[1.7e308], [-1.7e308], [0.0], [1e308], [3.0]]) or (0.0, 0.0)
    assert low < 0 < high
    assert compare({str(n): [1.7e308] for n in range(6)}, {str(n): [-1.7e308] for n in range(6)}).interval is None


@pytest.mark.parametrize("tasks", [2, 4, 6])
def test_differences_beyond_all_floats_are_unknown(tasks: int) -> None:
    first = {str(n): [1.7e308 if n % 2 else -1.7e308] for n in range(tasks)}
    comparison = compare(first, {task: [-reward] for task, (reward,) in first.items()})
    assert (comparison.tasks, comparison.difference, comparison.interval) == (tasks, None, None)
    assert "difference -" in comparison_text(comparison)
    # The sum of these differences is too large, they are not.
    assert compare(first, {task: [0.0] for task in first}).difference == 0


def test_equal_means_of_rewards_that_differ_have_an_interval() -> None:
    low, high = reward_interval([[-1.0, 0.5, 2.0]] * 8) or (0.0, 0.0)
    assert -1 < low < 0.5 < high < 2
    assert reward_interval([[-1.0, 0.5, 2.0]] * 4) is None


DIFFERENCES = st.one_of(
    st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=MIN_TASKS, max_size=40),
    st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=MIN_TASKS, max_size=40),
    st.lists(st.sampled_from([0.0, 0.25]), min_size=MIN_TASKS, max_size=40),
    st.integers(MIN_TASKS, 60).map(lambda tasks: [0.1] * tasks),
)


@given(DIFFERENCES)
def test_a_p_value_and_its_interval_agree(differences: list[float]) -> None:
    test = paired_test(differences, 1.0)
    assert test is not None
    low, high = test.interval
    assert (test.p_value < 0.05) == (low > 0 or high < 0)
    assert 0 < test.p_value <= 1
    assert low <= math.fsum(differences) / len(differences) + 1e-9
    assert high >= math.fsum(differences) / len(differences) - 1e-9
    assert low < high
    opposite = paired_test([-difference for difference in differences], 1.0)
    assert opposite is not None
    assert opposite.p_value == pytest.approx(test.p_value)
    assert opposite.interval == pytest.approx((-high, -low))


def test_a_p_value_is_not_below_that_of_the_signs() -> None:
    for tasks in range(MIN_TASKS, 10):
        test = paired_test([1.0] * tasks, 1.0)
        assert test is not None
        assert 2.0 ** (1 - tasks) <= test.p_value <= 1.5 * 2.0 ** (1 - tasks)
    # Four of 500 tasks improved and the rest are equal.
    rare = paired_test([1.0] * 4 + [0.0] * 496, 1.0)
    assert rare is not None
    assert rare.p_value >= 0.125


def test_identical_runs_do_not_differ() -> None:
    runs = {str(n): [0.0, 1.0] for n in range(20)}
    comparison = compare(runs, runs)
    assert (comparison.difference, comparison.p_value) == (0.0, 1.0)
    assert comparison.interval is not None
    assert comparison.interval[0] < 0 < comparison.interval[1]


def test_few_common_tasks_are_not_compared() -> None:
    for tasks in range(1, MIN_TASKS):
        comparison = compare({str(n): [0.0] for n in range(tasks)}, {str(n): [1.0] for n in range(tasks)})
        assert comparison.interval is None
        assert comparison.p_value == 2.0 ** (1 - tasks)
        assert "too few tasks" in comparison_text(comparison)
        assert "p =" not in comparison_text(comparison)
    assert sign_flip_p_value([0.1, -0.3, 0.2]) == 1.0
    assert compare({}, {"a": [1.0]}) == Comparison(0, 0, 1)


def test_holm_against_a_worked_example() -> None:
    # Holm 1979: sorted p-values are multiplied by n, n - 1, ..., and never decrease.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_several_comparisons_are_corrected() -> None:
    rng = random.Random(3)
    runs = [{str(n): [rng.gauss(0.3 * run, 1.0)] for n in range(40)} for run in range(4)]
    comparisons = compare_with_first(runs)
    assert [one.adjusted_p_value for one in comparisons] == pytest.approx(holm([one.p_value or 0.0 for one in comparisons]))
    assert "after Holm's correction" in comparison_text(comparisons[0])
    (alone,) = compare_with_first(runs[:2])
    assert alone.adjusted_p_value is None
    assert "Holm" not in comparison_text(alone)
    # A run without enough common tasks is no comparison to correct for.
    assert compare_with_first([runs[0], runs[1], {"0": [1.0]}])[0].adjusted_p_value is None


def test_pass_rates_say_how_many_tasks_count() -> None:
    at, hat = passes([(4, 2)] * 6 + [(1, 1), (0, 0)])
    assert list(at) == list(hat) == [1, 2, 4]
    assert [rate.tasks for rate in at.values()] == [7, 6, 6]
    assert at[4].mean == 1.0
    for rate in (*at.values(), *hat.values()):
        assert rate.interval is not None
        assert rate.interval[0] <= rate.mean <= rate.interval[1]
        assert rate.interval[0] < rate.interval[1]
    assert passes([(4, 2)] * 3)[0][2].interval is None
    assert passes([]) == passes([(0, 0)]) == ({}, {})
