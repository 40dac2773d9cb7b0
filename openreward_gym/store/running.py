"""Rollouts that are still being recorded: one file each in a run's `running/`, which the finished line replaces.

The first line of a file is the rollout as far as it is known, without messages; each further one is a message with its number.
A message that grew is written again under its number. The files are for readers that look on, such as the viewer: they are no
rollouts of the run, and no export reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from openreward_gym.errors import OpenRewardGymError
from openreward_gym.processes import process_id
from openreward_gym.redaction import RecordRedactor, may_have_tokens, without_tokens
from openreward_gym.store import images
from openreward_gym.store.files import inside, open_descriptor, open_regular
from openreward_gym.store.folder import Folder, LocalFolder
from openreward_gym.types import Message, Rollout, codec
from openreward_gym.types.rollout import SCHEMA as ROLLOUT_SCHEMA
from openreward_gym.types.rollout import line_of

SCHEMA = "openreward-gym/running/1"
KIND = "running"
SILENT_S = 600.0
"""Seconds without a message after which a writer on another machine counts as gone."""

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,80}")


class RunningRollout:
    """The file of one rollout that is being recorded. It never raises: what cannot be written is not there to be looked at.

    Not thread-safe: a recorder holds its lock around it.

    Args:
        folder: The run's folder; on a remote file system nothing is written.
        run: The name of the run, for a rollout that has none.
        redactor: What is cut out before anything is written.
    """

    def __init__(self, folder: Folder, run: str, redactor: RecordRedactor | None = None) -> None:
        self._folder, self._run = folder, run
        self._redactor = None if redactor is None or redactor.is_empty else redactor
        self._path: Path | None = None
        self._is_new = True
        self._given_up = not isinstance(folder, LocalFolder)
        self._pid = process_id()

    def write(self, rollout: Callable[[], Rollout], number: int, messages: Iterable[Message]) -> None:
        """Write messages, the first of which has that number.

        Args:
            rollout: Gives the rollout as far as it is known; called once.
            number: The number of the first message. If it was written before, it is replaced.
            messages: The messages.
        """
        if self._given_up or self._pid != process_id():
            return
        try:
            lines = [self._line(place, message) for place, message in enumerate(messages, number)]
            if self._path is None:
                lines.insert(0, self._head(rollout()))
            if lines:
                self._append(lines)
        except (OSError, ValueError, RecursionError, OpenRewardGymError):
            self._given_up = True

    def _line(self, number: int, message: Message) -> str:
        record: dict[str, Any] = {"messages": [codec.write(message)]}
        images.move_out(record, self._folder)
        line = line_of({"number": number, "message": record["messages"][0]})
        # Written once more only where something has to be cut out: this is the cost of each message that is recorded.
        if may_have_tokens(line) or (self._redactor is not None and self._redactor.may_change(line)):
            line = line_of({"number": number, "message": self._safe(record)["messages"][0]})
        return line

    def _head(self, rollout: Rollout) -> str:
        record = replace(rollout, run=rollout.run or self._run, status="running", messages=[], ended_at=None).to_dict()
        assert isinstance(self._folder, LocalFolder)
        self._path = inside(self._folder.path, KIND, new=True) / _file_name(rollout.id)
        return line_of({"schema": SCHEMA, "writer": _this_writer(), "rollout": self._safe(record)})

    def _safe(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return a record without secrets, and without tokens, which spell texts that are cut out elsewhere, and are long."""
        record = without_tokens(record)
        if self._redactor is not None and self._redactor.may_change(line_of(record)):
            record = self._redactor.record(record)
        return record

    def _append(self, lines: list[str]) -> None:
        assert self._path is not None
        data = "".join(f"{line}\n" for line in lines).encode("utf-8")
        descriptor = self._open(self._path, self._is_new)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)  # not kept open: a collector has thousands of rollouts under way
        self._is_new = False

    @staticmethod
    def _open(path: Path, new: bool) -> int:
        flags = os.O_WRONLY | os.O_APPEND
        if not new:
            return open_descriptor(path, flags)
        for _ in range(3):
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another process has just removed the empty folder
                return open_descriptor(path, flags | os.O_CREAT | os.O_EXCL)
        return open_descriptor(path, flags | os.O_CREAT | os.O_EXCL)

    def remove(self) -> None:
        """Remove the file: the rollout has ended, and its line is written, or it never will be."""
        path, self._path, self._given_up = self._path, None, True
        if path is not None and self._pid == process_id():
            with contextlib.suppress(OSError):
                path.unlink()
                path.parent.rmdir()  # unless others are still recording


