"""Files that list the tasks of a run: tasks by index or spec, and rows of NeMo Gym, which are matched with tasks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from openreward_gym.chat.plain import shown
from openreward_gym.collect.inventory import TaskChoice, written_row
from openreward_gym.collect.rows import InputRow
from openreward_gym.errors import ConfigurationError
from openreward_gym.importers import nemo_gym
from openreward_gym.importers.nemo_gym_rows import OWN
from openreward_gym.jsonio import Json, loads

_OF_A_ROLLOUT = ("response", "reward", OWN)

Specs: TypeAlias = Mapping[str, Sequence[Any]]
"""The specs of the tasks of each split, by index."""


def read_tasks(path: str | os.PathLike[str], split: str) -> list[TaskChoice | InputRow]:
    """Read a JSONL file of tasks.

    A line is `{"task_index": 3}`, `{"task_spec": {...}}` (either with an optional `"split"`), a line of a run's `tasks.jsonl`, or
    a NeMo Gym row (with `responses_create_params`, which version 0.7 has in `task_input`). A row that does not name its task by
    index or spec is returned for `match_rows`. Any other object is a task's spec. Tasks that do not name a split belong to
    `split`. A line that is not a task raises ConfigurationError with its number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the tasks {str(path)!r}: {error}") from None
    rows: list[TaskChoice | InputRow] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(_task(loads(line, allow_nan=False), split, number))
            except (ValueError, RecursionError) as error:
                raise ConfigurationError(f"{path}, line {number} is not a task: {error}") from None
    if not rows:
        raise ConfigurationError(f"{path} has no tasks: write one JSON object per line")
    return rows


def _task(line: Json, split: str, number: int) -> TaskChoice | InputRow:
    if not isinstance(line, dict):
        raise ValueError(f"a task is a JSON object, not {shown(line)[:80]}")
    row = None
    if nemo_gym.is_row(line):
        # A line that has been played before is played again: its answer and its reward are those of another rollout.
        row = InputRow(number, {name: value for name, value in line.items() if name not in _OF_A_ROLLOUT})
        line = row.fields
    index, spec = line.get("task_index"), line.get("task_spec")
    if row is None and index is None and spec is None and {"id", "group", "sample"} <= line.keys():
        index, spec, row = line.get("index"), line.get("spec"), written_row(line)
    if index is None and spec is None:
        return TaskChoice(split, None, line) if row is None else row
    split = line.get("split", split)
    if not isinstance(split, str):
        raise ValueError(f"its split must be a string, not {split!r}")
    if index is None:
        if not isinstance(spec, dict):
            raise ValueError(f"its spec must be an object, not {spec!r}")
        return TaskChoice(split, None, spec, row)
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        raise ValueError(f"its index must be an integer from 0, not {index!r}")
    return TaskChoice(split, index, None, row)


def split_of(row: InputRow, split: str, known: Iterable[str]) -> str:
    """Return the split of a row: the one that it names, if the environment has it, else `split`."""
    named = row.fields.get("split")
    return named if isinstance(named, str) and named in known else split


def match_rows(rows: Iterable[TaskChoice | InputRow], split: str, specs: Specs) -> list[TaskChoice]:
    """Convert rows to tasks of an environment. Tasks among the rows are returned unchanged.

    The text of a row's last user message is its question. A row becomes the task whose spec has that question as a text, up to
    the amount of white space. Of several such tasks, the fields that the row shares with their specs decide. Without
    such a task, the row's fields beside the conversation become the spec of a new task, with the question as `question` unless
    the row has such a field.

    Args:
        rows: The rows, and tasks among them.
        split: Split of the rows that name none.
        specs: The specs of the tasks. A row may name one of its splits as `split`.

    Raises:
        ConfigurationError: Several tasks have the question of a row, and none of the row's fields tells which one is meant.
    """
    questions = {name: _questions(of_split) for name, of_split in specs.items()}
    choices = []
    for row in rows:
        if isinstance(row, TaskChoice):
            choices.append(row)
            continue
        name = split_of(row, split, specs)
        exact, loose = questions.get(name, ({}, {}))
        places = exact.get(row.question) or loose.get(_plain(row.question)) or []
        index = _index(row, places, specs.get(name, ()), name)
        choices.append(TaskChoice(name, index, _spec(row) if index is None else None, row))
    return choices


def _spec(row: InputRow) -> dict[str, Json]:
    """Return a row as the spec of a task, without the numbers that NeMo Gym itself adds to its rows (`_ng_task_index`, ...)."""
    return {name: value for name, value in nemo_gym.spec_of(row.data).items() if not name.startswith("_ng_")}


def _questions(specs: Sequence[Any]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Return the indices of the tasks whose specs have a text: by the text, and by the text with single spaces."""
    exact: dict[str, list[int]] = {}
    loose: dict[str, list[int]] = {}
    for index, spec in enumerate(specs):
        texts = {value.strip() for value in spec.values() if isinstance(value, str)} if isinstance(spec, Mapping) else set()
        for text in texts - {""}:
            exact.setdefault(text, []).append(index)
        for text in {_plain(text) for text in texts} - {""}:
            loose.setdefault(text, []).append(index)
    return exact, loose


def _plain(text: str) -> str:
    return " ".join(text.split())


def _index(row: InputRow, places: Sequence[int], specs: Sequence[Any], split: str) -> int | None:
    """Return the index of a row's task among those that have its question."""
    if not places:
        return None
    fields = row.fields
    agreeing = [
        place for place in places if all(specs[place][name] == fields[name] for name in fields.keys() & specs[place].keys())
    ]
    chosen = agreeing or places
    if all(specs[place] == specs[chosen[0]] for place in chosen):
        return chosen[0]
    shown_places = ", ".join(map(str, chosen[:5])) + (", ..." if chosen[5:] else "")
    raise ConfigurationError(
        f"{row.describe()}: the tasks {shown_places} of split {split!r} have this "
        'question. Write which one is meant into the row, such as "task_index": ' + str(chosen[0])
    )


def in_file(path: str | os.PathLike[str] | None, error: ConfigurationError) -> ConfigurationError:
    """Return an error about a row with the name of its file."""
    return type(error)(f"{path}, {error}")
