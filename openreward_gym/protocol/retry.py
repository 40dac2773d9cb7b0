"""When a request may be sent again: one pure function, `next_move`. No I/O, no clock.

The rule protects the environment: a tool call changes it, so a call is repeated only where the first one provably did not run,
or by its task id, where the server replays the one run instead of starting another.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from openreward_gym.options import RetryLimits

__all__ = ["Effect", "Failure", "Move", "RetryLimits", "next_move"]

Delivery = Literal["not_sent", "possibly_delivered", "delivered"]
Action = Literal["retry", "resume", "fail", "outcome_unknown", "session_lost"]

PROXY_STATUSES = frozenset({429, 502, 503, 504})
"""What something between us and the environment answers; a 500 is the environment's own exception and would come again."""


class Effect(Enum):
    """What running a request twice would do."""

    NONE = "none"
    """Nothing: reading, pinging, deleting."""
    ONCE = "once"
    """Change the environment: calling a tool, asking for the prompt (environments start their state in it), creating."""
    PLATFORM = "platform"
    """Nothing, and the answer comes from the platform's own API, whose 500s pass."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How one attempt failed.

    Attributes:
        delivery: Whether the server can have seen the request.
        status: The HTTP status; None where none came.
        starting: Whether the status came with `X-Backend-State: starting`: nothing ran.
        retry_after_s: Seconds the server asks to wait; None where it does not say.
        task_id_seen: Whether the run's task id is known.
        task_forgotten: Whether the server says that it no longer knows the task.
        session_gone: Whether the server says that it no longer has the session.
        permanent: Whether trying again cannot help (a certificate that does not match).
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
        """Whether the request may have had its effect."""
        if self.task_id_seen:
            return True
        return not (self.starting or self.status == 429 or (self.status is None and self.delivery == "not_sent"))


@dataclass(frozen=True, slots=True)
class Move:
    """What to do after a failed attempt.

    Attributes:
        action: `retry` from the start, `resume` by the task id, or give up: `fail` (it did not run, or running it changed
            nothing), `outcome_unknown` (it may have run) or `session_lost`.
        wait_s: Seconds to wait before a retry or a resumption.
    """

    action: Action
    wait_s: float = 0.0


def next_move(effect: Effect, failure: Failure, *, attempt: int, elapsed_s: float, limits: RetryLimits) -> Move:
    """What to do after `failure`.

    Args:
        effect: What running the request twice would do.
        failure: How the last attempt failed.
        attempt: How many attempts were made since the last progress, the failed one included; 1 or more.
        elapsed_s: Seconds since the first attempt, or since the last progress of a run whose task id is known.
        limits: How long to keep trying.
    """
    if failure.session_gone:
        return Move("session_lost")
    lost = Move("outcome_unknown" if effect is Effect.ONCE else "fail")
    if failure.task_forgotten:
        return lost
    wait_s = _wait(failure, attempt, limits)
    if failure.task_id_seen:
        resumable = not failure.permanent and (failure.status is None or failure.status in PROXY_STATUSES)
        patience_s = limits.starting_s if failure.starting else limits.resume_s
        return Move("resume", wait_s) if resumable and elapsed_s < patience_s else lost
    if failure.starting:
        return Move("retry", wait_s) if elapsed_s < limits.starting_s else Move("fail")
    again = attempt < limits.attempts and not failure.permanent
    if not failure.may_have_run:
        return Move("retry", wait_s) if again else Move("fail")
    if failure.status is not None and not _passes(effect, failure.status):
        return Move("fail")
    if effect is Effect.ONCE:
        return lost
    return Move("retry", wait_s) if again else Move("fail")


def _passes(effect: Effect, status: int) -> bool:
    """Whether a status may be gone at the next attempt."""
    return status in PROXY_STATUSES or (effect is Effect.PLATFORM and status >= 500)


def _wait(failure: Failure, attempt: int, limits: RetryLimits) -> float:
    if failure.retry_after_s is not None:
        return min(max(failure.retry_after_s, 0.0), limits.longest_wait_s)
    # The exponent is bounded: a long ride-out makes hundreds of attempts.
    return min(limits.first_wait_s * 2.0 ** min(attempt - 1, 20), limits.longest_wait_s)
