"""Rollouts to export: a store, the path of a run, or any rollouts; read as often as a format needs, one at a time.

Records are read as the JSON values of `Rollout.to_dict`, not as `Rollout` objects: that takes a fifth of the time.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from openreward_gym import jsonio
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, RecordError, StoreError
from openreward_gym.export.order import Head, head_of, head_of_line, in_order
from openreward_gym.store import Damage, Group, Label, OnDamage, RolloutStore, RolloutView, read_groups, read_labels
from openreward_gym.store.index import Place
from openreward_gym.types import Rollout
from openreward_gym.types.rollout import SCHEMA, check_schema

RolloutSource: TypeAlias = (
    RolloutStore | RolloutView | str | os.PathLike[str] | Iterable[Rollout] | Sequence[str | os.PathLike[str]]
)
"""The source of an export: a store, a selection of it, a run's path, several paths, or rollouts."""

Record: TypeAlias = dict[str, Any]
"""A rollout as JSON values, without the fields at their defaults: the result of `Rollout.to_dict`."""

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD]")


@dataclass(slots=True)
class Annotations:
    """Remarks about a rollout by its trainer, or by readers after it was recorded. None means missing.

    Attributes:
        labels: Labels of the record, and a reader's tags.
        rating: A reader's rating, 1 (worst) to 5.
        advantage, score: Within its group.
        discard_reason: The reason for which a trainer discarded the rollout.
    """

    labels: list[str] = field(default_factory=list)
    rating: int | None = None
    advantage: float | None = None
    score: float | None = None
    discard_reason: str | None = None


