"""The record of a rollout of TRL: what the environment did, with the words that TRL tells when it scores the rollout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from openreward_gym.chat.dialect import tool_call
from openreward_gym.integrations.trl.state import TrainingState
from openreward_gym.types import AssistantMessage, Ended, Message, Rollout, Sampled, ToolMessage


@dataclass(frozen=True, slots=True)
class Call:
    """A call that TRL made.

    Attributes:
        name: The tool's name.
        content: What TRL was given to show to the model.
        messages: The environment's answer; empty where the call was not sent, or has no answer.
        ended: Whether the episode was over after it.
    """

    name: str
    content: Any
    messages: tuple[Message, ...] = ()
    ended: bool = False


def answered(completion: Sequence[Mapping[str, Any]], calls: Sequence[Call]) -> dict[int, Call]:
    """Return the call that each tool's message of a completion answers, by position. The others are TRL's own words."""
    by_position: dict[int, Call] = {}
    for position, entry in enumerate(completion):
        if entry.get("role") != "tool" or len(by_position) == len(calls):
            continue
        call = calls[len(by_position)]
        if call.name == entry.get("name") and call.content == entry.get("content"):
            by_position[position] = call
    return by_position


def conversation(
    prompt: Sequence[Message],
    completion: Sequence[Mapping[str, Any]],
    calls: Sequence[Call],
    verdict: Sequence[Message] = (),
    *,
    ended: Ended | None,
    token_ids: Sequence[Sequence[int] | None],
) -> list[Message]:
    """Return the messages of an episode in the model's own words.

    TRL calls tools without saying what else the model wrote, and answers some calls itself, such as those of unknown tools. The
    completion has all of it. A tool's message that TRL made up has the origin `client`. Messages after the episode's end are left
    out.

    Args:
        prompt: The messages before the model's first.
        completion: TRL's messages of the completion.
        calls: The calls that reached a tool, in order.
        verdict: What the environment said to the last message, which TRL does not show to the model.
        ended: How the last message ended, where the model was not cut short after a result. None if it has no such message.
        token_ids: The sampled ids of each assistant message, None where they are not known.
    """
    messages = list(prompt)
    played = answered(completion, calls)
    sampled = iter(token_ids)
    ids: Iterator[str] = iter(())
    is_over = False
    number = 0
    for position, entry in enumerate(completion):
        if entry.get("role") == "assistant":
            if is_over:
                break
            is_last = position == len(completion) - 1
            turn = _turn(entry, number, next(sampled, None), ended if is_last else None)
            number += len(turn.tool_calls)
            ids = iter([call.call_id for call in turn.tool_calls])
            messages.append(turn)
            continue
        call_id, call = next(ids, ""), played.get(position)
        if call is not None:
            messages += [message.replace(call_id=call_id) for message in call.messages]
            is_over = is_over or call.ended
        if call is None or (call.content and not call.messages):
            text, name = str(entry.get("content") or ""), str(entry.get("name") or "")
            messages.append(ToolMessage(text, call_id, name, is_error=True, origin="client"))
    # Results that TRL dropped because they were too long: the calls ran, and may have ended the episode.
    dropped = calls[len(played) :]
    messages += [message.replace(call_id=next(ids, "")) for call in dropped for message in call.messages]
    return [*messages, *verdict]


def _turn(entry: Mapping[str, Any], number: int, token_ids: Sequence[int] | None, ended: Ended | None) -> AssistantMessage:
    """Return an assistant message of TRL as the policy's turn; `number` calls came before."""
    calls = []
    for offset, item in enumerate(entry.get("tool_calls") or ()):
        function = item.get("function") or item
        calls.append(tool_call(function.get("name"), function.get("arguments"), f"call_{number + offset}"))
    return AssistantMessage(
        str(entry.get("content") or ""),
        calls,
        reasoning=entry.get("reasoning_content") or entry.get("thinking") or None,
        sampled=None if token_ids is None else Sampled(token_ids=tuple(token_ids)),
        origin="policy",
        ended=ended or ("tool_calls" if calls else "stop"),
    )


def told(rollout: Rollout, messages: list[Message], state: TrainingState, *, error: str | None) -> Rollout:
    """Return a record with other messages, and with the model and the sampling of the training."""
    rollout = replace(
        rollout,
        messages=messages,
        model=rollout.model or state.model,
        sampling=rollout.sampling or state.sampling,
    )
    if error is not None and rollout.error is None:
        rollout = replace(rollout, error=error, status="error", stop_reason="tool_failed")
    return rollout


class _Ends(Protocol):
    end_token_ids: frozenset[int] | None
    generation_prompt_ids: tuple[int, ...]
    is_copy: bool


def turn_ids(
    completion: Sequence[Mapping[str, Any]], completion_ids: Sequence[int] | None, ends: _Ends
) -> list[Sequence[int] | None]:
    """Return the sampled ids of each assistant message of a completion; None where they cannot be told for certain.

    The ids of a completion are those of all its turns in a row. `GRPOTrainer` has the results of tools and the opening of the
    next turn between them, `AsyncGRPOTrainer`, whose worker has a copy of the state, has not. A turn ends with the first token
    that ends a turn.

    Example:
        >>> from types import SimpleNamespace
        >>> ends = SimpleNamespace(end_token_ids=frozenset({0}), generation_prompt_ids=(8, 9), is_copy=False)
        >>> said = [{"role": "assistant"}, {"role": "tool"}, {"role": "assistant"}]
        >>> turn_ids(said, [1, 2, 0, 5, 5, 0, 8, 9, 3, 0], ends)
        [[1, 2, 0], [3, 0]]
    """
    turns = sum(entry.get("role") == "assistant" for entry in completion)
    unknown: list[Sequence[int] | None] = [None] * turns
    if not completion_ids or ends.end_token_ids is None:
        return unknown
    parts = list(_split(completion_ids, ends.end_token_ids))
    if turns == 1:
        # After a result without an answer, its ids may be there as well.
        return [parts[0]]
    found: list[Sequence[int] | None] = [*parts] if ends.is_copy else [parts[0]]
    opening = list(ends.generation_prompt_ids)
    if not ends.is_copy and opening:
        for part in parts[1:]:
            starts = [at for at in range(len(part) - len(opening) + 1) if part[at : at + len(opening)] == opening]
            if len(starts) > 1:
                # A result has the opening in its text.
                return unknown
            found += [part[at + len(opening) :] for at in starts]
    return found if len(found) == turns else unknown


def _split(ids: Sequence[int], ends: frozenset[int]) -> Iterator[list[int]]:
    """Yield the parts of a list that end with an id of `ends`, and what follows the last."""
    part: list[int] = []
    for one in ids:
        part.append(one)
        if one in ends:
            yield part
            part = []
    if part:
        yield part
