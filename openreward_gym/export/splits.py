"""The dataset split of each row: that of the environment, by a rule of the caller's, or held out by task."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from openreward_gym import jsonio
from openreward_gym.export.reader import Annotations, Record, is_model_turn, model_of

if TYPE_CHECKING:
    from openreward_gym.export.options import ExportOptions

TRAIN = "train"
STANDARD = ("train", "validation", "test")
_OTHER_WORDS = {
    "training": "train",
    **dict.fromkeys(("val", "valid", "dev", "development", "eval", "evaluation"), "validation"),
    "testing": "test",
}


@lru_cache(maxsize=256)
def split_name(word: str | None) -> str:
    """Return the dataset split for an environment's word for a split.

    `datasets` allows letters, digits and underscores in the names of splits.

    >>> [split_name(word) for word in ("Train", "dev", "test", "hard-2", None)]
    ['train', 'validation', 'test', 'hard_2', 'train']
    """
    name = re.sub(r"[^A-Za-z0-9_]+", "_", (word or "").strip()).strip("_")
    lower = name.lower()
    return lower if lower in STANDARD else _OTHER_WORDS.get(lower, name) or (TRAIN if not word else "other")


def is_standard(name: str) -> bool:
    """Return True for train, validation and test."""
    return name in STANDARD


def split_order(name: str) -> tuple[int, str]:
    """Return a key that sorts splits: train, validation, test, then the others by name."""
    return (STANDARD.index(name) if name in STANDARD else len(STANDARD), name)


class SplitRule:
    """Tells the dataset split of rollouts.

    Args:
        options: `split_by`, `holdout` and `seed` count.
        annotations_of: Returns the annotations of a record, for splits by label.
        scrub: Returns a text without personal data, for splits whose names come from the record.
    """

    def __init__(
        self, options: ExportOptions, annotations_of: Callable[[Record], Annotations], scrub: Callable[[str], str] = str
    ) -> None:
        rule: Any = options.split_by or ("split", {})  # as the options' checks return them
        shares: Any = options.holdout or {}
        self._field: str = rule[0]
        self._names = {word: split_name(name) for word, name in rule[1].items()}
        self._shares: Mapping[str, float] = {split_name(name): share for name, share in shares.items()}
        self._seed = options.seed
        self._annotations_of = annotations_of
        self._scrub = scrub

    def split_of(self, record: Record) -> str:
        """Return the split of a rollout, by its record as it was recorded: options that change rows keep the splits."""
        split = self._split_by_field(record)
        return self._held_out(record) or split if self._shares and split == TRAIN else split

    def _split_by_field(self, record: Record) -> str:
        environment = record.get("environment") or {}
        value: str | None
        if self._field == "label":
            labels = self._annotations_of(record).labels
            value = next((label for label in labels if label in self._names or split_name(label) in STANDARD), None)
        elif self._field == "environment":
            value = environment.get("name")
        elif self._field == "model":
            value = model_of(record)
        elif self._field == "split":
            value = environment.get("split")
        else:
            value = record.get(self._field)
        return self._names.get(value or "") or self._names.get("*") or split_name(value and self._scrub(value))

    def _held_out(self, record: Record) -> str | None:
        """Return the split into which a task is held out. It depends on the seed and on the task, and on no other task."""
        digest = hashlib.blake2b(jsonio.dumps([self._seed, _task_key(record)]), digest_size=8).digest()
        position, end = int.from_bytes(digest) / 2**64, 0.0
        for name, share in self._shares.items():
            end += share
            if position < end:
                return name
        return None


def _task_key(record: Record) -> object:
    """Return JSON that is equal for equal tasks. The prompt stands for a task if the record names neither task nor group."""
    task, environment = record.get("task") or {}, record.get("environment") or {}
    if task.get("id"):
        return task["id"]
    if task.get("index") is not None:
        return [environment.get("name"), environment.get("variant"), environment.get("split"), task["index"]]
    if record.get("group"):
        return ["group", record["group"]]
    prompt = takewhile(lambda message: not is_model_turn(message), record.get("messages") or ())
    return [[message["role"], message.get("blocks")] for message in prompt] or record["id"]
