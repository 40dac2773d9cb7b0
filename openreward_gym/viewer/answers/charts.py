"""Metrics over the steps of a run, and their histograms."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from openreward_gym.errors import ConfigurationError
from openreward_gym.viewer.answers.chart_metrics import Values, catalogue, values_of
from openreward_gym.viewer.answers.chart_tables import Numbers, selected, table_of
from openreward_gym.viewer.index import RunIndex

BINS = 24
QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
FIGURES = ("count", "mean", "std", "min", "max", *QUANTILES)

MAX_METRICS = 100
MAX_RUNS = 10


def series(index: RunIndex, run: str, metric: str, filter_: str, which: str = "all") -> dict[str, Any]:
    """Return a metric over the steps of a run: count, mean, std, min, max and quantiles, each a list parallel to `steps`.

    Args:
        index: The index of the runs.
        run: The run's key.
        metric: The metric's name; see `chart_metrics.catalogue`.
        filter_: A filter of the rollouts.
        which: "all", "kept" or "discarded": the rollouts that count.

    Returns:
        Besides the figures the number of values that are `nan` or `infinite` and so in none of them, and the `unit` of the
        counts, "rollouts" or "groups".

    Raises:
        ConfigurationError: The filter cannot be parsed, or `which` is unknown.
    """
    table = table_of(index, run)
    values = values_of(table, metric, selected(index, run, table, filter_), which)
    has_step = ~np.isnan(values.steps)
    values = Values(
        values.steps[has_step], Numbers(values.numbers.values[has_step], values.numbers.recorded[has_step]), values.unit
    )
    finite = np.isfinite(values.numbers.values)
    steps, figures = _by_step(values.steps[finite], values.numbers.values[finite])
    about = {"run": run, "metric": metric, "which": which, "unit": values.unit, **_not_finite(values.numbers)}
    return {**about, "steps": steps, **figures}


class Answers:
    """The answers for charts, kept until the index changes."""

    def __init__(self, index: RunIndex) -> None:
        self._index = index
        # As JSON, which is a quarter of the size; the generation in the key drops outdated ones.
        self._series = functools.lru_cache(maxsize=256)(lambda generation, *rest: orjson.dumps(series(index, *rest)))
        self._histograms = functools.lru_cache(maxsize=256)(lambda generation, *rest: orjson.dumps(histograms(index, *rest)))
        self._catalogue = functools.lru_cache(maxsize=16)(lambda generation, runs: orjson.dumps(catalogue(index, runs)))

    def series(self, run: str, metrics: Sequence[str], filter_: str, which: str, several: bool) -> bytes:
        """Return the series of a metric; with `several`, those of some metrics as `{"series": [...]}`."""
        if len(metrics) > MAX_METRICS:
            raise ConfigurationError(f"{len(metrics)} metrics were asked for at once; at most {MAX_METRICS} are allowed")
        generation = self._index.generation
        found = [self._series(generation, run, metric, filter_, which) for metric in metrics]
        return orjson.dumps({"series": [orjson.Fragment(one) for one in found]}) if several else found[0]

    def histograms(
        self, runs: Sequence[str], metric: str, filter_: str, step: int | None, every: bool, whiches: Sequence[str]
    ) -> bytes:
        return self._histograms(self._index.generation, tuple(runs), metric, filter_, step, every, tuple(whiches))

    def catalogue(self, runs: Sequence[str]) -> bytes:
        if len(runs) > MAX_RUNS:
            raise ConfigurationError(f"{len(runs)} runs were asked for at once; at most {MAX_RUNS} are allowed")
        return self._catalogue(self._index.generation, tuple(runs))


def histogram(
    index: RunIndex, run: str, metric: str, filter_: str, step: int | None, every: bool, which: str = "all"
) -> dict[str, Any]:
    """Return a metric's histogram over the rollouts of one step or of all steps: `counts`, and one more `edges`."""
    found = histograms(index, [run], metric, filter_, step, every, [which])
    return {"run": run, "metric": metric, "edges": found["edges"], "counts": found["histograms"][0]["counts"]}


