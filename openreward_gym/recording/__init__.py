"""Recording for loops that have no env: a `Recorder` makes a `RolloutLog` per rollout, which is logged message by message."""

from openreward_gym.recording.log import RolloutLog
from openreward_gym.recording.recorder import Recorder

__all__ = ["Recorder", "RolloutLog"]
