"""The Open Reward Standard's JSON: functions that read a server's answers and write requests. No I/O.

Additions of newer servers are kept: unknown fields in `extra`, unknown block types as `OpaqueBlock`. Each function that reads an
answer raises `ProtocolError` if it cannot: a field of another type than the standard's is an error, never read as false or as
missing. Only blocks are kept as they came (`OpaqueBlock`) if a field of theirs has another type. The error holds the answer until
`Redactor.clean` hides the secrets in it.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import orjson

from openreward_gym import jsonio
from openreward_gym.errors import AuthenticationError, ConfigurationError, ProtocolError, ServerError
from openreward_gym.hiding import Redactor, Secret, with_evidence
from openreward_gym.retrying import seconds_until
from openreward_gym.types import (
    Block,
    ErrorKind,
    ImageBlock,
    Json,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Split,
    TerminalTool,
    TextBlock,
    ToolCall,
    ToolOutput,
    ToolResult,
    ToolSet,
    ToolSpec,
)
from openreward_gym.types.messages import MESSAGE_CLASSES

T = TypeVar("T")

# The fields of each object that this version knows.
_TEXT = frozenset(("type", "text", "detail"))
_IMAGE = frozenset(("type", "data", "mimeType", "detail"))
_REASONING = frozenset(("type", "text", "signature", "detail"))
_TOOL_CALL = frozenset(("type", "id", "name", "input", "detail"))
_TOOL_RESULT = frozenset(("type", "tool_call_id", "blocks", "is_error", "detail"))
_MESSAGE = frozenset(("role", "blocks", "detail"))
_FAILED_CALL = frozenset(("ok", "error", "reason"))
_OUTPUT = frozenset(("blocks", "reward", "finished", "metadata"))

_ERROR_KINDS: tuple[ErrorKind, ...] = ("not_found", "name_collision", "input_validation", "episode_finished")

HTML_PAGE = "an HTML page"
"""Beginning of the detail of an error whose body is a web server's page and not an answer of the standard."""
HTML_BYTES = 1 << 16
"""Bytes of such a page that are read."""
LONGEST_ID = 1024
"""Longest id of a session or a run, in characters."""
LONGEST_WAIT_S = 86_400.0
"""Longest wait in seconds that is read from a `Retry-After` header."""
MOST_TASKS = 10**9
"""Largest number of tasks that a server may name."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_markup = re.compile(rb"<(style|script)\b.*?</\1>|<[^>]*>?", re.DOTALL | re.IGNORECASE)
# orjson and json write these alike. A float may be NaN, and a container may hold one.
_WRITTEN_ALIKE = frozenset({str, int, bool, type(None)})


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """Limits on a server's answers, far above what environments send.

    Attributes:
        nesting: Levels of lists and objects in an answer's JSON.
        blocks: Blocks in an output, a prompt or a conversation.
        images: Images among them.

    Example:
        >>> AnswerLimits().blocks
        10000
    """

    nesting: int = 200
    blocks: int = 10_000
    images: int = 1_000


DEFAULT_LIMITS = AnswerLimits()


def loads(data: bytes, limits: AnswerLimits = DEFAULT_LIMITS) -> Json:
    """Parse a server's JSON exactly, up to `limits.nesting` levels."""
    try:
        value = jsonio.loads(data)
    except ValueError as error:
        problem = f"the server sent something that is not JSON ({error}): "
    else:
        # A short document, or one with few brackets, is not nested deeply: each level has a bracket at both ends.
        most = limits.nesting
        if len(data) < 2 * most or data.count(b"[") + data.count(b"{") <= most or not jsonio.is_deeper(value, most):
            return value
        problem = f"the server sent JSON that is nested more than {limits.nesting} levels deep (option max_nesting): "
    raise with_evidence(ProtocolError(problem), data)


def dumps(value: Json) -> bytes:
    """Encode `value` as JSON, with secrets in the clear. Raise ValueError or TypeError for what is not JSON."""
    return jsonio.dumps(value, default=_reveal)


