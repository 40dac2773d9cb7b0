"""What every transport takes and gives: a request, a response, the interface between them, and the words for what failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from openreward_gym.errors import ConfigurationError, ServerUnreachableError, TransportError
from openreward_gym.protocol.addresses import without_credentials
from openreward_gym.protocol.wire import Secret

__all__ = ["Headers", "Request", "Response", "Sink", "Transport", "broken", "shown", "silent", "unreachable"]

Sink: TypeAlias = Callable[[bytes], bool]
"""Takes the next bytes of a streamed body; returns True once it needs no more."""


class Headers(dict[str, "str | Secret"]):
    """The headers of many requests that are alike, such as all calls of one session. Not changed once they were sent.

    Attributes:
        wire: The same as the bytes that are sent, for the transport that made them; None before. They hold secrets in the
            clear, so nothing shows them: not the repr, not a copy, not a pickle.
        key: The API key that is among them; for whoever made them to see whether it is still the right one.
        derived: Headers made from these ones, by what was added.
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
        """The lines that are sent, each with its line end.

        Raises:
            ConfigurationError: A value cannot be a header's.
        """
        if self.wire is None:
            self.wire = encode_headers(self)
        return self.wire


def encode_headers(headers: Mapping[str, str | Secret]) -> bytes:
    """`headers` as HTTP/1.1 writes them.

    Raises:
        ConfigurationError: A value cannot be a header's.
    """
    count = len(headers)
    encoded = "".join(
        [f"{name}: {value.reveal() if isinstance(value, Secret) else value}\r\n" for name, value in headers.items()]
    )
    if encoded.isascii() and encoded.count("\n") == count == encoded.count("\r") and encoded.replace("\r\n", "").isprintable():
        return encoded.encode("ascii")
    del encoded
    raise ConfigurationError(f"one of the headers {', '.join(headers)} has a line end or a letter beyond ASCII in its value")


# Tuples, not dataclasses: each call makes one of each, and a frozen dataclass takes four times as long to make.
class Request(NamedTuple):
    """One HTTP request.

    Attributes:
        method: `GET` or `POST`.
        url: The absolute URL.
        headers: Names to values; a `Secret` is revealed by the transport alone. `Headers` are encoded once, others each time.
        body: The JSON body; None for none. It may hold secrets, so no repr shows it.
        sink: Where the body of a 200 goes piece by piece; None collects it in the response.
        connect_timeout_s: Seconds to reach the server.
        first_byte_timeout_s: Seconds from sending to the response's head; None waits for as long as it takes.
        idle_timeout_s: Most seconds between two pieces of the body: a peer that is silent for longer is dead.
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
    """One HTTP response; `body` is empty where a sink took it. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@runtime_checkable
class Transport(Protocol):
    """What sends requests. An instance belongs to the event loop that uses it first."""

    async def send(self, request: Request) -> Response:
        """Send `request` and return its response, whatever its status.

        Raises:
            ServerUnreachableError: Nobody answers at that address; nothing was sent.
            TransportTimeoutError: A time limit passed.
            TransportError: The connection broke. `delivery` says whether the server can have seen the request.
        """

    async def aclose(self) -> None:
        """Close all connections."""


def shown(url: str) -> str:
    """The server of `url`, for people."""
    scheme, _, rest = without_credentials(url).partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def reason_of(error: Exception) -> str:
    return str(error) or type(error).__name__


def broken(url: str, error: Exception | None) -> TransportError:
    """The connection to `url` broke after something was sent; without an `error` the server closed it."""
    reason = "the server closed it" if error is None else reason_of(error)
    return TransportError(f"the connection to {shown(url)} broke: {reason}")


def silent(url: str) -> str:
    """What is said of a server that did not answer in time."""
    return f"{shown(url)} gave no sign of life in time"


def unreachable(url: str, error: Exception) -> TransportError:
    """No connection to `url` came about: nothing was sent."""
    text = reason_of(error)
    if "CERTIFICATE" in text.upper() or "SSL" in text.upper():
        return TransportError(
            f"no secure connection to {shown(url)}: {text}. Nothing was sent.", delivery="not_sent", permanent=True
        )
    host = urlsplit(url).hostname or ""
    if host == "openreward.ai" or host.endswith(".openreward.ai"):
        advice = "That is the hosted platform: give base_url (`--base-url http://...`) for a server of your own."
    else:
        advice = "Is the server running, and is the URL right?"
    return ServerUnreachableError(
        f"nobody answers at {shown(url)} ({text}). {advice} "
        "`openreward-gym serve weather --port 8080` starts one on this machine."
    )
