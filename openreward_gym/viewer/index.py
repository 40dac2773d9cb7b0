"""A SQLite index over runs, kept up to date while others write to them; it can be deleted at any time.

It holds numbers, names and byte offsets, and of the texts only the beginnings of prompts: rollouts are read from the
runs' own files. Several viewers may share one index file.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import orjson

from openreward_gym.errors import ConfigurationError, OpenRewardGymError, RecordError, StoreError
from openreward_gym.store import Damage, Label, LabelChange, RolloutStore, images, read_labels, write_label
from openreward_gym.store.files import open_regular
from openreward_gym.store.folder import LocalFolder, Shard
from openreward_gym.store.index import damage_of, line_number
from openreward_gym.store.labels import FILE as LABELS
from openreward_gym.store.labels import histories, write_change
from openreward_gym.store.running import RunningFile, has_running
from openreward_gym.store.store import run_key
from openreward_gym.types.rollout import line_of
from openreward_gym.viewer import catalogue
from openreward_gym.viewer.index_file import INSERT, connect, default_file, delete, is_damage, prepared
from openreward_gym.viewer.openings import LinePlace, Openings
from openreward_gym.viewer.rows import parse_record, row_of, run_name
from openreward_gym.viewer.running import RUNNING_LENGTH, RunningRollouts, is_running_file

T = TypeVar("T")

Run: TypeAlias = str | os.PathLike[str] | RolloutStore
Runs: TypeAlias = Run | Iterable[Run]
"""Runs' folders or stores, or folders of runs; one or several."""

MAX_DAMAGES = 20
"""The number of damaged lines of a file that the index has the places of; it counts all."""
_CHUNK = 4 << 20
_BATCH_S = 1.0

JOINED = "rollouts r JOIN runs ON runs.run = r.run LEFT JOIN labels l ON l.folder = runs.folder AND l.id = r.id"
"""The tables over which filters are conditions."""


class NotFoundError(OpenRewardGymError, LookupError):
    """A run, rollout, image or extension does not exist."""


class RolloutPlace(NamedTuple):
    """The place of a rollout: its run's key and folder, the file, the line's first byte and its length."""

    run: str
    folder: str
    path: str
    start: int
    length: int


class Progress(NamedTuple):
    """The progress of a refresh: bytes read, and bytes in all."""

    done: int
    total: int


