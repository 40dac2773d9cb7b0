"""The official client's API, for programs that change only their imports.

    from openreward_gym.compat import OpenReward, UserMessage, ToolCall, ToolResult

Environments are played through this package's protocol client. `rollout` records into `runs/<run_name>`, and also sends
rollouts to the platform if there is an API key. Sandboxes, judging, toolsets and tools are the official SDK's own, where it is
installed. The modules have the official client's names, too: `openreward_gym.compat.api.errors`. New programs use `Client`,
`gymnasium.make` and `Recorder`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from openreward_gym.compat.official import attribute
from openreward_gym.lazy import lazy_names

if TYPE_CHECKING:
    from openreward_gym.compat.api.environments.client import (
        AsyncEnvironmentsAPI,
        AsyncSession,
        BuiltinToolset,
        EnvironmentsAPI,
        Session,
        convert_messages,
        sanitize_tool_schema,
    )
    from openreward_gym.compat.api.environments.types import (
        GroupCandidate,
        GroupScore,
        Message,
        Provider,
        ReasoningBlock,
        ResponseChars,
        TaskDifficulty,
        TerminalToolSpec,
        ToolCallBlock,
        ToolResultBlock,
        ToolSpec,
    )
    from openreward_gym.compat.api.errors import ScoreGroupFailed, ScoreGroupUnsupported
    from openreward_gym.compat.api.rollouts.rollout import Rollout, RolloutAPI
    from openreward_gym.compat.api.rollouts.serializers.base import (
        AssistantMessage,
        ReasoningItem,
        SystemMessage,
        ToolCall,
        ToolResult,
        UploadType,
        UserMessage,
    )
    from openreward_gym.compat.client import AsyncOpenReward, OpenReward
    from openreward_gym.compat.models import RolloutInfo, RunInfo, RunType, TrainingStage

__all__ = [
    "AssistantMessage",
    "AsyncEnvironmentsAPI",
    "AsyncOpenReward",
    "AsyncSandboxesAPI",
    "AsyncSession",
    "BuiltinToolset",
    "EnvironmentsAPI",
    "GroupCandidate",
    "GroupScore",
    "Message",
    "OpenReward",
    "Provider",
    "ReasoningBlock",
    "ReasoningItem",
    "ResponseChars",
    "Rollout",
    "RolloutAPI",
    "RolloutInfo",
    "RunInfo",
    "RunResult",
    "RunType",
    "SandboxBucketConfig",
    "SandboxEgressRule",
    "SandboxHostAlias",
    "SandboxNetworkPolicy",
    "SandboxSettings",
    "SandboxSidecarContainer",
    "SandboxesAPI",
    "ScoreGroupFailed",
    "ScoreGroupUnsupported",
    "Session",
    "SystemMessage",
    "TaskDifficulty",
    "TerminalToolSpec",
    "ToolCall",
    "ToolCallBlock",
    "ToolResult",
    "ToolResultBlock",
    "ToolSpec",
    "TrainingStage",
    "UploadType",
    "UserMessage",
    "convert_messages",
    "hf_model_rules",
    "judging",
    "sanitize_tool_schema",
    "tools",
    "toolsets",
]

_MODULES = ("judging", "toolsets", "tools")
_SANDBOXES = (
    *("AsyncSandboxesAPI", "RunResult", "SandboxBucketConfig", "SandboxEgressRule", "SandboxHostAlias", "SandboxNetworkPolicy"),
    *("SandboxSettings", "SandboxSidecarContainer", "SandboxesAPI", "hf_model_rules"),
)
PASSED_THROUGH = (*_MODULES, *_SANDBOXES)
"""Names of the official SDK's own classes, functions and modules, which are imported from it at their first use."""

_name, _names = lazy_names(
    __name__,
    {
        "api.environments.client": "AsyncEnvironmentsAPI AsyncSession BuiltinToolset EnvironmentsAPI Session convert_messages "
        "sanitize_tool_schema",
        "api.environments.types": "GroupCandidate GroupScore Message Provider ReasoningBlock ResponseChars TaskDifficulty "
        "TerminalToolSpec ToolCallBlock ToolResultBlock ToolSpec",
        "api.errors": "ScoreGroupFailed ScoreGroupUnsupported",
        "client": "AsyncOpenReward OpenReward",
        "api.rollouts.rollout": "Rollout RolloutAPI",
        "api.rollouts.serializers.base": "AssistantMessage ReasoningItem SystemMessage ToolCall ToolResult "
        "UploadType UserMessage",
        "models": "RolloutInfo RunInfo RunType TrainingStage",
    },
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _SANDBOXES:
        return attribute("openreward.api.sandboxes", name, __name__)
    return _name(name)


def __dir__() -> list[str]:
    return sorted({*_names(), *PASSED_THROUGH})
