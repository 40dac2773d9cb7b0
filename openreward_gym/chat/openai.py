"""OpenAI's chat completions, which OpenRouter, vLLM, SGLang and most local servers speak too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, ClassVar, Literal, TypeAlias

from openreward_gym.chat.dialect import (
    Dialect,
    assistant,
    content_of,
    image_of_url,
    is_refusal,
    opaque,
    role_of,
    sendable,
    tool_call,
    written_role,
)
from openreward_gym.chat.history import CHAT_RULES, HistoryRules
from openreward_gym.chat.lossless import BESIDE, losses, restored
from openreward_gym.chat.plain import as_list, details_of, integer, json_text, list_at, number, object_at, rest_of, shown, text_at
from openreward_gym.chat.streams import CHAT_STREAM, StreamFormat
from openreward_gym.errors import MessageError
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
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    split_results,
    text_of,
    text_separator,
)

ReasoningField: TypeAlias = Literal["auto", "", "reasoning_content", "reasoning", "reasoning_details"]
"""The field in which a server takes past reasoning; empty for a server that takes none (OpenAI refuses unknown fields).

"auto" is, for each message, the field in which its reasoning arrived: `sampled.metadata["reasoning_field"]`, which a policy sets.
"""

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_REASONING = ("reasoning_content", "reasoning", "reasoning_details")
_KNOWN = ("role", "content", "refusal", "tool_calls", "function_call", "weight", "name", *_REASONING)
_CHOICE = ("message", "finish_reason", "token_ids", "prompt_token_ids", "logprobs")
_COMPLETION = ("choices", "object", "model", "usage", "prompt_token_ids")
# What the Responses API, which has the same provider, keeps with the blocks of its items. The parts, calls and results of a chat
# have no such fields, and servers refuse them.
_OF_RESPONSES = frozenset(
    {
        *("item", "id", "status", "annotations", "logprobs", "stream", "command", "fields", "output", "caller", "namespace"),
        *("created_by", "has_tokens", "prompt_token_ids", "generation_token_ids", "generation_log_probs"),
    }
)
_RESPONSES_TEXTS = ("text", "input_text", "output_text", "summary_text", "reasoning_text")
# The fields of a ReasoningItem, and those of an entry of `reasoning_details`.
_DETAILS = {"content": "text", "content_reference": "data", "summary": "summary", "signature": "signature"}


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
    stream: ClassVar[StreamFormat] = CHAT_STREAM
    rules: ClassVar[HistoryRules] = CHAT_RULES

    def __init__(self, reasoning: ReasoningField = "") -> None:
        self.reasoning: ReasoningField = reasoning

    def kept(self, block: Any) -> dict[str, Json]:
        """Return the fields of a block that a chat has a place for: not those of an item of the Responses API."""
        fields = super().kept(block)
        if isinstance(block, ReasoningItem):
            return fields
        kind = fields.get("type")
        if kind == "custom_tool_call":
            fields["type"] = "custom"
        elif kind in _RESPONSES_TEXTS or (isinstance(kind, str) and kind.endswith(("_call", "_request", "_output"))):
            del fields["type"]
        return {name: value for name, value in fields.items() if name not in _OF_RESPONSES}

    def is_message(self, data: Mapping[str, Json]) -> bool:
        return _is_completion(data) or "role" in data

    def is_part(self, data: Mapping[str, Json]) -> bool:
        return isinstance(data.get("function"), dict) or isinstance(data.get("custom"), dict)

    def read_turn(self, data: Mapping[str, Json]) -> Message:
        if _is_completion(data):
            return self._completion(data)
        if isinstance(data.get(BESIDE), Mapping):
            return restored(self._turn(rest_of(data, BESIDE)), data[BESIDE])
        return self._turn(data)

    def _turn(self, data: Mapping[str, Json]) -> Message:
        role = role_of(data, _ROLES)
        if role == "tool":
            return self._tool_message(data)
        if role == "assistant":
            weight = number(data, "weight")  # of OpenAI's files for fine-tuning
            return assistant(self._assistant_blocks(data), Sampled(), rest_of(data, *_KNOWN), weight=weight, name=_name(data))
        rest = rest_of(data, "role", "content", "name")
        if data["role"] == "developer":
            rest["role"] = "developer"
        return Message(role, tuple(self.read_content(data.get("content"))), name=_name(data), metadata=rest or None)

    def _completion(self, data: Mapping[str, Json]) -> AssistantMessage:
        choices = list_at(data, "choices", Mapping)
        choice = choices[0] if choices else {}
        message, logprobs = object_at(choice, "message"), object_at(choice, "logprobs")
        if not message and isinstance(choice.get("text"), str):  # a completion of text, of the API before chats
            if choice.get("finish_reason") is None:
                raise MessageError(f"{shown(dict(data))} has no finish_reason: pass the whole completion, not its chunks")
            message, choice = {"content": choice["text"]}, rest_of(choice, "text")
        sampled = Sampled(
            usage=usage_of(object_at(data, "usage")),
            stop_reason=text_at(choice, "finish_reason"),
            # vLLM and SGLang give token ids on request; OpenAI does not.
            token_ids=_ids(choice, "token_ids"),
            prompt_token_ids=_ids(choice if choice.get("prompt_token_ids") else data, "prompt_token_ids"),
            logprobs=_logprobs(logprobs),
            model=text_at(data, "model"),
            cost_usd=number(data, "usage", "cost"),
        )
        fields = {**rest_of(data, *_COMPLETION), **rest_of(choice, *_CHOICE), **rest_of(message, *_KNOWN)}
        if not fields.get("index"):
            fields.pop("index", None)
        if choices[1:]:
            fields["choices"] = choices[1:]
        if details := _token_details(logprobs):
            fields["logprobs"] = details
        ended: Ended | None = None if choices else "error"
        return assistant(self._assistant_blocks(message), sampled, fields, ended=ended, name=_name(message))

    def _assistant_blocks(self, data: Mapping[str, Json]) -> list[Block]:
        blocks = self._reasoning(data)
        blocks += self.read_content(data.get("content"))
        if data.get("refusal"):
            blocks.append(TextBlock(json_text(data["refusal"]), extra=self.keep({"type": "refusal"})))
        calls = data.get("tool_calls")
        blocks += [self._read_entry(call) for call in ([] if calls is None else as_list(calls))]
        if isinstance(data.get("function_call"), Mapping):
            blocks.append(self.read_call({"function": data["function_call"]}))
        return blocks

    def _read_entry(self, call: Json) -> ToolCall:
        """Read an entry of `tool_calls`; one that is not an object is a malformed call without a name."""
        return self.read_call(call) if isinstance(call, Mapping) else ToolCall("", None, content=json_text(call))

    def _reasoning(self, data: Mapping[str, Json]) -> list[Block]:
        if details := list_at(data, "reasoning_details", Mapping):
            return [self._reasoning_detail(item) for item in details]
        text = data.get("reasoning_content") or data.get("reasoning")
        return [ReasoningItem(json_text(text))] if text else []

    def _reasoning_detail(self, item: Mapping[str, Json]) -> ReasoningItem:
        fields = {ours: text_at(item, theirs) for ours, theirs in _DETAILS.items()}
        return ReasoningItem(**fields, extra=self.keep(rest_of(item, *_DETAILS.values())))

    def read_object(self, data: Mapping[str, Json]) -> list[Block]:
        if self.is_part(data):
            return [self.read_call(data)]
        if data.get("type") == "text" and isinstance(data.get("text"), str):
            return [TextBlock(data["text"], extra=self.keep(rest_of(data, "type", "text")))]
        if data.get("type") == "refusal" and isinstance(data.get("refusal"), str):
            return [TextBlock(data["refusal"], extra=self.keep({"type": "refusal", **rest_of(data, "type", "refusal")}))]
        image = data.get("image_url")
        if data.get("type") == "image_url" and isinstance(image, Mapping):
            rest = {**rest_of(data, "type", "image_url"), **rest_of(image, "url")}
            return [image_of_url(image.get("url"), self.keep(rest)) or opaque(data)]
        return [opaque(data)]

    def read_call(self, data: Mapping[str, Json]) -> ToolCall:
        """Read an entry of `tool_calls`, the call of a function or of a custom tool. One that names no tool has an empty name."""
        kind = "custom" if isinstance(data.get("custom"), Mapping) else "function"
        argument_field = "input" if kind == "custom" else "arguments"
        function = data.get(kind)
        if isinstance(function, Mapping):
            rest = rest_of(data, "id", "type", "function", "custom")
        else:  # a server that writes the call's fields beside its id, or nothing but the tool's name
            rest = rest_of(data, "id", "type", "function", "name", "arguments")
            function = data if function is None else {"name": function, **data}
            function = {name: function[name] for name in ("name", "arguments") if name in function}
        if kind == "custom":
            rest["type"] = "custom"
        if inner := rest_of(function, "name", argument_field):
            rest["function"] = inner
        arguments = function.get(argument_field)
        return tool_call(function.get("name"), "" if arguments is None else arguments, data.get("id"), self.keep(rest))

    def _tool_message(self, data: Mapping[str, Json]) -> ToolMessage:
        return ToolMessage(
            self.read_content(data.get("content")),
            str(data.get("tool_call_id") or ""),
            _name(data),
            is_error=data.get("is_error") is True,
            metadata=self.keep(rest_of(data, "role", "content", "tool_call_id", "name")) or None,
        )

    def write(self, messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
        turns = list(sendable(messages))
        items = [item for message in turns for item in self._write_message(message)]
        if self.reasoning == "auto" and "reasoning_content" in map(reasoning_field_of, turns):
            # DeepSeek refuses a turn with calls that lacks the field, also if the turn had no reasoning.
            for item in items:
                if "tool_calls" in item:
                    item.setdefault("reasoning_content", "")
        return None, items

    def write_lossless(self, message: Message, sent: Message) -> dict[str, Json]:
        """Return a message as one object from which `read` makes it again, in every respect that a dialect writes.

        Beside the fields of the format it has the reasoning (`reasoning_content`), the `name` of the tool and `is_error` of a
        result, and `openreward`, where there is more to keep: see `openreward_gym.chat.lossless`.

        Args:
            message: The message.
            sent: The same message as `sendable` yields it.
        """
        arrived = reasoning_field_of(message)
        items = OpenAIChatDialect(arrived or "reasoning_content")._write_message(sent)
        item: dict[str, Json] = items[0] if len(items) == 1 else {"role": "user", "content": text_of(message.blocks)}
        is_developer = (sent.role, item["role"]) == ("system", "developer")
        item["role"] = "developer" if is_developer else sent.role if len(items) == 1 else "user"
        if isinstance(item["content"], list):
            item["content"] = [_typed(part) for part in item["content"]]
        if message.reasoning:
            item.setdefault("reasoning_content", message.reasoning)
        if message.role == "tool" and message.name:
            item["name"] = message.name
        if message.is_error:
            item["is_error"] = True
        beside = losses(message, self._turn(item))
        if arrived not in ("", "reasoning_details"):
            beside["reasoning_field"] = arrived
        if beside:
            item[BESIDE] = beside
        return item

    def _write_message(self, message: Message) -> list[dict[str, Json]]:
        if message.role == "assistant":
            return [{**self._write_assistant(message), **({"name": message.name} if message.name else {})}]
        speaker = {"name": message.name} if message.name and message.role != "tool" else {}
        items: list[dict[str, Json]] = []
        role = written_role(message)
        for are_results, blocks in groupby(content_of(message), lambda block: isinstance(block, ToolResult)):
            if are_results:
                items += [self._write_result(block) for block in blocks if isinstance(block, ToolResult)]
            else:
                items.append({"role": role, "content": self._write_content(blocks), **speaker})
        return items or [{"role": role, "content": "", **speaker}]

    def _write_result(self, result: ToolResult) -> dict[str, Json]:
        content = self._write_content(result.blocks)
        return {"role": "tool", "tool_call_id": result.call_id, "content": content, **self.kept(result)}

    def _write_assistant(self, message: Message) -> dict[str, Json]:
        content = [b for b in message.blocks if not isinstance(b, (ReasoningItem, ToolCall)) and not is_refusal(b)]
        calls = [block for block in message.blocks if isinstance(block, ToolCall)]
        refusals = [block.text for block in message.blocks if isinstance(block, TextBlock) and is_refusal(block)]
        has_content = content or not (calls or refusals)
        data: dict[str, Json] = {
            "role": "assistant",
            "content": self._write_content(content, "assistant") if has_content else None,
        }
        thoughts = [block for block in message.blocks if isinstance(block, ReasoningItem)]
        arrived = reasoning_field_of(message)
        field = arrived if self.reasoning == "auto" else self.reasoning
        if field == "reasoning_details" and thoughts:
            data[field] = [self._write_reasoning_detail(thought) for thought in thoughts]
        elif field and (message.reasoning or (self.reasoning == "auto" and field != "reasoning_details")):
            data[field] = message.reasoning
        if refusals:
            data["refusal"] = "".join(refusals)
        if calls:
            data["tool_calls"] = [self._write_call(call) for call in calls]
        return data

    def _write_reasoning_detail(self, thought: ReasoningItem) -> dict[str, Json]:
        kind = "encrypted" if thought.content_reference else "summary" if thought.summary else "text"
        fields = rest_of({theirs: getattr(thought, ours) for ours, theirs in _DETAILS.items()})
        return {"type": f"reasoning.{kind}", **fields, **self.kept(thought)}

    def _write_call(self, call: ToolCall) -> dict[str, Json]:
        rest = self.kept(call)
        inner = rest.pop("function", {})
        if rest.get("type") == "custom":
            custom = {"name": call.name, "input": call.arguments_json, **inner}
            return {"id": call.call_id, "type": "custom", "custom": custom, **rest}
        function = {"name": call.name, "arguments": call.arguments_json or "{}", **inner}
        return {"id": call.call_id, "type": "function", "function": function, **rest}

    def _write_content(self, blocks: Iterable[Block], role: Role = "user") -> Json:
        parts = [self.write_part(block) for block in blocks]
        is_text = all(part.keys() == {"type", "text"} and part["type"] == "text" for part in parts)
        if not parts or (is_text and (role == "assistant" or len(parts) == 1)):
            return text_separator(role).join(part["text"] for part in parts)
        return parts

    def write_part(self, block: Block) -> dict[str, Json]:
        if isinstance(block, TextBlock):
            return {"type": "text", "text": block.text, **self.kept(block)}
        if isinstance(block, ImageBlock):
            return {"type": "image_url", "image_url": {"url": data_url(block.data, block.mime_type), **self.kept(block)}}
        if isinstance(block, OpaqueBlock):
            return _chat_part(block.raw)
        return {"type": "text", "text": text_of([block])}


def usage_of(usage: Json, prompt: str = "prompt", completion: str = "completion") -> Usage | None:
    """Read OpenAI's `usage`, whose fields begin with the names of the two sides; None if it is missing or empty.

    Counts that `Usage` does not have are kept in its `extra` under "details".
    """
    if not usage:
        return None
    tokens = [integer(usage, f"{side}_tokens") for side in (prompt, completion)]
    read = {(f"{prompt}_tokens",), (f"{completion}_tokens",), (f"{prompt}_tokens_details", "cached_tokens")}
    read |= {(f"{completion}_tokens_details", "reasoning_tokens"), ("cost",)}
    if integer(usage, "total_tokens") == sum(count or 0 for count in tokens):
        read.add(("total_tokens",))
    return Usage(
        tokens[0],
        tokens[1],
        integer(usage, f"{prompt}_tokens_details", "cached_tokens"),
        integer(usage, f"{completion}_tokens_details", "reasoning_tokens"),
        extra=details_of(usage, read),
    )


def reasoning_field_of(message: Message) -> ReasoningField:
    """Return the field in which a message's reasoning arrived; an empty string where it is not known or had no reasoning."""
    field = (message.sampled.metadata or {}).get("reasoning_field") if message.sampled is not None else None
    return field if field in _REASONING else ""


