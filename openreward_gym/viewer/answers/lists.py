"""Runs, their steps, and lists of rollouts without their text."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import orjson

from openreward_gym.reports.statistics import macro_mean, reward_interval
from openreward_gym.reports.texts import mean_text
from openreward_gym.store import Damage
from openreward_gym.viewer.answers.ordering import order_of
from openreward_gym.viewer.answers.selecting import LABEL_COLUMNS, TASK_KEY, Steps, of_run, tables, where, with_label
from openreward_gym.viewer.filters import compile_filter
from openreward_gym.viewer.index import JOINED, RunIndex

PAGE_SIZE = 2_000
"""The largest number of rollouts in one page of a list."""


_RUNS = """
    SELECT runs.key, runs.name, runs.folder, runs.ranges, count(*) AS rollouts, sum(r.discarded) AS discarded,
        min(r.step) AS first_step, max(r.step) AS last_step, count(DISTINCT r.step) AS steps,
        means.reward AS reward, max(r.started) AS started,
        group_concat(DISTINCT r.environment) AS environments, group_concat(DISTINCT r.model) AS models,
        count(DISTINCT r.task_key) AS tasks, sum(r.status = 'error') AS errors, sum(r.status = 'running') AS running,
        avg(r.tokens) AS tokens, sum(r.cost) AS cost, avg(r.duration) AS duration
    FROM {joined} LEFT JOIN (
        SELECT run, avg(reward) AS reward FROM (
            SELECT r.run AS run, avg(r.reward) AS reward FROM {tables} WHERE {condition} GROUP BY r.run, r.task_key) GROUP BY run
        ) means ON means.run = r.run
    WHERE {condition} GROUP BY runs.run ORDER BY max(r.started) DESC, runs.key"""


def runs(index: RunIndex, filter_: str = "") -> dict[str, Any]:
    """Return all runs, and the progress of the index. With a filter the figures are those of the rollouts that match it.

    A run's mean reward is the mean of its tasks' means over all rollouts, discarded ones included, as in reports. `observed` is
    the number of values and the range of each metric.
    """
    condition = compile_filter(filter_)
    joined = JOINED if "l." in condition.text else "rollouts r JOIN runs ON runs.run = r.run"
    sql = _RUNS.format(joined=joined, tables=tables(condition), condition=condition.text)
    overview = index.records(sql, (*condition.parameters, *condition.parameters))
    catalogue = index.rows(
        "SELECT runs.key, m.name, m.count, m.low, m.high FROM metrics m JOIN runs ON runs.run = m.run ORDER BY metric"
    )
    observed: dict[str, dict[str, Any]] = {}
    for key, name, count, low, high in catalogue:
        observed.setdefault(key, {})[name] = {"count": count, "min": low, "max": high}
    for run in overview:
        run["ranges"] = orjson.loads(run["ranges"])
        run["observed"] = observed.get(run["key"], {})
        run["metrics"] = list(run["observed"])
    damage = [{"folder": folder, "lines": count, "first": _place_text(first)} for folder, count, (first, *_) in index.damages()]
    return {"runs": overview, "damage": damage, "progress": index.progress._asdict()}


def intervals(index: RunIndex, filter_: str = "") -> dict[str, dict[str, Any]]:
    """Return of each run the 95 % interval of its mean reward, None with fewer than five tasks, and both in words."""
    condition = compile_filter(filter_)
    rewards: dict[str, dict[str, list[float]]] = {}
    joined = JOINED if "l." in condition.text else "rollouts r JOIN runs ON runs.run = r.run"
    sql = f"SELECT runs.key, {TASK_KEY}, r.reward FROM {joined} WHERE r.reward IS NOT NULL AND {condition.text}"
    for run, task, reward in index.rows(sql, condition.parameters):
        rewards.setdefault(run, {}).setdefault(task, []).append(reward)
    answer = {}
    for run, tasks in rewards.items():
        by_task = list(tasks.values())
        interval = reward_interval(by_task)
        answer[run] = {"interval": interval, "text": mean_text(macro_mean(by_task), interval, len(by_task))}
    return answer


def _place_text(damage: Damage) -> str:
    # The page names the folder.
    return str(replace(damage, path=os.path.basename(damage.path)))


def steps(index: RunIndex, run: str, discarded: bool, filter_: str) -> list[dict[str, Any]]:
    """Return the steps of a run with their figures; `step` is None for rollouts without a step.

    A step in which all rollouts were discarded is a step, too: `rollouts` counts all, `kept` and `discarded` the parts, and
    `groups` the groups of the part that is asked for. `reward` is the mean of the tasks' means over all rollouts.
    """
    condition = of_run(run, filter_)
    inner = (
        f"SELECT r.step AS step, count(*) AS rollouts, sum(r.discarded) AS discarded, avg(r.reward) AS reward "
        f"FROM {tables(condition)} WHERE {condition.text} GROUP BY r.step, {TASK_KEY}"
    )
    sql = (
        "SELECT step, sum(rollouts) AS rollouts, sum(rollouts) - sum(discarded) AS kept, sum(discarded) AS discarded, "
        f"avg(reward) AS reward FROM ({inner}) GROUP BY step"
    )
    part = where(run, discarded, filter_)
    counted = f"SELECT r.step, count(DISTINCT r.grp) FROM {tables(part)} WHERE {part.text} GROUP BY r.step"
    groups = dict(index.rows(counted, part.parameters))
    return [{**step, "groups": groups.get(step["step"], 0)} for step in index.records(sql, condition.parameters)]


def listing(
    index: RunIndex, run: str, step: Steps, discarded: bool, filter_: str, offset: int, *,
    sort: str = "", flat: bool = False, limit: int | None = None,
) -> bytes:  # fmt: skip
    """Return a page of the rollouts of one step, or of all steps, by group.

    Args:
        index: The runs.
        run: The run's key.
        step: The step; None for rollouts without a step, `...` for all steps.
        discarded: Whether to list the discarded rollouts, not the kept ones.
        filter_: A filter that selects rollouts; empty for all.
        offset: The number of rollouts before the page.
        sort: A field or metric, with `-` before it from the largest on; empty for the order of tasks, groups and samples.
        flat: Whether rollouts are sorted without regard to their groups.
        limit: The largest number of rollouts of the page; at most `PAGE_SIZE`, as without one.

    Returns:
        `groups`: `{"group", "prompt", "task", "cards": [...]}`; the page's first and last group may have cards on other pages.
        `next`: the offset of the next page; None at the end. `rollouts`: their number on all pages. `sizes`: the sizes of all
        groups in order, as `[size, number of groups]`; with `flat` empty.
    """
    order = order_of(index, run, step, discarded, filter_, sort, flat)
    size = min(limit or PAGE_SIZE, PAGE_SIZE)
    wanted = order.keys[offset : offset + size].tolist()
    keys = ",".join("?" * len(wanted))
    sql = f"SELECT r.pk, r.grp, r.prompt, r.task, r.card, {LABEL_COLUMNS} FROM {JOINED} WHERE r.pk IN ({keys})"
    rows = {pk: row for pk, *row in index.rows(sql, wanted)}
    groups: list[dict[str, Any]] = []
    for name, prompt, task, *card in (rows[pk] for pk in wanted if pk in rows):
        if not groups or groups[-1]["group"] != name:
            groups.append({"group": name, "prompt": prompt, "task": task, "cards": []})
        groups[-1]["cards"].append(orjson.Fragment(with_label(*card)))
    total = len(order.keys)
    page = {"groups": groups, "next": offset + size if offset + size < total else None, "rollouts": total, "sizes": order.sizes}
    return orjson.dumps({**page, "offset": offset})


def position(
    index: RunIndex, run: str, step: Steps, discarded: bool, filter_: str, *, sort: str, flat: bool, rollout_id: str
) -> dict[str, Any]:
    """Return the number of rollouts before this one in the list: `{"position": number}`, None if the list does not have it."""
    order = order_of(index, run, step, discarded, filter_, sort, flat)
    pk = index.rows("SELECT pk FROM rollouts WHERE run = (SELECT run FROM runs WHERE key = ?) AND id = ?", (run, rollout_id))
    return {"position": order.keys.index(pk[0][0]) if pk and pk[0][0] in order.keys else None}


def ids(
    index: RunIndex, run: str, step: Steps, discarded: bool, filter_: str, *, sort: str = "", flat: bool = False
) -> list[str]:
    """Return the ids of all rollouts of a list, in its order."""
    order = order_of(index, run, step, discarded, filter_, sort, flat)
    known = dict(index.rows("SELECT pk, id FROM rollouts WHERE run = (SELECT run FROM runs WHERE key = ?)", (run,)))
    return [known[pk] for pk in order.keys if pk in known]


def steps_of_group(index: RunIndex, run: str, name: str) -> list[dict[str, Any]]:
    """Return the steps in which a run has this group: `{"step", "kept", "discarded"}`, the last step first."""
    sql = (
        "SELECT r.step AS step, sum(NOT r.discarded) AS kept, sum(r.discarded) AS discarded FROM rollouts r "
        "WHERE r.run = (SELECT run FROM runs WHERE key = ?) AND r.grp = ? GROUP BY r.step ORDER BY r.step DESC"
    )
    return index.records(sql, (run, name))


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
