"""Where every line of a run's shards is, kept up to date while others write."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from openreward_gym.errors import RecordError
from openreward_gym.store.folder import Folder, Shard
from openreward_gym.store.lines import LineIndex, line_number

T = TypeVar("T")

_HEAD = 256
_ID = re.compile(rb'\{"schema":"[^"\\]*","id":"([^"\\]*)"')


class Place(NamedTuple):
    """A line: which folder of the store, which shard of the folder, which line of the shard. Stays true as runs grow."""

    folder: int
    stem: str
    number: int


class ShardIndex:
    """The lines of one kind of shards ("rollouts", "failures", ...) in one folder, by shard name and then by line."""

    def __init__(self, folder: Folder, kind: str) -> None:
        self.folder = folder
        self.kind = kind
        self._shards: dict[str, Shard] = {}
        self._lines: dict[str, LineIndex] = {}
        self._order: list[str] = []
        self._identified: dict[str, int] = {}

    def refresh(self) -> None:
        """Look at the folder again."""
        shards = self.folder.shards(self.kind)
        for shard in shards:
            if self._shards.get(shard.stem) != shard:
                lines = self._lines.setdefault(shard.stem, LineIndex())
                path = self.folder.local(self.kind, shard)
                lines.extend(path, path.stat().st_size)
                self._shards[shard.stem] = shard
        if len(shards) != len(self._order):
            self._order = [shard.stem for shard in shards]

    def counts(self) -> list[tuple[str, int]]:
        """(shard, number of its lines), in the order of reading."""
        return [(stem, len(self._lines[stem])) for stem in self._order]

    def line(self, stem: str, number: int) -> bytes:
        try:
            return self._lines[stem].read(self._local(stem), number)
        except FileNotFoundError:
            self.refresh()  # it was compressed since we looked
            return self._lines[stem].read(self._local(stem), number)

    def _local(self, stem: str) -> Path:
        return self.folder.local(self.kind, self._shards[stem])

    def lines(self, stem: str, stop: int) -> Iterator[tuple[int, bytes]]:
        """(number, line) of the shard's first `stop` lines."""
        try:
            self._local(stem).stat()
        except FileNotFoundError:
            self.refresh()  # it was compressed since we looked
        return self._lines[stem].iterate(self._local(stem), stop)

    def where(self, stem: str, number: int) -> tuple[str, int, int]:
        """(file, line from 1, byte) of a line, for messages."""
        path = self._local(stem)
        byte = self._lines[stem].starts[number]
        return f"{self.folder}/{self.kind}/{self._shards[stem].name}", line_number(path, byte), byte

    def new_ids(self) -> Iterator[tuple[str, str, int]]:
        """(id, shard, line) of the lines that were not asked for before; lines that are no JSON object are passed over."""
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
        data = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    return str(data.get("id", "")) if isinstance(data, dict) else ""


def read_each(folder: Folder, kind: str, read: Callable[[bytes], T]) -> Iterator[T]:
    """What `read` makes of each line of one kind of shards there are now, in the order of reading.

    A torn last line is not there.

    Raises:
        RecordError: `read` refused a line; the message has its file, line and byte.
    """
    index = ShardIndex(folder, kind)
    index.refresh()
    for stem, count in index.counts():
        for number, line in index.lines(stem, count):
            try:
                yield read(line)
            except RecordError as error:
                raise damaged(index.where(stem, number), error) from None


def damaged(where: tuple[str, int, int], error: RecordError) -> RecordError:
    """`error` of the same type, with the file, line and byte in front."""
    file, line, byte = where
    return type(error)(f"{file}: line {line} (byte {byte}): {error}", path=file, line=line, byte=byte)
