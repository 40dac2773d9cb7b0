"""What the answers share: which rollouts a request selects, how tasks are told apart, and cards with their labels."""

from __future__ import annotations

from types import EllipsisType
from typing import TypeAlias

import orjson

from openreward_gym.viewer.filters import Sql, compile_filter
from openreward_gym.viewer.index import JOINED, RunIndex

# The same as `openreward_gym.reports.statistics.task_key`, so that the page and the reports count the same tasks.
TASK_KEY = "r.task_key"
LABEL_COLUMNS = "l.rating, l.tags, l.note IS NOT NULL AND l.note != ''"


Steps: TypeAlias = int | EllipsisType | None
"""The step of a list: a number, None for rollouts without a step, `...` for all steps."""


def where(run: str, discarded: bool, filter_: str) -> Sql:
    # The run is selected by its number, not its key, so that SQLite uses the index that has the order of the lists.
    condition = compile_filter(filter_)
    text = f"r.run = (SELECT run FROM runs WHERE key = ?) AND r.discarded = ? AND {condition.text}"
    return Sql(text, (run, int(discarded), *condition.parameters))


def of_run(run: str, filter_: str, step: Steps = ...) -> Sql:
    """Select all rollouts of a run, kept and discarded; of one step if one is given."""
    condition = compile_filter(filter_)
    of_step = "" if step is ... else "r.step IS ? AND "
    parameters = (run, *(() if step is ... else (step,)), *condition.parameters)
    return Sql(f"r.run = (SELECT run FROM runs WHERE key = ?) AND {of_step}{condition.text}", parameters)


def tables(*conditions: Sql) -> str:
    """Return the tables over which these conditions are: labels are joined only where one looks at them."""
    return JOINED if any("l." in condition.text for condition in conditions) else "rollouts r"


def metric_names(index: RunIndex, run: str | None) -> list[str]:
    """Return the names of all metrics of a run, or of all runs, in the order of their first values."""
    if run is None:
        return [name for (name,) in index.rows("SELECT name FROM metrics GROUP BY name ORDER BY min(metric)")]
    sql = "SELECT m.name FROM metrics m JOIN runs ON runs.run = m.run WHERE runs.key = ? ORDER BY m.metric"
    return [name for (name,) in index.rows(sql, (run,))]


def check_filter(index: RunIndex, run: str | None, filter_: str) -> None:
    """Check that a filter can be parsed and names only fields and metrics that the run, or one of all runs, has.

    Raises:
        ConfigurationError: It does not; the message proposes the nearest name.
    """
    if filter_:
        compile_filter(filter_, set(metric_names(index, run)))


def with_label(card: str, rating: int | None, tags: str | None, noted: int) -> bytes:
    if rating is None and tags is None:
        return card.encode()
    label = {"rating": rating, "tags": orjson.loads(tags or "[]"), "noted": bool(noted)}
    return card[:-1].encode() + b',"label":' + orjson.dumps(label) + b"}"
