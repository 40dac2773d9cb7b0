"""The folder of a run, on a local disk or on any file system of fsspec (`memory://`, `s3://`, `gs://`, ...).

Remote file systems cannot append: a shard there is written whole, again and again while it is small.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import shutil
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from openreward_gym.errors import ConfigurationError, MissingExtraError, StoreError
from openreward_gym.processes import process_id, remove_folder
from openreward_gym.store.files import Unpacked, inside, open_regular
from openreward_gym.store.writer import Fsync, LineWriter, reason_of, shard_name

MARKS = ("run.json", "tasks.jsonl", "rollouts")
"""Names of which any one makes a folder a run."""

Compression: TypeAlias = Literal["", "zstd"]
"""The compression of a shard when its writer closes it; empty for none."""

_WHOLE_SHARD_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of lines. `stem` is its name without suffixes, the same before and after compression; `size` is -1 if unknown."""

    stem: str
    name: str
    size: int


class ShardWriter(Protocol):
    """The shard of one writer."""

    def append(self, line: str) -> None:
        """Write a line, whole or not at all; raises StoreError."""

    def close(self) -> None:
        """Write the lines that are held in memory, and compress the shard if so configured."""

    def abandon(self) -> None:
        """Forget the shard without writing: after a fork it belongs to the parent."""


class Folder(ABC):
    """The folder of a run on any file system."""

    def __init__(self) -> None:
        self._cache: Path | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """The folder's own name."""

    @abstractmethod
    def __str__(self) -> str: ...

    @abstractmethod
    def has(self, name: str) -> bool:
        """Return True if the file or folder `name` (a path inside the folder, with `/`) exists."""

    @abstractmethod
    def why_no_run(self) -> str:
        """Return a sentence on why the folder is not a run, and what to do."""

    @abstractmethod
    def files(self, kind: str) -> list[tuple[str, int]]:
        """Return (name, bytes) of what is in the folder `kind`; empty if there is no such folder. A broken link has -1 bytes.

        Raises:
            StoreError: The folder cannot be read, or is none.
        """

    @abstractmethod
    def fetch(self, kind: str, name: str) -> Path:
        """Return the path of a local copy of the file; a regular file, and no link.

        Raises:
            FileNotFoundError: The file does not exist (any more).
            StoreError: It cannot be read, is no regular file, or is a link that leads out of the folder.
        """

    @abstractmethod
    def read_bytes(self, name: str) -> bytes:
        """Return the bytes of the small file `name`.

        Raises:
            FileNotFoundError: The file does not exist.
            StoreError: As for `fetch`.
        """

    @abstractmethod
    def write_bytes(self, name: str, data: bytes, *, sync: bool = False) -> None:
        """Write the small file `name` atomically.

        Raises:
            StoreError: It could not be written, or a link that leads out of the folder is in the way.
        """

    @abstractmethod
    def writer(self, kind: str, fsync: Fsync | None, compression: Compression) -> ShardWriter:
        """Return a writer of a new shard.

        Raises:
            OSError: The folder cannot be written, or is a link that leads elsewhere.
        """

    def is_run(self) -> bool:
        """Return True if the folder is a run."""
        return any(self.has(mark) for mark in MARKS)

    def shards(self, kind: str) -> list[Shard]:
        """Return the shards of `kind` ("rollouts" or "failures"), sorted by name."""
        shards: dict[str, Shard] = {}
        # Both forms exist while a shard is being compressed: ".jsonl" comes after ".jsonl.zst" here, and stays.
        for name, size in sorted(self.files(kind), reverse=True):
            stem = name.removesuffix(".zst").removesuffix(".jsonl")
            if name in (f"{stem}.jsonl", f"{stem}.jsonl.zst") and not name.startswith("."):
                shards[stem] = Shard(stem, name, size)
        return [shards[stem] for stem in sorted(shards)]

    def local(self, kind: str, shard: Shard) -> Path:
        """Return a local file with the uncompressed lines of the shard.

        Raises:
            FileNotFoundError: The shard does not exist (any more).
            StoreError: As for `fetch`; or it cannot be decompressed.
        """
        if not shard.name.endswith(".zst"):
            return self.fetch(kind, shard.name)
        path = self.cached(kind, f"{shard.size}-{shard.stem}.jsonl")
        if not path.exists():
            source = self.fetch(kind, shard.name)
            part = path.with_suffix(".part")
            try:
                with (
                    open_regular(source) as packed,
                    _pyarrow().CompressedInputStream(packed, "zstd") as stream,
                    part.open("wb") as file,
                ):
                    shutil.copyfileobj(Unpacked(stream, packed, source), file, 1 << 20)
            except FileNotFoundError:
                raise
            except OSError as error:
                part.unlink(missing_ok=True)
                if isinstance(error, StoreError):
                    raise
                raise StoreError(f"{self}/{kind}/{shard.name}: cannot be decompressed: {error}") from error
            part.replace(path)
        return path

    def cached(self, kind: str, name: str) -> Path:
        """Return the path of a local copy of a file; it is deleted with this object."""
        if self._cache is None:
            self._cache = Path(tempfile.mkdtemp(prefix="openreward-gym-"))
            weakref.finalize(self, remove_folder, self._cache, process_id())
        path = self._cache / kind / name
        path.parent.mkdir(exist_ok=True)
        return path


