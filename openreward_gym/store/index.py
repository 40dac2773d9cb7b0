"""The lines of a run's shards and their positions, kept up to date while other processes write."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from openreward_gym.errors import RecordError, StoreError
from openreward_gym.jsonio import loads
from openreward_gym.store.damage import Damage, OnDamage
from openreward_gym.store.files import open_descriptor, open_regular
from openreward_gym.store.folder import Folder, Shard

T = TypeVar("T")

_CHUNK = 1 << 20
_HEAD = 256
_WORDS = 500
_ID = re.compile(rb'\{"schema":"[^"\\]*","id":"([^"\\]*)"')


class Place(NamedTuple):
    """The position of a line: folder of the store, shard of the folder, line of the shard. It stays valid as runs grow."""

    folder: int
    stem: str
    number: int


class LineIndex:
    """The start and end of each complete line of a growing file; blank lines are left out.

    A last line without its newline is being written, or was torn when its writer died: it does not count until its
    newline is there. 16 bytes of memory per line, whatever its length.
    """

    def __init__(self) -> None:
        self.starts = array("Q")
        self.ends = array("Q")
        self.scanned = 0

    def __len__(self) -> int:
        return len(self.starts)

    def extend(self, path: Path, size: int) -> None:
        """Find the lines written since the last call, up to `size` bytes."""
        if size < self.scanned:
            # The file was replaced: forget the lines of the old one.
            self.starts, self.ends, self.scanned = array("Q"), array("Q"), 0
        if size == self.scanned:
            return
        with open_regular(path, buffering=0) as file:
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
        """Return the line `number`, counted from 0 without the blank ones."""
        start, end = self.starts[number], self.ends[number]
        # A file object costs twice what the reading itself does.
        descriptor = open_descriptor(path)
        try:
            return _read_exactly(descriptor, start, end - start)
        finally:
            os.close(descriptor)

    def heads(self, path: Path, first: int, length: int) -> Iterator[bytes]:
        """Yield the first `length` bytes of every line from `first` on, without reading more."""
        with open_regular(path, buffering=0) as file:
            for number in range(first, len(self.starts)):
                start = self.starts[number]
                yield _read_exactly(file.fileno(), start, min(length, self.ends[number] - start))

    def iterate(self, path: Path, numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Yield (number, line) of lines, one in memory at a time."""
        with open_regular(path) as file:
            for number in numbers:
                start = self.starts[number]
                if file.tell() != start:
                    file.seek(start)
                yield number, file.read(self.ends[number] - start)


