"""The record of a rollout of TRL: what the environment did, with the words that TRL tells when it scores the rollout."""

from __future__ import annotations

from collections import deque
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
    pending = deque(calls)
    sampled = iter(token_ids)
    ids: Iterator[str] = iter(())
    is_over = False
    number = 0
    for position, entry in enumerate(completion):
        if entry.get("role") == "assistant":
            if is_over:
                break
            is_last = position == len(completion) - 1
            turn = _turn(entry, number, next(sampled, None), ended if is_last and ended is not None else None)
            number += len(turn.tool_calls)
            ids = iter([call.call_id for call in turn.tool_calls])
            messages.append(turn)
            continue
        call_id, name = next(ids, ""), str(entry.get("name") or "")
        if pending and pending[0].name == name and pending[0].content == entry.get("content"):
            call = pending.popleft()
            messages += [message.replace(call_id=call_id) for message in call.messages]
            is_over = is_over or call.ended
            if call.messages or not call.content:
                continue
        text = str(entry.get("content") or "")
        messages.append(ToolMessage(text, call_id, name, is_error=True, origin="client"))
    # Results that TRL dropped because they were too long: the calls ran, and may have ended the episode.
    messages += [message.replace(call_id=next(ids, "")) for call in pending for message in call.messages]
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


def turn_ids(
    completion: Sequence[Mapping[str, Any]], completion_ids: Sequence[int] | None, ends: _Ends
) -> list[Sequence[int] | None]:
    """Return the sampled ids of each assistant message of a completion; None where they cannot be told.

    The ids of a completion are those of all its turns in a row. `GRPOTrainer` has the results of tools and the opening of the
    next turn between them, `AsyncGRPOTrainer` has not. A turn ends with the first token that ends a turn.

    Example:
        >>> from types import SimpleNamespace
        >>> ends = SimpleNamespace(end_token_ids=frozenset({0}), generation_prompt_ids=(8, 9))
        >>> said = [{"role": "assistant"}, {"role": "tool"}, {"role": "assistant"}]
        >>> turn_ids(said, [1, 2, 0, 5, 5, 0, 8, 9, 3, 0], ends)
        [[1, 2, 0], [3, 0]]
        >>> turn_ids(said, [1, 2, 0, 3, 0], ends)
        [[1, 2, 0], [3, 0]]
    """
    turns = sum(entry.get("role") == "assistant" for entry in completion)
    unknown: list[Sequence[int] | None] = [None] * turns
    if not completion_ids or ends.end_token_ids is None:
        return unknown
    if turns == 1:
        # A result that follows the only turn has no answer, so that its ids may be there as well.
        return [_until_end(completion_ids, ends.end_token_ids)]
    opening = list(ends.generation_prompt_ids)
    apart = [list(part) for part in _split(list(completion_ids), ends.end_token_ids)]
    if len(apart) == turns:
        return [*apart]
    if not opening:
        return unknown
    found: list[Sequence[int] | None] = [apart[0]]
    for part in apart[1:]:
        starts = [at for at in range(len(part) - len(opening) + 1) if part[at : at + len(opening)] == opening]
        if starts:
            found.append(part[starts[0] + len(opening) :])
    return found if len(found) == turns else unknown


def _until_end(ids: Sequence[int], ends: frozenset[int]) -> list[int]:
    return next(iter(_split(ids, ends)))


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
