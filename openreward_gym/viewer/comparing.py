"""Runs against each other, task by task: what the page `compare` shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.reports.statistics import Comparison, compare, mean
from openreward_gym.viewer.index import RunIndex

MAX_RUNS = 10
MAX_TASKS = 300
"""Tasks that are listed: those in which the runs differ most."""

_RESAMPLED = 1000
_FIGURES = ("rollouts", "discarded", "tasks", "reward", "tokens", "turns", "calls", "duration", "errors")


def comparison(index: RunIndex, runs: Sequence[str]) -> dict[str, Any]:
    """The runs' figures, their differences from the first, and the tasks in which they differ.

    All rollouts with a reward count, discarded ones too: to leave out groups in which all was solved would make a good
    run look worse.

    Returns:
        `runs`: for each its figures (means of what was recorded; None where nothing was) and `against_first`, see
        `openreward_gym.reports.statistics.Comparison`, None for the first. `tasks`: `{"task", "prompt", "environment",
        "index", "rewards": [mean or None for each run], "counts", "spread"}`, the widest spread first. `common`: how many
        tasks more than one of the runs has.

    Raises:
        ConfigurationError: Fewer than two or more than ten runs, or one that there is not.
    """
    keys = list(dict.fromkeys(runs))
    if not 2 <= len(keys) <= MAX_RUNS:
        raise ConfigurationError(f"two to {MAX_RUNS} runs are compared, not {len(keys)}")
    told = [{"key": key, **_figures(index, key)} for key in keys]
    rewards = [_rewards(index, key) for key in keys]
    for run, of_run in zip(told, rewards, strict=True):
        run["against_first"] = None if run is told[0] else _difference(rewards[0], of_run)
    common = [task for task in dict.fromkeys(t for r in rewards for t in r) if sum(task in r for r in rewards) > 1]
    rows = [_task_row(task, rewards) for task in common]
    rows.sort(key=lambda row: -row["spread"])
    del rows[MAX_TASKS:]
    for row in rows:
        row.update(_about(index, row["task"]))
    return {"runs": told, "tasks": rows, "common": len(common)}


def _figures(index: RunIndex, key: str) -> dict[str, Any]:
    sql = """
        SELECT count(*), sum(r.discarded), count(DISTINCT r.task), avg(r.reward), avg(r.tokens), avg(r.turns), avg(r.calls),
            avg(r.duration), sum(r.status = 'error') FROM rollouts r JOIN runs ON runs.run = r.run WHERE runs.key = ?"""
    figures = dict(zip(_FIGURES, index.rows(sql, (key,))[0], strict=True))
    if not figures["rollouts"]:
        raise ConfigurationError(f"there is no run {key[:200]!r}")
    return figures


def _rewards(index: RunIndex, key: str) -> dict[str, list[float]]:
    sql = (
        "SELECT r.task, r.reward FROM rollouts r JOIN runs ON runs.run = r.run "
        "WHERE runs.key = ? AND r.task != '' AND r.reward IS NOT NULL ORDER BY r.pk"
    )
    found: dict[str, list[float]] = {}
    for task, reward in index.rows(sql, (key,)):
        found.setdefault(task, []).append(reward)
    return found


def _difference(first: Mapping[str, Sequence[float]], second: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    common = [task for task in first if task in second]
    # With very many tasks the mean's distribution is the normal one, and resampling would take seconds.
    found = compare(first, second) if len(common) <= _RESAMPLED else _normal(first, second, common)
    return {"tasks": found.tasks, "difference": found.difference, "interval": found.interval, "p": found.p_value}


def _normal(first: Mapping[str, Sequence[float]], second: Mapping[str, Sequence[float]], common: Sequence[str]) -> Comparison:
    pairs = [(mean(first[task]), mean(second[task])) for task in common]
    differences = [b - a for a, b in pairs]
    middle = mean(differences)
    error = math.sqrt(mean((d - middle) ** 2 for d in differences) / (len(common) - 1))
    p_value = math.erfc(abs(middle) / error / math.sqrt(2)) if error else float(middle == 0)
    return Comparison(
        len(common), len(first) - len(common), len(second) - len(common), mean(a for a, _ in pairs), mean(b for _, b in pairs),
        middle, (middle - 1.96 * error, middle + 1.96 * error), p_value,
    )  # fmt: skip


def _task_row(task: str, rewards: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    means = [mean(of_run[task]) if task in of_run else None for of_run in rewards]
    known = [value for value in means if value is not None]
    return {
        "task": task,
        "rewards": means,
        "counts": [len(of_run.get(task, ())) for of_run in rewards],
        "spread": max(known) - min(known),
    }


def _about(index: RunIndex, task: str) -> dict[str, Any]:
    sql = "SELECT prompt, environment, task_index FROM rollouts WHERE task = ? LIMIT 1"
    prompt, environment, number = index.rows(sql, (task,))[0]
    return {"prompt": prompt, "environment": environment, "index": number}
