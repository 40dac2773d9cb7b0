"""The nouns that flow through the package: blocks, messages, tools, calls, outputs, tasks, endings.

Plain frozen dataclasses without behaviour beyond reading themselves. What crosses a border has its own shape there:
the wire's JSON is read and written by `openreward_gym.protocol.wire`, the disk's by `openreward_gym.types.rollout`.
"""

from openreward_gym.types.blocks import (
    Block,
    ImageBlock,
    Json,
    OpaqueBlock,
    ReasoningItem,
    TextBlock,
    ToolCall,
    ToolResult,
    as_blocks,
    text_of,
)
from openreward_gym.types.messages import AssistantMessage, Message, Role, Sampled, SystemMessage, Usage, UserMessage
from openreward_gym.types.tasks import Split, SplitType, StopReason, Task
from openreward_gym.types.tools import ErrorKind, TerminalTool, ToolOutput, ToolSet, ToolSpec

__all__ = [
    "AssistantMessage",
    "Block",
    "ErrorKind",
    "ImageBlock",
    "Json",
    "Message",
    "OpaqueBlock",
    "ReasoningItem",
    "Role",
    "Sampled",
    "Split",
    "SplitType",
    "StopReason",
    "SystemMessage",
    "Task",
    "TerminalTool",
    "TextBlock",
    "ToolCall",
    "ToolOutput",
    "ToolResult",
    "ToolSet",
    "ToolSpec",
    "Usage",
    "UserMessage",
    "as_blocks",
    "text_of",
]
