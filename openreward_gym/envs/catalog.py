"""What does not change while a process runs: an environment's shared tools and the size of its splits.

Asked from a server once per (server, environment, variant), so that a thousand envs cost one question.
"""

from __future__ import annotations

from typing import NamedTuple

from openreward_gym.errors import ConfigurationError
from openreward_gym.protocol.client import RemoteEnvironment
from openreward_gym.types import ToolSet


class Where(NamedTuple):
    """Which environment; `base_url` None is the hosted platform."""

    base_url: str | None
    environment: str
    variant: str | None


_tools: dict[Where, ToolSet] = {}
_sizes: dict[tuple[Where, str], int] = {}


def known_tools(where: Where) -> ToolSet | None:
    return _tools.get(where)


async def tools(where: Where, remote: RemoteEnvironment) -> ToolSet:
    """The environment's shared tools."""
    if where not in _tools:
        _tools[where] = await remote.tools()
    return _tools[where]


async def num_tasks(where: Where, remote: RemoteEnvironment, split: str) -> int:
    """How many tasks `split` has.

    Raises:
        ConfigurationError: It has none.
        SplitNotFoundError: There is no such split.
    """
    if (where, split) not in _sizes:
        n = await remote.num_tasks(split)
        if n <= 0:
            raise ConfigurationError(f"split {split!r} of {where.environment!r} has no tasks")
        _sizes[where, split] = n
    return _sizes[where, split]


def forget() -> None:
    """Forget everything: for tests, and for a server that was restarted with other tasks at the same address."""
    _tools.clear()
    _sizes.clear()
