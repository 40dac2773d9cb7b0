"""The index's SQLite file: its tables, and connections to it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

from openreward_gym.viewer.filters import pattern
from openreward_gym.viewer.rows import COLUMNS

VERSION = "3"
"""Of the tables below: an index of another version is another file."""

REGEX_TIMEOUT_S = 1.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER);
INSERT OR IGNORE INTO facts VALUES ('generation', 0);
CREATE TABLE IF NOT EXISTS runs (
    run INTEGER PRIMARY KEY, key TEXT UNIQUE, folder TEXT, name TEXT, ranges TEXT DEFAULT '{}', UNIQUE (folder, name));
CREATE TABLE IF NOT EXISTS files (
    file INTEGER PRIMARY KEY, folder TEXT, path TEXT UNIQUE, inode INTEGER, scanned INTEGER, damaged INTEGER DEFAULT 0,
    damage TEXT DEFAULT '');
CREATE TABLE IF NOT EXISTS rollouts (
    pk INTEGER PRIMARY KEY, run INTEGER, file INTEGER, start INTEGER, length INTEGER, id TEXT, name TEXT, environment TEXT,
    variant TEXT, split TEXT, task TEXT, task_index INTEGER, grp TEXT, sample INTEGER, attempt INTEGER, step INTEGER,
    advantage REAL, discard TEXT, discarded INTEGER, status TEXT, stop TEXT, reward REAL, final_reward REAL, turns INTEGER,
    calls INTEGER, errors INTEGER, tokens INTEGER, input_tokens INTEGER, duration REAL, cost REAL, seed INTEGER, model TEXT,
    started TEXT, prompt TEXT, tools TEXT, metrics TEXT, card TEXT, UNIQUE (run, id));
CREATE INDEX IF NOT EXISTS by_place ON rollouts (run, discarded, step, task_index, grp, sample, pk);
CREATE INDEX IF NOT EXISTS by_task ON rollouts (task);
CREATE INDEX IF NOT EXISTS by_file ON rollouts (file);
CREATE TABLE IF NOT EXISTS labels (
    folder TEXT, id TEXT, rating INTEGER, tags TEXT, note TEXT, PRIMARY KEY (folder, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS label_files (folder TEXT PRIMARY KEY, stamp TEXT);
"""

INSERT = f"INSERT OR REPLACE INTO rollouts ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"

JOINED = "rollouts r JOIN runs ON runs.run = r.run LEFT JOIN labels l ON l.folder = runs.folder AND l.id = r.id"
"""What filters are conditions over."""


def default_path(paths: Sequence[Path]) -> Path:
    """Where the index of these paths is kept: in the user's cache, or else in the folder for temporary files."""
    name = hashlib.sha256("\n".join([VERSION, *sorted(str(path.resolve()) for path in paths)]).encode()).hexdigest()[:16]
    for base in (Path.home() / ".cache", Path(tempfile.gettempdir()) / f"cache-{os.getuid() if hasattr(os, 'getuid') else 0}"):
        folder = base / "openreward-gym" / "viewer"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder / f"{name}.sqlite"
    return Path(tempfile.mkdtemp(prefix="openreward-gym-")) / f"{name}.sqlite"


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, with `REGEXP`; made for one thread at a time."""
    connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")  # an index that is lost is built again
    connection.create_function("regexp", 2, _found, deterministic=True)
    return connection


def prepare(path: Path) -> None:
    """Make the tables; a file that is no index of this version any more is thrown away."""
    for last in (False, True):
        connection = None
        try:
            connection = connect(path)
            connection.executescript(SCHEMA)
            connection.execute("SELECT run, ranges FROM runs LIMIT 1").fetchone()
            return
        except sqlite3.DatabaseError as error:
            if last or (isinstance(error, sqlite3.OperationalError) and "locked" in str(error)):
                raise
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        finally:
            if connection is not None:
                connection.close()


def _found(wanted: str, value: object) -> bool:
    try:
        return value is not None and pattern(wanted).search(str(value), timeout=REGEX_TIMEOUT_S) is not None
    except TimeoutError:
        return False
