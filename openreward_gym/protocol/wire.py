"""The Open Reward Standard's JSON and headers, read and written. No I/O.

What a newer server adds is kept: unknown fields in `extra`, unknown block types as `OpaqueBlock`. What cannot be read at all
is a `ProtocolError`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from openreward_gym.errors import ProtocolError
from openreward_gym.types import (
    Block,
    ErrorKind,
    ImageBlock,
    Json,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Role,
    Split,
    TerminalTool,
    TextBlock,
    ToolCall,
    ToolOutput,
    ToolResult,
    ToolSet,
    ToolSpec,
)

__all__ = [
    "Secret",
    "dumps",
    "encode_messages",
    "excerpt",
    "flatten_messages",
    "hide",
    "loads",
    "read_blocks",
    "read_detail",
    "read_messages",
    "read_output",
    "read_splits",
    "read_tools",
    "secrets_header",
]

_LARGEST_EXACT = 9.2e18
"""Below the smallest integer that orjson turns into a float (integers of more than 64 bits)."""

SHORTEST_SECRET = 4
"""Shorter texts are not hidden: they would be found in ordinary words, and guessed anyway."""

# The fields that this version knows: of blocks, of messages, of a call's refusal and of its output.
_TEXT = frozenset(("type", "text", "detail"))
_IMAGE = frozenset(("type", "data", "mimeType", "detail"))
_REASONING = frozenset(("type", "text", "signature", "detail"))
_TOOL_CALL = frozenset(("type", "id", "name", "input", "detail"))
_TOOL_RESULT = frozenset(("type", "tool_call_id", "blocks", "is_error", "detail"))
_MESSAGE = frozenset(("role", "blocks", "detail"))
_REFUSAL = frozenset(("ok", "error", "reason"))
_OUTPUT = frozenset(("blocks", "reward", "finished", "metadata"))

_ERROR_KINDS: tuple[ErrorKind, ...] = ("not_found", "name_collision", "input_validation", "episode_finished")


class Secret:
    """A text that no repr, log or pickle shows. The transport alone reads it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret is not pickled: pass the name of its environment variable")


def hide(text: str, secrets: Iterable[Secret]) -> str:
    """`text` without the secrets: what a server answers may repeat what it was sent."""
    for secret in secrets:
        value = secret.reveal()
        if len(value) >= SHORTEST_SECRET and value in text:
            text = text.replace(value, "[secret]")
    return text


# JSON ---------------------------------------------------------------------------------------------------------------------


def loads(data: bytes) -> Json:
    """The JSON value of `data`, exactly: integers of any size, lone surrogates.

    orjson is ten times faster than json, but turns integers of more than 64 bits into floats and refuses lone surrogates and
    NaN; those few go to json.

    Raises:
        ProtocolError: It is not JSON.
    """
    try:
        value = orjson.loads(data)
        if not _has_huge_float(value):
            return value
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        problem = ProtocolError(f"the server sent something that is not JSON ({reason}): {excerpt(data)}")
    raise problem


def dumps(value: Json) -> bytes:
    """`value` as JSON in ASCII, so that lone surrogates and big integers arrive as they are.

    Raises:
        ValueError, TypeError: It has no JSON form.
    """
    try:
        return _encode(value).encode("ascii")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _reveal(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"{type(value).__name__} has no JSON form")


# Made once: `json.dumps` makes an encoder at each call.
_encode = json.JSONEncoder(separators=(",", ":"), default=_reveal).encode


def excerpt(data: bytes | str, limit: int = 200) -> str:
    """The beginning of `data` on one line, for an error message."""
    text = data[: limit * 4].decode("utf-8", "replace") if isinstance(data, bytes) else data
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:limit]}…"


def read_detail(body: bytes) -> str:
    """What a server said with a status that says no: FastAPI's `detail`, the platform's `message`, or the text itself."""
    try:
        value = loads(body) if body else ""
    except ProtocolError:
        return excerpt(body)
    if isinstance(value, dict):
        value = value.get("detail") or value.get("message") or value.get("error") or value
    return excerpt(value if isinstance(value, str) else json.dumps(value, default=str), limit=1000)


