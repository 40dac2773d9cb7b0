"""One HTTP/1.1 connection that carries one request at a time, as an asyncio protocol over httptools' parser (llhttp).

Nothing is made per request but a future: no task, no timer, no stream objects. Bytes go from `data_received` through the C
parser to the request's sink in one go, and the future is resolved there. Time limits are numbers that somebody else's sweep
compares with the clock.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from openreward_gym.errors import ProtocolError, TransportError, TransportTimeoutError
from openreward_gym.protocol.encodings import Decoder
from openreward_gym.protocol.request import Request, Response, broken, silent

__all__ = ["Connection"]

KEEP_ALIVE_S = 4.0
"""Seconds a connection may be idle. uvicorn, the reference servers' HTTP server, closes one that was idle for 5 s; a request
that crosses that close on the wire is lost in a way that looks like a lost result; so we close first."""
DRAIN_S = 0.25
"""Seconds that a body may go on after its last useful byte. Reading to its end lets the connection be used again."""
FRESH_S = 0.5
"""A connection that was idle for longer is looked at before it is used: a proxy may have closed it."""
LARGEST_HEAD = 1 << 18
"""Most bytes before a response's body: more is not an HTTP server."""
BODY_OF_ITS_OWN = 1 << 16
"""Bytes from which a body is not copied behind its head."""
_ENCODING_LENGTH = len("content-encoding")


