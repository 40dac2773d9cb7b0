"""Lines of OpenAI's fine-tuning files: `openai` for supervised fine-tuning, `openai_dpo` for preferences."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from openreward_gym.export.conversation import PROBLEMS, ChatMessage, Conversation, with_text_arguments
from openreward_gym.export.formats.base import Format, LeftOut
from openreward_gym.export.formats.trl import Pair, Preference
from openreward_gym.export.tables import Columns, Row
from openreward_gym.images import data_url, mime_type_of

# https://developers.openai.com/api/docs/guides/vision-fine-tuning: formats, 10 images per example, 10 MB per image, none in
# assistant messages. Ids, names and descriptions: the API's own errors ("string too long. Expected a string with maximum length
# 40", "does not match '^[a-zA-Z0-9_-]{1,64}$'"), and the API reference of `tools` and of a message's `name`.
_ID_LENGTH = 40
_MOST_TOOLS = 128
_DESCRIPTION_LENGTH = 1024
_MOST_IMAGES = 10
_IMAGE_BYTES = 10_000_000
_IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_USER_NAME = re.compile(r"[^\s<|\\/>]{1,64}")


class OpenAi(Format):
    """Lines of OpenAI's fine-tuning files: arguments as text, no keys that OpenAI refuses, an assistant message last.

    A line keeps OpenAI's limits: longer call ids are renamed, everything else beyond a limit leaves the rollout out.
    """

    name = "openai"
    about = "lines for OpenAI fine-tuning, chat with tools"
    file = "jsonl"
    tolerates = frozenset({"unknown_part", "repeated_key"})
    carries_reasoning = False
    image_column = False

    def columns(self) -> Columns:
        return {"messages": "objects", "tools": "tools", "parallel_tool_calls": "bool"}

    def all_columns(self) -> Columns:
        # OpenAI refuses lines with other keys.
        return self.columns()

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        messages = conversation.up_to_last_turn
        lines = _Lines(conversation).of(messages, conversation.argument_texts)
        turns = set(conversation.turns)
        for number, line in enumerate(lines):
            if line["role"] == "assistant" and number not in turns:
                line["weight"] = 0
        yield {"messages": lines, **_tool_fields(conversation, messages)}


class OpenAiDpo(Preference):
    """Lines for OpenAI's direct preference optimization: `input`, `preferred_output` and `non_preferred_output`."""

    name = "openai_dpo"
    about = "pairs of one assistant message for OpenAI's preference fine-tuning (DPO)"
    file = "jsonl"
    tolerates = Preference.tolerates | OpenAi.tolerates
    carries_reasoning = False
    image_column = False

    def columns(self) -> Columns:
        return {"input": "object", "preferred_output": "objects", "non_preferred_output": "objects"}

    def all_columns(self) -> Columns:
        return self.columns()

    def pair_row(self, pair: Pair) -> Row:
        if len(pair.chosen) > 1 or len(pair.rejected) > 1:
            raise LeftOut("several messages on a side: OpenAI takes one (whole_trajectories=False)")
        lines = _Lines(pair.better)
        of_better, of_worse = pair.texts
        prompt = lines.of(pair.prompt, of_better)
        return {
            "input": {"messages": prompt, **_tool_fields(pair.better, [*pair.prompt, *pair.chosen, *pair.rejected])},
            "preferred_output": lines.of(pair.chosen, of_better),
            "non_preferred_output": _Lines(pair.worse).of(pair.rejected, of_worse),
        }


