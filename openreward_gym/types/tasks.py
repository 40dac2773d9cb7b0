"""Tasks: what an episode is about, where it comes from, and why the episode ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from openreward_gym.types.blocks import Json

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
