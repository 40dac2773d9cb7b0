"""Turns that were logged piece by piece: thoughts, text and calls that belong to one message of the assistant."""

from __future__ import annotations

from collections.abc import Iterable

from openreward_gym.types.rollout import MessageRecord, Part, ReasoningPart, ToolCallPart

# What the last piece of a turn tells about the whole of it.
_CLOSING = ("reward", "metadata", "usage", "stop_reason", "model", "cost_usd", "token_ids", "prompt_token_ids", "logprobs")


def joined(messages: Iterable[MessageRecord]) -> list[MessageRecord]:
    """`messages` with the pieces of each turn as one message."""
    found: list[MessageRecord] = []
    for message in messages:
        if found and belongs(message, found[-1]):
            found[-1] = extended(found[-1], message)
        else:
            found.append(message)
    return found


def belongs(piece: MessageRecord, turn: MessageRecord) -> bool:
    """Whether `piece`, logged right after `turn`, is part of the same turn.

    In a turn thoughts come before text and text before calls, and there is one text; what told its reward, its metadata
    or its tokens is complete.
    """
    if turn.role != "assistant" or piece.role != "assistant" or not turn.blocks or not piece.blocks:
        return False
    if turn.finished or any(getattr(turn, name) is not None for name in _CLOSING):
        return False
    last, first = _rank(turn.blocks[-1]), _rank(piece.blocks[0])
    return last < first or (last == first != 1)


def extended(turn: MessageRecord, piece: MessageRecord) -> MessageRecord:
    """`turn` with `piece` at its end."""
    told = {name: getattr(piece, name) for name in (*_CLOSING, "finished", "ended_at")}
    return turn.model_copy(update={"blocks": [*turn.blocks, *piece.blocks], **told})


def _rank(part: Part) -> int:
    return 0 if isinstance(part, ReasoningPart) else 2 if isinstance(part, ToolCallPart) else 1
