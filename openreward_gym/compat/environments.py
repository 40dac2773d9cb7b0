"""The official SDK's `openreward.environments`, where it is installed. The server's side: `Environment`, `Server`, `tool`."""

from __future__ import annotations

from openreward_gym.compat.official import passing_through

__path__: list[str] = []
__getattr__, __dir__ = passing_through(__name__, "openreward.environments")
