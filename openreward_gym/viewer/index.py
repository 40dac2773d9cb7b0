"""An index over runs: SQLite, kept up to date while others write, thrown away at will.

It holds numbers, names and byte offsets, never text but the beginning of prompts: what is read is read from the runs'
own files. Any number of viewers may share one index file.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from openreward_gym.errors import ConfigurationError, RecordError, StoreError
from openreward_gym.store import images
from openreward_gym.store.addresses import run_key
from openreward_gym.store.folder import LocalFolder, Shard
from openreward_gym.store.labels import FILE as LABELS
from openreward_gym.store.labels import Label, read_labels, write_label
from openreward_gym.viewer import tables
from openreward_gym.viewer.rows import parsed, ranges_of, row_of

_CHUNK = 4 << 20
_BATCH_S = 1.0


class Found(NamedTuple):
    """Where a rollout is: its run's key and folder, the file, the line's first byte and its length."""

    run: str
    folder: str
    path: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the index is: bytes read of those there are."""

    done: int
    total: int


class RunIndex:
    """The index of some runs.

        index = RunIndex(["runs/"])
        index.refresh()
        index.rows("SELECT id, reward FROM rollouts WHERE step = ?", (3,))

    Args:
        paths: Runs' folders, or folders of runs; new runs in the latter are found by `refresh`.
        file: The SQLite file; None for one in the user's cache that belongs to these paths.

    Raises:
        ConfigurationError: No path was given.
        StoreError: A path does not exist, or is a file.
    """

    def __init__(self, paths: Iterable[str | os.PathLike[str]], file: str | os.PathLike[str] | None = None) -> None:
        self.paths = [Path(path) for path in paths]
        if not self.paths:
            raise ConfigurationError("no run was given: name at least one run's folder, or a folder of runs")
        for path in self.paths:
            if not path.is_dir():
                what = "is a file, not a run's folder" if path.exists() else "does not exist: check the path, or record into it"
                raise StoreError(f"{path} {what}")
        self.file = Path(file) if file is not None else tables.default_path(self.paths)
        tables.prepare(self.file)
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._writing = threading.Lock()
        self.progress = Progress(0, 0)

    # Reading

    def rows(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """The rows of a query; from any thread."""
        return self._connection().execute(sql, tuple(parameters)).fetchall()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = tables.connect(self.file)
            self._connections.append(connection)
        return connection

    @property
    def generation(self) -> int:
        """A number that grows whenever something that is shown has changed."""
        return int(self.rows("SELECT value FROM facts WHERE name = 'generation'")[0][0])

    def find(self, run: str, identity: str) -> Found | None:
        """Where the rollout of that id is, in the run of that key; None where there is none."""
        sql = (
            "SELECT runs.key, runs.folder, files.path, r.start, r.length FROM rollouts r JOIN runs ON runs.run = r.run "
            "JOIN files ON files.file = r.file WHERE runs.key = ? AND r.id = ?"
        )
        found = self.rows(sql, (run, identity))
        return Found(*found[0]) if found else None

    def read(self, found: Found) -> bytes:
        """The rollout's line.

        Raises:
            StoreError: The file is gone or shorter than it was.
        """
        try:
            with open(found.path, "rb") as file:
                file.seek(found.start)
                line = file.read(found.length)
        except OSError as error:
            raise StoreError(f"{found.path}: {error.strerror or error}") from error
        if len(line) != found.length:
            raise StoreError(f"{found.path}: it has become shorter than it was; reload the page")
        return line

    def folder(self, run: str) -> Path | None:
        """The folder of the run of that key; None where there is none."""
        found = self.rows("SELECT folder FROM runs WHERE key = ?", (run,))
        return Path(found[0][0]) if found else None

    def image(self, folder: str | os.PathLike[str], sha256: str) -> bytes:
        """The bytes of an image of a run's folder; empty where it cannot be read."""
        with contextlib.suppress(StoreError):
            return images.read(LocalFolder(folder), sha256)
        return b""

    def label(self, run: str, label: Label) -> None:
        """Keep a label beside its run.

        Raises:
            ConfigurationError: There is no such rollout.
            StoreError: It could not be written.
        """
        found = self.find(run, label.rollout)
        if found is None:
            raise ConfigurationError(f"run {run!r} has no rollout {label.rollout!r}")
        write_label(found.folder, label)
        self.refresh()

    # Keeping up

    def refresh(self) -> bool:
        """Look at the disk again and take in what is new; whether anything was."""
        with self._writing:
            folders = self._folders()
            shards = [(folder, shard) for folder in folders for shard in folder.shards("rollouts")]
            paths = {str(folder.local("rollouts", shard)) for folder, shard in shards}
            known = {path: (file, inode, scanned) for file, path, inode, scanned in self.rows(
                "SELECT file, path, inode, scanned FROM files")}  # fmt: skip
            self.progress = Progress(0, sum(shard.size for _, shard in shards))
            changed = False
            for path in known.keys() - paths:
                with self._transaction():
                    self._forget(known[path][0])
                    self._run("DELETE FROM files WHERE file = ?", known[path][0])
                changed = True
            for folder, shard in shards:
                changed = self._take_in(folder, shard, known) or changed
            for folder in folders:
                changed = self._read_labels(folder) or changed
            return changed

    def _folders(self) -> list[LocalFolder]:
        found: dict[Path, None] = {}
        for path in self.paths:
            if LocalFolder(path).is_run():
                found[path.resolve()] = None
                continue
            with contextlib.suppress(OSError):
                for child in sorted(path.iterdir()):
                    if child.is_dir() and LocalFolder(child).is_run():
                        found[child.resolve()] = None
        return [LocalFolder(path) for path in found]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("UPDATE facts SET value = value + 1 WHERE name = 'generation'")
            self._run("COMMIT")
        except BaseException:
            self._run("ROLLBACK")
            raise

    def _run(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return self._connection().execute(sql, parameters)

    def _forget(self, file: int) -> None:
        self._run("DELETE FROM rollouts WHERE file = ?", file)
        self._run("DELETE FROM runs WHERE run NOT IN (SELECT DISTINCT run FROM rollouts)")

    def _take_in(self, folder: LocalFolder, shard: Shard, known: dict[str, tuple[int, int, int]]) -> bool:
        path = folder.local("rollouts", shard)
        try:
            status = path.stat()
        except OSError:
            return False
        file, inode, scanned = known.get(str(path), (0, status.st_ino, 0))
        replaced = inode != status.st_ino or status.st_size < scanned
        before, self.progress = self.progress, Progress(self.progress.done + scanned, self.progress.total)
        if file and not replaced and status.st_size == scanned:
            return False
        with self._transaction():
            # Another viewer may share the index: what counts is what it says inside the transaction.
            self._run(
                "INSERT OR IGNORE INTO files (folder, path, inode, scanned) VALUES (?, ?, ?, 0)",
                str(folder.path), str(path), status.st_ino,
            )  # fmt: skip
            file, scanned = self._run("SELECT file, scanned FROM files WHERE path = ?", str(path)).fetchone()
            if replaced:
                self._forget(file)
                self._run("UPDATE files SET inode = ?, scanned = 0, damaged = 0, damage = '' WHERE file = ?", status.st_ino, file)
        whole = False
        while not whole:
            with self._transaction():
                reached, whole = _Reader(self, folder, path, file).read()
            self.progress = Progress(before.done + reached, before.total)
        return True

    def _read_labels(self, folder: LocalFolder) -> bool:
        place = str(folder.path)
        try:
            status = (folder.path / LABELS).stat()
            stamp = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            stamp = ""
        before = self.rows("SELECT stamp FROM label_files WHERE folder = ?", (place,))
        if (before[0][0] if before else "") == stamp:
            return False
        labels = read_labels(folder.path)
        with self._transaction():
            self._run("DELETE FROM labels WHERE folder = ?", place)
            self._connection().executemany(
                "INSERT INTO labels VALUES (?, ?, ?, ?, ?)",
                [(place, x.rollout, x.rating, json.dumps(x.tags), x.note) for x in labels.values()],
            )
            self._run("INSERT OR REPLACE INTO label_files VALUES (?, ?)", place, stamp)
        return True

    def run_number(self, folder: LocalFolder, name: str, data: dict[str, Any]) -> int:
        """The number of the run `name` in a folder, made where it is new; inside a transaction."""
        found = self._run("SELECT run FROM runs WHERE folder = ? AND name = ?", str(folder.path), name).fetchone()
        if found:
            return int(found[0])
        key = run_key(folder.name, name)
        taken = {row[0] for row in self._run("SELECT key FROM runs")}
        unique = next(k for n in range(1, len(taken) + 2) if (k := key if n == 1 else f"{key}~{n}") not in taken)
        ranges = json.dumps(ranges_of(data))
        sql = "INSERT INTO runs (key, folder, name, ranges) VALUES (?, ?, ?, ?)"
        return int(self._run(sql, unique, str(folder.path), name, ranges).lastrowid or 0)

    def close(self) -> None:
        with self._writing:
            while self._connections:
                self._connections.pop().close()
            self._local = threading.local()


class _Reader:
    """Reads the new lines of one shard, for about a second at a time."""

    def __init__(self, index: RunIndex, folder: LocalFolder, path: Path, file: int) -> None:
        self._index, self._folder, self._path, self._file = index, folder, path, file
        self._name = folder.name
        self._runs: dict[str, int] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._damaged = 0
        self._damage = ""

    def read(self) -> tuple[int, bool]:
        """(byte reached, whether that is all there is)."""
        deadline = time.monotonic() + _BATCH_S
        connection = self._index._connection()
        (at,) = connection.execute("SELECT scanned FROM files WHERE file = ?", (self._file,)).fetchone()
        whole = True
        with self._path.open("rb") as file:
            file.seek(at)
            rest = b""
            while chunk := file.read(_CHUNK):
                if (cut := chunk.rfind(b"\n")) < 0:
                    rest += chunk
                    continue
                block, rest = rest + chunk[: cut + 1], chunk[cut + 1 :]
                self._lines(block, at)
                at += len(block)
                if time.monotonic() > deadline:
                    whole = False
                    break
        connection.executemany(tables.INSERT, self._rows)
        connection.execute(
            "UPDATE files SET scanned = ?, damaged = damaged + ?, "
            "damage = CASE damage WHEN '' THEN ? ELSE damage END WHERE file = ?",
            (at, self._damaged, self._damage, self._file),
        )
        return at, whole

    def _lines(self, block: bytes, at: int) -> None:
        start = 0
        while (end := block.find(b"\n", start)) >= 0:
            line = block[start:end]
            if line.strip():
                self._line(line, at + start)
            start = end + 1

    def _line(self, line: bytes, start: int) -> None:
        try:
            data = parsed(line)
            run = self._run_of(data)
            self._rows.append(row_of(data, run, self._file, start, len(line)))
        except (RecordError, UnicodeError) as error:
            self._damaged += 1
            self._damage = self._damage or f"{self._path.name} (byte {start}): {str(error)[:200]}"

    def _run_of(self, data: dict[str, Any]) -> int:
        given = data.get("run")
        name = given[:200].encode("utf-8", "replace").decode() if isinstance(given, str) and given else self._name
        if name not in self._runs:
            self._runs[name] = self._index.run_number(self._folder, name, data)
        return self._runs[name]
