"""The comparison of runs: their figures, and the tasks in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.reports.statistics import Comparison, compare_with_first, macro_mean, mean, reward_interval
from openreward_gym.reports.texts import mean_text, paired_test_text
from openreward_gym.viewer.answers.selecting import TASK_KEY
from openreward_gym.viewer.index import RunIndex

MAX_RUNS = 10
MAX_TASKS = 300
"""The largest number of tasks in a comparison: those in which the runs differ most."""


def comparison(index: RunIndex, runs: Sequence[str]) -> dict[str, Any]:
    """Return the runs' figures, their differences from the first, and the tasks in which they differ.

    Discarded rollouts count too: without the groups that all samples solved, a good run would look worse.

    Returns:
        `runs`: each run's figures (means over the recorded values, None without one; the mean reward is over tasks, with
        `reward_text`, its interval in words) and `against_first`: `{"tasks", "difference", "interval", "p", "adjusted_p",
        "text"}`, None for the first. `tasks`: `{"task", "prompt", "environment", "index", "rewards":
        [mean or None for each run], "counts", "spread"}`, the widest spread first. `common`: the number of tasks that more
        than one run has.

    Raises:
        ConfigurationError: Fewer than two or more than ten runs are compared, or a run does not exist.
    """
    keys = list(dict.fromkeys(runs))
    if not 2 <= len(keys) <= MAX_RUNS:
        raise ConfigurationError(f"two to {MAX_RUNS} runs can be compared, not {len(keys)}")
    overview = [{"key": key, **_figures(index, key)} for key in keys]
    rewards = [_rewards(index, key) for key in keys]
    for run, of_run, paired in zip(overview, rewards, [None, *compare_with_first(rewards)], strict=True):
        by_task = list(of_run.values())
        run["reward"] = macro_mean(by_task)
        run["reward_text"] = mean_text(run["reward"], reward_interval(by_task), len(by_task))
        run["against_first"] = None if paired is None else _against(paired)
    common = [task for task in dict.fromkeys(t for r in rewards for t in r) if sum(task in r for r in rewards) > 1]
    rows = sorted((_task_row(task, rewards) for task in common), key=lambda row: -row["spread"])[:MAX_TASKS]
    for row in rows:
        sql = "SELECT prompt, environment, task_index AS 'index' FROM rollouts WHERE task = ? LIMIT 1"
        # A task without an id is known by its split and index only.
        row.update(next(iter(index.records(sql, (row["task"],))), {"prompt": "", "environment": "", "index": None}))
    return {"runs": overview, "tasks": rows, "common": len(common)}


def _figures(index: RunIndex, key: str) -> dict[str, Any]:
    sql = """
        SELECT count(*) AS rollouts, sum(r.discarded) AS discarded, count(DISTINCT r.task) AS tasks,
            avg(r.tokens) AS tokens, avg(r.turns) AS turns, avg(r.calls) AS calls, avg(r.duration) AS duration,
            sum(r.status = 'error') AS errors FROM rollouts r JOIN runs ON runs.run = r.run WHERE runs.key = ?"""
    (figures,) = index.records(sql, (key,))
    if not figures["rollouts"]:
        raise ConfigurationError(f"there is no run {key[:200]!r}")
    return figures


def _rewards(index: RunIndex, key: str) -> dict[str, list[float]]:
    sql = (
        f"SELECT {TASK_KEY}, r.reward FROM rollouts r JOIN runs ON runs.run = r.run "
        "WHERE runs.key = ? AND r.reward IS NOT NULL ORDER BY r.pk"
    )
    rewards: dict[str, list[float]] = {}
    for task, reward in index.rows(sql, (key,)):
        rewards.setdefault(task, []).append(reward)
    return rewards


def _against(paired: Comparison) -> dict[str, Any]:
    return {
        "tasks": paired.tasks,
        "difference": paired.difference,
        "interval": paired.interval,
        "p": paired.p_value if paired.interval is not None else None,
        "adjusted_p": paired.adjusted_p_value,
        "text": paired_test_text(paired) if paired.tasks else "no task in common",
    }


def _task_row(task: str, rewards: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    means = [mean(of_run[task]) if task in of_run else None for of_run in rewards]
    known = [value for value in means if value is not None]
    return {
        "task": task,
        "rewards": means,
        "counts": [len(of_run.get(task, ())) for of_run in rewards],
        "spread": max(known) - min(known),
    }
