"""Every OpenReward environment as a `gymnasium.Env`, every episode recorded, every record a HuggingFace dataset.

    import gymnasium as gym
    import openreward_gym                       # registers OpenReward-v0

    env = gym.make("OpenReward-v0", environment="weather", base_url="http://127.0.0.1:8080")

The names below are loaded when they are first used: importing the package costs little more than Gymnasium.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from openreward_gym.collect import acollect, collect
from openreward_gym.envs.registration import register, register_catch_all, spec

if TYPE_CHECKING:
    from openreward_gym import export, serve
    from openreward_gym.envs.env import OpenRewardEnv
    from openreward_gym.envs.spaces import BlocksSpace, MessagesSpace, ToolCallSpace, UnicodeText
    from openreward_gym.envs.vector import OpenRewardVectorEnv
    from openreward_gym.errors import OpenRewardGymError
    from openreward_gym.protocol.client import Client
    from openreward_gym.recording.recorder import Recorder
    from openreward_gym.store.store import RolloutStore
    from openreward_gym.types import (
        AssistantMessage,
        ImageBlock,
        ReasoningItem,
        SystemMessage,
        TextBlock,
        ToolCall,
        ToolOutput,
        ToolResult,
        ToolSpec,
        UserMessage,
    )
    from openreward_gym.types.rollout import Rollout

__version__ = "0.1.0"

# Where each public name lives; a room's own name stands for the room.
_HOMES = {
    "AssistantMessage": "types",
    "BlocksSpace": "envs.spaces",
    "Client": "protocol.client",
    "ImageBlock": "types",
    "MessagesSpace": "envs.spaces",
    "OpenRewardEnv": "envs.env",
    "OpenRewardGymError": "errors",
    "OpenRewardVectorEnv": "envs.vector",
    "ReasoningItem": "types",
    "Recorder": "recording.recorder",
    "Rollout": "types.rollout",
    "RolloutStore": "store.store",
    "SystemMessage": "types",
    "TextBlock": "types",
    "ToolCall": "types",
    "ToolCallSpace": "envs.spaces",
    "ToolOutput": "types",
    "ToolResult": "types",
    "ToolSpec": "types",
    "UnicodeText": "envs.spaces",
    "UserMessage": "types",
}
_ROOMS = ("export", "serve")

__all__ = [
    "AssistantMessage",
    "BlocksSpace",
    "Client",
    "ImageBlock",
    "MessagesSpace",
    "OpenRewardEnv",
    "OpenRewardGymError",
    "OpenRewardVectorEnv",
    "ReasoningItem",
    "Recorder",
    "Rollout",
    "RolloutStore",
    "SystemMessage",
    "TextBlock",
    "ToolCall",
    "ToolCallSpace",
    "ToolOutput",
    "ToolResult",
    "ToolSpec",
    "UnicodeText",
    "UserMessage",
    "acollect",
    "collect",
    "export",
    "register",
    "serve",
    "spec",
]

register_catch_all()


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"openreward_gym.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"openreward_gym.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'openreward_gym' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
