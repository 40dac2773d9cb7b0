"""What the page asks of the index: lists without text, figures by step, one rollout at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import orjson

from openreward_gym.types.rollout import Rollout
from openreward_gym.viewer.filters import NUMBERS, TEXTS, Completion, Sql, compiled, complete
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.tables import JOINED

PAGE = 2_000
"""Rollouts of one list, at most."""

BINS = 24
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
OWN_METRICS = {
    "reward": "reward", "advantage": "advantage", "tokens": "tokens", "steps": "turns", "calls": "calls", "errors": "errors",
    "duration": "duration", "cost": "cost",
}  # fmt: skip
_LABEL_COLUMNS = "l.rating, l.tags, l.note IS NOT NULL AND l.note != ''"


def runs(index: RunIndex) -> dict[str, Any]:
    """All runs, and how far the index is."""
    sql = """
        SELECT runs.key, runs.name, runs.folder, runs.ranges, count(*), sum(r.discarded), min(r.step), max(r.step),
            count(DISTINCT r.step), avg(CASE WHEN r.discarded = 0 THEN r.reward END), max(r.started),
            group_concat(DISTINCT r.environment), group_concat(DISTINCT r.model), count(DISTINCT r.task), sum(r.status = 'error')
        FROM rollouts r JOIN runs ON runs.run = r.run GROUP BY runs.run ORDER BY max(r.started) DESC, runs.key"""
    names = ("key", "name", "folder", "ranges", "rollouts", "discarded", "first_step", "last_step", "steps", "reward", "started",
             "environments", "models", "tasks", "errors")  # fmt: skip
    found = [dict(zip(names, row, strict=True)) for row in index.rows(sql)]
    for run in found:
        run["ranges"] = orjson.loads(run["ranges"])
        run["metrics"] = metric_names(index, run["key"])
    damage = index.rows("SELECT folder, damaged, damage FROM files WHERE damaged > 0")
    progress = index.progress
    return {
        "runs": found,
        "damage": [{"folder": folder, "lines": count, "first": first} for folder, count, first in damage],
        "progress": {"done": progress.done, "total": progress.total},
    }


def metric_names(index: RunIndex, run: str) -> list[str]:
    """The names of the run's own metrics, from its first and last rollouts."""
    where = "FROM rollouts WHERE run = (SELECT run FROM runs WHERE key = ?) AND metrics != '{}' ORDER BY pk"
    rows = index.rows(f"SELECT * FROM (SELECT metrics {where} LIMIT 50)", (run,))
    rows += index.rows(f"SELECT * FROM (SELECT metrics {where} DESC LIMIT 50)", (run,))
    return list(dict.fromkeys(name for (text,) in rows for name in orjson.loads(text)))


def steps(index: RunIndex, run: str, discarded: bool, filter_: str) -> list[dict[str, Any]]:
    """The steps of a run with what they hold; `step` None is of rollouts without a step."""
    condition = _where(run, discarded, filter_)
    sql = f"SELECT r.step, count(*), count(DISTINCT r.grp), avg(r.reward) FROM {JOINED} WHERE {condition.text} GROUP BY r.step"
    return [
        {"step": step, "rollouts": count, "groups": groups, "reward": reward}
        for step, count, groups, reward in index.rows(sql, condition.parameters)
    ]


