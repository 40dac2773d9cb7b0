"""The index's row of a rollout: numbers and names, and of its text only the beginning of the prompt."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import orjson

from openreward_gym.errors import RecordError
from openreward_gym.types.rollout import SCHEMA, check_schema, moment_of, object_of

PROMPT_LENGTH = 160
NAME_LENGTH = 200
ERROR_LENGTH = 300

_NOTICES = re.compile(
    r"error|fail|exception|traceback|retry|retri|again|sorry|apolog|wrong|mistake|incorrect|invalid|missing|unable|denied|refused"
    r"|can(?:no|')t|could ?n[o']t|did ?n[o']t|does ?n[o']t|not (?:found|work|exist|possible|available)|no such|instead|unexpected"
    r"|broken|timed? ?out|problem|issue",
    re.IGNORECASE,
)
"""Words with which a turn is taken to notice that a tool failed."""


def parse_record(line: bytes) -> dict[str, Any]:
    """Parse a line of a shard; raise RecordError if it is not a rollout of a readable version."""
    data: dict[str, Any] = object_of(line, "rollout")
    check_schema(data.get("schema"), SCHEMA, "rollout")
    if not isinstance(data.get("id"), str) or not isinstance(data.get("status"), str):
        raise RecordError("not a rollout: it has no id or no status")
    return data


def row_of(data: dict[str, Any], run: int, file: int, start: int, length: int) -> tuple[Any, ...]:
    """Return a record as a row of the index's table `rollouts`, without its key; values of a wrong type count as missing."""
    environment, task, usage = _object(data, "environment"), _object(data, "task"), _object(data, "usage")
    messages = objects_in(data.get("messages"))
    turns = [m for m in messages if m.get("role") == "assistant" and m.get("origin") in ("policy", None)]
    calls = [block for turn in turns for block in objects_in(turn.get("blocks")) if block.get("type") == "tool_call"]
    tools = sorted({name for call in calls if (name := _text(call.get("name"))) is not None})
    errors = sum(map(_is_error, messages))
    prompt = next(filter(None, (_text_beginning(m) for m in messages if m.get("role") == "user")), "")
    rollout_id = _storable(data["id"])
    group = _text(data.get("group")) or _text(task.get("id")) or rollout_id
    tokens = _integer(usage.get("output_tokens"))
    discard = _text(data.get("discard_reason"))
    metrics = metrics_of(data)
    timing = _object(data, "timing")
    policy_s, environment_s = number_of(timing.get("policy_s")), number_of(timing.get("environment_s"))
    model = _object(data, "model")
    duration, cost, unnoticed = _duration(data), number_of(data.get("cost_usd")), unnoticed_errors(messages) if errors else 0
    card = {
        "id": rollout_id,
        "name": _text(data.get("name")),
        "group": group,
        "sample": _integer(data.get("sample")),
        "step": _integer(data.get("step")),
        "reward": _display(data.get("reward")),
        "advantage": _display(data.get("advantage")),
        "tokens": tokens,
        "turns": len(turns),
        "calls": len(calls),
        "errors": errors,
        "unnoticed_errors": unnoticed,
        "input_tokens": _integer(usage.get("input_tokens")),
        "cost": cost,
        "policy_s": policy_s,
        "environment_s": environment_s,
        "duration": duration,
        "status": _text(data.get("status")),
        "stop": _text(data.get("stop_reason")),
        "discard": discard,
        "index": _integer(task.get("index")),
        "metrics": {key: _display(value) for key, value in metrics.items()},
    }
    return (
        run, file, start, length, rollout_id, card["name"], _text(environment.get("name")) or "",
        _text(environment.get("variant")), _text(environment.get("split")), _text(task.get("id")), card["index"], group,
        card["sample"], _integer(data.get("attempt")) or 0, card["step"], number_of(data.get("advantage")), discard,
        int(discard is not None), card["status"], card["stop"], number_of(data.get("reward")),
        number_of(data.get("final_reward")), len(turns), len(calls), errors, tokens, card["input_tokens"],
        duration, cost, _integer(data.get("seed")),
        _text(model.get("name") or model.get("model_name")), _text(data.get("started_at")), prompt,
        _json(tools), _json({metric_key(k): number_of(v) for k, v in metrics.items()}), _json(card), policy_s, environment_s,
        _error_text(data.get("error")), unnoticed, _task_key(data, rollout_id),
    )  # fmt: skip


def metrics_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return a record's metrics by name; a value is None, a number, or the word for NaN or an infinity."""
    return {_storable(k[:NAME_LENGTH]): v for k, v in _object(data, "metrics").items() if v is None or _float(v) is not None}


def metric_key(name: str) -> str:
    """Return the key of a metric in the column `metrics`: its name, with what a JSON path cannot quote as %XX."""
    return re.sub(r'[%"\\\x00-\x1f\x7f]', lambda found: f"%{ord(found[0]):02X}", name)


