"""A run in which a fifth of the requests fail, in all ways of the fault matrix, has the same coverage and rewards."""

from __future__ import annotations

from pathlib import Path

from collectors import once_each
from fault_server import running
from troubled import STEPS, TASKS, Trouble, play

from openreward_gym.collect import CollectionResult
from openreward_gym.collect.progress import Reporter

REPEATS = 16


def rewards(result: CollectionResult) -> list[list[float | None]]:
    """Return the rewards of each rollout's tool results."""
    return sorted([message.reward for message in rollout.messages if message.role == "tool"] for rollout in result.store)


def test_a_run_through_all_faults(tmp_path: Path) -> None:
    for name in ("clean", "troubled"):
        (tmp_path / name).mkdir()
    with running() as server:
        clean = play(server, tmp_path / "clean", Reporter(), REPEATS)
    with running() as server:
        report = Reporter()
        trouble = Trouble(server, 7, report)
        result = play(server, tmp_path / "troubled", report, REPEATS)
    assert 0.15 < trouble.spoiled / trouble.asked < 0.25
    assert result.coverage == clean.coverage
    assert result.coverage.successful == result.coverage.expected == TASKS * REPEATS == once_each(result.store)
    # Every reward is the server's: as many as there were steps, each what a clean step gives.
    assert rewards(result) == rewards(clean)
    for rollout in result.store:
        assert (rollout.status, rollout.stop_reason) == ("truncated", "max_steps")
        assert [turn.role for turn in rollout.turns] == ["assistant"] * STEPS
    failures = list(result.store.failures())
    assert failures
    for failure in failures:
        assert failure.source == "environment"
        assert failure.stage in ("open", "call")
        assert failure.exception
