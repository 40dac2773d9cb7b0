"""Attempts: reserved on disk before they start, and what the run's files say became of each unit."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from openreward_gym.collect.inventory import Inventory, Unit
from openreward_gym.errors import RecordError, StoreError
from openreward_gym.store.folder import LocalFolder
from openreward_gym.store.index import read_each
from openreward_gym.store.writer import LineWriter
from openreward_gym.types.rollout import now_iso

MISSING, FAILED, SUCCESSFUL, OMITTED = range(4)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What became of a run's units; `expected` is the sum of the other four, exactly.

    Attributes:
        expected: All units of the inventory.
        successful: Those with a rollout.
        failed: Those whose newest attempt failed.
        omitted: Those left out on purpose (`limit`).
        missing: Those never played, or lost in the middle.
    """

    expected: int
    successful: int
    failed: int
    omitted: int
    missing: int

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do of what was asked for."""
        return self.successful + self.omitted == self.expected


class Reservations:
    """Writes `attempts/*.jsonl`: one line an attempt, before it starts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "attempts"
        self._writer: LineWriter | None = None

    def reserve(self, unit: Unit, attempt: int) -> None:
        """Write down that `attempt` begins.

        Raises:
            StoreError: It could not be written.
        """
        line = orjson.dumps({"group": unit.group, "sample": unit.sample, "attempt": attempt, "time": now_iso()}).decode()
        try:
            if self._writer is None:
                self._writer = LineWriter(self._folder, "close")
        except OSError as error:
            raise StoreError(f"{self._folder}: cannot be written: {error.strerror or error}") from error
        self._writer.append(line)

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


class Outcomes:
    """What became of each unit, and how often it was tried: two small arrays, whatever the rollouts' size."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.states = bytearray(len(inventory))
        self._attempts = array("L", bytes(array("L").itemsize * len(inventory)))
        self._durations: dict[int, tuple[float, int]] = {}

    def read(self, folder: Path) -> None:
        """Look at a run's files. The newest attempt's outcome wins; a rollout is never undone by a failure.

        Raises:
            RecordError: A line is damaged; the message has its file, line and byte, and nothing was changed.
        """
        for row in _rows(folder, "attempts", ("group", "sample", "attempt")):
            number = self.inventory.find(row["group"], row["sample"])
            if number is not None:
                self._attempts[number] = max(self._attempts[number], row["attempt"] + 1)
        newest: dict[int, int] = {}
        for row in _rows(folder, "failures", ("schema",)):
            number = self.inventory.find(row.get("task"), row.get("sample"))
            if number is not None:
                newest[number] = max(newest.get(number, 0), row.get("attempt", 0) + 1)
                self._attempts[number] = max(self._attempts[number], newest[number])
        for number, attempt in newest.items():
            # A later attempt that was reserved and has no outcome was lost in the middle.
            self.states[number] = FAILED if attempt >= self._attempts[number] else MISSING
        for row in _rows(folder, "rollouts", ("schema", "status")):
            number = self.inventory.find(row.get("group"), row.get("sample"))
            if number is not None and row["status"] != "running":
                self.states[number] = SUCCESSFUL
                self._note_duration(number, row)

    def _note_duration(self, number: int, row: Mapping[str, Any]) -> None:
        try:
            begun, ended = (datetime.fromisoformat(row[name]) for name in ("started_at", "ended_at"))
        except (KeyError, TypeError, ValueError):
            return
        place = number // self.inventory.repeats
        total, count = self._durations.get(place, (0.0, 0))
        self._durations[place] = (total + (ended - begun).total_seconds(), count + 1)

    def owed(self) -> Iterator[Unit]:
        """What is still to be played: tasks that took long before come first, so that none is left for the end."""
        owed = array("L", (number for number, state in enumerate(self.states) if state in (MISSING, FAILED)))
        if self._durations or any(self._attempts[number] for number in owed):
            owed = array("L", sorted(owed, key=self._eagerness))
        return (self.inventory.unit(number) for number in owed)

    def _eagerness(self, number: int) -> tuple[float, bool, int]:
        total, count = self._durations.get(number // self.inventory.repeats, (0.0, 1))
        # What was under way when a run was stopped is what takes long, more often than not.
        return -total / count, not self._attempts[number], number

    def omit_beyond(self, tasks: int) -> None:
        """Leave out what is not played yet of all but the first `tasks` tasks."""
        for number in range(tasks * self.inventory.repeats, len(self.states)):
            if self.states[number] != SUCCESSFUL:
                self.states[number] = OMITTED

    def next_attempt(self, unit: Unit) -> int:
        """The number of the attempt that begins now, from 0."""
        attempt = self._attempts[unit.number]
        self._attempts[unit.number] += 1
        return attempt

    def settle(self, unit: Unit, state: int) -> None:
        self.states[unit.number] = state

    def coverage(self) -> Coverage:
        count = self.states.count
        return Coverage(
            len(self.states), count(bytes([SUCCESSFUL])), count(bytes([FAILED])), count(bytes([OMITTED])), count(bytes([MISSING]))
        )


def read_coverage(folder: Path) -> Coverage | None:
    """What became of a run's units, by its files as they are now; None where the folder has no inventory of ours.

    Raises:
        RecordError: A line is damaged.
    """
    inventory = Inventory.read(folder)
    if inventory is None:
        return None
    outcomes = Outcomes(inventory)
    outcomes.read(folder)
    found = outcomes.coverage()
    try:
        # Which units were left out on purpose, only the collector knew.
        told = Coverage(**json.loads((folder / "coverage.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return found
    same = (told.expected, told.successful, told.failed) == (found.expected, found.successful, found.failed)
    return told if same else found


def _rows(folder: Path, kind: str, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The lines of a kind, as objects with the fields that are needed of them."""
    return read_each(LocalFolder(folder), kind, partial(_row, needed=needed))


def _row(line: bytes, *, needed: tuple[str, ...]) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            # It also refuses what is JSON all the same: a lone surrogate, an integer beyond 64 bits.
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"not JSON: {error}") from None
    if not isinstance(row, dict) or any(name not in row for name in needed):
        raise RecordError(f"not a line of this file (it needs {', '.join(needed)}): {line[:80]!r}")
    return row
