"""Every OpenReward environment as a `gymnasium.Env`, every episode recorded, every record a HuggingFace dataset.

    import gymnasium as gym
    import openreward_gym                       # registers OpenReward-v0

    env = gym.make("OpenReward-v0", environment="weather", base_url="http://127.0.0.1:8080")

Importing the package costs little more than importing Gymnasium: the other public names are imported at their first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# `collect` is a function here and a package below. The import system binds the name to the package when that is first imported,
# so that import comes first, and this line binds the function for good.
from openreward_gym.collect import acollect, collect
from openreward_gym.envs.registration import register, register_catch_all, spec
from openreward_gym.lazy import lazy_names

if TYPE_CHECKING:
    from openreward_gym import export, serve
    from openreward_gym.envs import BlocksSpace, MessagesSpace, OpenRewardEnv, OpenRewardVectorEnv, ToolCallSpace, UnicodeText
    from openreward_gym.errors import OpenRewardGymError
    from openreward_gym.policies import Policy
    from openreward_gym.protocol.client import Client
    from openreward_gym.protocol.session import Session
    from openreward_gym.recording.recorder import Recorder
    from openreward_gym.store import RolloutStore
    from openreward_gym.types import (
        AssistantMessage,
        ImageBlock,
        Message,
        ReasoningItem,
        Rollout,
        SystemMessage,
        Task,
        TextBlock,
        ToolCall,
        ToolMessage,
        ToolOutput,
        ToolResult,
        ToolSet,
        ToolSpec,
        UserMessage,
    )
    from openreward_gym.wrappers import RecordRollouts

    __version__: str

_name, _names = lazy_names(
    __name__,
    {
        "envs": "BlocksSpace MessagesSpace OpenRewardEnv OpenRewardVectorEnv ToolCallSpace UnicodeText",
        "errors": "OpenRewardGymError",
        "policies": "Policy",
        "protocol.client": "Client",
        "protocol.session": "Session",
        "recording.recorder": "Recorder",
        "store": "RolloutStore",
        "types": "AssistantMessage ImageBlock Message ReasoningItem Rollout SystemMessage Task TextBlock ToolCall "
        "ToolMessage ToolOutput ToolResult ToolSet ToolSpec UserMessage",
        "wrappers": "RecordRollouts",
    },
)
_ROOMS = ("export", "serve")
# Names that programs of the official SDK import, and that this package has in `compat` alone.
_OF_THE_SDK = (
    *("AsyncEnvironmentsAPI", "AsyncOpenReward", "AsyncSandboxesAPI", "AsyncSession", "BuiltinToolset"),
    *("EnvironmentsAPI", "GroupCandidate", "GroupScore", "OpenReward", "Provider", "ReasoningBlock"),
    *("ResponseChars", "RolloutAPI", "RolloutInfo", "RunInfo", "RunResult", "RunType"),
    *("SandboxBucketConfig", "SandboxEgressRule", "SandboxHostAlias", "SandboxNetworkPolicy"),
    *("SandboxSettings", "SandboxSidecarContainer", "SandboxesAPI", "ScoreGroupFailed"),
    *("ScoreGroupUnsupported", "TaskDifficulty", "TerminalToolSpec", "ToolCallBlock", "ToolResultBlock"),
    *("TrainingStage", "UploadType", "convert_messages", "hf_model_rules", "judging"),
    *("sanitize_tool_schema", "tools", "toolsets"),
)

__all__ = [
    "AssistantMessage",
    "BlocksSpace",
    "Client",
    "ImageBlock",
    "Message",
    "MessagesSpace",
    "OpenRewardEnv",
    "OpenRewardGymError",
    "OpenRewardVectorEnv",
    "Policy",
    "ReasoningItem",
    "RecordRollouts",
    "Recorder",
    "Rollout",
    "RolloutStore",
    "Session",
    "SystemMessage",
    "Task",
    "TextBlock",
    "ToolCall",
    "ToolCallSpace",
    "ToolMessage",
    "ToolOutput",
    "ToolResult",
    "ToolSet",
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


if not TYPE_CHECKING:  # a checker would take every name for one that this function makes

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return _version()
        if name in _ROOMS:
            return importlib.import_module(f"openreward_gym.{name}")
        if name in _OF_THE_SDK:
            raise ImportError(f"{name} is a name of the official SDK. Write: from openreward_gym.compat import {name}", name=name)
        return _name(name)


def __dir__() -> list[str]:
    return sorted({*_names(), *_ROOMS, "__version__"})


def _version() -> str:
    """Return the version of the installed package. `pyproject.toml` declares it."""
    from importlib import metadata

    try:
        return metadata.version("openreward-gym")
    except metadata.PackageNotFoundError:  # a source tree that was not installed
        return "0+unknown"
