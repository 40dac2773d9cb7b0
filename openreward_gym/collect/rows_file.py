"""The file of NeMo Gym rows beside a run: a line per rollout, appended as it finishes, in the order of the inputs at the end."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from openreward_gym.collect.inventory import Inventory
from openreward_gym.errors import StoreError
from openreward_gym.importers import nemo_gym
from openreward_gym.importers.nemo_gym_rows import OWN
from openreward_gym.jsonio import loads
from openreward_gym.store import RolloutStore
from openreward_gym.store.writer import reason_of, sync_folder
from openreward_gym.types import Rollout
from openreward_gym.types.rollout import line_of


class RowsFile:
    """The rows of a run's rollouts. At any moment each of its lines is a whole rollout; a failed attempt has none.

    Args:
        path: The file. It is made with `begin`.
        store: The run.
        inventory: The units of the run, in whose order the lines are at the end.
    """

    def __init__(self, path: Path, store: RolloutStore, inventory: Inventory) -> None:
        self.path = path
        self._store = store
        self._inventory = inventory
        self._fd = -1
        self._is_new = False
        # By unit: the place of its line in the file, in bytes, and the length of the line.
        self._places: dict[int, tuple[int, int]] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._places)

    def begin(self) -> None:
        """Write the rows of the rollouts that the run has, in place of the file.

        Raises:
            StoreError: The file cannot be written.
        """
        self._is_new = not self.path.exists()
        self._replace(self._existing())
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {reason_of(error)}") from error

    def add(self, number: int, rollout_id: str) -> None:
        """Append the row of a unit whose rollout is in the store. Raises StoreError if it cannot be written."""
        line = self._line(self._store.get(rollout_id))
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise StoreError(f"{self.path}: a row was not written: {reason_of(error)}") from error
        self._places[number] = (self._size, len(line))
        self._size += len(line)

    def finish(self) -> None:
        """Write the rows in the order of the units, and close the file. Without a row, a file that did not exist is removed."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if self._is_new and not self._places:
            self.path.unlink(missing_ok=True)
        order = sorted(self._places)
        if [self._places[number] for number in order] != sorted(self._places.values()):
            self._replace(self._ordered(order))

    def _line(self, rollout: Rollout) -> bytes:
        return (line_of(nemo_gym.row_of(self._store.with_images(rollout, lambda error: None))) + "\n").encode()

    def _existing(self) -> Iterator[tuple[int, bytes]]:
        """Yield the units that have rollouts, with their rows; of several rollouts of a unit, the last."""
        last = {}
        for rollout in self._store:
            number = self._inventory.find(rollout.group, rollout.sample)
            if number is not None and rollout.status != "running":
                last[number] = rollout.id
        for number in sorted(last):
            yield number, self._line(self._store.get(last[number]))

    def _ordered(self, order: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        with self.path.open("rb") as file:
            for number in order:
                start, length = self._places[number]
                file.seek(start)
                yield number, file.read(length)

    def _replace(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Replace the file by one with these lines, at once."""
        part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        places, size = {}, 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                for number, line in rows:
                    file.write(line)
                    places[number] = (size, len(line))
                    size += len(line)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {reason_of(error)}") from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        self._places, self._size = places, size


def check_rows_file(path: Path, folder: Path) -> None:
    """Refuse to write over a file that has a line which is no rollout of the run in a folder, which may not exist yet.

    Raises:
        StoreError: There is such a line. An incomplete last one, of a collection that was killed, is not meant.
    """
    try:
        with path.open("rb") as file:
            known = set(RolloutStore(folder).ids()) if (folder / "rollouts").exists() else set()
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n") and line.strip() and _id_of(line) not in known:
                    raise StoreError(
                        f"{path} exists, and its line {number} is not a rollout of this run: choose another output, or move the "
                        "file away"
                    )
    except FileNotFoundError:
        return
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} cannot be read: {reason_of(error)}") from error


def _id_of(line: bytes) -> str | None:
    """Return the id of the rollout in a row. None if it has none."""
    try:
        facts = loads(line)[OWN]
        # Of a row with half of a surrogate pair, they are a text.
        identity = (loads(facts) if isinstance(facts, str) else facts)["rollout"]["id"]
    except (ValueError, TypeError, KeyError):
        return None
    return identity if isinstance(identity, str) else None
