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

# Public names by module. They are imported at the first use, so that importing the package stays fast.
_NAMES = {
    "clients": ("SharedClient",),
    "env": ("OpenRewardEnv",),
    "episode": ("CallResult", "Episode", "Step"),
    "spaces": ("BlocksSpace", "MessagesSpace", "ToolCallSpace", "UnicodeText"),
    "vector": ("OpenRewardVectorEnv",),
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
    for module, names in _NAMES.items():
        if name in names:
            return getattr(importlib.import_module(f"openreward_gym.envs.{module}"), name)
    raise AttributeError(f"module 'openreward_gym.envs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
