"""The official SDK's `openreward.api.sandboxes.types`, where it is installed. The settings of sandboxes."""

from __future__ import annotations

from openreward_gym.compat.official import passing_through

__getattr__, __dir__ = passing_through(__name__, "openreward.api.sandboxes.types")