def listing(index: RunIndex, run: str, step: int | None, discarded: bool, filter_: str, offset: int) -> bytes:
    """A page of one step's rollouts, by group: `{"groups": [{"group", "prompt", "task", "cards": [...]}], "next"}`."""
    condition = _where(run, discarded, filter_)
    sql = (
        f"SELECT r.grp, r.prompt, r.task, r.card, {_LABEL_COLUMNS} FROM {JOINED} "
        f"WHERE {condition.text} AND r.step IS ? ORDER BY r.task_index, r.grp, r.sample, r.pk LIMIT ? OFFSET ?"
    )
    rows = index.rows(sql, (*condition.parameters, step, PAGE + 1, offset))
    groups: list[bytes] = []
    cards: list[bytes] = []
    last: str | None = None
    head = b""
    for group, prompt, task, card, rating, tags, noted in rows[:PAGE]:
        if group != last or not groups:
            if cards:
                groups[-1] = head + b",".join(cards) + b"]}"
            head = orjson.dumps({"group": group, "prompt": prompt, "task": task})[:-1] + b',"cards":['
            groups.append(b"")
            cards, last = [], group
        cards.append(_labelled(card, rating, tags, noted))
    if cards:
        groups[-1] = head + b",".join(cards) + b"]}"
    following = str(offset + PAGE).encode() if len(rows) > PAGE else b"null"
    return b'{"groups":[' + b",".join(groups) + b'],"next":' + following + b"}"


def _labelled(card: str, rating: int | None, tags: str | None, noted: int) -> bytes:
    if rating is None and tags is None:
        return card.encode()
    label = {"rating": rating, "tags": orjson.loads(tags or "[]"), "noted": bool(noted)}
    return card[:-1].encode() + b',"label":' + orjson.dumps(label) + b"}"


def rollout(index: RunIndex, run: str, identity: str) -> bytes | None:
    """A rollout whole, as it was written: `{"run", "label", "place", "rollout"}`; None where there is none.

    Raises:
        StoreError, RecordError: It cannot be read.
    """
    found = index.find(run, identity)
    if found is None:
        return None
    line = index.read(found)
    record = Rollout.from_line(line)  # what the page gets has the record's types
    told = index.rows(
        "SELECT r.step, r.grp, r.discarded, l.rating, l.tags, l.note "
        f"FROM {JOINED} WHERE runs.key = ? AND r.id = ?", (run, identity)
    )[0]  # fmt: skip
    step, group, discarded, rating, tags, note = told
    head = {
        "run": run,
        "place": {"step": step, "group": group, "discarded": bool(discarded)},
        "label": {"rating": rating, "tags": orjson.loads(tags or "[]"), "note": note or ""},
    }
    try:
        orjson.loads(line)
    except ValueError:
        line = record.to_line().encode("utf-8", "backslashreplace")
    return orjson.dumps(head)[:-1] + b',"rollout":' + line + b"}"


def group(index: RunIndex, run: str, name: str, step: int | None, discarded: bool) -> list[Any]:
    """The cards of one group, by sample."""
    condition = _where(run, discarded, "")
    sql = (
        f"SELECT r.card, {_LABEL_COLUMNS} FROM {JOINED} WHERE {condition.text} AND r.grp = ? AND r.step IS ? "
        "ORDER BY r.sample, r.pk LIMIT 500"
    )
    return [orjson.loads(_labelled(*row)) for row in index.rows(sql, (*condition.parameters, name, step))]


def others_of(index: RunIndex, run: str, identity: str) -> list[str]:
    """The ids of the other rollouts that an export would compare a rollout with, those of its group; 100 at most."""
    sql = (
        "SELECT o.id FROM rollouts r JOIN runs ON runs.run = r.run JOIN rollouts o ON o.run = r.run AND o.grp = r.grp "
        "AND o.pk != r.pk WHERE runs.key = ? AND r.id = ? ORDER BY o.sample, o.pk LIMIT 100"
    )
    return [identity for (identity,) in index.rows(sql, (run, identity))]


def task(index: RunIndex, name: str) -> list[Any]:
    """Every attempt at a task, over all runs and steps, in the order of time."""
    sql = (
        f"SELECT runs.key, r.card, {_LABEL_COLUMNS}, r.started FROM {JOINED} WHERE r.task = ? "
        "ORDER BY r.started, r.step, r.sample LIMIT 20000"
    )
    return [{**orjson.loads(_labelled(*row)), "run": run, "started": started} for run, *row, started in index.rows(sql, (name,))]


