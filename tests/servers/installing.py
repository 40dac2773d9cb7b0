"""Installs packages from the registry for tests that need other versions than the ones they run with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
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


def kept_trainer(name: str, *requirements: str) -> Path:
    """Return the interpreter of `.venvs/{name}`: `requirements` over the packages of this interpreter.

    PyTorch is taken from here, and so is what the requirements do not ask for in another version.
    """
    folder = KEPT / name
    with _first(folder) as ready:
        if not ready.exists():
            venv.create(folder, clear=True)
            own = sysconfig.get_path("purelib")
            (folder / Path(own).relative_to(sys.prefix) / "packages_of_the_tests.pth").write_text(
                f"import site; site.addsitedir({own!r})"
            )
            # Requirements that can never be met leave PyTorch out, of which the registry has builds with gigabytes of CUDA.
            overrides = folder / "overrides.txt"
            overrides.write_text("torch ; sys_platform == 'never'\n")
            command = [
                "uv",
                "pip",
                "install",
                "--quiet",
                "--python",
                str(folder / "bin" / "python"),
                "--override",
                str(overrides),
            ]
            subprocess.run([sys.executable, "-m", *command, *requirements], check=True)
            ready.touch()
    return folder / "bin" / "python"


def kept_environment_of(name: str, version: str, package: str, needs: Sequence[str], *further: str) -> Path:
    """Return the interpreter of `.venvs/{name}` with a package for another version of Python, and a part of its requirements.

    Args:
        name: The environment's name.
        version: The version of Python, such as "3.12".
        package: The package. It is installed whatever patch version of Python it asks for.
        needs: The names of the requirements, which are installed in the versions that the package names.
        further: Other packages.
    """
    folder = KEPT / name
    python = folder / "bin" / "python"
    with _first(folder) as ready:
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([_interpreter(version), "-m", "venv", "--without-pip", str(folder)], check=True)
            alone = ["--quiet", "--disable-pip-version-check", "--no-deps", "--ignore-requires-python", package]
            subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", *alone], check=True)
            program = f"import importlib.metadata as m; print(*m.requires({package.partition('=')[0]!r}), sep='\\n')"
            required = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout.splitlines()
            named = [line for line in required if ";" not in line and re.split(r"[^\w.-]", line)[0].lower() in needs]
            _install(*named, *further, uv=["--python", str(python)], pip=["--python", str(python), "install"])
            ready.touch()
    return python


def _interpreter(version: str) -> str:
    """Return a Python of a version, from the search path or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for found in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)):
        if found and subprocess.run([str(found), "--version"], check=False, capture_output=True).returncode == 0:
            return str(found)
    raise RuntimeError(f"no Python {version} on this machine: install one")


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
