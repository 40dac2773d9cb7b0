"""Tasks: the problem of an episode, its place in the environment, and the reasons for which episodes end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from openreward_gym.jsonio import Json
from openreward_gym.types.reprs import set_fields

StopReason: TypeAlias = Literal[
    "finished",  # the environment said so
    "message",  # the assistant wrote a plain message where that ends the episode
    "max_steps",  # a step limit of ours
    "max_tokens",  # a token limit of ours
    "deadline",  # a time limit of ours
    "context_overflow",  # the model's window is full
    "length",  # the limit of tokens for one message cut the model off
    "content_filter",  # a filter withheld the model's answer
    "refusal",  # the model's provider refused
    "no_action",  # the model's last turns neither called a tool nor answered
    "session_lost",  # the server no longer has the session
    "tool_failed",  # a tool raised on the server
    "outcome_unknown",  # a call may or may not have run: it is not sent twice
    "policy_failed",  # the policy raised
    "cancelled",  # the caller stopped it
]
"""Why an episode ended; `""` where it has not."""

SplitType: TypeAlias = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Split:
    """A named set of tasks. `type` is the server's word (train, validation or test)."""

    name: str
    type: str = "validation"


@dataclass(frozen=True)
class Task:
    """A problem of an environment: by `split` and `index`, by `spec`, or both.

    Attributes:
        split: The split it comes from; empty for a task given by its spec alone.
        index: Its position in the split; None for a task given by its spec alone.
        spec: The environment's own description; None where it was not read.
        id: The id by which runs compare (see `task_id`); empty where it was not computed.
        golden_answer: The right answer, where somebody recorded it.

    Example:
        >>> Task("train", 3).index
        3
    """

    split: str = ""
    index: int | None = None
    spec: Mapping[str, Json] | None = None
    id: str = ""
    golden_answer: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        place = [repr(self.split), *([] if self.index is None else [str(self.index)])] if self.split else []
        return f"Task({', '.join([*place, *set_fields(self, *(('split', 'index') if self.split else ()))])})"


def task_id(
    environment: str,
    split: str | None,
    spec: Mapping[str, Json] | None = None,
    index: int | None = None,
    variant: str | None = None,
) -> str:
    """Return the stable id of a task: equal for equal tasks, on whatever machine and in whatever run.

    SHA-256 over the canonical JSON (sorted keys) of environment, variant and spec; where the spec is not known, of
    environment, variant, split and index; the first 16 hexadecimal digits. Empty where neither spec nor index is known: two such
    tasks are not the same.

    Example:
        >>> task_id("weather", "train", index=3) == task_id("Weather", "train", index=3)
        True
    """
    if spec is None and index is None:
        return ""
    identity = {"spec": spec} if spec is not None else {"split": split or None, "index": index}
    text = json.dumps([environment.lower(), variant, identity], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
