"""The words for figures: counts of one, very large numbers."""

from __future__ import annotations

import pytest

from openreward_gym.reports.statistics import Comparison
from openreward_gym.reports.texts import comparison_text, interval_text, mean_text, number_text, paired_test_text, signed_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.25, "0.250"), (-1234567.0, "-1234567.000"), (1.7e308, "1.700e+308"), (-2e9, "-2.000e+09")],
)
def test_numbers_stay_short(value: float | None, text: str) -> None:
    assert number_text(value) == text


def test_large_rewards_make_short_lines() -> None:
    assert interval_text((-1e300, 1e300)) == "-1.000e+300 to 1.000e+300"
    assert mean_text(1e12, (0.0, 2e12), 5) == "1.000e+12, 95 % interval 0.000 to 2.000e+12 (5 tasks)"
    assert (signed_text(0.5), signed_text(-0.5), signed_text(0.0), signed_text(None)) == ("+0.500", "-0.500", "+0.000", "-")


def test_a_comparison_without_an_interval_says_why() -> None:
    assert paired_test_text(Comparison(1, 0, 0, difference=0.5)) == "too few tasks for an interval, which needs 5 common ones"
    assert paired_test_text(Comparison(6, 0, 0)) == "the rewards are too large for an interval"
    assert comparison_text(Comparison(0, 1, 2)) == "no task in common; 1 task only in the first, 2 only here"
