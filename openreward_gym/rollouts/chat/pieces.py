"""What several providers' formats have in common, read and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from openreward_gym.rollouts.chat.plain import as_list, json_text
from openreward_gym.types import Block, Json, Message, TextBlock


def blocks_in(content: Json, block_of: Callable[[Json], Block]) -> list[Block]:
    """A message's content as blocks: text is one, a list has one a part (`block_of` reads it); None and "" have none."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [TextBlock(content)]
    return [block_of(part) for part in as_list(content)]


def written_arguments(written: Json) -> tuple[dict[str, Json] | None, str | None]:
    """(object, text) of a call's arguments, one of them None: an object is one already, all else is the model's own text."""
    if isinstance(written, Mapping):
        return dict(written), None
    return None, json_text("" if written is None else written)


def total(*counts: int | None) -> int | None:
    """The sum of those that were told; None where none was."""
    told = [count for count in counts if count is not None]
    return sum(told) if told else None


def written_role(message: Message) -> str:
    """The role as its provider wrote it, where it has more than ours ("developer")."""
    role = message.detail.get("role") if isinstance(message.detail, Mapping) else None
    return role or message.role


def prompt_and_turns(
    messages: Iterable[Message], write: Callable[[Message], Sequence[dict[str, Json]]], *, assistant: str, content: str
) -> tuple[str | None, list[dict[str, Any]]]:
    """(system prompt, turns); neighbouring turns of one side become one, as some APIs want them.

    Args:
        messages: The conversation.
        write: Gives what a message says, in the provider's form.
        assistant: The provider's name for the assistant; everybody else is "user".
        content: The provider's name for what a turn says.

    Returns:
        The system prompt is None where there is no system message; several are joined by a blank line.
    """
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            system.append(message.text)
            continue
        role = assistant if message.role == "assistant" else "user"
        said = write(message)
        if turns and turns[-1]["role"] == role:
            turns[-1][content].extend(said)
        else:
            turns.append({"role": role, content: list(said)})
    return "\n\n".join(system) if system else None, turns
