"""The names of the official client's module `openreward.api.environments.client`."""

from __future__ import annotations

from openreward_gym.compat.api.environments.conversations import convert_messages
from openreward_gym.compat.api.environments.environments import AsyncEnvironment, AsyncEnvironmentsAPI
from openreward_gym.compat.api.environments.sessions import AsyncSession, BuiltinToolset
from openreward_gym.compat.api.environments.sync import Environment, EnvironmentsAPI, Session
from openreward_gym.compat.api.environments.tool_formats import (
    GOOGLE_UNSUPPORTED_SCHEMA_KEYS,
    OPENAI_UNSUPPORTED_SCHEMA_KEYS,
    convert_tool_response,
    parse_terminal_tool,
    sanitize_tool_schema,
)
from openreward_gym.compat.api.environments.types import (
    GroupCandidate,
    GroupScore,
    ImageBlock,
    JSONObject,
    JSONValue,
    Message,
    MessageBlock,
    Provider,
    ReasoningBlock,
    ResponseChars,
    Server,
    Task,
    TaskDifficulty,
    TerminalToolSpec,
    TextBlock,
    ToolCallBlock,
    ToolOutput,
    ToolResultBlock,
    ToolSpec,
)
from openreward_gym.compat.api.errors import (
    ScoreGroupFailed,
    ScoreGroupUnsupported,
    SessionTerminatedError,
    ToolCallError,
    ToolCallErrorReason,
    ToolFailed,
)

__all__ = [
    "GOOGLE_UNSUPPORTED_SCHEMA_KEYS",
    "OPENAI_UNSUPPORTED_SCHEMA_KEYS",
    "AsyncEnvironment",
    "AsyncEnvironmentsAPI",
    "AsyncSession",
    "BuiltinToolset",
    "Environment",
    "EnvironmentsAPI",
    "GroupCandidate",
    "GroupScore",
    "ImageBlock",
    "JSONObject",
    "JSONValue",
    "Message",
    "MessageBlock",
    "Provider",
    "ReasoningBlock",
    "ResponseChars",
    "ScoreGroupFailed",
    "ScoreGroupUnsupported",
    "Server",
    "Session",
    "SessionTerminatedError",
    "Task",
    "TaskDifficulty",
    "TerminalToolSpec",
    "TextBlock",
    "ToolCallBlock",
    "ToolCallError",
    "ToolCallErrorReason",
    "ToolFailed",
    "ToolOutput",
    "ToolResultBlock",
    "ToolSpec",
    "convert_messages",
    "convert_tool_response",
    "parse_terminal_tool",
    "sanitize_tool_schema",
]
