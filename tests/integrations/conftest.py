"""Fixtures for the integrations: a server of their own, so that a session which a failed test leaves is nobody else's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from launch import served


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """Serve tests/servers/environments.py, as the fixture of the other rooms does."""
    with served() as url:
        yield url
