"""OpenAI's two formats: chat completions, which OpenRouter, vLLM, SGLang and most local servers speak too, and responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal, TypeAlias

from openreward_gym.chat.dialect import (
    Dialect,
    assistant,
    content_of,
    ended_of,
    image_of_url,
    is_refusal,
    opaque,
    tool_call,
    written_role,
)
from openreward_gym.chat.plain import as_list, integer, json_text, number, plain, rest_of
from openreward_gym.images import data_url
from openreward_gym.jsonio import Json
from openreward_gym.types import (
    AssistantMessage,
    Block,
    Ended,
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
    Usage,
    text_of,
)

ReasoningField: TypeAlias = Literal["", "reasoning_content", "reasoning", "reasoning_details"]
"""The field in which a server takes past reasoning; empty for a server that takes none (OpenAI refuses unknown fields)."""

_ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_REASONING = ("reasoning_content", "reasoning", "reasoning_details")
_KNOWN = ("role", "content", "refusal", "tool_calls", "function_call", "weight", *_REASONING)
# The fields of a ReasoningItem, and those of an entry of `reasoning_details`.
_DETAILS = {"content": "text", "content_reference": "data", "summary": "summary", "signature": "signature"}
# Types of the items of a response, and of the parts of its messages.
_CALLS: Mapping[str, str] = {"function_call": "arguments", "custom_tool_call": "input"}
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_TEXTS = ("input_text", "output_text", "text")
_PARTS = ("refusal", "input_image", "input_file", "input_audio")


class OpenAIChatDialect(Dialect):
    """The format of chat completions.

    Args:
        reasoning: The field for past reasoning when messages are written.

    Example:
        >>> messages = OpenAIChatDialect().read({"role": "assistant", "content": "4", "reasoning_content": "2 and 2"})
        >>> OpenAIChatDialect(reasoning="reasoning").write(messages)[1]
        [{'role': 'assistant', 'content': '4', 'reasoning': '2 and 2'}]
    """

    provider = "openai"

    def __init__(self, reasoning: ReasoningField = "") -> None:
        self.reasoning: ReasoningField = reasoning

    def is_message(self, data: Mapping[str, Json]) -> bool:
        return isinstance(data.get("choices"), list) or "role" in data

    def is_part(self, data: Mapping[str, Json]) -> bool:
        return isinstance(data.get("function"), dict) or isinstance(data.get("custom"), dict)

    def read_message(self, data: Json) -> Message:
        if not isinstance(data, Mapping):
            raise TypeError(f"a chat message is a dictionary or an SDK object, not {type(data).__name__}")
        if isinstance(data.get("choices"), list):
            return self._completion(data)
        role = data.get("role")
        if role in ("tool", "function"):
            return self._tool_message(data)
        if role == "assistant":
            weight = number(data, "weight")  # of OpenAI's files for fine-tuning
            return assistant(self._assistant_blocks(data), Sampled(), rest_of(data, *_KNOWN), weight=weight)
        if not isinstance(role, str) or role not in _ROLES:
            raise ValueError(f"a chat message's role is system, developer, user, assistant, tool or function, not {role!r}")
        rest = rest_of(data, "role", "content")
        if role == "developer":
            rest["role"] = role
        return Message(_ROLES[role], tuple(self.read_content(data.get("content"))), metadata=rest or None)

    def _completion(self, data: Mapping[str, Json]) -> AssistantMessage:
        choice = data["choices"][0] if data["choices"] else {}
        message = choice.get("message") or {}
        logprobs = (choice.get("logprobs") or {}).get("content")
        sampled = Sampled(
            usage=usage_of(data.get("usage")),
            stop_reason=choice.get("finish_reason"),
            # vLLM and SGLang give token ids on request; OpenAI does not.
            token_ids=_tuple(choice.get("token_ids")),
            prompt_token_ids=_tuple(choice.get("prompt_token_ids") or data.get("prompt_token_ids")),
            logprobs=None if logprobs is None else tuple(item["logprob"] for item in logprobs),
            model=data.get("model"),
            cost_usd=number(data, "usage", "cost"),
            metadata={"id": data["id"]} if data.get("id") else None,
        )
        # An answer without a choice, or with an error in it, comes with status 200 from some servers.
        ended: Ended | None = "error" if not data["choices"] or choice.get("error") else None
        return assistant(self._assistant_blocks(message), sampled, rest_of(message, *_KNOWN), ended=ended)

    def _assistant_blocks(self, data: Mapping[str, Json]) -> list[Block]:
        blocks = self._reasoning(data)
        blocks += self.read_content(data.get("content"))
        if data.get("refusal"):
            blocks.append(OpaqueBlock({"type": "refusal", "refusal": data["refusal"]}))
        blocks += [self.read_call(call) for call in data.get("tool_calls") or ()]
        if isinstance(data.get("function_call"), Mapping):
            blocks.append(self.read_call({"function": data["function_call"]}))
        return blocks

    def _reasoning(self, data: Mapping[str, Json]) -> list[Block]:
        details = data.get("reasoning_details")
        if isinstance(details, list) and details:
            return [self._reasoning_detail(item) for item in details]
        text = data.get("reasoning_content") or data.get("reasoning")
        return [ReasoningItem(json_text(text))] if text else []

    def _reasoning_detail(self, item: Mapping[str, Json]) -> ReasoningItem:
        fields = {ours: item.get(theirs) for ours, theirs in _DETAILS.items()}
        return ReasoningItem(**fields, extra=self.keep(rest_of(item, *_DETAILS.values())))

    def read_object(self, data: Mapping[str, Json]) -> list[Block]:
        if self.is_part(data):
            return [self.read_call(data)]
        if data.get("type") == "text" and isinstance(data.get("text"), str):
            return [TextBlock(data["text"], extra=self.keep(rest_of(data, "type", "text")))]
        image = data.get("image_url")
        if data.get("type") == "image_url" and isinstance(image, Mapping):
            rest = {**rest_of(data, "type", "image_url"), **rest_of(image, "url")}
            return [image_of_url(image.get("url"), self.keep(rest)) or opaque(data)]
        return [opaque(data)]

    def read_call(self, data: Mapping[str, Json]) -> ToolCall:
        """Read an entry of `tool_calls`, the call of a function or of a custom tool; raise ValueError if it names no tool."""
        kind = "custom" if isinstance(data.get("custom"), Mapping) else "function"
        function = data.get(kind)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise ValueError(f"a tool call has no function name: {json_text(dict(data))[:200]}")
        rest = rest_of(data, "id", "type", "function", "custom")
        if kind == "custom":
            rest["type"] = "custom"
        arguments = function.get("input" if kind == "custom" else "arguments")
        return tool_call(function["name"], "" if arguments is None else arguments, data.get("id"), self.keep(rest))

    def _tool_message(self, data: Mapping[str, Json]) -> ToolMessage:
        return ToolMessage(
            self.read_content(data.get("content")),
            str(data.get("tool_call_id") or ""),
            str(data.get("name") or "") or None,
            metadata=self.keep(rest_of(data, "role", "content", "tool_call_id", "name")) or None,
        )

    def write(self, messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
        return None, [item for message in messages for item in self._write_message(message)]

    def _write_message(self, message: Message) -> list[dict[str, Json]]:
        if message.role == "assistant":
            return [self._write_assistant(message)]
        items: list[dict[str, Json]] = []
        role = written_role(message)
        for are_results, blocks in groupby(content_of(message), lambda block: isinstance(block, ToolResult)):
            if are_results:
                items += [self._write_result(block) for block in blocks if isinstance(block, ToolResult)]
            else:
                items.append({"role": role, "content": self._write_content(blocks)})
        return items or [{"role": role, "content": ""}]

    def _write_result(self, result: ToolResult) -> dict[str, Json]:
        content = self._write_content(result.blocks)
        return {"role": "tool", "tool_call_id": result.call_id, "content": content, **self.kept(result)}

    def _write_assistant(self, message: Message) -> dict[str, Json]:
        content = [b for b in message.blocks if not isinstance(b, (ReasoningItem, ToolCall)) and not is_refusal(b)]
        calls = [block for block in message.blocks if isinstance(block, ToolCall)]
        data: dict[str, Json] = {"role": "assistant", "content": self._write_content(content) if content or not calls else None}
        thoughts = [block for block in message.blocks if isinstance(block, ReasoningItem)]
        if self.reasoning == "reasoning_details" and thoughts:
            data[self.reasoning] = [self._write_reasoning_detail(thought) for thought in thoughts]
        elif self.reasoning and (text := "\n".join(thought.content or thought.summary or "" for thought in thoughts)):
            data[self.reasoning] = text
        for block in message.blocks:
            if is_refusal(block):
                data["refusal"] = block.raw["refusal"]  # type: ignore[union-attr]
        if calls:
            data["tool_calls"] = [self._write_call(call) for call in calls]
        return data

    def _write_reasoning_detail(self, thought: ReasoningItem) -> dict[str, Json]:
        kind = "encrypted" if thought.content_reference else "summary" if thought.summary else "text"
        fields = rest_of({theirs: getattr(thought, ours) for ours, theirs in _DETAILS.items()})
        return {"type": f"reasoning.{kind}", **fields, **self.kept(thought)}

    def _write_call(self, call: ToolCall) -> dict[str, Json]:
        rest = self.kept(call)
        if rest.get("type") == "custom":
            return {"id": call.call_id, "type": "custom", "custom": {"name": call.name, "input": call.arguments_json}, **rest}
        function = {"name": call.name, "arguments": call.arguments_json or "{}"}
        return {"id": call.call_id, "type": "function", "function": function, **rest}

    def _write_content(self, blocks: Iterable[Block]) -> Json:
        parts = [self.write_part(block) for block in blocks]
        if not parts:
            return ""
        if len(parts) == 1 and parts[0].keys() == {"type", "text"} and parts[0]["type"] == "text":
            return parts[0]["text"]
        return parts

    def write_part(self, block: Block) -> dict[str, Json]:
        if isinstance(block, TextBlock):
            return {"type": "text", "text": block.text, **self.kept(block)}
        if isinstance(block, ImageBlock):
            return {"type": "image_url", "image_url": {"url": data_url(block.data, block.mime_type), **self.kept(block)}}
        if isinstance(block, OpaqueBlock):
            return dict(block.raw)
        return {"type": "text", "text": text_of([block])}


def usage_of(usage: Json, prompt: str = "prompt", completion: str = "completion") -> Usage | None:
    """Read OpenAI's `usage`, whose fields begin with the names of the two sides; None if it is missing or empty."""
    if not usage:
        return None
    return Usage(
        integer(usage, f"{prompt}_tokens"),
        integer(usage, f"{completion}_tokens"),
        integer(usage, f"{prompt}_tokens_details", "cached_tokens"),
        integer(usage, f"{completion}_tokens_details", "reasoning_tokens"),
    )


