"""The inventory of a run: all its units, written to disk before any is played, so that missing ones are a set difference."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from openreward_gym.collect.rows import InputRow
from openreward_gym.errors import ConfigurationError
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
    row: InputRow | None = field(default=None, compare=False)
    """The row of NeMo Gym that names the task, whose messages, tools and parameters are played. None without one."""

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
            if unit.task.row is not None:
                task |= {"line": unit.task.row.line, "row": unit.task.row.data}
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
            tasks = [
                TaskChoice(row["split"], row.get("index"), row.get("spec"), written_row(row))
                for row in rows
                if row["sample"] == 0
            ]
            inventory = cls(run["environment"], run["variant"], tasks, max(row["sample"] for row in rows) + 1)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None
        return inventory if [row["id"] for row in rows] == [unit.id for unit in inventory] else None

    def write(self, folder: Path) -> None:
        """Write `tasks.jsonl` atomically."""
        LocalFolder(folder).write_bytes("tasks.jsonl", self._lines(), sync=True)


def written_row(line: Mapping[str, Any]) -> InputRow | None:
    """Return the row of NeMo Gym in a line of `tasks.jsonl`. None without one. Raises ValueError if it cannot be read."""
    return None if line.get("row") is None else InputRow(int(line.get("line") or 0), line["row"])


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
