"""The names of the official client's package `openreward.api.environments`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openreward_gym.lazy import lazy_names

if TYPE_CHECKING:
    from openreward_gym.compat.api.environments.client import (
        AsyncEnvironmentsAPI,
        AsyncSession,
        EnvironmentsAPI,
        Session,
        convert_messages,
    )
    from openreward_gym.compat.api.environments.types import (
        AuthenticationError,
        GroupCandidate,
        GroupScore,
        Message,
        MessageBlock,
        ReasoningBlock,
        ToolCallBlock,
        ToolResultBlock,
    )
    from openreward_gym.compat.api.errors import (
        HeartbeatTimeoutError,
        HTTPStatusError,
        MaxRetriesError,
        OpenRewardError,
        ScoreGroupFailed,
        ScoreGroupUnsupported,
        SessionTerminatedError,
        ToolCallError,
        ToolFailed,
        TransportError,
    )

__all__ = [
    "AsyncEnvironmentsAPI",
    "AsyncSession",
    "AuthenticationError",
    "EnvironmentsAPI",
    "GroupCandidate",
    "GroupScore",
    "HTTPStatusError",
    "HeartbeatTimeoutError",
    "MaxRetriesError",
    "Message",
    "MessageBlock",
    "OpenRewardError",
    "ReasoningBlock",
    "ScoreGroupFailed",
    "ScoreGroupUnsupported",
    "Session",
    "SessionTerminatedError",
    "ToolCallBlock",
    "ToolCallError",
    "ToolFailed",
    "ToolResultBlock",
    "TransportError",
    "convert_messages",
]

__getattr__, __dir__ = lazy_names(
    "openreward_gym.compat.api",
    {
        "environments.client": "AsyncEnvironmentsAPI AsyncSession EnvironmentsAPI Session convert_messages",
        "environments.types": "AuthenticationError GroupCandidate GroupScore Message MessageBlock ReasoningBlock ToolCallBlock "
        "ToolResultBlock",
        "errors": "HTTPStatusError HeartbeatTimeoutError MaxRetriesError OpenRewardError ScoreGroupFailed ScoreGroupUnsupported "
        "SessionTerminatedError ToolCallError ToolFailed TransportError",
    },
)
