"""One writer's own file of lines: each line whole or not at all, whatever happens in between."""

from __future__ import annotations

import errno
import importlib
import os
import re
import secrets
import socket
import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

from openreward_gym.errors import StoreError

# Windows has no advisory locks of this kind: torn tails stay there, and reading passes over them.
fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None

Fsync: TypeAlias = Literal["always", "close", "never"] | float
"""When a shard is forced to the disk: after every rollout, when the store is closed, never, or every so many seconds.

A killed process loses nothing under any of them; they matter when the machine itself loses power.
"""


class LineWriter:
    """Appends lines to a new file `<time>-<host>-<pid>-<rand>.jsonl` in `folder`, which no other process writes.

    Not thread-safe: the store holds a lock around it.
    """

    def __init__(self, folder: Path, fsync: Fsync) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        heal(folder)
        self._folder, self._fsync = folder, fsync
        self._fd = -1
        self._begin()

    def _begin(self) -> None:
        self.path = self._folder / shard_name()
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        lock_of(self._fd)  # held while this process lives: see `heal`
        if self._fsync != "never":
            sync_folder(self._folder)
        self._synced_at = time.monotonic()

    def append(self, line: str) -> None:
        """Write `line` and its newline.

        Raises:
            StoreError: It could not be written (the disk is full, ...); the file is as it was before.
        """
        rest = memoryview((line + "\n").encode("utf-8"))
        start = -1
        try:
            if self._fd < 0:
                self._begin()
            start = os.fstat(self._fd).st_size
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            if self._fsync == "always" or self._sync_is_due():
                self.sync()
            start = -1
        except OSError as error:
            hint = "free some space and append it again" if error.errno == errno.ENOSPC else "append it again once that is mended"
            raise StoreError(f"{self.path}: a line was not written: {error.strerror or error}; {hint}") from error
        finally:
            if start >= 0:
                self._cut(start)

    def _cut(self, size: int) -> None:
        """Take back what was written of a line. Where not even that can be done, its torn line stays the shard's last."""
        try:
            os.ftruncate(self._fd, size)
        except OSError:
            self.abandon()

    def _sync_is_due(self) -> bool:
        return isinstance(self._fsync, (int, float)) and time.monotonic() - self._synced_at >= self._fsync

    def sync(self) -> None:
        os.fsync(self._fd)
        self._synced_at = time.monotonic()

    def close(self) -> None:
        if self._fd >= 0:
            try:
                if self._fsync != "never":
                    self.sync()
            finally:
                self.abandon()

    def abandon(self) -> None:
        """Let go of the file without a word to the disk; after a fork the parent keeps its own hold of it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.abandon()


def lock_of(fd: int) -> bool | None:
    """Take the lock on an open file, without waiting: whether we have it; None where the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def shard_name() -> str:
    """A new shard's name: sorts by time, and no two writers of any machine make the same."""
    now = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    return f"{stamp}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", socket.gethostname())[:40] or "host"


def sync_folder(folder: Path) -> None:
    """Force `folder`'s own entries (a new file's name) to the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def heal(folder: Path) -> list[Path]:
    """Cut the torn last line off every shard of this machine whose writer is dead; returns the shards that were cut.

    A writer holds a lock on its shard while it lives, so a file whose lock is free has no writer any more. Only bytes
    after the last newline go: they are of an `append` that never returned. Other machines' shards are left alone: some
    network file systems keep such locks to one machine.
    """
    cut = []
    for path in sorted(folder.glob(f"*-{_host()}-*.jsonl")):
        try:
            if _ends_with_newline(path):
                continue
            with path.open("r+b") as file:
                if lock_of(file.fileno()):
                    file.truncate(_after_last_newline(file.fileno()))
                    cut.append(path)
        except OSError:
            continue  # not ours to change: reading passes over the tail as it is
    return cut


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return True
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _after_last_newline(fd: int) -> int:
    end = os.fstat(fd).st_size
    while end > 0:
        begin = max(0, end - (1 << 16))
        found = os.pread(fd, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
