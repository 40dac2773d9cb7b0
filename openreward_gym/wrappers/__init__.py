"""What sits around an env; each works sync and async."""

from openreward_gym.wrappers.base import Wrapper
from openreward_gym.wrappers.limits import LimitSeconds, LimitSteps, LimitTokens
from openreward_gym.wrappers.record import RecordRollouts
from openreward_gym.wrappers.text_action import TextAction
from openreward_gym.wrappers.truncate_observation import TruncateObservation

__all__ = ["LimitSeconds", "LimitSteps", "LimitTokens", "RecordRollouts", "TextAction", "TruncateObservation", "Wrapper"]
