"""Failures of a provider: bodies that have an error in place of an answer, whatever their HTTP status."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from openreward_gym.chat.plain import json_text, rest_of
from openreward_gym.jsonio import Json
from openreward_gym.types import AssistantMessage, Ended, Message, Sampled

# Fields of answers, messages and calls. An object with one of them is not the body of an error.
_CONTENT = ("role", "choices", "output", "candidates", "content", "parts", "name", "function")
# The codes of errors that say that a filter withheld the answer.
_FILTERED = re.compile(r"content_?filter|content_policy|policy_violation|bio_policy", re.IGNORECASE)
_KEYS = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|nvapi|r8)[-_][\w*-]{8,}|\bAIza[\w-]{16,}|\beyJ[\w-]{8,}\.[\w.-]+"
    r"|(?<=bearer )\S{6,}|(?<=key=)[\w*-]{6,}|(?<=token=)[\w*-]{6,}",
    re.IGNORECASE,
)
_SECRET_NAMES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
# Fields that hold a secret, such as the headers of a request that a gateway repeats.
_SECRET_FIELDS = re.compile(
    r"(?:.*[-_])?(?:authorization|api[-_]?key|access[-_]?token|(?:set[-_])?cookie|secret|password)", re.IGNORECASE
)


def is_failure(data: Mapping[str, Json]) -> bool:
    """Return whether an object is the body of an error, as providers and gateways send it, also with status 200.

    Example:
        >>> is_failure({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
        True
        >>> is_failure({"role": "assistant", "content": "404", "error": None})
        False
    """
    if any(data.get(name) for name in _CONTENT):
        return False
    kind = data.get("type")
    return kind == "error" or data.get("object") == "error" or (kind is None and bool(data.get("error")))


def read_failure(data: Mapping[str, Json]) -> AssistantMessage:
    """Return the body of an error as a turn without words, with the error in `sampled.metadata["error"]`."""
    if data.get("error"):
        fields = rest_of(data, *(["type"] if data.get("type") == "error" else []))
    else:  # vLLM and the events of OpenAI have the error's fields in the body itself
        is_event = data.get("type") == "error"
        fields = {"error": rest_of(data, "error", "object", *(["type", "sequence_number"] if is_event else []))}
    return AssistantMessage(sampled=Sampled(metadata=without_secrets(fields)), ended=ended_of_error(fields["error"]))


def ended_of_error(error: Json) -> Ended | None:
    """Return how a turn with this error ended: by a filter or by a failure; None for a value that says no error."""
    if not error:
        return None
    codes = [error.get(name) for name in ("code", "type")] if isinstance(error, Mapping) else []
    return "content_filter" if any(isinstance(code, str) and _FILTERED.search(code) for code in codes) else "error"


def is_withheld(message: Message) -> bool:
    """Return whether a filter, the provider's refusal or the end of the context window took an answer away.

    A refusal in the model's own words is an answer.

    Example:
        >>> is_withheld(AssistantMessage("I would rather not.", ended="refusal")), is_withheld(AssistantMessage(ended="refusal"))
        (False, True)
    """
    is_refused = message.ended == "refusal" and (message.stop_reason == "refusal" or not message.text)
    return is_refused or message.ended in ("content_filter", "context_overflow")


def error_text(message: Message) -> str:
    """Return the provider's words on a turn that failed."""
    error = (message.sampled.metadata or {}).get("error") if message.sampled is not None else None
    words = error.get("message") if isinstance(error, Mapping) else None
    return json_text(words or error or "the provider gave no answer")


def without_secrets(value: Json) -> Json:
    """Return a value without the secrets of this process's environment, and without texts that look like an API key."""
    secrets = [text for name, text in os.environ.items() if name.upper().endswith(_SECRET_NAMES) and len(text) >= 8]
    return _without(value, secrets)


def _without(value: Json, secrets: list[str]) -> Json:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "***")
        return _KEYS.sub("***", value)
    if isinstance(value, list):
        return [_without(item, secrets) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: "***" if item and isinstance(item, str) and _SECRET_FIELDS.fullmatch(name) else _without(item, secrets)
        for name, item in value.items()
    }
