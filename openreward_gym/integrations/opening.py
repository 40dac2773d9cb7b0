"""The opening of an episode's session, in several attempts, each failure of which is written to the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from openreward_gym.collect.retries import BUDGETS, RetryTracker, failure_kind, is_deterministic
from openreward_gym.envs.episode import FAILURES
from openreward_gym.errors import OpenRewardGymError, ServerError
from openreward_gym.options import RetryBudget
from openreward_gym.redaction import RecordRedactor
from openreward_gym.store import Failure, RolloutStore


async def open_in_attempts(
    reset: Callable[[], Awaitable[Any]],
    attempts: int,
    *,
    store: RolloutStore | None,
    redactor: RecordRedactor,
    known: Mapping[str, Any],
) -> None:
    """Open a session. An environment that raised an exception like ValueError while it was set up is not tried again.

    Args:
        reset: Opens the session.
        attempts: Number of attempts.
        store: Where failures are written. None writes none.
        redactor: Cuts secrets out of them.
        known: What is known of the episode: `group`, `sample`, `split` and the task's `index`.

    Raises:
        OpenRewardGymError: The failure of the last attempt.

    Example:
        >>> await open_in_attempts(env.areset, 3, store=None, redactor=RecordRedactor(), known={})  # doctest: +SKIP
    """
    budget = RetryBudget(attempts, first_wait_s=0.5)
    # A kind that is never retried stays so.
    retries = RetryTracker({kind: budget for kind, default in BUDGETS.items() if default.attempts > 1})
    attempt = 0
    while True:
        try:
            await reset()
            return
        except FAILURES as error:
            kind = failure_kind(error, "open")
            raised_itself = kind == "setup_failed" and is_deterministic(getattr(error, "detail", ""))
            wait_s = retries.wait_s(0, "setup_raised" if raised_itself else kind, getattr(error, "retry_after_s", None))
            if store is not None:
                store.append_failure(_failure(error, kind, attempt, wait_s, known).redacted(redactor))
            if wait_s is None:
                raise
            attempt += 1
            await asyncio.sleep(wait_s)


def _failure(error: OpenRewardGymError, kind: str, attempt: int, wait_s: float | None, known: Mapping[str, Any]) -> Failure:
    return Failure(
        "environment",
        kind,
        stage="open",
        delivery=getattr(error, "delivery", None),
        attempt=attempt,
        http_status=error.status if isinstance(error, ServerError) else None,
        exception=f"{type(error).__module__}.{type(error).__qualname__}",
        message=str(error),
        task=str(known.get("group") or ("" if known.get("index") is None else known["index"])),
        sample=known.get("sample"),
        retried_in_s=None if wait_s is None else round(wait_s, 3),
        extra={"split": known.get("split"), "index": known.get("index")},
    )
