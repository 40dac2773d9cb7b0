"""A record as the conversation that trainers and chat templates take: OpenAI's shape, arguments as objects, no null anywhere.

`conversation_of` converts a record message by message and notes three things on the way: the model's turns that are to be
trained (`targets`), reasons against the others (`untrained`), and what chat messages cannot say (`problems`, `findings`).
The functions after it change a conversation for a template or a format.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

from openreward_gym import jsonio
from openreward_gym.chat.dialect import ended_of
from openreward_gym.export.options import DEFAULT_ENDINGS, ControlTokenHandling
from openreward_gym.export.reader import Record, is_model_turn, is_trained, sampled_of
from openreward_gym.images import is_raster
from openreward_gym.types import Json, text_separator

ChatMessage: TypeAlias = dict[str, Any]
"""A message in OpenAI's shape. A key is present or absent: no value is null.

- `role`
- `content`: a text, or a list of parts of the types "text", "image", and "uncarried" (a `block` that chat messages do not have)
- `reasoning_content`, `tool_call_id`, `name`: texts
- `tool_calls`: `[{"id", "type": "function", "function": {"name", "arguments"}}]`
"""

ReadImage: TypeAlias = Callable[[Record], bytes | None]
"""Returns the bytes of an image block; None if they are missing."""

PROBLEMS = {
    "unknown_origin": "it is not known which turns the model took",
    "malformed_call": "a call's arguments are not a JSON object",
    "nameless_call": "a call names no tool",
    "unanswered_call": "a call in the middle has no result",
    "result_without_call": "a tool result answers no call",
    "interleaved": "text after a call of the same turn: chat messages have all text before the calls",
    "unknown_part": "a part that chat messages do not have (a document, an image by address, a provider's own tool)",
    "missing_image": "an image whose bytes are missing or are not an image of pixels",
    "image_in_assistant_turn": "an assistant message has an image",
    "no_model_turn": "the model took no turn that can be trained",
    "control_tokens": "a tool or user wrote a control token",
    "parallel_calls": "several calls in one message",
    "repeated_key": "a call has a key twice, which an object cannot keep (take openai or compat='string')",
}
"""Reasons for which a conversation cannot be trained on as it is."""

EMPTY_TURN = "a turn without anything to train (hidden reasoning only, or an empty answer)"
BAD_WEIGHT = "a turn whose weight is negative or not a number"
NO_WEIGHT = "a turn of weight 0"


def ended_reason(ended: str) -> str:
    """Return the reason for which a turn that ended in another way than the export takes is not trained."""
    return f"a turn ended by {ended}"


# The control tokens that the chat templates of today's model families write around turns and calls.
_COMMON_TOKENS = (
    r"<(?:\|[^|<>\s]{1,40}\|>|\|[a-z_\"]{1,20}>|[a-z_]{1,20}\|>|｜[^<>]{1,40}｜>|(?:start|end)_of_(?:turn|image)>|/?s>|(?:bos|eos)>"
    r"|/?tool_(?:call|response)s?>|/?think>)|\[(?:/?(?:INST|AVAILABLE_TOOLS|TOOL_RESULTS)|TOOL_CALLS)\]"
)


class ControlTokens:
    """Finds and escapes control tokens in texts of tools and users, which a tokenizer would read as real ones.

    `special` are a tokenizer's own tokens, in addition to the common ones.
    """

    def __init__(self, handling: ControlTokenHandling, special: Iterable[str] = ()) -> None:
        self.handling = handling
        own = sorted({token for token in special if token.strip()}, key=len, reverse=True)
        self._first_characters = tuple({"<", "[", *(token[0] for token in own)})
        self._pattern = re.compile("|".join([*map(re.escape, own), _COMMON_TOKENS]))

    def found_in(self, text: str) -> bool:
        """Return True if `text` has a control token."""
        for character in self._first_characters:
            if character in text:
                return self._pattern.search(text) is not None
        return False

    def escape(self, text: str) -> str:
        """Return `text` with a zero-width space after the first character of each control token."""
        return self._pattern.sub(lambda match: f"{match[0][0]}\u200b{match[0][1:]}", text)


@dataclass(slots=True)
class Conversation:
    """The messages that a rollout's model read and wrote.

    Attributes:
        record: The record; lone surrogates in it are written as their escapes.
        original: The record with nothing changed.
        messages: The messages.
        sources: For each message, the number of the record's message that it comes from; -1 for one that was made here.
        tools: Tool definitions in OpenAI's shape; None without tools (some templates write boilerplate for an empty list).
        images: The images' bytes, one for each image part.
        targets: The numbers of the record's messages to train: the model's turns without those of weight 0 and those `untrained`.
        untrained: Further turns of the model, by the number of the record's message, with the reason against training them.
        uncarried: Keys of `PROBLEMS` by the number of the record's message that has a part which chat messages do not have.
        argument_texts: Arguments as the model wrote them, by call id; for formats whose field is a text.
        has_other_assistant: Whether an assistant message is not to be trained: part of the prompt, or a turn of the model.
        parallel: Whether a message has several calls.
        problems: Keys of `PROBLEMS`.
        findings: Keys of `openreward_gym.export.reasons.FINDINGS`: remarks that exclude nothing.
        split: The dataset split of its rows.
    """

    record: Record
    original: Record
    messages: list[ChatMessage] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    tools: list[dict[str, Any]] | None = None
    images: list[bytes] = field(default_factory=list)
    targets: set[int] = field(default_factory=set)
    untrained: dict[int, str] = field(default_factory=dict)
    uncarried: dict[int, str] = field(default_factory=dict)
    argument_texts: dict[str, str] = field(default_factory=dict)
    has_other_assistant: bool = False
    parallel: bool = False
    problems: set[str] = field(default_factory=set)
    findings: set[str] = field(default_factory=set)
    split: str = "train"

    def add(self, message: ChatMessage, source: int) -> None:
        self.messages.append(message)
        self.sources.append(source)

    @property
    def turns(self) -> list[int]:
        """The positions of the messages to train."""
        targets, messages = self.targets, self.messages
        return [n for n, source in enumerate(self.sources) if source in targets and messages[n]["role"] == "assistant"]

    @property
    def rejectable_turns(self) -> set[int]:
        """The positions of the messages that a rejected side may have: those to train, and those that ended badly."""
        numbers = self.targets | {number for number, reason in self.untrained.items() if reason in _REJECTABLE}
        return {position for position, source in enumerate(self.sources) if source in numbers}

    def untrained_reason(self) -> str | None:
        """Return the reason against the first turn in `untrained`; None if it is empty."""
        return self.untrained[min(self.untrained)] if self.untrained else None

    def reason_against_turn(self, position: int) -> str | None:
        """Return the reason against training the model's turn at a position; None for anybody else's message."""
        number = self.sources[position]
        if number in self.untrained:
            return self.untrained[number]
        return NO_WEIGHT if number >= 0 and is_model_turn(self.record["messages"][number]) else None

    @property
    def prompt(self) -> list[ChatMessage]:
        """The messages before the model's first turn, whatever their roles."""
        records = self.record.get("messages") or ()
        first = next((number for number, message in enumerate(records) if is_model_turn(message)), None)
        return self.messages if first is None else self.messages[: self.sources.index(first)]

    @property
    def up_to_last_turn(self) -> list[ChatMessage]:
        """The messages without those after the last one to train."""
        return self.messages[: self.turns[-1] + 1]


