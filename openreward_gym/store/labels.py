"""Labels that readers give to rollouts (a rating, tags, a note), in a run's `labels.jsonl`.

Each line is one change: the fields that it sets, its author and its time. Changes of several people to one rollout merge: the
last change of each field counts, and tags are added and removed one by one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from openreward_gym.errors import ConfigurationError, RecordError, StoreError
from openreward_gym.store.damage import Damage, OnDamage
from openreward_gym.store.files import inside, open_descriptor
from openreward_gym.store.folder import folder_at
from openreward_gym.store.index import damage_of
from openreward_gym.types.rollout import check_schema, line_of, now_iso, object_of

SCHEMA = "openreward-gym/label/2"
"""Lines of version 1 hold a whole label, which replaces the one before."""
FILE = "labels.jsonl"

MAX_NOTE = 10_000
MAX_TAGS = 50
MAX_TAG = 100
MAX_AUTHOR = 100

_KEEP: Any = object()


@dataclass(frozen=True, slots=True)
class Label:
    """The label of the rollout whose id is `rollout`: what its changes merge to.

    Attributes:
        rating: 1 (worst) to 5; None where not rated.
        tags: Free words, in the order in which they were added.
        note: Free text.
        time: The time of the last change, ISO 8601 in UTC.
        author: Who made the last change; empty if unknown.
    """

    rollout: str
    rating: int | None = None
    tags: tuple[str, ...] = ()
    note: str = ""
    time: str = ""
    author: str = ""

    @classmethod
    def from_dict(cls, data: Any) -> Label:
        """Read a whole label.

        Raises:
            ConfigurationError: It is not a label; the message names the field.
        """
        change = LabelChange.from_dict(data)
        return cls(
            change.rollout,
            change.set.get("rating"),
            tuple(change.set.get("tags", ())),
            change.set.get("note", ""),
            change.time,
            change.author,
        )

    def to_dict(self) -> dict[str, Any]:
        data = {"rollout": self.rollout, "rating": self.rating, "tags": list(self.tags), "note": self.note, "time": self.time}
        return {**data, "author": self.author} if self.author else data

    @property
    def is_empty(self) -> bool:
        return self.rating is None and not self.tags and not self.note


@dataclass(frozen=True, slots=True)
class LabelChange:
    """One change of a rollout's label.

    Attributes:
        set: The fields that it sets: "rating", "note", and "tags" where it replaces all tags.
        add, remove: The tags that it adds and removes.
        author: Who made it; empty if unknown.
        time: The time of the change, ISO 8601 in UTC.
        seen: A digest of the note that the author saw; empty if unknown. See `overwritten`.
        overwritten: The change of the note that the author had not seen, and whose note this change replaced; None without one.
            Only `label_history` sets it.

    Example:
        >>> LabelChange("rollout-1", {"rating": 4}, add=("careful",), author="Ann").to_dict()["set"]
        {'rating': 4}
    """

    rollout: str
    set: Mapping[str, Any] = field(default_factory=dict)
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    author: str = ""
    time: str = ""
    seen: str = ""
    overwritten: LabelChange | None = None

    @classmethod
    def from_dict(cls, data: Any) -> LabelChange:
        """Read a change `{"rollout", "set": {...}, "add": [...], "remove": [...], "author"}`, or a label with its fields beside
        the "rollout", of which it sets those that are there.

        Raises:
            ConfigurationError: It is not a change; the message names the field.
        """
        if not isinstance(data, dict) or not isinstance(data.get("rollout"), str) or not data["rollout"]:
            raise ConfigurationError('a label is an object with the id of its "rollout"')
        named = data.get("set", {name: data[name] for name in ("rating", "tags", "note") if name in data})
        if not isinstance(named, dict) or (unknown := sorted(set(named) - {"rating", "tags", "note"})):
            what = f"not {', '.join(map(repr, unknown))}" if isinstance(named, dict) else "as an object"
            raise ConfigurationError(f'a label\'s "set" names "rating", "tags" and "note", {what}')
        fields: dict[str, Any] = {}
        if "rating" in named:
            fields["rating"] = _rating(named["rating"])
        if "tags" in named:
            fields["tags"] = _tags(named["tags"])
        if "note" in named:
            fields["note"] = _text("a note", named["note"], MAX_NOTE)
        author = _text("an author", data.get("author"), MAX_AUTHOR).strip()
        seen = data.get("seen")
        if isinstance(seen_note := data.get("seen_note"), str):
            seen = digest_of_note(seen_note)
        time, add, remove = str(data.get("time") or now_iso()), _tags(data.get("add")), _tags(data.get("remove"))
        return cls(data["rollout"], fields, add, remove, author, time, seen if isinstance(seen, str) else "")

    def to_dict(self) -> dict[str, Any]:
        fields = {name: list(value) if name == "tags" else value for name, value in self.set.items()}
        data = {"set": fields, "add": list(self.add), "remove": list(self.remove), "author": self.author, "seen": self.seen}
        return {"rollout": self.rollout, **{name: value for name, value in data.items() if value}, "time": self.time}


def digest_of_note(note: str) -> str:
    """Return what a change says of the note that its author saw."""
    return hashlib.sha256(note.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _rating(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 1 <= value <= 5):
        raise ConfigurationError(f"a rating is an integer from 1 to 5 or null, not {str(value)[:40]!r}")
    return value


def _tags(value: Any) -> tuple[str, ...]:
    tags = value or []
    if (
        not isinstance(tags, (list, tuple))
        or len(tags) > MAX_TAGS
        or not all(isinstance(tag, str) and 0 < len(tag) <= MAX_TAG for tag in tags)
    ):
        raise ConfigurationError(f"tags are a list of at most {MAX_TAGS} strings of 1 to {MAX_TAG} characters")
    return tuple(dict.fromkeys(tags))


def _text(what: str, value: Any, longest: int) -> str:
    text = value or ""
    if not isinstance(text, str) or len(text) > longest:
        raise ConfigurationError(f"{what} is a string of at most {longest} characters")
    return text


def merged(label: Label, change: LabelChange) -> Label:
    """Return a label after a change."""
    tags = [*change.set.get("tags", label.tags)]
    tags = [tag for tag in tags if tag not in change.remove]
    tags += [tag for tag in change.add if tag not in tags]
    rating, note = change.set.get("rating", label.rating), change.set.get("note", label.note)
    return Label(label.rollout, rating, tuple(tags), note, change.time, change.author)


def read_labels(run: str | os.PathLike[str], on_damage: OnDamage | None = None) -> dict[str, Label]:
    """Return the labels of a run by rollout id. Lines that are not labels are passed over.

    Args:
        run: The run's folder.
        on_damage: Called with each of these lines but a torn last one, and with the file if it cannot be read.

    Raises:
        StoreError: The file cannot be read, and `on_damage` is None.
    """
    labels: dict[str, Label] = {}
    for change in _changes(run, on_damage):
        label = merged(labels.pop(change.rollout, Label(change.rollout)), change)
        labels[change.rollout] = label
    return {rollout: label for rollout, label in labels.items() if not label.is_empty}


def label_history(run: str | os.PathLike[str], rollout: str, on_damage: OnDamage | None = None) -> list[LabelChange]:
    """Return the changes of a rollout's label, the first one first; errors as `read_labels`."""
    return histories(run, on_damage).get(rollout, [])


