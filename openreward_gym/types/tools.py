"""Tools: the tools of a session, and the outcome of a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from openreward_gym.jsonio import Json
from openreward_gym.types.blocks import Block, ToolCall, text_of
from openreward_gym.types.messages import Origin, ToolMessage
from openreward_gym.types.reprs import block_repr, listed, set_fields


@dataclass(frozen=True)
class ToolSpec:
    """A tool that the model may call.

    Attributes:
        name: The tool's name.
        description: The words that tell the model about it.
        input_schema: A JSON Schema of its arguments; None for a tool that takes none.
    """

    name: str
    description: str = ""
    input_schema: Mapping[str, Json] | None = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class TerminalTool:
    """The hidden tool that receives the assistant's plain message and ends the episode.

    Attributes:
        name: The tool's name.
        arg: The argument that takes the message; None where the tool looks at the environment's state alone.
        description: The tool's description.
    """

    name: str
    arg: str | None = None
    description: str = ""
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ToolSet:
    """The tools of a session.

    Attributes:
        tools: The tools that the model may call.
        terminal: The tool that receives a plain message; None where the environment has no such tool.
        supports_score_group: Whether the server compares groups of rollouts; None where it does not say.
        message_block_types: Block types it takes in messages; None (older servers) means text and image.

    Example:
        >>> tools = ToolSet((ToolSpec("get_weather", "The weather of a city."),))
        >>> len(tools), tools.get("get_weather").description, tools.get("fly")
        (1, 'The weather of a city.', None)
    """

    tools: tuple[ToolSpec, ...] = ()
    terminal: TerminalTool | None = None
    supports_score_group: bool | None = None
    message_block_types: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        terminal = "" if self.terminal is None else f", terminal={self.terminal.name}"
        return f"ToolSet([{listed(tool.name for tool in self.tools)}]{terminal})"

    def get(self, name: str) -> ToolSpec | None:
        """Return the tool of that name; None if there is none."""
        return next((tool for tool in self.tools if tool.name == name), None)

    def __iter__(self) -> Iterator[ToolSpec]:
        return iter(self.tools)

    def __len__(self) -> int:
        return len(self.tools)

    def __getitem__(self, index: int) -> ToolSpec:
        return self.tools[index]


ErrorKind: TypeAlias = Literal[
    "", "not_found", "name_collision", "input_validation", "episode_finished", "malformed", "cut_off", "other"
]
"""The kind of mistake in a model's call; empty for a call that ran. `malformed`: its arguments were not a JSON object.
`cut_off`: the token limit ended its message."""


@dataclass(frozen=True)
class ToolOutput:
    """The outcome of a call. A model's wrong call is an output with `error`, never an exception.

    Attributes:
        blocks: The result; of a wrong call, its error text as one block.
        reward: None where the environment gave none (which is not 0.0).
        finished: Whether the episode is over.
        metadata: The environment's free data.
        error: The mistake in the call; empty where it ran.
        error_kind: The kind of `error`.
        extra: Fields that this version does not know.

    Example:
        >>> from openreward_gym.types import TextBlock
        >>> output = ToolOutput((TextBlock("7 C"),), reward=1.0)
        >>> output.text, output.answer(ToolCall("get_weather", call_id="c1")).call_id
        ('7 C', 'c1')
    """

    blocks: tuple[Block, ...] = ()
    reward: float | None = None
    finished: bool = False
    metadata: Json = None
    error: str = ""
    error_kind: ErrorKind = ""
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        parts = [listed(map(block_repr, self.blocks))] if self.blocks else []
        return f"ToolOutput({', '.join([*parts, *set_fields(self, 'blocks')])})"

    @property
    def text(self) -> str:
        """The texts of the blocks, joined by newlines; an image shows as a marker."""
        return text_of(self.blocks)

    def answer(
        self, call: ToolCall, *, origin: Origin = "environment", started_at: str | None = None, ended_at: str | None = None
    ) -> ToolMessage:
        """Return the output as the message that answers `call`.

        Args:
            call: The call.
            origin: "environment" for a call that was sent, "client" for one that this package answered itself.
            started_at, ended_at: ISO 8601 in UTC; None where not known.
        """
        return ToolMessage(
            self.blocks,
            call.call_id,
            call.name,
            bool(self.error),
            origin=origin,
            reward=self.reward,
            finished=self.finished,
            started_at=started_at,
            ended_at=ended_at,
            metadata={"metadata": self.metadata, "extra": dict(self.extra)} if self.extra else self.metadata,
        )
