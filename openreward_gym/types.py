"""The nouns that flow through the package: blocks, messages, tools, calls, outputs, tasks, endings.

Plain frozen dataclasses without behaviour beyond reading themselves. What crosses a border has its own shape there:
the wire's JSON is read and written by `openreward_gym.protocol.wire`, the disk's by `openreward_gym.rollouts.record`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Json: TypeAlias = Any
"""A JSON value: what `json.loads` returns."""

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]

StopReason: TypeAlias = Literal[
    "finished",  # the environment said so
    "message",  # the assistant wrote a plain message where that ends the episode
    "max_steps",  # a step limit of ours
    "max_tokens",  # a token limit of ours
    "deadline",  # a time limit of ours
    "context_overflow",  # the model's window is full
    "session_lost",  # the server no longer has the session
    "tool_failed",  # a tool raised on the server
    "outcome_unknown",  # a call may or may not have run: it is not sent twice
    "policy_failed",  # the policy raised
    "cancelled",  # the caller stopped it
]
"""Why an episode ended; `""` where it has not."""


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A piece of text. `detail` is free data of the environment; `extra` keeps fields this version does not know."""

    text: str
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["text"] = field(default="text", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class ImageBlock:
    """An image, as it came: `data` is base64 text, decoded only when `content` is read."""

    data: str
    mime_type: str = "image/png"
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["image"] = field(default="image", init=False, repr=False)

    @classmethod
    def from_bytes(cls, content: bytes, mime_type: str = "image/png") -> ImageBlock:
        return cls(base64.b64encode(content).decode("ascii"), mime_type)

    @property
    def content(self) -> bytes:
        """The image file's bytes; empty where `data` is not base64 (what a server sends is data, not an error)."""
        try:
            return base64.b64decode(self.data, validate=False)
        except (binascii.Error, ValueError):
            return b""


@dataclass(frozen=True, slots=True)
class ReasoningItem:
    """What the model thought. All of its fields are None for reasoning that a provider keeps to itself.

    Attributes:
        content: The visible reasoning.
        content_reference: The provider's handle of hidden reasoning (an id or an encrypted text).
        summary: The provider's summary of hidden reasoning.
        signature: The provider's signature, sent back with the reasoning on the next turn (Anthropic).
    """

    content: str | None = None
    content_reference: str | None = None
    summary: str | None = None
    signature: str | None = None
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["reasoning"] = field(default="reasoning", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, as the model wrote it.

    Attributes:
        name: The tool's name.
        arguments: The arguments as an object; None where `content` is not a JSON object (a malformed call).
        call_id: Joins the call with its result; empty where the provider gave none.
        content: The arguments' JSON text exactly as the model wrote it; None where only `arguments` is known.
    """

    name: str
    arguments: Mapping[str, Json] | None = None
    call_id: str = ""
    content: str | None = None
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["tool_call"] = field(default="tool_call", init=False, repr=False)

    def __post_init__(self) -> None:
        if self.arguments is None and self.content is not None:
            try:
                value = json.loads(self.content) if self.content.strip() else {}
            except (ValueError, RecursionError):
                return
            if isinstance(value, dict):
                object.__setattr__(self, "arguments", value)

    @property
    def arguments_json(self) -> str:
        """The arguments as JSON text: the model's own where it is known."""
        if self.content is not None:
            return self.content
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered to the call `call_id`."""

    content: str | Sequence[Block] = ""
    call_id: str = ""
    name: str = ""
    is_error: bool = False
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)
    type: Literal["tool_result"] = field(default="tool_result", init=False, repr=False)

    @property
    def blocks(self) -> tuple[Block, ...]:
        return as_blocks(self.content)


@dataclass(frozen=True, slots=True)
class OpaqueBlock:
    """A block of a type this version does not know, kept as it came."""

    raw: Mapping[str, Json]

    @property
    def type(self) -> str:
        return str(self.raw.get("type", ""))


Block: TypeAlias = TextBlock | ImageBlock | ReasoningItem | ToolCall | ToolResult | OpaqueBlock


def as_blocks(content: str | Sequence[Block]) -> tuple[Block, ...]:
    """`content` as blocks: a non-empty string is one text block, an empty one none."""
    if isinstance(content, str):
        return (TextBlock(content),) if content else ()
    return tuple(content)


def text_of(blocks: Sequence[Block]) -> str:
    """The texts of `blocks` joined by a newline; an image shows as a marker, reasoning and calls do not show."""
    parts: list[str] = []
    for block in blocks:
        if isinstance(block, TextBlock):
            parts.append(block.text)
        elif isinstance(block, ImageBlock):
            parts.append(f"[image {block.mime_type}]")
        elif isinstance(block, ToolResult):
            parts.append(text_of(block.blocks))
        elif isinstance(block, OpaqueBlock):
            parts.append(f"[{block.type or 'unknown'} block]")
    return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    blocks: tuple[Block, ...]
    detail: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)

    @property
    def text(self) -> str:
        return text_of(self.blocks)


class SystemMessage(Message):
    """A system turn; `content` is text or blocks."""

    __slots__ = ()

    def __init__(self, content: str | Sequence[Block]) -> None:
        Message.__init__(self, "system", as_blocks(content))


class UserMessage(Message):
    """A user turn; `content` is text or blocks."""

    __slots__ = ()

    def __init__(self, content: str | Sequence[Block]) -> None:
        Message.__init__(self, "user", as_blocks(content))


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call. None is "not observed", never zero."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a provider told about one sampled message; every field is None where it did not.

    Attributes:
        usage: Tokens.
        stop_reason: The provider's own word ("stop", "tool_calls", "end_turn", "length", ...).
        token_ids: The sampled tokens' ids.
        logprobs: Log-probabilities of `token_ids`, natural logarithm, same length.
        prompt_token_ids: The ids the message was sampled from.
        model: The model that answered.
        cost_usd: The call's price in US dollars.
        duration_s: Seconds from request to answer.
        metadata: Anything else worth keeping (JSON).
    """

    usage: Usage | None = None
    stop_reason: str | None = None
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    model: str | None = None
    cost_usd: float | None = None
    duration_s: float | None = None
    metadata: Mapping[str, Json] | None = None


class AssistantMessage(Message):
    """What a policy returns and an env takes as its action: text, reasoning and tool calls in the order they were said.

    Args:
        content: The text, or all blocks in their order.
        tool_calls: Calls that follow `content`.
        reasoning: What was thought before `content`.
        sampled: What the provider told about the message; None where there is no provider.
    """

    # Not slotted: `sampled` is this class's own, and a slotted frozen base takes none from a subclass.
    sampled: Sampled | None

    def __init__(
        self,
        content: str | Sequence[Block] = "",
        tool_calls: Sequence[ToolCall] = (),
        *,
        reasoning: str | None = None,
        sampled: Sampled | None = None,
    ) -> None:
        thought: tuple[Block, ...] = (ReasoningItem(reasoning),) if reasoning else ()
        Message.__init__(self, "assistant", thought + as_blocks(content) + tuple(tool_calls))
        object.__setattr__(self, "sampled", sampled)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AssistantMessage):
            return NotImplemented
        return self.blocks == other.blocks and self.sampled == other.sampled and self.detail == other.detail

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_assistant_message, (self.blocks, self.sampled))

    @property
    def text(self) -> str:
        """The visible text alone, without reasoning and calls."""
        return "\n".join(b.text for b in self.blocks if isinstance(b, TextBlock))

    @property
    def reasoning(self) -> str:
        """The visible reasoning, or its summary where only that is known; empty if none."""
        return "\n".join(b.content or b.summary or "" for b in self.blocks if isinstance(b, ReasoningItem))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(b for b in self.blocks if isinstance(b, ToolCall))


