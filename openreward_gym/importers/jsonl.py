"""Other systems' lines of JSON: one object at a time, and what is wrong with the rest."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from openreward_gym.errors import RecordError, StoreError
from openreward_gym.store.damage import Damage
from openreward_gym.types import Json
from openreward_gym.types.rollout import Rollout

# What reading another system's object may raise: it is data, and may be of any shape.
UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecordError)


def lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of the lines that are not blank, one in memory at a time.

    Raises:
        StoreError: The file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_lines(path: str | os.PathLike[str], convert: Callable[[dict[str, Json], str], Rollout]) -> Iterator[Rollout | Damage]:
    """A rollout for each line of a JSONL file, or what is wrong with the line.

    Args:
        path: The file.
        convert: Makes a rollout of the line's object and an id made from the line and its number, so that the same file
            gives the same ids when it is read again.

    Raises:
        StoreError: The file cannot be read.
    """
    for number, line in lines(path):
        try:
            data = json.loads(line)
            if not isinstance(data, dict):
                raise ValueError(f"a JSON {type(data).__name__}, not an object")
            yield convert(data, identity(line.rstrip(b"\r\n"), number))
        except RecursionError:
            yield Damage(number, "nested too deeply", str(path))
        except UNREADABLE as error:
            yield Damage(number, reason_of(error), str(path))


def reason_of(error: Exception) -> str:
    """What is wrong, in words: a missing key has only its name."""
    if isinstance(error, KeyError):
        return f"no field {error}"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error}"
    return str(error)[:500] or type(error).__name__


def identity(content: bytes, number: int) -> str:
    """An id for a record that has none: the same for the same record of the same file."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number}:{hashlib.sha256(content).hexdigest()}"))


def numbers_of(data: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers and truth values among the fields of `data`."""
    return {name: float(value) for name, value in data.items() if isinstance(value, (int, float))}