def _has_huge_float(value: Json) -> bool:
    """Whether there is a float that may have been an integer."""
    pending = [value]
    for item in pending:  # which grows meanwhile
        kind = type(item)
        if kind is dict:
            pending += item.values()
        elif kind is list:
            pending += item
        elif kind is float and not -_LARGEST_EXACT < item < _LARGEST_EXACT:
            return True
    return False


# Headers ------------------------------------------------------------------------------------------------------------------


def secrets_header(secrets: Mapping[str, Secret], domains: Mapping[str, Sequence[str]]) -> Secret:
    """The value of `X-Secrets`: base64 of `{name: {"value": ..., "allowed_domains": [...]}}`.

    Args:
        secrets: Name to value.
        domains: Name to the hosts that may see the value; a name without them is sent without.
    """
    payload: dict[str, Json] = {}
    for name, value in secrets.items():
        payload[name] = {"value": value}
        if name in domains:
            payload[name]["allowed_domains"] = list(domains[name])
    return Secret(base64.b64encode(dumps(payload)).decode("ascii"))


# Blocks and messages ------------------------------------------------------------------------------------------------------


def read_blocks(value: Json) -> tuple[Block, ...]:
    """The blocks of a prompt, an output or a message.

    Raises:
        ProtocolError: It is not a list of objects.
    """
    if not isinstance(value, list):
        raise ProtocolError(f"expected a list of blocks, the server sent {excerpt(repr(value))}")
    return tuple([_read_block(raw) for raw in value])


def _read_block(raw: Json) -> Block:
    if not isinstance(raw, dict):
        raise ProtocolError(f"expected a block, the server sent {excerpt(repr(raw))}")
    kind = raw.get("type")
    detail = raw.get("detail")
    if kind == "text" and isinstance(raw.get("text"), str):
        return TextBlock(raw["text"], detail, _rest(raw, _TEXT))
    if kind == "image" and isinstance(raw.get("data"), str):
        mime_type = raw.get("mimeType")
        return ImageBlock(
            raw["data"],
            mime_type if isinstance(mime_type, str) else "image/png",
            detail,
            _rest(raw, _IMAGE),
        )
    if kind == "reasoning" and isinstance(raw.get("text"), str):
        signature = raw.get("signature")
        return ReasoningItem(
            raw["text"],
            signature=signature if isinstance(signature, str) else None,
            detail=detail,
            extra=_rest(raw, _REASONING),
        )
    if kind == "tool_call" and isinstance(raw.get("name"), str) and isinstance(raw.get("input"), dict):
        return ToolCall(
            raw["name"],
            raw["input"],
            str(raw.get("id") or ""),
            detail=detail,
            extra=_rest(raw, _TOOL_CALL),
        )
    if kind == "tool_result" and isinstance(raw.get("blocks"), list):
        return ToolResult(
            read_blocks(raw["blocks"]),
            str(raw.get("tool_call_id") or ""),
            is_error=bool(raw.get("is_error")),
            detail=detail,
            extra=_rest(raw, _TOOL_RESULT),
        )
    return OpaqueBlock(raw)


def read_messages(value: Json) -> tuple[Message, ...]:
    """The role-tagged messages of `/messages`.

    Raises:
        ProtocolError: It is not a list of messages.
    """
    if not isinstance(value, list):
        raise ProtocolError(f"expected a list of messages, the server sent {excerpt(repr(value))}")
    return tuple([_read_message(raw) for raw in value])


def _read_message(raw: Json) -> Message:
    role: Json = raw.get("role") if isinstance(raw, dict) else None
    if role not in ("system", "user", "assistant", "tool"):
        raise ProtocolError(f"expected a message with a role, the server sent {excerpt(repr(raw))}")
    checked: Role = role
    return Message(checked, read_blocks(raw.get("blocks")), raw.get("detail"), _rest(raw, _MESSAGE))


def encode_messages(messages: Iterable[Message]) -> list[Json]:
    """`messages` as the wire has them: tool results ride in user turns, there is no role `tool`."""
    return [
        {
            **message.extra,
            "role": "user" if message.role == "tool" else message.role,
            "blocks": [_encode_block(block) for block in message.blocks],
            "detail": message.detail,
        }
        for message in messages
    ]


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
    return {**block.extra, "type": block.type, **fields, "detail": block.detail}


