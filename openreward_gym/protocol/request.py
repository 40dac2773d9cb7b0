"""The interface of all transports: requests, responses, and the errors for connections that fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from math import inf
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from openreward_gym.errors import (
    ConfigurationError,
    ProtocolError,
    ServerUnreachableError,
    TransportError,
    TransportTimeoutError,
)
from openreward_gym.hiding import Secret
from openreward_gym.options import MAX_ANSWER_BYTES
from openreward_gym.processes import is_out_of_files, open_files_hint
from openreward_gym.protocol.tls import tls_advice
from openreward_gym.urls import without_credentials

USER_AGENT = f"openreward-gym/{version('openreward-gym')}"

TLS_RECORD = "it sent a TLS record"
_TLS_MARKS = (TLS_RECORD, r"illegal status line: bytearray(b'\x15\x03", r"illegal status line: bytearray(b'\x16\x03")
"""Texts of errors for a response that is a TLS record: the fast transport's, and those of h11 below httpx."""
_H11_NO_TEXT = "illegal request line"
"""h11's error for a response that begins with a control character."""
_H11_TOO_LONG = "Receive buffer too long"

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
        total_timeout_s: Seconds until the response is complete, however steadily it comes in. They count from sending, or from
            the response's head if that may take longer. None sets no limit.
        max_bytes: Largest size of the response's body as it was sent, and after unpacking.
    """

    method: str
    url: str
    headers: Mapping[str, str | Secret]
    body: bytes | None = None
    sink: Sink | None = None
    connect_timeout_s: float = 10.0
    first_byte_timeout_s: float | None = 30.0
    idle_timeout_s: float = 30.0
    total_timeout_s: float | None = None
    max_bytes: int = MAX_ANSWER_BYTES

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
            ProtocolError: The response is larger than `max_bytes`.
            TransportError: The connection broke. `delivery` tells whether the server can have seen the request.
        """

    async def aclose(self) -> None:
        """Close all connections."""


def server_of(url: str) -> str:
    """Return the scheme, host and port of `url`, for messages."""
    try:
        scheme, _, remainder = without_credentials(url).partition("://")
    except ValueError:
        # The URL is not valid, and what stands before an "@" may be a password.
        scheme, _, remainder = url.rpartition("@")[2].rpartition("://")
    return f"{scheme}://{remainder.partition('/')[0]}"


def broken_error(url: str, error: Exception | None) -> TransportError:
    """Return the error for a connection that broke after something was sent. An `error` of None means the server closed it."""
    reason = "the server closed it" if error is None else _reason(error)
    if any(mark in reason for mark in _TLS_MARKS):
        # It answered the first bytes of the request with TLS's refusal of them, so it has read no request.
        return TransportError(
            f"{server_of(url)} speaks TLS at that port: write https:// instead of http://", delivery="not_sent", permanent=True
        )
    if reason == _H11_NO_TEXT:
        reason = "it sent no HTTP. If it speaks TLS at that port, write https:// instead of http://"
    elif _H11_TOO_LONG in reason:
        reason = "the head of its response, its trailers or the header of a chunk is too long"
    return TransportError(f"the connection to {server_of(url)} broke: {reason}")


def late_error(request: Request, latest: float, due: float | None) -> TransportTimeoutError:
    """Return the error for a response that is late.

    Args:
        request: The request.
        latest: The time at which the server last sent something.
        due: The time at which the response had to be complete. None for a server that was silent for too long.
    """
    server, total_s = server_of(request.url), request.total_timeout_s
    if due is None or total_s is None or due - latest > total_s / 2:
        return TransportTimeoutError(f"{server} did not answer in time")
    # The server is alive and would be as slow again.
    return TransportTimeoutError(
        f"{server} began to answer and was not done within {total_s:g} s. If its answers need longer, raise request_timeout_s.",
        permanent=True,
    )


def too_large_error(url: str, limit: int) -> ProtocolError:
    """Return the error for an answer of more than `limit` bytes."""
    server = f" of {server_of(url)}" if url else ""
    return ProtocolError(
        f"the answer{server} is longer than {limit} bytes, the limit of max_answer_bytes, and was not read further. "
        "If the environment's answers are that large, raise that limit."
    )


def body_ends_at(request: Request, sent: float, now: float) -> float:
    """Return the time at which the response must be complete, if its head came `now`."""
    total_s, head_s = request.total_timeout_s, request.first_byte_timeout_s
    if total_s is None:
        return inf
    return (sent if head_s is not None and head_s <= total_s else now) + total_s


def unreachable_error(url: str, error: Exception) -> TransportError:
    """Return the error for a connection that could not be made: nothing was sent."""
    if is_out_of_files(error):
        return TransportError(f"no connection to {server_of(url)}: {open_files_hint()}. Nothing was sent.", delivery="not_sent")
    reason = _reason(error)
    if advice := tls_advice(reason):
        return TransportError(
            f"no secure connection to {server_of(url)}: {reason}. {advice} Nothing was sent.", delivery="not_sent", permanent=True
        )
    if isinstance(error, ValueError):
        # Of the host name's encoding.
        return invalid_address_error(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return invalid_address_error(url)
    if host == "openreward.ai" or host.endswith(".openreward.ai"):
        advice = "That is the hosted platform. Pass base_url (`--base-url http://...`) for a server of your own."
    else:
        advice = "Is the server running, and is the URL right?"
    if parts.scheme == "http" and host in ("127.0.0.1", "localhost") and port:
        start = f"`openreward-gym serve weather --port {port}` starts one there."
    else:
        start = "`openreward-gym serve weather --port 8080` starts one at http://127.0.0.1:8080."
    return ServerUnreachableError(f"no server answers at {server_of(url)} ({reason}). {advice} {start}")


def invalid_address_error(url: str) -> TransportError:
    """Return the error for a URL to which no request can be sent."""
    return TransportError(
        f"{server_of(url)[:200]!r} is not an address to which a request can be sent. Write it as http://host:port or https://host.",
        delivery="not_sent",
        permanent=True,
    )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
