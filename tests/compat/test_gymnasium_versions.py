"""Everything that touches Gymnasium, on every Gymnasium that is supported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from installing import kept_packages

ROOT = Path(__file__).parents[2]
VERSIONS = ("1.1.0", "1.2.3", "1.3.0")
# What rests on no class of Gymnasium, or on `Space` alone: run with the oldest version, and with the newest by `make test`.
INDEPENDENT = ("turns", "stepping", "tasks", "clients", "observations", "other_processes", "patterns", "spaces", "spaces_schemas")

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]


@pytest.mark.parametrize("version", VERSIONS)
def test_envs_and_wrappers(version: str) -> None:
    # A folder with that Gymnasium alone, which goes before the installed one.
    environment = {**os.environ, "PYTHONPATH": str(kept_packages(f"gymnasium-{version}", f"gymnasium=={version}"))}
    completed = subprocess.run(
        [sys.executable, "-c", "import gymnasium; print(gymnasium.__version__)"], env=environment, capture_output=True, text=True
    )
    assert completed.stdout.strip() == version, completed.stderr
    # Warnings are that version's own affair (it may not know the newest NumPy); failures are ours.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", "tests/envs", "tests/wrappers"]
    if version != VERSIONS[0]:
        command += [f"--ignore=tests/envs/test_{name}.py" for name in INDEPENDENT]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