def arrival_of_reasoning(answer: Json) -> ReasoningField:
    """Return the field in which an answer has its reasoning, the fullest one if there are several; "" for one without.

    Example:
        >>> arrival_of_reasoning({"choices": [{"message": {"role": "assistant", "content": "4", "reasoning": "2 and 2"}}]})
        'reasoning'
    """
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(message, Mapping):
        return ""
    if message.get("reasoning_details"):
        return "reasoning_details"
    texts: tuple[ReasoningField, ...] = ("reasoning_content", "reasoning")
    present = [name for name in texts if isinstance(message.get(name), str)]
    return next((name for name in present if message[name]), present[0] if present else "")


def _name(data: Mapping[str, Json]) -> str | None:
    return str(data.get("name") or "") or None


def _token_details(logprobs: Mapping[str, Json]) -> dict[str, Json]:
    """Return what a choice's `logprobs` tell beside the log-probabilities: columns with an entry per token.

    `bytes` are left out where they are the UTF-8 of the token, and columns without a value are left out.
    """
    content = list_at(logprobs, "content", Mapping)
    columns: dict[str, Json] = rest_of(logprobs, "content")
    for name in {key: None for item in content for key in item if key not in ("logprob", "bytes")}:
        values = [item.get(name) for item in content]
        if any(value not in (None, []) for value in values):
            columns[name] = values
    raw = [item.get("bytes") for item in content]
    texts = [str(item.get("token", "")) for item in content]
    if any(value is not None and value != list(text.encode("utf-8", "replace")) for value, text in zip(raw, texts, strict=True)):
        columns["bytes"] = raw
    return columns