def series(index: RunIndex, run: str, metric: str, filter_: str) -> dict[str, Any]:
    """A metric over the steps of a run: how many, mean, std, min, max and quantiles, each a list over `steps`."""
    found = _values(index, run, metric, filter_, "r.step IS NOT NULL")
    names = ["count", "mean", "std", "min", "max", *(f"p{round(100 * q):02d}" for q in QUANTILES)]
    result: dict[str, Any] = {"run": run, "metric": metric, "steps": [], **{name: [] for name in names}}
    if not len(found):
        return result
    order = np.argsort(found[:, 0], kind="stable")
    found = found[order]
    numbers, starts = np.unique(found[:, 0], return_index=True)
    for number, values in zip(numbers, np.split(found[:, 1], starts[1:]), strict=True):
        result["steps"].append(int(number))
        figures = [len(values), values.mean(), values.std(), values.min(), values.max(), *np.quantile(values, QUANTILES)]
        for name, figure in zip(names, figures, strict=True):
            result[name].append(_rounded(float(figure)))
    return result


def histogram(index: RunIndex, run: str, metric: str, filter_: str, step: int | None, every: bool) -> dict[str, Any]:
    """How a metric is distributed over the rollouts of one step, or of all: `edges` (one more than `counts`)."""
    condition = "1" if every else "r.step IS " + ("NULL" if step is None else str(int(step)))
    found = _values(index, run, metric, filter_, condition)
    if not len(found):
        return {"run": run, "metric": metric, "edges": [], "counts": []}
    counts, edges = np.histogram(found[:, 1], bins=BINS)
    return {"run": run, "metric": metric, "edges": [_rounded(float(e)) for e in edges], "counts": [int(c) for c in counts]}


def _values(index: RunIndex, run: str, metric: str, filter_: str, condition: str) -> Any:
    where = _where(run, False, filter_)
    column = Sql(f"r.{OWN_METRICS[metric]}") if metric in OWN_METRICS else _own_metric(metric)
    which = f"{where.text} AND {condition} AND value IS NOT NULL"
    sql = f"SELECT coalesce(r.step, 0), {column.text} AS value FROM {JOINED} WHERE {which}"
    rows = index.rows(sql, (*column.parameters, *where.parameters))
    return np.array(rows, dtype=float).reshape(-1, 2)


def _own_metric(name: str) -> Sql:
    return Sql("json_extract(r.metrics, ?)", ('$."' + name.removeprefix("metric.").replace('"', "") + '"',))


def _rounded(number: float) -> float | None:
    return float(f"{number:.6g}") if math.isfinite(number) else None


def completion(index: RunIndex, run: str, text: str, cursor: int) -> dict[str, Any]:
    """What may come next in a filter; values of a field are those there are."""
    found = complete(text, cursor, metric_names(index, run))
    suggestions: Iterable[tuple[str, str]] = found.suggestions
    if found.kind == "value":
        suggestions = _suggested_values(index, run, found, text[found.start : cursor])
    return {"start": found.start, "kind": found.kind, "suggestions": [list(pair) for pair in suggestions][:40]}


def _suggested_values(index: RunIndex, run: str, found: Completion, typed: str) -> Sequence[tuple[str, str]]:
    field = found.field.lower()
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
    begun = typed.lstrip("\"'").lower()
    values = sorted(str(value) for (value,) in index.rows(sql, (run,)) if value is not None)
    return [(orjson.dumps(value).decode(), "") for value in values if value.lower().startswith(begun) and len(value) <= 80]


def _where(run: str, discarded: bool, filter_: str) -> Sql:
    # The run's number, not its key: so that SQLite takes the index that has the order of the lists.
    condition = compiled(filter_)
    text = f"r.run = (SELECT run FROM runs WHERE key = ?) AND r.discarded = ? AND {condition.text}"
    return Sql(text, (run, int(discarded), *condition.parameters))