def flatten_messages(messages: Sequence[Message]) -> tuple[Block, ...]:
    """A conversation as the blocks of one prompt, as the reference server writes it for those who ask for `/prompt`."""
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


def _rest(raw: dict[str, Json], known: frozenset[str]) -> dict[str, Json]:
    """The fields of `raw` that this version does not know."""
    if raw.keys() <= known:
        return {}
    return {name: value for name, value in raw.items() if name not in known}


# Outputs, tools, splits ---------------------------------------------------------------------------------------------------


def read_output(value: Json) -> ToolOutput:
    """The result of a call. A wrong call is an output with `error`.

    Raises:
        ProtocolError: It is neither a result nor an error.
    """
    if not isinstance(value, dict) or not isinstance(value.get("ok"), bool):
        raise ProtocolError(f"expected the result of a call, the server sent {excerpt(repr(value))}")
    if not value["ok"]:
        error = value.get("error")
        text = error if isinstance(error, str) else dumps(error).decode("ascii")
        kind = _error_kind(value.get("reason"), text)
        return ToolOutput(
            (TextBlock(text),),
            finished=kind == "episode_finished",
            error=text or "the server refused the call and gave no reason",
            error_kind=kind,
            extra=_rest(value, _REFUSAL),
        )
    output = value.get("output")
    if not isinstance(output, dict):
        raise ProtocolError(f"expected an output, the server sent {excerpt(repr(value))}")
    reward = output.get("reward")
    if reward is not None and (isinstance(reward, bool) or not isinstance(reward, int | float)):
        raise ProtocolError(f"expected a number or null as reward, the server sent {excerpt(repr(reward))}")
    return ToolOutput(
        read_blocks(output.get("blocks")),
        None if reward is None else _as_float(reward),
        output.get("finished") is True,
        output.get("metadata"),
        extra=_rest(output, _OUTPUT),
    )


def _as_float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _error_kind(reason: Json, text: str) -> ErrorKind:
    for kind in _ERROR_KINDS:
        if reason == kind:
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
    """The answer of `/tools` and `/task_tools`; older servers send `tools` alone.

    Raises:
        ProtocolError: It is not a tool list.
    """
    tools = value.get("tools") if isinstance(value, dict) else None
    if not isinstance(tools, list):
        raise ProtocolError(f"expected a list of tools, the server sent {excerpt(repr(value))}")
    supports, kinds = value.get("supports_score_group"), value.get("message_block_types")
    return ToolSet(
        tuple([_read_tool(raw) for raw in tools]),
        _read_terminal(value.get("terminal_tool")),
        supports if isinstance(supports, bool) else None,
        tuple([str(kind) for kind in kinds]) if isinstance(kinds, list) else None,
    )


def _read_tool(raw: Json) -> ToolSpec:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        raise ProtocolError(f"expected a tool with a name, the server sent {excerpt(repr(raw))}")
    schema = raw.get("input_schema")
    return ToolSpec(raw["name"], str(raw.get("description") or ""), schema if isinstance(schema, dict) else None)


def _read_terminal(raw: Json) -> TerminalTool | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        return None
    arg = raw.get("arg")
    return TerminalTool(raw["name"], arg if isinstance(arg, str) else None, str(raw.get("description") or ""))


def read_splits(value: Json) -> list[Split]:
    """The answer of `/splits`.

    Raises:
        ProtocolError: It is not a list of splits.
    """
    if not isinstance(value, list):
        raise ProtocolError(f"expected a list of splits, the server sent {excerpt(repr(value))}")
    splits: list[Split] = []
    for raw in value:
        if isinstance(raw, str):
            splits.append(Split(raw))
        elif isinstance(raw, dict) and isinstance(raw.get("name"), str):
            splits.append(Split(raw["name"], str(raw.get("type") or "validation")))
        else:
            raise ProtocolError(f"expected a split with a name, the server sent {excerpt(repr(raw))}")
    return splits
