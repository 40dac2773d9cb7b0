"""What became of rollouts that were read before: whether their lines are still where they were."""

from __future__ import annotations

import os
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from openreward_gym.errors import StoreError
from openreward_gym.store.files import open_regular

MOST = 1_000
"""The number of opened rollouts that are remembered."""
_CHECKED_BYTES = 1_000_000
_END_BYTES = 4_096

READ_BEFORE = "What is shown was read before."


class LinePlace(NamedTuple):
    """The place of a line: the run's folder, the file, the first byte and the length."""

    folder: str
    path: str
    start: int
    length: int


@dataclass(slots=True)
class _Opened:
    place: LinePlace
    digest: int
    mtime_ns: int = -1


class Openings:
    """Remembers the places of the rollouts that were opened, to say what became of them."""

    def __init__(self) -> None:
        self._opened: OrderedDict[tuple[str, str], _Opened] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, run: str, rollout_id: str, place: LinePlace, line: bytes) -> None:
        """Remember where a rollout was read from."""
        with self._lock:
            self._opened[run, rollout_id] = _Opened(place, _digest(line))
            self._opened.move_to_end((run, rollout_id))
            while len(self._opened) > MOST:
                self._opened.popitem(last=False)

    def why_gone(self, run: str, rollout_id: str) -> str | None:
        """Return why a rollout that is not in the index any more cannot be read; None if it was never opened."""
        opened = self._opened.get((run, rollout_id))
        return None if opened is None else _problem(opened) or f"The rollout was removed from its run. {READ_BEFORE}"

    def problem_of(self, run: str, rollout_id: str) -> str | None:
        """Return why a rollout that is in the index cannot be read again; None if it can, as far as this is quickly told."""
        opened = self._opened.get((run, rollout_id))
        return None if opened is None else _problem(opened)


def _problem(opened: _Opened) -> str | None:
    folder, path, start, length = opened.place
    if not os.path.isdir(folder):
        return f"The run was deleted or moved. {READ_BEFORE}"
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            if status.st_mtime_ns == opened.mtime_ns:
                return None
            if status.st_size < start + length:
                return f"The file became shorter while it was open: this rollout cannot be read again. {READ_BEFORE}"
            file.seek(start)
            if length <= _CHECKED_BYTES:
                line = file.read(length)
            else:
                line = file.read(_END_BYTES)
                file.seek(start + length - _END_BYTES)
                line += file.read(_END_BYTES)
    except FileNotFoundError:
        return f"The file of this rollout was deleted or moved. {READ_BEFORE}"
    except (OSError, StoreError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return f"The file of this rollout cannot be read any more: {reason}. {READ_BEFORE}"
    if _digest(line) != opened.digest:
        return f"The file was changed or damaged while it was open: this rollout cannot be read again. {READ_BEFORE}"
    opened.mtime_ns = status.st_mtime_ns
    return None


def _digest(line: bytes) -> int:
    if len(line) > _CHECKED_BYTES:
        line = line[:_END_BYTES] + line[-_END_BYTES:]
    return zlib.crc32(line)