def _rebuild_assistant_message(blocks: tuple[Block, ...], sampled: Sampled | None) -> AssistantMessage:
    return AssistantMessage(blocks, sampled=sampled)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool the model may call. `input_schema` is a JSON Schema; None for a tool that takes no arguments."""

    name: str
    description: str = ""
    input_schema: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class TerminalTool:
    """The hidden tool to which the assistant's plain message goes, ending the episode.

    Attributes:
        name: The tool's name.
        arg: The argument that takes the message; None where the tool looks at the environment's state alone.
        description: What it does.
    """

    name: str
    arg: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class ToolSet:
    """What a session offers.

    Attributes:
        tools: What the model may call.
        terminal: Where a plain message goes; None where the environment has no such tool.
        supports_score_group: Whether the server compares groups of rollouts; None where it does not say.
        message_block_types: Block types it takes in messages; None (older servers) means text and image.
    """

    tools: tuple[ToolSpec, ...] = ()
    terminal: TerminalTool | None = None
    supports_score_group: bool | None = None
    message_block_types: tuple[str, ...] | None = None

    def get(self, name: str) -> ToolSpec | None:
        return next((tool for tool in self.tools if tool.name == name), None)

    def __iter__(self) -> Iterator[ToolSpec]:
        return iter(self.tools)

    def __len__(self) -> int:
        return len(self.tools)

    def __getitem__(self, index: int) -> ToolSpec:
        return self.tools[index]


ErrorKind: TypeAlias = Literal["", "not_found", "name_collision", "input_validation", "episode_finished", "malformed", "other"]
"""What was wrong with a model's call; empty where nothing was. `malformed`: its arguments were not a JSON object."""


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a call did. A model's wrong call is an output with `error`, never an exception.

    Attributes:
        blocks: The result; of a wrong call, its error text as one block.
        reward: None where the environment gave none (which is not 0.0).
        finished: Whether the episode is over.
        metadata: The environment's free data.
        error: What was wrong with the call; empty where it ran.
        error_kind: The kind of `error`.
    """

    blocks: tuple[Block, ...] = ()
    reward: float | None = None
    finished: bool = False
    metadata: Json = None
    error: str = ""
    error_kind: ErrorKind = ""
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)

    @property
    def text(self) -> str:
        return text_of(self.blocks)


SplitType: TypeAlias = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Split:
    """A named set of tasks. `type` is the server's word (train, validation or test)."""

    name: str
    type: str = "validation"


@dataclass(frozen=True, slots=True)
class Task:
    """A problem of an environment: by `split` and `index`, by `spec`, or both.

    Attributes:
        split: The split it comes from; empty for a task given by its spec alone.
        index: Its position in the split; None for a task given by its spec alone.
        spec: The environment's own description; None where it was not read.
    """

    split: str = ""
    index: int | None = None
    spec: Mapping[str, Json] | None = None
