"""Messages and tools as Inspect's types, and the parts of a record that Inspect has no field for."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentImage,
    ContentReasoning,
    ContentText,
)
from inspect_ai.tool import ToolCall, ToolInfo, ToolParam, ToolParams
from pydantic import PrivateAttr, ValidationError

from openreward_gym.importers.inspect_logs import DETAILS, MARK, MARKED
from openreward_gym.types import Block, ImageBlock, Json, Message, ReasoningItem, Rollout, TextBlock, ToolSet, codec

_FIELDS = frozenset(ToolParam.model_fields)
_DEEPEST = 32
"""Levels of a schema that are written in Inspect's types. A schema that refers to itself has no end."""


def chat_message(message: Message) -> ChatMessage:
    """Return a message of the environment, or of its prompt, as Inspect's.

    Example:
        >>> from openreward_gym.types import UserMessage
        >>> asked = chat_message(UserMessage("How warm is it?", origin="given"))
        >>> asked.role, asked.text, asked.source
        ('user', 'How warm is it?', 'input')
    """
    written = codec.write(message)
    mark = {name: written[name] for name in MARKED if name in written}
    details = [getattr(block, "detail", None) for block in message.blocks]
    if any(detail is not None for detail in details):
        mark[DETAILS] = details
    common: dict[str, Any] = {
        "content": _content(message),
        "source": "input" if message.origin == "given" else None,
        "metadata": {MARK: mark},
    }
    if message.role == "system":
        return ChatMessageSystem(**common)
    if message.role == "tool":
        return ChatMessageTool(**common, tool_call_id=message.call_id or None, function=message.name)
    if message.role == "assistant":
        calls = [ToolCall(call.call_id, call.name, dict(call.arguments or {})) for call in message.tool_calls]
        return ChatMessageAssistant(**common, tool_calls=calls or None)
    return ChatMessageUser(**common)


def _content(message: Message) -> str | list[ContentText | ContentImage | ContentReasoning]:
    if all(isinstance(block, TextBlock) for block in message.blocks) and len(message.blocks) < 2:
        return message.text
    return [part for block in message.blocks if (part := _part(block)) is not None]


def _part(block: Block) -> ContentText | ContentImage | ContentReasoning | None:
    """Return a block as a part of Inspect's content. Calls have a field of their own; other blocks have no form there."""
    if isinstance(block, TextBlock):
        return ContentText(text=block.text)
    if isinstance(block, ImageBlock):
        return ContentImage(image=f"data:{block.mime_type};base64,{block.data}")
    if isinstance(block, ReasoningItem) and (block.content or block.summary):
        return ContentReasoning(reasoning=block.content or "", summary=block.summary, signature=block.signature)
    return None


def record_mark(rollout: Rollout, logged: int) -> dict[str, Json]:
    """Return the record of an episode without the first `logged` messages, which the log has.

    A limit on messages keeps the answer to the last call out of the log.

    Example:
        >>> record_mark(Rollout(status="completed", id="r", reward=1.0), 0)["reward"]
        1.0
    """
    return replace(rollout, messages=rollout.messages[logged:]).to_dict()


def tool_infos(tools: ToolSet) -> list[ToolInfo]:
    """Return the tools as Inspect's, with the environment's own JSON Schemas.

    Example:
        >>> from openreward_gym.types import ToolSpec
        >>> schema = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Lima"]}}, "required": ["city"]}
        >>> tool_infos(ToolSet((ToolSpec("look", "Look.", schema),)))[0].parameters.model_dump(exclude_none=True) == schema
        True
    """
    return [
        ToolInfo(name=tool.name, description=tool.description, parameters=ExactParams.of(tool.input_schema)) for tool in tools
    ]


class ExactParams(ToolParams):  # type: ignore[misc]  # the types of Inspect are not read
    """Parameters of a tool whose dump is the environment's own schema, with keywords that Inspect's types do not have.

    Inspect's fields say the same as far as they can: references are resolved, `const` is an `enum` of one value and `oneOf` an
    `anyOf`. A log shows these. Model providers get the dump.

    Example:
        >>> schema = {"type": "object", "properties": {"n": {"const": 1}}, "minProperties": 1}
        >>> ExactParams.of(schema).model_dump() == schema, ExactParams.of(schema).properties["n"].enum
        (True, [1])
    """

    _schema: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(cls, schema: Mapping[str, Json] | None) -> ExactParams:
        """Return the parameters with this schema. None is a tool without parameters."""
        exact: dict[str, Any] = {"type": "object", "properties": {}} if schema is None else deepcopy(dict(schema))
        root = _resolved(exact, exact, 0)
        own = root.get("properties")
        required = root.get("required")
        rest = root.get("additionalProperties")
        params = cls(
            properties={name: _param(value) for name, value in own.items()} if isinstance(own, dict) else {},
            required=[name for name in required if isinstance(name, str)] if isinstance(required, list) else [],
            additionalProperties=_param(rest) if isinstance(rest, dict) else rest if isinstance(rest, bool) else None,
        )
        params._schema = exact
        return params

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Return the environment's schema. Options do not change it."""
        return deepcopy(self._schema)


def _param(schema: Any) -> ToolParam:
    """Return a resolved schema in Inspect's type, without what the type refuses."""
    data = {name: value for name, value in schema.items() if name in _FIELDS} if isinstance(schema, dict) else {}
    try:
        return ToolParam.model_validate(data)
    except ValidationError as error:
        refused = {problem["loc"][0] for problem in error.errors()}
        return ToolParam.model_validate({name: value for name, value in data.items() if name not in refused})


def _resolved(schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    """Return a schema without references, in the keywords of Inspect's type where they say the same."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return {}
    target = _target(schema.get("$ref"), root)
    if target is not None:
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        return _resolved({**target, **beside}, root, depth + 1)
    result = dict(schema)
    if "const" in schema and "enum" not in schema:
        result["enum"] = [schema["const"]]
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(alternatives, list):
        result["anyOf"] = [_resolved(one, root, depth + 1) for one in alternatives]
    if isinstance(properties := schema.get("properties"), dict):
        result["properties"] = {name: _resolved(value, root, depth + 1) for name, value in properties.items()}
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            result[name] = _resolved(schema[name], root, depth + 1)
    return result


def _target(reference: Any, root: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema that a reference inside the same document names."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    place: Any = root
    for part in reference[2:].split("/"):
        place = place.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(place, Mapping) else None
    return place if isinstance(place, dict) else None
