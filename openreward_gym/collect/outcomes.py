"""Outcomes of a run's units, read from the run's files."""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openreward_gym.collect.failure_limit import SAME_FAILURES
from openreward_gym.collect.inventory import Inventory, Unit
from openreward_gym.errors import RecordError
from openreward_gym.jsonio import loads
from openreward_gym.store import OnDamage
from openreward_gym.store.folder import LocalFolder
from openreward_gym.store.index import read_each
from openreward_gym.types.codec import shown
from openreward_gym.types.rollout import moment_of, object_of

MISSING, FAILED, SUCCESSFUL, OMITTED = range(4)
REFUSED_TIMES = 3
"""Number of refusals by a policy's model after which a unit is not played again. By default each collection tries once."""
USED_UP = frozenset((402, 429))
"""HTTP statuses of refusals because a credit or quota is used up, which is not the unit's fault."""

_MOST_ATTEMPTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Coverage:
    """The outcomes of a run's units, counted. `expected` is exactly the sum of the other four.

    Attributes:
        expected: All units of the inventory.
        successful: Units with a rollout.
        failed: Units whose newest attempt failed.
        omitted: Units left out on purpose (`limit`).
        missing: Units that were never played, or whose newest attempt was interrupted.

    Example:
        >>> Coverage(expected=4, successful=3, failed=0, omitted=1, missing=0).complete
        True
    """

    expected: int
    successful: int
    failed: int
    omitted: int
    missing: int

    @property
    def complete(self) -> bool:
        """True if every unit has a rollout or was omitted on purpose."""
        return self.successful + self.omitted == self.expected


