"""Which side an exception came from, and its kind: what the retry budgets and the failures' file go by."""

from __future__ import annotations

from typing import Any, Literal

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
from openreward_gym.store.failure import Failure

Stage = Literal["open", "policy", "call"]

# The first that fits decides: what is lost is also a transport error, and so on.
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
)


def failure_of(error: Exception, unit: Unit, attempt: int, stage: Stage) -> Failure:
    """The failure that an exception of an attempt is. The environment's errors stay its own inside a policy, too."""
    foreign = isinstance(error, PolicyError) or not isinstance(error, OpenRewardGymError)
    return Failure(
        source="policy" if foreign or stage == "policy" else "environment",
        kind=_kind(error),
        stage=stage,
        delivery=getattr(error, "delivery", None),
        attempt=attempt,
        http_status=getattr(error, "status", None),
        exception=f"{type(error).__module__}.{type(error).__qualname__}",
        message=str(error) or type(error).__name__,
        task=unit.group,
        sample=unit.sample,
        **_where(unit),
    )


def _where(unit: Unit) -> dict[str, Any]:
    return {"split": unit.task.split} if unit.task.index is None else {"split": unit.task.split, "index": unit.task.index}


def _kind(error: Exception) -> str:
    if isinstance(error, PolicyError):
        return error.kind
    if isinstance(error, AuthenticationError):
        return "refused"
    if isinstance(error, ServerError):
        if error.status == 429:
            return "rate_limited"
        # What the server says no to, it mostly says no to again.
        return "refused" if error.status is not None and 400 <= error.status < 500 and error.status != 408 else "server_error"
    return next((kind for cls, kind in _KINDS if isinstance(error, cls)), "policy_failed")