def _file_name(rollout_id: str) -> str:
    digest = hashlib.sha256(rollout_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    name = rollout_id if _PLAIN.fullmatch(rollout_id) else digest
    return f"{name}-{secrets.token_hex(3)}.jsonl"


def _this_writer() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str:
    """Return what tells a process from a later one of the same id; empty where the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


class Stamp(NamedTuple):
    """What changes whenever a file does."""

    size: int
    mtime_ns: int
    inode: int


class RunningFile:
    """A reader of the file of a rollout that is being recorded, which keeps what it has read.

    Args:
        path: The file.
        keep: What to keep of each message.

    Attributes:
        path: The file.
        head: The rollout's record without messages; empty as long as its line is not there.
        messages: The messages so far, as records.
        stamp: The state of the file when it was read last; None before.
    """

    def __init__(self, path: Path, keep: Callable[[dict[str, Any]], dict[str, Any]] = lambda message: message) -> None:
        self.path = path
        self._keep = keep
        self.head: dict[str, Any] = {}
        self.messages: list[dict[str, Any]] = []
        self.stamp: Stamp | None = None
        self._writer: dict[str, Any] = {}
        self._read = 0

    def refresh(self) -> bool:
        """Read what is new; return whether anything is. A last line without an end is not there yet.

        Raises:
            OSError: The file cannot be read. FileNotFoundError: it is gone, so the rollout has ended.
        """
        status = self.path.stat()
        stamp = Stamp(status.st_size, status.st_mtime_ns, status.st_ino)
        if stamp == self.stamp:
            return False
        if self.stamp is not None and (stamp.inode != self.stamp.inode or stamp.size < self._read):
            self.head, self.messages, self._writer, self._read = {}, [], {}, 0
        with open_regular(self.path) as file:
            file.seek(self._read)
            data = file.read()
        end = data.rfind(b"\n") + 1
        for line in data[:end].splitlines():
            self._take(line)
        self._read += end
        self.stamp = stamp
        return True

    def _take(self, line: bytes) -> None:
        try:
            record = orjson.loads(line)
        except ValueError:
            return  # a damaged line hides no other
        if not isinstance(record, dict):
            return
        head, message, number = record.get("rollout"), record.get("message"), record.get("number")
        if isinstance(head, dict) and str(record.get("schema", "")).startswith("openreward-gym/running/"):
            self.head = {**head, "schema": ROLLOUT_SCHEMA, "status": "running"}
            writer = record.get("writer")
            self._writer = writer if isinstance(writer, dict) else {}
        elif isinstance(message, dict) and type(number) is int and 0 <= number <= len(self.messages):
            self.messages[number:] = [self._keep(message)]

    @property
    def written_at(self) -> datetime:
        """The time of the last write."""
        return datetime.fromtimestamp((self.stamp.mtime_ns if self.stamp else 0) / 1e9, UTC)

    @property
    def age_s(self) -> float:
        """Seconds since the last write."""
        return (datetime.now(UTC) - self.written_at).total_seconds()

    @property
    def is_written(self) -> bool:
        """Whether its writer still lives, as far as this machine can tell."""
        pid = self._writer.get("pid")
        if self._writer.get("host") != socket.gethostname() or type(pid) is not int or pid <= 0 or os.name != "posix":
            return self.age_s < SILENT_S
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass
        started = _started(pid)
        return not started or started == self._writer.get("started")

    def record(self) -> dict[str, Any]:
        """Return the rollout so far, with what can be summed up of it."""
        rewards = [reward for message in self.messages if isinstance(reward := message.get("reward"), (int, float))]
        totals = {"reward": sum(rewards), "final_reward": rewards[-1]} if rewards else {}
        return {**self.head, **totals, "messages": self.messages}


def running_files(folder: LocalFolder) -> Iterator[Path]:
    """Yield the files of the rollouts that are being recorded into a run."""
    try:
        names = sorted(
            name for name, size in folder.files(KIND) if name.endswith(".jsonl") and not name.startswith(".") and size >= 0
        )
    except OpenRewardGymError:
        return
    for name in names:
        with contextlib.suppress(OSError, OpenRewardGymError):
            yield folder.fetch(KIND, name)


def has_running(path: Path) -> bool:
    """Return whether rollouts are being recorded into the folder at `path`."""
    return next(running_files(LocalFolder(path)), None) is not None


def remove_abandoned(path: Path) -> int:
    """Remove the files whose writers are gone, and return their number. For who records the same rollouts again."""
    removed = 0
    for file in running_files(LocalFolder(path)):
        with contextlib.suppress(OSError, OpenRewardGymError):
            reader = RunningFile(file)
            reader.refresh()
            if not reader.is_written:
                file.unlink()
                removed += 1
    with contextlib.suppress(OSError):
        (path / KIND).rmdir()
    return removed