def histories(run: str | os.PathLike[str], on_damage: OnDamage | None = None) -> dict[str, list[LabelChange]]:
    """Return the changes of all labels of a run, by rollout id; errors as `read_labels`."""
    found: dict[str, list[LabelChange]] = {}
    notes: dict[str, LabelChange] = {}
    for change in _changes(run, on_damage):
        if "note" in change.set:
            before = notes.get(change.rollout)
            note = before.set["note"] if before else ""
            unseen = change.seen and change.seen != digest_of_note(note)
            if before and note and unseen and note != change.set["note"]:
                change = replace(change, overwritten=before)
            notes[change.rollout] = replace(change, overwritten=None)
        found.setdefault(change.rollout, []).append(change)
    return found


def _changes(run: str | os.PathLike[str], on_damage: OnDamage | None) -> Iterator[LabelChange]:
    folder = folder_at(run)
    path = f"{folder}/{FILE}"
    try:
        data = folder.read_bytes(FILE)
    except FileNotFoundError:
        return
    except StoreError as error:
        if on_damage is None:
            raise
        on_damage(damage_of(folder, FILE, error))
        return
    lines = data.split(b"\n")
    byte = 0
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                yield _change_of(line)
        except (RecordError, ConfigurationError) as error:
            # A torn last line counts as not written.
            if on_damage is not None and number < len(lines):
                on_damage(Damage(number, str(error)[:500], path, byte))
        byte += len(line) + 1


