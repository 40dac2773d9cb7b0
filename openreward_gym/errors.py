"""Every error this package raises.

    OpenRewardGymError
    ├── ConfigurationError (ValueError)            the caller's mistake: an argument, a name, a state
    │   ├── MissingExtraError (ImportError)        an optional dependency is not installed
    │   ├── EnvironmentNotFoundError (LookupError) the server has no environment (or variant) of that name
    │   ├── SplitNotFoundError (LookupError)       the environment has no such split
    │   ├── TaskNotFoundError (IndexError)         the split has no task of that index
    │   └── ResetNeededError (RuntimeError)        `step` before `reset`, or after the episode ended
    ├── TransportError (ConnectionError)           the request did not come through
    │   ├── ServerUnreachableError                 nobody answers at that address
    │   ├── TransportTimeoutError (TimeoutError)   no answer in time
    │   └── OutcomeUnknownError                    a call was sent and its result lost: it may have run, and is not sent again
    │       └── CallTimeoutError (TransportTimeoutError)   ... because its time was up
    ├── ProtocolError (ValueError)                 the server said something that is not the Open Reward Standard
    ├── ServerError (RuntimeError)                 an HTTP status that says no
    │   └── AuthenticationError (PermissionError)  401 or 403
    ├── SessionLostError (ConnectionError)         the server no longer has the session
    ├── ToolFailedError (RuntimeError)             a tool raised on the server: the episode is over
    ├── PolicyError (RuntimeError)                 a policy could not answer: its provider refused, or was not there
    │   └── ContextOverflowError                   the transcript no longer fits the model's window
    ├── RecordError (ValueError)                   a stored rollout cannot be read
    │   └── SchemaVersionError                     it was written by a newer major version
    ├── StoreError (OSError)                       the store's folder or files are not what they should be
    └── ExportError (ValueError)                   what was asked cannot be exported

What infrastructure does wrong is one of these; what a model does wrong is not: that is an observation. So a loop is

    try:
        output = await session.call("bash", {"command": "ls"})
    except (SessionLostError, ToolFailedError):
        ...                       # this episode is over; open another session
    except OutcomeUnknownError:
        ...                       # it may have run: the episode cannot be trusted
    except TransportError:
        ...                       # it did not run: the server is not there

Each can be made from one message alone, pickles with its attributes, and names what to do.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AuthenticationError",
    "CallTimeoutError",
    "ConfigurationError",
    "ContextOverflowError",
    "EnvironmentNotFoundError",
    "ExportError",
    "MissingExtraError",
    "OpenRewardGymError",
    "OutcomeUnknownError",
    "PolicyError",
    "ProtocolError",
    "RecordError",
    "ResetNeededError",
    "SchemaVersionError",
    "ServerError",
    "ServerUnreachableError",
    "SessionLostError",
    "SplitNotFoundError",
    "StoreError",
    "TaskNotFoundError",
    "ToolFailedError",
    "TransportError",
    "TransportTimeoutError",
]


class OpenRewardGymError(Exception):
    """Base of all errors of this package."""

    def __init__(self, message: str = "", **attributes: Any) -> None:
        super().__init__(message)
        for name, value in attributes.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # ImportError and OSError subclasses have states of their own; message and attributes are ours.
        return (_rebuild, (type(self), str(self), dict(self.__dict__)))

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def _rebuild(cls: type[OpenRewardGymError], message: str, attributes: dict[str, Any]) -> OpenRewardGymError:
    error = cls(message)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(OpenRewardGymError, ValueError):
    """The caller asked for something that cannot be."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed."""


class EnvironmentNotFoundError(ConfigurationError, LookupError):
    """The server has no environment (or variant) of that name."""


class SplitNotFoundError(ConfigurationError, LookupError):
    """The environment has no such split."""


class TaskNotFoundError(ConfigurationError, IndexError):
    """The split has no task of that index."""


class ResetNeededError(ConfigurationError, RuntimeError):
    """`step` was called before `reset`, or after the episode ended."""


class TransportError(OpenRewardGymError, ConnectionError):
    """The request did not come through.

    Attributes:
        delivery: "not_sent" (the server cannot have seen it), "possibly_delivered" or "delivered".
    """

    delivery: str = "possibly_delivered"


class ServerUnreachableError(TransportError):
    """Nobody answers at that address."""

    delivery = "not_sent"


class TransportTimeoutError(TransportError, TimeoutError):
    """No answer in time."""


class OutcomeUnknownError(TransportError):
    """A call was sent and its result was lost. It may have run, so it is not sent again."""


class CallTimeoutError(OutcomeUnknownError, TransportTimeoutError):
    """A call did not answer in the time it had. It may have run, or still be running."""


class ProtocolError(OpenRewardGymError, ValueError):
    """The server said something that is not the Open Reward Standard."""


class ServerError(OpenRewardGymError, RuntimeError):
    """The server answered with an HTTP status that says no.

    Attributes:
        status: The HTTP status; None where the error has none.
        detail: The server's own words.
        retry_after_s: Seconds the server asks to wait; None where it does not say.
    """

    status: int | None = None
    detail: str = ""
    retry_after_s: float | None = None


class AuthenticationError(ServerError, PermissionError):
    """The server refuses the API key (401), or what it may do (403)."""


class SessionLostError(OpenRewardGymError, ConnectionError):
    """The server no longer has the session."""


class ToolFailedError(OpenRewardGymError, RuntimeError):
    """A tool raised on the server; the episode is over."""


class PolicyError(OpenRewardGymError, RuntimeError):
    """A policy could not answer.

    Attributes:
        kind: "rate_limited", "policy_unavailable" (both pass), "policy_refused" or "policy_failed" (both stay).
        status: The provider's HTTP status; None where there is none.
        retry_after_s: Seconds the provider asks to wait; None where it does not say.
        delivery: Whether the provider saw the request; None where that is not known.
    """

    kind: str = "policy_failed"
    status: int | None = None
    retry_after_s: float | None = None
    delivery: str | None = None


class ContextOverflowError(PolicyError):
    """The transcript no longer fits the model's window: an ending of the episode, not a failure."""


class RecordError(OpenRewardGymError, ValueError):
    """A stored rollout cannot be read."""


class SchemaVersionError(RecordError):
    """The rollout was written by a newer major version."""


class StoreError(OpenRewardGymError, OSError):
    """The store's folder or files are not what they should be."""


class ExportError(OpenRewardGymError, ValueError):
    """What was asked cannot be exported."""
