"""The files that environments are made of, and whether they changed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TypeAlias

from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.environments import Servable
from openreward_gym.serve.examples import BUILT_IN

__all__ = ["Snapshot", "changed", "folders_of", "snapshot"]

Snapshot: TypeAlias = Mapping[str, tuple[int, int]]
"""Time of change (ns) and size of each file."""

_NOT_OURS = {"node_modules", "__pycache__", "site-packages"}


def folders_of(environments: Iterable[Servable]) -> list[Path]:
    """The folders whose Python files the environments are made of: a file's own, or its package's.

    Raises:
        ConfigurationError: None of the environments has files of the caller's.
    """
    found: dict[Path, None] = {}
    for environment in environments:
        if not isinstance(environment, str) or environment in BUILT_IN:
            continue
        module = environment.rpartition(":")[0]
        if module.endswith(".py"):
            found[Path(module).resolve().parent] = None
            continue
        # Looked for, not imported: it may be broken right now.
        spec = PathFinder.find_spec(module.partition(".")[0], [os.getcwd(), *sys.path])
        if spec is not None and spec.origin is not None:
            found[Path(spec.origin).resolve().parent] = None
        elif spec is not None:
            found.update(dict.fromkeys(Path(place).resolve() for place in spec.submodule_search_locations or ()))
    if not found:
        raise ConfigurationError(
            "--reload watches the files of your environments, and none of these has any: name one as module:Class or "
            "file.py:Class"
        )
    return list(found)


def snapshot(folders: Iterable[Path]) -> Snapshot:
    """The Python files below `folders` as they are now; hidden folders and virtual environments are left out."""
    found: dict[str, tuple[int, int]] = {}
    for top in folders:
        for folder, below, files in os.walk(top):
            below[:] = [name for name in below if not name.startswith(".") and name not in _NOT_OURS]
            below[:] = [name for name in below if not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))]
            for name in files:
                path = os.path.join(folder, name)
                if name.endswith(".py"):
                    try:
                        state = os.stat(path)
                    except OSError:
                        continue  # it went between listing and looking
                    found[path] = (state.st_mtime_ns, state.st_size)
    return found


def changed(before: Snapshot, after: Snapshot) -> list[str]:
    """The files that are new, gone or other than before."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
