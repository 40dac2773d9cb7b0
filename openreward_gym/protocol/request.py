"""The interface of all transports: requests, responses, and the errors for connections that fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from openreward_gym.errors import ConfigurationError, ServerUnreachableError, TransportError, TransportTimeoutError
from openreward_gym.processes import is_out_of_files, open_files_hint
from openreward_gym.protocol.wire import Secret
from openreward_gym.urls import without_credentials

USER_AGENT = f"openreward-gym/{version('openreward-gym')}"

Sink: TypeAlias = Callable[[bytes], bool]
"""A callback for the next bytes of a streamed body. It returns True when it needs no more."""


class Headers(dict[str, "str | Secret"]):
    """Headers that many requests share, such as all calls of one session. Do not change them after the first use.

    Attributes:
        wire: The encoded headers, or None. They hold secrets in the clear, so no repr, copy or pickle shows them.
        key: The API key among the headers. Its owner compares it with the current key.
        derived: Headers made from these, by the names that were added.
    """

    __slots__ = ("derived", "key", "wire")

    def __init__(self, headers: Mapping[str, str | Secret], key: Secret | None = None) -> None:
        super().__init__(headers)
        self.wire: bytes | None = None
        self.key = key
        self.derived: dict[tuple[bool, bool], Headers] = {}

    def __reduce__(self) -> tuple[type[dict[str, str | Secret]], tuple[dict[str, str | Secret]]]:
        return dict, (dict(self),)

    def encoded(self) -> bytes:
        """Return the header lines of HTTP/1.1, each with its line end. Only printable ASCII is allowed."""
        if self.wire is not None:
            return self.wire
        text = "".join([f"{name}: {value.reveal() if isinstance(value, Secret) else value}\r\n" for name, value in self.items()])
        if text.isascii() and text.count("\n") == len(self) == text.count("\r") and text.replace("\r\n", "").isprintable():
            self.wire = text.encode("ascii")
            return self.wire
        # A traceback may show variables.
        del text
        names = ", ".join(self)
        raise ConfigurationError(f"one of the headers {names} has a value with a line end or a character that is not ASCII")


# Tuples, not dataclasses: each call makes one of each, and a frozen dataclass takes four times as long to make.
class Request(NamedTuple):
    """One HTTP request.

    Attributes:
        method: `GET` or `POST`.
        url: The absolute URL.
        headers: Names to values. Only the transport reveals a `Secret`. `Headers` are encoded once, other mappings each time.
        body: The JSON body. None sends no body. It may hold secrets, so no repr shows it.
        sink: Receives the body of a 200 piece by piece. None collects it in the response.
        connect_timeout_s: Seconds to connect.
        first_byte_timeout_s: Seconds from sending to the response's head. None sets no limit.
        idle_timeout_s: Longest time between two pieces of the body, in seconds; a peer that is silent for longer is dead.
    """

    method: str
    url: str
    headers: Mapping[str, str | Secret]
    body: bytes | None = None
    sink: Sink | None = None
    connect_timeout_s: float = 10.0
    first_byte_timeout_s: float | None = 30.0
    idle_timeout_s: float = 30.0

    def __repr__(self) -> str:
        return f"Request({self.method!r}, {self.url!r}, headers={list(self.headers)})"


class Response(NamedTuple):
    """One HTTP response.

    Attributes:
        status: The HTTP status.
        headers: The headers, with names in lower case.
        body: The body. Empty if a sink received it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@runtime_checkable
class Transport(Protocol):
    """Sends requests. An instance belongs to the event loop that uses it first."""

    async def send(self, request: Request) -> Response:
        """Send `request` and return its response, whatever its status.

        Raises:
            ServerUnreachableError: No server answers at that address. The request was not sent.
            TransportTimeoutError: A time limit passed.
            TransportError: The connection broke. `delivery` tells whether the server can have seen the request.
        """

    async def aclose(self) -> None:
        """Close all connections."""


def server_of(url: str) -> str:
    """Return the scheme, host and port of `url`, for messages."""
    scheme, _, remainder = without_credentials(url).partition("://")
    return f"{scheme}://{remainder.partition('/')[0]}"


def broken_error(url: str, error: Exception | None) -> TransportError:
    """Return the error for a connection that broke after something was sent. An `error` of None means the server closed it."""
    reason = "the server closed it" if error is None else _reason(error)
    return TransportError(f"the connection to {server_of(url)} broke: {reason}")


def silence_error(url: str) -> TransportTimeoutError:
    """Return the error for a server that did not answer in time."""
    return TransportTimeoutError(f"{server_of(url)} did not answer in time")


def unreachable_error(url: str, error: Exception) -> TransportError:
    """Return the error for a connection that could not be made: nothing was sent."""
    if is_out_of_files(error):
        return TransportError(f"no connection to {server_of(url)}: {open_files_hint()}. Nothing was sent.", delivery="not_sent")
    reason = _reason(error)
    if "CERTIFICATE" in reason.upper() or "SSL" in reason.upper():
        return TransportError(
            f"no secure connection to {server_of(url)}: {reason}. Nothing was sent.", delivery="not_sent", permanent=True
        )
    host = urlsplit(url).hostname or ""
    if host == "openreward.ai" or host.endswith(".openreward.ai"):
        advice = "That is the hosted platform. Pass base_url (`--base-url http://...`) for a server of your own."
    else:
        advice = "Is the server running, and is the URL right?"
    return ServerUnreachableError(
        f"no server answers at {server_of(url)} ({reason}). {advice} "
        "`openreward-gym serve weather --port 8080` starts one on this machine."
    )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
