"""The record of a rollout, version 1: one episode, whole, as one line of JSON.

The models keep fields they do not know, so a record written by a newer minor version passes through unharmed; a newer
*major* version is refused (`SchemaVersionError`). A field left at its default is not written. Text is exact: big
integers, all digits of a float, NUL and lone surrogates survive `to_line` and `from_line`.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PlainSerializer, Tag, ValidationError, WithJsonSchema

from openreward_gym.errors import RecordError, SchemaVersionError
from openreward_gym.types import Json

SCHEMA = "openreward-gym/rollout/1"

_Read = TypeVar("_Read", bound=BaseModel)

Status: TypeAlias = Literal["completed", "truncated", "error", "cancelled", "running"]

# JSON has no NaN and no infinities: they are written as the strings that float() reads back.
Number: TypeAlias = Annotated[
    float,
    PlainSerializer(lambda x: x if math.isfinite(x) else str(x), return_type=Any, when_used="unless-none"),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow", populate_by_name=True, validate_assignment=False)


class TextPart(_Model):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str
    detail: Json = None


class ImagePart(_Model):
    """An image: `data` (base64) inline, or `sha256` of a file in the store's `images/` folder."""

    type: Literal["image"] = "image"
    mime_type: str = Field(default="image/png", alias="mimeType")
    data: str | None = None
    sha256: str | None = None
    detail: Json = None


class ReasoningPart(_Model):
    """What the model thought; `text` is None where the provider hides it."""

    type: Literal["reasoning"] = "reasoning"
    text: str | None = None
    summary: str | None = None
    reference: str | None = None
    signature: str | None = None
    detail: Json = None


class ToolCallPart(_Model):
    """A call; `input` is None where the model's `input_text` is not a JSON object.

    `input_text` is the arguments' JSON as the model wrote it; None where it is not known.
    """

    type: Literal["tool_call"] = "tool_call"
    id: str = ""
    name: str
    input: dict[str, Any] | None = None
    input_text: str | None = None
    detail: Json = None


class OtherPart(_Model):
    """A block of a type this version does not know, as it came."""

    type: str = Field(default="", json_schema_extra={"not": {"enum": ["text", "image", "reasoning", "tool_call"]}})


_PARTS = {"text": TextPart, "image": ImagePart, "reasoning": ReasoningPart, "tool_call": ToolCallPart}


def _part_tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return kind if isinstance(kind, str) and kind in _PARTS else "other"


Part: TypeAlias = Annotated[
    Annotated[TextPart, Tag("text")]
    | Annotated[ImagePart, Tag("image")]
    | Annotated[ReasoningPart, Tag("reasoning")]
    | Annotated[ToolCallPart, Tag("tool_call")]
    | Annotated[OtherPart, Tag("other")],
    Discriminator(_part_tag),
]


class TokenUsage(_Model):
    """Token counts; None is "not observed", never zero."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class MessageRecord(_Model):
    """One turn. `reward` None: the environment gave none with this message. Times are ISO 8601, UTC.

    `logprobs` are natural logarithms, one for each of `token_ids`; `prompt_token_ids` is what was sampled from.
    A message of role "tool" is the answer to the call `tool_call_id`.
    """

    role: Literal["system", "user", "assistant", "tool"]
    blocks: list[Part] = Field(default_factory=list)
    tool_call_id: str | None = None
    name: str | None = None
    is_error: bool = False
    reward: Number | None = None
    finished: bool = False
    usage: TokenUsage | None = None
    stop_reason: str | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    logprobs: list[Number] | None = None
    model: str | None = None
    cost_usd: Number | None = None
    started_at: str | None = None
    ended_at: str | None = None
    metadata: Json = None

    @property
    def text(self) -> str:
        """The visible text: its text blocks, joined by newlines."""
        return "\n".join(part.text for part in self.blocks if isinstance(part, TextPart))

    @property
    def reasoning(self) -> str:
        return "\n".join(part.text or part.summary or "" for part in self.blocks if isinstance(part, ReasoningPart))

    @property
    def tool_calls(self) -> list[ToolCallPart]:
        return [part for part in self.blocks if isinstance(part, ToolCallPart)]


class EnvironmentRecord(_Model):
    """Where it ran. `origin` is scheme, host and port only."""

    name: str = ""
    variant: str | None = None
    split: str | None = None
    origin: str | None = None
    server_version: str | None = None


class TaskRecord(_Model):
    """What was to be done. `id` is `task_id(...)`: equal for equal tasks, over runs and machines."""

    id: str = ""
    index: int | None = None
    spec: dict[str, Any] | None = None
    golden_answer: Json = None


class ToolRecord(_Model):
    """A tool as the model was given it; `input_schema` None: it takes no arguments."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] | None = None


class TerminalToolRecord(_Model):
    """The hidden tool to which a plain message goes."""

    name: str
    arg: str | None = None
    description: str = ""


class Timing(_Model):
    """Seconds spent in `reset`, in the environment's steps and in the policy; None where not observed."""

    reset_s: Number | None = None
    environment_s: Number | None = None
    policy_s: Number | None = None


