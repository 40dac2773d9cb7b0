"""A record as the conversation that trainers and chat templates take: OpenAI's shape, arguments as objects, no null anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from openreward_gym.export import exact
from openreward_gym.export.control import ControlTokens
from openreward_gym.export.source import Record
from openreward_gym.types import Json

ChatMessage: TypeAlias = dict[str, Any]
"""`role`, `content` (text, or a list of text and image parts) and, where there are any, `reasoning_content`, `tool_calls`
(`{"id", "type": "function", "function": {"name", "arguments"}}`), `tool_call_id`, `name`. A key is there or not: never null."""

_IMAGE_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")
_CUT_OFF = {"length", "max_tokens", "max_output_tokens", "incomplete", "model_length", "MAX_TOKENS"}

ReadImage: TypeAlias = Callable[[Record], bytes | None]


@dataclass(slots=True)
class Conversation:
    """What a rollout's model saw and said.

    Attributes:
        record: Where it comes from; lone surrogates in it are written as their escapes.
        original: The same with nothing changed.
        messages: In order.
        origins: For each message, the number of the record's message it comes from; -1 for one that was made here.
        tools: In OpenAI's shape; None where there are none (an empty list makes some templates write tool boilerplate).
        images: The images' bytes, one for each image part, in order.
        parallel: Whether a message has several calls.
        problems: Why it cannot be trained on as it is; see `PROBLEMS`.
        findings: What is worth a count in the report but excludes nothing.
    """

    record: Record
    original: Record
    messages: list[ChatMessage] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    tools: list[dict[str, Any]] | None = None
    images: list[bytes] = field(default_factory=list)
    parallel: bool = False
    problems: set[str] = field(default_factory=set)
    findings: set[str] = field(default_factory=set)

    def add(self, message: ChatMessage, origin: int) -> None:
        self.messages.append(message)
        self.origins.append(origin)

    @property
    def turns(self) -> list[int]:
        """The positions of the assistant's messages."""
        return [number for number, message in enumerate(self.messages) if message["role"] == "assistant"]


PROBLEMS = {
    "malformed_call": "a call's arguments are not a JSON object",
    "unanswered_call": "a call in the middle has no result",
    "cut_off_turn": "the model was cut off at its token limit",
    "no_assistant_turn": "the assistant said nothing",
    "image_in_assistant_turn": "the assistant's message has an image",
    "control_tokens": "a tool or user wrote a control token",
    "parallel_calls": "several calls in one message",
}


def conversation_of(
    record: Record, read_image: ReadImage, *, utf8: bool = True, reasoning: bool = True, control: ControlTokens | None = None
) -> Conversation:
    """Read a record.

    Args:
        record: A rollout's JSON values.
        read_image: Gives an image part's bytes, or None.
        utf8: Whether all text in `record` is valid UTF-8; if not, lone surrogates are written as their escapes.
        reasoning: Whether to keep the reasoning.
        control: What to do about control tokens in what others than the assistant said; None for nothing.
    """
    return _Reader(record if utf8 else exact.clean(record), record, read_image, reasoning, control).read()


def is_image(content: bytes) -> bool:
    """Whether the bytes begin as an image file does."""
    return content.startswith(_IMAGE_SIGNATURES)


