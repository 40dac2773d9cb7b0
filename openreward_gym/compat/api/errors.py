"""The official client's exceptions, which are also this package's.

    openreward_gym.OpenRewardGymError
    ├── OpenRewardError                    base of the official client's errors
    │   ├── SessionTerminatedError         the session is gone, or a tool failed in it before
    │   ├── TransportError                 the connection failed, or the server's answer violates the standard
    │   │   ├── MaxRetriesError            the retries are used up, or the call may have run and is not repeated
    │   │   ├── HeartbeatTimeoutError      the server did not answer in time
    │   │   └── HTTPStatusError            the server answered with an error status
    │   ├── ToolCallError                  the call is wrong: tell the model
    │   ├── ToolFailed                     the tool raised an exception; the session is over
    │   ├── ScoreGroupUnsupported          the environment does not score groups
    │   └── ScoreGroupFailed               scoring failed; the session remains usable
    └── AuthenticationError                the server rejects the API key (401)

Where the official client lets an `aiohttp.ClientResponseError` or `aiohttp.ClientConnectionError` out, this one raises
`HTTPStatusError` or `MaxRetriesError`. In a program that imports aiohttp the error is also an instance of aiohttp's class, with
its `status` and `message`, so that the program's `except` clauses work.
"""

from __future__ import annotations

import sys
from typing import Any, Literal, TypeAlias, TypeVar

from openreward_gym import errors

__all__ = [
    "AuthenticationError",
    "HTTPStatusError",
    "HeartbeatTimeoutError",
    "MaxRetriesError",
    "OpenRewardError",
    "ScoreGroupFailed",
    "ScoreGroupUnsupported",
    "SessionTerminatedError",
    "ToolCallError",
    "ToolCallErrorReason",
    "ToolFailed",
    "TransportError",
]

ToolCallErrorReason: TypeAlias = Literal["not_found", "name_collision", "input_validation", "bad_input_shape", "episode_finished"]

E = TypeVar("E", bound="OpenRewardError")


class OpenRewardError(errors.OpenRewardGymError):
    """Base of the official client's errors."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (_official_class(type(self)), self.args, dict(self.__dict__)))


class SessionTerminatedError(OpenRewardError, errors.SessionLostError):
    """The session is gone, or a tool failed in it before.

    Attributes:
        reason: Why.
        sid: The session's id.
        kind: "environment" or "sandbox".
    """

    def __init__(self, reason: str, *, sid: str | None = None, kind: str | None = None) -> None:
        self.reason = reason
        self.sid = sid
        self.kind = kind
        super().__init__(f"{kind} session terminated (sid={sid!r}): {reason}")


class TransportError(OpenRewardError, errors.TransportError):
    """The connection failed, or the server's answer violates the standard."""


class MaxRetriesError(TransportError):
    """The retries are used up. Also raised for a call that may have run and is therefore not sent again.

    Attributes:
        errors: What was raised, by attempt.
    """

    def __init__(self, message: str, errors: list[Exception] | None = None) -> None:
        self.errors = errors or []
        lines = [f"\n    [{number}] {type(error).__name__}: {error}" for number, error in enumerate(self.errors, 1)]
        super().__init__(f"{message}\n  Encountered {len(self.errors)} error(s):{''.join(lines)}")


class HeartbeatTimeoutError(TransportError, errors.TransportTimeoutError):
    """The server did not answer in time."""


class HTTPStatusError(TransportError, errors.ServerError):
    """The server answered with an error status.

    Attributes:
        status: The status.
        body: The server's own message.
    """

    status: int

    def __init__(self, status: int, body: str | None = None) -> None:
        self.status = status
        self.body = body
        super().__init__(f"HTTP {status}: {body}" if body else f"HTTP {status}")

    @property
    def message(self) -> str:
        """The server's own message, by aiohttp's name for it."""
        return self.body or ""


class ToolCallError(OpenRewardError):
    """The call is wrong, or the episode is over. Calling again with the same arguments does not help: tell the model.

    Attributes:
        reason: What is wrong.
        detail: The explanation.
    """

    def __init__(self, reason: ToolCallErrorReason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class ToolFailed(OpenRewardError, errors.ToolFailedError):  # noqa: N818
    """The tool raised an exception on the server. The session is over: later calls raise SessionTerminatedError.

    Attributes:
        message: The server's own words, after the session's id.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class ScoreGroupUnsupported(OpenRewardError, errors.ConfigurationError):  # noqa: N818
    """The environment does not score groups, or not with blocks of these types."""


class ScoreGroupFailed(OpenRewardError, errors.ServerError):  # noqa: N818
    """Scoring the group failed on the server. The session remains usable.

    Attributes:
        message: The server's own words, after the session's id.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class AuthenticationError(errors.AuthenticationError):
    """The server rejects the API key (401)."""


_RESPONSE, _CONNECTION = "ClientResponseError", "ClientConnectionError"
_subclasses: dict[tuple[type, type], type] = {}


def as_response_error(error: HTTPStatusError) -> HTTPStatusError:
    """Return an error that is also aiohttp's ClientResponseError, if the program imports aiohttp."""
    return _also(error, _RESPONSE, {"request_info": None, "history": (), "headers": None, "code": error.status})


def as_connection_error(error: E) -> E:
    """Return an error that is also aiohttp's ClientConnectionError, if the program imports aiohttp."""
    return _also(error, _CONNECTION, {})


def _also(error: E, name: str, attributes: dict[str, Any]) -> E:
    # Only a program that has imported aiohttp can catch its errors.
    theirs = getattr(sys.modules.get("aiohttp"), name, None)
    if not isinstance(theirs, type):
        return error
    ours = type(error)
    both = _subclasses.get((ours, theirs))
    if both is None:
        # `code` is a deprecated property of aiohttp's.
        fields = {"__module__": ours.__module__, "__qualname__": ours.__qualname__, "__str__": ours.__str__, "code": None}
        both = _subclasses[ours, theirs] = type(ours.__name__, (ours, theirs), fields)
    made: E = _rebuild(both, error.args, {**error.__dict__, **attributes})
    return made


def _official_class(cls: type) -> type:
    """Return the class of this module that a class is or was made from."""
    found: type = next(base for base in cls.__mro__ if base is globals().get(base.__name__))
    return found


def _rebuild(cls: type[E], args: tuple[Any, ...], attributes: dict[str, Any]) -> E:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error