def _typed(part: Mapping[str, Json]) -> dict[str, Json]:
    """Return a part of a message's content; one that does not say its type, inside of one that does."""
    return dict(part) if isinstance(part.get("type"), str) else {"type": "opaque", "raw": dict(part)}


def _chat_part(raw: Mapping[str, Json]) -> dict[str, Json]:
    """Return a part that no block has a type for. Images by address and files of the Responses API become those of a chat."""
    kind, url = raw.get("type"), raw.get("image_url")
    if kind == "input_image" and isinstance(url, str):
        return {"type": "image_url", "image_url": {"url": url, **rest_of(raw, "type", "image_url")}}
    if kind == "input_file" and raw.keys() <= {"type", "file_id", "file_data", "filename"}:
        return {"type": "file", "file": rest_of(raw, "type")}
    return dict(raw)


def _is_completion(data: Mapping[str, Json]) -> bool:
    return isinstance(data.get("choices"), list) or data.get("object") == "chat.completion"


def _ids(data: Mapping[str, Json], name: str) -> tuple[int, ...] | None:
    return None if data.get(name) is None else tuple(list_at(data, name, int))


def _logprobs(logprobs: Mapping[str, Json]) -> tuple[float, ...] | None:
    if logprobs.get("content") is None:
        return None
    values = [number(item, "logprob") for item in list_at(logprobs, "content", Mapping)]
    if None in values:
        raise MessageError("an entry of logprobs.content has no logprob that is a number")
    return tuple(value for value in values if value is not None)


