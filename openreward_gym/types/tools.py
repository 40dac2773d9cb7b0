"""Tools: what a session offers, and what a call did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from openreward_gym.types.blocks import Block, Json, text_of


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
