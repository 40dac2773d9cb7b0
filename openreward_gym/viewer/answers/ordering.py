"""The order of a list of rollouts. It is worked out once for each state of the index, so that every page of it is quick."""

from __future__ import annotations

import itertools
import threading
import weakref
from array import array
from collections import OrderedDict
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

from openreward_gym.viewer.answers.selecting import Steps, metric_names, tables, where
from openreward_gym.viewer.filters import Sql, check_field, column_of
from openreward_gym.viewer.index import RunIndex

MAX_ORDERS = 16

_orders: weakref.WeakKeyDictionary[RunIndex, OrderedDict[Any, Order]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Order:
    """The rollouts of a list in order.

    Attributes:
        keys: The primary keys of the rollouts.
        sizes: The sizes of the groups in order, as [size, number of groups]; empty for a list without groups.
    """

    keys: array[int]
    sizes: list[list[int]]


def order_of(index: RunIndex, run: str, step: Steps, discarded: bool, filter_: str, sort: str, flat: bool) -> Order:
    """Return the order of a list.

    Groups stay together: they are sorted by the mean of their values, and their rollouts by value. A rollout or a group without
    a value comes last in either direction. A group of several steps is one group.

    Raises:
        ConfigurationError: The filter cannot be parsed, or `sort` names no field and no metric.
    """
    key = (index.file, index.generation, run, step, discarded, filter_, sort, flat)
    with _lock:
        orders = _orders.setdefault(index, OrderedDict())
        if key in orders:
            orders.move_to_end(key)
            return orders[key]
    order = _order(_rows(index, run, step, discarded, filter_, sort), sort, flat)
    with _lock:
        orders[key] = order
        while len(orders) > MAX_ORDERS:
            orders.popitem(last=False)
    return order


def _rows(index: RunIndex, run: str, step: Steps, discarded: bool, filter_: str, sort: str) -> list[tuple[int, str, Any]]:
    """Return (primary key, group, value) of the rollouts in the order of steps, tasks, groups and samples."""
    condition = where(run, discarded, filter_)
    field = sort.removeprefix("-")
    column = Sql("NULL")
    if field:
        check_field(field, metric_names(index, run))
        column = column_of(field)
    of_step, steps = ("", ()) if isinstance(step, EllipsisType) else ("AND r.step IS ? ", (step,))
    sql = (
        f"SELECT r.pk, r.grp, {column.text} FROM {tables(condition, column)} WHERE {condition.text} {of_step}"
        "ORDER BY r.step, r.task_index, r.grp, r.sample, r.pk"
    )
    return index.rows(sql, (*column.parameters, *condition.parameters, *steps))


def _order(rows: list[tuple[int, str, Any]], sort: str, flat: bool) -> Order:
    falling = sort.startswith("-")
    if flat:
        return Order(array("q", [pk for pk, _, _ in (_sorted(rows, falling) if sort else rows)]), [])
    groups: dict[str, list[tuple[int, str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[1], []).append(row)
    ordered = list(groups.values())
    if sort:
        means = [(number, "", _middle([row[2] for row in group])) for number, group in enumerate(ordered)]
        ordered = [_sorted(ordered[number], falling) for number, _, _ in _sorted(means, falling)]
    sizes = [[size, len(list(same))] for size, same in itertools.groupby(map(len, ordered))]
    return Order(array("q", [pk for group in ordered for pk, _, _ in group]), sizes)


def _sorted(rows: list[tuple[int, str, Any]], falling: bool) -> list[tuple[int, str, Any]]:
    """Return the rows by value; rows without a value last."""
    known = sorted((row for row in rows if row[2] is not None), key=lambda row: row[2], reverse=falling)
    return known + [row for row in rows if row[2] is None]


def _middle(values: list[Any]) -> Any:
    """Return the mean of a group's numbers, or the first of its texts; None without a value."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return min(known) if isinstance(known[0], str) else sum(known) / len(known)
