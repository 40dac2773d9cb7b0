"""The answers to the page's requests: lists without text, figures by step, comparisons, one rollout at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from openreward_gym.errors import ConfigurationError
from openreward_gym.reports.statistics import Comparison, compare_with_first, macro_mean, mean, reward_interval
from openreward_gym.reports.texts import mean_text, paired_test_text
from openreward_gym.store import Damage
from openreward_gym.types.rollout import Rollout
from openreward_gym.viewer.filters import NUMBERS, TEXTS, Completion, Sql, compile_filter, complete, metric_column
from openreward_gym.viewer.index import JOINED, RunIndex

PAGE_SIZE = 2_000
"""The largest number of rollouts in one page of a list."""

BINS = 24
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BUILT_IN_METRICS = {
    "reward": "reward", "advantage": "advantage", "tokens": "tokens", "steps": "turns", "calls": "calls", "errors": "errors",
    "duration": "duration", "cost": "cost",
}  # fmt: skip
MAX_RUNS = 10
MAX_TASKS = 300
"""The largest number of tasks in a comparison: those in which the runs differ most."""

# The same as `openreward_gym.reports.statistics.task_key`, so that the page and the reports count the same tasks.
_TASK_KEY = (
    "CASE WHEN r.task != '' THEN r.task WHEN r.task_index IS NOT NULL "
    "THEN r.environment || '/' || coalesce(r.split, 'None') || '/' || r.task_index "
    "WHEN r.grp != r.id THEN r.grp ELSE 'rollout ' || r.id END"
)
_LABEL_COLUMNS = "l.rating, l.tags, l.note IS NOT NULL AND l.note != ''"


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
                SELECT r.run AS run, avg(r.reward) AS reward FROM rollouts r GROUP BY r.run, {_TASK_KEY}) GROUP BY run
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
    condition = _where(run, discarded, filter_)
    sql = (
        "SELECT r.step AS step, count(*) AS rollouts, count(DISTINCT r.grp) AS groups, avg(r.reward) AS reward "
        f"FROM {JOINED} WHERE {condition.text} GROUP BY r.step"
    )
    return index.records(sql, condition.parameters)


def listing(index: RunIndex, run: str, step: int | None, discarded: bool, filter_: str, offset: int) -> bytes:
    """Return a page of one step's rollouts by group: `{"groups": [{"group", "prompt", "task", "cards": [...]}], "next"}`."""
    condition = _where(run, discarded, filter_)
    sql = (
        f"SELECT r.grp, r.prompt, r.task, r.card, {_LABEL_COLUMNS} FROM {JOINED} "
        f"WHERE {condition.text} AND r.step IS ? ORDER BY r.task_index, r.grp, r.sample, r.pk LIMIT ? OFFSET ?"
    )
    rows = index.rows(sql, (*condition.parameters, step, PAGE_SIZE + 1, offset))
    groups: list[dict[str, Any]] = []
    for name, prompt, task, *card in rows[:PAGE_SIZE]:
        if not groups or groups[-1]["group"] != name:
            groups.append({"group": name, "prompt": prompt, "task": task, "cards": []})
        groups[-1]["cards"].append(orjson.Fragment(_with_label(*card)))
    return orjson.dumps({"groups": groups, "next": offset + PAGE_SIZE if len(rows) > PAGE_SIZE else None})


def _with_label(card: str, rating: int | None, tags: str | None, noted: int) -> bytes:
    if rating is None and tags is None:
        return card.encode()
    label = {"rating": rating, "tags": orjson.loads(tags or "[]"), "noted": bool(noted)}
    return card[:-1].encode() + b',"label":' + orjson.dumps(label) + b"}"


def rollout(index: RunIndex, run: str, rollout_id: str) -> bytes:
    """Return a rollout as it was written: `{"run", "place", "label", "rollout"}`.

    Raises:
        NotFoundError: The index does not have the rollout.
        StoreError: The file cannot be read.
        RecordError: The line is not a valid rollout.
    """
    line = index.read(index.find(run, rollout_id))
    record = Rollout.from_line(line)  # validates the types that the page relies on
    sql = f"SELECT r.step, r.grp, r.discarded, l.rating, l.tags, l.note FROM {JOINED} WHERE runs.key = ? AND r.id = ?"
    step, group, discarded, rating, tags, note = index.rows(sql, (run, rollout_id))[0]
    try:
        orjson.loads(line)
    except ValueError:
        line = record.to_line().encode("utf-8", "backslashreplace")
    return orjson.dumps({
        "run": run,
        "place": {"step": step, "group": group, "discarded": bool(discarded)},
        "label": {"rating": rating, "tags": orjson.loads(tags or "[]"), "note": note or ""},
        "rollout": orjson.Fragment(line),
    })  # fmt: skip


