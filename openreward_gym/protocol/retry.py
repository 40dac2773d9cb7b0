"""The retry rule: the pure function `decide_retry`. No I/O, no clock.

The rule protects the environment. A tool call changes it, so a call is repeated only if the first one provably did not run, or
with its task id, for which the server replays the one run instead of starting another.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from openreward_gym.errors import OpenRewardGymError, OutcomeUnknownError, ServerError, SessionLostError, TransportError
from openreward_gym.options import RetryLimits

Delivery = Literal["not_sent", "possibly_delivered", "delivered"]
Action = Literal["retry", "resume", "fail", "outcome_unknown", "session_lost"]

PROXY_STATUSES = frozenset({429, 502, 503, 504})
"""Statuses of proxies between the client and the environment. A 500 is the environment's own exception: it would come again."""


class Effect(Enum):
    """The effect of running a request twice."""

    NONE = "none"
    """None: reading, pinging, deleting."""
    ONCE = "once"
    """A second change: calling a tool, creating an environment, reading the prompt, in which environments initialise."""
    PLATFORM = "platform"
    """None, and the answer comes from the platform's own API, whose 500s are transient."""


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """The failure of one attempt.

    Attributes:
        delivery: Whether the server saw the request.
        status: The HTTP status. None without a response.
        starting: True if the status came with `X-Backend-State: starting`: nothing ran.
        retry_after_s: Seconds to wait that the server requests, or None.
        task_id_seen: True if the run's task id is known.
        task_forgotten: True if the server reports that it no longer knows the task.
        session_gone: True if the server reports that it no longer has the session.
        permanent: True if a retry cannot succeed, as with a certificate that does not match.
    """

    delivery: Delivery = "possibly_delivered"
    status: int | None = None
    starting: bool = False
    retry_after_s: float | None = None
    task_id_seen: bool = False
    task_forgotten: bool = False
    session_gone: bool = False
    permanent: bool = False

    @property
    def may_have_run(self) -> bool:
        """True if the request may have had its effect."""
        if self.task_id_seen:
            return True
        return not (self.starting or self.status == 429 or (self.status is None and self.delivery == "not_sent"))


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """The next step after a failed attempt.

    Attributes:
        action: `retry` from the start, `resume` with the task id, or stop: `fail` (the request did not run, or changed
            nothing), `outcome_unknown` (it may have run) or `session_lost`.
        wait_s: Seconds to wait before a retry or a resumption.
    """

    action: Action
    wait_s: float = 0.0


def failure_of(error: OpenRewardGymError, *, task_id_seen: bool = False) -> AttemptFailure:
    """Return the failure that an attempt's error reports."""
    if isinstance(error, OutcomeUnknownError):
        return AttemptFailure("delivered", task_id_seen=task_id_seen, task_forgotten=True)
    if isinstance(error, SessionLostError):
        return AttemptFailure("delivered", task_id_seen=task_id_seen, session_gone=True)
    if isinstance(error, ServerError):
        status, starting, retry_after_s = error.status, error.starting, error.retry_after_s
        return AttemptFailure("delivered", status, starting, retry_after_s, task_id_seen)
    if isinstance(error, TransportError):
        delivery: Delivery = "not_sent" if error.delivery == "not_sent" else "possibly_delivered"
        return AttemptFailure(delivery, task_id_seen=task_id_seen, permanent=error.permanent)
    # The server does not speak the protocol: a retry cannot succeed, and nothing ran.
    return AttemptFailure("not_sent", task_id_seen=task_id_seen, permanent=True)


def decide_retry(
    effect: Effect, failure: AttemptFailure, *, attempt: int, elapsed_s: float, limits: RetryLimits
) -> RetryDecision:
    """Return the next step after `failure`.

    Args:
        effect: The effect of running the request twice.
        failure: The failure of the last attempt.
        attempt: Number of attempts since the last progress, the failed one included.
        elapsed_s: Seconds since the first attempt, or since the last progress of a run whose task id is known.
        limits: Limits on attempts and time.

    Example:
        >>> decide_retry(Effect.ONCE, AttemptFailure(status=502), attempt=1, elapsed_s=0.1, limits=RetryLimits()).action
        'outcome_unknown'
    """
    if failure.session_gone:
        return RetryDecision("session_lost")
    lost = RetryDecision("outcome_unknown" if effect is Effect.ONCE else "fail")
    if failure.task_forgotten:
        return lost
    wait_s = _wait(failure, attempt, limits)
    if failure.task_id_seen:
        resumable = not failure.permanent and (failure.status is None or failure.status in PROXY_STATUSES)
        limit_s = limits.starting_s if failure.starting else limits.resume_s
        return RetryDecision("resume", wait_s) if resumable and elapsed_s < limit_s else lost
    if failure.starting:
        return RetryDecision("retry", wait_s) if elapsed_s < limits.starting_s else RetryDecision("fail")
    again = attempt < limits.attempts and not failure.permanent
    if not failure.may_have_run:
        return RetryDecision("retry", wait_s) if again else RetryDecision("fail")
    status = failure.status
    if status is not None and status not in PROXY_STATUSES and not (effect is Effect.PLATFORM and status >= 500):
        return RetryDecision("fail")
    if effect is Effect.ONCE:
        return lost
    return RetryDecision("retry", wait_s) if again else RetryDecision("fail")


def _wait(failure: AttemptFailure, attempt: int, limits: RetryLimits) -> float:
    if failure.retry_after_s is not None:
        return min(max(failure.retry_after_s, 0.0), limits.longest_wait_s)
    # The exponent is bounded: waiting for a starting backend makes hundreds of attempts.
    return min(limits.first_wait_s * 2.0 ** min(attempt - 1, 20), limits.longest_wait_s)
