"""The shapes of other systems' records: fields read with their types checked, and records that hold several rollouts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from openreward_gym.chat import from_openai, parse_action
from openreward_gym.importers.files import Record, read_file
from openreward_gym.importers.grouping import GroupBy
from openreward_gym.importers.jsonl import checked
from openreward_gym.importers.reasons import UNREADABLE, explain, wrong
from openreward_gym.jsonio import Json, loads
from openreward_gym.store import Damage
from openreward_gym.types import AssistantMessage, Message, Rollout, Sampled

Part: TypeAlias = tuple[str, Callable[[], Rollout]]
"""A rollout of a record: its place in the record, for the reason of a damage, and the function that makes it."""


def read_parts(
    path: str | os.PathLike[str],
    parts: Callable[[Record], Iterable[Part]],
    group_by: GroupBy | None = None,
    is_record: Callable[[list[Json]], bool] | None = None,
) -> Iterator[Rollout | Damage]:
    """Yield the rollouts of each record of a file, or a Damage for one that cannot be read.

    Args:
        path: The file.
        parts: Returns the rollouts of a record.
        group_by: Groups the rollouts; None for their own groups.
        is_record: Tells whether a JSON array is one record.
    """
    for record in read_file(path, is_record):
        if record.reason:
            yield Damage(record.number, record.reason, os.fspath(path), unit=record.unit)
            continue
        try:
            for position, (place, make) in enumerate(parts(record)):
                try:
                    rollout = checked(make())
                except UNREADABLE as error:
                    reason = explain(error, record.value, partial(_make, parts, record, position))
                    reason = f"{place}: {reason}" if place and f'"{place}' not in reason else reason
                    yield Damage(record.number, reason, os.fspath(path), unit=record.unit)
                else:
                    yield rollout if group_by is None else group_by.apply(rollout)
        except UNREADABLE as error:
            reason = explain(error, record.value, partial(_make, parts, record, -1))
            yield Damage(record.number, reason, os.fspath(path), unit=record.unit)


def _make(parts: Callable[[Record], Iterable[Part]], record: Record, position: int, value: Json) -> None:
    """Make the rollout at a position of a record with another value; at -1, only tell its parts."""
    for number, (_, make) in enumerate(parts(record._replace(value=value))):
        if number == position:
            make()
            return


def object_at(data: Mapping[str, Json], name: str) -> dict[str, Json]:
    """Return the object in a field; empty where the field is missing or null.

    Raises:
        ValueError: It is something else.

    Example:
        >>> object_at({"info": {"reward": 1}}, "info")
        {'reward': 1}
    """
    value = data.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong(name, "an object", value)
    return value


def objects_at(data: Mapping[str, Json], name: str) -> list[dict[str, Json]]:
    """Return the objects in a field that is a list of them; empty where the field is missing or null.

    Raises:
        ValueError: It is something else.
    """
    value = data.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(name, "a list of objects", value)
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise wrong(f"{name}[{number}]", "an object", item)
    return value


def text_at(data: Mapping[str, Json], name: str) -> str | None:
    """Return the text in a field; None where the field is missing or null.

    Raises:
        ValueError: It is something else.
    """
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        raise wrong(name, "text", value)
    return value


def opened(value: Json) -> Json:
    """Return JSON text of a list or an object as what it is, and any other value unchanged."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return loads(value)
        except ValueError:
            return value
    return value


def label_of(value: Json) -> str:
    """Return a name or a number as text; empty for any other value."""
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def with_tokens(sampled: Sampled, data: Mapping[str, Json], ids: str, logprobs: str, prompt_ids: str) -> Sampled:
    """Return a report with the tokens of a turn. Values that are not all numbers, or do not fit, go to its metadata as they are.

    Args:
        sampled: The report.
        data: The object with the token fields.
        ids, logprobs, prompt_ids: The names of the fields. Without ids of the turn, those of the prompt stay, too.

    Example:
        >>> with_tokens(Sampled(), {"ids": [5, 6], "logprobs": [-0.5, None]}, "ids", "logprobs", "prompt_ids")
        Sampled(..., token_ids=(5, 6), logprobs=None, ..., metadata={'logprobs': [-0.5, None]})
    """
    values = {name: value for name in (ids, logprobs, prompt_ids) if (value := data.get(name))}
    unfit = {name for name in values if not are_numbers(values[name], *([float] if name == logprobs else []))}
    if ids in unfit or (ids in values and logprobs not in unfit and len(values.get(logprobs, values[ids])) != len(values[ids])):
        unfit |= {logprobs} & values.keys()
    ours = {"token_ids": ids, "logprobs": logprobs, "prompt_token_ids": prompt_ids}
    fields: dict[str, Json] = {field: tuple(values[name]) for field, name in ours.items() if name in values and name not in unfit}
    left = {name: value for name, value in values.items() if name in unfit}
    return replace(sampled, **fields, metadata={**(sampled.metadata or {}), **left} or None)


def are_numbers(values: Json, *kinds: type) -> bool:
    """Return whether a value is a list of integers, or of numbers of these kinds, too."""
    return isinstance(values, list) and all(type(value) in (int, *kinds) for value in values)


def object_or_empty(data: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    """Return the object in a field; empty where there is none."""
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def chat_message(data: Mapping[str, Json], *further: str) -> Message:
    """Return a message of a chat.

    Args:
        data: The message, in the format of chat completions. Fields that are null count as missing.
        further: Names of fields that are left to the caller.

    Raises:
        ValueError: A field has a wrong type, or the role is unknown.
    """
    content = data.get("content")
    if content is not None and not isinstance(content, (str, list)):
        raise wrong("content", "text or a list of parts", content)
    if not isinstance(data.get("role"), str):
        raise wrong("role", "text", data.get("role"))
    objects_at(data, "tool_calls")
    for name in ("tool_call_id", "name", "reasoning_content"):
        text_at(data, name)
    (message,) = from_openai({name: value for name, value in data.items() if value is not None and name not in further})
    return message


def answer_of(response: Mapping[str, Json]) -> AssistantMessage:
    """Return the turn in a whole answer of a model: a chat completion, or a response of OpenAI's Responses API.

    Raises:
        ValueError: It is no such answer, or a field has a wrong type.
    """
    if "choices" in response:
        for choice in objects_at(response, "choices")[:1]:
            chat_message({**object_at(choice, "message"), "role": "assistant"})
    try:
        return parse_action(response)
    except TypeError:
        raise wrong("response", "a model's answer", dict(response)) from None


def with_metadata(message: Message, fields: Mapping[str, Json]) -> Message:
    """Return a message with further fields in its metadata."""
    rest = {name: value for name, value in fields.items() if value is not None}
    if not rest:
        return message
    metadata = message.metadata if isinstance(message.metadata, dict) else {}
    return message.replace(metadata={**metadata, **rest})


def with_reward(messages: Sequence[Message], reward: float | None, finished: bool) -> list[Message]:
    """Return the messages of an episode whose reward came at its end, with the reward in the last of them."""
    if not messages:
        return []
    return [*messages[:-1], messages[-1].replace(reward=reward, finished=finished)]
