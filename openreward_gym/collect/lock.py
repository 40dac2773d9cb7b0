"""One collector a run: the lock on a run's folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from openreward_gym.errors import StoreError
from openreward_gym.rollouts.record import now_iso
from openreward_gym.rollouts.writer import lock_of

NAME = "collector.lock"
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
            self._write({"pid": os.getpid(), "host": socket.gethostname(), "since": now_iso()})
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
