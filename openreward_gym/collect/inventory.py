"""The inventory of a run: all its units, written to disk before any is played, so that missing ones are a set difference."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.importers import nemo_gym
from openreward_gym.jsonio import loads
from openreward_gym.store.folder import LocalFolder
from openreward_gym.types import task_id
from openreward_gym.types.rollout import line_of

MOST_TASKS = 10_000_000
"""Largest number of tasks of a run. A server may report any number."""


@dataclass(frozen=True, slots=True)
class TaskChoice:
    """A task to play: an index in a split, or a spec."""

    split: str
    index: int | None = None
    spec: Mapping[str, Any] | None = None

    def reset_options(self) -> dict[str, Any]:
        """Return the options with which `OpenRewardEnv.reset` opens the task."""
        if self.index is not None:
            return {"split": self.split, "task_index": self.index}
        return {"split": self.split, "task_spec": self.spec}


@dataclass(frozen=True, slots=True)
class Unit:
    """One rollout to make: sample number `sample` of `task`."""

    number: int
    """The unit's place in the inventory."""
    group: str
    """Name of the task's group, whose rollouts are compared with each other."""
    task: TaskChoice
    sample: int

    @property
    def id(self) -> str:
        """The unit's name in `tasks.jsonl`."""
        return f"{self.group}/{self.sample}"


class Inventory:
    """All units of a run: the tasks in their order, and for each task its `repeats` samples. A repeated task has two groups."""

    def __init__(self, environment: str, variant: str | None, tasks: Sequence[TaskChoice], repeats: int) -> None:
        self.environment = environment
        self.variant = variant
        self.tasks = tasks
        self.repeats = repeats

    def __repr__(self) -> str:
        return f"<Inventory of {self.environment!r}: {len(self.tasks)} tasks, {self.repeats} samples each>"

    def __len__(self) -> int:
        return len(self.tasks) * self.repeats

    def __iter__(self) -> Iterator[Unit]:
        return (self.unit(number) for number in range(len(self)))

    def unit(self, number: int) -> Unit:
        """Return the unit with this number."""
        place, sample = divmod(number, self.repeats)
        return Unit(number, self.groups[place], self.tasks[place], sample)

    def find(self, group: str | None, sample: int | None) -> int | None:
        """Return the number of a unit. None if the inventory does not contain it."""
        place = self._places.get(group)
        if place is None or sample is None or not 0 <= sample < self.repeats:
            return None
        return place * self.repeats + sample

    @cached_property
    def groups(self) -> Sequence[str]:
        """Names of the groups, in the order of the tasks."""
        counts: Counter[str] = Counter()
        names = []
        for task in self.tasks:
            name = task_id(self.environment, task.split, task.spec, task.index, self.variant)
            counts[name] += 1
            names.append(name if counts[name] == 1 else f"{name}-{counts[name]}")
        return names

    @cached_property
    def _places(self) -> dict[str | None, int]:
        return {group: place for place, group in enumerate(self.groups)}

    def _lines(self) -> Iterator[bytes]:
        """Yield the lines of `tasks.jsonl`."""
        for unit in self:
            task = {"split": unit.task.split, "index": unit.task.index, "spec": unit.task.spec}
            known = {name: value for name, value in task.items() if value is not None}
            yield (line_of({"id": unit.id, "group": unit.group, "sample": unit.sample, **known}) + "\n").encode()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `tasks.jsonl`."""
        digest = hashlib.sha256()
        for line in self._lines():
            digest.update(line)
        return digest.hexdigest()

    @classmethod
    def read(cls, folder: Path) -> Inventory | None:
        """Read the inventory that `write` wrote to a run's folder. None if it is missing, incomplete or damaged."""
        try:
            files = LocalFolder(folder)
            run = loads(files.read_bytes("run.json"))
            rows = [loads(line) for line in files.read_bytes("tasks.jsonl").splitlines()]
            tasks = [TaskChoice(row["split"], row.get("index"), row.get("spec")) for row in rows if row["sample"] == 0]
            inventory = cls(run["environment"], run["variant"], tasks, max(row["sample"] for row in rows) + 1)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None
        return inventory if [row["id"] for row in rows] == [unit.id for unit in inventory] else None

    def write(self, folder: Path) -> None:
        """Write `tasks.jsonl` atomically."""
        LocalFolder(folder).write_bytes("tasks.jsonl", self._lines(), sync=True)


