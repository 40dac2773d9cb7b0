"""OpenAI's Responses API: a flat list of items, in and out.

Calls that the client answers are tool calls, whatever kind of item they are, and the items with their outputs are tool results.
Tools that the provider runs stay opaque parts of the assistant's turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, ClassVar

from openreward_gym.chat.dialect import (
    Dialect,
    assistant,
    content_of,
    ended_of,
    image_of_url,
    is_refusal,
    opaque,
    sendable,
    tool_call,
    written_role,
)
from openreward_gym.chat.failures import is_failure
from openreward_gym.chat.history import RESPONSES_RULES, HistoryRules, ToolNames
from openreward_gym.chat.openai import OpenAIChatDialect, usage_of
from openreward_gym.chat.plain import as_list, json_text, list_at, object_at, rest_of, shown, text_at
from openreward_gym.chat.streams import BROKE_OFF, RESPONSES_STREAM, StreamFormat
from openreward_gym.errors import MessageError
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
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolResult,
    text_of,
)

_ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# Items of calls: the tool's name (empty where the item has one), and the fields that are the arguments.
_CALLS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "function_call": ("", ("arguments",)),
    "custom_tool_call": ("", ("input",)),
    "mcp_approval_request": ("", ("arguments",)),
    "computer_call": ("computer", ("action", "actions")),
    "shell_call": ("shell", ("action",)),
    "local_shell_call": ("local_shell", ("action",)),
    "apply_patch_call": ("apply_patch", ("operation",)),
    "tool_search_call": ("tool_search", ("arguments",)),
}
# Items of tools that the provider runs, and of its own.
_HOSTED_ITEMS = (
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_call",
    "mcp_list_tools",
    "program",
    "program_output",
    "compaction",
)
_OUTPUT, _CUSTOM_OUTPUT = "function_call_output", "custom_tool_call_output"
# Items without a role that the client inserts.
_GIVEN = ("additional_tools", "configuration_update", "compaction_trigger")
_TEXTS = ("input_text", "output_text", "text")
_PARTS = ("input_image", "input_file", "input_audio", "output_audio", "computer_screenshot", "refusal", *_TEXTS)
# Fields of a response that repeat the request and are facts of the whole rollout. Others stay with the message.
_REQUEST = (
    "instructions",
    "tools",
    "temperature",
    "top_p",
    "max_output_tokens",
    "max_tool_calls",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
    "truncation",
    "top_logprobs",
)
_RESPONSE = ("output", "usage", "model", "status", "object")
# OpenAI hides the reasoning of its hosted models: what they give as a summary is one.
_HOSTED = re.compile(r"(?:ft:)?(?:gpt-(?!oss)|chatgpt|o\d|codex|computer-use)", re.IGNORECASE)


def is_hosted_model(name: str | None) -> bool:
    """Return whether a name is that of a model that OpenAI hosts, whose reasoning is never shown.

    Example:
        >>> is_hosted_model("openai/o4-mini"), is_hosted_model("openai/gpt-oss-20b"), is_hosted_model(None)
        (True, False, False)
    """
    return name is not None and _HOSTED.match(name.rpartition("/")[2]) is not None


def _is_cut_off(response: Mapping[str, Json]) -> bool:
    """Return whether a response, or the call or message at its end, is incomplete, also where no known reason is given."""
    items = list_at(response, "output", Mapping)
    return "incomplete" in (response.get("status"), items[-1].get("status") if items else None)


class OpenAIResponsesDialect(Dialect):
    """The format of OpenAI's Responses API.

    Args:
        model: The model that wrote the items, if the caller knows it. It tells whether a `summary` of reasoning without
            `encrypted_content` is a summary (of a model that OpenAI hosts) or the reasoning itself (of all others).
        request: Keep the request's fields that a whole response repeats (`instructions`, `tools`, `temperature`, ...) in
            `sampled.metadata["request"]`.

    Example:
        >>> items = [{"type": "reasoning", "id": "r", "summary": []}, {"role": "assistant", "content": "Hi"}]
        >>> [len(message.blocks) for message in OpenAIResponsesDialect().read(items)]
        [2]
    """

    provider = "openai"
    stream: ClassVar[StreamFormat] = RESPONSES_STREAM
    rules: ClassVar[HistoryRules] = RESPONSES_RULES

    def __init__(self, model: str | None = None, *, request: bool = False) -> None:
        self.model = model
        self.request = request

    def is_message(self, data: Mapping[str, Json]) -> bool:
        if self._is_response(data):
            return True
        content = data.get("content")
        if "role" not in data or not isinstance(content, list):
            return False
        return any(isinstance(part, dict) and part.get("type") == "output_text" for part in content)

    def is_part(self, data: Mapping[str, Json]) -> bool:
        return data.get("type") in ("reasoning", *_CALLS, *_HOSTED_ITEMS)

    def read_items(self, items: Sequence[Json]) -> list[Message]:
        turns: list[Message] = []
        # The provider runs the calls in its own containers, and their outputs are parts of its answer.
        hosted = {item.get("call_id") for item in items if isinstance(item, Mapping) and _runs_at_provider(item)}
        for is_turn, group in groupby(items, lambda item: self._is_of_turn(item, hosted)):
            neighbours = list(group)
            turns += [self._turn(neighbours)] if is_turn else [self.read_message(item) for item in neighbours]
        return turns

    def _is_response(self, data: Mapping[str, Json]) -> bool:
        is_response = isinstance(data.get("output"), list) or data.get("object") == "response"
        return is_response and "role" not in data and data.get("type") is None

    def _is_of_turn(self, item: Json, hosted: Iterable[Json] = ()) -> bool:
        """Return whether an item is part of an assistant's turn, not a response, a result or a message of another role."""
        if not isinstance(item, Mapping) or self.stream.is_chunk(item) or self._is_response(item) or is_failure(item):
            return False
        kind, role = item.get("type"), item.get("role")
        if kind is None and role is None and item.keys() != {"id"}:
            raise MessageError(f"{shown(dict(item))} is neither a response, with output, nor an item, with a type or a role")
        if kind in _GIVEN or role in ("tool", "function"):
            return False
        if _is_result(item):
            return item.get("call_id") in hosted
        return role not in _ROLES or role == "assistant" or item.get("type", "message") != "message"

    def read_text(self, text: str) -> Message:
        return Message("user", tuple(self.read_content(text)))

    def read_turn(self, data: Mapping[str, Json]) -> Message:
        if self._is_of_turn(data):
            return self._turn([data])
        if self._is_response(data):
            return self._response(data)
        if data.get("role") in ("tool", "function"):
            return OpenAIChatDialect().read_message(data)
        if _is_result(data):
            return self._tool_message(data)
        if data.get("type") in _GIVEN:
            role: Role = "user" if data["type"] == "compaction_trigger" else "system"
            return Message(role, (OpaqueBlock(dict(data)),))
        blocks, rest = self._message_parts(data)
        metadata = {"role": "developer"} if data["role"] == "developer" else {}
        if rest and not _can_hold(blocks):
            metadata |= self.keep({"item": rest})
        return Message(_ROLES[data["role"]], tuple(blocks), metadata=metadata or None)

    def _turn(self, items: Sequence[Mapping[str, Json]]) -> AssistantMessage:
        """Return the assistant message of neighbouring items. It is complete if its last item is."""
        blocks = [block for item in items for block in self.read_part(item)]
        # Of an incomplete item only the response tells why.
        ended = ended_of("completed", blocks) if items[-1].get("status") == "completed" else None
        return assistant(blocks, Sampled(), {}, ended=ended)

    def _response(self, data: Mapping[str, Json]) -> AssistantMessage:
        if data.get("status") in ("queued", "in_progress") and not data.get(BROKE_OFF):
            raise MessageError(f"the response {data.get('id')!r} is {data['status']}: retrieve it again when it is completed")
        sampled = Sampled(
            usage=usage_of(object_at(data, "usage"), "input", "output"),
            stop_reason=text_at(object_at(data, "incomplete_details"), "reason") or text_at(data, "status"),
            model=text_at(data, "model"),
        )
        dialect = self if self.model is not None else OpenAIResponsesDialect(sampled.model)
        blocks = [block for item in list_at(data, "output") for block in dialect.read_part(item)]
        fields = {name: value for name, value in rest_of(data, *_RESPONSE, *_REQUEST).items() if value not in ("", [], {})}
        if self.request and (request := {name: data[name] for name in _REQUEST if data.get(name) is not None}):
            fields["request"] = request
        is_cut = _is_cut_off(data) and ended_of(sampled.stop_reason) in (None, "stop", "unknown")
        return assistant(blocks, sampled, fields, ended="length" if is_cut else None)

    def read_object(self, data: Mapping[str, Json]) -> list[Block]:
        """Read an item of the assistant, or an entry of a message's content."""
        kind = str(data.get("type") or "")
        if kind in _CALLS and not _runs_at_provider(data):
            return [self._call(data, kind)]
        if kind == "reasoning":
            return [self._reasoning(data)]
        if data.get("role") == "assistant" and kind in ("", "message"):
            return self._message_blocks(data)
        return self._part(data, "input_text")

    def _part(self, data: Mapping[str, Json], usual: str) -> list[Block]:
        """Read an entry of a message's content. `usual` is the type that texts of the message are written with."""
        kind = data.get("type", usual)
        if kind in _TEXTS and isinstance(data.get("text"), str):
            rest = _unread(data, "text") if kind != usual else _unread(data, "type", "text")
            return [TextBlock(data["text"], extra=self.keep(rest))]
        if kind == "refusal" and isinstance(data.get("refusal"), str):
            return [TextBlock(data["refusal"], extra=self.keep(_unread(data, "refusal")))]
        if kind in ("input_image", "computer_screenshot"):
            rest = _unread(data, "image_url") if kind != "input_image" else _unread(data, "type", "image_url")
            return [image_of_url(data.get("image_url"), self.keep(rest)) or opaque(data)]
        return [opaque(data)]

    def _message_blocks(self, item: Mapping[str, Json]) -> list[Block]:
        """Read a message of the assistant. An empty text holds the fields of an item that begins with no text or image."""
        blocks, rest = self._message_parts(item)
        if rest and not _can_hold(blocks):
            blocks.insert(0, TextBlock("", extra=self.keep({"item": {**rest, "is_holder": True}})))
        return blocks

    def _message_parts(self, item: Mapping[str, Json]) -> tuple[list[Block], dict[str, Json]]:
        """Read the content of a message; its other fields are returned, and kept with its first block if that can hold them."""
        content = item.get("content")
        usual = "output_text" if item.get("role") == "assistant" else "input_text"
        blocks: list[Block] = []
        if content is None or isinstance(content, str):
            blocks = self.read_content(content)
        else:
            for part in as_list(content):
                blocks += self._part(part, usual) if isinstance(part, Mapping) else self.read_part(part)
        rest = _unread(item, "role", "content", "type")
        if "type" not in item:
            rest["untyped"] = True
        if isinstance(content, str):
            rest["is_text"] = True
        first = blocks[0] if blocks else None
        if rest and isinstance(first, TextBlock | ImageBlock):
            blocks[0] = replace(first, extra=self.keep({**self.kept(first), "item": rest}))
        return blocks, rest

    def _call(self, item: Mapping[str, Json], kind: str) -> ToolCall:
        name, fields = _CALLS[kind]
        present = {field: item[field] for field in fields if item.get(field) is not None}
        # A name that is no text is kept as it is, beside the name that we can hold.
        read = [] if name or not isinstance(item.get("name"), str) else ["name"]
        rest = _unread(item, "type", *read, _id_field(item), *present)
        if kind != "function_call":
            rest["type"] = kind
        arguments: Json = present.get(fields[0])
        if not name:
            arguments = "" if arguments is None else arguments
        elif list(present) != [fields[0]] or not isinstance(arguments, Mapping | str):
            arguments = present
            rest["fields"] = list(present)
        return tool_call(name or item.get("name"), arguments, item.get(_id_field(item)), self.keep(rest))

    def _reasoning(self, item: Mapping[str, Json]) -> ReasoningItem:
        """Read reasoning. A summary without an encrypted content is the reasoning itself, except of a model that OpenAI hosts."""
        rest = _unread(item, "type", "id", "content", "summary")
        content, sizes = _joined(item.get("content"), "")
        is_shown = content is None and not item.get("encrypted_content") and not is_hosted_model(self.model)
        summary, summary_sizes = _joined(item.get("summary"), "" if is_shown else "\n")
        if is_shown and summary is not None:
            content, summary, rest["field"] = summary, None, "summary"
            sizes = summary_sizes
        elif summary_sizes:
            rest["summary"] = summary_sizes
        if sizes:
            rest["content"] = sizes
        rest |= {f"{name}_as_given": item[name] for name in ("content", "summary") if name in item and not item[name]}
        rest |= {f"{name}_as_given": item[name] for name in ("content", "summary") if not _is_plain(item.get(name))}
        if rest.get("summary_as_given") == []:
            del rest["summary_as_given"]  # as it is written
        return ReasoningItem(content, text_at(item, "id"), summary, extra=self.keep(rest))

    def _tool_message(self, item: Mapping[str, Json]) -> ToolMessage:
        kind, output = item["type"], item.get("output")
        rest = _unread(item, "type", *([] if item.get(_id_field(item)) is None else [_id_field(item)]), "output")
        if kind != _OUTPUT:
            rest["type"] = kind
        content: str | list[Block]
        if kind == "shell_call_output" and isinstance(output, list):
            content = [block for entry in output for block in self._shell_blocks(entry)]
        elif kind == "computer_call_output" and isinstance(output, Mapping):
            content = self.read_part(output)
        elif isinstance(output, list):
            content = self.read_content(output)
        elif isinstance(output, str):
            content = output
            if not output:
                rest["output"] = output
        elif output is None:
            # An approval and found tools are the fields of the item.
            fields = rest_of(item, "type", "id", "status", "output", "caller", "execution", _id_field(item))
            content = json_text(fields) if kind in ("mcp_approval_response", "tool_search_output") else ""
            rest |= {"output": None} if "output" in item else {}
        else:
            content, rest["output"] = json_text(output), output
        call_id, name = str(item.get(_id_field(item)) or ""), item.get("name")
        failed = kind == "apply_patch_call_output" and item.get("status") == "failed"
        speaker = name if isinstance(name, str) else None
        return ToolMessage(content, call_id, speaker, failed, metadata=self.keep(rest) or None)

    def _shell_blocks(self, entry: Json) -> list[Block]:
        """Read what a command printed: its standard output, and its standard error if it has any."""
        if not isinstance(entry, Mapping) or not isinstance(entry.get("stdout"), str):
            return self.read_part(entry)
        rest = _unread(entry, "stdout")
        errors: list[Block] = []
        if rest.get("stderr") and isinstance(rest["stderr"], str):
            errors = [TextBlock(rest.pop("stderr"), extra=self.keep({"stream": "stderr"}))]
        return [TextBlock(entry["stdout"], extra=self.keep({"stream": "stdout", "command": rest})), *errors]

    def write(self, messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
        return None, [item for message in sendable(messages) for item in self._write_message(message)]

    def write_request(
        self, messages: Iterable[Message], *, rules: HistoryRules | None = None, names: ToolNames | None = None
    ) -> tuple[str | None, list[dict[str, Json]]]:
        system, items = super().write_request(messages, rules=rules, names=names)
        # Reasoning without an id is that of another API.
        items = [item for item in items if item.get("type") != "reasoning" or item.keys() & {"id", "encrypted_content"}]
        for item in items:
            content = item.get("content")
            if item.get("role") != "assistant" or "id" in item or not isinstance(content, list):
                continue
            if all(part.keys() == {"type", "text"} for part in content):
                # Servers that check types take parts of an output in an item with an id alone.
                item["content"] = "".join(part["text"] for part in content)
        return system, items

    def _write_message(self, message: Message) -> list[dict[str, Json]]:
        items: list[dict[str, Json]] = []
        parts: list[Block] = []
        role = written_role(message)
        held = message.metadata.get(self.provider) if isinstance(message.metadata, Mapping) else None
        if message.role != "tool" and isinstance(held, Mapping) and "item" in held:
            return list(self._message_items(role, list(message.blocks), held["item"]))
        for block in content_of(message):
            if "item" in self.kept(block):
                items += self._message_items(role, parts)
                parts = []
            # The other parts of an item follow the empty text that holds the item's fields.
            is_held = bool(parts) and bool(self.kept(parts[0]).get("item", {}).get("is_holder"))
            is_part = isinstance(block, OpaqueBlock) and (block.type in _PARTS or is_held)
            if is_part or isinstance(block, TextBlock | ImageBlock):
                parts.append(block)
            else:
                items += self._message_items(role, parts)
                parts = []
                items.append(self.write_part(block))
        return [*items, *self._message_items(role, parts)]

    def _message_items(
        self, role: str, parts: list[Block], fields: Mapping[str, Json] | None = None
    ) -> Iterator[dict[str, Json]]:
        """Yield the message item of neighbouring texts and images, if there are any. `fields` are the item's other fields."""
        if not parts and fields is None:
            return
        rest = dict(self.kept(parts[0]).get("item", {}) if fields is None else fields)
        is_text = rest.pop("is_text", False)
        if rest.pop("is_holder", False):
            parts = parts[1:]
        content: Json = [self._write_content_part(role, part) for part in parts]
        if is_text and not parts:
            content = ""
        elif is_text and len(parts) == 1 and isinstance(parts[0], TextBlock):
            content = parts[0].text
        kind = {} if rest.pop("untyped", False) else {"type": "message"}
        yield {**kind, "role": role, "content": content, **rest}

    def write_part(self, block: Block) -> dict[str, Json]:
        """Return a block as an item, or as a part of a user's message."""
        if isinstance(block, OpaqueBlock):
            return dict(block.raw)
        if isinstance(block, ToolCall):
            return self._write_call(block)
        if isinstance(block, ToolResult):
            return self._write_result(block)
        if isinstance(block, ReasoningItem):
            return self._write_reasoning(block)
        return self._write_content_part("user", block)

    def _write_call(self, call: ToolCall) -> dict[str, Json]:
        rest = self.kept(call)
        kind = str(rest.pop("type", "function_call"))
        name, (field, *_) = _CALLS.get(kind, _CALLS["function_call"])
        identity = {_id_field({"type": kind}): call.call_id} if call.call_id or not name else {}
        item: dict[str, Json] = {"type": kind, **identity}
        if not name:
            return {**item, "name": call.name, field: call.arguments_json, **rest}
        arguments: Json = dict(call.arguments or {}) if call.content is None else call.content
        fields = rest.pop("fields", None)
        if fields is not None and isinstance(arguments, dict):
            return {**item, **{field: arguments.get(field) for field in fields}, **rest}
        return {**item, field: arguments, **rest}

    def _write_result(self, result: ToolResult) -> dict[str, Json]:
        rest = self.kept(result)
        kind = str(rest.pop("type", _OUTPUT))
        # Where the item has an id, the call's id is in another field.
        id_field = _id_field({"type": kind, **({"call_id": ""} if "id" in rest else {})})
        identity = {id_field: result.call_id} if result.call_id else {}
        if kind == "shell_call_output":
            return {"type": kind, **identity, "output": self._shell_output(result.blocks), **rest}
        if kind == "computer_call_output" and len(result.blocks) == 1:
            return {"type": kind, **identity, "output": self._write_content_part("user", result.blocks[0]), **rest}
        if kind in ("mcp_approval_response", "tool_search_output") or not (result.content or kind in (_OUTPUT, _CUSTOM_OUTPUT)):
            return {"type": kind, **identity, **rest}
        output: Json = result.content
        if not isinstance(output, str):
            output = [self._write_content_part("user", part) for part in output]
        return {"type": kind, **identity, "output": output, **rest}

    def _shell_output(self, blocks: Iterable[Block]) -> list[Json]:
        entries: list[Json] = []
        for block in blocks:
            fields = self.kept(block)
            if fields.get("stream") == "stderr" and entries and isinstance(block, TextBlock):
                entries[-1]["stderr"] = block.text
            elif isinstance(block, OpaqueBlock):
                entries.append(dict(block.raw))
            else:
                entries.append({"stdout": text_of([block]), **fields.get("command", {})})
        return entries

    def _write_reasoning(self, thought: ReasoningItem) -> dict[str, Json]:
        rest = self.kept(thought)
        content = _split(thought.content, "reasoning_text", rest.pop("content", None), "")
        summary = _split(thought.summary, "summary_text", rest.pop("summary", None), "\n")
        if rest.pop("field", None) == "summary" and content:
            content, summary = [], [{**part, "type": "summary_text"} for part in content]
        fields: dict[str, Json] = {"summary": summary, **({"content": content} if content else {})}
        fields |= {name: rest.pop(f"{name}_as_given") for name in ("content", "summary") if f"{name}_as_given" in rest}
        return {"type": "reasoning", **rest_of({"id": thought.content_reference}), **fields, **rest}

    def _write_content_part(self, role: str, block: Block) -> dict[str, Json]:
        if isinstance(block, OpaqueBlock):
            return dict(block.raw)
        rest = {name: value for name, value in self.kept(block).items() if name not in ("item", "stream", "command")}
        if isinstance(block, ImageBlock):
            return {"type": "input_image", "image_url": data_url(block.data, block.mime_type), **rest}
        if is_refusal(block) and isinstance(block, TextBlock):
            return {"refusal": block.text, **rest}
        kind = "output_text" if role == "assistant" else "input_text"
        return {"type": kind, "text": block.text if isinstance(block, TextBlock) else text_of([block]), **rest}


def _unread(data: Mapping[str, Json], *read: str) -> dict[str, Json]:
    """Return the fields that are not in `read`, those that are None included: an item is written as it came."""
    return {key: value for key, value in data.items() if key not in read}


def _runs_at_provider(item: Mapping[str, Json]) -> bool:
    """Return whether an item is a call, of a kind that clients can answer, that the provider answers itself."""
    environment = item.get("environment")
    if item.get("type") == "shell_call":
        return isinstance(environment, Mapping) and environment.get("type") == "container_reference"
    return item.get("type") == "tool_search_call" and item.get("execution") != "client"


def _is_result(item: Mapping[str, Json]) -> bool:
    kind = item.get("type")
    if kind == "tool_search_output":
        return item.get("execution") == "client"
    return isinstance(kind, str) and (kind.endswith("_call_output") or kind == "mcp_approval_response")


def _id_field(item: Mapping[str, Json]) -> str:
    """Return the field that joins a call with its output."""
    kind = item.get("type")
    if kind == "mcp_approval_request" or (kind == "local_shell_call_output" and "call_id" not in item):
        return "id"
    return "approval_request_id" if kind == "mcp_approval_response" else "call_id"


def _can_hold(blocks: Sequence[Block]) -> bool:
    return bool(blocks) and isinstance(blocks[0], TextBlock | ImageBlock)


def _is_plain(parts: Json) -> bool:
    """Return whether the parts of reasoning have nothing but a type and text."""
    return not parts or all(isinstance(part, Mapping) and part.keys() == {"type", "text"} for part in parts)


def _joined(parts: Json, separator: str) -> tuple[str | None, list[int] | None]:
    """Return the text of a reasoning item's parts, None without parts, and the lengths of several."""
    if isinstance(parts, str):
        return parts or None, None
    texts = [str(part.get("text") or "") for part in parts or () if isinstance(part, Mapping)]
    return separator.join(texts) if texts else None, [len(text) for text in texts] if len(texts) > 1 else None


def _split(text: str | None, kind: str, sizes: Sequence[int] | None, separator: str) -> list[dict[str, Json]]:
    """Return text as the parts that `_joined` read; one part if the text was changed since."""
    if text is None:
        return []
    if not sizes or sum(sizes) + len(separator) * (len(sizes) - 1) != len(text):
        sizes = [len(text)]
    parts: list[dict[str, Json]] = []
    start = 0
    for size in sizes:
        parts.append({"type": kind, "text": text[start : start + size]})
        start += size + len(separator)
    return parts


def from_openai_responses(items: Any, *, model: str | None = None) -> list[Message]:
    """Read items of OpenAI's Responses API: one, a list of them (input or output), or a whole `Response`.

    Dictionaries and SDK objects are both read. Neighbouring items of the assistant (reasoning, text, calls, tools that run
    at the provider) become one assistant message; the events of a streamed response become one too. Items and parts of unknown
    types are kept as `OpaqueBlock`s.

    Args:
        items: The items.
        model: The model that wrote them. Reasoning in a `summary` without `encrypted_content` is a summary if OpenAI hosts the
            model, and the reasoning itself otherwise. None: the response's own, unknown for items.

    Raises:
        TypeError: A value is not an item, or is a single event of a stream.

    Example:
        >>> call = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'}
        >>> from_openai_responses([call])[0].tool_calls[0].arguments
        {'a': 1}
    """
    return OpenAIResponsesDialect(model).read(items)


def to_openai_responses(messages: Iterable[Message], *, for_server: bool = False) -> list[dict[str, Json]]:
    """Return messages as the `input` items of a response, in order.

    Args:
        messages: The conversation.
        for_server: Write a history that every server can parse: see `server_history`. By default calls are as they were recorded.

    Example:
        >>> from openreward_gym.types import UserMessage
        >>> to_openai_responses([UserMessage("Hi")])
        [{'type': 'message', 'role': 'user', 'content': [{'type': 'input_text', 'text': 'Hi'}]}]
    """
    dialect = OpenAIResponsesDialect()
    return (dialect.write_request if for_server else dialect.write)(messages)[1]
