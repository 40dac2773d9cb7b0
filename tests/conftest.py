"""What several rooms' tests share: real servers."""

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

# A change is judged by the same examples as the one before it; `make long` looks for new ones, and for many more.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None, print_blob=True)
settings.load_profile("new" if os.environ.get("OPENREWARD_GYM_LONG") else "same")


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The official SDK's server with the environments of tests/servers/environments.py: echo (the default), large, dialogue,
    slowstart, broken. `GET /health/sessions` tells how many sessions it holds.
    """
    with served() as url:
        yield url


@pytest.fixture
def anyio_backend() -> str:
    """Async tests (`pytest.mark.anyio`) run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def examples() -> Iterator[str]:
    """The address of a server of the built-in environments: weather (the default), ctf, reasoning."""
    with serve.local(["weather", "ctf", "reasoning"]) as url:
        yield url


@pytest.fixture(scope="session")
def play(examples: str) -> Play:
    """Plays steps (calls, plain messages) of one task of them: `play(name, steps, split=..., index=... | task_spec=...)`."""

    def run(environment: str, steps: Sequence[str | Mapping[str, Any]], **task: Any) -> list[ToolOutput]:
        return asyncio.run(played(examples, environment, steps, **task))

    return run
