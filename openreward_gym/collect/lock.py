"""One collector a run: the lock on a run's folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from openreward_gym.errors import StoreError
from openreward_gym.store.writer import fcntl, lock_of
from openreward_gym.types.rollout import now_iso

NAME = "collector.lock"
GATE = "workers.lock"
HEARTBEAT_S = 15.0
STALE_S = 120.0
"""Seconds without a heartbeat after which a collector of another machine is dead."""


class RunLock:
    """Held while a run is collected; a process that dies lets go of it by dying.

    On one machine the operating system's own lock decides. Between machines that share a file system it may not reach, so
    the holder also touches the file now and then, and one of another machine counts as dead once it stopped.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._fd = -1
        self.holder: dict[str, Any] = {}
        """Who we are, once it is held."""
        self._released = threading.Event()

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            StoreError: Another collector holds it; the message has its pid and host.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"cannot lock {self.path.parent}: {error.strerror or error}") from None
        holder = _read(fd)
        if lock_of(fd) is False or _lives_elsewhere(fd, holder):
            os.close(fd)
            raise StoreError(
                f"{self.path.parent} is being collected by process {holder.get('pid', '?')} on {holder.get('host', '?')} "
                f"since {holder.get('since', '?')}: wait for it, stop it, or choose another output"
            )
        self._fd = fd
        try:
            self.holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now_iso()}
            self._write(self.holder)
            # A dead collector's workers may still live. What one of them is writing now, it writes; then the gate is ours.
            with _at_gate(self.path.parent, alone=True):
                pass
        except OSError as error:
            os.close(fd)
            raise StoreError(f"cannot lock {self.path.parent}: {error.strerror or error}") from None
        threading.Thread(target=self._beat, name="openreward-gym-lock", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._released.set()
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)

    def _write(self, holder: dict[str, Any]) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(holder).encode(), 0)

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):
                os.utime(self.path)


@contextlib.contextmanager
def writing_for(folder: Path, holder: Mapping[str, Any]) -> Iterator[None]:
    """Around a write of a collector's worker: it happens while `holder` has the lock, or not at all.

    A collector that dies leaves its workers alive for a moment, and the next one has read by then what there is: a rollout that
    came later would be there twice.

    Raises:
        StoreError: The run is another collector's now, or nobody's.
    """
    with _at_gate(folder, alone=False):
        try:
            found = json.loads((folder / NAME).read_bytes() or b"{}")
        except (OSError, ValueError):
            found = {}
        if found != dict(holder):
            raise StoreError(f"{folder}: not written: process {holder.get('pid')} on {holder.get('host')} collects it no more")
        yield


@contextlib.contextmanager
def _at_gate(folder: Path, *, alone: bool) -> Iterator[None]:
    """Workers pass the gate together, a new collector alone."""
    fd = os.open(folder / GATE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if fcntl is not None:
            # Where the file system has no locks, the look at the holder is all there is.
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


def _read(fd: int) -> dict[str, Any]:
    """Who holds it; empty where nobody does, or the holder died while it wrote."""
    try:
        holder = json.loads(os.pread(fd, 4096, 0) or b"{}")
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _lives_elsewhere(fd: int, holder: dict[str, Any]) -> bool:
    """Whether the holder is on another machine and was seen alive lately."""
    return bool(holder) and holder.get("host") != socket.gethostname() and time.time() - os.fstat(fd).st_mtime < STALE_S
