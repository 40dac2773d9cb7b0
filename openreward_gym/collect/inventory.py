"""What a run has to do, written down before anything is dispatched: what is missing is then a set difference."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from openreward_gym.errors import ConfigurationError, StoreError
from openreward_gym.importers import nemo_gym
from openreward_gym.types.rollout import line_of, task_id


@dataclass(frozen=True, slots=True)
class TaskChoice:
    """A task that is to be played: by its index in a split, or by its own spec."""

    split: str
    index: int | None = None
    spec: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.split} {self.index}" if self.index is not None else "a task given by its spec"

    def reset_options(self) -> dict[str, Any]:
        """What `OpenRewardEnv.reset` takes to open it."""
        if self.index is not None:
            return {"split": self.split, "task_index": self.index}
        return {"split": self.split, "task_spec": self.spec}


@dataclass(frozen=True, slots=True)
class Unit:
    """One rollout that is to be made: sample number `sample` of a task; `group` is what it is compared in.

    `number` is its place in the inventory.
    """

    number: int
    group: str
    task: TaskChoice
    sample: int

    @property
    def id(self) -> str:
        return f"{self.group}/{self.sample}"


class Inventory:
    """All units of a run, tasks in their order, a task's samples after each other.

    Args:
        environment, variant: What is played.
        tasks: The tasks; equal ones are different tasks of the run all the same, and get groups of their own.
        repeats: Rollouts a task.
    """

    def __init__(self, environment: str, variant: str | None, tasks: Sequence[TaskChoice], repeats: int) -> None:
        self.environment = environment
        self.variant = variant
        self.tasks = tasks
        self.repeats = repeats

    def __len__(self) -> int:
        return len(self.tasks) * self.repeats

    def __iter__(self) -> Iterator[Unit]:
        return (self.unit(number) for number in range(len(self)))

    def unit(self, number: int) -> Unit:
        """The unit at a place of the inventory."""
        place, sample = divmod(number, self.repeats)
        return Unit(number, self.groups[place], self.tasks[place], sample)

    def find(self, group: str | None, sample: int | None) -> int | None:
        """The place of a unit; None for one that is not in the inventory."""
        place = self._places.get(group) if group is not None else None
        if place is None or sample is None or not 0 <= sample < self.repeats:
            return None
        return place * self.repeats + sample

    @cached_property
    def groups(self) -> Sequence[str]:
        """The groups' names, task by task."""
        seen: dict[str, int] = {}
        names = []
        for task in self.tasks:
            name = task_id(self.environment, task.split, task.spec, task.index, self.variant)
            seen[name] = seen.get(name, 0) + 1
            names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
        return names

    @cached_property
    def _places(self) -> dict[str, int]:
        return {group: place for place, group in enumerate(self.groups)}

    def lines(self) -> Iterator[str]:
        """The lines of `tasks.jsonl`."""
        for unit in self:
            task = {"split": unit.task.split, "index": unit.task.index, "spec": unit.task.spec}
            known = {name: value for name, value in task.items() if value is not None}
            yield line_of({"id": unit.id, "group": unit.group, "sample": unit.sample, **known})

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `tasks.jsonl`: equal for equal work."""
        digest = hashlib.sha256()
        for line in self.lines():
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()

    @classmethod
    def read(cls, folder: Path) -> Inventory | None:
        """What `write` wrote to a run's folder; None where nothing did, or not of a whole run."""
        try:
            run = json.loads((folder / "run.json").read_bytes())
            rows = [json.loads(line) for line in (folder / "tasks.jsonl").read_bytes().splitlines()]
            tasks = [TaskChoice(row["split"], row.get("index"), row.get("spec")) for row in rows if row["sample"] == 0]
            found = cls(run["environment"], run["variant"], tasks, max(row["sample"] for row in rows) + 1)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if [row["id"] for row in rows] == [unit.id for unit in found] else None

    def write(self, folder: Path) -> None:
        """Write `tasks.jsonl`, whole or not at all.

        Raises:
            StoreError: The file cannot be written.
        """
        path = folder / "tasks.jsonl"
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in self.lines())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from None


