"""Gymnasium spaces of what an OpenReward environment takes and gives."""

from openreward_gym.envs.spaces import dispatch as _dispatch  # noqa: F401  (registers the spaces with Gymnasium)
from openreward_gym.envs.spaces.blocks import BlocksSpace, MessagesSpace
from openreward_gym.envs.spaces.text import UnicodeText
from openreward_gym.envs.spaces.tool_calls import ToolCallSpace

__all__ = ["BlocksSpace", "MessagesSpace", "ToolCallSpace", "UnicodeText"]
