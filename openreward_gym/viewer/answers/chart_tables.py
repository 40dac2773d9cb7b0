"""The figures of a run's rollouts as arrays, kept in memory and extended by what is new.

Charts ask for many metrics of the same rollouts every other second. Each run is read once from the index, then only what was
added to it; a run of which something was removed or replaced is read again.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from openreward_gym.viewer.filters import compile_filter
from openreward_gym.viewer.index import JOINED, RunIndex
from openreward_gym.viewer.rows import metric_name

MAX_TABLES = 12
"""The number of runs whose figures are kept; a chart draws at most ten."""
MAX_FILTERS = 64

TEXT_COLUMNS = ("grp", "discard", "status")
NUMBER_COLUMNS = (
    "step", "discarded", "reward", "advantage", "tokens", "input_tokens", "turns", "calls", "errors", "unnoticed_errors",
    "duration", "policy_s", "environment_s", "cost",
)  # fmt: skip
"""The columns that are read, as far as the index has them."""

_NOT_FINITE = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}
_FINGERPRINT = """
    SELECT count(*), total(pk), total(file), total(start), total(length), total(reward * (pk % 1009 + 1)), total(tokens),
        total(discarded), coalesce(max(pk), 0)
    FROM rollouts WHERE run = (SELECT run FROM runs WHERE key = ?) AND pk <= ?"""


@dataclass
class Numbers:
    """A metric of each rollout. A value that was recorded may be NaN or infinite."""

    values: Any
    recorded: Any

    @classmethod
    def missing(cls, count: int) -> Numbers:
        return cls(np.full(count, np.nan), np.zeros(count, dtype=bool))

    @classmethod
    def of(cls, items: Sequence[float | None]) -> Numbers:
        """Return the numbers of a column of the index, which are finite or None."""
        values = np.array(items, dtype=float)  # None becomes NaN
        return cls(values, ~np.isnan(values))

    def set(self, place: int, value: float) -> None:
        self.values[place], self.recorded[place] = value, True

    def extended(self, more: Numbers) -> Numbers:
        return Numbers(np.concatenate([self.values, more.values]), np.concatenate([self.recorded, more.recorded]))


@dataclass
class Table:
    """The figures of a run's rollouts, parallel arrays in the order of their keys in the index.

    Attributes:
        keys: The rollouts' keys in the index.
        numbers: The index's columns of numbers, by name.
        texts: The index's columns of texts, by name.
        metrics: The run's own metrics, by name, in the order of their first appearance.
        reward_range: The lowest and the highest reward that the run declares; else 0 and 1.
        fingerprint: Sums over the rollouts, which tell whether one of them was removed or replaced.
        last: The highest key.
        filtered: The rollouts that match a filter, by filter.
    """

    keys: Any
    numbers: dict[str, Numbers]
    texts: dict[str, Any]
    metrics: dict[str, Numbers]
    reward_range: tuple[float, float] = (0.0, 1.0)
    fingerprint: tuple[Any, ...] = ()
    last: int = 0
    filtered: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def extended(self, more: Table) -> Table:
        """Return a table of these rollouts and of `more`."""
        before, after = len(self), len(more)
        names = {**self.metrics, **more.metrics}
        return Table(
            np.concatenate([self.keys, more.keys]),
            {name: numbers.extended(more.numbers[name]) for name, numbers in self.numbers.items()},
            {name: np.concatenate([texts, more.texts[name]]) for name, texts in self.texts.items()},
            {
                name: self.metrics.get(name, Numbers.missing(before)).extended(more.metrics.get(name, Numbers.missing(after)))
                for name in names
            },
        )


class Tables:
    """The tables of an index's runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: OrderedDict[str, tuple[int, Table]] = OrderedDict()

    def table(self, index: RunIndex, run: str) -> Table:
        """Return the run's table as the index now has it; an empty one if there is no such run."""
        with self._lock:
            generation = index.generation
            known = self._tables.pop(run, None)
            if known is None or known[0] != generation:
                known = (generation, _current(index, run, known[1] if known else None))
                if index.generation != generation:  # the rows and their fingerprint may be of different moments
                    known[1].fingerprint = ()
            self._tables[run] = known
            while len(self._tables) > MAX_TABLES:
                self._tables.popitem(last=False)
            return known[1]


_TABLES: weakref.WeakKeyDictionary[RunIndex, Tables] = weakref.WeakKeyDictionary()


