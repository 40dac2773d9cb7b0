"""What cannot be read of a file, for readers that go on with the rest of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

MAX_PLACES = 10
"""Number of places that `describe` names for a cause."""

_POSITION = re.compile(r":? (?:at )?line \d+,? column \d+(?: \(char \d+\))?| (?:at|in) position \d+(?:-\d+)?")


@dataclass(frozen=True, slots=True)
class Damage:
    """A piece of a file that cannot be read as what it should be; nothing was changed.

    Attributes:
        line: Its line, from 1; for a file without lines, the number of the entry. 0 is the file as a whole.
        reason: What is wrong with it.
        path: The file; empty where the caller knows it.
        byte: Where the line begins in the file; None where that is not known.
        unit: The word for what `line` counts.

    Example:
        >>> print(Damage(3, "not JSON", "rollouts/a.jsonl", 120))
        rollouts/a.jsonl: line 3 (byte 120): not JSON
    """

    line: int
    reason: str
    path: str = ""
    byte: int | None = None
    unit: Literal["line", "record"] = "line"

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        if not self.line:
            return f"{where}{self.reason}"
        byte = "" if self.byte is None else f" (byte {self.byte})"
        return f"{where}{self.unit} {self.line}{byte}: {self.reason}"


OnDamage: TypeAlias = Callable[[Damage], None]
"""Takes each piece that cannot be read, when it is met; the reader goes on with the next one."""


class Damages(Collection[Damage]):
    """A collection of damage in which each cause at each place counts once, however often it is met.

    Example:
        >>> damages = Damages()
        >>> for _ in range(2):
        ...     damages(Damage(3, "not JSON", "rollouts/a.jsonl"))
        >>> len(damages), damages.describe()
        (1, ('rollouts/a.jsonl: line 3: not JSON',))
    """

    def __init__(self) -> None:
        self._each: dict[tuple[str, int], Damage] = {}

    def __call__(self, damage: Damage) -> None:
        # Of a line the first cause is enough; a file as a whole may lack several things.
        self._each.setdefault((damage.path, damage.line) if damage.line else (f"{damage.path}\n{damage.reason}", 0), damage)

    def __len__(self) -> int:
        return len(self._each)

    def __contains__(self, damage: object) -> bool:
        return damage in self._each.values()

    def __iter__(self) -> Iterator[Damage]:
        return iter(self._each.values())

    def describe(self) -> tuple[str, ...]:
        """Return a line of text for each cause; see `describe`."""
        return describe(self)


def describe(damages: Iterable[Damage]) -> tuple[str, ...]:
    """Return a line of text for each cause of damage, with the number of records and where they are.

    Example:
        >>> describe([Damage(4, "no text", "a.jsonl"), Damage(9, "no text", "a.jsonl"), Damage(2, "torn", "a.jsonl")])
        ('a.jsonl: 2 records: no text (lines 4, 9)', 'a.jsonl: line 2: torn')
    """
    causes: dict[tuple[str, str], list[Damage]] = {}
    for damage in damages:
        # Where in a line the text is damaged is no cause of its own.
        causes.setdefault((damage.path, _POSITION.sub("", damage.reason)), []).append(damage)
    texts = []
    for (path, reason), same in causes.items():
        if len(same) == 1:
            texts.append(str(same[0]))
            continue
        shown = ", ".join(str(damage.line) for damage in same[:MAX_PLACES])
        more = f" and {len(same) - MAX_PLACES} more" if len(same) > MAX_PLACES else ""
        texts.append(f"{path}: {len(same)} records: {reason} ({same[0].unit}s {shown}{more})".removeprefix(": "))
    return tuple(texts)
