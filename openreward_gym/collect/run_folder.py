"""A run's folder: `run.json` with the run's configuration, logs, and the lock that admits one collector at a time."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from openreward_gym.errors import StoreError
from openreward_gym.jsonio import loads
from openreward_gym.store.files import open_descriptor
from openreward_gym.store.folder import LocalFolder
from openreward_gym.store.writer import LineWriter, fcntl, lock_of, reason_of
from openreward_gym.types.rollout import check_schema, line_of, now_iso

SCHEMA = "openreward-gym/run/1"
PACKAGES = ("openreward-gym", "gymnasium", "httpx", "openreward", "openai", "anthropic", "google-genai", "transformers", "torch")
LOCK = "collector.lock"
WORKERS_LOCK = "workers.lock"
HEARTBEAT_S = 15.0
STALE_S = 120.0
"""Seconds without a heartbeat after which a collector on another machine counts as dead."""


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def describe_run(behaviour: Mapping[str, Any], tasks_digest: str, circumstances: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `run.json`. Behaviour influences the rollouts; circumstances do not, and are never compared."""
    return {
        "schema": SCHEMA,
        **behaviour,
        **circumstances,
        "behaviour": dict(behaviour),
        "digests": {"tasks": tasks_digest, "behaviour": digest_of(behaviour)},
        "versions": _versions(),
        "git_commit": _git_commit(),
        "created_at": now_iso(),
        "changes": [],
    }


def write_run(folder: Path, run: dict[str, Any], *, resume: bool, allow_changed: bool) -> None:
    """Write `run.json`. A run that exists raises StoreError without `resume`, a changed one also without `allow_changed`."""
    path = folder / "run.json"
    old = _read_run(path)
    if not old and not (folder / "tasks.jsonl").exists():
        write_json(path, run)
        return
    if not resume:
        raise StoreError(f"{folder} already holds a run: choose another output, or continue the run with resume=True (--resume)")
    changed = _changed(old, run)
    if not changed:
        return
    if not allow_changed:
        raise StoreError(
            f"{folder} holds another run: {'; '.join(changed)}. Choose another output, or confirm the change with "
            "allow_changed=True (--allow-changed)"
        )
    note = {"time": now_iso(), "changed": changed, "digests": old.get("digests"), "versions": old.get("versions")}
    changes = [*old.get("changes", []), note]
    write_json(path, {**run, "created_at": old.get("created_at", run["created_at"]), "changes": changes})


def check_resumed(output: str | os.PathLike[str] | None) -> None:
    """Raise StoreError if a folder holds no run that can be continued. A collector that died at its start leaves its lock."""
    folder = Path(output or "")
    if not any((folder / name).exists() for name in ("run.json", "tasks.jsonl", LOCK)):
        state = "holds no run" if folder.exists() else "does not exist"
        raise StoreError(
            f"{folder} {state}, so there is nothing to continue: leave out resume=True (--resume) to begin a run there"
        )