@dataclass(eq=False)
class RolloutReader:
    """Reads records by number, in the order of the rows, with their images and annotations.

    Attributes:
        count: The number of rollouts.
        read: Returns the record of a number, and whether all of its text is valid UTF-8. Raises RecordError for an invalid one.
        images: Returns the bytes of an image by its SHA-256; None if all images are inside the records.
        runs: Folders in which readers' labels and compared groups are looked up.
        repeated: The number of rollouts that are not read, because another one with the same id is.
        unfinished: The number of lines that are not read, because they have no end.
        check: Raises a RecordError that names file, line and field if the record of a number is invalid.
        damage_at: Returns the damage of the record of a number, with the words of an error.
        on_damage: Called with each record, image and file that cannot be read, possibly several times; None raises an error for
            the first record or file, and passes over images.
    """

    count: int
    read: Callable[[int], tuple[Record, bool]]
    images: Callable[[str], bytes] | None = None
    runs: Sequence[str] = ()
    repeated: int = 0
    unfinished: int = 0
    check: Callable[[int], None] = lambda number: None
    damage_at: Callable[[int, Exception], Damage] = lambda number, error: Damage(number + 1, str(error), unit="record")
    on_damage: OnDamage | None = None

    def __post_init__(self) -> None:
        self._current = 0

    @classmethod
    def of(cls, rollouts: RolloutSource, on_damage: OnDamage | None = None) -> RolloutReader:
        """Return a reader of whatever an export takes. Raises ConfigurationError or StoreError if that has no rollouts."""
        if isinstance(rollouts, RolloutView):
            return cls._of_store(rollouts.store, rollouts.places, on_damage)
        if isinstance(rollouts, RolloutStore):
            return cls._of_store(rollouts, rollouts.places(on_damage), on_damage)
        if isinstance(rollouts, (str, os.PathLike)):
            return cls._of_paths(rollouts, on_damage)
        if not isinstance(rollouts, Iterable):
            raise ConfigurationError(
                f"a {type(rollouts).__name__} has no rollouts: pass a store, a run's path, or Rollout objects"
            )
        items: list[Any] = list(rollouts)
        if items and all(isinstance(item, (str, os.PathLike)) for item in items):
            return cls._of_paths(items, on_damage)
        for item in items:
            if not isinstance(item, Rollout):
                name = type(item).__name__
                raise ConfigurationError(f"a {name} is not a Rollout: pass a store, a run's path, or Rollout objects")

        order = in_order(map(_head_of_rollout, items), stored=False)

        def read(number: int) -> tuple[Record, bool]:
            rollout = items[order[number]]
            record = jsonio.finite(rollout.to_dict())
            try:
                return record, jsonio.is_utf8(record)
            except (TypeError, ValueError) as error:
                raise RecordError(f"the rollout {rollout.id} has a value that is not JSON: {error}") from None

        return cls(len(order), read, repeated=len(items) - len(order), on_damage=on_damage)

    @classmethod
    def _of_paths(cls, paths: Any, on_damage: OnDamage | None) -> RolloutReader:
        try:
            return cls.of(RolloutStore.open(paths), on_damage)
        except (OpenRewardGymError, OSError):
            raise
        except Exception as error:  # of an object store's library
            names = paths if isinstance(paths, (str, os.PathLike)) else ", ".join(map(str, paths))
            raise StoreError(f"{names} cannot be read: {error}") from error

    @classmethod
    def _of_store(cls, store: RolloutStore, places: Sequence[Place], on_damage: OnDamage | None) -> RolloutReader:
        order = in_order(map(head_of_line, store.lines(places)), stored=True)

        def read(number: int) -> tuple[Record, bool]:
            place = places[order[number]]
            line = store.line(place)
            try:
                record = jsonio.loads(line, allow_nan=False)
                check_schema(record.get("schema"), SCHEMA, "rollout")
            except (ValueError, AttributeError, RecordError):
                # The store's own reader raises an error that names the mistake, or takes what strict JSON does not have.
                return jsonio.finite(store.read(place).to_dict()), False
            # JSON text is valid UTF-8; a lone surrogate can only come from an escape.
            return record, b"\\u" not in line or _SURROGATE_ESCAPE.search(line) is None or jsonio.is_utf8(record)

        def check(number: int) -> None:
            store.read(places[order[number]])

        def damage_at(number: int, error: Exception) -> Damage:
            words = str(error)
            if isinstance(error, RecordError):
                words = words.partition(": line ")[2].partition("): ")[2] or words  # the damage has the place
            return store.damage_at(places[order[number]], RecordError(words))

        return cls(
            len(order),
            read,
            store.image,
            store.paths,
            len(places) - len(order),
            store.unfinished_lines(),
            check,
            damage_at,
            on_damage,
        )

    def __len__(self) -> int:
        return self.count

    def record(self, number: int) -> tuple[Record, bool]:
        """Return the record of a number as `read` does. The images that are read next are those of this record."""
        self._current = number
        return self.read(number)

    def pass_over(self, number: int, error: RecordError) -> None:
        """Report that the record of a number is left out; raise the error if nobody takes reports."""
        if self.on_damage is not None:
            self.on_damage(self.damage_at(number, error))
        elif hasattr(error, "line"):
            raise error
        else:
            raise RecordError(str(self.damage_at(number, error)))

    def image(self, block: Record) -> bytes | None:
        """Return the bytes of an image block; None if they are missing, or are not base64."""
        if block.get("data"):
            try:
                return base64.b64decode(block["data"], validate=True) or None
            except (binascii.Error, ValueError, TypeError):
                return None
        if self.images is None or not isinstance(block.get("sha256"), str):
            return None
        try:
            return self.images(block["sha256"])
        except StoreError as error:
            if self.on_damage is not None:
                self.on_damage(self.damage_at(self._current, error))
            return None

    def annotations(self, record: Record) -> Annotations:
        """Return the annotations in a record, in its run's `labels.jsonl` and in its run's `groups/`."""
        labels, compared = self._annotations_of_runs
        annotations = Annotations(list(label_names(record)), discard_reason=record.get("discard_reason"))
        annotations.advantage = number_of(record.get("advantage"))
        label = labels.get(record["id"])
        if label is not None:
            annotations.labels += [tag for tag in label.tags if tag not in annotations.labels]
            annotations.rating = label.rating
        if record["id"] in compared:
            group, number = compared[record["id"]]
            annotations.advantage = group.advantages[number] if group.advantages else annotations.advantage
            annotations.score = group.scores[number] if group.scores else None
            annotations.discard_reason = group.discard_reason or annotations.discard_reason
        return annotations

    @cached_property
    def _annotations_of_runs(self) -> tuple[dict[str, Label], dict[str, tuple[Group, int]]]:
        labels: dict[str, Label] = {}
        compared: dict[str, tuple[Group, int]] = {}
        for run in self.runs:
            labels |= read_labels(run, self.on_damage)
            for group in read_groups(run, self.on_damage):
                compared |= {rollout: (group, number) for number, rollout in enumerate(group.rollouts)}
        return labels, compared


