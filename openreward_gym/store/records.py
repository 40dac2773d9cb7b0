"""The records of a run beside its rollouts: failed attempts and compared groups."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, TypeAlias

from openreward_gym.errors import RecordError
from openreward_gym.jsonio import Json
from openreward_gym.redaction import RecordRedactor
from openreward_gym.store.damage import OnDamage
from openreward_gym.store.folder import folder_at
from openreward_gym.store.index import read_each
from openreward_gym.types import codec
from openreward_gym.types.rollout import line_of, now_iso, object_of, read_as

Delivery: TypeAlias = Literal["not_sent", "possibly_delivered", "delivered"]


@dataclass(frozen=True)
class Failure:
    """One failed attempt (`"schema": "openreward-gym/failure/1"`): a fault of infrastructure, never a reward or a message.

    A failure with `retried_in_s` is a request that failed and was sent again within its attempt. It ended nothing, and is not
    counted as an outcome.

    Attributes:
        source: The side that failed: "environment", "policy" or "client".
        kind: The kind of fault ("timeout", "session_lost", "rate_limited", ...): an `openreward_gym.options.RetryKind`, or
            "score_group_failed", or the word of another system or version.
        stage: The part of the episode ("open", "prompt", "policy", "call", "close", ...).
        delivery: Whether the server saw the request; None where there was none.
        attempt: Number of the attempt, from 0.
        http_status: None where no HTTP answer came.
        exception: The exception's type, with its module; empty where there was none.
        message: The exception's words.
        task: The task's id. sample: the rollout's number in its group.
        time: The time of the failure, ISO 8601 in UTC.
        retried_in_s: Seconds until the request was sent again in the same attempt; None if the failure ended the attempt.

    Example:
        >>> Failure.from_line(Failure("policy", "timeout").to_line()).kind
        'timeout'
    """

    SCHEMA: ClassVar[str] = "openreward-gym/failure/1"

    source: Literal["environment", "policy", "client"]
    kind: str
    stage: str = ""
    delivery: Delivery | None = None
    attempt: int = 0
    http_status: int | None = None
    exception: str = ""
    message: str = ""
    task: str = ""
    sample: int | None = None
    time: str = field(default_factory=now_iso)
    retried_in_s: float | None = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)

    def to_line(self) -> str:
        """Return one line of JSON, without its newline; fields at their defaults are left out, the time is not."""
        return line_of({"schema": self.SCHEMA, **codec.write(self), "time": self.time})

    def redacted(self, redactor: RecordRedactor) -> Failure:
        """Return the failure without what `redactor` cuts out; the same object if there is nothing."""
        if not redactor.may_change(self.to_line()):
            return self
        texts, counts = redactor.counted({"message": self.message, "exception": self.exception, "extra": self.extra})
        if not counts:
            return self
        extra = {**texts["extra"], "redacted": counts}
        return replace(self, message=texts["message"], exception=texts["exception"], extra=extra)

    @classmethod
    def from_dict(cls, data: Mapping[str, Json]) -> Failure:
        """Read a failure.

        Raises:
            SchemaVersionError: It was written by a newer major version.
            RecordError: It is not a failure.
        """
        return read_as(cls, data, cls.SCHEMA, "failure")

    @classmethod
    def from_line(cls, line: str | bytes) -> Failure:
        """Read one line; errors as `from_dict`, and RecordError for a line that is not a JSON object."""
        return cls.from_dict(object_of(line, "failure"))


@dataclass(frozen=True)
class Group:
    """A compared group (`"schema": "openreward-gym/group/1"`). Lists have one entry per sample, in the order of the samples.

    Attributes:
        group: Its name, as in the rollouts.
        rollouts: The rollouts' ids.
        rewards: The pointwise rewards; None where the environment gave none.
        scores: The environment's comparative rewards; None where it was not asked.
        score_metadata: The environment's words on each sample.
        advantages: Of the scores where there are any, else of the rewards; None where not wanted, or a reward is missing.
        discard_reason: Why a trainer learns nothing from it; None where it does.
    """

    SCHEMA: ClassVar[str] = "openreward-gym/group/1"

    group: str
    rollouts: list[str]
    rewards: list[float | None]
    scores: list[float] | None = None
    score_metadata: list[Json] | None = None
    advantages: list[float] | None = None
    discard_reason: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)


def read_groups(run: str | os.PathLike[str], on_damage: OnDamage | None = None) -> Iterator[Group]:
    """Return the compared groups of a run in the order of writing; a later one of the same name replaces an earlier one.

    Args:
        run: The run's folder.
        on_damage: Called with each line that is not a group; None raises an error for the first.

    Raises:
        RecordError: A line is not a group; the message has its file, line and byte.
        StoreError: A file cannot be read.
    """
    yield from read_each(folder_at(run), "groups", _group_of, on_damage)


def _group_of(line: bytes) -> Group:
    group = read_as(Group, object_of(line, "group"), Group.SCHEMA, "group")
    for name in ("rewards", "scores", "score_metadata", "advantages"):
        values = getattr(group, name)
        if values is not None and len(values) != len(group.rollouts):
            raise RecordError(f"not a group: it has {len(group.rollouts)} rollouts, but {len(values)} {name}")
    return group
