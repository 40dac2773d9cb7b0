"""Messages: the turns of a conversation, each with the side that produced it, as they flow and as they are recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, TypeAlias, TypeVar

from openreward_gym.errors import MessageError
from openreward_gym.jsonio import Json
from openreward_gym.suggestions import unknown_option
from openreward_gym.types.blocks import Block, OpaqueBlock, ReasoningItem, TextBlock, ToolCall, ToolResult, as_blocks
from openreward_gym.types.codec import Codec
from openreward_gym.types.reprs import block_repr, listed, set_fields

M = TypeVar("M", bound="Message")

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]

Origin: TypeAlias = Literal["given", "policy", "environment", "client"]
"""Who produced a message.

- `given`: the task, before the policy spoke or inserted by the environment as history, whatever the role.
- `policy`: the model that is being recorded.
- `environment`: the environment or its tools.
- `client`: this package, such as "there is no such tool"; said to the model, run by nobody.
"""

Ended: TypeAlias = Literal[
    "stop",
    "tool_calls",
    "length",
    "context_overflow",
    "refusal",
    "content_filter",
    "pause",
    "malformed",
    "error",
    "unknown",
]
"""How the sampling of a turn ended, the same words for every provider; the provider's own word is `Sampled.stop_reason`."""


@dataclass(frozen=True)
class Usage:
    """Token counts of a model call or of a whole rollout. None means "not observed", never zero."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Sampled:
    """A provider's report on one sampled message. A field is None where the provider did not report it.

    Attributes:
        usage: Token counts.
        stop_reason: The provider's own word ("stop", "tool_calls", "end_turn", "length", ...).
        token_ids: The ids of the sampled tokens.
        logprobs: Log-probabilities of `token_ids`, natural logarithm, same length.
        prompt_token_ids: The ids that the message was sampled from.
        model: The model that answered.
        cost_usd: The price of the call in US dollars.
        duration_s: Seconds from request to answer.
        metadata: Other JSON data worth keeping.
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
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Message:
    """One turn of a conversation.

    Attributes:
        role: The role in the conversation. It does not tell who produced the message: see `origin`.
        blocks: The content, in the order in which it was said. Of a tool's message, the content of the answer.
        origin: Who produced the message; None where that is not known.
        weight: The turn's weight in a training loss. None means by origin: 1 for `policy`, 0 for the others.
        ended: How the sampling of the turn ended; None for a turn that was not sampled, or where it is not known.
        sampled: The provider's report on the turn; None where there is none.
        call_id: The call that a tool's message answers; None for other roles.
        name: The name of the tool that answers, or of the speaker; None where not known.
        is_error: Whether a tool's message is an error.
        reward: The reward that the environment gave with the message; None where it gave none.
        finished: Whether the environment ended the episode with the message.
        started_at: When the turn began, ISO 8601 in UTC; None where not known.
        ended_at: When the turn ended, likewise.
        metadata: Free JSON data.
        extra: Fields that this version does not know.

    Example:
        >>> message = Message("user", (TextBlock("How warm is it?"),), origin="given")
        >>> message.text, message.origin
        ('How warm is it?', 'given')
        >>> message.replace(weight=0.0).weight
        0.0
    """

    role: Role
    blocks: tuple[Block, ...] = ()
    origin: Origin | None = None
    weight: float | None = None
    ended: Ended | None = None
    sampled: Sampled | None = None
    call_id: str | None = None
    name: str | None = None
    is_error: bool = False
    reward: float | None = None
    finished: bool = False
    started_at: str | None = None
    ended_at: str | None = None
    metadata: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if type(self.blocks) is not tuple:
            object.__setattr__(self, "blocks", tuple(self.blocks))

    @property
    def text(self) -> str:
        """The visible text: the texts of its blocks (see `text_separator`). Images, reasoning and calls do not show."""
        return text_separator(self.role).join(_texts(self.blocks))

    @property
    def reasoning(self) -> str:
        """The visible reasoning, or its summary where only that is known; empty if there is none."""
        return "".join(b.content or b.summary or "" for b in self.blocks if isinstance(b, ReasoningItem))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls, in order."""
        return tuple(b for b in self.blocks if isinstance(b, ToolCall))

    @property
    def usage(self) -> Usage | None:
        """The token counts of the turn; None where not observed."""
        return None if self.sampled is None else self.sampled.usage

    @property
    def stop_reason(self) -> str | None:
        """The provider's own word for the end of the turn; None where not known. See `ended` for the common words."""
        return None if self.sampled is None else self.sampled.stop_reason

    @property
    def token_ids(self) -> list[int] | None:
        """The ids of the sampled tokens; None where not known."""
        return None if self.sampled is None or self.sampled.token_ids is None else list(self.sampled.token_ids)

    @property
    def prompt_token_ids(self) -> list[int] | None:
        """The ids that the turn was sampled from; None where not known."""
        return None if self.sampled is None or self.sampled.prompt_token_ids is None else list(self.sampled.prompt_token_ids)

    @property
    def logprobs(self) -> list[float] | None:
        """The log-probabilities of `token_ids`; None where not known."""
        return None if self.sampled is None or self.sampled.logprobs is None else list(self.sampled.logprobs)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values of some fields."""
        return _fill(object.__new__(type(self)), vars(self), changes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        role = [repr(self.role)] if type(self) is Message else []
        parts = [listed(map(block_repr, self.blocks))] if self.blocks else []
        return f"{type(self).__name__}({', '.join([*role, *parts, *set_fields(self, 'role', 'blocks', 'sampled')])})"

    @staticmethod
    def __codec__() -> Codec:
        return _MessageCodec(Message)


_FIELDS = tuple(item.name for item in fields(Message))
_DEFAULTS = vars(Message("user"))


def _fill(message: M, values: Mapping[str, Any], changes: Mapping[str, Any]) -> M:
    """Set all fields of a new message at once. A frozen dataclass sets them one by one, which takes ten times as long."""
    if not changes.keys() <= _DEFAULTS.keys():
        name = sorted(changes.keys() - _DEFAULTS.keys())[0]
        raise MessageError(unknown_option(type(message).__name__, name, _DEFAULTS))
    state = {**values, **changes}
    # Of a message that was read, fields at their default stay with the class.
    if type(state.get("blocks", ())) is not tuple:
        state["blocks"] = tuple(state["blocks"])
    object.__setattr__(message, "__dict__", state)
    return message


def text_separator(role: str) -> str:
    """Return what stands between the texts of a message: nothing in the assistant's, a newline in the others'.

    A model writes its text in one go, whatever parts its provider cuts it into (citations, output parts, deltas). The blocks
    of a prompt or of a tool's result are texts of their own.

    Example:
        >>> AssistantMessage([TextBlock("2,737 m"), TextBlock(" long.")]).text
        '2,737 m long.'
        >>> UserMessage([TextBlock("A bridge."), TextBlock("How long?")]).text
        'A bridge.\\nHow long?'
    """
    return "" if role == "assistant" else "\n"


class SystemMessage(Message):
    """A system turn.

    Args:
        content: Text or blocks.
        **fields: Further fields of `Message`.
    """

    def __init__(self, content: str | Sequence[Block] = "", **fields: Any) -> None:
        _fill(self, _DEFAULTS, {"role": "system", "blocks": as_blocks(content), **fields})


class UserMessage(Message):
    """A user turn.

    Args:
        content: Text or blocks.
        **fields: Further fields of `Message`.
    """

    def __init__(self, content: str | Sequence[Block] = "", **fields: Any) -> None:
        _fill(self, _DEFAULTS, {"role": "user", "blocks": as_blocks(content), **fields})


class ToolMessage(Message):
    """The answer of a tool to one call.

    Args:
        content: Text or blocks.
        call_id: The call that it answers; empty where calls have no ids.
        name: The tool's name.
        is_error: Whether the answer is an error.
        **fields: Further fields of `Message`.
    """

    def __init__(
        self,
        content: str | Sequence[Block] = "",
        call_id: str | None = "",
        name: str | None = None,
        is_error: bool = False,
        **fields: Any,
    ) -> None:
        own = {"role": "tool", "blocks": as_blocks(content), "call_id": call_id, "name": name, "is_error": is_error}
        _fill(self, _DEFAULTS, {**own, **fields})


class AssistantMessage(Message):
    """An assistant turn: the return value of a policy and the action of an env.

    Args:
        content: The text, or all blocks in their order.
        tool_calls: Calls that follow `content`.
        reasoning: Reasoning that comes before `content`.
        sampled: The provider's report on the message; None where there is no provider.
        **fields: Further fields of `Message`.

    Example:
        >>> message = AssistantMessage("I look.", [ToolCall("get_weather", {"city": "Oslo"})], reasoning="A city.")
        >>> message.text, message.reasoning, message.tool_calls[0].name
        ('I look.', 'A city.', 'get_weather')
    """

    def __init__(
        self,
        content: str | Sequence[Block] = "",
        tool_calls: Sequence[ToolCall] = (),
        *,
        reasoning: str | None = None,
        sampled: Sampled | None = None,
        **fields: Any,
    ) -> None:
        thought: tuple[Block, ...] = (ReasoningItem(reasoning),) if reasoning else ()
        blocks = thought + as_blocks(content) + tuple(tool_calls)
        _fill(self, _DEFAULTS, {"role": "assistant", "blocks": blocks, "sampled": sampled, **fields})


MESSAGE_CLASSES: Mapping[Role, Callable[..., Message]] = {
    "system": SystemMessage,
    "user": UserMessage,
    "assistant": AssistantMessage,
    "tool": ToolMessage,
}
"""The class of each role."""


class _MessageCodec(Codec):
    """Reads a message as the class of its role."""

    def class_for(self, values: dict[str, Any]) -> type[Any]:
        return MESSAGE_CLASSES[values["role"]]  # type: ignore[return-value]


def split_results(message: Message) -> list[Message]:
    """Return a turn that carries tool results as one `ToolMessage` per result, with the rest between them, in order.

    Providers put the results of several calls into one user turn; in a transcript each is a message of its own. A turn
    without results is returned as it is. The fields of the turn beside its blocks go to the last message.

    Example:
        >>> turn = UserMessage([ToolResult("7 C", call_id="a"), ToolResult("9 C", call_id="b"), TextBlock("Go on.")])
        >>> [(part.role, part.text) for part in split_results(turn)]
        [('tool', '7 C'), ('tool', '9 C'), ('user', 'Go on.')]
    """
    if not any(isinstance(block, ToolResult) for block in message.blocks):
        return [message]
    parts: list[Message] = []
    others: list[Block] = []
    for block in (*message.blocks, None):
        if others and (block is None or isinstance(block, ToolResult)):
            parts.append(Message("user" if message.role == "tool" else message.role, tuple(others)))
            others = []
        if isinstance(block, ToolResult):
            metadata = {"detail": block.detail, **block.extra} if block.extra and block.detail is not None else block.detail
            metadata = metadata or block.extra or None
            parts.append(ToolMessage(block.blocks, block.call_id, block.name or None, block.is_error, metadata=metadata))
        elif block is not None:
            others.append(block)
    common = {name: getattr(message, name) for name in _FIELDS if name not in ("role", "blocks", "call_id", "name", "is_error")}
    if common["metadata"] is None:
        common["metadata"] = parts[-1].metadata
    return [*(part.replace(origin=message.origin, weight=message.weight) for part in parts[:-1]), parts[-1].replace(**common)]


def _texts(blocks: Iterable[Block]) -> Iterable[str]:
    for block in blocks:
        if isinstance(block, TextBlock):
            yield block.text
        elif isinstance(block, ToolResult):
            yield from _texts(block.blocks)


def with_origins(messages: Iterable[Message], is_policy: Callable[[Message], bool] | None = None) -> list[Message]:
    """Return the messages with their origins, for a system that marks the policy's turns or in which these are the assistant's.

    The policy's turns have the origin `policy`. What comes before the first of them is `given`. After it the answers of tools
    and the turns of users and systems are the `environment`'s, and other assistant turns, which the environment inserted as
    history, are `given`.

    Args:
        messages: The messages. Those that have an origin keep it.
        is_policy: Tells the policy's turns; by default these are all assistant messages.

    Example:
        >>> [message.origin for message in with_origins([Message("user"), Message("assistant"), Message("user")])]
        ['given', 'policy', 'environment']
    """
    result: list[Message] = []
    began = False
    for message in messages:
        if message.origin is None:
            is_assistant = message.role == "assistant"
            origin: Origin = "environment" if began and not is_assistant else "given"
            if is_assistant and (is_policy is None or is_policy(message)):
                origin = "policy"
            message = message.replace(origin=origin)
        result.append(message)
        began = began or message.origin == "policy"
    return result


def join_turns(messages: Iterable[Message]) -> list[Message]:
    """Return `messages` with the pieces of each turn as one message.

    Example:
        >>> pieces = [Message("assistant", (ReasoningItem("A sum."),)), Message("assistant", (TextBlock("4"),))]
        >>> [len(turn.blocks) for turn in join_turns(pieces)]
        [2]
    """
    turns: list[Message] = []
    for message in messages:
        if turns and is_continuation(message, turns[-1]):
            turns[-1] = join(turns[-1], message)
        else:
            turns.append(message)
    return turns


def is_continuation(piece: Message, turn: Message) -> bool:
    """Return True if `piece`, logged right after `turn`, is part of the same assistant turn.

    A piece of one kind (reasoning, text or calls) continues the turn, in whatever order the pieces come; only a text right after
    a text begins a new one. A piece of several kinds does so where its kinds come after those of the turn, in the order of
    reasoning, text and calls. A turn with a reward, metadata or a provider's report is complete.
    """
    if turn.role != "assistant" or piece.role != "assistant" or not turn.blocks or not piece.blocks:
        return False
    if turn.origin != piece.origin or turn.weight != piece.weight or turn.name != piece.name:
        return False
    if turn.finished or turn.reward is not None or turn.metadata is not None or turn.sampled is not None:
        return False
    last, first = _rank(turn.blocks[-1]), _rank(piece.blocks[0])
    if last < first:
        return True
    # Between two texts a tool may have run at the provider: then both are of one turn.
    are_texts = (
        last == first == 1 and not isinstance(turn.blocks[-1], OpaqueBlock) and not isinstance(piece.blocks[0], OpaqueBlock)
    )
    return not are_texts and all(_rank(block) == first for block in piece.blocks)


def join(turn: Message, piece: Message) -> Message:
    """Return `turn` with `piece` at its end, and with what the piece says of the whole turn."""
    blocks = turn.blocks + piece.blocks
    ended = piece.ended
    if ended == "stop" and any(isinstance(block, ToolCall) for block in blocks):
        ended = "tool_calls"
    return piece.replace(blocks=blocks, started_at=turn.started_at, ended=ended)


def _rank(block: Block) -> int:
    return 0 if isinstance(block, ReasoningItem) else 2 if isinstance(block, ToolCall) else 1
