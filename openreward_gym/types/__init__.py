"""The nouns of the package, live and on disk: blocks, messages, tools, tasks, outputs, rollouts.

Frozen dataclasses without behaviour beyond reading themselves. The same objects flow through the envs, are appended to a
store and are read back from it; `codec` reads and writes them as JSON. The wire's own JSON is the business of
`openreward_gym.protocol`.
"""

from openreward_gym.jsonio import Json
from openreward_gym.types.blocks import (
    Block,
    ImageBlock,
    OpaqueBlock,
    ReasoningItem,
    TextBlock,
    ToolCall,
    ToolResult,
    as_blocks,
    text_of,
)
from openreward_gym.types.messages import (
    AssistantMessage,
    Ended,
    Message,
    Origin,
    Role,
    Sampled,
    SystemMessage,
    ToolMessage,
    Usage,
    UserMessage,
    is_continuation,
    join,
    join_turns,
    split_results,
    text_separator,
    with_origins,
)
from openreward_gym.types.rollout import Rollout, RolloutEnvironment, Status, Timing
from openreward_gym.types.tasks import Split, SplitType, StopReason, Task, task_id
from openreward_gym.types.tools import ErrorKind, TerminalTool, ToolOutput, ToolSet, ToolSpec

__all__ = [
    "AssistantMessage",
    "Block",
    "Ended",
    "ErrorKind",
    "ImageBlock",
    "Json",
    "Message",
    "OpaqueBlock",
    "Origin",
    "ReasoningItem",
    "Role",
    "Rollout",
    "RolloutEnvironment",
    "Sampled",
    "Split",
    "SplitType",
    "Status",
    "StopReason",
    "SystemMessage",
    "Task",
    "TerminalTool",
    "TextBlock",
    "Timing",
    "ToolCall",
    "ToolMessage",
    "ToolOutput",
    "ToolResult",
    "ToolSet",
    "ToolSpec",
    "Usage",
    "UserMessage",
    "as_blocks",
    "is_continuation",
    "join",
    "join_turns",
    "split_results",
    "task_id",
    "text_of",
    "text_separator",
    "with_origins",
]
