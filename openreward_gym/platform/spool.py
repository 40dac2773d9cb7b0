"""What of a run the platform has confirmed: a file beside the rollouts, so that the next process goes on from there."""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from pathlib import Path

from openreward_gym.store.lines import LineIndex
from openreward_gym.store.writer import LineWriter, lock_of

_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


class Spool:
    """The folder `upload/` of a run. The rollouts themselves are the spool; here is only how far each of them got.

    Several processes may look; the one that holds the lock sends.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / "upload"
        self.confirmed: dict[str, int] = {}
        self.done: set[str] = set()
        self._indexes: dict[Path, LineIndex] = {}
        self._writer: LineWriter | None = None
        self._lock_fd = -1
        _spools.add(self)

    def lock(self) -> bool:
        """Become the one that sends, if nobody else is."""
        if self._lock_fd >= 0:
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        # Where there are no locks (None) everybody sends: slower, but they send the same events.
        if lock_of(fd) is False:
            os.close(fd)
            return False
        self._lock_fd = fd
        self.look()
        return True

    def look(self) -> None:
        """Read what was confirmed since the last look, by whomever."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*.jsonl")):
            index = self._indexes.setdefault(path, LineIndex())
            known = len(index)
            index.extend(path, path.stat().st_size)
            for number in range(known, len(index)):
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._take(json.loads(index.read(path, number)))

    def _take(self, line: dict[str, object]) -> None:
        identity, events = str(line["id"]), int(str(line["events"]))
        self.confirmed[identity] = max(events, self.confirmed.get(identity, 0))
        if line.get("done"):
            self.done.add(identity)

    def confirm(self, rollout_id: str, events: int, *, done: bool = False) -> None:
        """Remember that the platform has the first `events` events of a rollout, or (`done`) all of it."""
        if self._writer is None:
            self._writer = LineWriter(self.folder, "close")
        line: dict[str, object] = {"id": rollout_id, "events": events, **({"done": True} if done else {})}
        self._writer.append(json.dumps(line))
        self._take(line)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._let_go()

    def _let_go(self) -> None:
        """Close the files without a word; after a fork the parent keeps its own hold of them, and of the lock."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)


def _after_fork_in_child() -> None:
    for spool in list(_spools):
        spool._let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
