"""A server of the environments in tests/servers/demanding_environments.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openreward_gym import serve

FILE = Path(__file__).parents[1] / "servers" / "demanding_environments.py"
CLASSES = ("Open", "Endless", "Locked", "LockedSetup", "TaskTools", "Slow")


@pytest.fixture(scope="session")
def demanding() -> Iterator[str]:
    """Serve the environments; return the URL."""
    with serve.local([f"{FILE}:{name}" for name in CLASSES]) as url:
        yield url