class _Reader:
    def __init__(
        self, record: Record, original: Record, read_image: ReadImage, reasoning: bool, control: ControlTokens | None
    ) -> None:
        self.read_image = read_image
        self.reasoning = reasoning
        self.control = control
        self.found = Conversation(record, original, tools=_tools_of(record.get("tools")))
        self.seen_ids: set[str] = set()
        self.moved: list[ChatMessage] = []
        self.turn = -1
        messages = record.get("messages") or []
        self.last_turn = max((n for n, message in enumerate(messages) if message["role"] == "assistant"), default=-1)

    def read(self) -> Conversation:
        found = self.found
        messages = found.record.get("messages") or []
        position = 0
        while position < len(messages):
            role = messages[position]["role"]
            if role == "assistant":
                position = self._assistant_turn(messages, position)
            elif role == "tool":
                # A result without a call: the environment's answer to a plain message. Models know that as a user turn.
                if position < self.last_turn:
                    found.findings.add("result_without_call")
                    self._user(messages[position], position)
                position += 1
            else:
                self._other(messages[position], position, role)
                position += 1
        self._flush_images()
        if self.turn < 0:
            found.problems.add("no_assistant_turn")
        if found.images:
            _all_blocks(found.messages)
        return found

    def _other(self, message: Record, origin: int, role: str) -> None:
        if role == "user":
            self._user(message, origin)
            return
        self._flush_images()
        content, images = self._content(message.get("blocks", ()))
        self.found.images.extend(images)
        self.found.add({"role": role, "content": content}, origin)

    def _user(self, message: Record, origin: int) -> None:
        content, images = self._content(message.get("blocks", ()))
        if self.moved:
            content = [*self.moved, *(content if isinstance(content, list) else [_text_part(content)])]
            self.moved = []
        self.found.images.extend(images)
        self.found.add({"role": "user", "content": content}, origin)

    def _flush_images(self) -> None:
        if self.moved:
            self.found.add({"role": "user", "content": self.moved}, -1)
            self.moved = []

    def _assistant_turn(self, messages: list[Record], position: int) -> int:
        """Read the message at `position` and the results that follow it; returns the position after them."""
        if self.moved:
            self._flush_images()
        self.turn += 1
        message = messages[position]
        said, calls = self._said(message)
        self.found.add(said, position)
        end = position + 1
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        if not calls:
            return position + 1
        if end == position + 2 and len(calls) == 1 and calls[0].get("id"):
            result = messages[position + 1]
            if result.get("tool_call_id") == calls[0]["id"]:
                self._result(result, position + 1, said["tool_calls"][0])
                return end
        results = _matched(calls, list(range(position + 1, end)), messages)
        last = position == self.last_turn
        for call, number in zip(said["tool_calls"], results, strict=True):
            if number is not None:
                self._result(messages[number], number, call)
            elif not last:
                self.found.problems.add("unanswered_call")
        if not last and len(results) - results.count(None) < end - position - 1:
            self.found.findings.add("result_without_call")
            for number in range(position + 1, end):
                if number not in results:
                    self._user(messages[number], number)
        return end

    def _said(self, message: Record) -> tuple[ChatMessage, list[Record]]:
        texts, thoughts, calls = [], [], []
        for part in message.get("blocks", ()):
            kind = part["type"]
            if kind == "text":
                texts.append(part["text"])
            elif kind == "tool_call":
                calls.append(part)
            elif kind == "reasoning":
                if part.get("text"):
                    thoughts.append(part["text"])
                else:
                    self.found.findings.add("hidden_reasoning")
            elif kind == "image":
                self.found.problems.add("image_in_assistant_turn")
            else:
                self.found.findings.add("unknown_block")
        if message.get("stop_reason") in _CUT_OFF:
            self.found.problems.add("cut_off_turn")
        said: ChatMessage = {"role": "assistant", "content": "\n".join(texts)}
        if thoughts and self.reasoning:
            said["reasoning_content"] = "\n".join(thoughts)
        if calls:
            self.found.parallel |= len(calls) > 1
            said["tool_calls"] = [self._call(part, number) for number, part in enumerate(calls)]
        return said, calls

    def _call(self, part: Record, number: int) -> dict[str, Any]:
        identity = part.get("id") or ""
        if not identity or identity in self.seen_ids:
            identity = f"call_{self.turn}_{number}"
            while identity in self.seen_ids:
                identity += "_"
        self.seen_ids.add(identity)
        arguments: Json = part.get("input")
        if arguments is None:
            text = part.get("input_text")
            arguments = text if text and text.strip() else {}
            if arguments:
                self.found.problems.add("malformed_call")
        return {"id": identity, "type": "function", "function": {"name": part["name"], "arguments": arguments}}

    def _result(self, message: Record, origin: int, call: dict[str, Any]) -> None:
        content, images = self._content(message.get("blocks", ()))
        name = call["function"]["name"]
        if images:
            # Trainers ignore images in tool messages, or put them elsewhere: they follow in a user message.
            texts = [part["text"] if part["type"] == "text" else "[image: see below]" for part in content]
            content = "\n".join(texts)
            self.moved += [{"type": "image"}] * len(images)
            self.moved.append(_text_part(f"[image{'s' if len(images) > 1 else ''} returned by {name}]"))
            self.found.images.extend(images)
            self.found.findings.add("tool_image_moved")
        self.found.add({"role": "tool", "tool_call_id": call["id"], "name": name, "content": content}, origin)

    def _content(self, blocks: Sequence[Record]) -> tuple[Any, list[bytes]]:
        """(one text, or parts where there is an image; the images)."""
        if len(blocks) == 1 and blocks[0]["type"] == "text":
            return self._heard(blocks[0]["text"]), []
        parts: list[dict[str, Any]] = []
        images: list[bytes] = []
        for part in blocks:
            kind = part["type"]
            if kind == "text":
                parts.append(_text_part(self._heard(part["text"])))
            elif kind == "image":
                content = self.read_image(part)
                if content is None or not is_image(content):
                    self.found.findings.add("image_missing")
                    parts.append(_text_part(f"[image {part.get('mimeType', 'image/png')}]"))
                else:
                    images.append(content)
                    parts.append({"type": "image"})
            elif isinstance(part.get("text"), str):
                parts.append(_text_part(self._heard(part["text"])))
            else:
                self.found.findings.add("unknown_block")
                parts.append(_text_part(f"[{kind or 'unknown'} block]"))
        if images:
            return parts, images
        return "\n".join(part["text"] for part in parts), images

    def _heard(self, text: str) -> str:
        if self.control is None or not self.control.found_in(text):
            return text
        self.found.findings.add("control_tokens")
        if self.control.handling == "drop":
            self.found.problems.add("control_tokens")
        return self.control.escaped(text) if self.control.handling == "escape" else text


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _all_blocks(messages: list[ChatMessage]) -> None:
    # TRL puts an image placeholder into the first user message that is one text: none may be.
    for message in messages:
        if message["role"] == "user" and isinstance(message["content"], str):
            message["content"] = [_text_part(message["content"])]