def dumps_call(name: str, arguments: Mapping[str, Json]) -> bytes:
    """Encode the body of a call as `dumps` does, with a shortcut for the usual arguments."""
    body = {"name": name, "input": dict(arguments)}
    for value in arguments.values():
        if type(value) not in _WRITTEN_ALIKE:
            return dumps(body)
    try:
        return orjson.dumps(body)
    except TypeError:
        # Lone surrogates, integers of more than 64 bits.
        return dumps(body)


def surrogate_problem(body: bytes) -> str:
    """Return why the body of a call is not sent: it has half of a surrogate pair. An empty string for any other body.

    The tool would run, and its server could not write an answer that repeats the text, because UTF-8 cannot encode it.
    """
    call = loads(body)
    places = {f"the argument {name!r}": {name: value} for name, value in call["input"].items()}
    for place, value in {"the name of the tool": call["name"], **places}.items():
        half = _SURROGATE.search(json.dumps(value, ensure_ascii=False))
        if half is not None:
            return f"{place} has half of a surrogate pair, {half[0]!r}, which is not a character. Write the whole character."
    return ""


def encode_body(value: Json, name: str) -> bytes:
    """Encode the body of a request; `name` names its content in the ConfigurationError for a value that is not JSON."""
    try:
        return dumps(value)
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise ConfigurationError(f"{name} is not JSON: {problem}")


