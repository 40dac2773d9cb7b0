"""What the answers share: which rollouts a request selects, how tasks are told apart, and cards with their labels."""

from __future__ import annotations

import orjson

from openreward_gym.viewer.filters import Sql, compile_filter

# The same as `openreward_gym.reports.statistics.task_key`, so that the page and the reports count the same tasks.
TASK_KEY = (
    "CASE WHEN r.task != '' THEN r.task WHEN r.task_index IS NOT NULL "
    "THEN r.environment || '/' || coalesce(r.split, 'None') || '/' || r.task_index "
    "WHEN r.grp != r.id THEN r.grp ELSE 'rollout ' || r.id END"
)
LABEL_COLUMNS = "l.rating, l.tags, l.note IS NOT NULL AND l.note != ''"


def where(run: str, discarded: bool, filter_: str) -> Sql:
    # The run is selected by its number, not its key, so that SQLite uses the index that has the order of the lists.
    condition = compile_filter(filter_)
    text = f"r.run = (SELECT run FROM runs WHERE key = ?) AND r.discarded = ? AND {condition.text}"
    return Sql(text, (run, int(discarded), *condition.parameters))


def with_label(card: str, rating: int | None, tags: str | None, noted: int) -> bytes:
    if rating is None and tags is None:
        return card.encode()
    label = {"rating": rating, "tags": orjson.loads(tags or "[]"), "noted": bool(noted)}
    return card[:-1].encode() + b',"label":' + orjson.dumps(label) + b"}"