def select_indices(tasks: str | Iterable[int] | None, count: int, split: str) -> list[int]:
    """Return the task indices that `tasks` selects: None for all, "3", "0:100", "::10", "1,4,9:12", or integers.

    Selecting nothing, or an index outside of 0 <= index < `count`, raises ConfigurationError.

    Example:
        >>> select_indices("1,4,8:", 10, "train")
        [1, 4, 8, 9]
    """
    parts = (
        [range(count)]
        if tasks is None
        else [_part(part.strip(), count, tasks) for part in tasks.split(",")]
        if isinstance(tasks, str)
        else [list(tasks)]
    )
    if (selected := sum(map(len, parts))) > MOST_TASKS:
        raise ConfigurationError(
            f"tasks={tasks!r} selects {selected:,} tasks of split {split!r}, and a run has at most {MOST_TASKS:,}. "
            "Select fewer, such as tasks='0:1000'."
        )
    indices = [index for part in parts for index in part]
    if tasks is None:
        return indices
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise ConfigurationError(f"split {split!r} has no task {index!r}: it has {count}, from 0 to {count - 1}")
    if not indices:
        raise ConfigurationError(f"tasks={tasks!r} selects none of the {count} tasks of split {split!r}")
    return list(dict.fromkeys(indices))


def _part(part: str, count: int, tasks: str) -> Sequence[int]:
    try:
        if ":" not in part:
            return [int(part)]
        bounds = [int(bound) if bound.strip() else None for bound in part.split(":")]
        return range(count)[slice(*bounds)]
    except (ValueError, TypeError):
        raise ConfigurationError(f"cannot read tasks={tasks!r}: write '3', '0:100', '::10' or '1,4,9:12'") from None


def read_tasks(path: str | os.PathLike[str], split: str) -> list[TaskChoice | Mapping[str, Any]]:
    """Read a JSONL file of tasks.

    A line is `{"task_index": 3}`, `{"task_spec": {...}}` (either with an optional `"split"`), a line of a run's `tasks.jsonl`, or
    a NeMo Gym row (with `responses_create_params`), which is returned unchanged for `match_rows`. Any other object is a task's
    spec. Tasks that do not name a split belong to `split`. A line that is not a task raises ConfigurationError with its number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the tasks {str(path)!r}: {error}") from None
    rows: list[TaskChoice | Mapping[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(_task(json.loads(line), split))
            except (ValueError, RecursionError) as error:
                raise ConfigurationError(f"{path}, line {number} is not a task: {error}") from None
    if not rows:
        raise ConfigurationError(f"{path} has no tasks: write one JSON object per line")
    return rows


def _task(row: Any, split: str) -> TaskChoice | Mapping[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"a task is a JSON object, not {str(row)[:80]!r}")
    index, spec = row.get("task_index"), row.get("task_spec")
    if index is None and spec is None and {"id", "group", "sample"} <= row.keys():
        index, spec = row.get("index"), row.get("spec")
    if index is None and spec is None:
        return row if nemo_gym.is_row(row) else TaskChoice(split, None, row)
    split = row.get("split", split)
    if not isinstance(split, str):
        raise ValueError(f"its split must be a string, not {split!r}")
    if index is None:
        if not isinstance(spec, dict):
            raise ValueError(f"its spec must be an object, not {spec!r}")
        return TaskChoice(split, None, spec)
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        raise ValueError(f"its index must be an integer from 0, not {index!r}")
    return TaskChoice(split, index)


def match_rows(rows: Iterable[TaskChoice | Mapping[str, Any]], split: str, specs: Sequence[Any]) -> list[TaskChoice]:
    """Convert NeMo Gym rows to tasks of an environment. Tasks among the rows are returned unchanged.

    The text of a row's last user message is its question. A row becomes the task whose spec contains that question. Without such
    a task, the row's fields beside the conversation become the spec of a new task, with the question as `question` unless the row
    has such a field. `specs` are the specs of the split's tasks, by index.
    """
    indices: dict[str, int] = {}
    for index, spec in enumerate(specs):
        for value in (spec or {}).values():
            if isinstance(value, str):
                indices.setdefault(value.strip(), index)
    choices = []
    for row in rows:
        if not isinstance(row, TaskChoice):
            match = indices.get(nemo_gym.question_of(row))
            row = TaskChoice(split, None, nemo_gym.spec_of(row)) if match is None else TaskChoice(split, match)
        choices.append(row)
    return choices