class ShardIndex:
    """The lines of one kind of shards ("rollouts", "failures", ...) in one folder, by shard name and then by line."""

    def __init__(self, folder: Folder, kind: str) -> None:
        self.folder = folder
        self.kind = kind
        self._shards: dict[str, Shard] = {}
        self._lines: dict[str, LineIndex] = {}
        self._paths: dict[str, Path] = {}
        self._order: list[str] = []
        self._identified: dict[str, int] = {}
        self._last_where: dict[str, tuple[int, int]] = {}
        self.unreadable: list[Damage] = []
        """The shards that could not be read at the last look; the folder itself, if it could not."""

    def refresh(self) -> None:
        """Look for new shards and lines in the folder. What cannot be read is in `unreadable`."""
        try:
            shards = self.folder.shards(self.kind)
        except StoreError as error:
            self.unreadable = [damage_of(self.folder, self.kind, error)]
            return
        unreadable = []
        for shard in shards:
            if self._shards.get(shard.stem) != shard:
                lines = self._lines.setdefault(shard.stem, LineIndex())
                try:
                    path = self.folder.local(self.kind, shard)
                    lines.extend(path, path.stat().st_size)
                except FileNotFoundError:
                    continue  # it was compressed since it was listed: the next look finds it
                except OSError as error:
                    unreadable.append(damage_of(self.folder, f"{self.kind}/{shard.name}", error))
                    continue
                self._shards[shard.stem] = shard
                self._paths[shard.stem] = path
        self.unreadable = unreadable
        self._order = [shard.stem for shard in shards if shard.stem in self._paths]

    def counts(self) -> list[tuple[str, int]]:
        """Return (shard, number of its lines) in the order of reading."""
        return [(stem, len(self._lines[stem])) for stem in self._order]

    def unfinished(self) -> int:
        """Return the number of shards whose last line has no newline: it is being written, or was torn."""
        return sum(self._lines[stem].scanned < self._local(stem).stat().st_size for stem in self._order)

    def length(self, stem: str, number: int) -> int:
        """Return the length of a line in bytes."""
        return self._lines[stem].ends[number] - self._lines[stem].starts[number]

    def line(self, stem: str, number: int) -> bytes:
        """Return one line of a shard."""
        try:
            return self._lines[stem].read(self._local(stem), number)
        except FileNotFoundError:
            self.refresh()  # it was compressed since the last look
            return self._lines[stem].read(self._local(stem), number)

    def _local(self, stem: str) -> Path:
        return self._paths[stem]

    def lines(self, stem: str, stop: int) -> Iterator[tuple[int, bytes]]:
        """Yield (number, line) of the shard's first `stop` lines."""
        return self.lines_at(stem, range(stop))

    def lines_at(self, stem: str, numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Yield (number, line) of lines of the shard, with one open file."""
        try:
            self._local(stem).stat()
        except FileNotFoundError:
            self.refresh()  # it was compressed since the last look
        return self._lines[stem].iterate(self._local(stem), numbers)

    def where(self, stem: str, number: int) -> tuple[str, int, int]:
        """Return (file, line from 1, byte) of a line, for messages."""
        path = self._local(stem)
        byte = self._lines[stem].starts[number]
        # Lines are mostly asked for in their order: only those since the last one are counted.
        start, first = self._last_where.get(stem, (0, 1))
        line = line_number(path, byte, start, first) if start <= byte else line_number(path, byte)
        self._last_where[stem] = byte, line
        return f"{self.folder}/{self.kind}/{self._shards[stem].name}", line, byte

    def new_ids(self) -> Iterator[tuple[str, str, int]]:
        """Yield (id, shard, line) of the lines that are new since the last call, without those that are not a JSON object."""
        for stem in self._order:
            first = self._identified.get(stem, 0)
            path = self._local(stem)
            for number, head in enumerate(self._lines[stem].heads(path, first, _HEAD), start=first):
                match = _ID.match(head)
                identity = match[1].decode("utf-8", "replace") if match else _parsed_id(self.line(stem, number))
                if identity:
                    yield identity, stem, number
            self._identified[stem] = len(self._lines[stem])


def _parsed_id(line: bytes) -> str:
    try:
        data = loads(line)
    except ValueError:
        return ""
    identity = data.get("id") if isinstance(data, dict) else None
    return identity if isinstance(identity, str) else ""


def read_each(folder: Folder, kind: str, read: Callable[[bytes], T], on_damage: OnDamage | None = None) -> Iterator[T]:
    """Yield `read(line)` for each line of one kind of shards, in the order of reading; a torn last line is left out.

    Args:
        folder: The run's folder.
        kind: The kind of shards.
        read: Reads a line; raises RecordError for one that it refuses.
        on_damage: Called with each line that is refused, and each file that cannot be read; None raises an error for the first.

    Raises:
        RecordError: `read` refused a line; the message has its file, line and byte.
        StoreError: A file cannot be read.
    """
    index = ShardIndex(folder, kind)
    index.refresh()
    pass_over(index.unreadable, on_damage)
    for stem, count in index.counts():
        for number, line in index.lines(stem, count):
            try:
                value = read(line)
            except RecordError as error:
                if on_damage is None:
                    raise damaged(index.where(stem, number), error) from None
                on_damage(damage_at(index.where(stem, number), error))
            else:
                yield value


def damage_of(folder: Folder, name: str, error: OSError) -> Damage:
    """Return the damage of a file that cannot be read, with the words of the error."""
    # A StoreError names the file in front of its words.
    words = str(error).rpartition(f"{name}: ")[2] if isinstance(error, StoreError) else error.strerror or str(error)
    return Damage(0, words, f"{folder}/{name}")


def pass_over(unreadable: Iterable[Damage], on_damage: OnDamage | None) -> None:
    """Call `on_damage` with each file that cannot be read; raise a StoreError for the first if it is None."""
    for damage in unreadable:
        if on_damage is None:
            raise StoreError(str(damage))
        on_damage(damage)


def damage_at(where: tuple[str, int, int], error: Exception) -> Damage:
    """Return the damage of a line, with the words of the error that it raised."""
    file, line, byte = where
    return Damage(line, _short(error), file, byte)


def damaged(where: tuple[str, int, int], error: RecordError) -> RecordError:
    """Return an error of the same type, with the file, line and byte in front of its words."""
    file, line, byte = where
    return type(error)(f"{file}: line {line} (byte {byte}): {_short(error)}", path=file, line=line, byte=byte)


def _short(error: Exception) -> str:
    # A wrong value may be the whole of a line.
    text = str(error)
    return text if len(text) <= _WORDS else f"{text[:_WORDS]}..."


def _is_blank(chunk: bytes, begin: int, end: int) -> bool:
    return begin == end or (chunk[begin] in b" \t\r" and not chunk[begin:end].strip())


def _read_exactly(descriptor: int, offset: int, length: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    while len(data) < length and (part := os.pread(descriptor, length - len(data), offset + len(data))):
        data += part
    return data


def line_number(path: Path, byte: int, start: int = 0, first: int = 1) -> int:
    """Return the number, from 1, of the line that begins at `byte`; blank lines count, as they do in an editor.

    Args:
        path: The file.
        byte: The line's first byte.
        start, first: The first byte and the number of an earlier line, from which on lines are counted.
    """
    count = first
    byte -= start
    with open_regular(path) as file:
        file.seek(start)
        while byte > 0 and (chunk := file.read(min(_CHUNK, byte))):
            count += chunk.count(b"\n")
            byte -= len(chunk)
    return count
