"""Changes of a record before it is converted: weights of turns, and removal of personal data."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.export.options import Scrub, Weights
from openreward_gym.export.reader import Record, is_model_turn
from openreward_gym.types import Rollout

PATTERNS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "emails": (
        re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}\b"),
        "[email]",
    ),
    # A number of a country, or at least nine digits in groups, as they are written by hand; no decimal and no date.
    "phones": (
        re.compile(
            r"(?<![\w.+/-])(?:\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}|\(\d{2,5}\)[ .-]?\d{2,5}(?:[ .-]?\d{2,5}){1,3}"
            r"|0\d{1,4}(?:[ /-]\d{2,5}){2,4}|\d{3}([ .-])\d{3}\1\d{4})(?![\w/-]|\.\d)"
        ),
        "[phone]",
    ),
    # Keys of well-known services by their prefixes, JSON web tokens, private keys, and what follows a word for a secret.
    "keys": (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----"
            r"|\b(?:sk|pk|rk)[-_](?:[A-Za-z]+[-_])*[A-Za-z0-9_-]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
            r"|\bglpat-[\w-]{16,}|\bhf_[A-Za-z0-9]{20,}|\bxox[abprs]-[\w-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}"
            r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}|(?<=[Bb]earer )[\w.~+/-]{16,}=*"
            r"|(?i:(?<=password=)|(?<=api_key=)|(?<=apikey=)|(?<=token=)|(?<=secret=))[^\s&\"'\\,;]{6,}"
        ),
        "[key]",
    ),
}
"""For each kind of personal data, what it looks like, and the text that replaces it."""

# Texts that name things of the record: a change would break references, or the record itself.
_NAMES = frozenset(
    {"schema", "id", "run", "group", "type", "role", "origin", "ended", "status", "call_id", "sha256", "data", "mimeType"}
    | {"started_at", "ended_at", "split", "variant"}
)
# Objects of the record's own; all others (arguments, metadata, specs) are free JSON, where no key has a meaning.
_OWN_OBJECTS = frozenset({"messages", "blocks", "environment", "task", "tools", "sampled"})
_SPEAKERS = ("user", "system", "assistant")
_TOKENS = ("token_ids", "prompt_token_ids", "logprobs", "top_logprobs")


class Scrubber:
    """Replaces personal data in all texts of records.

    Example:
        >>> Scrubber("emails").text("Write to ada@example.org.")
        'Write to [email].'
    """

    def __init__(self, scrub: Scrub) -> None:
        self._function: Callable[[str], str] | None = scrub if callable(scrub) else None
        kinds = () if scrub is None or callable(scrub) else (scrub,) if isinstance(scrub, str) else scrub
        self._patterns = [PATTERNS[kind] for kind in kinds]

    def text(self, text: str) -> str:
        """Return a text without personal data."""
        if self._function is not None:
            return self._function(text)
        for pattern, replacement in self._patterns:
            text = pattern.sub(replacement, text)
        return text

    def record(self, record: Record) -> Record:
        """Return a record without personal data; the same object if it has none."""
        scrubbed: Record = self._value(record)
        if scrubbed is record:
            return record
        # The recorded tokens spell the old texts.
        messages = [
            {**message, "sampled": {key: value for key, value in message["sampled"].items() if key not in _TOKENS}}
            if message.get("sampled")
            else message
            for message in scrubbed.get("messages") or ()
        ]
        return {**scrubbed, "messages": messages} if messages else scrubbed

    def _value(self, value: Any, free: bool = False) -> Any:
        """Return a JSON value with other texts; the same object if none changes. In `free` JSON no text is a name."""
        if isinstance(value, str):
            text = self.text(value)
            return value if text == value else text
        if isinstance(value, list):
            items = [self._value(item, free) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        if isinstance(value, dict):
            changed = {}
            for key, item in value.items():
                if free or not isinstance(item, str) or not _is_name(key, value):
                    new = self._value(item, free or (not isinstance(item, str) and key not in _OWN_OBJECTS))
                    if new is not item:
                        changed[key] = new
            return {**value, **changed} if changed else value
        return value


def _is_name(key: str, owner: Record) -> bool:
    return key in _NAMES or (key == "name" and owner.get("role") not in _SPEAKERS)


def _weight(value: Any) -> float:
    if isinstance(value, (int, float)) and 0 <= value < math.inf:
        return float(value)
    raise ConfigurationError(f"weights must return numbers of at least 0, or None, not {value!r}")


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
                    changes[number] = _weight(weight)
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
