"""OpenEnv in both directions. The tests are in openenv_checks.py, which needs the package of that environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from installing import kept_trainer

from openreward_gym.errors import MissingExtraError
from openreward_gym.integrations import openenv

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def run(python: Path, *words: str, folder: Path) -> None:
    """Run a program of OpenEnv's environment; this one's commands are found after its own."""
    path = os.pathsep.join([str(python.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    packages = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = {**os.environ, "PATH": path, "PYTHONPATH": packages}
    done = subprocess.run([str(python), *words], cwd=folder, env=environ, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]


@pytest.mark.matrix
@pytest.mark.timeout(600)
def test_environments_and_clients_of_openenv() -> None:
    words = ("-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", str(HERE / "openenv_checks.py"))
    run(kept_trainer("openenv", "openenv==0.10.0"), *words, folder=ROOT)


@pytest.mark.matrix
@pytest.mark.timeout(600)
def test_the_page_can_be_typed(tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "openenv.md"
    run(
        kept_trainer("openenv", "openenv==0.10.0"),
        str(ROOT / "tests/docs/typed_shell.py"),
        str(page),
        str(tmp_path),
        folder=tmp_path,
    )


def test_without_openenv_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openenv.core", None)
    monkeypatch.setitem(sys.modules, "openenv", None)
    with pytest.raises(MissingExtraError, match=r"openreward-gym\[openenv\]"):
        openenv.app("weather")
    with pytest.raises(MissingExtraError):
        openenv.environment("http://127.0.0.1:8000")
