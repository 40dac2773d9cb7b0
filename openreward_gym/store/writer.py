"""The file of lines of one writer. A line is written whole or not at all, even if the process dies."""

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
from openreward_gym.processes import is_out_of_files, open_files_hint
from openreward_gym.store.files import open_descriptor

# Windows has no such advisory locks: torn last lines stay there, and readers skip them.
fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None

Fsync: TypeAlias = Literal["always", "close", "never"] | float
"""The moments at which a shard is forced to the disk: after every rollout, when the store is closed, never, or every N seconds.

A killed process loses nothing in any case; the setting matters when the machine itself loses power.
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
        remaining = memoryview((line + "\n").encode("utf-8"))
        start = -1
        try:
            if self._fd < 0:
                self._begin()
            start = os.fstat(self._fd).st_size
            while remaining:
                remaining = remaining[os.write(self._fd, remaining) :]
            if self._fsync == "always" or self._sync_is_due():
                self.sync()
            start = -1
        except OSError as error:
            hint = "free some space and append it again" if error.errno == errno.ENOSPC else "append it again afterwards"
            hint = open_files_hint() if is_out_of_files(error) else hint
            raise StoreError(f"{self.path}: a line was not written: {error.strerror or error}; {hint}") from error
        finally:
            if start >= 0:
                self._cut(start)

    def _cut(self, size: int) -> None:
        """Remove a partly written line. If that fails too, leave the shard with the torn line as its last."""
        try:
            os.ftruncate(self._fd, size)
        except OSError:
            self.abandon()

    def _sync_is_due(self) -> bool:
        return isinstance(self._fsync, (int, float)) and time.monotonic() - self._synced_at >= self._fsync

    def sync(self) -> None:
        """Force the written lines to the disk."""
        os.fsync(self._fd)
        self._synced_at = time.monotonic()

    def close(self) -> None:
        """Force the lines to the disk, as `fsync` says, and close the file."""
        if self._fd >= 0:
            try:
                if self._fsync != "never":
                    self.sync()
            finally:
                self.abandon()

    def abandon(self) -> None:
        """Close the file without forcing it to the disk. After a fork, the parent's descriptor stays open."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.abandon()


def reason_of(error: OSError) -> str:
    """Return the reason of a failure of the file system, with what to do if there are too many open files."""
    return open_files_hint() if is_out_of_files(error) else str(error.strerror or error)


def lock_of(fd: int) -> bool | None:
    """Try to lock an open file without waiting. Return True if it is locked, None if the file system has no locks."""
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
    """Return a new shard name that sorts by time and is unique over processes and machines."""
    now = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    return f"{stamp}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", socket.gethostname())[:40] or "host"


def sync_folder(folder: Path) -> None:
    """Force the entries of `folder` (the name of a new file) to the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def heal(folder: Path) -> list[Path]:
    """Cut the torn last line off every shard of this machine whose writer is dead, and return the shards that were cut.

    A writer locks its shard while it lives, so a file without a lock has lost its writer. Only bytes after the last newline
    are removed: they belong to an `append` that never returned. Shards of other machines stay as they are, because some
    network file systems do not share locks.
    """
    cut = []
    for path in sorted(folder.glob(f"*-{_host()}-*.jsonl")):
        try:
            fd = open_descriptor(path, os.O_RDWR)
        except OSError:
            continue  # the file is none of a writer's, or may not be changed: readers skip the torn line
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n" and lock_of(fd):
                os.ftruncate(fd, _after_last_newline(fd))
                cut.append(path)
        except OSError:
            continue
        finally:
            os.close(fd)
    return cut


def _after_last_newline(fd: int) -> int:
    end = os.fstat(fd).st_size
    while end > 0:
        begin = max(0, end - (1 << 16))
        newline = os.pread(fd, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0
