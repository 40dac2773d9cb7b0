"""Requests that failed and are sent again: a listener, one per task, and the dates of `Retry-After` headers."""

from __future__ import annotations

import contextlib
import email.utils
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC
from typing import TypeAlias

RetryListener: TypeAlias = Callable[[Exception, float], None]
_listener: ContextVar[RetryListener | None] = ContextVar("retry_listener", default=None)


@contextlib.contextmanager
def retries_heard_by(listener: RetryListener) -> Iterator[None]:
    """Call `listener(error, wait_s)` for each failure that is retried inside the block, in this task and the tasks it starts."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def note_retry(error: Exception, wait_s: float) -> None:
    """Tell the listener that `error` happened and the request is sent again after `wait_s` seconds."""
    listener = _listener.get()
    if listener is not None:
        listener(error, wait_s)


def seconds_until(text: str | None, date: str | None, now: float) -> float | None:
    """Return the seconds until an HTTP date; 0 for one that has passed. None if `text` is not a date.

    Args:
        text: The date.
        date: The date of the response itself, from which to count, so that clocks may differ. None counts from `now`.
        now: The Unix time in seconds.

    Example:
        >>> seconds_until("Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:49 GMT", 0.0)
        10.0
    """
    moment = _timestamp(text)
    if moment is None:
        return None
    sent = _timestamp(date)
    return max(0.0, moment - (now if sent is None else sent))


def _timestamp(text: str | None) -> float | None:
    # No date is as long as this. The parser of dates raises several errors for what is none.
    if not text or len(text) > 64:
        return None
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
