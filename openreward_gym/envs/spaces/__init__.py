"""Gymnasium spaces of the actions and observations of OpenReward environments."""

from openreward_gym.envs.spaces import dispatch as _dispatch  # noqa: F401  (registers the spaces with Gymnasium)
from openreward_gym.envs.spaces.observations import BlocksSpace, MessagesSpace, UnicodeText
from openreward_gym.envs.spaces.tool_calls import ToolCallSpace

__all__ = ["BlocksSpace", "MessagesSpace", "ToolCallSpace", "UnicodeText"]
