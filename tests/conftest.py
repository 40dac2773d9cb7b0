"""Fixtures for the tests of several rooms: real servers."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "servers"))

from built_in import Play, played
from launch import served

from openreward_gym import serve
from openreward_gym.types import ToolOutput

# Each run of the suite tests the same examples; `make long` generates new ones, and many more.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None, print_blob=True)
settings.load_profile("new" if os.environ.get("OPENREWARD_GYM_LONG") else "same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the tests with the longest limits first, so that none is played alone at the end while other processes idle."""

    def limit_s(item: pytest.Item) -> float:
        mark = item.get_closest_marker("timeout")
        return float(mark.args[0]) if mark is not None else 0.0

    items.sort(key=limit_s, reverse=True)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """Serve tests/servers/environments.py with the official SDK: echo (the default), large, dialogue, slowstart, broken,
    guarded.

    `GET /health/sessions` returns the number of open sessions.
    """
    with served() as url:
        yield url


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests (`pytest.mark.anyio`) on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def examples() -> Iterator[str]:
    """Serve the built-in environments weather (the default), ctf, bandit and reasoning; return the URL."""
    with serve.local(["weather", "ctf", "bandit", "reasoning"]) as url:
        yield url


@pytest.fixture(scope="session")
def play(examples: str) -> Play:
    """Return a function that plays calls and plain messages: `play(name, steps, split=..., index=... | task_spec=...)`."""

    def run(environment: str, steps: Sequence[str | Mapping[str, Any]], **task: Any) -> list[ToolOutput]:
        return asyncio.run(played(examples, environment, steps, **task))

    return run
