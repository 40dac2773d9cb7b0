"""The comparison of runs: their figures, and their rewards task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from openreward_gym.errors import ConfigurationError, OpenRewardGymError
from openreward_gym.reports.statistics import (
    Comparison,
    compare_with_first,
    macro_mean,
    mean,
    mean_bounds,
    passes,
    reward_bounds,
    reward_interval,
)
from openreward_gym.reports.texts import bounds_text, mean_text, paired_test_text
from openreward_gym.store.folder import LocalFolder
from openreward_gym.viewer.answers.selecting import LABEL_COLUMNS, TASK_KEY, with_label
from openreward_gym.viewer.filters import compile_filter
from openreward_gym.viewer.index import JOINED, RunIndex

MAX_RUNS = 10
MAX_TASKS = 50_000
"""The largest number of tasks in a comparison: those in which the runs differ most."""

MAX_ATTEMPTS = 5_000
SOLVED = 1.0
"""The reward from which a rollout passes, as in reports."""


@dataclass(slots=True)
class _Task:
    prompt: str
    environment: str
    index: int | None
    rewards: list[float] = field(default_factory=list)
    missing: int = 0


@dataclass(slots=True)
class RunOfTasks:
    """A run's figures and its tasks, by key."""

    key: str
    figures: dict[str, Any]
    tasks: dict[str, _Task]

    @property
    def rewards(self) -> dict[str, list[float]]:
        return {key: task.rewards for key, task in self.tasks.items() if task.rewards}


def comparison(index: RunIndex, runs: Sequence[str], filter_: str = "") -> dict[str, Any]:
    """Return the runs' figures, their differences from the first, and their rewards task by task.

    Discarded rollouts count too: without the groups that all samples solved, a good run would look worse.

    Args:
        index: The runs.
        runs: The keys of the runs. The first is the one that the others are compared with.
        filter_: A filter that selects rollouts; empty for all.

    Returns:
        `runs`: each run's figures (`RunOfTasks.figures`) and `against_first` (`differences`), None for the first.
        `tasks`, `alone`, `common`: see `tasks_of`.

    Raises:
        ConfigurationError: Fewer than two or more than ten runs are compared, or a run does not exist.
    """
    keys = list(dict.fromkeys(runs))
    if not 2 <= len(keys) <= MAX_RUNS:
        raise ConfigurationError(f"two to {MAX_RUNS} runs can be compared, not {len(keys)}")
    read = [read_run(index, key, filter_) for key in keys]
    against = [None, *differences(read)]
    overview = [{"key": run.key, **run.figures, "against_first": one} for run, one in zip(read, against, strict=True)]
    return {"runs": overview, **tasks_of(read)}


def read_run(index: RunIndex, key: str, filter_: str = "") -> RunOfTasks:
    """Read a run's figures and tasks.

    The figures are means over the recorded values, None without one. The mean reward is over tasks, with `interval` and
    both in words in `reward_text`. `unrewarded` counts rollouts without a reward and `unplayed` the units of a collection
    without a rollout, `bounds` is the mean reward if each had the smallest or the largest reward possible, `bounds_text` says
    so. `pass_at_k` has [k, mean, interval, tasks] for k = 1, 2, 4, ... if a task has several rewards.
    """
    condition = compile_filter(filter_)
    figures = _figures(index, key, condition.text, condition.parameters)
    sql = (
        f"SELECT {TASK_KEY}, r.reward, r.prompt, r.environment, r.task_index FROM {JOINED} "
        f"WHERE r.run = (SELECT run FROM runs WHERE key = ?) AND {condition.text} ORDER BY r.pk"
    )
    tasks: dict[str, _Task] = {}
    for name, reward, *about in index.rows(sql, (key, *condition.parameters)):
        if name not in tasks:
            tasks[name] = _Task(*about)
        if reward is None:
            tasks[name].missing += 1
        else:
            tasks[name].rewards.append(reward)
    run = RunOfTasks(key, figures, tasks)
    by_task = list(run.rewards.values())
    unplayed = 0 if filter_.strip() else _unplayed(index, key)
    interval, bounds = reward_interval(by_task), mean_bounds([(task.rewards, task.missing) for task in tasks.values()], unplayed)
    figures["reward"] = macro_mean(by_task)
    figures["interval"] = interval
    figures["reward_text"] = mean_text(figures["reward"], interval, len(by_task))
    figures["rewarded_tasks"] = len(by_task)
    figures["unrewarded"] = sum(task.missing for task in tasks.values())
    figures["unplayed"] = unplayed
    figures["bounds"], figures["bounds_text"] = bounds, bounds_text(bounds, reward_bounds(by_task))
    rates, _ = passes([(len(rewards), sum(reward >= SOLVED for reward in rewards)) for rewards in by_task])
    figures["pass_at_k"] = [[k, rate.mean, rate.interval, rate.tasks] for k, rate in rates.items()] if len(rates) > 1 else []
    return run


def _figures(index: RunIndex, key: str, condition: str, parameters: Sequence[Any]) -> dict[str, Any]:
    if not index.rows("SELECT 1 FROM runs WHERE key = ?", (key,)):
        raise ConfigurationError(f"there is no run {key[:200]!r}")
    sql = f"""
        SELECT count(*) AS rollouts, coalesce(sum(r.discarded), 0) AS discarded, count(DISTINCT {TASK_KEY}) AS tasks,
            avg(r.tokens) AS tokens, avg(r.turns) AS turns, avg(r.calls) AS calls, avg(r.duration) AS duration,
            coalesce(sum(r.status = 'error'), 0) AS errors
        FROM {JOINED} WHERE r.run = (SELECT run FROM runs WHERE key = ?) AND {condition}"""
    (figures,) = index.records(sql, (key, *parameters))
    return figures


