"""Helper that plays episodes on a server of the built-in environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from openreward_gym.protocol.client import Client
from openreward_gym.types import ToolOutput

Play: TypeAlias = Callable[..., list[ToolOutput]]
"""The type of the fixture `play`."""


async def played(base_url: str, name: str, steps: Sequence[str | Mapping[str, Any]], **task: Any) -> list[ToolOutput]:
    """Play steps (calls and plain messages) in one session, and return their outputs."""
    async with Client(base_url) as client, client.environment(name).session(**task) as session:
        return [
            await session.call_terminal(step) if isinstance(step, str) else await session.call(step["name"], step["arguments"])
            for step in steps
        ]
