"""Commands as a user types them: in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HIDDEN = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "OPENREWARD_API_KEY")


def typed(
    *words: object, folder: Path | None = None, variables: dict[str, str] | None = None, timeout_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run `openreward-gym WORDS` with its output in pipes of 80 columns, and return what it did."""
    environ = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    environ |= {"COLUMNS": "80", **(variables or {})}
    return subprocess.run(
        [sys.executable, "-m", "openreward_gym", *map(str, words)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
