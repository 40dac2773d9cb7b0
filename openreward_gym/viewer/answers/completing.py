"""Suggestions for the filter that is being typed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from openreward_gym.viewer.answers.selecting import metric_names
from openreward_gym.viewer.filters import NUMBERS, TEXTS, Completion, complete
from openreward_gym.viewer.index import JOINED, RunIndex


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
    elif field in {"running", "discarded"}:
        return [("true", ""), ("false", "")]
    elif field in NUMBERS:
        return [("none", "not recorded")]
    else:
        return []
    prefix = typed.lstrip("\"'").lower()
    values = sorted(str(value) for (value,) in index.rows(sql, (run,)) if value is not None)
    return [(orjson.dumps(value).decode(), "") for value in values if value.lower().startswith(prefix) and len(value) <= 80]
