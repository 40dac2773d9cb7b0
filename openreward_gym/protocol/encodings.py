"""Content encodings of HTTP, undone as the bytes arrive."""

from __future__ import annotations

import zlib
from typing import Any

from openreward_gym.errors import TransportError

__all__ = ["Decoder"]


class Decoder:
    """Undoes a content encoding that was not asked for."""

    __slots__ = ("_encoding", "_inflater", "_raw_tried")

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        self._raw_tried = False
        self._inflater: Any = None
        if self._encoding in ("gzip", "x-gzip", "deflate"):
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        elif self._encoding not in ("", "identity"):
            raise TransportError(f"the server sent a body in the encoding {encoding!r}, which it was not asked for")

    def feed(self, data: bytes) -> bytes:
        if self._inflater is None:
            return data
        try:
            try:
                whole: bytes = self._inflater.decompress(data)
            except zlib.error:
                if self._encoding != "deflate" or self._raw_tried:
                    raise
                # Some servers send the bare format under this name.
                self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
                whole = self._inflater.decompress(data)
            self._raw_tried = True
            while self._inflater.eof and self._inflater.unused_data:
                rest = self._inflater.unused_data
                self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
                whole += self._inflater.decompress(rest)
        except zlib.error as error:
            problem = str(error)
        else:
            return whole
        raise TransportError(f"the server sent a body that is not {self._encoding}: {problem}")

    def finish(self) -> None:
        if self._inflater is not None and not self._inflater.eof:
            raise TransportError(f"the server sent a body that is not whole in the encoding {self._encoding!r}")