def metric_name(key: str) -> str:
    """Return the name of a metric from its key in the column `metrics`."""
    return unquote(key)


def unnoticed_errors(messages: Sequence[dict[str, Any]]) -> int:
    """Count the tool errors that the model does not seem to have noticed: a heuristic.

    An error counts if there is a turn of the model after it, and the first such turn neither calls the same tool again nor has
    a word like "error", "failed", "again" or "sorry" in its text or its recorded reasoning.
    """
    names: dict[str, str] = {}
    waiting: list[str] = []
    unnoticed = 0
    for message in messages:
        if _is_error(message):
            waiting.append(str(message.get("name") or names.get(str(message.get("call_id")), "")))
        elif message.get("role") == "assistant" and message.get("origin") in ("policy", None):
            blocks = objects_in(message.get("blocks"))
            calls = [block for block in blocks if block.get("type") == "tool_call"]
            if waiting:
                called = {str(call.get("name")) for call in calls}
                said = (block.get(key) for block in blocks for key in ("text", "content", "summary") if block not in calls)
                noticed = any(isinstance(text, str) and _NOTICES.search(text) for text in said)
                unnoticed += 0 if noticed else sum(name not in called for name in waiting)
                waiting = []
            names.update({str(call.get("call_id")): str(call.get("name")) for call in calls})
    return unnoticed


def _is_error(message: dict[str, Any]) -> bool:
    return message.get("role") == "tool" and message.get("is_error") is True


def _error_text(error: Any) -> str | None:
    if isinstance(error, dict):
        error = error.get("message") or _json(error)
    return _storable(error[:ERROR_LENGTH]) if isinstance(error, str) and error else None


def _task_key(data: dict[str, Any], rollout_id: str) -> str:
    """Return the task that a rollout counts for, as `openreward_gym.reports.statistics.task_key` does."""
    task, environment = _object(data, "task"), _object(data, "environment")
    index = _integer(task.get("index"))
    if name := _text(task.get("id")):
        return name
    if index is not None:
        return f"{_text(environment.get('name')) or ''}/{_text(environment.get('split'))}/{index}"
    return _text(data.get("group")) or f"rollout {rollout_id}"


def _text_beginning(message: dict[str, Any]) -> str:
    for block in objects_in(message.get("blocks")):
        if block.get("type") == "text" and isinstance(block.get("text"), str):
            return _storable(" ".join(block["text"][: 4 * PROMPT_LENGTH].split())[:PROMPT_LENGTH])
    return ""


def objects_in(value: Any) -> list[dict[str, Any]]:
    """Return the JSON objects in a list; empty for any other value."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def run_name(data: dict[str, Any]) -> str | None:
    """Return the name of a record's run; None if the record does not have one."""
    return _text(data.get("run"))


def ranges_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return the ranges that a record declares for its reward and metrics: `metadata.ranges`, `environment.reward_range`.

    A range is `{"min": 0, "max": 1, "lower_is_better": false}` or `[0, 1]`.
    """
    ranges: dict[str, Any] = {}
    declared = dict(_object(_object(data, "metadata"), "ranges"))
    reward = _object(data, "environment").get("reward_range")
    if reward is not None:
        declared.setdefault("reward", reward)
    for name, value in declared.items():
        pair = [value.get("min"), value.get("max")] if isinstance(value, dict) else value
        if isinstance(pair, list) and len(pair) == 2:
            low, high = number_of(pair[0]), number_of(pair[1])
            if low is not None and high is not None and low < high:
                inverted = isinstance(value, dict) and value.get("lower_is_better") is True
                ranges[_storable(name[:NAME_LENGTH])] = {"min": low, "max": high, "lower_is_better": inverted}
    return ranges


def _object(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return _storable(value[:NAME_LENGTH]) if isinstance(value, str) else None


def _storable(text: str) -> str:
    # SQLite accepts UTF-8 only, and the text of a record may contain lone surrogates.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _float(value: Any) -> float | None:
    """Return a number, which may be NaN or infinite; None for everything else."""
    if isinstance(value, str):
        return float(value) if value.lower() in {"nan", "inf", "-inf", "infinity", "-infinity"} else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def number_of(value: Any) -> float | None:
    """Return a finite number; None for everything else."""
    number = _float(value)
    return number if number is not None and math.isfinite(number) else None


def _display(value: Any) -> float | str | None:
    """Return a number for the page; NaN and infinities become strings, so that they are not confused with None or 0."""
    number = _float(value)
    return number if number is None or math.isfinite(number) else str(number)


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 62 else None


def _duration(data: dict[str, Any]) -> float | None:
    started, ended = (moment_of(_text(data.get(name))) for name in ("started_at", "ended_at"))
    return None if started is None or ended is None else (ended - started).total_seconds()


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