def _reveal(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def shape_error(expected: str, *, got: Json) -> ProtocolError:
    """Return the error for JSON that has another shape than `expected`."""
    return with_evidence(ProtocolError(f"expected {expected}, the server sent "), jsonio.beginning(got))


def field_of(value: Json, name: str) -> Json:
    """Return a field of a JSON object. None if `value` lacks it or is not an object."""
    return value.get(name) if isinstance(value, dict) else None


def read_list(value: Json, expected: str) -> list[Json]:
    """Return `value`, which must be a list."""
    if not isinstance(value, list):
        raise shape_error(expected, got=value)
    return value


def _text(raw: dict[str, Json], name: str, default: T, owner: str) -> str | T:
    """Return a field that is a string; `default` if it is missing or null."""
    value = raw.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise shape_error(f"{owner} whose {name} is a string", got=raw)
    return value


def read_blocks(value: Json, limits: AnswerLimits = DEFAULT_LIMITS) -> tuple[Block, ...]:
    """Read the blocks of a prompt, an output or a message."""
    if not isinstance(value, list):
        raise shape_error("a list of blocks", got=value)
    if len(value) > limits.blocks:
        raise _too_many(len(value), "blocks", "max_blocks", limits.blocks)
    blocks = tuple([_read_block(raw, limits) for raw in value])
    if len(blocks) > limits.images:
        _check_images(sum(block.type == "image" for block in blocks), limits)
    return blocks


def _too_many(count: int, things: str, option: str, limit: int) -> ProtocolError:
    return ProtocolError(f"the server sent {count:,} {things} in one answer; at most {limit:,} are read (option {option})")


def _check_images(count: int, limits: AnswerLimits) -> None:
    if count > limits.images:
        raise _too_many(count, "images", "max_images", limits.images)


def _read_block(raw: Json, limits: AnswerLimits) -> Block:
    """Read a block. One of an unknown type, or with a field of a wrong type, is kept as it came."""
    if not isinstance(raw, dict):
        raise shape_error("a block", got=raw)
    kind, detail, get = raw.get("type"), raw.get("detail"), raw.get
    if kind == "text" and isinstance(get("text"), str):
        return TextBlock(raw["text"], detail, _unknown_fields(raw, _TEXT))
    if kind == "image" and isinstance(get("data"), str) and isinstance(mime_type := get("mimeType", "image/png"), str):
        return ImageBlock(raw["data"], mime_type, detail=detail, extra=_unknown_fields(raw, _IMAGE))
    if kind == "reasoning" and isinstance(get("text"), str) and isinstance(signature := get("signature"), str | None):
        return ReasoningItem(raw["text"], signature=signature, detail=detail, extra=_unknown_fields(raw, _REASONING))
    call_id = get("id" if kind == "tool_call" else "tool_call_id")
    if not isinstance(call_id, str | None):
        return OpaqueBlock(raw)
    if kind == "tool_call" and isinstance(get("name"), str) and isinstance(get("input"), dict):
        return ToolCall(raw["name"], raw["input"], call_id or "", detail=detail, extra=_unknown_fields(raw, _TOOL_CALL))
    if kind == "tool_result" and isinstance(get("blocks"), list) and isinstance(is_error := get("is_error", False), bool):
        blocks, extra = read_blocks(raw["blocks"], limits), _unknown_fields(raw, _TOOL_RESULT)
        return ToolResult(blocks, call_id or "", is_error=is_error, detail=detail, extra=extra)
    return OpaqueBlock(raw)


def read_messages(value: Json, limits: AnswerLimits = DEFAULT_LIMITS) -> tuple[Message, ...]:
    """Read the role-tagged messages of `/messages`."""
    raw_messages = read_list(value, "a list of messages")
    if len(raw_messages) > limits.blocks:
        raise _too_many(len(raw_messages), "messages", "max_blocks", limits.blocks)
    messages = tuple([_read_message(raw, limits) for raw in raw_messages])
    lists = [message.blocks for message in messages]
    lists += [block.blocks for blocks in lists for block in blocks if isinstance(block, ToolResult)]
    if (count := sum(map(len, lists))) > limits.blocks:
        raise _too_many(count, "blocks", "max_blocks", limits.blocks)
    if count > limits.images:
        _check_images(sum(block.type == "image" for blocks in lists for block in blocks), limits)
    return messages


def _read_message(raw: Json, limits: AnswerLimits) -> Message:
    role = field_of(raw, "role")
    if role not in ("system", "user", "assistant", "tool"):
        raise shape_error("a message with a role", got=raw)
    blocks, extra = read_blocks(raw.get("blocks"), limits), _unknown_fields(raw, _MESSAGE)
    return MESSAGE_CLASSES[role](blocks, metadata=raw.get("detail"), extra=extra)


def encode_messages(messages: Iterable[Message]) -> list[Json]:
    """Return the wire's form of `messages`, with the fields of the standard alone: servers may refuse any other.

    The standard has no role `tool`: tool results belong to user messages. What a record keeps beside a message (`extra`, the
    metadata of a tool's output, a `detail` that is not an object) is left out.
    """
    return [
        {
            "role": "user" if message.role == "tool" else message.role,
            "blocks": [_encode_block(block) for block in _wire_blocks(message)],
            "detail": None if message.role == "tool" else _detail(message.metadata),
        }
        for message in messages
    ]


def _wire_blocks(message: Message) -> tuple[Block, ...]:
    """Return the blocks of a message on the wire, where a tool's answer is a block."""
    if message.role != "tool":
        return message.blocks
    return (ToolResult(message.blocks, message.call_id or "", message.name or "", message.is_error),)


def _encode_block(block: Block) -> Json:
    if isinstance(block, OpaqueBlock):
        return dict(block.raw)
    fields: dict[str, Json]
    if isinstance(block, TextBlock):
        fields = {"text": block.text}
    elif isinstance(block, ImageBlock):
        fields = {"data": block.data, "mimeType": block.mime_type}
    elif isinstance(block, ReasoningItem):
        fields = {"text": block.content or block.summary or "", "signature": block.signature}
    elif isinstance(block, ToolCall):
        fields = {"id": block.call_id, "name": block.name, "input": dict(block.arguments or {})}
    else:
        fields = {
            "tool_call_id": block.call_id,
            "blocks": [_encode_block(inner) for inner in block.blocks],
            "is_error": block.is_error,
        }
    return {"type": block.type, **fields, "detail": _detail(block.detail)}


def _detail(value: Json) -> Json:
    """Return a `detail` as the standard has it: an object or None."""
    return dict(value) if isinstance(value, Mapping) else None


def flatten_messages(messages: Sequence[Message]) -> tuple[Block, ...]:
    """Return a conversation as the blocks of one prompt, in the form in which the reference server answers `/prompt`."""
    if len(messages) == 1 and messages[0].role == "user" and all(b.type in ("text", "image") for b in messages[0].blocks):
        return messages[0].blocks
    blocks: list[Block] = []
    for message in messages:
        blocks.append(TextBlock(f"[{message.role}]", {"role": message.role}))
        for block in message.blocks:
            if isinstance(block, ReasoningItem):
                blocks.append(TextBlock(f"<think>{block.content}</think>", {"type": "reasoning"}))
            elif isinstance(block, ToolCall):
                text = f"[tool_call {block.name}] {json.dumps(block.arguments)}"
                blocks.append(TextBlock(text, {"type": "tool_call", "id": block.call_id}))
            elif isinstance(block, ToolResult):
                head = "[tool_result (error)]" if block.is_error else "[tool_result]"
                blocks.append(TextBlock(head, {"type": "tool_result", "tool_call_id": block.call_id}))
                blocks.extend(block.blocks)
            else:
                blocks.append(block)
    return tuple(blocks)


def _unknown_fields(raw: dict[str, Json], known: frozenset[str]) -> dict[str, Json]:
    if raw.keys() <= known:
        return {}
    return {name: value for name, value in raw.items() if name not in known}


def read_output(value: Json, limits: AnswerLimits = DEFAULT_LIMITS) -> ToolOutput:
    """Read the result of a call. A call that the server rejects is an output with `error`."""
    if not isinstance(value, dict) or not isinstance(value.get("ok"), bool):
        raise shape_error("the result of a call", got=value)
    if not value["ok"]:
        error = value.get("error")
        text = "" if error is None else error if isinstance(error, str) else dumps(error).decode()
        kind = _error_kind(value.get("reason"), text)
        return ToolOutput(
            (TextBlock(text),),
            finished=kind == "episode_finished",
            error=text or "the server rejected the call without a reason",
            error_kind=kind,
            extra=_unknown_fields(value, _FAILED_CALL),
        )
    output = value.get("output")
    if not isinstance(output, dict):
        raise shape_error("an output", got=value)
    reward, finished = output.get("reward"), output.get("finished", False)
    if finished is not True and finished is not False:
        raise shape_error('an output whose "finished" is true or false', got=finished)
    return ToolOutput(
        read_blocks(output.get("blocks"), limits),
        None if reward is None else _read_reward(reward, "a number or null as reward", got=reward),
        finished,
        output.get("metadata"),
        extra=_unknown_fields(output, _OUTPUT),
    )


def _read_reward(reward: Json, expected: str, *, got: Json) -> float:
    if isinstance(reward, bool) or not isinstance(reward, (int, float)):
        raise shape_error(expected, got=got)
    try:
        return float(reward)
    except OverflowError:
        return math.inf if reward > 0 else -math.inf


def _error_kind(reason: Json, text: str) -> ErrorKind:
    if reason in _ERROR_KINDS:
        kind: ErrorKind = reason
        return kind
    if reason is None:
        # Servers before 0.1.140 or so send the text alone.
        if text.startswith("Tool name collision"):
            return "name_collision"
        if text.startswith("Tool input validation error"):
            return "input_validation"
        if "is not a valid tool" in text:
            return "not_found"
    return "other"


def read_tools(value: Json) -> ToolSet:
    """Read the answer of `/tools` or `/task_tools`. Older servers send `tools` alone."""
    tools = field_of(value, "tools")
    if not isinstance(tools, list):
        raise shape_error("a list of tools", got=value)
    supports, kinds, terminal = (value.get(name) for name in ("supports_score_group", "message_block_types", "terminal_tool"))
    if not isinstance(supports, bool | None):
        raise shape_error("supports_score_group to be true, false or null", got=supports)
    if kinds is not None and not _all_texts(kinds):
        raise shape_error("a list of strings, or null, as message_block_types", got=kinds)
    return ToolSet(
        tuple([_read_tool(raw) for raw in tools]),
        None if terminal is None else _read_terminal(terminal),
        supports,
        None if kinds is None else tuple(kinds),
    )


def _all_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _read_tool(raw: Json) -> ToolSpec:
    if not isinstance(field_of(raw, "name"), str):
        raise shape_error("a tool with a name", got=raw)
    schema = raw.get("input_schema")
    if not isinstance(schema, dict | None):
        raise shape_error("a tool whose input_schema is an object or null", got=raw)
    return ToolSpec(raw["name"], _text(raw, "description", "", "a tool"), schema)


def _read_terminal(raw: Json) -> TerminalTool:
    if not isinstance(field_of(raw, "name"), str):
        raise shape_error("a terminal tool with a name", got=raw)
    owner = "a terminal tool"
    return TerminalTool(raw["name"], _text(raw, "arg", None, owner), _text(raw, "description", "", owner))


def read_environments(value: Json) -> list[str]:
    """Read the answer of `/list_environments`."""
    if not _all_texts(value):
        raise shape_error("a list of names of environments", got=value)
    return list(value)


def read_splits(value: Json) -> list[Split]:
    """Read the answer of `/splits`."""
    splits: list[Split] = []
    for raw in read_list(value, "a list of splits"):
        if isinstance(raw, str):
            splits.append(Split(raw))
        elif isinstance(field_of(raw, "name"), str):
            splits.append(Split(raw["name"], _text(raw, "type", "", "a split") or "validation"))
        else:
            raise shape_error("a split with a name", got=raw)
    return splits


def read_num_tasks(value: Json) -> int:
    """Read the answer of `/num_tasks`."""
    count = field_of(value, "num_tasks")
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MOST_TASKS:
        raise shape_error(f"a number of tasks from 0 to {MOST_TASKS:,}", got=value)
    return count


def read_task(value: Json) -> dict[str, Json]:
    """Read the answer of `/task`: the task's spec."""
    spec = field_of(value, "task")
    if not isinstance(spec, dict):
        raise shape_error("a task", got=value)
    return spec


def read_tasks(value: Json) -> list[dict[str, Json]]:
    """Read the answer of `/tasks` or `/task_range`: the specs of the tasks."""
    specs = field_of(value, "tasks")
    if not isinstance(specs, list) or not all(isinstance(spec, dict) for spec in specs):
        raise shape_error("a list of tasks", got=value)
    return specs


def read_session_id(data: bytes, announced: str | None, limits: AnswerLimits = DEFAULT_LIMITS) -> str:
    """Return the id of a created session: the `sid` in `data`, the JSON of the stream's end, or else the one `announced`."""
    value = loads(data, limits) if data.strip() else None
    session_id = field_of(value, "sid")
    if session_id is None or session_id == "":
        session_id = announced
    if session_id is None:
        raise ProtocolError("the server created a session and did not send its id")
    if not isinstance(session_id, str) or not is_id(session_id):
        raise shape_error(f"an id of a session of at most {LONGEST_ID} printable ASCII characters", got=session_id)
    return session_id


@dataclass(frozen=True, slots=True)
class GroupCandidate:
    """One rollout of a group that the environment compares.

    Attributes:
        messages: The rollout's conversation.
        metadata: Data of the caller's own for the environment's scoring function.

    Example:
        >>> from openreward_gym import AssistantMessage
        >>> candidate = GroupCandidate([AssistantMessage("42")], metadata={"sample": 0})
    """

    messages: Sequence[Message]
    metadata: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class GroupScore:
    """The comparative reward of one candidate.

    Attributes:
        reward: The reward.
        metadata: The environment's data about it. None if it sent none.
    """

    reward: float
    metadata: Json = None


def encode_group(group: Sequence[GroupCandidate]) -> bytes:
    """Encode the body of `/score_group` as strict JSON: numbers that are not finite are texts, as in a record."""
    candidates = [{"messages": encode_messages(entry.messages), "metadata": _detail(entry.metadata)} for entry in group]
    return encode_body({"candidates": jsonio.finite(candidates)}, "the group")


def unsupported_blocks(group: Sequence[GroupCandidate], tools: ToolSet) -> set[str]:
    """Return the block types in `group` that the server does not accept. Servers without a list accept text and images."""
    used = {block.type for entry in group for message in entry.messages for block in _wire_blocks(message)}
    return used - set(tools.message_block_types or ("text", "image"))


def read_scores(value: Json, count: int) -> list[GroupScore]:
    """Read the answer of `/score_group` for `count` candidates."""
    scores = field_of(value, "scores")
    if not isinstance(scores, list) or len(scores) != count:
        raise shape_error(f"{count} scores", got=value)
    rewards = [_read_reward(field_of(score, "reward"), "a score with a reward", got=score) for score in scores]
    return [GroupScore(reward, score.get("metadata")) for reward, score in zip(rewards, scores, strict=True)]


def read_detail(body: bytes, redact: Redactor) -> str:
    """Return a server's message about an error: FastAPI's `detail`, the platform's `message`, or the body's text."""
    try:
        value = loads(body) if body else ""
    except ProtocolError:
        if body.lstrip()[:1] == b"<":
            return f"{HTML_PAGE}: {redact.quote(_markup.sub(b' ', body[:HTML_BYTES]), limit=80)}"
        return redact.quote(body)
    if isinstance(value, dict):
        value = value.get("detail") or value.get("message") or value.get("error") or value
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return redact.quote(exception_words(text), limit=1000)


def exception_words(text: str) -> str:
    """Return the exception at the end of a Python traceback, "ValueError: no city"; another text unchanged.

    The official server sends the whole traceback if it is told so, and its beginning, the frames of the server, says nothing.

    Example:
        >>> exception_words('Traceback (most recent call last):\\n  File "a.py", line 3, in f\\n    g()\\nKeyError: 1\\n')
        'KeyError: 1'
    """
    if not text.startswith("Traceback (most recent call last):"):
        return text
    lines = text.rstrip().split("\n")
    last_frame = max((number for number, line in enumerate(lines) if line.startswith('  File "')), default=0)
    end = next((number for number in range(last_frame + 1, len(lines)) if lines[number][:1].strip()), None)
    return text if end is None else "\n".join(lines[end:])


def status_error(request: str, status: int, body: bytes, headers: Mapping[str, str], redact: Redactor) -> ServerError:
    """Return the error for a status from 300. `request` is the method and path; names of headers are in lower case."""
    detail = read_detail(body, redact)
    reason = detail or "no reason given"
    if status in (401, 403):
        return AuthenticationError(
            f"the server rejects {request} with {status}: {reason}. Set the environment variable of the API key "
            "(OPENREWARD_API_KEY), or check the key's permissions.",
            status=status,
            detail=detail,
        )
    if status < 400:
        target = redact.quote(headers.get("location", "an unknown address"))
        reason = f"it redirects to {target!r}. If that is the right server, give its address instead"
    return ServerError(
        f"the server answered {request} with {status}: {reason}",
        status=status,
        detail=detail,
        retry_after_s=_retry_after(headers),
        starting=status == 503 and headers.get("x-backend-state", "").strip().lower() == "starting",
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a `Retry-After` header, a number or a date (RFC 9110, 10.2.3). None if it has neither."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds: float | None = float(value)
    except ValueError:
        seconds = seconds_until(value, headers.get("date"), time.time())
    return min(seconds, LONGEST_WAIT_S) if seconds is not None and seconds >= 0 else None


def is_id(text: str) -> bool:
    """Return True if a header can carry an id of a session or a run."""
    return 0 < len(text) <= LONGEST_ID and text.isascii() and text.isprintable() and text == text.strip()
