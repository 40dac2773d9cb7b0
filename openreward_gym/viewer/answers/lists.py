"""Runs, their steps, and lists of rollouts without their text."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import orjson

from openreward_gym.store import Damage
from openreward_gym.viewer.answers.selecting import LABEL_COLUMNS, TASK_KEY, where, with_label
from openreward_gym.viewer.index import JOINED, RunIndex

PAGE_SIZE = 2_000
"""The largest number of rollouts in one page of a list."""


def runs(index: RunIndex) -> dict[str, Any]:
    """Return all runs, and the progress of the index. A run's mean reward is the mean of its tasks' means, as in reports."""
    sql = f"""
        SELECT runs.key, runs.name, runs.folder, runs.ranges, count(*) AS rollouts, sum(r.discarded) AS discarded,
            min(r.step) AS first_step, max(r.step) AS last_step, count(DISTINCT r.step) AS steps,
            means.reward AS reward, max(r.started) AS started,
            group_concat(DISTINCT r.environment) AS environments, group_concat(DISTINCT r.model) AS models,
            count(DISTINCT r.task) AS tasks, sum(r.status = 'error') AS errors
        FROM rollouts r JOIN runs ON runs.run = r.run LEFT JOIN (
            SELECT run, avg(reward) AS reward FROM (
                SELECT r.run AS run, avg(r.reward) AS reward FROM rollouts r GROUP BY r.run, {TASK_KEY}) GROUP BY run
            ) means ON means.run = r.run
        GROUP BY runs.run ORDER BY max(r.started) DESC, runs.key"""
    overview = index.records(sql)
    for run in overview:
        run["ranges"] = orjson.loads(run["ranges"])
        run["metrics"] = metric_names(index, run["key"])
    damage = [{"folder": folder, "lines": count, "first": _place_text(first)} for folder, count, (first, *_) in index.damages()]
    return {"runs": overview, "damage": damage, "progress": index.progress._asdict()}


def _place_text(damage: Damage) -> str:
    # The page names the folder.
    return str(replace(damage, path=os.path.basename(damage.path)))


def metric_names(index: RunIndex, run: str) -> list[str]:
    """Return the names of the run's own metrics, taken from its first and last rollouts."""
    where = "FROM rollouts WHERE run = (SELECT run FROM runs WHERE key = ?) AND metrics != '{}' ORDER BY pk"
    rows = index.rows(f"SELECT * FROM (SELECT metrics {where} LIMIT 50)", (run,))
    rows += index.rows(f"SELECT * FROM (SELECT metrics {where} DESC LIMIT 50)", (run,))
    return list(dict.fromkeys(name for (text,) in rows for name in orjson.loads(text)))


def steps(index: RunIndex, run: str, discarded: bool, filter_: str) -> list[dict[str, Any]]:
    """Return the steps of a run with their figures; `step` is None for rollouts without a step."""
    condition = where(run, discarded, filter_)
    sql = (
        "SELECT r.step AS step, count(*) AS rollouts, count(DISTINCT r.grp) AS groups, avg(r.reward) AS reward "
        f"FROM {JOINED} WHERE {condition.text} GROUP BY r.step"
    )
    return index.records(sql, condition.parameters)


def listing(index: RunIndex, run: str, step: int | None, discarded: bool, filter_: str, offset: int) -> bytes:
    """Return a page of one step's rollouts by group: `{"groups": [{"group", "prompt", "task", "cards": [...]}], "next"}`."""
    condition = where(run, discarded, filter_)
    sql = (
        f"SELECT r.grp, r.prompt, r.task, r.card, {LABEL_COLUMNS} FROM {JOINED} "
        f"WHERE {condition.text} AND r.step IS ? ORDER BY r.task_index, r.grp, r.sample, r.pk LIMIT ? OFFSET ?"
    )
    rows = index.rows(sql, (*condition.parameters, step, PAGE_SIZE + 1, offset))
    groups: list[dict[str, Any]] = []
    for name, prompt, task, *card in rows[:PAGE_SIZE]:
        if not groups or groups[-1]["group"] != name:
            groups.append({"group": name, "prompt": prompt, "task": task, "cards": []})
        groups[-1]["cards"].append(orjson.Fragment(with_label(*card)))
    return orjson.dumps({"groups": groups, "next": offset + PAGE_SIZE if len(rows) > PAGE_SIZE else None})


def group(index: RunIndex, run: str, name: str, step: int | None, discarded: bool) -> list[Any]:
    """Return the cards of one group, by sample."""
    condition = where(run, discarded, "")
    sql = (
        f"SELECT r.card, {LABEL_COLUMNS} FROM {JOINED} WHERE {condition.text} AND r.grp = ? AND r.step IS ? "
        "ORDER BY r.sample, r.pk LIMIT 500"
    )
    return [orjson.loads(with_label(*row)) for row in index.rows(sql, (*condition.parameters, name, step))]


def others_of(index: RunIndex, run: str, rollout_id: str) -> list[str]:
    """Return the ids of the other rollouts of a rollout's group, at most 100."""
    sql = (
        "SELECT o.id FROM rollouts r JOIN runs ON runs.run = r.run JOIN rollouts o ON o.run = r.run AND o.grp = r.grp "
        "AND o.pk != r.pk WHERE runs.key = ? AND r.id = ? ORDER BY o.sample, o.pk LIMIT 100"
    )
    return [other for (other,) in index.rows(sql, (run, rollout_id))]


def task(index: RunIndex, name: str) -> list[Any]:
    """Return the cards of all attempts at a task, over all runs and steps, in the order in which they started."""
    sql = (
        f"SELECT runs.key, r.card, {LABEL_COLUMNS}, r.started FROM {JOINED} WHERE r.task = ? "
        "ORDER BY r.started, r.step, r.sample LIMIT 20000"
    )
    return [{**orjson.loads(with_label(*row)), "run": run, "started": started} for run, *row, started in index.rows(sql, (name,))]