class RunIndex:
    """An index of runs.

    Args:
        runs: Runs' folders or stores, or folders of runs, in which `refresh` finds new runs; one or several.
        file: The SQLite file; None for one in the user's cache that belongs to these paths.

    Raises:
        ConfigurationError: `runs` is empty.
        StoreError: A path does not exist, or is a file.

    Example:
        index = RunIndex("runs/")
        index.refresh()
        index.rows("SELECT id, reward FROM rollouts WHERE step = ?", (3,))
    """

    def __init__(self, runs: Runs, file: str | os.PathLike[str] | None = None) -> None:
        each = [runs] if isinstance(runs, (str, os.PathLike, RolloutStore)) else runs
        self.paths = [Path(path) for run in each for path in (run.paths if isinstance(run, RolloutStore) else [run])]
        if not self.paths:
            raise ConfigurationError("no run was given: name at least one run's folder, or a folder of runs")
        for path in self.paths:
            if not path.is_dir():
                exists = "is a file, not a run's folder"
                missing = "does not exist: check the path, or record into it"
                raise StoreError(f"{path} {exists if path.exists() else missing}")
        self.file = prepared(Path(file) if file is not None else default_file(self.paths))
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._writing = threading.RLock()
        self._times_replaced = 0
        self.progress = Progress(0, 0)
        self.unreadable: tuple[tuple[str, Damage], ...] = ()
        """(run's folder, damage) of the files that could not be read at the last refresh."""
        self._running = RunningRollouts()
        self._openings = Openings()
        self._runs_seen: dict[str, str] = {}
        self._looks: dict[str, tuple[int, int]] = {}
        self._shrunk: dict[str, tuple[str, Damage]] = {}
        self._histories: dict[str, tuple[str, dict[str, list[LabelChange]]]] = {}

    # Reading

    def rows(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """Return the rows of a query. Any thread may call this."""
        given = tuple(parameters)
        return self._mended(lambda: self._connection().execute(sql, given).fetchall())

    def records(self, sql: str, parameters: Iterable[Any] = ()) -> list[dict[str, Any]]:
        """Return the rows of a query as dictionaries with the names of its columns."""
        given = tuple(parameters)

        def read() -> list[dict[str, Any]]:
            cursor = self._connection().execute(sql, given)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

        return self._mended(read)

    def _mended(self, use: Callable[[], T]) -> T:
        """Return what `use` returns; if the file is damaged, only after it was made again."""
        before = self._times_replaced
        try:
            return use()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise StoreError(f"{self.file}: the viewer's index cannot be used: {error}") from error
        with self._writing:
            if self._times_replaced == before:  # else another thread has made it again
                self._times_replaced += 1
                delete(self.file)
                self.file = prepared(self.file)
                self._local = threading.local()  # other threads may still read through the old connections
                self._refresh(threading.Event())
        return use()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self.file)
            self._connections.append(connection)
        return connection

    @property
    def generation(self) -> int:
        """A number that grows with every change to the indexed data."""
        return self._mended(self._generation)

    def _generation(self) -> int:
        return int(self._run("SELECT value FROM facts WHERE name = 'generation'").fetchone()[0])

    def find(self, run: str, rollout_id: str) -> RolloutPlace:
        """Return the place of a rollout in the run of that key; raise NotFoundError if the index does not have it."""
        sql = (
            "SELECT runs.key, runs.folder, files.path, r.start, r.length FROM rollouts r JOIN runs ON runs.run = r.run "
            "JOIN files ON files.file = r.file WHERE runs.key = ? AND r.id = ?"
        )
        rows = self.rows(sql, (run, rollout_id))
        if not rows:
            raise NotFoundError("There is no such rollout in this run yet.")
        return RolloutPlace(*rows[0])

    def read(self, place: RolloutPlace) -> bytes:
        """Return the rollout's line; raise StoreError if the file is missing, or shorter than when it was indexed."""
        if place.length == RUNNING_LENGTH:
            return line_of(self.running(place).record()).encode("utf-8")
        try:
            with open_regular(place.path) as file:
                file.seek(place.start)
                line = file.read(place.length)
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(f"{place.path}: {error.strerror or error}") from error
        if len(line) != place.length:
            raise StoreError(f"{place.path}: the file has become shorter since it was indexed. Reload the page.")
        return line

    def remember(self, rollout_id: str, place: RolloutPlace, line: bytes) -> None:
        """Remember where a rollout was read from, so that it can be said what became of it."""
        self._openings.remember(place.run, rollout_id, LinePlace(*place[1:]), line)

    def why_gone(self, run: str, rollout_id: str) -> str | None:
        """Return why a rollout that is not in the index cannot be read; None if it never could."""
        return self._openings.why_gone(run, rollout_id)

    def problem_of(self, run: str, rollout_id: str) -> str | None:
        """Return why a rollout that is in the index cannot be read again; None if it can."""
        return self._openings.problem_of(run, rollout_id)

    def is_gone(self, run: str) -> bool:
        """Return whether there was a run of that key, and is no longer."""
        return run in self._runs_seen and not self.rows("SELECT 1 FROM runs WHERE key = ?", (run,))

    def running(self, place: RolloutPlace) -> RunningFile:
        """Return a rollout that is being recorded; raise NotFoundError if it has just ended."""
        file = RunningFile(Path(place.path))
        try:
            file.refresh()
        except OSError:
            raise NotFoundError("The rollout has just ended.") from None
        return file

    def damage_at(self, place: RolloutPlace, error: Exception) -> Damage:
        """Return the damage of a rollout's line, with the words of the error that reading it raised."""
        line = 0
        with contextlib.suppress(OSError):
            line = line_number(Path(place.path), place.start)
        return Damage(line, str(error), place.path, place.start)

    def damages(self) -> list[tuple[str, int, list[Damage]]]:
        """Return what cannot be read: for each file its run's folder, the number of its damaged lines, and the first of them."""
        sql = (
            "SELECT folder, path, damaged, damage FROM files WHERE damaged > 0 UNION ALL "
            f"SELECT folder, folder || '/{LABELS}', damaged, damage FROM label_files WHERE damaged > 0"
        )
        damages = [
            (folder, count, [Damage(line, reason, path, byte) for line, byte, reason in orjson.loads(places)])
            for folder, path, count, places in self.rows(sql)
        ]
        return damages + [(folder, 1, [damage]) for folder, damage in (*self.unreadable, *self._shrunk.values())]

    def folder(self, run: str) -> Path:
        """Return the folder of the run of that key; raise NotFoundError if the index does not have the run."""
        rows = self.rows("SELECT folder FROM runs WHERE key = ?", (run,))
        if not rows:
            raise NotFoundError("There is no such run.")
        return Path(rows[0][0])

    def image(self, folder: str | os.PathLike[str], sha256: str) -> bytes:
        """Return the bytes of an image in a run's folder.

        Raises:
            StoreError: It is missing or damaged.
        """
        return images.read(LocalFolder(folder), sha256)

    def label(self, run: str, label: Label | LabelChange) -> None:
        """Write a label, or a change of one, beside its run.

        Raises:
            ConfigurationError: The index does not have the rollout.
            StoreError: The label cannot be written.
        """
        try:
            folder = self.find(run, label.rollout).folder
        except NotFoundError:
            raise ConfigurationError(f"run {run!r} has no rollout {label.rollout!r}") from None
        if isinstance(label, Label):
            write_label(folder, label)
        else:
            write_change(folder, label)
        self.refresh()

    def label_history(self, run: str, rollout_id: str) -> list[LabelChange]:
        """Return the changes of a rollout's label, the first one first; raise NotFoundError if there is no such run."""
        folder = str(self.folder(run))
        rows = self.rows("SELECT stamp FROM label_files WHERE folder = ?", (folder,))
        stamp = rows[0][0] if rows else ""
        known = self._histories.get(folder)
        if known is None or known[0] != stamp:
            known = self._histories[folder] = (stamp, histories(folder, lambda damage: None))
        return known[1].get(rollout_id, [])

    # Refreshing

    def refresh(self, stop: threading.Event | None = None) -> bool:
        """Index what is new on the disk, until `stop` is set; return whether anything changed."""
        with self._writing:
            return self._mended(lambda: self._refresh(stop or threading.Event()))

    def _refresh(self, stop: threading.Event) -> bool:
        generation = self._generation()
        folders = self._folders()
        running = self._running.find(folders)
        unreadable: list[tuple[str, Damage]] = []
        shards = [found for folder in folders for found in _shards_of(folder, unreadable)]
        paths = {str(path) for _, _, path in shards}
        known = {path: (file, inode, scanned) for file, path, inode, scanned in self._run(
            "SELECT file, path, inode, scanned FROM files")}  # fmt: skip
        self.progress = Progress(0, sum(shard.size for _, shard, _ in shards))
        for path in known.keys() - paths:
            if is_running_file(path):
                continue
            with self._transaction():
                self._forget(known[path][0])
                self._run("DELETE FROM files WHERE file = ?", known[path][0])
        for folder, _, path in shards:
            if not stop.is_set():
                try:
                    self._index_shard(folder, path, known, stop)
                except OSError as error:
                    unreadable.append((str(folder), Damage(0, error.strerror or str(error), str(path))))
        self._index_running(running)
        for folder in folders:
            self._read_labels(folder)
        changed = tuple(unreadable) != self.unreadable
        self.unreadable = tuple(unreadable)
        if not self._runs_seen or self._generation() != generation:
            self._runs_seen.update(self._run("SELECT key, folder FROM runs"))
        return changed or self._generation() != generation

    def _folders(self) -> list[LocalFolder]:
        """Return the runs' folders, each once."""
        paths: list[Path] = []
        for path in self.paths:
            with contextlib.suppress(OSError):
                for child in [path] if is_shown(path) else sorted(path.iterdir()):
                    with contextlib.suppress(OSError):  # a folder that may not be read hides no other
                        if child.is_dir() and is_shown(child):
                            paths.append(child.resolve())
        return [LocalFolder(path) for path in dict.fromkeys(paths)]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("UPDATE facts SET value = value + 1 WHERE name = 'generation'")
            self._run("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a damaged file may have ended the transaction
                self._run("ROLLBACK")
            raise

    def _run(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return self._connection().execute(sql, parameters)

    def _forget(self, file: int) -> None:
        runs = [run for (run,) in self._run("SELECT DISTINCT run FROM rollouts WHERE file = ?", file)]
        self._run("DELETE FROM rollouts WHERE file = ?", file)
        self._run("DELETE FROM runs WHERE run NOT IN (SELECT DISTINCT run FROM rollouts)")
        catalogue.make_anew(self._connection(), runs)

    def _index_shard(
        self, folder: LocalFolder, path: Path, known: dict[str, tuple[int, int, int]], stop: threading.Event
    ) -> None:
        try:
            status = path.stat()
        except OSError:
            return
        file, inode, scanned = known.get(str(path), (0, status.st_ino, 0))
        replaced = inode != status.st_ino or status.st_size < scanned or self._was_edited(path, status)
        before, self.progress = self.progress, Progress(self.progress.done + scanned, self.progress.total)
        if file and not replaced and status.st_size == scanned:
            return
        with self._transaction():
            # Another viewer may share the index: only values read inside the transaction are current.
            self._run(
                "INSERT OR IGNORE INTO files (folder, path, inode, scanned) VALUES (?, ?, ?, 0)",
                str(folder.path), str(path), status.st_ino,
            )  # fmt: skip
            file, scanned = self._run("SELECT file, scanned FROM files WHERE path = ?", str(path)).fetchone()
            if replaced:
                self._note_shrunk(folder, path, file, status.st_size)
                self._forget(file)
                self._run(
                    "UPDATE files SET inode = ?, scanned = 0, damaged = 0, damage = '[]' WHERE file = ?", status.st_ino, file
                )
        at_end = False
        while not at_end and not stop.is_set():
            with self._transaction():
                position, at_end = self._index_lines(folder, path, file)
            self.progress = Progress(before.done + position, before.total)

    def _was_edited(self, path: Path, status: os.stat_result) -> bool:
        """Return whether a file changed since the last refresh without growing: lines that were read may have been damaged."""
        size, time_ns = self._looks.get(str(path), (-1, -1))
        self._looks[str(path)] = (status.st_size, status.st_mtime_ns)
        return size == status.st_size and time_ns != status.st_mtime_ns

    def _note_shrunk(self, folder: LocalFolder, path: Path, file: int, size: int) -> None:
        """Keep in mind that rollouts were lost with the end of a file."""
        sql = "SELECT count(*) FROM rollouts WHERE file = ? AND start + length > ?"
        lost = self._run(sql, file, size).fetchone()[0]
        if lost:
            count = "1 rollout of it" if lost == 1 else f"{lost:,} rollouts of it"
            reason = f"the file became shorter after it was read: {count} cannot be read again"
            self._shrunk[str(path)] = (str(folder.path), Damage(0, reason, str(path)))

    def _index_running(self, found: list[tuple[LocalFolder, Path]]) -> None:
        """Index the rollouts that are being recorded, and forget those that are no longer."""
        known = {path: file for file, path in self._run("SELECT file, path FROM files") if is_running_file(path)}
        gone = known.keys() - {str(path) for _, path in found}
        changed = list(self._running.changed(found))
        if not gone and not changed:
            return
        with self._transaction():
            for path in gone:
                self._forget(known[path])
                self._run("DELETE FROM files WHERE file = ?", known[path])
            for folder, path, data in changed:
                if isinstance(data.get("id"), str):
                    self._index_running_one(folder, path, data)

    def _index_running_one(self, folder: LocalFolder, path: Path, data: dict[str, Any]) -> None:
        run = self._run_number(folder, run_name(data) or folder.name)
        sql = "INSERT OR IGNORE INTO files (folder, path, inode, scanned) VALUES (?, ?, 0, 0)"
        self._run(sql, str(folder.path), str(path))
        file = self._run("SELECT file FROM files WHERE path = ?", str(path)).fetchone()[0]
        # What it has earned so far is no reward that a mean may count.
        row = row_of({**data, "reward": None, "final_reward": None}, run, file, 0, RUNNING_LENGTH)
        sql = "SELECT pk, length FROM rollouts WHERE run = ? AND id = ?"
        before = self._run(sql, run, row[4]).fetchone()
        if before is not None and before[1] != RUNNING_LENGTH:
            return  # its line has been written
        pk = self._run(INSERT, *row).lastrowid
        if before is not None:
            self._run("UPDATE rollouts SET pk = ? WHERE pk = ?", before[0], pk)  # it keeps its place in lists

    def _index_lines(self, folder: LocalFolder, path: Path, file: int) -> tuple[int, bool]:
        """Index new lines for about a second; return (the position reached, whether it is the shard's end)."""
        deadline = time.monotonic() + _BATCH_S
        position, damages = self._run("SELECT scanned, damage FROM files WHERE file = ?", file).fetchone()
        start, places = position, orjson.loads(damages)
        rows: list[tuple[Any, ...]] = []
        damaged = before = first_line = 0
        runs: dict[str, int] = {}
        metrics = catalogue.NewMetrics()
        at_end = True
        with open_regular(path, _CHUNK) as lines:
            lines.seek(position)
            for before, line in enumerate(lines):
                if not line.endswith(b"\n"):  # it is still being written
                    break
                try:
                    if not line.isspace():
                        data = parse_record(line[:-1])
                        name = run_name(data) or folder.name
                        if name not in runs:
                            runs[name] = self._run_number(folder, name)
                        metrics.add(runs[name], data)
                        rows.append(row_of(data, runs[name], file, position, len(line) - 1))
                except (RecordError, UnicodeError) as error:
                    damaged += 1
                    if len(places) < MAX_DAMAGES:
                        # The lines before this batch are counted once, and only if one of it is damaged.
                        first_line = first_line or line_number(path, start)
                        places.append([first_line + before, position, str(error)[:300]])
                position += len(line)
                if time.monotonic() > deadline:
                    at_end = False
                    break
        self._insert(rows, metrics)
        self._run(
            "UPDATE files SET scanned = ?, damaged = damaged + ?, damage = ? WHERE file = ?",
            position, damaged, orjson.dumps(places).decode(), file,
        )  # fmt: skip
        return position, at_end

    def _insert(self, rows: Sequence[tuple[Any, ...]], metrics: catalogue.NewMetrics) -> None:
        """Insert rows of rollouts; the last written of an id replaces earlier ones."""
        connection = self._connection()
        # A rollout that has ended replaces its row of a running one, which the catalogue has not counted.
        ended = [(row[0], row[4], RUNNING_LENGTH) for row in rows]
        connection.executemany("DELETE FROM rollouts WHERE run = ? AND id = ? AND length = ?", ended)
        runs = {row[0] for row in rows}
        known = {run: self._count(run) for run in runs}
        connection.executemany(INSERT, rows)
        metrics.write(connection)
        added = {run: sum(row[0] == run for row in rows) for run in runs}
        catalogue.make_anew(connection, [run for run in runs if self._count(run) != known[run] + added[run]])

    def _count(self, run: int) -> int:
        return int(self._run("SELECT count(*) FROM rollouts WHERE run = ?", run).fetchone()[0])

    def _read_labels(self, folder: LocalFolder) -> None:
        key = str(folder.path)
        try:
            status = (folder.path / LABELS).stat()
            stamp = f"{status.st_size} {status.st_mtime_ns}"
        except FileNotFoundError:
            stamp = ""
        except OSError as error:
            stamp = error.strerror or str(error)
        before = self._run("SELECT stamp FROM label_files WHERE folder = ?", key).fetchone()
        if (before[0] if before else "") == stamp:
            return
        damages: list[Damage] = []
        labels = read_labels(folder.path, damages.append)
        places = [[damage.line, damage.byte, damage.reason] for damage in damages[:MAX_DAMAGES]]
        with self._transaction():
            self._run("DELETE FROM labels WHERE folder = ?", key)
            self._connection().executemany(
                "INSERT INTO labels VALUES (?, ?, ?, ?, ?)",
                [(key, label.rollout, label.rating, json.dumps(label.tags), label.note) for label in labels.values()],
            )
            sql = "INSERT OR REPLACE INTO label_files VALUES (?, ?, ?, ?)"
            self._run(sql, key, stamp, len(damages), orjson.dumps(places).decode())

    def _run_number(self, folder: LocalFolder, name: str) -> int:
        """Return the number of a run, after adding it if it is new."""
        row = self._run("SELECT run FROM runs WHERE folder = ? AND name = ?", str(folder.path), name).fetchone()
        if row:
            return int(row[0])
        key = run_key(folder.name, name)
        taken = {row[0] for row in self._run("SELECT key FROM runs")}
        unique = next(k for n in range(1, len(taken) + 2) if (k := key if n == 1 else f"{key}~{n}") not in taken)
        sql = "INSERT INTO runs (key, folder, name) VALUES (?, ?, ?)"
        return int(self._run(sql, unique, str(folder.path), name).lastrowid or 0)

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._writing:
            while self._connections:
                self._connections.pop().close()
            self._local = threading.local()


def _shards_of(folder: LocalFolder, unreadable: list[tuple[str, Damage]]) -> Iterator[tuple[LocalFolder, Shard, Path]]:
    """Yield a run's shards, each with the file of its uncompressed lines, and note those that cannot be read."""
    try:
        shards = folder.shards("rollouts")
    except StoreError as error:
        unreadable.append((str(folder), damage_of(folder, "rollouts", error)))
        return
    for shard in shards:
        try:
            yield folder, shard, folder.local("rollouts", shard)
        except FileNotFoundError:
            continue  # it was compressed since it was listed
        except StoreError as error:
            unreadable.append((str(folder), damage_of(folder, f"rollouts/{shard.name}", error)))


def is_shown(path: Path) -> bool:
    """Return whether a folder is a run with rollouts, or one into which the first are being recorded."""
    return LocalFolder(path).is_run() or has_running(path)
