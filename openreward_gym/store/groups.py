"""Compared groups of rollouts: what a collection wrote of them to a run's `groups/`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from openreward_gym.store.folder import folder_at
from openreward_gym.store.index import read_each
from openreward_gym.types.rollout import check_schema, object_of

SCHEMA = "openreward-gym/group/1"


@dataclass(frozen=True, slots=True)
class Group:
    """A compared group, one line of `groups/*.jsonl`. Lists have an entry a sample, in the samples' order.

    Attributes:
        group: Its name, as in the rollouts.
        rollouts: The rollouts' ids.
        rewards: The pointwise rewards; None where the environment gave none.
        scores: The environment's comparative rewards; None where it was not asked.
        score_metadata: What it said to each.
        advantages: Of the scores where there are any, else of the rewards; None where not wanted, or a reward is missing.
        discard_reason: Why a trainer learns nothing from it; None where it does.
    """

    group: str
    rollouts: list[str]
    rewards: list[float | None]
    scores: list[float] | None = None
    score_metadata: list[Any] | None = None
    advantages: list[float] | None = None
    discard_reason: str | None = None


def read_groups(run: str | os.PathLike[str]) -> Iterator[Group]:
    """The compared groups of a run, in the order in which they were written; a later one of the same name wins.

    Raises:
        RecordError: A line is not a group; the message has its file, line and byte.
    """
    yield from read_each(folder_at(run), "groups", _group_of)


def _group_of(line: bytes) -> Group:
    row: Any = object_of(line, "group")
    check_schema(row.get("schema"), SCHEMA, "group")
    return Group(**{name: row.get(name) for name in Group.__slots__})
