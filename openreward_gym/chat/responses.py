"""OpenAI responses: a flat list of items, in and out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from openreward_gym.chat.completions import usage_of
from openreward_gym.chat.dialect import (
    Dialect,
    assistant,
    content_of,
    ended_of,
    image_of_url,
    opaque,
    tool_call,
    written_role,
)
from openreward_gym.chat.plain import as_list, json_text, plain, rest_of
from openreward_gym.images import data_url
from openreward_gym.jsonio import Json
from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Role,
    Sampled,
    SystemMessage,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolResult,
    text_of,
)

_ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_CALLS: Mapping[str, str] = {"function_call": "arguments", "custom_tool_call": "input"}
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_TEXTS = ("input_text", "output_text", "text")
_PARTS = ("refusal", "input_image", "input_file", "input_audio")


class OpenAIResponsesDialect(Dialect):
    """The format of OpenAI's Responses API.

    Example:
        >>> items = [{"type": "reasoning", "id": "r", "summary": []}, {"role": "assistant", "content": "Hi"}]
        >>> [len(message.blocks) for message in OpenAIResponsesDialect().read(items)]
        [2]
    """

    provider = "openai"

    def is_message(self, data: Mapping[str, Json]) -> bool:
        if self._is_response(data):
            return True
        content = data.get("content")
        if "role" not in data or not isinstance(content, list):
            return False
        return any(isinstance(part, dict) and part.get("type") == "output_text" for part in content)

    def is_part(self, data: Mapping[str, Json]) -> bool:
        return data.get("type") in ("reasoning", *_CALLS)

    def read(self, messages: Any, *, system: Any = None) -> list[Message]:
        turns: list[Message] = [] if system is None else [SystemMessage(self.read_content(plain(system)))]
        for is_turn, group in groupby(as_list(plain(messages)), self._is_of_turn):
            items = list(group)
            turns += [self._turn(items)] if is_turn else [self.read_message(item) for item in items]
        return turns

    def _is_response(self, data: Mapping[str, Json]) -> bool:
        return isinstance(data.get("output"), list) and "role" not in data and data.get("type") is None

    def _is_of_turn(self, item: Json) -> bool:
        """Return whether an item is part of an assistant's turn, not a response or a message of another role."""
        if isinstance(item, str):
            return False
        if not isinstance(item, Mapping):
            raise TypeError(f"an item is a dictionary or an SDK object, not {type(item).__name__}")
        if self._is_response(item) or item.get("type") in _OUTPUTS:
            return False
        role = item.get("role")
        return role not in _ROLES or role == "assistant" or item.get("type", "message") != "message"

    def read_message(self, data: Json) -> Message:
        if isinstance(data, str):
            return Message("user", tuple(self.read_content(data)))
        if self._is_of_turn(data):
            return self._turn([data])
        if self._is_response(data):
            return self._response(data)
        if data.get("type") in _OUTPUTS:
            return self._tool_message(data)
        rest = rest_of(data, "role", "content", "type")
        if data["role"] == "developer":
            rest["role"] = "developer"
        return Message(_ROLES[data["role"]], tuple(self.read_content(data.get("content"))), metadata=rest or None)

    def _turn(self, items: Sequence[Mapping[str, Json]]) -> AssistantMessage:
        """Return the assistant message of neighbouring items. It is complete if its last item is."""
        blocks = [block for item in items for block in self.read_part(item)]
        # Of an incomplete item only the response tells why.
        ended = ended_of("completed", blocks) if items[-1].get("status") == "completed" else None
        return AssistantMessage(blocks, ended=ended)

    def _response(self, data: Mapping[str, Json]) -> AssistantMessage:
        incomplete = data.get("incomplete_details")
        sampled = Sampled(
            usage=usage_of(data.get("usage"), "input", "output"),
            stop_reason=(incomplete or {}).get("reason") or data.get("status"),
            model=data.get("model"),
            metadata={"id": data["id"]} if data.get("id") else None,
        )
        return assistant([block for item in data["output"] for block in self.read_part(item)], sampled, {})

    def read_object(self, data: Mapping[str, Json]) -> list[Block]:
        """Read an item of the assistant, or an entry of a message's content."""
        kind = data.get("type")
        if isinstance(kind, str) and kind in _CALLS and isinstance(data.get("name"), str):
            return [self._call(data, kind)]
        if kind == "reasoning":
            return [self._reasoning(data)]
        if data.get("role") == "assistant" and kind in (None, "message"):
            return self._message_blocks(data)
        if data.get("type", "text") in _TEXTS and isinstance(data.get("text"), str):
            rest = {key: value for key, value in rest_of(data, "type", "text").items() if value != []}
            return [TextBlock(data["text"], extra=self.keep(rest))]
        if kind == "input_image":
            return [image_of_url(data.get("image_url"), self.keep(rest_of(data, "type", "image_url"))) or opaque(data)]
        return [opaque(data)]

    def _message_blocks(self, data: Mapping[str, Json]) -> list[Block]:
        blocks = self.read_content(data.get("content"))
        rest = rest_of(data, "role", "content", "type")
        if rest and blocks and isinstance(blocks[0], TextBlock):
            # The item's own id and status are kept with its first part, so that the item can be written again.
            blocks[0] = replace(blocks[0], extra=self.keep({**self.kept(blocks[0]), "item": rest}))
        return blocks

    def _call(self, item: Mapping[str, Json], kind: str) -> ToolCall:
        rest = rest_of(item, "type", "name", "call_id", _CALLS[kind])
        if kind != "function_call":
            rest["type"] = kind
        return tool_call(item["name"], item.get(_CALLS[kind], ""), item.get("call_id"), self.keep(rest))

    def _reasoning(self, item: Mapping[str, Json]) -> ReasoningItem:
        rest = rest_of(item, "type", "id", "content", "summary")
        texts: dict[str, str | None] = {}
        for name in ("content", "summary"):
            parts = [part.get("text", "") for part in item.get(name) or () if isinstance(part, Mapping)]
            texts[name] = "\n".join(parts) if parts else None
            if len(parts) > 1:
                rest[name] = item[name]  # The parts are joined to be read, and kept to be written again.
        return ReasoningItem(texts["content"], item.get("id"), texts["summary"], extra=self.keep(rest))

    def _tool_message(self, item: Mapping[str, Json]) -> ToolMessage:
        output = item.get("output")
        rest = rest_of(item, "type", "call_id", "output")
        if item["type"] != _OUTPUTS[0]:
            rest["type"] = item["type"]
        content = self.read_content(output) if isinstance(output, list) else json_text(output)
        return ToolMessage(content, str(item.get("call_id") or ""), metadata=self.keep(rest) or None)

    def write(self, messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
        return None, [item for message in messages for item in self._write_message(message)]

    def _write_message(self, message: Message) -> list[dict[str, Json]]:
        items: list[dict[str, Json]] = []
        parts: list[Block] = []
        role = written_role(message)

        def flush() -> None:
            if parts:
                rest = self.kept(parts[0]).get("item", {}) if isinstance(parts[0], TextBlock) else {}
                content = [self._write_content_part(role, part) for part in parts]
                items.append({"type": "message", "role": role, "content": content, **rest})
                parts.clear()

        for block in content_of(message):
            if isinstance(block, TextBlock) and "item" in self.kept(block):
                flush()
            if isinstance(block, TextBlock | ImageBlock) or (isinstance(block, OpaqueBlock) and block.type in _PARTS):
                parts.append(block)
            else:
                flush()
                items.append(self.write_part(block))
        flush()
        return items

    def write_part(self, block: Block) -> dict[str, Json]:
        """Return a block as an item, or as a part of a user's message."""
        if isinstance(block, OpaqueBlock):
            return dict(block.raw)
        rest = self.kept(block)
        if isinstance(block, ToolCall):
            kind = str(rest.pop("type", "function_call"))
            return {"type": kind, "call_id": block.call_id, "name": block.name, _CALLS[kind]: block.arguments_json, **rest}
        if isinstance(block, ToolResult):
            parts = [self._write_content_part("user", part) for part in block.blocks]
            content = block.content if isinstance(block.content, str) else parts
            return {"type": _OUTPUTS[0], "call_id": block.call_id, "output": content, **rest}
        if isinstance(block, ReasoningItem):
            thought = None if block.content is None else [{"type": "reasoning_text", "text": block.content}]
            summary = [] if block.summary is None else [{"type": "summary_text", "text": block.summary}]
            fields = rest_of({"id": block.content_reference, "summary": summary, "content": thought})
            return {"type": "reasoning", **fields, **rest}
        return self._write_content_part("user", block)

    def _write_content_part(self, role: str, block: Block) -> dict[str, Json]:
        if isinstance(block, OpaqueBlock):
            return dict(block.raw)
        if isinstance(block, ImageBlock):
            return {"type": "input_image", "image_url": data_url(block.data, block.mime_type), **self.kept(block)}
        kind = "output_text" if role == "assistant" else "input_text"
        rest = rest_of(self.kept(block), "item") if isinstance(block, TextBlock) else {}
        return {"type": kind, "text": block.text if isinstance(block, TextBlock) else text_of([block]), **rest}


def from_openai_responses(items: Any) -> list[Message]:
    """Read items of OpenAI's Responses API: one, a list of them (input or output), or a whole `Response`.

    Dictionaries and SDK objects are both read. Neighbouring items of the assistant (reasoning, text, calls, tools that run
    at the provider) become one assistant message. Items and parts of unknown types are kept as `OpaqueBlock`s.
    Raises TypeError for a value that is not an item.

    Example:
        >>> call = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'}
        >>> from_openai_responses([call])[0].tool_calls[0].arguments
        {'a': 1}
    """
    return OpenAIResponsesDialect().read(items)


def to_openai_responses(messages: Iterable[Message]) -> list[dict[str, Json]]:
    """Return messages as the `input` items of a response, in order.

    Example:
        >>> from openreward_gym.types import UserMessage
        >>> to_openai_responses([UserMessage("Hi")])
        [{'type': 'message', 'role': 'user', 'content': [{'type': 'input_text', 'text': 'Hi'}]}]
    """
    return OpenAIResponsesDialect().write(messages)[1]