def _matched(calls: list[Record], results: list[int], messages: list[Record]) -> list[int | None]:
    """For each call the number of its result, by id; then, among what is left, by name and order."""
    left = list(results)
    found: list[int | None] = []
    for call in calls:
        same = next((n for n in left if call.get("id") and messages[n].get("tool_call_id") == call["id"]), None)
        found.append(same)
        if same is not None:
            left.remove(same)
    for place, call in enumerate(calls):
        if found[place] is None:
            # Results that name another call's id are not taken.
            free = [n for n in left if not (call.get("id") and messages[n].get("tool_call_id"))]
            same = next((n for n in free if messages[n].get("name") in (None, call["name"])), None)
            found[place] = same
            if same is not None:
                left.remove(same)
    return found


def _tools_of(tools: list[Record] | None) -> list[dict[str, Any]] | None:
    return _known_tools(exact.encode_bytes(tools)) if tools else None


@lru_cache(maxsize=64)
def _known_tools(tools: bytes) -> list[dict[str, Any]]:
    """One list for all rollouts with equal tools: what was done with it once need not be done again."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool["name"],
                "description": tool.get("description", ""),
                "parameters": tool.get("input_schema") or {"type": "object", "properties": {}},
            },
        }
        for tool in exact.decode(tools)[0]
    ]


def split_parallel(conversation: Conversation) -> None:
    """Make of several calls in one message a call and its result after the other, in place."""
    if not conversation.parallel:
        return
    conversation.parallel = False
    messages, origins = conversation.messages, conversation.origins
    results = {message["tool_call_id"]: (message, origins[n]) for n, message in enumerate(messages) if message["role"] == "tool"}
    conversation.messages, conversation.origins = [], []
    for message, origin in zip(messages, origins, strict=True):
        calls = message.get("tool_calls", ())
        if message["role"] == "tool":
            if message["tool_call_id"] in results:
                conversation.add(*results.pop(message["tool_call_id"]))
        elif len(calls) > 1:
            for number, call in enumerate(calls):
                first = message if number == 0 else {"role": "assistant", "content": ""}
                conversation.add({**first, "tool_calls": [call]}, origin)
                if call["id"] in results:
                    conversation.add(*results.pop(call["id"]))
        else:
            conversation.add(message, origin)


def merge_system(conversation: Conversation) -> bool:
    """Put leading system messages in front of the first user message, in place; returns whether there were any."""
    messages = conversation.messages
    count = next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))
    if count == 0:
        return False
    text = "\n\n".join(_text_of(message["content"]) for message in messages[:count])
    del messages[:count], conversation.origins[:count]
    if messages and messages[0]["role"] == "user":
        content = messages[0]["content"]
        whole = f"{text}\n\n{content}" if isinstance(content, str) else [_text_part(text), *content]
        messages[0] = {**messages[0], "content": whole}
    else:
        messages.insert(0, {"role": "user", "content": text})
        conversation.origins.insert(0, -1)
    return True


def _text_of(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)
