"""Wrappers of an env: recording, limits, text actions, truncated observations. All work in sync and async code."""

from openreward_gym.wrappers.base import Wrapper
from openreward_gym.wrappers.limits import LimitSeconds, LimitSteps, LimitTokens
from openreward_gym.wrappers.record import RecordRollouts
from openreward_gym.wrappers.text_action import TextAction
from openreward_gym.wrappers.truncate_observation import TruncateObservation

__all__ = ["LimitSeconds", "LimitSteps", "LimitTokens", "RecordRollouts", "TextAction", "TruncateObservation", "Wrapper"]
