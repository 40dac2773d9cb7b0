"""Failures behind the exceptions of providers' SDKs and their HTTP libraries: error responses, broken connections, waits."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from openreward_gym.chat.failures import failure_words, parsed_body
from openreward_gym.retrying import seconds_until
from openreward_gym.types import Json

LONGEST_RETRY_AFTER_S = 86_400.0
"""A longer wait that a server requests is taken for nonsense, and ignored."""

_NOT_CONNECTED = re.compile("ConnectError|ConnectTimeout|ConnectorError|PoolTimeout|UnsupportedProtocol")
# Class names of the SDKs and their HTTP libraries for a connection that failed, and for an answer in another format.
_NETWORK = re.compile(
    "Connect|Timeout|Protocol|Network|Read|Write|ServerDisconnected|ClientPayload|TooManyRedirects|InvalidU(?:RL|rl)"
)
_UNREADABLE = re.compile(
    "JSONDecodeError|ResponseValidationError|ValidationError|UnicodeDecodeError|DecodingError|MessageError|RecursionError"
)
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?) ?(ms|s)(?:ec(?:ond)?s?)?)?")
_WAIT_IN_WORDS = re.compile(rf"(?:try again|retry)\w* (?:in|after) ({_DURATION.pattern})", re.IGNORECASE)


class ErrorResponse(NamedTuple):
    """The HTTP response behind an exception: its status, its body as JSON values or text, and its headers."""

    status: int
    body: Json
    headers: Mapping[str, str]


class BrokenExchange(NamedTuple):
    """Why an exchange has no HTTP response: the reason in words, and whether the server saw the request."""

    reason: str
    delivery: str


def error_response(error: Exception) -> ErrorResponse | None:
    """Return the HTTP response that an SDK's exception stands for. None if the exception has none."""
    codes = (getattr(error, name, None) for name in ("status_code", "code"))
    status = next((code for code in codes if isinstance(code, int) and 100 <= code < 1000), None)
    if status is None:
        return None
    response = getattr(error, "response", None)
    try:
        text = response.text  # type: ignore[union-attr]
    except Exception:  # the response was not read, or is of another library
        text = None
    if isinstance(text, str):
        body = parsed_body(text)
    else:
        body = next((getattr(error, name) for name in ("details", "body") if hasattr(error, name)), str(error))
    headers = getattr(response, "headers", None)
    return ErrorResponse(status, body, headers if isinstance(headers, Mapping) else {})


def broken_exchange(error: Exception, timeout_s: float) -> BrokenExchange | None:
    """Return why an exchange broke, from an exception without a response. None for an exception of another kind."""
    chain = list(_chain(error))
    names = " ".join(type(one).__name__ for one in chain)
    if any(isinstance(one, ConnectionRefusedError) for one in chain):
        return BrokenExchange("connection refused", "not_sent")
    if any(isinstance(one, socket.gaierror) for one in chain):
        return BrokenExchange("the name of its host is unknown", "not_sent")
    if any(isinstance(one, ssl.SSLError) for one in chain):
        return BrokenExchange(f"TLS failed: {_innermost(chain)}", "not_sent")
    if _NOT_CONNECTED.search(names):
        reason = "no connection in time" if "Timeout" in names else f"no connection: {_innermost(chain)}"
        return BrokenExchange(reason, "not_sent")
    if isinstance(error, TimeoutError) or "Timeout" in names:
        return BrokenExchange(f"no answer within {timeout_s:g} s", "possibly_delivered")
    if _UNREADABLE.search(type(error).__name__):
        text = getattr(error, "doc", None)  # of a JSONDecodeError
        words = failure_words(text) if isinstance(text, str) else failure_words(str(error))
        return BrokenExchange(f"the answer is not JSON of the API: {words or 'it is empty'}", "delivered")
    if isinstance(error, OSError) or _NETWORK.search(type(error).__name__):
        return BrokenExchange(f"the connection broke: {_innermost(chain)}", "possibly_delivered")
    return None


def retry_after_s(headers: Mapping[str, str], body: Json = None, *, now: float | None = None) -> float | None:
    """Return the seconds until the next request that a server wants. None if it wants no wait, or says nonsense.

    Args:
        headers: The response's headers: `retry-after-ms`, and `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3). A
            date counts from the response's own `Date`, so that clocks may differ.
        body: The response's body, with Google's `retryDelay` or "try again in 20s" in its message.
        now: The time in seconds since the epoch, for a response without `Date`. None for the current time.

    Example:
        >>> retry_after_s({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT", "date": "Fri, 31 Dec 1999 23:59:49 GMT"})
        10.0
        >>> retry_after_s({}, {"error": {"message": "Please try again in 1m2.5s."}})
        62.5
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    header = headers.get("retry-after")
    candidates = (
        None if milliseconds is None else milliseconds / 1000,
        _number(header),
        seconds_until(header, headers.get("date"), time.time() if now is None else now),
        _duration(_retry_delay(body)),
        _duration(match[1]) if (match := _WAIT_IN_WORDS.search(failure_words(body))) else None,
    )
    return next((value for value in candidates if value is not None and 0 <= value <= LONGEST_RETRY_AFTER_S), None)


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _retry_delay(body: Json) -> str:
    """Return the `retryDelay` in the details of Google's errors ("34s")."""
    if isinstance(body, list):
        return next(filter(None, map(_retry_delay, body)), "")
    if not isinstance(body, Mapping):
        return ""
    delay = body.get("retryDelay")
    if isinstance(delay, str):
        return delay
    return _retry_delay(body.get("error")) or _retry_delay(body.get("details"))


def _duration(text: str) -> float | None:
    """Return the seconds of "34s", "9m38.016s", "600ms" or "20 seconds"; None for another text."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    hours, minutes, number, unit = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(number or 0) / (1000 if unit == "ms" else 1)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that caused it, those inside groups too."""
    waiting: list[BaseException | None] = [error]
    visited: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in visited:
            continue
        visited.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def _innermost(chain: list[Any]) -> str:
    """Return the words of the innermost exception that has some, first of those of the operating system."""
    # An HTTP library may raise while it handles another exception: an IndexError of its own says nothing of the connection.
    telling = list(reversed(chain))
    telling.sort(key=lambda one: 0 if isinstance(one, OSError) else 2 if isinstance(one, LookupError) else 1)
    return next((words for one in telling if (words := failure_words(str(one)))), type(chain[0]).__name__)
