"""The form in which the wordings of providers' errors are written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from openreward_gym.jsonio import Json

FailureKind: TypeAlias = Literal[
    "context_overflow",  # the transcript does not fit: the episode is truncated
    "content_filter",  # the provider withheld the answer: the episode is truncated
    "quota",  # the account has no credit left, or its limit is below this request: a retry cannot succeed
    "model_not_found",
    "bad_key",
    "refused",  # a wrong parameter
    "rate_limited",  # retried, and the pace slows down
    "unavailable",  # retried
]


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of a server for one kind of failure.

    Attributes:
        kind: What the failure means.
        providers: The servers that write so, separated by spaces.
        pattern: Regular expression, ignoring case, that finds the wording in the body's codes (`code=1261`) and messages.
        status: HTTP status of the example.
        body: Whole body of the example.

    Example:
        >>> Wording("quota", "openai", "insufficient_quota", 429, {"error": {"code": "insufficient_quota"}}).kind
        'quota'
    """

    kind: FailureKind
    providers: str
    pattern: str
    status: int
    body: Json


def plain_error(message: str, **fields: Json) -> dict[str, Json]:
    """Return the envelope of OpenAI, which most servers have."""
    return {"error": {"message": message, **fields}}


def anthropic_error(kind: str, message: str) -> dict[str, Json]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def flat_error(message: str, kind: str = "BadRequestError", code: int = 400) -> dict[str, Json]:
    """Return the envelope of older vLLM, of SGLang and of TensorRT-LLM."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def gemini_error(code: int, status: str, message: str, *details: Json) -> dict[str, Json]:
    return {"error": {"code": code, "message": message, "status": status, **({"details": list(details)} if details else {})}}


INVALID = "invalid_request_error"
GOOGLE = "type.googleapis.com/google.rpc."