def _changed(before: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """Describe the differences in tasks and behaviour between two runs."""
    differences = []
    digests = before.get("digests") or {}
    if digests.get("tasks") != run["digests"]["tasks"]:
        differences.append("its tasks.jsonl lists other tasks")
    old, new = before.get("behaviour") or {}, run["behaviour"]
    if digests.get("behaviour") != run["digests"]["behaviour"]:
        names = sorted(name for name in {*old, *new} if digest_of(old.get(name)) != digest_of(new.get(name)))
        differences += [f"{name} was {_short(old.get(name))} and is {_short(new.get(name))}" for name in names]
    return differences


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _read_run(path: Path) -> dict[str, Any]:
    """Read `run.json`. Empty if it does not exist."""
    try:
        run = loads(LocalFolder(path.parent).read_bytes(path.name))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from None
    if not isinstance(run, dict):
        raise StoreError(f"{path} does not describe a run: it holds a JSON {type(run).__name__}")
    check_schema(run.get("schema"), SCHEMA, "run")
    return run


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
    LocalFolder(path.parent).write_bytes(path.name, text.encode("utf-8", "backslashreplace"))


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _git_commit() -> str | None:
    """Return the commit of the current directory, with "-dirty" if files differ from it. None outside of a repository."""
    try:
        commit, changes = (
            subprocess.run(["git", *command], capture_output=True, text=True, timeout=5, check=True).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changes else commit


class RunLog:
    """Appends lines to one kind of file of a run. The file is made with the first line."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder / kind
        self._writer: LineWriter | None = None

    def append(self, data: Mapping[str, Any]) -> None:
        """Write a line. Raises StoreError if it cannot be written."""
        try:
            if self._writer is None:
                self._writer = LineWriter(self._folder, "close")
        except OSError as error:
            raise StoreError(f"{self._folder}: cannot be written to: {reason_of(error)}") from error
        self._writer.append(line_of(data))

    def close(self) -> None:
        """Sync the file to disk and close it."""
        if self._writer is not None:
            self._writer.close()


class RunLock:
    """Context manager for the lock on a run's folder. The lock of a process that dies is released.

    On one machine the operating system's file lock decides. It may not work between machines that share a file system, so the
    holder also touches the file every few seconds, and a holder on another machine counts as dead when it stops doing so.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._fd = -1
        self.holder: dict[str, Any] = {}
        """Process id, host and start time of this process while it holds the lock."""
        self._released = threading.Event()

    def __enter__(self) -> Self:
        """Acquire the lock. Raises StoreError, with the holder's process id and host, if another collector holds it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = open_descriptor(self.path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StoreError(f"cannot lock {self.path.parent}: {reason_of(error)}") from None
        holder = _read_holder(self.path)
        elsewhere = bool(holder) and holder.get("host") != socket.gethostname()
        if lock_of(fd) is False or (elsewhere and time.time() - os.fstat(fd).st_mtime < STALE_S):
            os.close(fd)
            raise StoreError(
                f"{self.path.parent} is being collected by process {holder.get('pid', '?')} on {holder.get('host', '?')} "
                f"since {holder.get('since', '?')}: wait for it, stop it, or choose another output"
            )
        self._fd = fd
        try:
            self.holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now_iso()}
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(self.holder).encode(), 0)
            # Workers of a dead collector may still live. This waits for a write that is in progress; later ones are refused.
            with _workers_lock(self.path.parent, exclusive=True):
                pass
        except OSError as error:
            os.close(fd)
            raise StoreError(f"cannot lock {self.path.parent}: {reason_of(error)}") from None
        threading.Thread(target=self._beat, name="openreward-gym-lock", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._released.set()
        if self.holder.get("pid") != os.getpid():  # a forked child leaves its parent's lock alone
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):
                os.utime(self.path)


@contextlib.contextmanager
def writing_for(folder: Path, holder: Mapping[str, Any], worker: str = "") -> Iterator[None]:
    """Context manager for a write by a collector's worker: the body runs only while `holder` holds the run's lock.

    Otherwise, and after `exclude_worker` of the worker, it raises StoreError. The workers of a collector that dies live on for
    a moment, while the next collector reads the existing rollouts. A rollout that such a worker wrote later would be played,
    and stored, a second time.
    """
    with _workers_lock(folder, exclusive=False):
        if _read_holder(folder / LOCK) != dict(holder):
            raise StoreError(
                f"a rollout was not written to {folder}, because process {holder.get('pid')} on {holder.get('host')} no longer "
                "collects this run"
            )
        if worker and worker.encode() in LocalFolder(folder).read_bytes(WORKERS_LOCK).split():
            raise StoreError(f"a rollout was not written to {folder}, because its worker was taken for dead, and replaced")
        yield


def exclude_worker(folder: Path, worker: str) -> None:
    """Let a worker that is taken for dead write nothing more. This waits for a write that is in progress."""
    with _workers_lock(folder, exclusive=True) as fd:
        os.lseek(fd, 0, os.SEEK_END)
        os.write(fd, f"{worker}\n".encode())


@contextlib.contextmanager
def _workers_lock(folder: Path, *, exclusive: bool) -> Iterator[int]:
    """Hold the workers' lock, and yield its file's descriptor: workers share it, a new collector takes it exclusively."""
    fd = open_descriptor(folder / WORKERS_LOCK, os.O_RDWR | os.O_CREAT)
    try:
        if fcntl is not None:
            # On a file system without locks, the comparison of holders is the only protection.
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield fd
    finally:
        os.close(fd)


def _read_holder(path: Path) -> dict[str, Any]:
    """Read the holder from the lock file. Empty without a holder, or if it died while it wrote."""
    try:
        holder = loads(LocalFolder(path.parent).read_bytes(path.name))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}
