"""The catalogue of a run's metrics in the index: of each its name, its number of values and its range, over all rollouts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

import orjson

from openreward_gym.viewer.rows import metric_name, metrics_of, number_of, ranges_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS metrics (
    metric INTEGER PRIMARY KEY, run INTEGER, name TEXT, rollouts INTEGER, count INTEGER, low REAL, high REAL, UNIQUE (run, name));
"""

_ADD = """
INSERT INTO metrics (run, name, rollouts, count, low, high) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (run, name) DO UPDATE SET
    rollouts = rollouts + excluded.rollouts, count = count + excluded.count,
    low = min(coalesce(low, excluded.low), coalesce(excluded.low, low)),
    high = max(coalesce(high, excluded.high), coalesce(excluded.high, high))"""

_MADE_ANEW = """
SELECT m.key, count(*), count(m.value), min(m.value), max(m.value) FROM rollouts r, json_each(r.metrics) m
WHERE r.run = ? AND r.metrics != '{}' GROUP BY m.key ORDER BY min(r.pk), min(m.id)"""


class NewMetrics:
    """Collects the metrics and the declared ranges of the rollouts that are being added to the index."""

    def __init__(self) -> None:
        self._figures: dict[tuple[int, str], list[Any]] = {}
        self._ranges: dict[int, dict[str, Any]] = {}
        self._last: Any = None

    def add(self, run: int, data: dict[str, Any]) -> None:
        """Add a record of the run with that number."""
        for name, given in metrics_of(data).items():
            figures = self._figures.setdefault((run, name), [0, 0, None, None])
            figures[0] += 1
            value = number_of(given)
            if value is not None:
                figures[1] += 1
                figures[2] = value if figures[2] is None or value < figures[2] else figures[2]
                figures[3] = value if figures[3] is None or value > figures[3] else figures[3]
        metadata, environment = data.get("metadata"), data.get("environment")
        declared = (
            run,
            metadata.get("ranges") if isinstance(metadata, dict) else None,
            environment.get("reward_range") if isinstance(environment, dict) else None,
        )
        if declared != self._last:  # most rollouts of a run declare the same
            self._last = declared
            self._ranges[run] = merged_ranges(self._ranges.get(run, {}), ranges_of(data))

    def write(self, connection: sqlite3.Connection) -> None:
        """Write what was collected, inside the caller's transaction."""
        connection.executemany(_ADD, [(run, name, *figures) for (run, name), figures in self._figures.items()])
        for run, ranges in self._ranges.items():
            row = connection.execute("SELECT ranges FROM runs WHERE run = ?", (run,)).fetchone()
            merged = orjson.dumps(merged_ranges(orjson.loads(row[0]), ranges)).decode() if row else "{}"
            if row and merged != row[0]:
                connection.execute("UPDATE runs SET ranges = ? WHERE run = ?", (merged, run))


def merged_ranges(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the ranges of both: of a metric that both declare the smaller minimum and the larger maximum."""
    merged = dict(first)
    for name, new in second.items():
        known = merged.get(name, new)
        merged[name] = {
            "min": min(known["min"], new["min"]),
            "max": max(known["max"], new["max"]),
            "lower_is_better": known["lower_is_better"] or new["lower_is_better"],
        }
    return merged


def make_anew(connection: sqlite3.Connection, runs: Iterable[int]) -> None:
    """Count the metrics of these runs from their rollouts, after rollouts were replaced or removed."""
    for run in runs:
        connection.execute("DELETE FROM metrics WHERE run = ?", (run,))
        rows = connection.execute(_MADE_ANEW, (run,)).fetchall()
        connection.executemany(
            "INSERT INTO metrics (run, name, rollouts, count, low, high) VALUES (?, ?, ?, ?, ?, ?)",
            [(run, metric_name(key), *figures) for key, *figures in rows],
        )
    connection.execute("DELETE FROM metrics WHERE run NOT IN (SELECT run FROM runs)")
