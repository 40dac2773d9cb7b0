"""What can be exported: a store, the path of a run, or any rollouts; read as often as a format needs, one at a time."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from openreward_gym.errors import ConfigurationError, RecordError, StoreError
from openreward_gym.export import exact
from openreward_gym.store.groups import Group, read_groups
from openreward_gym.store.index import Place
from openreward_gym.store.labels import Label, read_labels
from openreward_gym.store.store import RolloutStore
from openreward_gym.store.view import RolloutView
from openreward_gym.types.rollout import SCHEMA, Rollout, check_schema

Rollouts: TypeAlias = RolloutStore | RolloutView | str | os.PathLike[str] | Iterable[Rollout] | Sequence[str | os.PathLike[str]]
"""What the functions of `openreward_gym.export` take: a store, a run's path, several paths, or rollouts."""

Record: TypeAlias = dict[str, Any]
"""A rollout as JSON values, fields at their defaults left out: what `Rollout.to_dict` returns."""


@dataclass(slots=True)
class Notes:
    """What was said about a rollout after it was recorded, or by its trainer.

    Attributes:
        labels: Names: the record's own, and the tags that a reader gave.
        rating: A reader's, 1 (worst) to 5; None where not rated.
        advantage, score: In its group; None where none was made.
        discard_reason: Why a trainer learns nothing from it; None where it does.
    """

    labels: list[str] = field(default_factory=list)
    rating: int | None = None
    advantage: float | None = None
    score: float | None = None
    discard_reason: str | None = None


class Source:
    """Rollouts by number. `read` gives the record's JSON values, which costs a third of a `Rollout`.

    `runs` are the folders in which readers' labels and compared groups are looked for.
    """

    def __init__(
        self,
        count: int,
        read: Callable[[int], tuple[Record, bool]],
        images: Callable[[str], bytes] | None,
        runs: Sequence[str] = (),
    ) -> None:
        self._count = count
        self._read = read
        self._images = images
        self._runs = runs

    def notes(self, record: Record) -> Notes:
        """What was said about the rollout: in its record, in its run's `labels.jsonl` and in its run's `groups/`.

        Raises:
            RecordError: A line of `groups/` is not a group.
        """
        labels, compared = self._read_notes
        notes = Notes(list(_names_of(record)), discard_reason=record.get("discard_reason"))
        notes.advantage = None if record.get("advantage") is None else float(record["advantage"])
        label = labels.get(record["id"])
        if label is not None:
            notes.labels += [tag for tag in label.tags if tag not in notes.labels]
            notes.rating = label.rating
        if record["id"] in compared:
            group, number = compared[record["id"]]
            notes.advantage = group.advantages[number] if group.advantages else notes.advantage
            notes.score = group.scores[number] if group.scores else None
            notes.discard_reason = group.discard_reason or notes.discard_reason
        return notes

    @cached_property
    def _read_notes(self) -> tuple[dict[str, Label], dict[str, tuple[Group, int]]]:
        labels: dict[str, Label] = {}
        compared: dict[str, tuple[Group, int]] = {}
        for run in self._runs:
            labels |= read_labels(run)
            for group in read_groups(run):
                compared |= {rollout: (group, number) for number, rollout in enumerate(group.rollouts)}
        return labels, compared

    def __len__(self) -> int:
        return self._count

    def read(self, number: int) -> tuple[Record, bool]:
        """(the record, whether all of its text is valid UTF-8).

        Raises:
            RecordError: It is not a rollout.
        """
        return self._read(number)

    def image(self, part: Record) -> bytes | None:
        """The bytes of an image part; None where they are nowhere to be had, or are not base64."""
        if part.get("data") is not None:
            try:
                return base64.b64decode(part["data"], validate=True) or None
            except (binascii.Error, ValueError, TypeError):
                return None
        if self._images is None or not isinstance(part.get("sha256"), str):
            return None
        try:
            return self._images(part["sha256"])
        except StoreError:
            return None


def source_of(rollouts: Rollouts) -> Source:
    """A source over whatever was given.

    Raises:
        ConfigurationError: It is nothing that has rollouts.
        StoreError: A path is no run.
    """
    if isinstance(rollouts, (str, os.PathLike)):
        rollouts = RolloutStore.open(rollouts)
    if isinstance(rollouts, RolloutStore):
        return _of_store(rollouts, rollouts.places())
    if isinstance(rollouts, RolloutView):
        return _of_store(rollouts.store, rollouts.places)
    if not isinstance(rollouts, Iterable):
        raise ConfigurationError(f"a {type(rollouts).__name__} has no rollouts: give a store, a run's path, or Rollout objects")
    given: list[Any] = list(rollouts)
    if given and all(isinstance(item, (str, os.PathLike)) for item in given):
        store = RolloutStore.open(given)
        return _of_store(store, store.places())
    odd = next((item for item in given if not isinstance(item, Rollout)), None)
    if odd is not None:
        raise ConfigurationError(f"a {type(odd).__name__} is not a Rollout: give a store, a run's path, or Rollout objects")

    def read(number: int) -> tuple[Record, bool]:
        record = given[number].to_dict()
        return record, exact.is_utf8(record)

    return Source(len(given), read, None)


def _names_of(record: Record) -> Iterator[str]:
    for label in record.get("labels") or ():
        if isinstance(label, dict):
            yield from (str(label[key]) for key in ("name", "label", "value") if label.get(key) is not None)
        else:
            yield str(label)


def _of_store(store: RolloutStore, places: Sequence[Place]) -> Source:
    def read(number: int) -> tuple[Record, bool]:
        line = store.line(places[number])
        try:
            record, utf8 = exact.decode(line)
            check_schema(record.get("schema"), SCHEMA, "rollout")
        except (ValueError, RecursionError, AttributeError, RecordError):
            return store.read(places[number]).to_dict(), False
        return record, utf8

    return Source(len(places), read, store.image, store.paths)
