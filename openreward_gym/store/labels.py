"""Labels that readers give to rollouts (a rating, tags, a note), in a run's `labels.jsonl`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openreward_gym.errors import ConfigurationError, RecordError, StoreError
from openreward_gym.store.damage import Damage, OnDamage
from openreward_gym.store.files import inside, open_descriptor
from openreward_gym.store.folder import folder_at
from openreward_gym.store.index import damage_of
from openreward_gym.types.rollout import check_schema, line_of, now_iso, object_of

SCHEMA = "openreward-gym/label/1"
FILE = "labels.jsonl"

MAX_NOTE = 10_000
MAX_TAGS = 50
MAX_TAG = 100


@dataclass(frozen=True, slots=True)
class Label:
    """A reader's label of the rollout whose id is `rollout`.

    Attributes:
        rating: 1 (worst) to 5; None where not rated.
        tags: Free words, in the reader's order.
        note: Free text.
        time: The time of the label, ISO 8601 in UTC.
    """

    rollout: str
    rating: int | None = None
    tags: tuple[str, ...] = ()
    note: str = ""
    time: str = ""

    @classmethod
    def from_dict(cls, data: Any) -> Label:
        """Read a label from a request.

        Raises:
            ConfigurationError: It is not a label; the message names the field.
        """
        if not isinstance(data, dict) or not isinstance(data.get("rollout"), str) or not data["rollout"]:
            raise ConfigurationError('a label is an object with the id of its "rollout"')
        rating, tags, note = data.get("rating"), data.get("tags") or [], data.get("note") or ""
        if rating is not None and (type(rating) is not int or not 1 <= rating <= 5):
            raise ConfigurationError(f"a rating is an integer from 1 to 5 or null, not {str(rating)[:40]!r}")
        if (
            not isinstance(tags, list)
            or len(tags) > MAX_TAGS
            or not all(isinstance(t, str) and 0 < len(t) <= MAX_TAG for t in tags)
        ):
            raise ConfigurationError(f"tags are a list of at most {MAX_TAGS} strings of 1 to {MAX_TAG} characters")
        if not isinstance(note, str) or len(note) > MAX_NOTE:
            raise ConfigurationError(f"a note is a string of at most {MAX_NOTE} characters")
        return cls(data["rollout"], rating, tuple(dict.fromkeys(tags)), note, str(data.get("time") or now_iso()))

    def to_dict(self) -> dict[str, Any]:
        return {"rollout": self.rollout, "rating": self.rating, "tags": list(self.tags), "note": self.note, "time": self.time}

    @property
    def is_empty(self) -> bool:
        return self.rating is None and not self.tags and not self.note


def read_labels(run: str | os.PathLike[str], on_damage: OnDamage | None = None) -> dict[str, Label]:
    """Return the labels of a run by rollout id, the last one of each rollout. Lines that are not labels are passed over.

    Args:
        run: The run's folder.
        on_damage: Called with each of these lines but a torn last one, and with the file if it cannot be read.

    Raises:
        StoreError: The file cannot be read, and `on_damage` is None.
    """
    labels: dict[str, Label] = {}
    folder = folder_at(run)
    path = f"{folder}/{FILE}"
    try:
        data = folder.read_bytes(FILE)
    except FileNotFoundError:
        return {}
    except StoreError as error:
        if on_damage is None:
            raise
        on_damage(damage_of(folder, FILE, error))
        return {}
    lines = data.split(b"\n")
    byte = 0
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                label = _label_of(line)
                labels.pop(label.rollout, None)
                if not label.is_empty:
                    labels[label.rollout] = label
        except (RecordError, ConfigurationError) as error:
            # A torn last line counts as not written.
            if on_damage is not None and number < len(lines):
                on_damage(Damage(number, str(error)[:500], path, byte))
        byte += len(line) + 1
    return labels


def _label_of(line: bytes) -> Label:
    record = object_of(line, "label")
    check_schema(record.get("schema"), SCHEMA, "label")
    return Label.from_dict(record)


def write_label(run: str | os.PathLike[str], label: Label) -> None:
    """Append `label` to the run's labels in one write. It replaces earlier ones; an empty label removes the rollout's label.

    Raises:
        StoreError: It could not be written.
    """
    path = inside(Path(run), FILE, new=True)
    line = (line_of({"schema": SCHEMA, **label.to_dict()}) + "\n").encode("utf-8")
    try:
        descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # end the torn line of another writer
            if os.write(descriptor, line) != len(line):
                raise OSError("only a part of the line was written")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(f"{path}: the label was not written: {error.strerror or error}") from error
