"""pass@k and pass^k against a count of all choices; comparisons against known values."""

from __future__ import annotations

from itertools import combinations

import pytest

from openreward_gym.reports.statistics import compare, mean, median, pass_at_k, pass_hat_k
from openreward_gym.reports.summary import summarize
from openreward_gym.types import Message, Rollout, Task, ToolMessage


@pytest.mark.parametrize(("n", "c"), [(1, 0), (1, 1), (5, 2), (6, 6), (7, 0), (8, 3)])
def test_passes_are_shares_of_all_choices(n: int, c: int) -> None:
    samples = [1] * c + [0] * (n - c)
    for k in range(1, n + 1):
        choices = list(combinations(samples, k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(any(choice) for choice in choices) / len(choices))
        assert pass_hat_k(n, c, k) == pytest.approx(sum(all(choice) for choice in choices) / len(choices))


def test_a_comparison_is_by_common_tasks() -> None:
    first = {str(n): [0.0, 1.0] for n in range(20)} | {"mine": [1.0]}
    second = {str(n): [1.0] for n in range(20)} | {"empty": []}
    comparison = compare(first, second)
    assert (comparison.tasks, comparison.only_first, comparison.only_second) == (20, 1, 1)
    assert (comparison.first, comparison.second, comparison.difference) == (0.5, 1.0, 0.5)
    assert comparison.interval is not None
    assert 0 < comparison.interval[0] < 0.5 < comparison.interval[1] < 1
    assert comparison.p_value is not None
    assert comparison.p_value < 0.01
    assert compare(first, second) == comparison


def test_a_summary_has_passes_and_tools() -> None:
    def rollout(task: str, reward: float | None, error: bool) -> Rollout:
        times = {"started_at": "2026-01-01T00:00:00+00:00", "ended_at": "2026-01-01T00:00:02+00:00"}
        calls: list[Message] = [ToolMessage(name="bash", is_error=error, **times), ToolMessage(name="look")]
        return Rollout(status="completed", task=Task(id=task), reward=reward, messages=calls)

    summary = summarize([rollout("a", 1.0, False), rollout("a", 0.0, True), rollout("b", 1.0, False), rollout("b", 1.0, False)])
    assert summary.pass_at_k == {1: 0.75, 2: 1.0}
    assert summary.pass_hat_k == {1: 0.75, 2: 0.5}
    bash, look = summary.tools
    assert (bash.name, bash.calls, bash.errors, bash.mean_duration_s) == ("bash", 4, 1, 2.0)
    assert (look.name, look.calls, look.mean_duration_s) == ("look", 4, None)
    assert "pass@k: 1: 0.750, 2: 1.000" in summary.to_text()
    assert "tool bash: 4 calls, 1 error, 2.000 s each" in summary.to_text()


def test_rewards_whose_sum_is_beyond_every_float_have_a_mean() -> None:
    assert mean([1.7e308, 1.7e308, -1e308]) == pytest.approx(0.8e308)
    assert median([1.6e308, 1.7e308]) == pytest.approx(1.65e308)
    assert median([1.0, 2.0, 4.0]) == 2.0
    with pytest.raises(ValueError, match="empty"):
        mean([])
    summary = summarize(
        [Rollout(id=str(n), run="r", status="completed", reward=reward) for n, reward in enumerate([1.7e308, 1.7e308, 1.6e308])]
    )
    assert summary.mean_reward == pytest.approx(1.6666666e308)
