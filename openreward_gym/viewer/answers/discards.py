"""The catalogue of discarded rollouts: how many, why, and the groups that gave no signal."""

from __future__ import annotations

import re
from typing import Any

from openreward_gym.viewer.answers.selecting import of_run, tables
from openreward_gym.viewer.filters import Sql, metric_column
from openreward_gym.viewer.index import RunIndex

_OFF_POLICY = re.compile(r"off.?policy|stale|policy.?lag|version.?lag|policy.?age", re.IGNORECASE)
MAX_METRICS = 6


def discards(index: RunIndex, run: str, step: int | None, filter_: str) -> dict[str, Any]:
    """Return the figures of a step's and of the whole run's rollouts, kept and discarded, as `step` and `run`.

    Each has `rollouts`, `discarded`, `reasons` (`[reason, count]`, the most frequent first), `groups` (those of more than one
    rollout with a reward) with `same_reward` (all rewards equal), `all_zero` and `all_one` of them, and `off_policy`: for each
    metric that tells how old the policy was its `name` and its means over kept and discarded rollouts.
    """
    names = [name for (name,) in index.rows(
        "SELECT m.name FROM metrics m JOIN runs ON runs.run = m.run WHERE runs.key = ? ORDER BY m.metric", (run,))
        if _OFF_POLICY.search(name)][:MAX_METRICS]  # fmt: skip
    return {
        "step": _figures(index, of_run(run, filter_, step), names),
        "run": _figures(index, of_run(run, filter_), names),
    }


def _figures(index: RunIndex, condition: Sql, names: list[str]) -> dict[str, Any]:
    rows = f"FROM {tables(condition)} WHERE {condition.text}"
    ((rollouts, discarded),) = index.rows(f"SELECT count(*), sum(r.discarded) {rows}", condition.parameters)
    reasons = index.rows(
        f"SELECT r.discard, count(*) {rows} AND r.discarded GROUP BY r.discard ORDER BY 2 DESC, 1", condition.parameters
    )
    inner = f"SELECT min(r.reward) AS low, max(r.reward) AS high, count(r.reward) AS n {rows} GROUP BY r.step, r.grp"
    groups, same, zero, one = index.rows(
        f"SELECT count(*), sum(low = high), sum(high = 0 AND low = 0), sum(low = 1 AND high = 1) FROM ({inner}) WHERE n > 1",
        condition.parameters,
    )[0]
    return {
        "rollouts": rollouts,
        "discarded": discarded or 0,
        "reasons": [list(row) for row in reasons],
        "groups": groups,
        "same_reward": same or 0,
        "all_zero": zero or 0,
        "all_one": one or 0,
        "off_policy": [{"name": name, **_by_fate(index, condition, name)} for name in names],
    }


def _by_fate(index: RunIndex, condition: Sql, name: str) -> dict[str, Any]:
    column = metric_column(name)
    sql = f"SELECT r.discarded, avg({column.text}) FROM {tables(condition)} WHERE {condition.text} GROUP BY r.discarded"
    means = dict(index.rows(sql, (*column.parameters, *condition.parameters)))
    return {"kept": means.get(0), "discarded": means.get(1)}