def _head_of_rollout(rollout: Rollout) -> Head:
    environment, task = rollout.environment, rollout.task
    return head_of(
        {
            "id": rollout.id,
            "environment": {"name": environment.name, "variant": environment.variant, "split": environment.split},
            "task": {"index": task.index, "id": task.id},
            "group": rollout.group,
            "sample": rollout.sample,
            "attempt": rollout.attempt,
        }
    )


def label_names(record: Record) -> Iterator[str]:
    """Yield the labels of a record as texts."""
    for label in record.get("labels") or ():
        if isinstance(label, dict):
            yield from (str(label[key]) for key in ("name", "label", "value") if label.get(key) is not None)
        else:
            yield str(label)


def is_model_turn(message: Record) -> bool:
    """Return True for a turn of the recorded model; assistant messages without an origin count as such."""
    return message["role"] == "assistant" and message.get("origin") in ("policy", None)


def is_trained(message: Record) -> bool:
    """Return True for a turn that is a target of training: one of the model's, unless its weight is 0."""
    return message["role"] == "assistant" and message.get("origin") in ("policy", None) and message.get("weight") != 0


def sampled_of(message: Record) -> Record:
    """Return the provider's report on a message; empty without a report."""
    report: Record = message.get("sampled") or {}
    return report


def number_of(value: Any) -> float | None:
    """Return a recorded number as a float; NaN and the infinities are recorded as texts."""
    return None if value is None else float(value)


def rewards_of(record: Record) -> list[float]:
    """Return the rewards that the environment gave, in order."""
    return [float(message["reward"]) for message in record.get("messages") or () if message.get("reward") is not None]


def step_rewards_of(record: Record) -> list[float | None]:
    """Return for each of the model's turns the sum of the rewards that came with it or before the next one; None without any."""
    steps: list[float | None] = []
    for message in record.get("messages") or ():
        if is_model_turn(message):
            steps.append(None)
        reward = number_of(message.get("reward"))
        if reward is not None and steps:
            steps[-1] = reward + (steps[-1] or 0.0)
    return steps


def num_turns_of(record: Record) -> int:
    """Return the number of the model's turns."""
    return len([1 for m in record.get("messages") or () if m["role"] == "assistant" and m.get("origin") in ("policy", None)])


def tokens_of(record: Record) -> int | None:
    """Return the length of the conversation in tokens, as the provider counted at the last turn; None if not observed."""
    for message in reversed(record.get("messages") or ()):
        if is_model_turn(message):
            usage = sampled_of(message).get("usage") or {}
            prompt, output = usage.get("input_tokens"), usage.get("output_tokens")
            return None if prompt is None or output is None else int(prompt) + int(output)
    return None


def model_of(record: Record) -> str | None:
    """Return the name of the model; None if not recorded."""
    model = record.get("model") or {}
    name = model.get("name") or model.get("model") or model.get("checkpoint")
    return None if name is None else str(name)


def task_of(record: Record) -> Hashable:
    """Return a value that is equal for equal tasks."""
    task, environment = record.get("task") or {}, record.get("environment") or {}
    if task.get("id"):
        return str(task["id"])
    if task.get("index") is not None:
        return (environment.get("name"), environment.get("variant"), environment.get("split"), task["index"])
    return ("rollout", record["id"])


def group_of(record: Record) -> Hashable:
    """Return a value that is equal for rollouts that are compared: their `group`, or else their task."""
    return ("group", record["group"]) if record.get("group") else task_of(record)
