"""Metrics over the steps of a run, and their histograms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from openreward_gym.viewer.answers.selecting import where
from openreward_gym.viewer.filters import Sql, metric_column
from openreward_gym.viewer.index import JOINED, RunIndex

BINS = 24
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BUILT_IN_METRICS = {
    "reward": "reward", "advantage": "advantage", "tokens": "tokens", "steps": "turns", "calls": "calls", "errors": "errors",
    "duration": "duration", "cost": "cost",
}  # fmt: skip


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
            result[name].append(rounded(float(figure)))
    return result


def histogram(index: RunIndex, run: str, metric: str, filter_: str, step: int | None, every: bool) -> dict[str, Any]:
    """Return a metric's histogram over the rollouts of one step or of all steps: `counts`, and one more `edges`."""
    condition = "1" if every else "r.step IS " + ("NULL" if step is None else str(int(step)))
    rows = _values(index, run, metric, filter_, condition)
    if not len(rows):
        return {"run": run, "metric": metric, "edges": [], "counts": []}
    counts, edges = np.histogram(rows[:, 1], bins=BINS)
    return {"run": run, "metric": metric, "edges": [rounded(float(e)) for e in edges], "counts": [int(c) for c in counts]}


def _values(index: RunIndex, run: str, metric: str, filter_: str, condition: str) -> Any:
    selected = where(run, False, filter_)
    column = Sql(f"r.{BUILT_IN_METRICS[metric]}") if metric in BUILT_IN_METRICS else metric_column(metric.removeprefix("metric."))
    selection = f"{selected.text} AND {condition} AND value IS NOT NULL"
    sql = f"SELECT coalesce(r.step, 0), {column.text} AS value FROM {JOINED} WHERE {selection}"
    rows = index.rows(sql, (*column.parameters, *selected.parameters))
    return np.array(rows, dtype=float).reshape(-1, 2)


def rounded(number: float) -> float | None:
    return float(f"{number:.6g}") if math.isfinite(number) else None