def histograms(
    index: RunIndex, runs: Sequence[str], metric: str, filter_: str, step: int | None, every: bool, whiches: Sequence[str]
) -> dict[str, Any]:
    """Return a metric's histograms for several runs and kinds of rollouts, all with the same edges.

    Args:
        index: The index of the runs.
        runs: The runs' keys.
        metric: The metric's name.
        filter_: A filter of the rollouts.
        step: The step whose rollouts count; None for those without a step.
        every: Whether the rollouts of all steps count instead.
        whiches: "all", "kept", "discarded": a histogram for each.

    Returns:
        The common `edges`; whether all values are `integers`, each in the middle of a bin or of several; the `unit` that is
        counted; and the `histograms`: run, which, counts, the number of values that are `nan` or `infinite`.

    Raises:
        ConfigurationError: The filter cannot be parsed, a kind is unknown, or there are too many runs.
    """
    if not 0 < len(runs) <= MAX_RUNS or not 0 < len(whiches) <= 3:
        raise ConfigurationError(f"a histogram needs one to {MAX_RUNS} runs and kinds of rollouts")
    found: list[tuple[str, str, Values]] = []
    for run in runs:
        table = table_of(index, run)
        mask = selected(index, run, table, filter_)
        if not every:
            steps = table.numbers["step"].values
            mask = mask & (np.isnan(steps) if step is None else steps == step)
        found += [(run, which, values_of(table, metric, mask, which)) for which in whiches]
    finite = [values.numbers.values[np.isfinite(values.numbers.values)] for _, _, values in found]
    edges, integers = bins(np.concatenate(finite))
    # The last bin has both edges, the others only the lower one, as in numpy.
    counted: list[Any] = [np.histogram(one, bins=edges)[0] if len(edges) else [] for one in finite]
    return {
        "metric": metric,
        "edges": [rounded(float(edge), 12) for edge in edges],
        "integers": integers,
        "unit": found[0][2].unit,
        "histograms": [
            {"run": run, "which": which, "counts": [int(count) for count in counts], **_not_finite(values.numbers)}
            for (run, which, values), counts in zip(found, counted, strict=True)
        ],
    }


def bins(values: Any) -> tuple[Any, bool]:
    """Return the edges of the bins of finite values, and whether all values are integers.

    Bins of integers are centred: each holds the same number of whole numbers, and an edge is never one of them.
    """
    if not len(values):
        return np.array([]), False
    low, high = float(values.min()), float(values.max())
    if abs(low) < 2**52 and abs(high) < 2**52 and bool((values == np.round(values)).all()):
        width = max(1, math.ceil((high - low + 1) / BINS))
        count = math.ceil((high - low + 1) / width)
        return low - 0.5 + width * np.arange(count + 1), True
    if low == high:
        pad = abs(low) * 0.05 or 0.5
        return np.array([low - pad, high + pad]), False
    # Halves, because the difference of two numbers may be infinite.
    return 2 * np.linspace(low / 2, high / 2, BINS + 1), False


def _by_step(steps: Any, values: Any) -> tuple[list[int], dict[str, list[float | None]]]:
    """Return the distinct steps, and the figures of each one's values."""
    if not len(values):
        return [], {name: [] for name in FIGURES}
    order = np.lexsort((values, steps))
    steps, values = steps[order], values[order]
    starts = np.flatnonzero(np.r_[True, steps[1:] != steps[:-1]])
    counts = np.diff(np.r_[starts, len(values)])
    with np.errstate(all="ignore"):  # sums of huge numbers are infinite, and returned as None
        means = np.add.reduceat(values, starts) / counts
        spread = np.sqrt(np.add.reduceat((values - np.repeat(means, counts)) ** 2, starts) / counts)
    figures = {"count": counts, "mean": means, "std": spread, "min": values[starts], "max": values[starts + counts - 1]}
    for name, share in QUANTILES.items():
        place = share * (counts - 1)
        below = np.floor(place).astype(np.int64)
        above = np.minimum(below + 1, counts - 1)
        low, high = values[starts + below], values[starts + above]
        figures[name] = low + (place - below) * (high - low)
    return [int(step) for step in steps[starts]], {name: [rounded(float(f)) for f in each] for name, each in figures.items()}


def _not_finite(numbers: Numbers) -> dict[str, int]:
    values = numbers.values[numbers.recorded]
    return {"nan": int(np.isnan(values).sum()), "infinite": int(np.isinf(values).sum())}


def rounded(number: float, digits: int = 6) -> float | None:
    return float(f"{number:.{digits}g}") if math.isfinite(number) else None
