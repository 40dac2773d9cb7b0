"""What several providers' formats have in common, read and written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from openreward_gym.chat.plain import as_list, json_text
from openreward_gym.types import AssistantMessage, Block, ImageBlock, Json, Message, OpaqueBlock, Sampled, TextBlock

_DATA_URL = re.compile(r"data:(?P<mime>[\w.+-]+/[\w.+-]+);base64,(?P<data>.*)", re.DOTALL)


def blocks_in(content: Json, block_of: Callable[[Json], Block]) -> list[Block]:
    """A message's content as blocks: text is one, a list has one a part (`block_of` reads it); None and "" have none."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [TextBlock(content)]
    return [block_of(part) for part in as_list(content)]


def opaque(value: Json) -> OpaqueBlock:
    """A part of a type we do not know, kept as it came."""
    return OpaqueBlock(dict(value) if isinstance(value, Mapping) else {"type": "", "value": value})


def kept(provider: str, rest: Mapping[str, Json]) -> dict[str, Json]:
    """`rest` as a block's `extra`: under the provider's name, so that it is given back to that provider alone."""
    return {provider: dict(rest)} if rest else {}


def given_back(block: Any, provider: str) -> dict[str, Json]:
    """What `kept` put aside for `provider`."""
    rest = block.extra.get(provider)
    return dict(rest) if isinstance(rest, Mapping) else {}


def image_of_url(url: Any, provider: str, rest: Mapping[str, Json]) -> ImageBlock | None:
    """The image in a `data:` URL; None for any other URL."""
    match = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
    return ImageBlock(match["data"], match["mime"], extra=kept(provider, rest)) if match else None


def data_url(image: ImageBlock) -> str:
    return f"data:{image.mime_type};base64,{image.data}"


def written_arguments(written: Json) -> tuple[dict[str, Json] | None, str | None]:
    """(object, text) of a call's arguments, one of them None: an object is one already, all else is the model's own text."""
    if isinstance(written, Mapping):
        return dict(written), None
    return None, json_text("" if written is None else written)


def total(*counts: int | None) -> int | None:
    """The sum of those that were told; None where none was."""
    told = [count for count in counts if count is not None]
    return sum(told) if told else None


def assistant(blocks: Sequence[Block], rest: Mapping[str, Json], sampled: Sampled | None = None) -> AssistantMessage:
    """An assistant's message; what its provider said beside it (`rest`) goes to `sampled.metadata`."""
    if rest:
        metadata = {**(sampled.metadata or {} if sampled else {}), **rest}
        sampled = replace(sampled or Sampled(), metadata=metadata)
    return AssistantMessage(blocks, sampled=sampled)


def written_role(message: Message) -> str:
    """The role as its provider wrote it, where it has more than ours ("developer")."""
    role = message.detail.get("role") if isinstance(message.detail, Mapping) else None
    return role or message.role


def prompt_and_turns(
    messages: Iterable[Message], write: Callable[[Message], Sequence[dict[str, Json]]], *, assistant_role: str, content_field: str
) -> tuple[str | None, list[dict[str, Any]]]:
    """(system prompt, turns); neighbouring turns of one side become one, as some APIs want them.

    Args:
        messages: The conversation.
        write: Gives what a message says, in the provider's form.
        assistant_role: The provider's name for the assistant; everybody else is "user".
        content_field: The provider's name for what a turn says.

    Returns:
        The system prompt is None where there is no system message; several are joined by a blank line.
    """
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            system.append(message.text)
            continue
        role = assistant_role if message.role == "assistant" else "user"
        said = write(message)
        if turns and turns[-1]["role"] == role:
            turns[-1][content_field].extend(said)
        else:
            turns.append({"role": role, content_field: list(said)})
    return "\n\n".join(system) if system else None, turns