def table_of(index: RunIndex, run: str) -> Table:
    """Return the table of a run."""
    return _TABLES.setdefault(index, Tables()).table(index, run)


def selected(index: RunIndex, run: str, table: Table, filter_: str) -> Any:
    """Return which of the table's rollouts match the filter, as an array of booleans."""
    if not filter_.strip():
        return np.ones(len(table), dtype=bool)
    # Kept with the table: the next generation has another one. A label changes the generation as well.
    mask = table.filtered.get(filter_)
    if mask is None:
        condition = compile_filter(filter_)
        sql = f"SELECT r.pk FROM {JOINED} WHERE r.run = (SELECT run FROM runs WHERE key = ?) AND ({condition.text})"
        keys = np.array([key for (key,) in index.rows(sql, (run, *condition.parameters))], dtype=np.int64)
        mask = np.isin(table.keys, keys)
        if len(table.filtered) >= MAX_FILTERS:
            table.filtered.clear()
        table.filtered[filter_] = mask
    return mask


def _current(index: RunIndex, run: str, known: Table | None) -> Table:
    if known is not None and len(known) and known.fingerprint == _fingerprint(index, run, known.last):
        more = _read(index, run, known.last)
        return _finished(index, run, known.extended(more) if len(more) else known)
    return _finished(index, run, _read(index, run, 0))


def _finished(index: RunIndex, run: str, table: Table) -> Table:
    last = int(table.keys[-1]) if len(table) else 0
    ranges = index.rows("SELECT ranges FROM runs WHERE key = ?", (run,))
    declared = orjson.loads(ranges[0][0] or "{}").get("reward") if ranges else None
    bounds = (float(declared["min"]), float(declared["max"])) if declared else (0.0, 1.0)
    return Table(table.keys, table.numbers, table.texts, table.metrics, bounds, _fingerprint(index, run, last), last)


def _fingerprint(index: RunIndex, run: str, last: int) -> tuple[Any, ...]:
    return tuple(index.rows(_FINGERPRINT, (run, last))[0])


def _read(index: RunIndex, run: str, after: int) -> Table:
    """Read the rollouts with a key above `after`."""
    has = {row[1] for row in index.rows("PRAGMA table_info(rollouts)")}
    numbers = [name for name in NUMBER_COLUMNS if name in has]
    # NaN and infinities are in the card only, where they are texts.
    odd = " OR ".join(f"instr(card, '\"{text}\"')" for text in _NOT_FINITE)
    sql = (
        f"SELECT pk, {', '.join(TEXT_COLUMNS)}, {', '.join(numbers)}, metrics, CASE WHEN {odd} THEN card END FROM rollouts "
        "WHERE run = (SELECT run FROM runs WHERE key = ?) AND pk > ? ORDER BY pk"
    )
    rows = index.rows(sql, (run, after))
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) if rows else [()] * (3 + len(TEXT_COLUMNS) + len(numbers))
    texts = {name: np.array(columns[1 + number], dtype=object) for number, name in enumerate(TEXT_COLUMNS)}
    first = 1 + len(TEXT_COLUMNS)
    figures = {name: Numbers.of(columns[first + number]) for number, name in enumerate(numbers)}
    metrics = _metrics(columns[-2])
    for place, card in enumerate(columns[-1]):
        if card is not None:
            _set_not_finite(orjson.loads(card), place, len(rows), figures, metrics)
    return Table(np.array(columns[0], dtype=np.int64), figures, texts, metrics)


def _metrics(texts: tuple[str, ...]) -> dict[str, Numbers]:
    metrics: dict[str, list[float | None]] = {}
    for place, text in enumerate(texts):
        if text != "{}":
            for name, value in orjson.loads(text).items():
                column = metrics.get(name)
                if column is None:
                    column = metrics[name] = [None] * len(texts)
                column[place] = value
    return {metric_name(key): Numbers.of(column) for key, column in metrics.items()}


def _set_not_finite(
    card: dict[str, Any], place: int, count: int, figures: dict[str, Numbers], metrics: dict[str, Numbers]
) -> None:
    for name in ("reward", "advantage"):
        if card.get(name) in _NOT_FINITE:
            figures[name].set(place, _NOT_FINITE[card[name]])
    for name, value in card.get("metrics", {}).items():
        if isinstance(value, str) and value in _NOT_FINITE:
            metrics.setdefault(name, Numbers.missing(count)).set(place, _NOT_FINITE[value])
