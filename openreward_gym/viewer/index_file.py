"""The SQLite file of the viewer's index: its tables, where it is, and what happens to one that is damaged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

from openreward_gym.errors import StoreError
from openreward_gym.viewer import catalogue
from openreward_gym.viewer.filters import pattern

VERSION = "5"
"""The version of the tables below. It is part of the file's name: versions do not share a file."""

REGEX_TIMEOUT_S = 1.0

SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER);
INSERT OR IGNORE INTO facts VALUES ('generation', 0);
CREATE TABLE IF NOT EXISTS runs (
    run INTEGER PRIMARY KEY, key TEXT UNIQUE, folder TEXT, name TEXT, ranges TEXT DEFAULT '{}', UNIQUE (folder, name));
CREATE TABLE IF NOT EXISTS files (
    file INTEGER PRIMARY KEY, folder TEXT, path TEXT UNIQUE, inode INTEGER, scanned INTEGER, damaged INTEGER DEFAULT 0,
    damage TEXT DEFAULT '[]');
CREATE TABLE IF NOT EXISTS rollouts (
    pk INTEGER PRIMARY KEY, run INTEGER, file INTEGER, start INTEGER, length INTEGER, id TEXT, name TEXT, environment TEXT,
    variant TEXT, split TEXT, task TEXT, task_index INTEGER, grp TEXT, sample INTEGER, attempt INTEGER, step INTEGER,
    advantage REAL, discard TEXT, discarded INTEGER, status TEXT, stop TEXT, reward REAL, final_reward REAL, turns INTEGER,
    calls INTEGER, errors INTEGER, tokens INTEGER, input_tokens INTEGER, duration REAL, cost REAL, seed INTEGER, model TEXT,
    started TEXT, prompt TEXT, tools TEXT, metrics TEXT, card TEXT, policy_s REAL, environment_s REAL, error TEXT,
    unnoticed_errors INTEGER, task_key TEXT, UNIQUE (run, id));
CREATE INDEX IF NOT EXISTS by_place ON rollouts (run, discarded, step, task_index, grp, sample, pk);
CREATE INDEX IF NOT EXISTS by_step ON rollouts (run, step, task_key, discarded, reward, grp);
CREATE INDEX IF NOT EXISTS by_task ON rollouts (task);
CREATE INDEX IF NOT EXISTS by_file ON rollouts (file);
CREATE TABLE IF NOT EXISTS labels (
    folder TEXT, id TEXT, rating INTEGER, tags TEXT, note TEXT, PRIMARY KEY (folder, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS label_files (
    folder TEXT PRIMARY KEY, stamp TEXT, damaged INTEGER DEFAULT 0, damage TEXT DEFAULT '[]');
"""
    + catalogue.SCHEMA
)

INSERT = f"INSERT OR REPLACE INTO rollouts VALUES (NULL{', ?' * 41})"  # the key, and a row of `row_of`


def default_file(paths: Sequence[Path]) -> Path:
    """Return the index file of these paths: in the user's cache, or in the folder for temporary files if it is read-only."""
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
    """Open a connection in autocommit mode that knows the operator `REGEXP`; one thread at a time may use it."""
    connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")  # a lost index is rebuilt
    except BaseException:
        connection.close()
        raise
    connection.create_function("regexp", 2, matches, deterministic=True)
    return connection


def prepared(path: Path) -> Path:
    """Create the tables and return their file: `path`, in the place of what is damaged or no index there, or a temporary file."""
    try:
        _create(path)
        return path
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            raise StoreError(f"{path}: the viewer's index cannot be used: {error}") from error
    try:
        delete(path)
        _create(path)
        return path
    except (OSError, sqlite3.DatabaseError):
        other = Path(tempfile.mkdtemp(prefix="openreward-gym-")) / path.name
        _create(other)
        return other


def _create(path: Path) -> None:
    with contextlib.closing(connect(path)) as connection:
        connection.executescript(SCHEMA)
        connection.execute("SELECT run, ranges FROM runs LIMIT 1").fetchone()


def delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def is_damage(error: sqlite3.DatabaseError) -> bool:
    # The error of a text that is not UTF-8 has no code.
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "decode to UTF-8" in str(error)


def matches(expression: str, value: object) -> bool:
    try:
        return value is not None and pattern(expression).search(str(value), timeout=REGEX_TIMEOUT_S) is not None
    except TimeoutError:
        return False
