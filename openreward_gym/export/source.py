"""What can be exported: a store, the path of a run, or any rollouts; read as often as a format needs, one at a time."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from openreward_gym.errors import ConfigurationError, RecordError, StoreError
from openreward_gym.export import exact
from openreward_gym.rollouts.record import SCHEMA, Rollout, check_schema
from openreward_gym.rollouts.store import RolloutStore
from openreward_gym.rollouts.view import RolloutView

Rollouts: TypeAlias = RolloutStore | RolloutView | str | os.PathLike[str] | Iterable[Rollout] | Sequence[str | os.PathLike[str]]
"""What the functions of `openreward_gym.export` take: a store, a run's path, several paths, or rollouts."""

Record: TypeAlias = dict[str, Any]
"""A rollout as JSON values, fields at their defaults left out: what `Rollout.to_dict` returns."""


class Source:
    """Rollouts by number. `read` gives the record's JSON values, which costs a third of a `Rollout`."""

    def __init__(
        self,
        count: int,
        read: Callable[[int], tuple[Record, bool]],
        images: Callable[[str], bytes] | None,
    ) -> None:
        self._count = count
        self._read = read
        self._images = images

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
        return _of_store(rollouts)
    if not isinstance(rollouts, Iterable):
        raise ConfigurationError(f"a {type(rollouts).__name__} has no rollouts: give a store, a run's path, or Rollout objects")
    given: Sequence[Any] = rollouts if isinstance(rollouts, RolloutView) else list(rollouts)
    if given and all(isinstance(item, (str, os.PathLike)) for item in given):
        return _of_store(RolloutStore.open(given))
    odd = next((item for item in given if not isinstance(item, Rollout)), None) if isinstance(given, list) else None
    if odd is not None:
        raise ConfigurationError(f"a {type(odd).__name__} is not a Rollout: give a store, a run's path, or Rollout objects")
    images = rollouts._read.__self__.image if isinstance(rollouts, RolloutView) else None  # type: ignore[attr-defined]

    def read(number: int) -> tuple[Record, bool]:
        record = given[number].to_dict()
        return record, exact.is_utf8(record)

    return Source(len(given), read, images)


def _of_store(store: RolloutStore) -> Source:
    places = store.places()

    def read(number: int) -> tuple[Record, bool]:
        line = store.line(places[number])
        try:
            record, utf8 = exact.decode(line)
            check_schema(record.get("schema"), SCHEMA, "rollout")
        except (ValueError, RecursionError, AttributeError, RecordError):
            return store.read(places[number]).to_dict(), False
        return record, utf8

    return Source(len(places), read, store.image)
