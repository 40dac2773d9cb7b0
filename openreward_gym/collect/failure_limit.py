"""The end of a collection that cannot succeed: failures that would come again for every unit, or more of them than allowed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

from openreward_gym.store import Failure

LASTING = frozenset(
    {"policy_refused", "policy_failed", "refused", "setup_failed", "tool_failed", "protocol_error", "task_not_found"}
)
"""Kinds of failures that mostly come again when the same is tried again."""
SAME_FAILURES = 5
"""Number of equal lasting failures at a collection's start that end it."""
LEAST_FINISHED = 10
"""Number of finished units from which a share of failed ones is meaningful."""
SLOW_START_S = 2.0
"""Seconds without a failure after which attempts are no longer held back."""

_CHANGING = re.compile(r"[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|\d+", re.IGNORECASE)
# The first exception that a message names.
_EXCEPTION = re.compile(r"(?:^|[\s:])(?:\w+\.)*(\w+(?:Error|Exception|Timeout))(?=:|$)")
_PLACE = re.compile(r'File ".*", line \d+')


def is_lasting(failure: Failure) -> bool:
    """Return True if the failure would mostly come again.

    An environment that could not reach something, or waited too long for it, raised for an outage, which ends.

    Example:
        >>> is_lasting(Failure("environment", "setup_failed", message="HTTP 500: ValueError: no city"))
        True
        >>> is_lasting(Failure("environment", "setup_failed", message="HTTP 500: ConnectionError: no route"))
        False
    """
    named = _EXCEPTION.search(failure.message) if failure.kind in ("setup_failed", "tool_failed") else None
    is_outage = named is not None and any(word in named[1] for word in ("Timeout", "Connection", "ConnectError"))
    return failure.kind in LASTING and not is_outage


def signature_of(failure: Failure) -> tuple[object, ...]:
    """Return what equal failures of different units have in common: the status of a refusal, the line of code, or the words."""
    common = (failure.source, failure.kind, failure.exception)
    place = _PLACE.search(failure.message)
    if failure.http_status is not None and 400 <= failure.http_status < 500:
        return (*common, failure.http_status)
    return (*common, place[0] if place else _CHANGING.sub("#", failure.message))


class FailureLimit:
    """Decides whether a failure ends the collection; `limit` is the option `fail_on_error`.

    Args:
        limit: None ends it when its first failures are lasting, equal, and nothing has succeeded. A number from 1 is the number
            of failed units that ends it, a smaller one their share of the finished units. 0 never ends it.

    Example:
        >>> limit = FailureLimit(2)
        >>> [limit.reached(task, Failure("policy", "policy_refused"), final=True) for task in range(2)]
        ['', '2 units failed (the limit is fail_on_error=2)']
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._proven = False
        self._finished = self._failed = 0
        self._equal: dict[tuple[object, ...], list[int]] = {}

    @property
    def stops_at_mistakes(self) -> bool:
        """True if an error that concerns every unit, such as a refused key, ends the collection: nothing has succeeded yet."""
        return not self._proven and self._limit != 0

    def succeeded(self) -> None:
        """Note that a unit has its rollout."""
        self._proven = True
        self._finished += 1
        self._equal.clear()

    def reached(self, task: int, failure: Failure, *, final: bool, known: bool = False) -> str:
        """Count a failure. Return the reason to stop, or an empty string.

        Args:
            task: Number of the task; in a run of one task, that of the unit.
            failure: The failure.
            final: True if the unit is not retried.
            known: True if the unit failed in an earlier collection, in which others succeeded.
        """
        self._finished += final
        self._failed += final
        limit = self._limit
        if limit is None:
            return "" if known else self._equal_reached(task, failure)
        if limit >= 1:
            reached = self._failed >= limit
            noun = "unit" if self._failed == 1 else "units"
            return f"{self._failed} {noun} failed (the limit is fail_on_error={limit:g})" if reached else ""
        reached = limit > 0 and self._finished >= LEAST_FINISHED and self._failed > limit * self._finished
        share = f"{self._failed} of {self._finished} finished units failed"
        return f"{share} (the limit is fail_on_error={limit:g})" if reached else ""

    def _equal_reached(self, task: int, failure: Failure) -> str:
        if self._proven or not is_lasting(failure):
            return ""
        tasks = self._equal.setdefault(signature_of(failure), [])
        tasks.append(task)
        # One task may be broken, however often it is tried.
        reached = len(tasks) >= SAME_FAILURES and len(set(tasks)) > 1
        return f"{len(tasks)} attempts failed in this way, and nothing has succeeded" if reached else ""


class SlowStart:
    """Admits `width` at once until `open` is called, so that a refusal which concerns all of them is heard only a few times.

    It also opens after `SLOW_START_S` seconds without a failure, and after failures that do not last.

    Example:
        >>> gate = SlowStart(5)
        >>> gate.failed(lasting=False)
        >>> gate.is_open
        True
    """

    def __init__(self, width: int, *, is_open: bool = False) -> None:
        self._width = width
        self.is_open = is_open
        self._slots = asyncio.Semaphore(width)
        self._waiting = self._failures = 0
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a place, after waiting for it. Once it is open, there is place for all."""
        if self.is_open:
            yield
            return
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        if self._timer is None:
            self._wait()
        try:
            yield
        finally:
            self._slots.release()

    def failed(self, *, lasting: bool) -> None:
        """Note that one failed. Lasting failures keep it closed, each for `SLOW_START_S`; any other, and very many, open it."""
        self._failures += 1
        if not lasting or self._failures >= 2 * max(self._width, SAME_FAILURES):
            self.open()
        elif self._timer is not None:
            self._timer.cancel()
            self._wait()

    def open(self) -> None:
        """Admit all."""
        if not self.is_open:
            self.is_open = True
            for _ in range(self._waiting):
                self._slots.release()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SLOW_START_S, self.open)
