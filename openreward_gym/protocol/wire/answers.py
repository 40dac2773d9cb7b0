"""What a server answers besides blocks and messages: a call's output, tools, splits, and why it says no."""

from __future__ import annotations

import json
import re

from openreward_gym.errors import ProtocolError
from openreward_gym.protocol.wire.exact_json import dumps, excerpt, expected, loads
from openreward_gym.protocol.wire.messages import read_blocks, unknown_fields
from openreward_gym.types import ErrorKind, Json, Split, TerminalTool, TextBlock, ToolOutput, ToolSet, ToolSpec

# The fields that this version knows: of a call's refusal and of its output.
_REFUSAL = frozenset(("ok", "error", "reason"))
_OUTPUT = frozenset(("blocks", "reward", "finished", "metadata"))

_ERROR_KINDS: tuple[ErrorKind, ...] = ("not_found", "name_collision", "input_validation", "episode_finished")

HTML_PAGE = "an HTML page"
"""How the detail of a refusal begins that a web server's own page is, and not an answer of the standard."""
LOOKED_AT = 1 << 16
"""Bytes of such a page that are read."""
_markup = re.compile(rb"<(style|script)\b.*?</\1>|<[^>]*>?", re.DOTALL | re.IGNORECASE)


def read_output(value: Json) -> ToolOutput:
    """The result of a call. A wrong call is an output with `error`.

    Raises:
        ProtocolError: It is neither a result nor an error.
    """
    if not isinstance(value, dict) or not isinstance(value.get("ok"), bool):
        raise expected("the result of a call", got=value)
    if not value["ok"]:
        error = value.get("error")
        text = error if isinstance(error, str) else dumps(error).decode("ascii")
        kind = _error_kind(value.get("reason"), text)
        return ToolOutput(
            (TextBlock(text),),
            finished=kind == "episode_finished",
            error=text or "the server refused the call and gave no reason",
            error_kind=kind,
            extra=unknown_fields(value, _REFUSAL),
        )
    output = value.get("output")
    if not isinstance(output, dict):
        raise expected("an output", got=value)
    reward = output.get("reward")
    if reward is not None and (isinstance(reward, bool) or not isinstance(reward, int | float)):
        raise expected("a number or null as reward", got=reward)
    return ToolOutput(
        read_blocks(output.get("blocks")),
        None if reward is None else _as_float(reward),
        output.get("finished") is True,
        output.get("metadata"),
        extra=unknown_fields(output, _OUTPUT),
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
        raise expected("a list of tools", got=value)
    supports, kinds = value.get("supports_score_group"), value.get("message_block_types")
    return ToolSet(
        tuple([_read_tool(raw) for raw in tools]),
        _read_terminal(value.get("terminal_tool")),
        supports if isinstance(supports, bool) else None,
        tuple([str(kind) for kind in kinds]) if isinstance(kinds, list) else None,
    )


def _read_tool(raw: Json) -> ToolSpec:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        raise expected("a tool with a name", got=raw)
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
        raise expected("a list of splits", got=value)
    splits: list[Split] = []
    for raw in value:
        if isinstance(raw, str):
            splits.append(Split(raw))
        elif isinstance(raw, dict) and isinstance(raw.get("name"), str):
            splits.append(Split(raw["name"], str(raw.get("type") or "validation")))
        else:
            raise expected("a split with a name", got=raw)
    return splits


def read_detail(body: bytes) -> str:
    """What a server said with a status that says no: FastAPI's `detail`, the platform's `message`, or the text itself."""
    try:
        value = loads(body) if body else ""
    except ProtocolError:
        if body.lstrip()[:1] == b"<":
            return f"{HTML_PAGE}: {excerpt(_markup.sub(b' ', body[:LOOKED_AT]), limit=80)}"
        return excerpt(body)
    if isinstance(value, dict):
        value = value.get("detail") or value.get("message") or value.get("error") or value
    return excerpt(value if isinstance(value, str) else json.dumps(value, default=str), limit=1000)