def _tuple(value: Json) -> tuple[Any, ...] | None:
    return tuple(value) if isinstance(value, list) else None


class OpenAIResponsesDialect(Dialect):
    """The format of OpenAI's Responses API: a flat list of items, in and out.

    Example:
        >>> items = [{"type": "reasoning", "id": "r", "summary": []}, {"role": "assistant", "content": "Hi"}]
        >>> [len(message.blocks) for message in OpenAIResponsesDialect().read(items)]
        [2]
    """

    provider = "openai"

    def is_message(self, data: Mapping[str, Json]) -> bool:
        if isinstance(data.get("output"), list) and "type" not in data:
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
        )
        blocks = [block for item in data["output"] for block in self.read_part(item)]
        return assistant(blocks, sampled, rest_of({"id": data.get("id") or None}))

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
        arguments = item.get(_CALLS[kind])
        return tool_call(item["name"], "" if arguments is None else arguments, item.get("call_id"), self.keep(rest))

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
            output: Json = block.content
            if not isinstance(output, str):
                output = [self._write_content_part("user", part) for part in output]
            return {"type": _OUTPUTS[0], "call_id": block.call_id, "output": output, **rest}
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


def from_openai(messages: Any) -> list[Message]:
    """Read chat messages: one, a list of them, or a whole `ChatCompletion` (its first choice), as dictionaries or SDK objects.

    Parts of unknown types are kept as `OpaqueBlock`s; a refusal is one, of type "refusal". Raises as `Dialect.read` does.

    Example:
        >>> from_openai({"role": "assistant", "content": "Hello"})[0].text
        'Hello'
    """
    return OpenAIChatDialect().read(messages)


def to_openai(messages: Iterable[Message], *, reasoning: ReasoningField = "") -> list[dict[str, Json]]:
    """Return messages as the `messages` of a chat completion. Tool results become messages of role "tool", in order.

    Args:
        messages: The conversation.
        reasoning: The field for past reasoning. By default it is left out.

    Example:
        >>> from openreward_gym.types import UserMessage
        >>> to_openai([UserMessage("Hi")])
        [{'role': 'user', 'content': 'Hi'}]
    """
    return OpenAIChatDialect(reasoning).write(messages)[1]


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
