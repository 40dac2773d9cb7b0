"""A listener for requests that failed and are sent again, one per task."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
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
