"""The official SDK's `openreward.tools`, where it is installed. Tools for agents: web search and fetch."""

from __future__ import annotations

from openreward_gym.compat.official import passing_through

__path__: list[str] = []
__getattr__, __dir__ = passing_through(__name__, "openreward.tools")
