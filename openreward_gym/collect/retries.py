"""Retries of failed attempts: a budget for each kind of failure, and the queue of units that are played or wait for a retry."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeAlias

from openreward_gym.collect.inventory import Unit
from openreward_gym.errors import (
    AuthenticationError,
    ConfigurationError,
    OpenRewardGymError,
    OutcomeUnknownError,
    PolicyError,
    ProtocolError,
    ServerError,
    ServerUnreachableError,
    SessionLostError,
    TaskNotFoundError,
    ToolFailedError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.options import RetryBudget, RetryKind

BUDGETS: Mapping[RetryKind, RetryBudget] = {
    "unreachable": RetryBudget(12, first_wait_s=1.0, deadline_s=300.0),
    "connection": RetryBudget(6),
    "timeout": RetryBudget(4, first_wait_s=2.0),
    "session_lost": RetryBudget(6),
    "outcome_unknown": RetryBudget(6),
    "protocol_error": RetryBudget(4),
    "rate_limited": RetryBudget(20, first_wait_s=1.0, longest_wait_s=60.0, deadline_s=1800.0),
    "server_error": RetryBudget(6, first_wait_s=1.0),
    # An environment that raised while it was set up mostly does so again.
    "setup_failed": RetryBudget(3, first_wait_s=1.0),
    # The same task would raise the same exception of the environment's own code: see `is_deterministic`.
    "setup_raised": RetryBudget(1),
    # A tool that raised may be broken for this task: a few attempts show it.
    "tool_failed": RetryBudget(3),
    "policy_unavailable": RetryBudget(4, first_wait_s=2.0, longest_wait_s=60.0),
    # The policy's own exception would come again.
    "policy_failed": RetryBudget(1),
    "policy_refused": RetryBudget(1),
    "refused": RetryBudget(3),
    "task_not_found": RetryBudget(1),
    # Only one retry: a unit that kills its worker kills the next one, too.
    "worker_lost": RetryBudget(2, first_wait_s=0.0),
    # A unit is not the cause of the death of a node.
    "node_lost": RetryBudget(12, first_wait_s=0.5),
}
"""Default budgets by kind of failure. A kind that is not listed is not retried."""

_NO_RETRY = RetryBudget(1)

Stage: TypeAlias = Literal["open", "policy", "call"]
"""The part of an attempt that failed."""

# The first class that matches decides: a lost session is also a transport error, and so on.
_KINDS: tuple[tuple[type[OpenRewardGymError], str], ...] = (
    (ServerUnreachableError, "unreachable"),
    (TransportTimeoutError, "timeout"),
    (OutcomeUnknownError, "outcome_unknown"),
    (ToolFailedError, "tool_failed"),
    (SessionLostError, "session_lost"),
    (ProtocolError, "protocol_error"),
    (TransportError, "connection"),
    (TaskNotFoundError, "task_not_found"),
    (ConfigurationError, "refused"),
    (AuthenticationError, "refused"),
)
# Exceptions of code that was given values which it does not take. Those of the operating system, of time and of networks are not
# among them, nor a RuntimeError, which may be anything.
_DETERMINISTIC = frozenset(
    {
        "ArithmeticError",
        "AssertionError",
        "AttributeError",
        "ImportError",
        "IndexError",
        "KeyError",
        "LookupError",
        "ModuleNotFoundError",
        "NameError",
        "NotImplementedError",
        "OverflowError",
        "RecursionError",
        "SyntaxError",
        "TypeError",
        "UnboundLocalError",
        "UnicodeDecodeError",
        "UnicodeEncodeError",
        "ValidationError",
        "ValueError",
        "ZeroDivisionError",
    }
)
_EXCEPTION = re.compile(r"(?:\w+\.)*(\w+)(?::|$)")


def is_deterministic(words: str) -> bool:
    """Return True if a server's words for an exception of its environment name one that the same task mostly raises again.

    These are "ValueError: no city" of the official server and of `openreward-gym serve`.

    Example:
        >>> is_deterministic("ValueError: no city"), is_deterministic("ConnectionError: no route"), is_deterministic("busy")
        (True, False, False)
    """
    named = _EXCEPTION.match(words)
    return named is not None and named[1] in _DETERMINISTIC


def failure_kind(error: BaseException, stage: Stage) -> str:
    """Return the kind of failure, by which retry budgets are chosen."""
    if isinstance(error, PolicyError):
        return error.kind
    if isinstance(error, TransportError) and error.permanent:
        return "refused"
    if isinstance(error, ServerError) and not isinstance(error, AuthenticationError):
        if error.status == 429:
            return "rate_limited"
        if error.status in (500, None) and stage == "open":
            return "setup_failed"
        # A server mostly refuses again what it refused once.
        return "refused" if error.status is not None and 400 <= error.status < 500 and error.status != 408 else "server_error"
    return next((kind for cls, kind in _KINDS if isinstance(error, cls)), "policy_failed")


class RetryTracker:
    """Counts each unit's failures against `BUDGETS`, in which `budgets` replaces entries. Tests replace `clock` and `draw`."""

    def __init__(
        self,
        budgets: Mapping[str, RetryBudget] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._budgets: dict[str, RetryBudget] = dict(BUDGETS.items()) | dict(budgets or {})
        self._clock = clock
        self._draw = draw
        # By unit, the time of its first failure since the last success, and the number of its failures by kind.
        self._failures: dict[int, tuple[float, Counter[str]]] = {}

    def wait_s(self, unit: int, kind: str, retry_after_s: float | None = None) -> float | None:
        """Count a failure of a unit, and return the seconds until it is retried. None if its budget is spent.

        `retry_after_s` is the least wait that the server requests. None if it requests no wait.
        """
        budget = self._budgets.get(kind, _NO_RETRY)
        now = self._clock()
        since, counts = self._failures.setdefault(unit, (now, Counter()))
        counts[kind] += 1
        count = counts[kind]
        wait_s = self._draw() * min(budget.longest_wait_s, budget.first_wait_s * 2.0 ** min(count - 1, 30))
        wait_s = max(wait_s, retry_after_s or 0.0)
        remaining_s = since + budget.deadline_s - now
        if count >= budget.attempts or wait_s > remaining_s:
            self.forget(unit)
            return None
        return wait_s

    def forget(self, unit: int) -> None:
        """Forget a unit's failures, because it succeeded or is not retried."""
        self._failures.pop(unit, None)


class UnitQueue:
    """Units to play: new ones in their order, failed ones when their wait is over.

    A unit leaves the queue with `take`, and ends with `settle` or returns with `retry`. Units are made only when they are taken.
    """

    def __init__(self, units: Iterator[Unit]) -> None:
        self._new = units
        self._waiting: list[tuple[float, int, Unit]] = []
        self._order = itertools.count()
        self._in_flight = 0
        self._drained = False
        self._changed = asyncio.Event()

    async def take(self) -> Unit | None:
        """Wait for the next unit. None if all units are settled, or the queue is drained."""
        while not self._drained:
            now = time.monotonic()
            due = self._waiting[0][0] if self._waiting else None
            unit = heapq.heappop(self._waiting)[2] if due is not None and due <= now else next(self._new, None)
            if unit is not None:
                self._in_flight += 1
                return unit
            if due is None and not self._in_flight:
                return None
            self._changed.clear()
            # Not `wait_for`, which on Python 3.11 loses a cancellation that comes in the same turn as the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else due - now):
                    await self._changed.wait()
        return None

    def settle(self) -> None:
        """Note that a unit which was taken has its outcome."""
        self._in_flight -= 1
        self._changed.set()

    def retry(self, unit: Unit, wait_s: float) -> None:
        """Return a unit which was taken, to be played again after `wait_s` seconds."""
        heapq.heappush(self._waiting, (time.monotonic() + wait_s, next(self._order), unit))
        self.settle()

    def drain(self) -> None:
        """Hand out no further units."""
        self._drained = True
        self._changed.set()
