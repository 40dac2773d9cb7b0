"""Server-sent events, decoded as they arrive, and the one stream that matters here: that of a call. No I/O.

Written against the specification (https://html.spec.whatwg.org/multipage/server-sent-events.html) and against what Open
Reward servers do: they cut a result's JSON every 4,096 characters, anywhere, also inside a run of blanks, so exactly one blank
after the colon belongs to the format and all others to the data. A line ends in LF, CRLF or CR and in nothing else.
"""

from __future__ import annotations

import re

from openreward_gym.errors import ProtocolError

__all__ = ["CallStream", "EventDecoder"]

MAX_STREAM_BYTES = 1 << 30
"""Most bytes one stream may bring: more is not a tool's result but a server gone wrong."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_whole_event = re.compile(rb"event: ([a-z_]++)\r?\ndata: (.*+)\n\r?\n").match
"""An event as servers write nearly all of them. The decoder gives the same for it, at six times the cost."""


class EventDecoder:
    """Turns a byte stream into events; `feed` takes any cut of it and returns what is complete."""

    __slots__ = ("_data", "_event", "_partial", "_started", "_swallow_line_feed")

    def __init__(self, *, started: bool = False) -> None:
        """Args:
        started: Whether the stream's beginning, where alone a byte order mark may stand, was read by somebody else.
        """
        self._partial: list[bytes] = []
        self._event = b""
        self._data: list[bytes] | None = None
        self._started = started
        self._swallow_line_feed = False

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """The events that `chunk` completes, each as (type, data)."""
        if self._swallow_line_feed and chunk:
            self._swallow_line_feed = False
            if chunk[0] == 0x0A:
                chunk = chunk[1:]
        returns = b"\r" in chunk
        end = chunk.rfind(b"\n")
        if returns and chunk.find(b"\r", end + 1) >= 0:
            # After the last line feed a carriage return alone ends a line, unless the next piece begins with its line feed.
            self._swallow_line_feed = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            returns, end = False, chunk.rfind(b"\n")
        if end < 0:
            if chunk:
                self._partial.append(chunk)
            return []
        whole = chunk[:end]
        if self._partial:
            whole = b"".join([*self._partial, whole])
            self._partial = []
        lines = _without_returns(whole.split(b"\n")) if returns else whole.split(b"\n")
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
                    data = b"\n".join(self._data) if self._data else b""
                    events.append((self._event or b"message", data))
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
                    self._data = [value]
                else:
                    self._data.append(value)
            elif name == b"event":
                self._event = value
        return events


def _without_returns(lines: list[bytes]) -> list[bytes]:
    """Lines that were cut at line feeds, cut at carriage returns too; one before a line feed is its own.

    Replacing both in the whole takes five times as long.
    """
    found: list[bytes] = []
    for line in lines:
        line = line.removesuffix(b"\r")
        if b"\r" in line:
            found += line.split(b"\r")
        else:
            found.append(line)
    return found


class CallStream:
    """What the stream of one call has said so far, over as many connections as it took.

    Attributes:
        task_ids: The server's handles of the run, in the order they came: none at first, then one. A second one means that
            the server did not continue the run but started another.
        finished: Whether `end` or `error` came.
        error: The text of the `error` event; None where there was none.
        announced: Whether this connection's stream named a task (a server that no longer knows it answers `error` alone).
        received: Bytes of this connection's stream.
        may_run: Whether the server may be running the call, or have run it.
    """

    __slots__ = ("_decoder", "_parts", "announced", "error", "finished", "may_run", "received", "task_ids")

    def __init__(self) -> None:
        self.task_ids: list[str] = []
        self.error: str | None = None
        self.finished = False
        self.may_run = False
        self.restart()

    @property
    def task_id(self) -> str | None:
        """With it a broken stream can be asked for again; None until it came."""
        return self.task_ids[-1] if self.task_ids else None

    def restart(self) -> None:
        """Expect the stream from its beginning, on a new connection."""
        self._decoder: EventDecoder | None = None
        self._parts: list[bytes] = []
        self.announced = False
        self.received = 0

    def feed(self, chunk: bytes) -> bool:
        """Take the next bytes; True once the stream has said all that matters.

        Raises:
            ProtocolError: The stream is not one, or larger than any result may be.
        """
        began_before = self.received > 0
        self.received += len(chunk)
        if self.finished:
            return True
        if self.received > MAX_STREAM_BYTES:
            raise ProtocolError(f"the event stream is longer than {MAX_STREAM_BYTES} bytes")
        decoder = self._decoder
        if decoder is None:
            taken = 0
            while event := _whole_event(chunk, taken):
                kind, data = event.groups()
                # A carriage return ends a line too: alone, or before the line feed.
                if b"\r" in data:
                    data, _, rest = data.partition(b"\r")
                    if rest:
                        break
                if self._take(kind, data):
                    return True
                taken = event.end()
            if taken == len(chunk):
                return False
            # From the first event on that is cut, or written in another way, the decoder reads.
            decoder = self._decoder = EventDecoder(started=began_before or taken > 0)
            chunk = chunk[taken:]
        return any(self._take(kind, data) for kind, data in decoder.feed(chunk))

    def _take(self, kind: bytes, data: bytes) -> bool:
        if kind == b"end":
            self._parts.append(data)
            self.finished = True
        elif kind == b"chunk":
            self._parts.append(data)
        elif kind == b"task_id":
            self._announce(data)
        elif kind == b"error":
            self.error = data.decode("utf-8", "replace")
            self.finished = True
        return self.finished

    def result(self) -> bytes:
        """The data of all chunks and of the end, joined."""
        parts = self._parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _announce(self, data: bytes) -> None:
        try:
            task_id = data.decode("ascii").strip()
        except UnicodeDecodeError:
            raise ProtocolError(f"the server sent a task_id that is not ASCII: {data[:80]!r}") from None
        if not task_id:
            raise ProtocolError("the server sent an empty task_id")
        self.announced = True
        if task_id not in self.task_ids:
            self.task_ids.append(task_id)
