"""Weights that an export gives to the turns of a record (`ExportOptions.weights`)."""

from __future__ import annotations

import math
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.export.options import Weights
from openreward_gym.export.reader import Record, is_model_turn
from openreward_gym.types import Rollout


def _weight(value: Any, function: object) -> float:
    if isinstance(value, (int, float)) and 0 <= value < math.inf:
        return float(value)
    name = getattr(function, "__qualname__", None) or repr(function)
    raise ConfigurationError(f"weights: the function {name} returned {value!r}, not a number of at least 0, or None")


def with_weights(record: Record, weights: Weights) -> Record:
    """Return a record with the weights that a rule gives to the model's turns; other messages are never trained."""
    messages = record.get("messages") or []
    changes: dict[int, float] = {}
    if callable(weights):
        rollout = Rollout.from_dict(record)
        for number, message in enumerate(messages):
            if is_model_turn(message):
                weight = weights(rollout, rollout.messages[number])
                if weight is not None:
                    changes[number] = _weight(weight, weights)
    elif weights == "skip_failed_calls":
        changes = dict.fromkeys(_turns_with_failed_calls(messages), 0.0)
    if not changes:
        return record
    changed = [
        {**message, "weight": changes[number]} if number in changes else message for number, message in enumerate(messages)
    ]
    return {**record, "messages": changed}


def _turns_with_failed_calls(messages: list[Record]) -> set[int]:
    """Return the model's turns of which a call has an error as its result."""
    failed: set[int] = set()
    turn = -1
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            turn = number
        elif message["role"] == "tool" and message.get("is_error") and turn >= 0 and is_model_turn(messages[turn]):
            failed.add(turn)
    return failed
