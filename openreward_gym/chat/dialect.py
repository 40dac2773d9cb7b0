"""The interface of a provider's message format, and the helpers that the formats share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from openreward_gym.chat.failures import ended_of_error, is_failure, read_failure
from openreward_gym.chat.finish_reasons import ENDINGS
from openreward_gym.chat.history import HistoryRules, ToolNames, server_history
from openreward_gym.chat.plain import as_list, json_text, plain, shown
from openreward_gym.chat.streams import BROKE_OFF, StreamFormat
from openreward_gym.credentials import without_secrets
from openreward_gym.errors import MessageError
from openreward_gym.images import parse_data_url
from openreward_gym.jsonio import Json, finite
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
    ToolResult,
    as_blocks,
)


def ended_of(stop_reason: Json, blocks: Sequence[Block] = ()) -> Ended | None:
    """Return how a turn ended, from the provider's word; None if the provider gave no word.

    Some providers have one word for a complete turn, with or without tool calls: its content, `blocks`, tells which.

    Example:
        >>> ended_of("max_tokens"), ended_of("STOP", [ToolCall("add", {})]), ended_of("a new word"), ended_of(None)
        ('length', 'tool_calls', 'unknown', None)
    """
    if stop_reason is None:
        return None
    ended = ENDINGS.get(str(stop_reason).lower(), "unknown")
    if ended == "stop" and blocks:
        if any(isinstance(block, ToolCall) for block in blocks):
            return "tool_calls"
        if any(map(is_refusal, blocks)):
            return "refusal"
    return ended


def is_refusal(block: Block) -> bool:
    """Return whether a block is the text of a refusal, which OpenAI puts into a separate field or part."""
    if not isinstance(block, TextBlock):
        return False
    fields = block.extra.get("openai")
    return isinstance(fields, Mapping) and fields.get("type") == "refusal"


class Dialect(ABC):
    """A provider's message format, read and written.

    A field that our types do not have (a text's citations, a call's status) is kept in the block's `extra` under the
    provider's name, and written again for that provider only.

    Example:
        >>> from openreward_gym.chat import AnthropicDialect, OpenAIChatDialect
        >>> messages = OpenAIChatDialect().read([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
        >>> AnthropicDialect().write(messages)
        ('Be brief.', [{'role': 'user', 'content': [{'type': 'text', 'text': 'Hi'}]}])
    """

    provider: ClassVar[str]
    stream: ClassVar[StreamFormat | None] = None
    """The chunks of a streamed answer; None for a format without."""
    rules: ClassVar[HistoryRules] = HistoryRules()
    """The names and ids that the provider's servers take."""

    def read(self, messages: Any, *, system: Any = None) -> list[Message]:
        """Read one message, a list of them or a whole answer of the provider, as dictionaries or SDK objects.

        Args:
            messages: The messages. In a list, the chunks of a streamed answer become one message.
            system: The system prompt of a provider that keeps it beside the messages; None if it is missing.

        The body of an error in place of an answer is a turn without words that `ended` as "error".

        Raises:
            MessageError: A value is not a message of the format, or is a single chunk of a streamed answer.
        """
        try:
            data = plain(messages)
            items = as_list(data) if self.stream is None or not isinstance(data, list) else self.stream.assembled(data)
            turns = self.read_items(items)
            return turns if system is None else [SystemMessage(self.read_content(plain(system))), *turns]
        except MessageError:
            raise
        except RecursionError:
            raise MessageError("the message is nested too deeply") from None
        except TypeError as error:
            raise MessageError(str(error)) from None

    def read_items(self, items: Sequence[Json]) -> list[Message]:
        """Read messages and whole answers, given as JSON values."""
        return [self.read_message(item) for item in items]

    def read_message(self, data: Json) -> Message:
        """Read one message or whole answer, given as JSON values; raise MessageError as `read` does."""
        if isinstance(data, str):
            return self.read_text(data)
        if not isinstance(data, Mapping):
            raise MessageError(f"a message is a dictionary or an SDK object, not {shown(data)}")
        if self.stream is not None and self.stream.is_chunk(data):
            self.stream.refuse(data)
            data = self.stream.join([data])
        return read_failure(data) if is_failure(data) and not self.is_message(data) else self.read_turn(data)

    def read_text(self, text: str) -> Message:
        """Read a message that is text alone, where the format has such messages."""
        raise MessageError(f"a message is a dictionary or an SDK object, not the text {shown(text)}")

    @abstractmethod
    def read_turn(self, data: Mapping[str, Json]) -> Message:
        """Read one message or whole answer, which is neither a chunk nor the body of an error."""

    def read_part(self, data: Json) -> list[Block]:
        """Read one entry of a message's content, given as JSON values. An unknown entry becomes an `OpaqueBlock`."""
        if isinstance(data, str):
            return [TextBlock(data)]
        return self.read_object(data) if isinstance(data, Mapping) else [opaque(data)]

    def read_object(self, data: Mapping[str, Json]) -> list[Block]:
        """Read one entry of a message's content that is an object; by default it is of an unknown type."""
        return [opaque(data)]

    @abstractmethod
    def write(self, messages: Iterable[Message]) -> tuple[str | None, list[dict[str, Json]]]:
        """Return (system prompt, messages). The prompt stays None in formats that keep it among the messages."""

    def write_request(
        self, messages: Iterable[Message], *, rules: HistoryRules | None = None, names: ToolNames | None = None
    ) -> tuple[str | None, list[dict[str, Json]]]:
        """Return (system prompt, messages) that the provider's servers can parse: see `server_history`.

        Args:
            messages: The conversation.
            rules: The names and ids that the server takes. None: the provider's.
            names: The names under which the server gets the tools. None: names are only changed to be usable.
        """
        return self.write(server_history(messages, rules or self.rules, names))

    @abstractmethod
    def is_message(self, data: Mapping[str, Json]) -> bool:
        """Return whether an object is a message or a whole answer that only this format can have."""

    @abstractmethod
    def is_part(self, data: Mapping[str, Json]) -> bool:
        """Return whether an object is an entry of a message's content that only this format can have."""

    def read_content(self, content: Json) -> list[Block]:
        """Read a message's content: text or a list of entries. None and "" have no blocks."""
        if content is None or isinstance(content, str):
            return list(as_blocks(content or ""))
        return [block for part in as_list(content) for block in self.read_part(part)]

    def keep(self, fields: Mapping[str, Json]) -> dict[str, Json]:
        """Return `fields` as a block's `extra`."""
        return {self.provider: dict(fields)} if fields else {}

    def kept(self, block: Any) -> dict[str, Json]:
        """Return a copy of the fields that `keep` put into the block's `extra`; none of an `OpaqueBlock`."""
        fields = getattr(block, "extra", {}).get(self.provider)
        return dict(fields) if isinstance(fields, Mapping) else {}

    def prompt_and_turns(
        self, messages: Iterable[Message], *, assistant_role: str, content_field: str
    ) -> tuple[str | None, list[dict[str, Any]]]:
        """Return (system prompt, turns) for an API in which user and assistant alternate: neighbouring turns are merged.

        Args:
            messages: The conversation. Its system messages are joined by a blank line; the prompt stays None without any.
            assistant_role: The provider's name for the assistant. All other turns are the "user"'s.
            content_field: The provider's name for a turn's content.
        """
        system: list[str] = []
        turns: list[dict[str, Any]] = []
        for message in sendable(messages):
            if message.role == "system":
                system.append(message.text)
                continue
            role = assistant_role if message.role == "assistant" else "user"
            content = [self.write_part(block) for block in content_of(message)]
            if turns and turns[-1]["role"] == role:
                turns[-1][content_field].extend(content)
            else:
                turns.append({"role": role, content_field: content})
        return "\n\n".join(system) if system else None, turns

    @abstractmethod
    def write_part(self, block: Block) -> dict[str, Json]:
        """Return a block as an entry of a message's content."""


def merged(turns: Iterable[dict[str, Any]], content_field: str) -> list[dict[str, Any]]:
    """Return the turns that have content, neighbouring ones of one role as one."""
    result: list[dict[str, Any]] = []
    for turn in turns:
        if result and result[-1]["role"] == turn["role"]:
            result[-1] = {**result[-1], content_field: [*result[-1][content_field], *turn[content_field]]}
        elif turn[content_field]:
            result.append(turn)
    return result


OPENING = "Begin."
"""The text of the user's first turn in a request whose conversation begins with the assistant."""


def opened(
    system: str | None,
    turns: list[dict[str, Any]],
    content_field: str,
    assistant_role: str,
    text_part: Callable[[str], dict[str, Json]],
) -> tuple[str | None, list[dict[str, Any]]]:
    """Return (system prompt, turns) for an API whose first turn is the user's. A system prompt alone becomes that turn."""
    if not turns and system:
        return None, [{"role": "user", content_field: [text_part(system)]}]
    if turns and turns[0]["role"] == assistant_role:
        turns = [{"role": "user", content_field: [text_part(OPENING)]}, *turns]
    return system, turns


def opaque(value: Json) -> OpaqueBlock:
    """Return an entry of an unknown type as a block that keeps it unchanged."""
    return OpaqueBlock(dict(value) if isinstance(value, Mapping) else {"type": "", "value": value})


def image_of_url(url: Json, extra: Mapping[str, Json]) -> ImageBlock | None:
    """Return the image in a `data:` URL; None for any other value."""
    mime_and_data = parse_data_url(url) if isinstance(url, str) else None
    return None if mime_and_data is None else ImageBlock(mime_and_data[1], mime_and_data[0], extra=extra)


def content_of(message: Message) -> tuple[Block, ...]:
    """Return a message's blocks as providers want them: a tool's message is one `ToolResult`."""
    if message.role != "tool" or any(isinstance(block, ToolResult) for block in message.blocks):
        return message.blocks
    only = message.blocks[0] if len(message.blocks) == 1 else None
    content = only.text if isinstance(only, TextBlock) and not only.extra else message.blocks or ""
    extra = message.metadata if isinstance(message.metadata, Mapping) else {}
    return (ToolResult(content, message.call_id or "", message.name or "", message.is_error, extra=extra),)


def sendable(messages: Iterable[Message]) -> Iterator[Message]:
    """Yield messages as providers take them: an environment's answer to a message without calls is a turn of the user."""
    after_plain = False
    for message in messages:
        if message.role == "assistant":
            after_plain = not message.tool_calls
        is_result = message.role == "tool" and not any(isinstance(block, ToolResult) for block in message.blocks)
        yield Message("user", message.blocks, message.origin) if is_result and after_plain and not message.call_id else message


def tool_call(name: Json, arguments: Json, call_id: Json, extra: Mapping[str, Json] | None = None) -> ToolCall:
    """Return a call with name and arguments as a provider wrote them: an object, text, or None for no arguments.

    A value of another type, or an object with a number that strict JSON does not have, is kept as JSON text. The call is then
    malformed, and an env answers it with an error. A call without a name has an empty one, which an env answers likewise.
    """
    name, call_id = ("" if value is None else json_text(value) for value in (name, call_id))
    is_object = isinstance(arguments, Mapping) and finite(arguments) is arguments
    if arguments is None or is_object:
        return ToolCall(name, arguments or {}, call_id, extra=extra or {})
    return ToolCall(name, None, call_id, json_text(arguments), extra=extra or {})


def role_of(data: Mapping[str, Json], roles: Mapping[str, Role], default: str | None = None) -> Role:
    """Return a message's role; raise MessageError for a role that the format does not have."""
    role = data.get("role") or default
    if not isinstance(role, str) or role not in roles:
        raise MessageError(f"a message's role is {', '.join(roles)}, not {shown(role)}")
    return roles[role]


def total(*counts: int | None) -> int | None:
    """Return the sum of the counts that are not None; None if all are."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def assistant(
    blocks: Sequence[Block],
    sampled: Sampled,
    fields: Mapping[str, Json],
    *,
    ended: Ended | None = None,
    weight: float | None = None,
    name: str | None = None,
) -> AssistantMessage:
    """Return an assistant message.

    Args:
        blocks: The content.
        sampled: The provider's report; an empty one is left out.
        fields: Further data of the provider, added to `sampled.metadata`.
        ended, weight, name: As in `Message`. By default `ended` is derived from an `error` among the fields, else from the
            report's `stop_reason`.
    """
    if fields.get("error"):
        fields = {**fields, "error": without_secrets(fields["error"])}
        ended = ended_of_error(fields["error"])
    if ended is None and sampled.stop_reason is None and any(map(is_refusal, blocks)):
        ended = ended_of("stop", blocks)
    if fields.get(BROKE_OFF):
        ended = ended or "unknown"
    if fields:
        sampled = replace(sampled, metadata={**(sampled.metadata or {}), **fields})
    return AssistantMessage(
        blocks,
        sampled=None if sampled == Sampled() else sampled,
        ended=ended or ended_of(sampled.stop_reason, blocks),
        weight=weight,
        name=name,
    )


def has_report(message: Message) -> bool:
    """Return whether an assistant message carries what only a sampled one has: usage, model, an id, a reason of its end.

    A failure of the provider is not a sampled message.
    """
    if message.ended == "error":
        return False
    sampled = message.sampled
    if sampled is not None:
        values = (sampled.usage, sampled.stop_reason, sampled.model, sampled.token_ids, sampled.logprobs)
        if any(value is not None for value in values) or (sampled.metadata or {}).get("id"):
            return True
    return message.ended not in (None, "refusal") or any(map(_has_id, message.blocks))


def _has_id(block: Block) -> bool:
    """Return whether a provider gave a block, or the item that it begins, an id."""
    if isinstance(block, OpaqueBlock):
        return bool(block.raw.get("id"))
    if isinstance(block, ReasoningItem) and block.content_reference:
        return True
    extras = [fields for fields in block.extra.values() if isinstance(fields, Mapping)]
    extras += [fields["item"] for fields in extras if isinstance(fields.get("item"), Mapping)]
    return any(fields.get("id") for fields in extras)


def written_role(message: Message) -> str:
    """Return the role as its provider wrote it, where that is finer than ours ("developer")."""
    role = message.metadata.get("role") if isinstance(message.metadata, Mapping) else None
    return role if isinstance(role, str) else message.role
