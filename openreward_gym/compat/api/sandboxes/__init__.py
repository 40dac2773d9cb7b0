"""The official SDK's `openreward.api.sandboxes`, where it is installed. Containers on the platform."""

from __future__ import annotations

from openreward_gym.compat.official import passing_through

__getattr__, __dir__ = passing_through(__name__, "openreward.api.sandboxes")
