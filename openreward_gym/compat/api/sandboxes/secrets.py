"""The official SDK's `openreward.api.sandboxes.secrets`, where it is installed. The form in which secrets are sent."""

from __future__ import annotations

from openreward_gym.compat.official import passing_through

__getattr__, __dir__ = passing_through(__name__, "openreward.api.sandboxes.secrets")