def group(index: RunIndex, run: str, name: str, step: int | None, discarded: bool) -> list[Any]:
    """Return the cards of one group, by sample."""
    condition = _where(run, discarded, "")
    sql = (
        f"SELECT r.card, {_LABEL_COLUMNS} FROM {JOINED} WHERE {condition.text} AND r.grp = ? AND r.step IS ? "
        "ORDER BY r.sample, r.pk LIMIT 500"
    )
    return [orjson.loads(_with_label(*row)) for row in index.rows(sql, (*condition.parameters, name, step))]


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
        f"SELECT runs.key, r.card, {_LABEL_COLUMNS}, r.started FROM {JOINED} WHERE r.task = ? "
        "ORDER BY r.started, r.step, r.sample LIMIT 20000"
    )
    return [
        {**orjson.loads(_with_label(*row)), "run": run, "started": started} for run, *row, started in index.rows(sql, (name,))
    ]


def series(index: RunIndex, run: str, metric: str, filter_: str) -> dict[str, Any]:
    """Return a metric over the steps of a run: count, mean, std, min, max and quantiles, each a list parallel to `steps`."""
    rows = _values(index, run, metric, filter_, "r.step IS NOT NULL")
    names = ["count", "mean", "std", "min", "max", *(f"p{round(100 * q):02d}" for q in QUANTILES)]
    result: dict[str, Any] = {"run": run, "metric": metric, "steps": [], **{name: [] for name in names}}
    if not len(rows):
        return result
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    numbers, starts = np.unique(rows[:, 0], return_index=True)
    for number, values in zip(numbers, np.split(rows[:, 1], starts[1:]), strict=True):
        result["steps"].append(int(number))
        figures = [len(values), values.mean(), values.std(), values.min(), values.max(), *np.quantile(values, QUANTILES)]
        for name, figure in zip(names, figures, strict=True):
            result[name].append(_rounded(float(figure)))
    return result


def histogram(index: RunIndex, run: str, metric: str, filter_: str, step: int | None, every: bool) -> dict[str, Any]:
    """Return a metric's histogram over the rollouts of one step or of all steps: `counts`, and one more `edges`."""
    condition = "1" if every else "r.step IS " + ("NULL" if step is None else str(int(step)))
    rows = _values(index, run, metric, filter_, condition)
    if not len(rows):
        return {"run": run, "metric": metric, "edges": [], "counts": []}
    counts, edges = np.histogram(rows[:, 1], bins=BINS)
    return {"run": run, "metric": metric, "edges": [_rounded(float(e)) for e in edges], "counts": [int(c) for c in counts]}


def _values(index: RunIndex, run: str, metric: str, filter_: str, condition: str) -> Any:
    where = _where(run, False, filter_)
    column = Sql(f"r.{BUILT_IN_METRICS[metric]}") if metric in BUILT_IN_METRICS else metric_column(metric.removeprefix("metric."))
    selection = f"{where.text} AND {condition} AND value IS NOT NULL"
    sql = f"SELECT coalesce(r.step, 0), {column.text} AS value FROM {JOINED} WHERE {selection}"
    rows = index.rows(sql, (*column.parameters, *where.parameters))
    return np.array(rows, dtype=float).reshape(-1, 2)


def _rounded(number: float) -> float | None:
    return float(f"{number:.6g}") if math.isfinite(number) else None


def completion(index: RunIndex, run: str, text: str, cursor: int) -> dict[str, Any]:
    """Return suggestions for the next word of a filter; values of a field come from the index."""
    result = complete(text, cursor, metric_names(index, run))
    suggestions: Iterable[tuple[str, str]] = result.suggestions
    if result.kind == "value":
        suggestions = _suggested_values(index, run, result, text[result.start : cursor])
    return {"start": result.start, "kind": result.kind, "suggestions": [list(pair) for pair in suggestions][:40]}


def _suggested_values(index: RunIndex, run: str, completion: Completion, typed: str) -> Sequence[tuple[str, str]]:
    field = completion.field.lower()
    if field in {"tool", "label"}:
        column = "r.tools" if field == "tool" else "l.tags"
        sql = f"SELECT DISTINCT value FROM {JOINED}, json_each({column}) WHERE runs.key = ? LIMIT 200"
    elif field in TEXTS:
        names = {"group": "r.grp", "note": "l.note"}
        sql = f"SELECT DISTINCT {names.get(field, 'r.' + field)} FROM {JOINED} WHERE runs.key = ? LIMIT 200"
    elif field in NUMBERS:
        return [("none", "not recorded")]
    else:
        return []
    prefix = typed.lstrip("\"'").lower()
    values = sorted(str(value) for (value,) in index.rows(sql, (run,)) if value is not None)
    return [(orjson.dumps(value).decode(), "") for value in values if value.lower().startswith(prefix) and len(value) <= 80]


def _where(run: str, discarded: bool, filter_: str) -> Sql:
    # The run is selected by its number, not its key, so that SQLite uses the index that has the order of the lists.
    condition = compile_filter(filter_)
    text = f"r.run = (SELECT run FROM runs WHERE key = ?) AND r.discarded = ? AND {condition.text}"
    return Sql(text, (run, int(discarded), *condition.parameters))


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
        f"SELECT {_TASK_KEY}, r.reward FROM rollouts r JOIN runs ON runs.run = r.run "
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