class Rollout(_Model):
    """The record of one episode (`"schema": "openreward-gym/rollout/1"`).

    Attributes:
        id: A uuid.
        run: The run it belongs to. name: The rollout's own name.
        group: Rollouts that are compared share it. sample: Its number in the group. attempt: 0 for the first try.
        step: The training step. advantage, discard_reason, labels: what a trainer or a reader adds.
        model: Run info (name, type, checkpoint, algorithm, ...). sampling: temperature, max tokens, seed, ...
        tools: The tools the model was given; terminal_tool: where its plain message went, None if nowhere.
        reward: The return, the sum of the step rewards; None where no reward was given.
        final_reward: The last reward that was not null.
        metrics: Named numbers.
        status: How it ended; stop_reason: why (a `StopReason`).
        usage: Total tokens; None parts were not observed.
        versions, metadata: provenance and free data.
    """

    SCHEMA: ClassVar[str] = SCHEMA

    id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    run: str = ""
    name: str = ""
    environment: EnvironmentRecord = Field(default_factory=EnvironmentRecord)
    task: TaskRecord = Field(default_factory=TaskRecord)
    group: str | None = None
    sample: int | None = None
    attempt: int = 0
    step: int | None = None
    advantage: Number | None = None
    discard_reason: str | None = None
    labels: list[Any] | None = None
    model: dict[str, Any] | None = None
    sampling: dict[str, Any] | None = None
    tools: list[ToolRecord] | None = None
    terminal_tool: TerminalToolRecord | None = None
    messages: list[MessageRecord] = Field(default_factory=list)
    reward: Number | None = None
    final_reward: Number | None = None
    metrics: dict[str, Number | None] | None = None
    status: Status
    stop_reason: str = ""
    error: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    timing: Timing | None = None
    usage: TokenUsage | None = None
    cost_usd: Number | None = None
    seed: int | None = None
    versions: dict[str, str] | None = None
    metadata: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values, `schema` and `id` first; fields at their defaults are left out."""
        dump = self.model_dump(exclude_defaults=True, by_alias=True)
        dump.pop("schema", None)
        for message, given in zip(dump.get("messages", ()), self.messages, strict=True):
            message["blocks"] = [_part_dict(part) for part in given.blocks]
        return {"schema": SCHEMA, "id": self.id, **dump}

    def to_line(self) -> str:
        """One line of JSON, without its newline; pure ASCII only where a lone surrogate forces it."""
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

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        from openreward_gym.store.html import rollout_html  # which is made of records

        return rollout_html(self)

    @property
    def turns(self) -> Iterator[MessageRecord]:
        """The assistant's messages."""
        return (message for message in self.messages if message.role == "assistant")

    @property
    def num_turns(self) -> int:
        return sum(1 for _ in self.turns)

    @property
    def num_tool_calls(self) -> int:
        return sum(len(turn.tool_calls) for turn in self.turns)

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None where either is not known, or not ISO 8601 (other systems' records)."""
        started, ended = moment_of(self.started_at), moment_of(self.ended_at)
        return None if started is None or ended is None else (ended - started).total_seconds()


def _part_dict(part: Any) -> dict[str, Any]:
    # `type` equals its default in every part, but a part without it could not be read back.
    return {"type": part.type, **part.model_dump(exclude_defaults=True, by_alias=True)}


def object_of(line: str | bytes, what: str) -> dict[str, Any]:
    """The JSON object of a line; RecordError for anything else, which says that it is no `what`."""
    try:
        # Not orjson: it reads integers beyond 64 bits as floats.
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise RecordError(f"not a {what}: a JSON {type(data).__name__}, not an object")
    return data


def read_as(model: type[_Read], data: Mapping[str, Any], schema: str, what: str) -> _Read:
    """`data`, written with `schema`, as `model`; a RecordError names the first field that is wrong."""
    check_schema(data.get("schema"), schema, what)
    try:
        return model.model_validate({key: value for key, value in data.items() if key != "schema"})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(place) for place in first["loc"])
        raise RecordError(f"not a {what}: {where}: {first['msg']} (it is {str(first['input'])[:80]!r})") from None


def check_schema(given: Any, expected: str, what: str) -> None:
    """Refuse a record whose `schema` is not `expected` in name and major version.

    Raises:
        SchemaVersionError: Its major version is newer.
        RecordError: It is another thing, or has no version.
    """
    if given is None:
        raise RecordError(f'not a {what}: it has no "schema" (expected {expected!r})')
    name, _, version = str(given).rpartition("/")
    expected_name, _, newest = expected.rpartition("/")
    if name != expected_name:
        raise RecordError(f"not a {what}: its schema is {given!r}, not {expected!r}")
    major = version.split(".")[0]
    if not (major.isascii() and major.isdecimal() and len(major) < 10):
        raise RecordError(f"not a {what}: its schema {given!r} has no version number")
    if int(major) > int(newest):
        raise SchemaVersionError(
            f"the {what} was written with schema {given!r}; this version reads up to {expected!r}: "
            f"pip install --upgrade 'openreward-gym>={major}'"
        )


def line_of(data: Mapping[str, Any]) -> str:
    """`data` as one line of JSON, without its newline; pure ASCII only where a lone surrogate forces it."""
    line = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(data, separators=(",", ":"))
    return line


def task_id(
    environment: str,
    split: str | None,
    spec: Mapping[str, Any] | None = None,
    index: int | None = None,
    variant: str | None = None,
) -> str:
    """The stable id of a task: equal for equal tasks, whatever machine or run.

    SHA-256 over the canonical JSON (sorted keys) of environment, variant, split and the spec, or the index where the
    spec is not known; the first 16 hexadecimal digits.
    """
    what = {"spec": spec} if spec is not None else {"index": index}
    text = json.dumps([environment.lower(), variant, split, what], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def now_iso() -> str:
    """This moment, ISO 8601 in UTC with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def moment_of(text: str | None) -> datetime | None:
    """The moment an ISO 8601 text names, UTC where it names no zone; None for None and for any other text."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