_SEPARATOR = text_separator("assistant")

_REJECTABLE = frozenset(map(ended_reason, ("length", "context_overflow", "malformed")))
"""Reasons against training a turn that do not keep it from being the rejected side of a pair, or a negative example."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The options of an export that matter when a record is read as a conversation.

    Attributes:
        reasoning: Whether `reasoning_content` is written.
        endings: The ends of turns (`Message.ended`) that are trained.
        assume_sampled: Whether assistant messages of unknown origin are taken for the model's.
        control: Handling of control tokens in texts that the assistant did not write; None to ignore them.
    """

    reasoning: bool = True
    endings: frozenset[str] = frozenset(DEFAULT_ENDINGS)
    assume_sampled: bool = False
    control: ControlTokens | None = None


def conversation_of(record: Record, read_image: ReadImage, *, utf8: bool = True, reading: Reading | None = None) -> Conversation:
    """Convert a record.

    Args:
        utf8: Whether all text in `record` is valid UTF-8; if not, lone surrogates are written as their escapes.
        reading: Options; None for the defaults.
    """
    clean = record if utf8 else jsonio.escape_surrogates(record)
    return _Converter(clean, record, read_image, reading or Reading()).convert()


class _Converter:
    """Converts one record: `convert` goes through its messages, and a turn takes the results of its calls with it.

    Attributes:
        conversation: The result, which grows.
        call_ids: Ids of calls so far, which must be unique.
        pending_parts: Images of tool results, which wait for the next user message.
        turn: The number of assistant messages so far, less one.
        last_turn: The position of the last assistant message in the record; -1 without any.
    """

    def __init__(self, record: Record, original: Record, read_image: ReadImage, reading: Reading) -> None:
        self.read_image = read_image
        self.reading = reading
        tools = record.get("tools")
        self.conversation = Conversation(record, original, tools=_parse_tools(jsonio.dumps(tools)) if tools else None)
        self.call_ids: set[str] = set()
        self.pending_parts: list[ChatMessage] = []
        self.turn = -1
        messages = record.get("messages") or []
        self.last_turn = next((n for n in range(len(messages) - 1, -1, -1) if messages[n]["role"] == "assistant"), -1)
        self.has_turn_without_origin = False

    def convert(self) -> Conversation:
        conversation = self.conversation
        messages = conversation.record.get("messages") or []
        end = 0
        for position, message in enumerate(messages):
            if position < end:
                continue  # a result, which was converted with its call
            role = message["role"]
            if role == "assistant":
                end = self._assistant_turn(messages, position)
            elif role == "user":
                self._user(message, position)
            elif role != "tool":
                self._flush_images()
                conversation.add({"role": role, "content": self._content(message, position)}, position)
            elif position < self.last_turn and message.get("call_id"):
                conversation.uncarried[position] = "result_without_call"
            elif position < self.last_turn:
                # The environment's answer to a plain message, which policies send as a user's turn.
                conversation.findings.add("answer_without_call")
                self._user(message, position)
        self._flush_images()
        # Where no message has an origin, as in rollouts that a program makes by hand, the assistant's are the model's.
        unknown = self.has_turn_without_origin and any(message.get("origin") for message in messages)
        if unknown and not self.reading.assume_sampled:
            conversation.problems.add("unknown_origin")
        if not conversation.targets:
            conversation.problems.add("no_model_turn")
        elif conversation.untrained:
            conversation.findings.add("untrained_turn")
        conversation.problems.update(conversation.uncarried.values())
        conversation.has_other_assistant = len(conversation.targets) <= self.turn
        if conversation.images:
            # TRL inserts an image placeholder into the first user message whose content is a text: no such message may remain.
            for chat_message in conversation.messages:
                if chat_message["role"] == "user" and isinstance(chat_message["content"], str):
                    chat_message["content"] = [_text_part(chat_message["content"])]
        return conversation

    def _user(self, message: Record, source: int) -> None:
        content = self._content(message, source)
        if self.pending_parts:
            content = [*self.pending_parts, *(content if isinstance(content, list) else [_text_part(content)])]
            self.pending_parts = []
        name = message.get("name") if message["role"] == "user" else None
        self.conversation.add({"role": "user", "content": content, **({"name": name} if name else {})}, source)

    def _flush_images(self) -> None:
        if self.pending_parts:
            self.conversation.add({"role": "user", "content": self.pending_parts}, -1)
            self.pending_parts = []

    def _assistant_turn(self, messages: list[Record], position: int) -> int:
        """Convert the message at `position` and the results that follow it; return the position after them."""
        if self.pending_parts:
            self._flush_images()
        self.turn += 1
        message = messages[position]
        chat_message, calls = self._assistant_message(message, position)
        self.conversation.add(chat_message, position)
        if not message.get("origin"):
            self.has_turn_without_origin = True
        if is_trained(message):
            reason = self._reason_against(message, chat_message)
            if reason is not None:
                self.conversation.untrained[position] = reason
            else:
                self.conversation.targets.add(position)
                if message.get("weight") not in (None, 1):
                    self.conversation.findings.add("other_weight")
        if not calls:
            return position + 1
        end = position + 1
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        # The usual case, one call and its result, needs no search.
        if end == position + 2 and len(calls) == 1 and calls[0].get("call_id"):
            result = messages[position + 1]
            if result.get("call_id") == calls[0]["call_id"]:
                self._result(result, position + 1, chat_message["tool_calls"][0])
                return end
        results = _match_results(calls, list(range(position + 1, end)), messages)
        last = position == self.last_turn
        for call, number in zip(chat_message["tool_calls"], results, strict=True):
            if number is not None:
                self._result(messages[number], number, call)
            elif not last:
                self.conversation.problems.add("unanswered_call")
        if not last and len(results) - results.count(None) < end - position - 1:
            self.conversation.uncarried[position] = "result_without_call"
        return end

    def _reason_against(self, message: Record, chat_message: ChatMessage) -> str | None:
        """Return the reason against training a turn of the model; None if it is trained."""
        if not (chat_message["content"] or chat_message.get("reasoning_content") or chat_message.get("tool_calls")):
            return EMPTY_TURN
        weight = message.get("weight")
        if weight is not None and not 0 <= float(weight) < math.inf:
            return BAD_WEIGHT
        ended = message.get("ended") or ended_of(sampled_of(message).get("stop_reason"))
        return None if ended is None or ended in self.reading.endings else ended_reason(ended)

    def _assistant_message(self, message: Record, position: int) -> tuple[ChatMessage, list[Record]]:
        """Return the chat message, and the record's calls."""
        conversation = self.conversation
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[Record] = []
        for block in message.get("blocks", ()):
            kind = block.get("type")
            if kind == "text":
                if block["text"]:
                    texts.append(block["text"])
                    if calls:
                        conversation.problems.add("interleaved")
            elif kind == "tool_call":
                calls.append(block)
            elif kind == "reasoning":
                if not block.get("content"):
                    conversation.findings.add("hidden_reasoning")
                elif self.reading.reasoning:
                    thoughts.append(block["content"])
                    if texts or calls:
                        conversation.findings.add("reasoning_moved")
                else:
                    conversation.findings.add("reasoning_left_out")
            elif kind == "image":
                conversation.problems.add("image_in_assistant_turn")
            else:
                conversation.uncarried[position] = "unknown_part"
        chat_message: ChatMessage = {"role": "assistant", "content": _SEPARATOR.join(texts)}
        if thoughts:
            chat_message["reasoning_content"] = _SEPARATOR.join(thoughts)
        if calls:
            conversation.parallel |= len(calls) > 1
            chat_message["tool_calls"] = [self._call(block, number) for number, block in enumerate(calls)]
        return chat_message, calls

    def _call(self, block: Record, number: int) -> dict[str, Any]:
        call_id = block.get("call_id") or ""
        if not call_id or call_id in self.call_ids:
            call_id = f"call_{self.turn}_{number}"
            while call_id in self.call_ids:
                call_id += "_"
        self.call_ids.add(call_id)
        arguments: Json = block.get("arguments")
        text = block.get("content")
        if arguments is None:
            arguments = text if text and text.strip() else {}
            if arguments:
                self.conversation.problems.add("malformed_call")
        elif text and text.strip():
            self.conversation.argument_texts[call_id] = text
            if _has_repeated_key(text, arguments):
                self.conversation.problems.add("repeated_key")
        if not block["name"]:
            self.conversation.problems.add("nameless_call")
        return {"id": call_id, "type": "function", "function": {"name": block["name"], "arguments": arguments}}

    def _result(self, message: Record, source: int, call: dict[str, Any]) -> None:
        content = self._content(message, source)
        if isinstance(content, list) and any(part["type"] == "image" for part in content):
            # Trainers ignore images in tool messages, or put them elsewhere: they follow in a user message.
            self.pending_parts += [part for part in content if part["type"] == "image"]
            content = [part for part in content if part["type"] != "image"]
            if all(part["type"] == "text" for part in content):
                content = text_separator("tool").join(part["text"] for part in content)
            self.conversation.findings.add("tool_image_moved")
        name = call["function"]["name"]
        self.conversation.add({"role": "tool", "tool_call_id": call["id"], "name": name, "content": content}, source)

    def _content(self, message: Record, source: int) -> Any:
        """Return one text, or parts if there are others; add the images to the conversation."""
        blocks: Sequence[Record] = message.get("blocks", ())
        if len(blocks) == 1 and blocks[0]["type"] == "text":
            return self._text(blocks[0]["text"])
        parts: list[dict[str, Any]] = []
        only_text = True
        for block in blocks:
            if block.get("type") == "text":
                parts.append(_text_part(self._text(block["text"])))
                continue
            only_text = False
            image = self.read_image(block) if block.get("type") == "image" else None
            if image is not None and is_raster(image):
                self.conversation.images.append(image)
                parts.append({"type": "image"})
            else:
                self.conversation.uncarried[source] = "missing_image" if block.get("type") == "image" else "unknown_part"
                parts.append({"type": "uncarried", "block": block})
        return text_separator(message["role"]).join(part["text"] for part in parts) if only_text else parts

    def _text(self, text: str) -> str:
        """Return a text that the assistant did not write, with its control tokens handled."""
        control = self.reading.control
        if control is None or not control.found_in(text):
            return text
        self.conversation.findings.add("control_tokens")
        if control.handling == "drop":
            self.conversation.problems.add("control_tokens")
        return control.escape(text) if control.handling == "escape" else text


