"""The order of an export's rows: by environment, split, task, group, sample and attempt, whatever order they were played in."""

from __future__ import annotations

import re
from array import array
from collections.abc import Hashable, Iterable
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import orjson

from openreward_gym import jsonio

_NUMBER = re.compile(r"([0-9]+)")
_MESSAGES = b',"messages":['
# A line with these keys before its messages was written by `RolloutStore.append`, which puts all that decides the order there.
_WRITTEN_HERE = {"schema", "id", "status", "run"}

NaturalKey: TypeAlias = tuple[tuple[Any, ...], str]


class Head(NamedTuple):
    """The fields of a rollout that decide its place. None and "" are for missing ones."""

    id: str
    environment: str = ""
    variant: str = ""
    split: str = ""
    task_index: int | None = None
    task: str = ""
    group: str = ""
    sample: int = -1
    attempt: int = 0

    @property
    def has_task(self) -> bool:
        """True if the rollout names its task or group."""
        return bool(self.task_index is not None or self.task or self.group)


def head_of(record: Any) -> Head:
    """Return the head of a record, which may be damaged: reading it raises the error later."""
    if not isinstance(record, dict):
        return Head("")
    environment, task = record.get("environment"), record.get("task")
    environment = environment if isinstance(environment, dict) else {}
    task = task if isinstance(task, dict) else {}
    return Head(
        str(record.get("id") or ""),
        str(environment.get("name") or ""),
        str(environment.get("variant") or ""),
        str(environment.get("split") or ""),
        _integer(task.get("index"), None),
        str(task.get("id") or ""),
        str(record.get("group") or ""),
        _integer(record.get("sample"), -1),
        _integer(record.get("attempt"), 0),
    )


def head_of_line(line: bytes) -> Head:
    """Return the head of a stored line. Its messages, which are most of it, are not parsed."""
    begin = line.find(_MESSAGES)
    while begin >= 0:
        try:
            # Inside another object, the text before a key "messages" is no JSON when it is closed here.
            record = orjson.loads(line[:begin] + b"}")
        except ValueError:
            begin = line.find(_MESSAGES, begin + 1)
            continue
        if not record.keys() >= _WRITTEN_HERE:
            break
        return head_of(record)
    try:
        return head_of(jsonio.loads(line))
    except ValueError:
        return Head("")


def _integer(value: Any, missing: Any) -> Any:
    return value if isinstance(value, int) and not isinstance(value, bool) and -(2**62) < value < 2**62 else missing


def in_order(heads: Iterable[Head], *, stored: bool) -> list[int]:
    """Return the numbers of rollouts in the order of their rows; of several with the same id, only the last one written.

    Rollouts that agree in all fields are in the order of their ids if they are `stored` and name a task: a store has them in the
    order in which they ended. Others keep the order in which they come.
    """
    places: dict[Hashable, int] = {}
    place_of, samples, attempts = array("q"), array("q"), array("q")
    ids: list[str] = []
    with_task: list[bool] = []
    for head in heads:
        place = places.setdefault(head[1:7], len(places))
        if place == len(with_task):
            with_task.append(head.has_task)
        place_of.append(place)
        samples.append(head.sample)
        attempts.append(head.attempt)
        ids.append(head.id)
    ranks = np.zeros(len(places), dtype=np.int64)
    ranks[sorted(range(len(places)), key=list(map(_key_of, places)).__getitem__)] = np.arange(len(places))
    keys = [np.frombuffer(attempts, np.int64), np.frombuffer(samples, np.int64), ranks[np.frombuffer(place_of, np.int64)]]
    order: list[int] = np.lexsort(keys).tolist() if ids else []
    last = {identity: number for number, identity in enumerate(ids) if identity}
    if len(last) < len(ids):
        order = [number for number in order if not ids[number] or last[ids[number]] == number]
    if stored and len(order) > 1:
        in_row = np.array(keys)[:, order]
        ends = np.flatnonzero((in_row[:, 1:] != in_row[:, :-1]).any(axis=0)) + 1
        for begin, end in pairwise([0, *ends.tolist(), len(order)]):
            if end > begin + 1 and with_task[place_of[order[begin]]]:
                order[begin:end] = sorted(order[begin:end], key=lambda number: natural(ids[number]))
    return order


def _key_of(place: Any) -> tuple[Any, ...]:
    environment, variant, split, index, task, group = place
    # Tasks with an index come by it; those with an id only come after them.
    by_index = (index is None, index if index is not None else 0)
    return (natural(environment), natural(variant), natural(split), by_index, natural(task), natural(group))


def natural(text: str) -> NaturalKey:
    """Return a key by which texts sort as people sort them: task-2 before task-10.

    >>> sorted(["task-10", "task-2", "other"], key=natural)
    ['other', 'task-2', 'task-10']
    """
    if len(text) == 36 and text[8] == text[13] == text[18] == text[23] == "-":
        return (text,), text  # a UUID: its digits are no numbers
    parts = _NUMBER.split(text)
    numbers = [part.lstrip("0") for part in parts[1::2]]
    parts[1::2] = [(len(number), number) for number in numbers]
    return tuple(parts), text
