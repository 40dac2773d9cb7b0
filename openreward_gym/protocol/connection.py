"""One HTTP/1.1 connection with one request at a time: an asyncio protocol over httptools' parser (llhttp).

A request costs one future: no task, no timer, no stream objects. Bytes go from `data_received` through the C parser to the
request's sink in one pass, and the future is resolved there. Time limits are numbers, which the transport's periodic sweep
compares with the clock.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from math import inf
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from openreward_gym.errors import ProtocolError, TransportError
from openreward_gym.protocol.decoding import Decoder
from openreward_gym.protocol.request import (
    TLS_RECORD,
    Request,
    Response,
    body_ends_at,
    broken_error,
    late_error,
    too_large_error,
)

KEEP_ALIVE_S = 4.0
"""Seconds after which an idle connection is closed. uvicorn, the reference servers' HTTP server, closes it after 5 s, and a
request that is sent at that moment looks like a request with a lost result. So the client closes first."""
DRAIN_S = 0.25
"""Seconds to read a body after its last useful byte. A connection whose body was read to the end can be reused."""
FRESH_S = 0.5
"""Idle seconds after which a connection is checked before it is reused: a proxy may have closed it."""
LARGEST_HEAD = 1 << 18
"""Largest size in bytes of a response's head with all informational responses before it, of its trailers, and of a chunk's
header."""
SEPARATE_BODY = 1 << 16
"""Size in bytes from which a body is sent apart from its head, which saves a copy."""
_ENCODING_LENGTH = len("content-encoding")


class Connection(asyncio.Protocol):
    """A pooled HTTP/1.1 connection, idle or busy with one request.

    Args:
        idle: The pool of idle connections, to which the connection adds itself when it can be reused.
        gone: Called once when the connection is closed.

    Attributes:
        deadline: The event loop's time at which the request, or the idle connection, times out.
        pending: The future of the request in flight. None if the connection is idle.
    """

    __slots__ = (
        "_answer",
        "_body",
        "_complete",
        "_decoder",
        "_encoding",
        "_ends",
        "_gone",
        "_head",
        "_idle",
        "_idle_s",
        "_keep",
        "_latest",
        "_lenient",
        "_parser",
        "_pieces",
        "_raw",
        "_received",
        "_request",
        "_sent",
        "_size",
        "_status",
        "_time",
        "_transport",
        "_unsent",
        "deadline",
        "on_body",
        "on_header",
        "pending",
    )

    def __init__(self, idle: dict[Connection, None], gone: Callable[[Connection], None], loop: asyncio.AbstractEventLoop) -> None:
        self._idle = idle
        self._gone = gone
        self._time = loop.time
        self._transport: asyncio.Transport | None = None
        self.pending: asyncio.Future[Response] | None = None
        self._request: Request | None = None
        self._idle_s = inf
        self.deadline = inf
        self._unsent = 0
        self._pieces: list[bytes] = []
        self._raw: dict[bytes, bytes] = {}
        self._head: list[bytes] = []
        self._body: list[bytes] = []
        self._lenient = False
        # The parser calls these for every header and piece of the body. As built-in methods they cost no Python frame.
        self.on_body = self._pieces.append
        self.on_header = self._raw.__setitem__
        self._restart()
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def _restart(self) -> None:
        self._status = 0
        self._head.clear()
        self._received = 0
        self._size = 0
        self._ends: float | None = None
        self._sent = self._latest = 0.0
        self._complete = False
        self._keep = False
        self._encoding = ""
        self._answer: tuple[dict[bytes, bytes], int] | None = None
        self._decoder: Decoder | None = None

    # Called by the transport ----------------------------------------------------------------------------------------------

    def usable(self, now: float) -> bool:
        """Return True if the idle connection can carry a request. Close it if it cannot."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if self.deadline <= now or (self.deadline - now < KEEP_ALIVE_S - FRESH_S and _readable(transport)):
            transport.abort()
            return False
        return True

    def begin(self, request: Request, head: bytes, future: asyncio.Future[Response], now: float) -> None:
        """Send `request` and later resolve `future`. The encoded `head` ends before the body's headers."""
        transport = self._transport
        if transport is None or transport.is_closing():
            problem = f"the connection to {request.url.partition('?')[0]} was closed before anything was sent"
            future.set_exception(TransportError(problem, delivery="not_sent"))
            return
        self._restart()
        self._request = request
        self.pending = future
        self._idle_s = request.idle_timeout_s
        limit_s = request.first_byte_timeout_s
        self.deadline = inf if limit_s is None else now + limit_s
        self._sent = now
        body = request.body
        if body is None:
            transport.write(head + (b"\r\n" if request.method == "GET" else b"Content-Length: 0\r\n\r\n"))
        elif len(body) < SEPARATE_BODY:
            transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
        else:
            transport.write(b"%bContent-Length: %d\r\n\r\n" % (head, len(body)))
            transport.write(body)
            self._unsent = transport.get_write_buffer_size()

    def abandon(self, future: asyncio.Future[Response]) -> None:
        """Close the connection if it still carries the request of `future`: its response may arrive later."""
        if self.pending is future:
            self.pending = None
            self.close()

    def time_out(self, now: float) -> None:
        """Handle a deadline that has passed."""
        if self.pending is None:
            self.close()
            return
        assert self._request is not None
        left = 0 if self._transport is None else self._transport.get_write_buffer_size()
        if left < self._unsent:
            # A large body is still being sent, so the server is alive. The wait for the response begins when it is sent.
            self._unsent = left
            self.deadline = now + (self._idle_s if left else self._request.first_byte_timeout_s or inf)
            self._sent = now
            return
        ends = self._ends
        self.fail(late_error(self._request, self._latest, ends if ends is not None and self.deadline >= ends else None))

    def fail(self, error: Exception) -> None:
        """Fail the request in flight, if any, with `error`, and close the connection."""
        future, self.pending = self.pending, None
        self._body.clear()
        if future is not None and not future.done():
            future.set_exception(error)
        self.close()

    def close(self) -> None:
        """Close the connection without waiting."""
        self._idle.pop(self, None)
        if self._transport is not None:
            self._transport.abort()

    # Called by asyncio ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        plain = transport.get_extra_info("socket")
        if plain is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        parser, request = self._parser, self._request
        if request is None or parser is None:
            # Data without a request.
            self.close()
            return
        problem: Exception | None = None
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            problem = HttpParserError("it switched to another protocol")
        except HttpParserError as error:
            problem = self._parse_leniently(data, error)
        if self._answer is not None:
            headers, count = self._answer
            self._raw.clear()
            self._raw.update(headers)
            del self._pieces[count:]
        # Bytes since the last ones of the body: of heads, of trailers, or of a chunk's header.
        self._received = 0 if self._pieces else self._received + len(data)
        if self._received > LARGEST_HEAD and problem is None:
            part = "a chunk's header or the trailers" if self._status else "the head"
            problem = HttpParserError(f"{part} of its response is longer than {LARGEST_HEAD} bytes")
        if self.pending is not None:
            if not self._status:
                if problem is None:
                    self._head.append(data)
            elif not self._complete:
                self._postpone(request)
            if self._pieces:
                self._take_body(request)
        else:
            self._pieces.clear()
        if self._complete:
            self._finish(reusable=self._keep and problem is None)
        elif problem is not None:
            self.fail(broken_error(request.url, problem))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        if self.pending is not None:
            assert self._request is not None
            headers = _as_text(self._raw)
            sized = "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
            if exc is None and self._status and not sized:
                # The end of the connection is the end of the body.
                self._finish(reusable=False)
            else:
                self.fail(broken_error(self._request.url, exc))
        # The parser refers to methods of this object. Without the circle both are freed at once.
        self._parser = None
        self._transport = None
        self._request = None
        self._gone(self)

    def _parse_leniently(self, data: bytes, error: HttpParserError) -> Exception | None:
        """Parse a head again that strict HTTP/1.1 forbids and other clients read. Return the error of one that cannot be read.

        Bare line feeds, folded headers and a length beside chunks are ambiguous only where another response could follow, and
        the connection is not used again.
        """
        if not self._status and not self._head and data.startswith((b"\x15\x03", b"\x16\x03")):
            return HttpParserError(TLS_RECORD)
        # The context is the error of a callback.
        problem = HttpParserError(f"it sent invalid HTTP/1.1 ({error.__context__ or error})")
        if self._status or self._lenient:
            return problem
        self._lenient = True
        self._raw.clear()
        self._parser = parser = HttpResponseParser(self)
        parser.set_dangerous_leniencies(lenient_headers=True, lenient_chunked_length=True, lenient_optional_cr_before_lf=True)
        try:
            parser.feed_data(b"".join([*self._head, data]))
        except (HttpParserUpgrade, HttpParserError):
            return problem
        return None

    # Called by the parser -------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete and self._answer is None:
            # A second response to one request. The first one counts, and the connection is not reused.
            self._keep = False
            self._answer = (self._raw.copy(), len(self._pieces))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        if self._complete:
            return
        if self._lenient and any(b"\0" in value for value in self._raw.values()):
            raise HttpParserError("a header contains a NUL")
        status = self._parser.get_status_code()
        if status >= 200:
            self._status = status
            for name in self._raw:
                if len(name) == _ENCODING_LENGTH and name.lower() == b"content-encoding":
                    self._encoding = self._raw[name].decode("latin-1")

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self._complete:
            return
        if self._status:
            self._complete = True
            self._keep = self._parser.should_keep_alive() and not self._lenient
        else:
            # An informational response such as 100: the final one follows.
            self._raw.clear()
            if self._parser.get_status_code() < 100:
                raise HttpParserError("the status of its response is not a number from 100")

    # The response ---------------------------------------------------------------------------------------------------------

    def _postpone(self, request: Request) -> None:
        """Set the deadline after a part of the response. The response's own end is known once its head is there."""
        now = self._time()
        if self._ends is None:
            self._ends = body_ends_at(request, self._sent, now)
        self._latest, self.deadline = now, min(now + self._idle_s, self._ends)

    def _take_body(self, request: Request) -> None:
        """Pass the received bytes to the sink, and resolve the request once the sink needs no more. Collect them without one."""
        pieces, sink = self._pieces, request.sink
        if sink is None or self._status != 200:
            sink = self._collect
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        try:
            if self._encoding:
                self._decoder = self._decoder or Decoder(self._encoding, request.max_bytes, request.url)
                done = any(sink(piece) for piece in self._decoder.feed(data))
            else:
                done = sink(data)
        except Exception as error:
            self.fail(error)
            return
        if done:
            self._resolve(Response(200, _LazyHeaders(self._raw.copy())))
            self.deadline = self._time() + DRAIN_S

    def _collect(self, data: bytes) -> bool:
        """Keep a part of a body that no sink takes."""
        assert self._request is not None
        self._size += len(data)
        if self._size > self._request.max_bytes:
            raise too_large_error(self._request.url, self._request.max_bytes)
        self._body.append(data)
        return False

    def _finish(self, *, reusable: bool) -> None:
        """Resolve the request with its complete response, then return to the pool or close."""
        request, transport = self._request, self._transport
        assert request is not None
        if self.pending is not None:
            try:
                if self._decoder is not None:
                    self._decoder.finish()
                self._resolve(Response(self._status, _LazyHeaders(self._raw.copy()), b"".join(self._body)))
            except (TransportError, ProtocolError) as error:
                self.fail(error)
        self._body.clear()
        self._pieces.clear()
        self._raw.clear()
        if transport is None or transport.is_closing():
            return
        if not reusable or (self._unsent and transport.get_write_buffer_size()):
            # The server answered before it read the complete request, or will close the connection.
            self.close()
            return
        self._request = None
        self._unsent = 0
        self.deadline = self._time() + KEEP_ALIVE_S
        self._idle[self] = None

    def _resolve(self, response: Response) -> None:
        future, self.pending = self.pending, None
        if future is not None and not future.done():
            future.set_result(response)


class _LazyHeaders(Mapping[str, str]):
    """Headers that are decoded on first access. After a successful call nothing reads them."""

    def __init__(self, raw: dict[bytes, bytes]) -> None:
        self._raw = raw

    @cached_property
    def _text(self) -> dict[str, str]:
        return _as_text(self._raw)

    def __getitem__(self, name: str) -> str:
        return self._text[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._text)

    def __len__(self) -> int:
        return len(self._text)

    def __repr__(self) -> str:
        return repr(self._text)


def _as_text(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, value in raw.items()}


def _readable(transport: asyncio.Transport) -> bool:
    """Return True if an idle connection has unread data, which usually is its end."""
    plain = transport.get_extra_info("socket")
    if plain is None or plain.fileno() < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(plain.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([plain.fileno()], [], [], 0)[0])
