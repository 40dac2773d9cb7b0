"""Makes a virtual environment for each server version that the compatibility tests run against, under .venvs/.

`python tests/compat/make_environments.py`; a second run does nothing. The tests call it themselves.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2] / ".venvs"
VERSIONS = {
    "openreward-0.1.131": "openreward==0.1.131",
    "openreward-newest": "openreward",
    "ors-sdk-0.1.0": "ors-sdk==0.1.0",
}


def python_of(name: str) -> Path:
    """The interpreter of the environment `name`; made at the first call."""
    folder = ROOT / name
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if ready.exists():
        return python
    venv.create(folder, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", VERSIONS[name]]
    subprocess.run(command, check=True)
    ready.touch()
    return python


def main() -> None:
    for name in VERSIONS:
        sys.stdout.write(f"{name}: {python_of(name)}\n")


if __name__ == "__main__":
    main()
