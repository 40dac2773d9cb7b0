"""The folder of an export: what earlier exports wrote there, and the names under which several live together."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.export.splits import STANDARD

REPORT = "report.json"
_PARQUET_NAME = re.compile(r"\w+-\d{5}-of-\d{5}\.parquet")


@dataclass(frozen=True, slots=True)
class Source:
    """The runs that an export reads.

    Attributes:
        runs: The names of their folders.
        key: A digest of their paths, the same whenever the same runs are exported. Empty for rollouts that are in no folder.

    Example:
        >>> Source.of(["runs/first"]).runs
        ('first',)
    """

    runs: tuple[str, ...] = ()
    key: str = ""

    @classmethod
    def of(cls, runs: Sequence[str]) -> Source:
        """Return the source of runs' paths."""
        if not runs:
            return cls()
        paths = sorted(run if "://" in run else os.path.realpath(run) for run in runs)
        digest = hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest()
        return cls(tuple(Path(path).name for path in paths), digest[:16])

    def name_in(self, earlier: Mapping[str, Mapping[str, Any]], format_name: str) -> str:
        """Return the name for the rows of a format in a folder that has the formats `earlier`.

        It is the format's, unless that has the rows of other runs: those stay, and these get a name with that of their run.
        """
        own = [name for name, entry in earlier.items() if entry.get("format", name) == format_name]
        if not self.key or format_name not in own or not earlier[format_name].get("source"):
            return format_name
        same = [name for name in own if earlier[name].get("source") == self.key]
        if same:
            return same[0]
        run = re.sub(r"[^A-Za-z0-9_]+", "_", "_".join(self.runs))[:60].strip("_") or "other"
        name = f"{format_name}_{run}"
        return name if name not in earlier else f"{name}_{self.key[:6]}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other exports to the folder from writing its card and report at the same time, where the system has locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


@contextmanager
def output_folder(output: str | os.PathLike[str], formats: Sequence[str]) -> Iterator[None]:
    """Make the folder of an export. If the export fails, remove the folders that it made."""
    if not os.fspath(output):
        raise ConfigurationError("the output is empty: name a folder")
    folder = Path(output)
    for path in (folder, *(folder / name for name in formats)):
        if _is_run(path):
            raise ConfigurationError(f"the output {path} is the folder of a run: choose another one")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    new = [folder / name for name in formats if not (folder / name).exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for path in new:
            shutil.rmtree(path, ignore_errors=True)
        for path in missing:
            with suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError) and str(error.filename or "").startswith(str(folder)):
            raise ConfigurationError(f"the output {folder} cannot be written: {error.strerror}: {error.filename}") from error
        raise


def _is_run(folder: Path) -> bool:
    """Return True for the folder of a recorded run, and for its folder of shards."""
    shards = (folder / "rollouts").glob("*.jsonl*")
    return (folder / "run.json").is_file() or any(shards) or (folder.name == "rollouts" and any(folder.glob("*.jsonl*")))


def earlier_formats(folder: Path, present: Collection[str] | None) -> dict[str, dict[str, Any]]:
    """Return what `report.json` says about formats whose files are all still there.

    `present` are the files of the output, if they are not in the folder itself.
    """
    try:
        formats = json.loads((folder / REPORT).read_bytes())["formats"]
        files = {name: list(map(str, form["files"])) for name, form in formats.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # there is none, or somebody else's

    def is_there(name: str) -> bool:
        return name in present if present is not None else (folder / name).is_file()

    return {name: form for name, form in formats.items() if files[name] and all(map(is_there, files[name]))}


def remove_stale(folder: Path, name: str, files: Collection[str], earlier: Collection[str]) -> None:
    """Remove the files of an earlier export of a format, which the new one did not replace."""
    own = {path for path in (folder / name).glob("*-of-*.parquet") if _PARQUET_NAME.fullmatch(path.name)}
    own |= {folder / name / f"{split}.jsonl" for split in STANDARD}
    own |= {folder / file for file in earlier if file.startswith(f"{name}/") and ".." not in file}
    for path in own - {folder / file for file in files}:
        path.unlink(missing_ok=True)