class Connection(asyncio.Protocol):
    """A connection, idle or busy with one request.

    Args:
        idle: Where it puts itself when it can be used again; the last one in is the first one out.
        gone: Called once when it is closed.

    Attributes:
        deadline: When what it waits for is overdue, in the event loop's time.
    """

    __slots__ = (
        "_answer",
        "_complete",
        "_decoder",
        "_encoding",
        "_future",
        "_gone",
        "_head_bytes",
        "_idle",
        "_idle_s",
        "_keep",
        "_parser",
        "_pieces",
        "_raw",
        "_request",
        "_status",
        "_time",
        "_transport",
        "_unsent",
        "deadline",
        "on_body",
        "on_header",
    )

    def __init__(self, idle: dict[Connection, None], gone: Callable[[Connection], None], loop: asyncio.AbstractEventLoop) -> None:
        self._idle = idle
        self._gone = gone
        self._time = loop.time
        self._transport: asyncio.Transport | None = None
        self._future: asyncio.Future[Response] | None = None
        self._request: Request | None = None
        self._idle_s = inf
        self.deadline = inf
        self._unsent = 0
        self._pieces: list[bytes] = []
        self._raw: dict[bytes, bytes] = {}
        # The parser calls these two for every header and piece: builtins cost it no Python frame.
        self.on_body = self._pieces.append
        self.on_header = self._raw.__setitem__
        self._restart()
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def _restart(self) -> None:
        self._status = 0
        self._head_bytes = 0
        self._complete = False
        self._keep = False
        self._encoding = ""
        self._answer: tuple[dict[bytes, bytes], int] | None = None
        self._decoder: Decoder | None = None

    # Its owner ------------------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> asyncio.Future[Response] | None:
        """The request under way; None where there is none."""
        return self._future

    def usable(self, now: float) -> bool:
        """Whether an idle connection can take a request; one that cannot is closed."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if self.deadline <= now or (self.deadline - now < KEEP_ALIVE_S - FRESH_S and _readable(transport)):
            transport.abort()
            return False
        return True

    def begin(self, request: Request, head: bytes, future: asyncio.Future[Response], now: float) -> None:
        """Send `request`, whose encoded `head` lacks its end, and resolve `future` with what comes of it."""
        transport = self._transport
        if transport is None or transport.is_closing():
            problem = f"the connection to {request.url.partition('?')[0]} was closed before anything was sent"
            future.set_exception(TransportError(problem, delivery="not_sent"))
            return
        self._restart()
        self._request = request
        self._future = future
        self._idle_s = request.idle_timeout_s
        limit_s = request.first_byte_timeout_s
        self.deadline = inf if limit_s is None else now + limit_s
        body = request.body
        if body is None:
            transport.write(head + (b"\r\n" if request.method == "GET" else b"Content-Length: 0\r\n\r\n"))
        elif len(body) < BODY_OF_ITS_OWN:
            transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
        else:
            transport.write(b"%bContent-Length: %d\r\n\r\n" % (head, len(body)))
            transport.write(body)
            self._unsent = transport.get_write_buffer_size()

    def give_up(self, future: asyncio.Future[Response]) -> None:
        """Nobody waits for the request of `future` any more. Its connection cannot be used again: the answer may still come."""
        if self._future is future:
            self._future = None
            self.close()

    def overdue(self, now: float) -> None:
        """The deadline has passed."""
        if self._future is None:
            self.close()
            return
        assert self._request is not None
        left = 0 if self._transport is None else self._transport.get_write_buffer_size()
        if left < self._unsent:
            # A large body that still goes out is a sign of life; once it is out, the wait for the answer begins.
            self._unsent = left
            self.deadline = now + (self._idle_s if left else self._request.first_byte_timeout_s or inf)
            return
        self.fail(TransportTimeoutError(silent(self._request.url)))

    def fail(self, error: Exception) -> None:
        """End the request under way, if any, with `error`, and close."""
        future, self._future = self._future, None
        if future is not None and not future.done():
            future.set_exception(error)
        self.close()

    def close(self) -> None:
        self._idle.pop(self, None)
        if self._transport is not None:
            self._transport.abort()

    # asyncio --------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No `isinstance`: uvloop's transports are no subclasses.
        self._transport = cast(asyncio.Transport, transport)
        plain = transport.get_extra_info("socket")
        if plain is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if self._request is None or parser is None:
            # Nothing was asked.
            self.close()
            return
        garbled: Exception | None = None
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            garbled = HttpParserError("it went over to another protocol")
        except HttpParserError as error:
            garbled = HttpParserError(f"what it sent is not HTTP/1.1 ({error})")
        if self._answer is not None:
            headers, count = self._answer
            self._raw.clear()
            self._raw.update(headers)
            del self._pieces[count:]
        if self._future is not None:
            if self._status:
                self.deadline = self._time() + self._idle_s
            else:
                self._head_bytes += len(data)
                if self._head_bytes > LARGEST_HEAD:
                    garbled = HttpParserError("its head does not end")
            if self._pieces and self._request.sink is not None and self._status == 200:
                self._pour(self._request)
        else:
            self._pieces.clear()
        if self._complete:
            self._finish(reusable=self._keep and garbled is None)
        elif garbled is not None:
            self.fail(broken(self._request.url, garbled))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        if self._future is not None:
            assert self._request is not None
            if exc is None and self._status and self._ends_with_the_connection():
                self._finish(reusable=False)
            else:
                self.fail(broken(self._request.url, exc))
        # The parser holds methods of this object: taken apart, both are freed at once.
        self._parser = None
        self._transport = None
        self._request = None
        self._gone(self)

    # The parser -----------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete and self._answer is None:
            # A second answer to one request: what it belongs to cannot be known. The first one is kept as it was.
            self._keep = False
            self._answer = (self._raw.copy(), len(self._pieces))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        if self._complete:
            return
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
            self._keep = self._parser.should_keep_alive()
        else:
            # 100 and its like say that the answer comes later.
            self._raw.clear()

    # The answer -----------------------------------------------------------------------------------------------------------

    def _pour(self, request: Request) -> None:
        """Hand what arrived to the sink, and resolve once it needs no more."""
        assert request.sink is not None
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        try:
            if self._encoding:
                self._decoder = self._decoder or Decoder(self._encoding)
                data = self._decoder.feed(data)
            done = request.sink(data)
        except Exception as error:
            self.fail(error)
            return
        if done:
            self._resolve(Response(200, _Lazy(self._raw.copy())))
            self.deadline = self._time() + DRAIN_S

    def _finish(self, *, reusable: bool) -> None:
        """The response is whole: resolve, and be used again or close."""
        request, transport = self._request, self._transport
        assert request is not None
        if self._future is not None:
            try:
                if request.sink is not None and self._status == 200:
                    body = b""
                else:
                    body = b"".join(self._pieces)
                    if self._encoding and body:
                        self._decoder = Decoder(self._encoding)
                        body = self._decoder.feed(body)
                if self._decoder is not None:
                    self._decoder.finish()
                self._resolve(Response(self._status, _Lazy(self._raw.copy()), body))
            except (TransportError, ProtocolError) as error:
                self.fail(error)
        self._pieces.clear()
        self._raw.clear()
        if transport is None or transport.is_closing():
            return
        if not reusable or (self._unsent and transport.get_write_buffer_size()):
            # Closed, or answered before the whole request was read: what it waits for cannot be known.
            self.close()
            return
        self._request = None
        self._unsent = 0
        self.deadline = self._time() + KEEP_ALIVE_S
        self._idle[self] = None

    def _resolve(self, response: Response) -> None:
        future, self._future = self._future, None
        if future is not None and not future.done():
            future.set_result(response)

    def _ends_with_the_connection(self) -> bool:
        headers = _as_text(self._raw)
        return "content-length" not in headers and "chunked" not in headers.get("transfer-encoding", "").lower()


class _Lazy(Mapping[str, str]):
    """Headers that are decoded when somebody asks: nobody does after a good call."""

    __slots__ = ("_raw", "_text")

    def __init__(self, raw: dict[bytes, bytes]) -> None:
        self._raw = raw
        self._text: dict[str, str] | None = None

    def _decoded(self) -> dict[str, str]:
        if self._text is None:
            self._text = _as_text(self._raw)
        return self._text

    def __getitem__(self, name: str) -> str:
        return self._decoded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __repr__(self) -> str:
        return repr(self._decoded())


def _as_text(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, value in raw.items()}


def _readable(transport: asyncio.Transport) -> bool:
    """Whether something arrived on an idle connection that the event loop has not read: as a rule, its end."""
    plain = transport.get_extra_info("socket")
    if plain is None or plain.fileno() < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(plain.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([plain.fileno()], [], [], 0)[0])
