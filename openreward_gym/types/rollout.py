"""The record of a rollout, version 1: one episode, whole, as one line of JSON.

A record written by a newer minor version passes through unharmed, its unknown fields included; a newer *major* version is
refused (`SchemaVersionError`). Text is exact: big integers, all digits of a float, NUL and lone surrogates survive
`to_line` and `from_line`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

from openreward_gym.errors import RecordError, SchemaVersionError
from openreward_gym.jsonio import Json, dumps, loads
from openreward_gym.types import codec
from openreward_gym.types.html import rollout_html
from openreward_gym.types.messages import Message, Usage
from openreward_gym.types.reprs import clipped
from openreward_gym.types.tasks import Task
from openreward_gym.types.tools import TerminalTool, ToolSpec

SCHEMA = "openreward-gym/rollout/1"

T = TypeVar("T")

Status: TypeAlias = Literal["completed", "truncated", "error", "cancelled", "running"]
"""The state of an episode at its end; `running` for one that is still being recorded."""


@dataclass(slots=True)
class RolloutEnvironment:
    """The environment of a rollout.

    Attributes:
        name: Its name. variant: One of the variants of a deployment; None for the default.
        split: The split of the task; None where not known.
        origin: Scheme, host and port of its server, nothing else; None for the hosted platform.
        server_version: The server's own word on its version; None where not known.
    """

    name: str = ""
    variant: str | None = None
    split: str | None = None
    origin: str | None = None
    server_version: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Timing:
    """Seconds spent in `reset`, in the environment's steps and in the policy; None where not observed."""

    reset_s: float | None = None
    environment_s: float | None = None
    policy_s: float | None = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class Rollout:
    """The record of one episode (`"schema": "openreward-gym/rollout/1"`).

    Attributes:
        status: The state at the end; `stop_reason` says why (a `StopReason`, or another system's word).
        id: A uuid.
        run: The run it belongs to. name: The rollout's own name.
        environment, task: The problem. `task.split` is `environment.split`, and is written there alone.
        group: Rollouts that are compared share it. sample: Its number in the group. attempt: 0 for the first try.
        step: The training step. advantage, discard_reason, labels: additions of a trainer or a reader.
        model: Run info (name, type, checkpoint, algorithm, ...). sampling: temperature, max tokens, seed, ...
        tools: The tools the model was given. terminal_tool: The receiver of its plain message, None if there was none.
        messages: The conversation; each message says who produced it (`origin`).
        reward: The return, the sum of the step rewards; None where no reward was given.
        final_reward: The last reward that was not null.
        metrics: Named numbers.
        error: The words of a failure; None if there was none.
        usage: Total tokens; None parts were not observed. cost_usd: total price in US dollars.
        seed: The seed of the reset; None if there was none.
        redacted: How many texts were cut out of the record before it was written, by name; None for none.
        versions, metadata: provenance and free data. extra: fields that this version does not know.

    Example:
        >>> rollout = Rollout(status="completed", messages=[Message("user", origin="given")], reward=1.0)
        >>> Rollout.from_line(rollout.to_line()) == rollout
        True
    """

    SCHEMA: ClassVar[str] = SCHEMA

    status: Status
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    run: str = ""
    name: str = ""
    environment: RolloutEnvironment = field(default_factory=RolloutEnvironment)
    task: Task = field(default_factory=Task)
    group: str | None = None
    sample: int | None = None
    attempt: int = 0
    step: int | None = None
    advantage: float | None = None
    discard_reason: str | None = None
    labels: list[Json] | None = None
    model: dict[str, Json] | None = None
    sampling: dict[str, Json] | None = None
    tools: list[ToolSpec] | None = None
    terminal_tool: TerminalTool | None = None
    messages: list[Message] = field(default_factory=list)
    reward: float | None = None
    final_reward: float | None = None
    metrics: dict[str, float | None] | None = None
    stop_reason: str = ""
    error: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    timing: Timing | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    seed: int | None = None
    redacted: dict[str, int] | None = None
    versions: dict[str, str] | None = None
    metadata: dict[str, Json] | None = None
    extra: Mapping[str, Json] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # A task and its environment say the same split, whichever was given.
        if not self.task.split and self.environment.split:
            self.task = _with_split(self.task, self.environment.split)
        elif self.task.split and self.environment.split is None:
            self.environment.split = self.task.split

    def to_dict(self) -> dict[str, Json]:
        """Return the record as JSON values, `schema` and `id` first, without the fields that are at their defaults.

        Raises:
            RecordError: Blocks are nested too deeply.
        """
        try:
            data = codec.write(self)
        except RecursionError:
            raise RecordError("its blocks are nested too deeply") from None
        if "task" in data:
            data["task"].pop("split", None)
        data.pop("schema", None)
        return {"schema": SCHEMA, "id": self.id, "status": self.status, **data}

    def to_line(self) -> str:
        """Return one line of JSON, without its newline; pure ASCII only where a lone surrogate forces it."""
        return line_of(self.to_dict())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rollout:
        """Read a record.

        Raises:
            SchemaVersionError: It was written by a newer major version.
            RecordError: It is not a rollout; the message names the first field that is wrong.
        """
        return read_as(cls, data, SCHEMA, "rollout")

    @classmethod
    def from_line(cls, line: str | bytes) -> Rollout:
        """Read one line; errors as `from_dict`, and RecordError for a line that is not a JSON object."""
        return cls.from_dict(object_of(line, "rollout"))

    def __repr__(self) -> str:
        where = f" of {self.environment.name!r}" if self.environment.name else ""
        shape = f"{len(self.messages)} messages, {self.num_turns} turns, {self.num_tool_calls} calls"
        why = f" ({clipped(self.stop_reason)[1:-1]})" if self.stop_reason else ""
        return f"<Rollout {self.id}{where}: {shape}, reward {self.reward}, {self.status}{why}>"

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows."""
        environment, task, model = self.environment, self.task, self.model or {}
        facts = {
            "environment": " / ".join(filter(None, (environment.name, environment.variant))),
            "split": environment.split,
            "task": task.index if task.index is not None else task.id,
            "step": self.step,
            "group": self.group,
            "sample": self.sample,
            "model": model.get("name") or model.get("model_name"),
        }
        return rollout_html(
            self.name or self.id, facts, self.messages, self.reward, self.status, self.stop_reason, self.error or ""
        )

    @property
    def turns(self) -> Iterator[Message]:
        """The turns of the policy: assistant messages, without those that are known to be somebody else's."""
        return (message for message in self.messages if message.role == "assistant" and message.origin in ("policy", None))

    @property
    def num_turns(self) -> int:
        """The number of turns of the policy."""
        return sum(1 for _ in self.turns)

    @property
    def num_tool_calls(self) -> int:
        """The number of tool calls of the policy."""
        return sum(len(turn.tool_calls) for turn in self.turns)

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None where either is not known, or not ISO 8601 (other systems' records)."""
        started, ended = moment_of(self.started_at), moment_of(self.ended_at)
        return None if started is None or ended is None else (ended - started).total_seconds()


def _with_split(task: Task, split: str) -> Task:
    return Task(split, task.index, task.spec, task.id, task.golden_answer, task.extra)


def total_usage(messages: Iterable[Message]) -> Usage | None:
    """Sum the token counts of messages, without those that were given; a count stays None where no message had it."""
    totals: dict[str, Any] = {}
    for message in messages:
        if message.usage is not None and message.origin != "given":
            for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"):
                if (value := getattr(message.usage, name)) is not None:
                    totals[name] = totals.get(name, 0) + value
    return Usage(**totals) if totals else None


def total_reward(messages: Iterable[Message]) -> tuple[float | None, float | None]:
    """Return (sum, last) of the rewards of messages; (None, None) where no message has one."""
    rewards = [message.reward for message in messages if message.reward is not None]
    return (sum(rewards), rewards[-1]) if rewards else (None, None)


def total_cost(messages: Iterable[Message]) -> float | None:
    """Sum the prices of messages, without those that were given, in US dollars; None where no message has one."""
    reports = [message.sampled for message in messages if message.sampled is not None and message.origin != "given"]
    costs = [report.cost_usd for report in reports if report.cost_usd is not None]
    return sum(costs) if costs else None


def object_of(line: str | bytes, kind: str) -> dict[str, Json]:
    """Return the JSON object of a line; raise RecordError, with the name of the expected `kind`, for anything else."""
    try:
        data = loads(line)
    except ValueError as error:
        raise RecordError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise RecordError(f"not a {kind}: a JSON {type(data).__name__}, not an object")
    return data


def read_as(cls: type[T], data: Mapping[str, Json], schema: str, kind: str) -> T:
    """Return `data`, written with `schema`, as an object of `cls`; raise a RecordError that names the first wrong field."""
    check_schema(data.get("schema"), schema, kind)
    try:
        return codec.read_as(cls, {key: value for key, value in data.items() if key != "schema"})
    except codec.FieldError as error:
        raise RecordError(f"not a {kind}: {error}") from None
    except RecursionError:
        raise RecordError(f"not a {kind}: it is nested too deeply") from None


def check_schema(schema: Json, expected: str, kind: str) -> None:
    """Refuse a record whose `schema` is not `expected` in name and major version.

    Raises:
        SchemaVersionError: Its major version is newer.
        RecordError: It is another thing, or has no version.
    """
    if schema is None:
        raise RecordError(f'not a {kind}: it has no "schema" (expected {expected!r})')
    name, _, version = schema.rpartition("/") if isinstance(schema, str) else ("", "", "")
    expected_name, _, newest = expected.rpartition("/")
    if name != expected_name:
        raise RecordError(f"not a {kind}: its schema is {codec.shown(schema)}, not {expected!r}")
    major = version.split(".")[0]
    if not (major.isascii() and major.isdecimal() and len(major) < 10):
        raise RecordError(f"not a {kind}: its schema {codec.shown(schema)} has no version number")
    if int(major) > int(newest):
        raise SchemaVersionError(
            f"the {kind} was written with schema {schema!r}; this version reads up to {expected!r}: "
            f"pip install --upgrade 'openreward-gym>={major}'"
        )


def line_of(data: Mapping[str, Json]) -> str:
    """Return `data` as one line of strict JSON, without its newline; pure ASCII only where a lone surrogate forces it.

    Raises:
        RecordError: It is nested too deeply.
    """
    try:
        return dumps(data, non_finite="text").decode()
    except ValueError as error:
        raise RecordError(f"cannot be written as a line of JSON: {error}") from None


def server_origin(url: str | None) -> str | None:
    """Return scheme, host and port of `url`, without user, path or query; None for None.

    Example:
        >>> server_origin("https://user:secret@host:8080/path?key=1")
        'https://host:8080'
    """
    if not url:
        return None
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://" + (f"[{host}]" if ":" in host else host) + (f":{parts.port}" if parts.port else "")


def now_iso() -> str:
    """Return the current time, ISO 8601 in UTC with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def moment_of(text: str | None) -> datetime | None:
    """Return the time that an ISO 8601 text names, UTC where it names no zone; None for None and for any other text."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
