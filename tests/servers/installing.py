"""Installs packages from the registry for tests that need other versions than the ones they run with."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

KEPT = Path(__file__).parents[2] / ".venvs"


def environment(folder: Path, *requirements: str) -> Path:
    """Create a virtual environment with `requirements`; return its interpreter."""
    venv.create(folder, clear=True)
    python = folder / "bin" / "python"
    _install(*requirements, uv=["--python", str(python)], pip=["--python", str(python), "install"])
    return python


def kept_environment(name: str, *requirements: str) -> Path:
    """Return the interpreter of the environment `.venvs/{name}`; the first of several processes creates it."""
    folder = KEPT / name
    with _first(folder) as ready:
        if not ready.exists():
            environment(folder, *requirements)
            ready.touch()
    return folder / "bin" / "python"


def kept_packages(name: str, *requirements: str) -> Path:
    """Return the folder `.venvs/{name}` with `requirements` and without what they depend on, for PYTHONPATH."""
    folder = KEPT / name
    with _first(folder) as ready:
        if not ready.exists():
            target = ["--target", str(folder), "--no-deps", "--upgrade"]
            _install(*requirements, uv=target, pip=["install", *target])
            ready.touch()
    return folder


@contextmanager
def _first(folder: Path) -> Iterator[Path]:
    """Let one process at a time create `folder`; yield the file that says that it is complete."""
    KEPT.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        yield folder / ".ready"


def _install(*requirements: str, uv: list[str], pip: list[str]) -> None:
    """Install with uv, which takes seconds; with pip where uv cannot, such as with an index that only pip's settings name."""
    if subprocess.run([sys.executable, "-m", "uv", "pip", "install", "--quiet", *uv, *requirements], check=False).returncode:
        command = [sys.executable, "-m", "pip", *pip, "--quiet", "--disable-pip-version-check", *requirements]
        subprocess.run(command, check=True)
