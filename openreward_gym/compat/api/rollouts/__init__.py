"""Recording of rollouts, with the official client's API."""

from __future__ import annotations

from openreward_gym.compat.api.rollouts.rollout import Rollout, RolloutAPI

__all__ = ["Rollout", "RolloutAPI"]