def select_indices(tasks: str | Iterable[int] | None, count: int, split: str) -> list[int]:
    """The task indices that `tasks` names: None for all, "3", "0:100", "::10", "1,4,9:12", or numbers.

    Raises:
        ConfigurationError: It names no index of 0 <= index < `count`.
    """
    if tasks is None:
        return list(range(count))
    if isinstance(tasks, str):
        indices = [index for part in tasks.split(",") for index in _part(part.strip(), count, tasks)]
    else:
        indices = list(tasks)
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise ConfigurationError(f"there is no task {index!r} in split {split!r}: it has {count}, from 0 to {count - 1}")
    if not indices:
        raise ConfigurationError(f"tasks={tasks!r} names none of the {count} tasks of split {split!r}")
    return list(dict.fromkeys(indices))


def _part(part: str, count: int, whole: str) -> Iterable[int]:
    try:
        if ":" not in part:
            return [int(part)]
        bounds = [int(bound) if bound.strip() else None for bound in part.split(":")]
        return range(count)[slice(*bounds)]
    except (ValueError, TypeError):
        raise ConfigurationError(f"cannot read tasks={whole!r}: write '3', '0:100', '::10' or '1,4,9:12'") from None


def read_tasks(path: str | os.PathLike[str], split: str) -> list[TaskChoice | Mapping[str, Any]]:
    """The lines of a JSONL of tasks.

    A line is `{"task_index": 3}`, `{"task_spec": {...}}` (either with its own `"split"`), a line of a run's `tasks.jsonl`, or
    a row of NeMo Gym (with `responses_create_params`), which is given back as it is: see `match_rows`. Any other object is
    itself the spec of a task.

    Raises:
        ConfigurationError: The file cannot be read, or a line is no task; the message has its number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the tasks {str(path)!r}: {error}") from None
    found: list[TaskChoice | Mapping[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_task(json.loads(line), split))
            except (ValueError, RecursionError) as error:
                raise ConfigurationError(f"{path}, line {number} is no task: {error}") from None
    if not found:
        raise ConfigurationError(f"{path} has no tasks: write one JSON object a line")
    return found


def _task(row: Any, split: str) -> TaskChoice | Mapping[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"a task is a JSON object, not {str(row)[:80]!r}")
    own = {"task_index": "index", "task_spec": "spec"}
    named = {own[name]: row[name] for name in own if row.get(name) is not None}
    if not named and "id" in row and "group" in row and "sample" in row:
        named = {name: row[name] for name in ("index", "spec") if row.get(name) is not None}
    if nemo_gym.is_row(row) and not named:
        return row
    where = row.get("split", split) if named else split
    if not isinstance(where, str):
        raise ValueError(f"its split is {where!r}, not a name")
    if "index" in named:
        index = named["index"]
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise ValueError(f"its index is {index!r}, not a whole number from 0")
        return TaskChoice(where, index)
    spec = named.get("spec", row)
    if not isinstance(spec, dict):
        raise ValueError(f"its spec is {spec!r}, not an object")
    return TaskChoice(where, None, spec)


def match_rows(rows: Iterable[TaskChoice | Mapping[str, Any]], split: str, specs: Sequence[Any]) -> list[TaskChoice]:
    """NeMo Gym's rows as tasks of an environment; what is a task already stays.

    A row asks what its last user message says; the task of `specs` (those of `split`, by index) that holds this text is the
    one. A row that no task asks is a task of its own: its fields beside the conversation are the spec, with the question as
    `question` where they have none.
    """
    texts: dict[str, int] = {}
    for index, spec in enumerate(specs):
        for value in (spec or {}).values():
            if isinstance(value, str):
                texts.setdefault(value.strip(), index)
    return [row if isinstance(row, TaskChoice) else _match(row, split, texts) for row in rows]


def _match(row: Mapping[str, Any], split: str, texts: Mapping[str, int]) -> TaskChoice:
    index = texts.get(nemo_gym.question_of(row))
    return TaskChoice(split, None, nemo_gym.spec_of(row)) if index is None else TaskChoice(split, index)
