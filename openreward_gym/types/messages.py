"""Messages: the turns of a conversation, and what a provider told about a sampled one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from openreward_gym.types.blocks import Block, Json, ReasoningItem, TextBlock, ToolCall, as_blocks, text_of

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


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
