"""The official SDK's `openreward.toolsets`, where it is installed. Toolsets for environments."""

from __future__ import annotations

from openreward_gym.compat.official import passing_through

__path__: list[str] = []
__getattr__, __dir__ = passing_through(__name__, "openreward.toolsets")
