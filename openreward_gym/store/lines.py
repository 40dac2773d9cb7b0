"""Lines of a file that others may still be writing: where they are, and one of them when asked for."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

_CHUNK = 1 << 20


class LineIndex:
    """Where each complete line of a growing file begins and ends; blank lines are left out.

    A last line without its newline is being written, or was torn when its writer died: it does not count until its
    newline is there. 16 bytes of memory a line, whatever the lines' length.
    """

    def __init__(self) -> None:
        self.starts = array("Q")
        self.ends = array("Q")
        self.scanned = 0

    def __len__(self) -> int:
        return len(self.starts)

    def extend(self, path: Path, size: int) -> None:
        """Look at what was written since the last look, up to `size` bytes."""
        if size < self.scanned:
            # Replaced by another file: what is known of the old one is void.
            self.starts, self.ends, self.scanned = array("Q"), array("Q"), 0
        if size == self.scanned:
            return
        with path.open("rb", buffering=0) as file:
            file.seek(self.scanned)
            base = start = self.scanned
            while base < size and (chunk := file.read(min(_CHUNK, size - base))):
                begin = 0
                while (newline := chunk.find(b"\n", begin)) >= 0:
                    end = base + newline
                    if not (start >= base and _is_blank(chunk, begin, newline)):
                        self.starts.append(start)
                        self.ends.append(end)
                    start = end + 1
                    begin = newline + 1
                base += len(chunk)
            self.scanned = start

    def read(self, path: Path, number: int) -> bytes:
        """The line `number`, counted from 0 over the lines that count."""
        start, end = self.starts[number], self.ends[number]
        with path.open("rb", buffering=0) as file:
            return _read_exactly(file.fileno(), start, end - start)

    def heads(self, path: Path, first: int, length: int) -> Iterator[bytes]:
        """The first `length` bytes of every line from `first` on, without reading the rest."""
        with path.open("rb", buffering=0) as file:
            for number in range(first, len(self.starts)):
                start = self.starts[number]
                yield _read_exactly(file.fileno(), start, min(length, self.ends[number] - start))

    def iterate(self, path: Path, stop: int) -> Iterator[tuple[int, bytes]]:
        """(number, line) of the first `stop` lines, one in memory at a time."""
        with path.open("rb") as file:
            for number in range(stop):
                start = self.starts[number]
                if file.tell() != start:
                    file.seek(start)
                yield number, file.read(self.ends[number] - start)


def _is_blank(chunk: bytes, begin: int, end: int) -> bool:
    return begin == end or (chunk[begin] in b" \t\r" and not chunk[begin:end].strip())


def _read_exactly(descriptor: int, offset: int, length: int) -> bytes:
    parts = []
    while length > 0 and (part := os.pread(descriptor, length, offset)):
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)


def line_number(path: Path, byte: int) -> int:
    """The number, from 1, of the line that begins at `byte`; blank lines count, as they do in an editor."""
    count = 1
    with path.open("rb") as file:
        while byte > 0 and (chunk := file.read(min(_CHUNK, byte))):
            count += chunk.count(b"\n")
            byte -= len(chunk)
    return count
