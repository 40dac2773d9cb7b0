"""A Chromium for the browser tests, wherever the machine has one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

FLAGS = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
HINT = "no Chromium for the viewer's tests: install one with `python -m playwright install --with-deps chromium`"


def find() -> str | None:
    """The path of a Chromium: `CHROMIUM`, then the PATH; None where Playwright's own is to be used.

    If no browser is installed, install one: Debian's package as root on Debian, otherwise Playwright's.

    Raises:
        RuntimeError: No browser is installed, and installing one failed; the message has the command to run.
    """
    found = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None and os.path.exists("/usr/bin/chromium"):
        found = "/usr/bin/chromium"
    if found is not None or _playwright_has_one():
        return found
    if hasattr(os, "getuid") and os.getuid() == 0 and os.path.exists("/etc/debian_version") and _debian():
        return shutil.which("chromium")
    if _runs([sys.executable, "-m", "playwright", "install", "chromium"]) and _playwright_has_one():
        return None
    raise RuntimeError(HINT)


def _debian() -> bool:
    return _runs(["apt-get", "update"]) and _runs(["apt-get", "install", "-y", "--no-install-recommends", "chromium"])


def _runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=600, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _playwright_has_one() -> bool:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return os.path.exists(playwright.chromium.executable_path)


def flags() -> list[str]:
    """The arguments to start it with: root cannot have its sandbox."""
    return [*FLAGS, *(["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else [])]