class LocalFolder(Folder):
    """The folder of a run on a local disk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._text = os.fspath(path)
        # The folder stays the same if the program changes its working directory.
        self.path = Path(self._text).absolute()

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def __str__(self) -> str:
        return self._text

    def has(self, name: str) -> bool:
        try:
            return (inside(self.path, name, new=True) if "/" in name else self.path / name).exists()
        except StoreError:
            raise
        except (OSError, ValueError) as error:
            raise StoreError(f"{self}: cannot be read: {getattr(error, 'strerror', None) or error}") from None

    def why_no_run(self) -> str:
        if self.path.is_file():
            return f"{self} is a file, not a run's folder: `openreward-gym import --help` says how to make a run of a file"
        if not self.path.exists():
            return f"{self} does not exist: check the path. `openreward-gym collect --help` says how to make a run"
        runs = sorted(child.name for child in self.path.iterdir() if child.is_dir() and LocalFolder(child).is_run())
        if runs:
            return f"{self} is not a run but has runs in it ({', '.join(runs[:5])}{', ...' if len(runs) > 5 else ''}): name one"
        return f"{self} is not a run: it has neither a rollouts/ folder nor a run.json"

    def files(self, kind: str) -> list[tuple[str, int]]:
        files = []
        try:
            folder = inside(self.path, kind, new=True)
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        files.append((entry.name, entry.stat().st_size))
                    except OSError:
                        # A file may vanish between the two calls because it was compressed.
                        if entry.is_symlink():
                            files.append((entry.name, -1))
        except FileNotFoundError:
            return []
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(f"{self}/{kind}: cannot be read: {error.strerror or error}") from error
        return files

    def fetch(self, kind: str, name: str) -> Path:
        return inside(self.path, f"{kind}/{name}")

    def read_bytes(self, name: str) -> bytes:
        with open_regular(inside(self.path, name)) as file:
            return file.read()

    def write_bytes(self, name: str, data: bytes | Iterable[bytes], *, sync: bool = False) -> None:
        parent, _, last = name.rpartition("/")
        path = (inside(self.path, parent, new=True) if parent else self.path) / last
        part = path.with_name(f".{last}.{secrets.token_hex(4)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.writelines([data] if isinstance(data, bytes) else data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise StoreError(f"{path}: not written: {reason_of(error)}") from error

    def writer(self, kind: str, fsync: Fsync | None, compression: Compression) -> ShardWriter:
        lines = LineWriter(inside(self.path, kind, new=True), "close" if fsync is None else fsync)
        return _CompressedOnClose(lines) if compression else lines


class _CompressedOnClose:
    """A local shard that is compressed when it is closed. If the process dies first, it stays uncompressed."""

    def __init__(self, lines: LineWriter) -> None:
        self._lines = lines
        self.append = lines.append
        self.abandon = lines.abandon

    def close(self) -> None:
        self._lines.close()
        path = self._lines.path
        part = path.with_name(f".{path.name}.zst.part")
        with path.open("rb") as source, _pyarrow().output_stream(str(part), compression="zstd") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        part.replace(path.with_name(f"{path.name}.zst"))
        path.unlink()


class RemoteFolder(Folder):
    """The folder of a run on a file system of fsspec."""

    def __init__(self, url: str) -> None:
        super().__init__()
        try:
            fsspec: Any = importlib.import_module("fsspec")
        except ImportError:
            raise MissingExtraError(f"{url}: needs fsspec: pip install fsspec (and s3fs, gcsfs, ... for its kind)") from None
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise MissingExtraError(f"{url}: {error}") from None
        except ValueError as error:
            raise ConfigurationError(f"{url}: {error}") from None
        self._url = url.rstrip("/")
        self._root: str = str(root).rstrip("/")

    @property
    def name(self) -> str:
        return self._root.rpartition("/")[2]

    def __str__(self) -> str:
        return self._url

    def has(self, name: str) -> bool:
        self._fs.invalidate_cache()
        return bool(self._fs.exists(f"{self._root}/{name}"))

    def why_no_run(self) -> str:
        return f"{self} is not a run: there is neither a rollouts/ folder nor a run.json: check the address"

    def files(self, kind: str) -> list[tuple[str, int]]:
        try:
            self._fs.invalidate_cache()
            entries = self._fs.ls(f"{self._root}/{kind}", detail=True)
        except FileNotFoundError:
            return []
        return [(str(item["name"]).rpartition("/")[2], int(item["size"])) for item in entries if item["type"] == "file"]

    def fetch(self, kind: str, name: str) -> Path:
        source = f"{self._root}/{kind}/{name}"
        # The name of the copy has the size, because a shard grows while its writer writes it again.
        path = self.cached(kind, f"{self._fs.size(source)}-{name}")
        if not path.exists():
            part = path.with_suffix(".part")
            self._fs.get_file(source, str(part))
            part.replace(path)
        return path

    def read_bytes(self, name: str) -> bytes:
        data: bytes = self._fs.cat_file(f"{self._root}/{name}")
        return data

    def write_bytes(self, name: str, data: bytes, *, sync: bool = False) -> None:
        path = f"{self._root}/{name}"
        try:
            try:
                self._fs.pipe_file(path, data)
            except FileNotFoundError:  # object stores have no folders; other file systems need them to exist
                self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._fs.pipe_file(path, data)
        except Exception as error:  # each file system raises its own errors
            raise StoreError(f"{self}/{name}: not written: {type(error).__name__}: {error}") from error

    def writer(self, kind: str, fsync: Fsync | None, compression: Compression) -> ShardWriter:
        return _WholeShards(self, kind, "always" if fsync is None else fsync, compression)

    def remove(self, name: str) -> None:
        """Delete a file."""
        self._fs.rm_file(f"{self._root}/{name}")


class _WholeShards:
    """A writer that holds lines in memory and writes the whole shard after every line, every N seconds or at the end (`fsync`).

    A full shard is closed and another one begun, so that a line never costs more than a few megabytes.
    """

    def __init__(self, folder: RemoteFolder, kind: str, fsync: Fsync, compression: Compression) -> None:
        self._folder, self._kind, self._fsync, self._compression = folder, kind, fsync, compression
        self._begin()

    def _begin(self) -> None:
        self._name = f"{self._kind}/{shard_name()}"
        self._lines = bytearray()
        self._put_bytes = 0
        self._put_at = time.monotonic()

    def append(self, line: str) -> None:
        before = len(self._lines)
        self._lines += (line + "\n").encode("utf-8")
        every = self._fsync if isinstance(self._fsync, (int, float)) else None
        try:
            if self._fsync == "always" or (every is not None and time.monotonic() - self._put_at >= every):
                self._put()
            if len(self._lines) >= _WHOLE_SHARD_BYTES:
                self.close()
        except StoreError:
            del self._lines[before:]
            raise

    def _put(self) -> None:
        if len(self._lines) > self._put_bytes:
            self._folder.write_bytes(self._name, bytes(self._lines))
            self._put_bytes, self._put_at = len(self._lines), time.monotonic()

    def close(self) -> None:
        if self._compression and self._lines:
            stream = _pyarrow().BufferOutputStream()
            with _pyarrow().CompressedOutputStream(stream, "zstd") as target:
                target.write(bytes(self._lines))
            self._folder.write_bytes(f"{self._name}.zst", stream.getvalue().to_pybytes())
            if self._put_bytes:
                self._folder.remove(self._name)
        else:
            self._put()
        self._begin()

    def abandon(self) -> None:
        self._begin()


def folder_at(path: str | os.PathLike[str]) -> Folder:
    """Return the folder at a path, or at a URL like `s3://bucket/runs/mine`."""
    text = os.fspath(path)
    if "://" not in text:
        return LocalFolder(path)
    return LocalFolder(text.removeprefix("file://")) if text.startswith("file://") else RemoteFolder(text)


def _pyarrow() -> Any:
    # pyarrow comes with `datasets`; it is loaded only to compress or decompress.
    import pyarrow

    return pyarrow
