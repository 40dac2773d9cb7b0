"""The request that an answer repeats, as facts of the rollout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openreward_gym.chat import from_openai_responses
from openreward_gym.chat.plain import list_at, object_at, text_at
from openreward_gym.jsonio import Json
from openreward_gym.types import Message, Rollout, SystemMessage, ToolSpec

# Parameters that our records name otherwise.
_NAMES = {"max_output_tokens": "max_tokens"}
_TOOL_NAMES = {"computer_use_preview": "computer"}
# Tools that the client runs. Those of other types, such as web_search, run at the provider.
_CLIENT_TOOLS = ("function", "custom", "computer", "computer_use_preview", "shell", "local_shell", "apply_patch")


def add_request(rollout: Rollout, message: Message) -> Message:
    """Put the request in a message's `sampled.metadata` into the rollout; return the message with the values that differ.

    Args:
        rollout: The rollout. Its `tools`, `sampling` and first messages are set where they are missing.
        message: The message, with `request` in `sampled.metadata`.
    """
    assert message.sampled is not None
    metadata = dict(message.sampled.metadata or {})
    rest = _differing(rollout, dict(metadata.pop("request")))
    if rest:
        metadata["request"] = rest
    return message.replace(sampled=replace(message.sampled, metadata=metadata or None))


def _differing(rollout: Rollout, request: dict[str, Any]) -> dict[str, Json]:
    """Put what the rollout lacks into it, and return the rest. All is read first, so that a wrong value changes nothing."""
    rest: dict[str, Json] = {}
    tools, instructions = list_at(request, "tools", Mapping), _instructions(request.get("instructions"))
    own = [tool for tool in tools if tool.get("type", "function") in _CLIENT_TOOLS]
    specs = [_tool(tool) for tool in own]
    known = [message.text for message in rollout.messages if message.role == "system"]
    if not known:
        rollout.messages[:0] = instructions
    elif any(message.role != "system" or message.text not in known for message in instructions):
        rest["instructions"] = request["instructions"]
    if own and rollout.tools is None:
        rollout.tools = specs
    elif own and {spec.name: spec.input_schema for spec in specs} != {t.name: t.input_schema for t in rollout.tools or ()}:
        rest["tools"] = own
    request |= {"instructions": [], "tools": [], "hosted_tools": [tool for tool in tools if tool not in own]}
    for name, value in request.items():
        key = _NAMES.get(name, name)
        sampling = rollout.sampling or {}
        if value in ({}, []):
            continue
        if key not in sampling:
            rollout.sampling = {**sampling, key: value}
        elif sampling[key] != value:
            rest[name] = value
    return rest


def _instructions(instructions: Json) -> list[Message]:
    if not instructions:
        return []
    if isinstance(instructions, str):
        return [SystemMessage(instructions, origin="given")]
    return [message.replace(origin="given") for message in from_openai_responses(instructions)]


def _tool(tool: Mapping[str, Json]) -> ToolSpec:
    kind = str(tool.get("type", "function"))
    known = ("name", "description", "parameters", *(["type"] if kind == "function" else []))
    rest = {key: value for key, value in tool.items() if key not in known and value is not None}
    name = str(tool.get("name") or _TOOL_NAMES.get(kind, kind))
    schema = None if tool.get("parameters") is None else dict(object_at(tool, "parameters"))
    return ToolSpec(name, text_at(tool, "description") or "", schema, extra={"openai": rest} if rest else {})
