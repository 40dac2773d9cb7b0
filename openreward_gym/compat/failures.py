"""The one place where this package's errors become the official client's."""

from __future__ import annotations

from types import TracebackType

from openreward_gym import errors
from openreward_gym.compat.api.errors import (
    AuthenticationError,
    HeartbeatTimeoutError,
    HTTPStatusError,
    MaxRetriesError,
    OpenRewardError,
    SessionTerminatedError,
    ToolFailed,
    TransportError,
    as_connection_error,
    as_response_error,
)

KIND = "environment"


class Translating:
    """A context manager that raises the official client's error in place of this package's.

    Args:
        session_id: The id of the session that the request is about.

    Example:
        >>> with Translating():
        ...     raise errors.ServerError("the server answered GET /splits with 404", status=404, detail="Not Found")
        Traceback (most recent call last):
        openreward_gym.compat.api.errors.HTTPStatusError: HTTP 404: Not Found
    """

    __slots__ = ("_session_id",)

    def __init__(self, session_id: str | None = None) -> None:
        self._session_id = session_id

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, errors.OpenRewardGymError):
            known = translated(error, self._session_id)
            if known is not error:
                raise known from None


def translated(error: errors.OpenRewardGymError, session_id: str | None = None) -> errors.OpenRewardGymError:
    """Return the official client's error for one of this package's. A wrong argument stays a ConfigurationError (ValueError)."""
    if isinstance(error, OpenRewardError | AuthenticationError):
        return error
    if isinstance(error, errors.SessionLostError):
        return SessionTerminatedError(error.detail or str(error), sid=session_id, kind=KIND)
    if isinstance(error, errors.ToolFailedError) and error.status is None:
        return ToolFailed(with_session(error.detail or str(error), session_id))
    if isinstance(error, errors.TransportTimeoutError):
        return _with_delivery(HeartbeatTimeoutError(str(error)), error)
    if isinstance(error, errors.TransportError):
        return as_connection_error(_with_delivery(MaxRetriesError("The request failed", [error]), error))
    if isinstance(error, errors.ProtocolError):
        return TransportError(str(error))
    # What the server refuses with 400 is explained by a ConfigurationError, which then has the status.
    status = getattr(error, "status", None)
    if status == 401:
        return AuthenticationError(str(error), status=status, detail=getattr(error, "detail", ""))
    if isinstance(status, int):
        return _status_error(error, status)
    return TransportError(str(error)) if isinstance(error, errors.ServerError) else error


def with_session(text: str, session_id: str | None) -> str:
    """Return a server's words with the session's id before them, as the official client writes them."""
    return f"({KIND} session sid={session_id}) {text}"


def _status_error(error: errors.OpenRewardGymError, status: int) -> HTTPStatusError:
    detail = getattr(error, "detail", "")
    known = HTTPStatusError(status, detail)
    known.detail = detail
    if not isinstance(error, errors.ServerError):
        known.args = (f"HTTP {status}: {error}",)
    return as_response_error(known)


def _with_delivery(known: TransportError, error: errors.TransportError) -> TransportError:
    known.delivery, known.permanent = error.delivery, error.permanent
    return known
