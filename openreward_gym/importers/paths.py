"""The files and folders of an import: several paths, patterns, duplicates."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from openreward_gym.errors import ConfigurationError, StoreError

PathLike: TypeAlias = str | os.PathLike[str]


def paths_of(path: PathLike | Sequence[PathLike]) -> list[str]:
    """Return the argument `path` of an import as a list.

    Raises:
        ConfigurationError: There is no path, or one is empty.
    """
    paths = [os.fspath(one) for one in ([path] if isinstance(path, (str, os.PathLike)) else path)]
    if not paths or "" in paths:
        raise ConfigurationError(f"name the file or folder to import: {'one of the paths' if paths[1:] else 'the path'} is empty")
    return paths


def existing_paths(paths: Iterable[str]) -> list[str]:
    """Return the paths in their order, each file once, with patterns replaced by what matches them, sorted.

    A shell replaces `logs/*.eval` itself, unless nothing matches or the pattern is quoted. A file whose name looks like a pattern
    is that file.

    Raises:
        StoreError: A path does not exist, or nothing matches a pattern. Nothing was read then.
    """
    found: dict[str, str] = {}
    missing: list[str] = []
    for path in paths:
        matches = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []
        if not matches:
            missing.append(path)
        for match in matches:
            found.setdefault(os.path.realpath(match), match)
    if missing:
        problems = [_describe_missing(path) for path in missing]
        more = f", and {len(problems) - 3} more paths do not exist" if len(problems) > 3 else ""
        raise StoreError(f"{'; '.join(problems[:3])}{more}: check the path. Nothing was imported")
    return list(found.values())


def _describe_missing(path: str) -> str:
    if glob.has_magic(path):
        return f"nothing matches {path!r}"
    parent = next((folder for folder in Path(path).absolute().parents if folder.exists()), None)
    if parent is None or parent == Path(path).absolute().parent:
        return f"{path} does not exist"
    return f"{path} does not exist (nor does its folder; {parent} does)"