def _has_repeated_key(text: str, arguments: Json) -> bool:
    """Return True if an object in `text`, which was parsed as `arguments`, has a key twice."""
    # Each pair of a key and its value has a colon: the count is quick, and only a text with more than the object is parsed again.
    colons = text.count(":")
    if colons == len(arguments) or colons <= jsonio.dumps(arguments).count(b":"):
        return False
    repeated = False

    def look(pairs: list[tuple[str, Json]]) -> None:
        nonlocal repeated
        repeated |= len({key for key, _ in pairs}) < len(pairs)

    json.loads(text, object_pairs_hook=look)
    return repeated


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _match_results(calls: list[Record], results: list[int], messages: list[Record]) -> list[int | None]:
    """Return for each call the number of its result: by id, then, among the results that are left, by name and order."""
    left = list(results)
    matches: list[int | None] = []
    for call in calls:
        match = next((n for n in left if call.get("call_id") and messages[n].get("call_id") == call["call_id"]), None)
        matches.append(match)
        if match is not None:
            left.remove(match)
    for place, call in enumerate(calls):
        if matches[place] is None:
            # Results that name another call's id are not taken.
            free = [n for n in left if not (call.get("call_id") and messages[n].get("call_id"))]
            match = next((n for n in free if messages[n].get("name") in (None, call["name"])), None)
            matches[place] = match
            if match is not None:
                left.remove(match)
    return matches


