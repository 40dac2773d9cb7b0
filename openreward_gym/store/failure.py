"""An attempt that has no outcome: what infrastructure did wrong, never a reward and never an invented message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from openreward_gym.types.rollout import line_of, now_iso, object_of, read_as

Delivery: TypeAlias = Literal["not_sent", "possibly_delivered", "delivered"]


class Failure(BaseModel):
    """One failed attempt (`"schema": "openreward-gym/failure/1"`).

    Attributes:
        source: Which side failed: "environment", "policy" or "client".
        kind: What it was ("timeout", "session_lost", "rate_limited", ...).
        stage: Where in the episode ("open", "prompt", "policy", "call", "close", ...).
        delivery: Whether the server saw the request; None where there was none.
        attempt: Number of the attempt, from 0.
        http_status: None where no HTTP answer came.
        exception: The exception's type, with its module; empty where there was none.
        message: Its words.
        task: The task's id. sample: the rollout's number in its group.
        time: When, ISO 8601 in UTC.
    """

    SCHEMA: ClassVar[str] = "openreward-gym/failure/1"

    model_config = ConfigDict(extra="allow")

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
    time: str = Field(default_factory=now_iso)

    def to_line(self) -> str:
        """One line of JSON, without its newline; fields at their defaults are left out, the time is not."""
        return line_of({"schema": self.SCHEMA, **self.model_dump(exclude_defaults=True), "time": self.time})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Failure:
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
