"""Bounded decoding of compressed bodies. No transport requests compression, but proxies and some servers compress anyway.

A few kilobytes of gzip can unpack to gigabytes. So a body is unpacked in small pieces, and no stage of it beyond a limit.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from openreward_gym.errors import TransportError
from openreward_gym.protocol.request import too_large_error

PIECE = 1 << 18
"""Largest size in bytes of one decoded piece."""
MAX_CODINGS = 3
"""Largest number of encodings on top of each other."""
MAX_MEMBERS = 10_000
"""Largest number of members of a gzip body: an empty one takes 20 bytes and as much time as a large one."""
_SLICE = 1 << 13
"""Size in bytes of the compressed slices. Each member of a gzip body copies what remains of its slice."""
_DEFLATE = frozenset(("gzip", "x-gzip", "deflate"))


class Decoder:
    """Decodes a body in the encoding of its `Content-Encoding` header, such as "gzip" or "gzip, gzip".

    Args:
        encoding: The value of the header.
        limit: Largest size in bytes of the decoded body, and of what lies between two encodings.
        url: The address of the request, for errors.

    Raises:
        TransportError: The encoding is not supported, or the body is not in it.
        ProtocolError: The decoded body is larger than `limit`.

    Example:
        >>> decoder = Decoder("gzip", limit=1 << 20)
        >>> b"".join(decoder.feed(zlib.compress(b"text", wbits=31)))
        b'text'
    """

    __slots__ = ("_layers",)

    def __init__(self, encoding: str, limit: int, url: str = "") -> None:
        codings = [coding for part in encoding.split(",") if (coding := part.strip().lower()) not in ("", "identity")]
        if len(codings) > MAX_CODINGS or not _DEFLATE.issuperset(codings):
            raise TransportError(f"the server sent a body in the encoding {encoding[:80]!r}, which was not requested")
        # The last encoding of the header was applied last, so it is decoded first.
        self._layers = [_Inflater(coding, limit, url) for coding in reversed(codings)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Return the decoded pieces of the next bytes."""
        pieces: Iterator[bytes] = iter((data,))
        for layer in self._layers:
            pieces = layer.decode(pieces)
        return pieces

    def finish(self) -> None:
        """Check that the body is complete."""
        for layer in self._layers:
            layer.finish()


class _Inflater:
    """One encoding of a body."""

    __slots__ = ("_begun", "_coding", "_engine", "_held", "_limit", "_members", "_size", "_url")

    def __init__(self, coding: str, limit: int, url: str) -> None:
        self._coding = coding
        self._limit = limit
        self._url = url
        self._size = 0
        self._members = 1
        self._held = b""
        self._begun = False
        self._engine = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def decode(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            for start in range(0, len(piece), _SLICE):
                yield from self._inflate(piece[start : start + _SLICE])

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        if self._coding == "deflate" and not self._begun:
            data = self._held + data
            if len(data) < 2:
                self._held = data
                return
            if data[:2] != b"\x1f\x8b" and (data[0] & 15 != zlib.DEFLATED or int.from_bytes(data[:2], "big") % 31):
                # Some servers send the raw format under this name.
                self._engine = zlib.decompressobj(-zlib.MAX_WBITS)
        self._begun = True
        decoded = b""
        while data or len(decoded) == PIECE:
            if self._engine.eof:
                # A gzip body may have several members.
                self._members += 1
                if self._members > MAX_MEMBERS:
                    problem = f"it has more than {MAX_MEMBERS} members"
                    break
                self._engine = zlib.decompressobj(zlib.MAX_WBITS | 32)
            try:
                decoded = self._engine.decompress(data, PIECE)
            except zlib.error as error:
                problem = str(error)
                break
            self._size += len(decoded)
            if self._size > self._limit:
                raise too_large_error(self._url, self._limit)
            if decoded:
                yield decoded
            data = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail
            if not data and self._engine.eof:
                return
        else:
            return
        raise TransportError(f"the server sent a body that is not {self._coding}: {problem}")

    def finish(self) -> None:
        if (self._begun or self._held) and not self._engine.eof:
            raise TransportError(f"the server sent an incomplete body in the encoding {self._coding!r}")
