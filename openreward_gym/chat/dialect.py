"""The interface of a provider's message format, and the helpers that the formats share."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from openreward_gym.chat.plain import as_list, json_text, plain
from openreward_gym.types import AssistantMessage, Block, ImageBlock, Json, Message, OpaqueBlock, Sampled, TextBlock

_DATA_URL = re.compile(r"data:(?P<mime>[\w.+-]+/[\w.+-]+);base64,(?P<data>.*)", re.DOTALL)


class Dialect(ABC):
    """A provider's message format, read and written.

    A field that our types do not have (a text's citations, a call's status) is kept in the block's `extra` under the
    provider's name, and written again for that provider alone.

    Example:
        >>> from openreward_gym.chat import AnthropicDialect, OpenAIChatDialect
        >>> messages = OpenAIChatDialect().read([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
        >>> AnthropicDialect().write(messages)
        ('Be brief.', [{'role': 'user', 'content': [{'type': 'text', 'text': 'Hi'}]}])
    """

    provider: ClassVar[str]

    def read(self, messages: Any, *, system: Any = None) -> list[Message]:
        """Read one message, a list of them or a whole answer of the provider, as dictionaries or SDK objects.

        Args:
            messages: The messages.
            system: The system prompt, where the provider keeps it beside the messages; None if there is none.

        Raises:
            ValueError: A message has a role that the format does not have.
            TypeError: A value is not a message.
        """
        turns = [self.read_message(item) for item in as_list(plain(messages))]
        return turns if system is None else [Message("system", tuple(self.read_content(plain(system)))), *turns]

    @abstractmethod
    def read_message(self, data: Json) -> Message:
        """Read one message or whole answer, given as JSON values."""

    @abstractmethod
    def read_part(self, data: Json) -> list[Block]:
        """Read one entry of a message's content, given as JSON values. An unknown entry becomes an `OpaqueBlock`."""

    @abstractmethod
    def write(self, messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
        """Return (system prompt, messages). The system prompt is None where it is one of the messages, or missing."""

    @abstractmethod
    def is_message(self, data: Mapping[str, Json]) -> bool:
        """Return whether an object is a message or a whole answer that only this format can have."""

    @abstractmethod
    def is_part(self, data: Mapping[str, Json]) -> bool:
        """Return whether an object is an entry of a message's content that only this format can have."""

    def read_content(self, content: Json) -> list[Block]:
        """Read a message's content: text or a list of entries. None and "" have no blocks."""
        if content is None or content == "":
            return []
        if isinstance(content, str):
            return [TextBlock(content)]
        return [block for part in as_list(content) for block in self.read_part(part)]

    def keep(self, fields: Mapping[str, Json]) -> dict[str, Json]:
        """Return `fields` as a block's `extra`."""
        return {self.provider: dict(fields)} if fields else {}

    def kept(self, block: Any) -> dict[str, Json]:
        """Return a copy of the fields that `keep` put into the block's `extra`."""
        fields = block.extra.get(self.provider)
        return dict(fields) if isinstance(fields, Mapping) else {}

    def prompt_and_turns(
        self, messages: Iterable[Message], *, assistant_role: str, content_field: str
    ) -> tuple[str | None, list[dict[str, Any]]]:
        """Return (system prompt, turns) for an API that wants the sides to take turns: neighbouring turns of a side are merged.

        Args:
            messages: The conversation.
            assistant_role: The provider's name for the assistant. All other turns are the "user"'s.
            content_field: The provider's name for a turn's content.

        Returns:
            The system prompt is None if there is no system message. Several are joined by a blank line.
        """
        system: list[str] = []
        turns: list[dict[str, Any]] = []
        for message in messages:
            if message.role == "system":
                system.append(message.text)
                continue
            role = assistant_role if message.role == "assistant" else "user"
            content = [self.write_part(block) for block in message.blocks]
            if turns and turns[-1]["role"] == role:
                turns[-1][content_field].extend(content)
            else:
                turns.append({"role": role, content_field: content})
        return "\n\n".join(system) if system else None, turns

    @abstractmethod
    def write_part(self, block: Block) -> dict[str, Json]:
        """Return a block as an entry of a message's content."""


def opaque(value: Json) -> OpaqueBlock:
    """Return an entry of an unknown type as a block that keeps it unchanged."""
    return OpaqueBlock(dict(value) if isinstance(value, Mapping) else {"type": "", "value": value})


def image_of_url(url: Json, extra: Mapping[str, Json]) -> ImageBlock | None:
    """Return the image in a `data:` URL; None for any other URL."""
    match = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
    return ImageBlock(match["data"], match["mime"], extra=extra) if match else None


def data_url(image: ImageBlock) -> str:
    """Return the image as a `data:` URL."""
    return f"data:{image.mime_type};base64,{image.data}"


def written_arguments(written: Json) -> tuple[dict[str, Json] | None, str | None]:
    """Return the (object, text) of a call's arguments; one of them is None. A value that is not an object becomes text."""
    if isinstance(written, Mapping):
        return dict(written), None
    return None, json_text("" if written is None else written)


def total(*counts: int | None) -> int | None:
    """Return the sum of the counts that are not None; None if all are."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def assistant(blocks: Sequence[Block], fields: Mapping[str, Json], sampled: Sampled | None = None) -> AssistantMessage:
    """Return an assistant message; `fields`, the provider's further data, go to `sampled.metadata`."""
    if fields:
        metadata = {**(sampled.metadata or {} if sampled else {}), **fields}
        sampled = replace(sampled or Sampled(), metadata=metadata)
    return AssistantMessage(blocks, sampled=sampled)


def written_role(message: Message) -> str:
    """Return the role as its provider wrote it, where that is finer than ours ("developer")."""
    role = message.detail.get("role") if isinstance(message.detail, Mapping) else None
    return role or message.role