def _change_of(line: bytes) -> LabelChange:
    record = object_of(line, "label")
    check_schema(record.get("schema"), SCHEMA, "label")
    if str(record["schema"]).endswith("/1"):
        return LabelChange.from_dict({"rating": None, "tags": [], "note": "", **record})
    return LabelChange.from_dict(record)


def change_label(
    run: str | os.PathLike[str],
    rollout: str,
    *,
    rating: int | None = _KEEP,
    note: str = _KEEP,
    add_tags: Iterable[str] = (),
    remove_tags: Iterable[str] = (),
    author: str = "",
) -> None:
    """Change some fields of a rollout's label; the others, and what somebody else changes at the same time, stay.

    Args:
        run: The run's folder.
        rollout: The rollout's id.
        rating: 1 to 5, or None to remove the rating.
        note: The whole note; an empty one removes it.
        add_tags, remove_tags: Tags to add and to remove.
        author: Who makes the change.

    Raises:
        ConfigurationError: A value is not one of a label.
        StoreError: The change could not be written.

    Example:
        >>> import pathlib
        >>> pathlib.Path("runs/labelled").mkdir(parents=True)
        >>> change_label("runs/labelled", "a", rating=4, author="Ann")
        >>> change_label("runs/labelled", "a", add_tags=["short"], author="Bo")
        >>> label = read_labels("runs/labelled")["a"]
        >>> label.rating, label.tags, [change.author for change in label_history("runs/labelled", "a")]
        (4, ('short',), ['Ann', 'Bo'])
    """
    named = {name: value for name, value in (("rating", rating), ("note", note)) if value is not _KEEP}
    tags = {"add": list(add_tags), "remove": list(remove_tags)}
    write_change(run, LabelChange.from_dict({"rollout": rollout, "set": named, **tags, "author": author}))


def write_label(run: str | os.PathLike[str], label: Label) -> None:
    """Set the rating and the note that `label` has, and add its tags. An empty label removes the rollout's label.

    `change_label` sets single fields, and removes tags.

    Raises:
        StoreError: It could not be written.
    """
    fields: dict[str, Any] = {name: value for name, value in (("rating", label.rating), ("note", label.note)) if value}
    if label.is_empty:
        fields = {"rating": None, "tags": (), "note": ""}
    write_change(run, LabelChange(label.rollout, fields, label.tags, (), label.author, label.time))


def write_change(run: str | os.PathLike[str], change: LabelChange) -> None:
    """Append a change to the run's labels in one write.

    Raises:
        StoreError: It could not be written.
    """
    path = inside(Path(run), FILE, new=True)
    change = replace(change, time=change.time or now_iso())
    line = (line_of({"schema": SCHEMA, **change.to_dict()}) + "\n").encode("utf-8")
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
