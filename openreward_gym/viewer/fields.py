"""The fields of the filter language, and the SQL expressions of their values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.viewer.rows import metric_key

NUMBERS = {
    "reward": "return of the episode",
    "final_reward": "last reward",
    "advantage": "advantage in its group",
    "steps": "assistant messages",
    "calls": "tool calls",
    "errors": "tool results that are errors",
    "unnoticed_errors": "tool errors after which the model went on without a word about them (a heuristic)",
    "tokens": "output tokens",
    "input_tokens": "input tokens",
    "duration": "seconds from start to end",
    "policy_seconds": "seconds that the model took",
    "environment_seconds": "seconds that the environment took",
    "cost": "US dollars",
    "step": "training step",
    "sample": "number in its group",
    "attempt": "0 for the first attempt",
    "index": "index of the task",
    "seed": "random seed",
    "rating": "rating by a reader, 1 to 5",
    "running": "true while the episode goes on",
    "discarded": "true if the rollout was discarded",
}
TEXTS = {
    "status": "completed, truncated, error, cancelled, running",
    "stop": "reason why the episode ended",
    "error": "text of the error that ended the episode",
    "discard": "reason why the rollout was discarded",
    "environment": "environment",
    "variant": "variant of the environment",
    "split": "split",
    "task": "id of the task",
    "group": "group",
    "model": "model",
    "name": "name of the rollout",
    "id": "id of the rollout",
    "prompt": "beginning of the prompt",
    "note": "note by a reader",
    "tool": "any tool that was called",
    "label": "any tag by a reader",
}
_SQL = {
    "steps": "turns", "group": "grp", "index": "task_index", "policy_seconds": "policy_s", "environment_seconds": "environment_s",
}  # fmt: skip
_LABELLED = {"rating", "note"}
LISTS = {"tool": "tools", "label": "tags"}

_PLAIN = re.compile(r"[^\W\d][\w./@:-]*")
_KEYWORDS = {"and", "or", "not", "in", "none", "null", "true", "false"}


@dataclass(frozen=True, slots=True)
class Sql:
    """A SQL condition over the tables `rollouts` r and `labels` l, with its parameters."""

    text: str
    parameters: tuple[Any, ...] = ()


def field_name(metric: str) -> str:
    """Return the name of a metric in a filter: `NAME`, `metric.NAME` or `metric."NAME"`."""
    if not _PLAIN.fullmatch(metric) or metric.lower().startswith("metric."):
        return 'metric."' + re.sub(r'(["\\])', r"\\\1", metric) + '"'
    return f"metric.{metric}" if metric.lower() in {*NUMBERS, *TEXTS, *_KEYWORDS} else metric


def check_field(field: str, metrics: Collection[str]) -> None:
    """Check that there is such a field or metric; raise ConfigurationError with the nearest name if there is not."""
    metric = field[len("metric.") :] if field.lower().startswith("metric.") else None
    if field.lower() in NUMBERS or field.lower() in TEXTS or field in metrics or metric in metrics:
        return
    names = {name.lower(): field_name(name) for name in metrics}
    if metric is None:
        names |= {name: name for name in (*NUMBERS, *TEXTS)}
    near = difflib.get_close_matches((metric if metric is not None else field).lower(), names, 1, 0.5)
    what = "metric" if metric is not None else "field or metric"
    hint = f" Did you mean `{names[near[0]]}`?" if near else ""
    raise ConfigurationError(f"There is no {what} `{(field if metric is None else metric)[:80]}` in this run.{hint}")


def column_of(field: str) -> Sql:
    """Return the expression of a field's or a metric's value."""
    name = field.lower()
    if name in LISTS:
        raise ConfigurationError(f"`{name}` has several values and no order")
    if name == "running":
        return Sql("(r.status = 'running')")
    if name in _LABELLED:
        return Sql(f"l.{name}")
    if name in NUMBERS or name in TEXTS:
        return Sql(f"r.{_SQL.get(name, name)}")
    return metric_column(field[len("metric.") :] if name.startswith("metric.") else field)


def metric_column(name: str) -> Sql:
    """Return the expression of a metric's value."""
    return Sql("json_extract(r.metrics, ?)", (f'$."{metric_key(name)}"',))
