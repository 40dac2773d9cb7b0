"""Groups for sources that have none: by a field of the source's records, or of the rollouts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping

from openreward_gym.jsonio import Json, dumps, loads
from openreward_gym.types import Rollout, Task, task_id

_MAX_FIELDS = 40
_MAX_GROUP = 120


class GroupBy:
    """Puts rollouts into groups by the value of a field, and numbers the samples of each group from 0.

    Attributes:
        field: The dotted path of the field (`metadata.prompt_id`), in the source's record or else in the rollout.
        grouped: Number of rollouts that had the field.
        missing: Number of rollouts that did not; they keep the group that the importer gave them.
        fields: Names of fields that the records have, in order.

    Example:
        >>> by_task = GroupBy("info.task")
        >>> rollouts = [by_task.apply(Rollout(status="completed"), {"info": {"task": name}}) for name in ("a", "b", "a")]
        >>> [(rollout.group, rollout.sample) for rollout in rollouts]
        [('a', 0), ('b', 0), ('a', 1)]
    """

    def __init__(self, field: str) -> None:
        self.field = field
        self.grouped = self.missing = 0
        self.fields: dict[str, None] = {}
        self._samples: Counter[str] = Counter()

    def apply(self, rollout: Rollout, record: Json = None) -> Rollout:
        """Set the group and the sample of a rollout.

        Args:
            rollout: The rollout, which is changed.
            record: The source's record; None where it is not known.
        """
        data = rollout.to_dict()
        metadata, task = data.get("metadata") or {}, data.get("task") or {}
        # Importers keep the rest of a record in the task's spec and in the metadata, under the source's name.
        for place in (record, data, task.get("spec"), metadata, *metadata.values()):
            value = _value_at(place, self.field)
            if value not in (None, "", [], {}):
                break
        else:
            self.missing += 1
            if len(self.fields) < _MAX_FIELDS:
                self.fields.update(dict.fromkeys(_names({**(task.get("spec") or {}), **data} if record is None else record)))
            return rollout
        group = value if isinstance(value, str) else dumps(value).decode()
        if len(group) > _MAX_GROUP:
            group = hashlib.sha256(group.encode("utf-8", "backslashreplace")).hexdigest()[:16]
        self.grouped += 1
        rollout.group, rollout.sample = group, self._samples[group]
        self._samples[group] += 1
        if not rollout.task.id and rollout.task.spec is None and rollout.task.index is None:
            # Rollouts of one group are of one task, by which runs compare.
            task, environment = rollout.task, rollout.environment
            identity = task_id(environment.name, task.split or None, {self.field: value}, variant=environment.variant)
            rollout.task = Task(task.split, None, None, identity, task.golden_answer, task.extra)
        return rollout

    def describe_missing(self) -> str:
        """Return the error for a field that no record has."""
        names = ", ".join(list(self.fields)[:_MAX_FIELDS])
        return f"cannot group by {self.field!r}: no record has this field; there are {names or 'no fields'}"


def _value_at(data: Json, path: str) -> Json:
    """Return the value at a dotted path; None if it is missing. A name may itself have dots; JSON text is opened."""
    if isinstance(data, str) and data[:1] in ("{", "["):
        try:
            data = loads(data)
        except ValueError:
            return None
    if isinstance(data, list):
        head, _, rest = path.partition(".")
        if not head.isdecimal() or int(head) >= len(data):
            return None
        return _value_at(data[int(head)], rest) if rest else data[int(head)]
    if not isinstance(data, Mapping):
        return None
    if path in data:
        return data[path]
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        if (name := ".".join(parts[:length])) in data:
            return _value_at(data[name], ".".join(parts[length:]))
    return None


def _names(data: Json) -> Iterator[str]:
    """Yield the names of the fields of a record, and of the objects in it."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            if isinstance(value, Mapping) and value:
                yield from (f"{name}.{inner}" for inner in value)
            else:
                yield str(name)