class _Lines:
    """Writes the messages of a conversation in order, and raises LeftOut at the first that OpenAI would refuse."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.images = iter(conversation.images)
        self.num_images = 0

    def of(self, messages: Sequence[ChatMessage], argument_texts: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return messages as OpenAI's.

        Raises:
            LeftOut: One of them has what OpenAI refuses.
        """
        uncarried = self.conversation.uncarried
        for message, source in zip(self.conversation.messages, self.conversation.sources, strict=True):
            # Of an assistant message, such parts are not among the parts of the chat message.
            if message["role"] == "assistant" and uncarried.get(source) == "unknown_part":
                raise LeftOut(PROBLEMS["unknown_part"])
        return [self._line(with_text_arguments(message, argument_texts)) for message in messages]

    def _line(self, message: ChatMessage) -> dict[str, Any]:
        role, content = message["role"], message["content"]
        line: dict[str, Any] = {"role": role, "content": content}
        if isinstance(content, list):
            line["content"] = [self._part(part, role) for part in content]
        if role == "assistant" and not content and "tool_calls" not in message:
            raise LeftOut("an empty assistant message: OpenAI refuses it")
        if "tool_calls" in message:
            line["tool_calls"] = [self._call(call) for call in message["tool_calls"]]
        if "tool_call_id" in message:
            line["tool_call_id"] = self._id(message["tool_call_id"])
        # OpenAI has no field for a tool's name in its result.
        if "name" in message and role == "user":
            if not _USER_NAME.fullmatch(message["name"]):
                raise LeftOut("a user's name that OpenAI refuses (white space, <, |, \\, / or >, or more than 64 characters)")
            line["name"] = message["name"]
        return line

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        if not _TOOL_NAME.fullmatch(call["function"]["name"]):
            raise LeftOut(_BAD_TOOL_NAME)
        return {**call, "id": self._id(call["id"])}

    def _id(self, call_id: str) -> str:
        if len(call_id) <= _ID_LENGTH:
            return call_id
        self.conversation.findings.add("call_ids_renamed")
        return f"call_{hashlib.blake2b(call_id.encode(), digest_size=16).hexdigest()}"

    def _part(self, part: dict[str, Any], role: str) -> dict[str, Any]:
        if part["type"] == "text":
            return part
        provider_part = _image_part(next(self.images)) if part["type"] == "image" else _part_of(part["block"])
        if provider_part is None or role != "user":
            raise LeftOut(PROBLEMS["unknown_part"])
        self.num_images += provider_part["type"] == "image_url"
        if self.num_images > _MOST_IMAGES:
            raise LeftOut(f"more than {_MOST_IMAGES} images: OpenAI refuses them")
        return provider_part


_BAD_TOOL_NAME = "a tool's name that OpenAI refuses (other characters than letters, digits, _ and -, or more than 64)"


def _tool_fields(conversation: Conversation, messages: Sequence[ChatMessage]) -> dict[str, Any]:
    """Return `tools` and `parallel_tool_calls` of a line with `messages`."""
    tools = conversation.tools or ()
    if len(tools) > _MOST_TOOLS:
        raise LeftOut(f"more than {_MOST_TOOLS} tools: OpenAI refuses them")
    for tool in tools:
        if not _TOOL_NAME.fullmatch(tool["function"]["name"]):
            raise LeftOut(_BAD_TOOL_NAME)
        if len(tool["function"]["description"]) > _DESCRIPTION_LENGTH:
            raise LeftOut(f"a tool's description of more than {_DESCRIPTION_LENGTH:,} characters: OpenAI refuses it")
    if not tools:
        return {}
    return {"tools": tools, "parallel_tool_calls": any(len(message.get("tool_calls", ())) > 1 for message in messages)}


def _image_part(content: bytes) -> dict[str, Any]:
    mime_type = mime_type_of(content)
    if mime_type not in _IMAGE_TYPES or len(content) > _IMAGE_BYTES:
        raise LeftOut("an image that OpenAI refuses (not PNG, JPEG or WEBP, or more than 10 MB)")
    return {"type": "image_url", "image_url": {"url": data_url(base64.b64encode(content).decode("ascii"), mime_type)}}


def _part_of(block: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the part of a chat message for a provider's block as it is recorded; None if chat messages have none for it.

    Images by address (OpenAI's chat and Responses, Anthropic), files and audio (OpenAI's chat and Responses).
    """
    raw = block["raw"] if block.get("type") == "opaque" and isinstance(block.get("raw"), Mapping) else block
    kind = raw.get("type")
    if kind in ("image_url", "input_image"):
        image = raw.get("image_url")
        image = image if isinstance(image, Mapping) else {"url": image, "detail": raw.get("detail")}
        return _with_texts("image_url", image, "url", ("url", "detail"))
    if kind == "image" and isinstance(raw.get("source"), Mapping):
        return _with_texts("image_url", raw["source"], "url", ("url",))
    if kind in ("file", "input_file"):
        file = raw.get("file") if kind == "file" else raw
        if isinstance(file, Mapping):
            # OpenAI's chat messages have no file by address.
            return _with_texts("file", file, "file_data" if file.get("file_data") else "file_id", _FILE_KEYS)
    if kind == "input_audio" and isinstance(raw.get("input_audio"), Mapping):
        return _with_texts("input_audio", raw["input_audio"], "data", ("data", "format"))
    return None


_FILE_KEYS = ("file_data", "file_id", "filename")


def _with_texts(kind: str, values: Mapping[str, Any], needed: str, keys: Sequence[str]) -> dict[str, Any] | None:
    """Return a part of a kind with those of `keys` whose values are texts; None if the one needed is missing."""
    fields = {key: values[key] for key in keys if isinstance(values.get(key), str)}
    return {"type": kind, kind: fields} if fields.get(needed) else None
