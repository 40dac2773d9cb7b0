"""The messages that `rollout.log` takes."""

from __future__ import annotations

from openreward_gym.compat.api.rollouts.serializers.base import (
    AssistantMessage,
    ReasoningItem,
    SystemMessage,
    ToolCall,
    ToolResult,
    UploadType,
    UserMessage,
)

__all__ = ["AssistantMessage", "ReasoningItem", "SystemMessage", "ToolCall", "ToolResult", "UploadType", "UserMessage"]
