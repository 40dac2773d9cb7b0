"""The official client's types of environments: plain dataclasses with its fields and defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from openreward_gym.compat.api.errors import AuthenticationError, ToolCallError

__all__ = [
    "AuthenticationError",
    "Environment",
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
    "Role",
    "Server",
    "Task",
    "TaskDifficulty",
    "TerminalToolSpec",
    "TextBlock",
    "ToolCallBlock",
    "ToolCallError",
    "ToolOutput",
    "ToolResultBlock",
    "ToolSpec",
]

JSONValue: TypeAlias = Mapping[str, Any] | Sequence[Any] | str | int | float | bool | None
JSONObject: TypeAlias = Mapping[str, Any]
Provider: TypeAlias = Literal["openai", "anthropic", "google", "openrouter"]
Role: TypeAlias = Literal["system", "user", "assistant"]


@dataclass
class Server:
    """A server, by its name."""

    name: str


@dataclass
class Environment:
    """An environment of a server, by its names."""

    server_name: str
    environment_name: str
    namespace: str = "matrix"

    @property
    def deployment_name(self) -> str:
        """The name with its owner: `owner/name`."""
        return self.server_name if "/" in self.server_name else f"{self.namespace}/{self.server_name}"


@dataclass
class Task:
    """A task of an environment.

    Attributes:
        server_name: The name of the environment that it was read from.
        environment_name: The server's own name of the environment.
        task_spec: The specification.
        namespace: The owner of the environment. None for one without.
    """

    server_name: str
    environment_name: str
    task_spec: JSONObject
    namespace: str | None

    @property
    def deployment_name(self) -> str:
        """The name with its owner: `owner/name`; the name alone where there is no owner."""
        return self.server_name if self.namespace is None else f"{self.namespace}/{self.server_name}"


@dataclass
class ToolSpec:
    """A tool that the model may call."""

    name: str
    description: str
    input_schema: JSONObject | None


@dataclass
class TerminalToolSpec:
    """The hidden tool that receives the assistant's plain message and ends the episode.

    Attributes:
        name: Its name.
        arg: The argument that takes the message. None where it takes none.
        description: Its description.
    """

    name: str
    arg: str | None = None
    description: str = ""


@dataclass
class TextBlock:
    """A piece of text."""

    text: str
    detail: JSONObject | None = None
    type: Literal["text"] = "text"


@dataclass
class ImageBlock:
    """An image in base64."""

    data: str
    mimeType: str  # noqa: N815
    detail: JSONObject | None = None
    type: Literal["image"] = "image"


@dataclass
class ReasoningBlock:
    """A piece of reasoning in an assistant's message."""

    text: str
    signature: str | None = None
    detail: JSONObject | None = None
    type: Literal["reasoning"] = "reasoning"


@dataclass
class ToolCallBlock:
    """A call of a tool in an assistant's message."""

    id: str
    name: str
    input: JSONObject
    detail: JSONObject | None = None
    type: Literal["tool_call"] = "tool_call"


@dataclass
class ToolResultBlock:
    """The answer to a call in a user's message."""

    tool_call_id: str
    blocks: list[TextBlock | ImageBlock]
    is_error: bool = False
    detail: JSONObject | None = None
    type: Literal["tool_result"] = "tool_result"


MessageBlock: TypeAlias = TextBlock | ImageBlock | ReasoningBlock | ToolCallBlock | ToolResultBlock


@dataclass
class Message:
    """A message of a task's conversation."""

    role: Role
    blocks: list[MessageBlock]
    detail: JSONObject | None = None


@dataclass
class ToolOutput:
    """The output of a tool."""

    blocks: list[TextBlock | ImageBlock]
    metadata: JSONObject | None = None
    reward: float | None = None
    finished: bool = False


@dataclass
class GroupCandidate:
    """A rollout of a group to score, and data of the caller's about it."""

    messages: list[Message]
    metadata: JSONObject | None = None


@dataclass
class GroupScore:
    """The score of one candidate of a group."""

    reward: float
    metadata: JSONObject | None = None


@dataclass
class ResponseChars:
    """Lengths of the model's answers to a task, in characters: the mean and percentiles."""

    mean: float
    p1: float
    p10: float
    p25: float
    p50: float
    p75: float
    p90: float
    p99: float


@dataclass
class TaskDifficulty:
    """Rewards and lengths of the rollouts of a task that the platform has."""

    task_index: int
    avg_reward: float
    min_reward: float
    max_reward: float
    num_rollouts: int
    response_chars: ResponseChars
    split: str | None = None
    variant: str | None = None
