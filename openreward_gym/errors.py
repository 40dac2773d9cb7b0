"""All errors that this package raises.

    OpenRewardGymError
    ├── ConfigurationError (ValueError)            the caller gave a wrong argument or name, or used an object in a wrong state
    │   ├── MessageError (TypeError)               a value is not a message or an action in any known format
    │   ├── MissingExtraError (ImportError)        an optional dependency is not installed
    │   ├── EnvironmentNotFoundError (LookupError) the server has no environment or variant of that name
    │   ├── SplitNotFoundError (LookupError)       the environment has no such split
    │   ├── TaskNotFoundError (IndexError)         the split has no task with that index
    │   ├── ResetNeededError (RuntimeError)        `step` was called before `reset`, or after the episode ended
    │   └── TokenHistoryError (RuntimeError)       a chat template cannot continue a conversation of sampled tokens
    ├── TransportError (ConnectionError)           the connection failed
    │   ├── ServerUnreachableError                 no server answers at that address
    │   ├── TransportTimeoutError (TimeoutError)   the server did not answer in time
    │   └── OutcomeUnknownError                    a call was sent and its result lost; it may have run, and is not retried
    │       └── CallTimeoutError (TransportTimeoutError)   the call exceeded its time limit
    ├── ProtocolError (ValueError)                 the server's answer violates the Open Reward Standard
    ├── ServerError (RuntimeError)                 the server answered with an HTTP error status
    │   └── AuthenticationError (PermissionError)  the status was 401 or 403
    ├── SessionLostError (ConnectionError)         the server no longer has the session
    ├── ToolFailedError (RuntimeError)             a tool raised an exception on the server; the episode is over
    ├── PolicyError (RuntimeError)                 a policy did not answer, as when its provider refuses or is unavailable
    │   └── ContextOverflowError                   the transcript does not fit into the model's context window
    ├── RecordError (ValueError)                   a stored rollout cannot be read
    │   └── SchemaVersionError                     the rollout was written by a newer major version
    ├── StoreError (OSError)                       a store's folder or files are missing or damaged
    └── ExportError (ValueError)                   the rollouts cannot be exported as requested

Failures of infrastructure raise one of these. A mistake of a model raises nothing: it is an observation. A loop is

    try:
        output = await session.call("bash", {"command": "ls"})
    except (SessionLostError, ToolFailedError):
        ...                       # the episode is over: open another session
    except OutcomeUnknownError:
        ...                       # the call may have run: discard the episode
    except TransportError:
        ...                       # the call did not run: the server is not available

Each error can be made from a message alone, pickles with its attributes, and its message says what to do.
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
    "MessageError",
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
    "TokenHistoryError",
    "ToolFailedError",
    "TransportError",
    "TransportTimeoutError",
]


class OpenRewardGymError(Exception):
    """Base of all errors of this package, made from a message and attributes such as `status=404`."""

    def __init__(self, message: str = "", **attributes: Any) -> None:
        super().__init__(message)
        for name, value in attributes.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # ImportError and OSError keep state that their subclasses here do not use.
        return (_rebuild, (type(self), str(self), dict(self.__dict__)))

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def _rebuild(cls: type[OpenRewardGymError], message: str, attributes: dict[str, Any]) -> OpenRewardGymError:
    error = cls(message)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(OpenRewardGymError, ValueError):
    """The caller gave a wrong argument or name, or used an object in a wrong state."""


class MessageError(ConfigurationError, TypeError):
    """A value is not a message or an action in any known format.

    Attributes:
        reason: What is wrong with the value, without the value itself. Empty where the message says it.
    """

    reason: str = ""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed."""


class EnvironmentNotFoundError(ConfigurationError, LookupError):
    """The server has no environment or variant of that name."""


class SplitNotFoundError(ConfigurationError, LookupError):
    """The environment has no such split."""


class TaskNotFoundError(ConfigurationError, IndexError):
    """The split has no task with that index."""


class ResetNeededError(ConfigurationError, RuntimeError):
    """`step` was called before `reset`, or after the episode ended."""


class TokenHistoryError(ConfigurationError, RuntimeError):
    """A chat template cannot continue a conversation of sampled tokens: it rewrites the history, or refuses it.

    Attributes:
        reason: What the template does, in a few words.
    """

    reason: str = ""


class TransportError(OpenRewardGymError, ConnectionError):
    """The connection to the server failed.

    Attributes:
        delivery: Whether the server saw the request: "not_sent" (it cannot have), "possibly_delivered" or "delivered".
        permanent: True if a retry cannot succeed, as with a certificate that does not match.
    """

    delivery: str = "possibly_delivered"
    permanent: bool = False


class ServerUnreachableError(TransportError):
    """No server answers at that address."""

    delivery = "not_sent"


class TransportTimeoutError(TransportError, TimeoutError):
    """The server did not answer in time."""


class OutcomeUnknownError(TransportError):
    """A call was sent and its result was lost. It may have run, so it is not sent again."""


class CallTimeoutError(OutcomeUnknownError, TransportTimeoutError):
    """A call exceeded its time limit. It may have run, or may still be running."""


class ProtocolError(OpenRewardGymError, ValueError):
    """The server's answer violates the Open Reward Standard."""


class ServerError(OpenRewardGymError, RuntimeError):
    """The server answered with an HTTP error status.

    Attributes:
        status: The HTTP status. None if the server reported the error inside an event stream.
        detail: The server's own message.
        retry_after_s: Seconds to wait that the server requests. None if it requests no wait.
        starting: True if the server reports that the backend is still starting: the request did not run.
    """

    status: int | None = None
    detail: str = ""
    retry_after_s: float | None = None
    starting: bool = False


class AuthenticationError(ServerError, PermissionError):
    """The server rejects the API key (401), or the key lacks a permission (403)."""


class SessionLostError(OpenRewardGymError, ConnectionError):
    """The server no longer has the session.

    Attributes:
        status: The HTTP status that reported it. None if the client ended the session.
        detail: The server's own message.
    """

    status: int | None = None
    detail: str = ""


class ToolFailedError(OpenRewardGymError, RuntimeError):
    """A tool raised an exception on the server. The episode is over.

    Attributes:
        detail: The server's own message.
        status: 500 where the server answered the call with that status. None where the tool's own answer says it.
    """

    detail: str = ""
    status: int | None = None


class PolicyError(OpenRewardGymError, RuntimeError):
    """A policy did not answer.

    Attributes:
        kind: "rate_limited" or "policy_unavailable" (a retry may succeed), "policy_refused" (also a used-up quota) or
            "policy_failed" (it cannot).
        status: The provider's HTTP status. None if there was none.
        retry_after_s: Seconds to wait that the provider requests. None if it requests no wait.
        delivery: Whether the provider saw the request: "not_sent", "possibly_delivered" or "delivered". None if unknown.
    """

    kind: str = "policy_failed"
    status: int | None = None
    retry_after_s: float | None = None
    delivery: str | None = None


class ContextOverflowError(PolicyError):
    """The transcript does not fit into the model's context window. It ends the episode and is not a failure."""


class RecordError(OpenRewardGymError, ValueError):
    """A stored rollout cannot be read."""


class SchemaVersionError(RecordError):
    """The rollout was written by a newer major version."""


class StoreError(OpenRewardGymError, OSError):
    """A store's folder or files are missing or damaged."""


class ExportError(OpenRewardGymError, ValueError):
    """The rollouts cannot be exported as requested."""
