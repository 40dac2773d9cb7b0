"""OpenReward environments as `gymnasium.Env` and `VectorEnv`, with their spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openreward_gym.envs.registration import register, spec
from openreward_gym.lazy import lazy_names

if TYPE_CHECKING:
    from openreward_gym.envs.clients import SharedClient
    from openreward_gym.envs.env import OpenRewardEnv
    from openreward_gym.envs.episode import CallResult, Episode, Step
    from openreward_gym.envs.spaces import BlocksSpace, MessagesSpace, ToolCallSpace, UnicodeText
    from openreward_gym.envs.typed_dicts import (
        BlockElement,
        BlocksObservation,
        ChatFunction,
        ChatMessage,
        ChatToolCall,
        ImageElement,
        Info,
        InfoDict,
        InfoErrorKind,
        InfoStopReason,
        MessagesObservation,
        TextElement,
        ToolDescription,
        VectorInfo,
    )
    from openreward_gym.envs.vector import OpenRewardVectorEnv

if not TYPE_CHECKING:  # a checker would take every name for one that `__getattr__` makes
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "clients": "SharedClient",
            "env": "OpenRewardEnv",
            "episode": "CallResult Episode Step",
            "spaces": "BlocksSpace MessagesSpace ToolCallSpace UnicodeText",
            "typed_dicts": "BlockElement BlocksObservation ChatFunction ChatMessage ChatToolCall ImageElement Info InfoDict "
            "InfoErrorKind InfoStopReason MessagesObservation TextElement ToolDescription VectorInfo",
            "vector": "OpenRewardVectorEnv",
        },
    )

__all__ = [
    "BlockElement",
    "BlocksObservation",
    "BlocksSpace",
    "CallResult",
    "ChatFunction",
    "ChatMessage",
    "ChatToolCall",
    "Episode",
    "ImageElement",
    "Info",
    "InfoDict",
    "InfoErrorKind",
    "InfoStopReason",
    "MessagesObservation",
    "MessagesSpace",
    "OpenRewardEnv",
    "OpenRewardVectorEnv",
    "SharedClient",
    "Step",
    "TextElement",
    "ToolCallSpace",
    "ToolDescription",
    "UnicodeText",
    "VectorInfo",
    "register",
    "spec",
]
