"""The package's types as its users have them: a right program passes `mypy --strict`, and each wrong line of another is found."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import openreward_gym

pytestmark = pytest.mark.matrix  # it checks the whole package without a cache

HERE = Path(__file__).parent
SOURCE = Path(openreward_gym.__file__).parent.parent


def mypy(program: Path, cache: Path) -> str:
    """Return what `mypy --strict` says of a program."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "--follow-imports=silent"]
    command += [f"--cache-dir={cache}", str(program)]
    environment = {"PATH": "/usr/bin:/bin", "MYPYPATH": str(SOURCE), "HOME": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cache, env=environment, timeout=280, check=False)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def test_a_users_program_passes(cache: Path) -> None:
    assert mypy(HERE / "user_program.py", cache) == ""


def test_each_mistake_is_found(cache: Path) -> None:
    program = cache / "wrong_program.py"
    shutil.copy(HERE / "wrong_program.txt", program)  # a text, so that the linters of this repository pass it over
    lines = program.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    errors = {int(number) for number in re.findall(r"wrong_program\.py:(\d+): error", mypy(program, cache))}
    assert errors == wrong, (sorted(wrong - errors), sorted(errors - wrong))
