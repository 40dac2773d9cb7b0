"""OpenReward environments as `gymnasium.Env` and `VectorEnv`, with their spaces."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from openreward_gym.envs.registration import register, spec

if TYPE_CHECKING:
    from openreward_gym.envs.clients import SharedClient
    from openreward_gym.envs.env import OpenRewardEnv
    from openreward_gym.envs.episode import CallResult, Episode, Step
    from openreward_gym.envs.spaces import BlocksSpace, MessagesSpace, ToolCallSpace, UnicodeText
    from openreward_gym.envs.vector import OpenRewardVectorEnv

# Modules of the public names. They are imported at the first use, so that importing the package stays fast.
_MODULES = {
    "BlocksSpace": "spaces",
    "CallResult": "episode",
    "Episode": "episode",
    "MessagesSpace": "spaces",
    "OpenRewardEnv": "env",
    "OpenRewardVectorEnv": "vector",
    "SharedClient": "clients",
    "Step": "episode",
    "ToolCallSpace": "spaces",
    "UnicodeText": "spaces",
}

__all__ = [
    "BlocksSpace",
    "CallResult",
    "Episode",
    "MessagesSpace",
    "OpenRewardEnv",
    "OpenRewardVectorEnv",
    "SharedClient",
    "Step",
    "ToolCallSpace",
    "UnicodeText",
    "register",
    "spec",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"openreward_gym.envs.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'openreward_gym.envs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