@lru_cache(maxsize=64)
def _parse_tools(tools: bytes) -> list[dict[str, Any]]:
    """Return one list for all rollouts with equal tools, so that it is checked and encoded once."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool["name"],
                "description": tool.get("description", ""),
                "parameters": tool.get("input_schema") or {"type": "object", "properties": {}},
            },
        }
        for tool in jsonio.loads(tools)
    ]


def split_parallel(conversation: Conversation) -> None:
    """Split messages with several calls into pairs of one call and its result, in place."""
    if not conversation.parallel:
        return
    conversation.parallel = False
    messages, sources = conversation.messages, conversation.sources
    results = {message["tool_call_id"]: (message, sources[n]) for n, message in enumerate(messages) if message["role"] == "tool"}
    conversation.messages, conversation.sources = [], []
    for message, source in zip(messages, sources, strict=True):
        if message["role"] == "tool":
            continue  # it follows its call
        calls = message.get("tool_calls", ())
        for number, call in enumerate(calls):
            first = message if number == 0 else {"role": "assistant", "content": ""}
            conversation.add({**first, "tool_calls": [call]}, source)
            if call["id"] in results:
                conversation.add(*results[call["id"]])
        if not calls:
            conversation.add(message, source)


def merge_system(conversation: Conversation) -> bool:
    """Move leading system messages into the first user message, in place; return whether there were any."""
    messages = conversation.messages
    count = next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))
    if count == 0:
        return False
    contents = [message["content"] for message in messages[:count]]
    del messages[:count], conversation.sources[:count]
    if messages and messages[0]["role"] == "user":
        contents.append(messages[0]["content"])
        messages[0] = {**messages[0], "content": _joined(contents)}
    else:
        messages.insert(0, {"role": "user", "content": _joined(contents)})
        conversation.sources.insert(0, -1)
    return True


def _joined(contents: list[Any]) -> Any:
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(contents)
    return [part for content in contents for part in ([_text_part(content)] if isinstance(content, str) else content)]


def plain_text(message: ChatMessage) -> str:
    """Return a message's content as one text, with `<image>` in place of each image."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return text_separator(message["role"]).join("<image>" if part["type"] == "image" else part["text"] for part in content)


def plain_message(message: ChatMessage, argument_texts: Mapping[str, str]) -> ChatMessage:
    """Return a message whose values are texts: arguments as JSON strings, `<image>` in place of each image."""
    return {**with_text_arguments(message, argument_texts), "content": plain_text(message)}


def with_text_arguments(message: ChatMessage, argument_texts: Mapping[str, str] = MappingProxyType({})) -> ChatMessage:
    """Return a message whose calls have their arguments as texts: of `argument_texts` by call id, else the object's JSON."""
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        arguments = call["function"]["arguments"]
        text = arguments if isinstance(arguments, str) else argument_texts.get(call["id"])
        if text is None:
            text = jsonio.dumps(arguments).decode()
        calls.append({**call, "function": {**call["function"], "arguments": text}})
    return {**message, "tool_calls": calls}


def texts_in(message: ChatMessage) -> list[str]:
    """Return the texts of a message's content."""
    content = message["content"]
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def images_in(messages: Iterable[ChatMessage]) -> int:
    """Return the number of images that messages show."""
    contents = (message["content"] for message in messages)
    return sum(part["type"] == "image" for content in contents if isinstance(content, list) for part in content)
