"""Records of other systems: lines of JSON, what is wrong with a record, and the origin of its messages."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from openreward_gym.errors import RecordError, StoreError
from openreward_gym.jsonio import Json, loads
from openreward_gym.store import Damage
from openreward_gym.types import Message, Origin, Rollout

UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, RecordError)
"""The errors that reading another system's object may raise. It is data, and may have any shape."""


def lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line) of the lines that are not blank. One line at a time is in memory.

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
    """Yield a rollout for each line of a JSONL file, or a Damage for a line that cannot be read.

    Args:
        path: The file.
        convert: Makes a rollout from the line's object and an id. The id is derived from the line and its number, so that
            reading the file again gives the same ids.

    Raises:
        StoreError: The file cannot be read.
    """
    for number, line in lines(path):
        try:
            yield checked(convert(object_in(line), identity(line.rstrip(b"\r\n"), number)))
        except UNREADABLE as error:
            yield Damage(number, reason_of(error), str(path))


def object_in(line: bytes) -> dict[str, Json]:
    """Return the JSON object of a line.

    Raises:
        ValueError: The line is not a JSON object.
    """
    try:
        data = loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"a JSON {type(data).__name__}, not an object")
    return data


def checked(rollout: Rollout) -> Rollout:
    """Return a rollout as it will be read from a run. The types of another system's values are checked in this way.

    Raises:
        RecordError: A field has a value of a wrong type.
    """
    return Rollout.from_line(rollout.to_line())


def reason_of(error: Exception) -> str:
    """Return the words for a record's fault. A KeyError says only the name of the missing key."""
    if isinstance(error, KeyError):
        return f"no field {error}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)[:500] or type(error).__name__


def identity(content: bytes, number: int) -> str:
    """Return an id for a record that has none: the same id for the same record of the same file."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number}:{hashlib.sha256(content).hexdigest()}"))


def numbers_of(data: Mapping[str, Json]) -> dict[str, float | None]:
    """Return the numbers and truth values among the fields of `data`."""
    return {name: float(value) for name, value in data.items() if isinstance(value, (int, float))}


def with_origins(messages: Iterable[Message], is_policy: Callable[[Message], bool] | None = None) -> list[Message]:
    """Return the messages with their origins, for a system that marks the policy's turns or in which these are the assistant's.

    The policy's turns have the origin `policy`. What comes before the first of them is `given`. After it the answers of tools
    and the turns of users and systems are the `environment`'s, and other assistant turns, which the environment inserted as
    history, are `given`.

    Args:
        messages: The messages. Those that have an origin keep it.
        is_policy: Tells the policy's turns; by default these are all assistant messages.

    Example:
        >>> [message.origin for message in with_origins([Message("user"), Message("assistant"), Message("user")])]
        ['given', 'policy', 'environment']
    """
    result: list[Message] = []
    began = False
    for message in messages:
        is_assistant = message.role == "assistant"
        origin: Origin
        if is_assistant and (is_policy is None or is_policy(message)):
            origin, began = "policy", True
        else:
            origin = "environment" if began and not is_assistant else "given"
        result.append(message.replace(origin=origin) if message.origin is None else message)
        began = began or result[-1].origin == "policy"
    return result
