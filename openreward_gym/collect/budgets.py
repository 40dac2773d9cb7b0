"""How often, and for how long, an attempt that infrastructure spoiled is made again. Nothing retries forever."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from openreward_gym.options import RetryBudget

BUDGETS: Mapping[str, RetryBudget] = {
    "unreachable": RetryBudget(12, first_wait_s=1.0, deadline_s=300.0),
    "connection": RetryBudget(6),
    "timeout": RetryBudget(4, first_wait_s=2.0),
    "session_lost": RetryBudget(6),
    "outcome_unknown": RetryBudget(6),
    "protocol_error": RetryBudget(4),
    "rate_limited": RetryBudget(20, first_wait_s=1.0, longest_wait_s=60.0, deadline_s=1800.0),
    "server_error": RetryBudget(6, first_wait_s=1.0),
    # A tool that raised may be broken for this task: a few tries tell.
    "tool_failed": RetryBudget(3),
    "policy_unavailable": RetryBudget(4, first_wait_s=2.0, longest_wait_s=60.0),
    # The policy's own exception comes again.
    "policy_failed": RetryBudget(1),
    "policy_refused": RetryBudget(1),
    "refused": RetryBudget(3),
    "task_not_found": RetryBudget(1),
    # Once more: a unit that kills its worker kills the next one, too.
    "worker_lost": RetryBudget(2, first_wait_s=0.0),
}
"""By kind of failure; a kind that is not here is tried once."""

NO_BUDGET = RetryBudget(1)


@dataclass(slots=True)
class _Trouble:
    since: float
    counts: Counter[str] = field(default_factory=Counter)


class Patience:
    """Remembers what each unit has spent.

    Args:
        budgets: Budgets that replace the default ones, by kind.
        clock: Seconds, for tests.
        draw: A number from 0 to 1, for tests.
    """

    def __init__(
        self,
        budgets: Mapping[str, RetryBudget] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._budgets = {**BUDGETS, **(budgets or {})}
        self._clock = clock
        self._draw = draw
        self._troubles: dict[int, _Trouble] = {}

    def wait_s(self, unit: int, kind: str, retry_after_s: float | None = None) -> float | None:
        """Seconds until the unit is tried again after a failure; None: it is not.

        `retry_after_s` is what the server asked for: it is waited at least, where the deadline allows.
        """
        budget = self._budgets.get(kind, NO_BUDGET)
        trouble = self._troubles.setdefault(unit, _Trouble(self._clock()))
        trouble.counts[kind] += 1
        failures = trouble.counts[kind]
        wait_s = self._draw() * min(budget.longest_wait_s, budget.first_wait_s * 2.0 ** min(failures - 1, 30))
        wait_s = max(wait_s, retry_after_s or 0.0)
        left_s = trouble.since + budget.deadline_s - self._clock()
        if failures >= budget.attempts or wait_s > left_s:
            self.forget(unit)
            return None
        return wait_s

    def forget(self, unit: int) -> None:
        self._troubles.pop(unit, None)
