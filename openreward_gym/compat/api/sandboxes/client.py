"""The official SDK's `openreward.api.sandboxes.client`, where it is installed. The clients of sandboxes."""

from __future__ import annotations

from openreward_gym.compat.official import passing_through

__getattr__, __dir__ = passing_through(__name__, "openreward.api.sandboxes.client")
