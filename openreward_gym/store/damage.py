"""What could not be read, and where."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Damage:
    """A piece of a file that is not what it should be; nothing was changed.

    Attributes:
        line: Its line, from 1; for a file without lines, the number of the entry.
        reason: What is wrong with it.
        path: The file; empty where the caller knows it.
        byte: Where the line begins in the file; None where that is not known.
    """

    line: int
    reason: str
    path: str = ""
    byte: int | None = None

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        byte = "" if self.byte is None else f" (byte {self.byte})"
        return f"{where}line {self.line}{byte}: {self.reason}"