def _unplayed(index: RunIndex, key: str) -> int:
    """Return the number of failed and missing units, which the collector wrote beside the run; 0 if it wrote nothing."""
    folder = index.folder(key)
    if index.rows("SELECT count(*) FROM runs WHERE folder = ?", (str(folder),))[0][0] != 1:
        return 0  # not known of which run
    try:
        coverage = orjson.loads(LocalFolder(folder).read_bytes("coverage.json"))
        return max(0, int(coverage["failed"]) + int(coverage["missing"]))
    except (OSError, ValueError, TypeError, KeyError, OpenRewardGymError):
        return 0


def differences(runs: Sequence[RunOfTasks]) -> list[dict[str, Any]]:
    """Compare each later run with the first, task by task.

    Returns:
        For each: `tasks` (that both have), `only_first`, `only_second`, `difference`, `interval`, `p`, `adjusted_p` (for the
        number of runs, after Holm), `text` (these in words), `wins`, `losses` and `ties` (tasks in which the mean reward is
        higher, lower and equal).
    """
    rewards = [run.rewards for run in runs]
    return [_against(paired, rewards[0], of_run) for paired, of_run in zip(compare_with_first(rewards), rewards[1:], strict=True)]


def _against(paired: Comparison, first: Mapping[str, list[float]], second: Mapping[str, list[float]]) -> dict[str, Any]:
    by_task = [(mean(first[task]), mean(rewards)) for task, rewards in second.items() if task in first]
    wins, losses = sum(b > a for a, b in by_task), sum(b < a for a, b in by_task)
    return {
        "tasks": paired.tasks,
        "only_first": paired.only_first,
        "only_second": paired.only_second,
        "difference": paired.difference,
        "interval": paired.interval,
        "p": paired.p_value if paired.interval is not None else None,
        "adjusted_p": paired.adjusted_p_value,
        "text": paired_test_text(paired) if paired.tasks else "no task in common",
        "wins": wins,
        "losses": losses,
        "ties": len(by_task) - wins - losses,
    }


def tasks_of(runs: Sequence[RunOfTasks]) -> dict[str, Any]:
    """Return the rewards task by task.

    Returns:
        `tasks`: `{"task", "prompt", "environment", "index", "rewards": [mean or None for each run], "counts" (of rewards),
        "spread"}` of the tasks for which several runs have a reward, the widest spread first. `alone`: the same of the tasks
        for which one run has. `common`, `only`: the numbers of all such tasks.
    """
    rows = [_task_row(task, runs) for task in dict.fromkeys(task for run in runs for task in run.rewards)]
    shared = sorted((row for row in rows if sum(map(bool, row["counts"])) > 1), key=lambda row: -row["spread"])
    alone = [row for row in rows if sum(map(bool, row["counts"])) == 1]
    return {"tasks": shared[:MAX_TASKS], "alone": alone[:MAX_TASKS], "common": len(shared), "only": len(alone)}


def _task_row(key: str, runs: Sequence[RunOfTasks]) -> dict[str, Any]:
    tasks = [run.tasks.get(key) for run in runs]
    means = [mean(task.rewards) if task is not None and task.rewards else None for task in tasks]
    known = [value for value in means if value is not None]
    about = next(task for task in tasks if task is not None)
    return {
        "task": key,
        "prompt": about.prompt,
        "environment": about.environment,
        "index": about.index,
        "rewards": means,
        "counts": [len(task.rewards) if task is not None else 0 for task in tasks],
        "spread": max(known) - min(known),
    }


def for_a_file(index: RunIndex, runs: Sequence[str], filter_: str) -> dict[str, Any]:
    """Return what a page without a server needs to compare any of these runs with any other.

    Returns:
        `keys`: the runs' keys. `figures`: the figures of each. `pairs`, `together`: by first and later run, the
        `differences` of these two alone, and of all runs (which the p-values of several are corrected for). `tasks`, `alone`,
        `common`, `only`: as of `tasks_of`.
    """
    read = [read_run(index, key, filter_) for key in runs[:MAX_RUNS]]
    pairs: dict[str, dict[str, Any]] = {}
    together: dict[str, dict[str, Any]] = {}
    for first in read:
        others = [run for run in read if run is not first]
        pairs[first.key] = {run.key: differences([first, run])[0] for run in others}
        if len(others) > 1:
            together[first.key] = {run.key: one for run, one in zip(others, differences([first, *others]), strict=True)}
    figures = {run.key: run.figures for run in read}
    return {"keys": list(figures), "figures": figures, "pairs": pairs, "together": together, **tasks_of(read)}


def attempts(index: RunIndex, task: str) -> list[Any]:
    """Return the cards of all attempts at a task, over all runs, each with its `run`; `task` is a key of `tasks_of`."""
    columns = f"SELECT runs.key, r.card, {LABEL_COLUMNS} FROM {JOINED} WHERE"
    order = f"ORDER BY runs.key, r.step, r.sample, r.pk LIMIT {MAX_ATTEMPTS}"
    rows = index.rows(f"{columns} r.task = ? {order}", (task,)) or index.rows(f"{columns} {TASK_KEY} = ? {order}", (task,))
    return [{**orjson.loads(with_label(*row)), "run": run} for run, *row in rows]
