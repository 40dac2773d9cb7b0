"""An incremental decoder of server-sent events, and the state of one call's event stream. No I/O.

It follows the specification (https://html.spec.whatwg.org/multipage/server-sent-events.html). Open Reward servers cut a result's
JSON every 4,096 characters, also inside a run of spaces, so exactly one space after the colon belongs to the format and all
others to the data. A line ends in LF, CRLF or CR and in nothing else.
"""

from __future__ import annotations

import re

from openreward_gym.errors import ProtocolError
from openreward_gym.hiding import with_evidence
from openreward_gym.options import MAX_ANSWER_BYTES
from openreward_gym.protocol.request import too_large_error
from openreward_gym.protocol.wire import LONGEST_ID, is_id

MAX_STREAM_BYTES = MAX_ANSWER_BYTES
"""Default for the largest size of one stream, in bytes."""
MANY_PARTS = 1000
"""Number of pieces of a result from which they are joined."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_whole_event = re.compile(rb"event: ([a-z_]++)\r?\ndata: (.*+)\n\r?\n").match
"""The form that servers give nearly all events. The decoder returns the same for it, at six times the cost."""


class EventDecoder:
    """Decodes a byte stream, in pieces of any size, into events.

    With `started` it skips no byte order mark, which only the beginning of a stream may have.

    Example:
        >>> decoder = EventDecoder()
        >>> decoder.feed(b"event: chunk\\ndata: a"), decoder.feed(b"b\\n\\n")
        ([], [(b'chunk', b'ab')])
    """

    __slots__ = ("_data", "_event", "_partial", "_skip_line_feed", "_started")

    def __init__(self, *, started: bool = False) -> None:
        self._partial: list[bytes] = []
        self._event = b""
        self._data: bytes | bytearray | None = None
        self._started = started
        self._skip_line_feed = False

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """Return the events that `chunk` completes, each as (type, data)."""
        if self._skip_line_feed and chunk:
            self._skip_line_feed = False
            if chunk[0] == 0x0A:
                chunk = chunk[1:]
        returns = b"\r" in chunk
        end = chunk.rfind(b"\n")
        if returns and chunk.find(b"\r", end + 1) >= 0:
            # After the last line feed a carriage return alone ends a line, unless the next piece begins with its line feed.
            self._skip_line_feed = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            returns, end = False, chunk.rfind(b"\n")
        if end < 0:
            if chunk:
                self._partial.append(chunk)
            return []
        complete = chunk[:end]
        if self._partial:
            complete = b"".join([*self._partial, complete])
            self._partial = []
        lines = complete.split(b"\n")
        if returns:
            # Splitting each line is five times as fast as replacing carriage returns in the joined text.
            lines = [part for line in lines for part in line.removesuffix(b"\r").split(b"\r")]
        if end + 1 < len(chunk):
            self._partial.append(chunk[end + 1 :])
        if not self._started:
            self._started = True
            if lines[0].startswith(_BYTE_ORDER_MARK):
                lines[0] = lines[0][3:]
        return self._events_of(lines)

    def _events_of(self, lines: list[bytes]) -> list[tuple[bytes, bytes]]:
        events: list[tuple[bytes, bytes]] = []
        for line in lines:
            if not line:
                if self._event or self._data is not None:
                    events.append((self._event or b"message", bytes(self._data or b"")))
                    self._event, self._data = b"", None
                continue
            if line.startswith(b"data: "):
                name, value = b"data", line[6:]
            else:
                name, _, value = line.partition(b":")
                if value.startswith(b" "):
                    value = value[1:]
            if name == b"data":
                if self._data is None:
                    self._data = value
                else:
                    # Not a list: millions of short lines would take many times their size.
                    if isinstance(self._data, bytes):
                        self._data = bytearray(self._data)
                    self._data += b"\n"
                    self._data += value
            elif name == b"event":
                self._event = value
        return events


class CallStream:
    """The event stream of one call, over one or several connections.

    Attributes:
        task_ids: The server's ids of the run, in order of arrival. A second id means that the server started another run.
        finished: True once `end` or `error` arrived.
        error: The text of the `error` event. None if none arrived.
        announced: True if the current connection's stream named a task. A server that no longer knows it sends `error` alone.
        received: Bytes received over the current connection.
        may_run: True if the server may have run the call, or may be running it.
        max_bytes: Largest number of bytes over one connection.
    """

    __slots__ = ("_decoder", "_parts", "announced", "error", "finished", "max_bytes", "may_run", "received", "task_ids")

    def __init__(self) -> None:
        self.max_bytes = MAX_STREAM_BYTES
        self.task_ids: list[str] = []
        self.error: str | None = None
        self.finished = False
        self.may_run = False
        self.restart()

    @property
    def task_id(self) -> str | None:
        """The id with which a broken stream can be resumed. None until it arrives."""
        return self.task_ids[-1] if self.task_ids else None

    def restart(self) -> None:
        """Prepare for the stream's beginning on a new connection."""
        self._decoder: EventDecoder | None = None
        self._parts: list[bytes | bytearray] = []
        self.announced = False
        self.received = 0

    def clear(self) -> None:
        """Drop what the server sent, apart from the ids of the run: it may repeat a secret."""
        self._decoder = None
        self._parts = []
        self.error = None

    def feed(self, chunk: bytes) -> bool:
        """Decode the next bytes. Return True once the result is complete."""
        began_before = self.received > 0
        self.received += len(chunk)
        if self.finished:
            return True
        if self.received > self.max_bytes:
            raise too_large_error("", self.max_bytes)
        decoder = self._decoder
        if decoder is None:
            position = 0
            while event := _whole_event(chunk, position):
                kind, data = event.groups()
                # A carriage return ends a line too: alone, or before the line feed.
                if b"\r" in data:
                    data, _, following = data.partition(b"\r")
                    if following:
                        break
                if self._take(kind, data):
                    return True
                position = event.end()
            if position == len(chunk):
                return False
            # The first event that is cut, or has another form, and all events after it go through the decoder.
            decoder = self._decoder = EventDecoder(started=began_before or position > 0)
            chunk = chunk[position:]
        return any(self._take(kind, data) for kind, data in decoder.feed(chunk))

    def _take(self, kind: bytes, data: bytes) -> bool:
        if kind == b"end":
            self._parts.append(data)
            self.finished = True
        elif kind == b"chunk":
            self._parts.append(data)
            if len(self._parts) > MANY_PARTS:
                self._join_parts()
        elif kind == b"task_id":
            self._announce(data)
        elif kind == b"error":
            self.error = data.decode("utf-8", "replace")
            self.finished = True
        return self.finished

    def result(self) -> bytes:
        """Return the joined data of all `chunk` events and of `end`."""
        parts = self._parts
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def _join_parts(self) -> None:
        """Join the data so far: millions of short pieces would take many times their size."""
        first = self._parts[0]
        joined = first if isinstance(first, bytearray) else bytearray(first)
        joined += b"".join(self._parts[1:])
        self._parts = [joined]

    def _announce(self, data: bytes) -> None:
        task_id = data.decode("utf-8", "replace").strip()
        if not is_id(task_id):
            rule = f"at most {LONGEST_ID} printable ASCII characters"
            raise with_evidence(ProtocolError(f"expected a task_id of {rule}, the server sent "), repr(task_id)) from None
        self.announced = True
        if task_id not in self.task_ids:
            self.task_ids.append(task_id)