class Outcomes:
    """The state of each unit and its number of attempts, in two small arrays that do not grow with the rollouts."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.states = bytearray(len(inventory))
        self._attempts = array("L", bytes(array("L").itemsize * len(inventory)))
        self._durations: dict[int, tuple[float, int]] = {}
        self._given_up: set[int] = set()

    def read(self, folder: Path, on_damage: OnDamage | None = None) -> None:
        """Read a run's files. The newest attempt's outcome wins, except that a failure never replaces a rollout.

        Read again, units that were omitted stay so unless they have a rollout.

        Args:
            folder: The run's folder.
            on_damage: Called with each line that is damaged; None raises a RecordError for the first.
        """
        for row in _rows(folder, "attempts", ("group", "sample", "attempt"), on_damage):
            number = self.inventory.find(row["group"], row["sample"])
            if number is not None:
                self._attempts[number] = max(self._attempts[number], (row["attempt"] or 0) + 1)
        newest: dict[int, int] = {}
        refusals: Counter[int] = Counter()
        for row in _rows(folder, "failures", ("schema",), on_damage):
            task = row.get("task")
            number = self.inventory.find(task if isinstance(task, str) else None, row.get("sample"))
            # A request that was sent again within its attempt is no outcome.
            if number is not None and row.get("retried_in_s") is None:
                # The last failures count: another one says that something has changed.
                is_refusal = row.get("kind") == "policy_refused" and row.get("http_status") not in USED_UP
                refusals[number] = refusals[number] + 1 if is_refusal else 0
                newest[number] = max(newest.get(number, 0), (row.get("attempt") or 0) + 1)
                self._attempts[number] = max(self._attempts[number], newest[number])
        for number, attempt in newest.items():
            if self.states[number] != OMITTED:
                # A later attempt that started and has no outcome was interrupted.
                self.states[number] = FAILED if attempt >= self._attempts[number] else MISSING
        for row in _rows(folder, "rollouts", ("schema", "status"), on_damage):
            number = self.inventory.find(row.get("group"), row.get("sample"))
            if number is not None and row["status"] != "running":
                self.states[number] = SUCCESSFUL
                self._note_duration(number, row)
        # A model that has refused everything so far may have had a wrong name or key, which is mended by now.
        if SUCCESSFUL in self.states:
            refused = (number for number, count in refusals.items() if count >= REFUSED_TIMES)
            self._given_up = {number for number in refused if self.states[number] == FAILED}

    @property
    def given_up(self) -> int:
        """Number of failed units that are not played again."""
        return sum(self.states[number] == FAILED for number in self._given_up)

    def retry_all(self) -> None:
        """Give no unit up."""
        self._given_up.clear()

    def _note_duration(self, number: int, row: Mapping[str, Any]) -> None:
        started, ended = moment_of(str(row.get("started_at"))), moment_of(str(row.get("ended_at")))
        if started is not None and ended is not None:
            place = number // self.inventory.repeats
            total, count = self._durations.get(place, (0.0, 0))
            self._durations[place] = (total + (ended - started).total_seconds(), count + 1)

    def pending(self) -> Iterator[Unit]:
        """Yield the units to play, those of slow tasks first: started last, they would prolong the run."""
        states, given_up = enumerate(self.states), self._given_up
        pending = array("L", (number for number, state in states if state in (MISSING, FAILED) and number not in given_up))
        if self._durations or any(self._attempts[number] for number in pending):
            pending = array("L", sorted(pending, key=self._priority))
        if SUCCESSFUL not in self.states:
            pending = self._with_several_tasks_first(pending)
        return (self.inventory.unit(number) for number in pending)

    def _with_several_tasks_first(self, pending: array[int]) -> array[int]:
        """Move one unit of each of a few tasks to the front: their failures show whether one task is broken, or everything."""
        first: dict[int, int] = {}
        for number in pending:
            first.setdefault(number // self.inventory.repeats, number)
            if len(first) == SAME_FAILURES:
                break
        moved = set(first.values())
        return array("L", itertools.chain(first.values(), (number for number in pending if number not in moved)))

    def _priority(self, number: int) -> tuple[float, bool, int]:
        total, count = self._durations.get(number // self.inventory.repeats, (0.0, 1))
        # Units that were in flight when a run was stopped are more often than not the slow ones.
        return -total / count, not self._attempts[number], number

    def omit_beyond(self, tasks: int) -> None:
        """Omit the units that have no rollout and do not belong to the first `tasks` tasks."""
        for number in range(tasks * self.inventory.repeats, len(self.states)):
            if self.states[number] != SUCCESSFUL:
                self.states[number] = OMITTED

    def next_attempt(self, unit: Unit) -> int:
        """Count an attempt, and return its number, from 0."""
        attempt = self._attempts[unit.number]
        self._attempts[unit.number] += 1
        self.states[unit.number] = MISSING  # until it has an outcome
        return attempt

    def coverage(self) -> Coverage:
        """Count the units by state."""
        return Coverage(len(self.states), *map(self.states.count, (SUCCESSFUL, FAILED, OMITTED, MISSING)))


def read_coverage(folder: Path, on_damage: OnDamage | None = None) -> Coverage | None:
    """Count the outcomes of a run's units from its files. None if the folder has no complete inventory.

    Args:
        folder: The run's folder.
        on_damage: Called with each line that is damaged, and is not counted; None raises an error for the first.

    Raises:
        RecordError: A line is damaged. The message has its file, line and byte.
        StoreError: A file cannot be read.
    """
    inventory = Inventory.read(folder)
    if inventory is None:
        return None
    outcomes = Outcomes(inventory)
    outcomes.read(folder, on_damage)
    counted = outcomes.coverage()
    try:
        # Only the collector knows which units it omitted on purpose.
        written = Coverage(**loads(LocalFolder(folder).read_bytes("coverage.json")))
    except (OSError, ValueError, TypeError):
        return counted  # it can be counted again
    same = (written.expected, written.successful, written.failed) == (counted.expected, counted.successful, counted.failed)
    return written if same else counted


def _rows(folder: Path, kind: str, required: tuple[str, ...], on_damage: OnDamage | None = None) -> Iterator[dict[str, Any]]:
    """Yield the lines of one kind of file as objects that have the required fields, with values of their types."""

    def read(line: bytes) -> dict[str, Any]:
        row = object_of(line, "line of this file")
        if any(name not in row for name in required):
            raise RecordError(f"not a line of this file (it lacks one of {', '.join(required)}): {line[:80]!r}")
        attempt, sample, group = row.get("attempt"), row.get("sample"), row.get("group")
        if not (attempt is None or (type(attempt) is int and 0 <= attempt < _MOST_ATTEMPTS)):
            raise RecordError(f"not a line of this file: its attempt is {shown(attempt)}")
        if not (sample is None or type(sample) is int) or not (group is None or type(group) is str):
            raise RecordError(f"not a line of this file: its group and sample are {shown(group)} and {shown(sample)}")
        return row

    return read_each(LocalFolder(folder), kind, read, on_damage)