def from_openai(messages: Any) -> list[Message]:
    """Read chat messages: one, a list of them, or a whole `ChatCompletion` (its first choice), as dictionaries or SDK objects.

    A list may also have the chunks of streamed answers, which become one message each. Parts of unknown types are kept as
    `OpaqueBlock`s; a refusal is text, marked in the block's `extra`. Raises as `Dialect.read` does.

    Example:
        >>> from_openai({"role": "assistant", "content": "Hello"})[0].text
        'Hello'
    """
    return OpenAIChatDialect().read(messages)


def to_openai(
    messages: Iterable[Message], *, reasoning: ReasoningField = "", for_server: bool = False, lossless: bool = False
) -> list[dict[str, Json]]:
    """Return messages as the `messages` of a chat completion. Tool results become messages of role "tool", in order.

    Args:
        messages: The conversation.
        reasoning: The field for past reasoning. By default it is left out.
        for_server: Write a history that every server can parse: see `server_history`. By default calls are as they were recorded.
        lossless: Write one object per message, from which `from_openai` makes the message again: with its reasoning, `is_error`,
            and in `openreward` what the format has no field for. OpenAI's own API refuses such fields. The other arguments do not
            apply.

    Example:
        >>> from openreward_gym.types import UserMessage
        >>> to_openai([UserMessage("Hi")])
        [{'role': 'user', 'content': 'Hi'}]
    """
    dialect = OpenAIChatDialect(reasoning)
    if lossless:
        turns = [part for message in messages for part in split_results(message)]
        return [dialect.write_lossless(turn, sent) for turn, sent in zip(turns, sendable(turns), strict=True)]
    return (dialect.write_request if for_server else dialect.write)(messages)[1]
