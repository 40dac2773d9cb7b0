"""The official SDK's `openreward.judging`, where it is installed. Judges of groups of rollouts."""

from __future__ import annotations

from openreward_gym.compat.official import passing_through

__path__: list[str] = []
__getattr__, __dir__ = passing_through(__name__, "openreward.judging")
