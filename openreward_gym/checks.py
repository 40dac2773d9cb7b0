"""Checks of the values of options: each returns the value to keep, and raises ConfigurationError for a wrong one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias, get_args

from openreward_gym.errors import ConfigurationError
from openreward_gym.suggestions import nearest

DEEPEST_NESTING = 200
"""Levels of JSON up to which everything that reads, copies and writes records works within Python's recursion limit."""

Check: TypeAlias = Callable[[str, Any], Any]
"""Takes an option's name and value, returns the value to keep, and raises ConfigurationError for a wrong one."""


def _check(expected: str, accepts: Callable[[Any], bool], *, optional: bool = False) -> Check:
    """Return a check for the values that `accepts` accepts, with `optional` also for None."""
    expected += " or None" if optional else ""

    def check(name: str, value: Any) -> Any:
        if not (optional and value is None) and not accepts(value):
            raise ConfigurationError(f"{name} must be {expected}, not {value!r}")
        return value

    return check


def number(*, optional: bool = False, zero: bool = False) -> Check:
    """Return a check for a finite number above 0 (with `zero`, from 0 on)."""

    def accepts(value: Any) -> bool:
        is_number = not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
        return is_number and (value > 0 or (zero and value == 0))

    return _check("a number from 0" if zero else "a positive number", accepts, optional=optional)


def integer(least: int | None = None, *, optional: bool = False) -> Check:
    """Return a check for an integer of at least `least` (None allows any), which also converts NumPy's integers."""

    def accepts(value: Any) -> bool:
        return not isinstance(value, bool) and isinstance(value, Integral) and (least is None or int(value) >= least)

    check = _check("an integer" if least is None else f"an integer from {least}", accepts, optional=optional)
    return lambda name, value: None if check(name, value) is None else int(value)


def text(*, optional: bool = False) -> Check:
    """Return a check for a string."""
    return _check("a string", lambda value: isinstance(value, str), optional=optional)


def choice(alias: Any, *, optional: bool = False) -> Check:
    """Return a check for one of the strings of a `Literal`."""
    allowed: tuple[str | None, ...] = (*((None,) if optional else ()), *get_args(alias))
    expected = f"one of {', '.join(map(str, allowed))}"

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, str | None) or value not in allowed:
            near = nearest(value, get_args(alias))
            hint = "" if near is None else f": did you mean {near!r}?"
            raise ConfigurationError(f"{name} must be {expected}, not {value!r}{hint}")
        return value

    return check


def nesting(name: str, value: Any) -> int:
    """Check that a value is a number of levels of JSON that records and exports can write, too."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) <= DEEPEST_NESTING:
        raise ConfigurationError(f"{name} must be an integer from 1 to {DEEPEST_NESTING}, not {value!r}")
    return int(value)


flag = _check("True or False", lambda value: isinstance(value, bool))
"""Check that a value is a bool."""


def mapping(name: str, value: Any) -> dict[str, Any] | None:
    """Check that a value is None or a mapping whose keys are strings, and copy it."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        # The value may hold a secret, so the message does not repeat it.
        raise ConfigurationError(f"{name} must be a mapping whose keys are strings, or None, not a {type(value).__name__}")
    return dict(value)


def strings(name: str, value: Any) -> dict[str, str] | None:
    """Check that a value is None or a mapping from strings to strings, and copy it."""
    copy = mapping(name, value)
    wrong = [key for key, one in (copy or {}).items() if not isinstance(one, str)]
    if wrong:
        raise ConfigurationError(f"{name}[{wrong[0]!r}] must be a string")
    return copy


def hosts(name: str, value: Any) -> dict[str, tuple[str, ...]] | None:
    """Check that a value is None or a mapping from strings to sequences of host names, and copy it."""
    copy = mapping(name, value)
    for key, names in (copy or {}).items():
        sequence = isinstance(names, Sequence) and not isinstance(names, str)
        if not sequence or not all(isinstance(host, str) and host for host in names):
            raise ConfigurationError(f"{name}[{key!r}] must be a list of host names like ['judge.example.com'], not {names!r}")
    return None if copy is None else {key: tuple(names) for key, names in copy.items()}


def names(name: str, value: Any) -> tuple[str, ...] | None:
    """Check that a value is None or a sequence of texts that are not empty, and copy it."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, str) and one for one in value):
        # The value may hold a secret, so the message does not repeat it.
        raise ConfigurationError(f"{name} must be a list of texts that are not empty, or None, not a {type(value).__name__}")
    return tuple(value)


def environment_name(name: str, value: Any) -> Any:
    """Check that a value is the name of an environment, or a class of one."""
    if not isinstance(value, type) and (not isinstance(value, str) or not value.strip()):
        raise ConfigurationError(
            f"{name} must be a name like 'weather' or 'owner/name', or an openreward Environment class, not "
            f"{value!r}: gymnasium.make('OpenReward-v0', environment='weather', base_url='http://127.0.0.1:8080')"
        )
    if isinstance(value, str) and "://" in value:
        # The address may hold a password, so the message does not repeat it.
        raise ConfigurationError(f"{name} is a name, and an address was given: pass the address as base_url='http://...'")
    return value


def writable_folder(name: str, value: Any) -> Any:
    """Check that a value is the path of a folder that can be written or made. An address like s3://... is not checked."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value) or "\0" in (path := os.fsdecode(value)):
        raise ConfigurationError(f"{name} must be the path of a folder, not {value!r}")
    if "://" not in path:
        place = next((one for one in (Path(path), *Path(path).parents) if one.exists()), Path())
        if not place.is_dir():
            raise ConfigurationError(f"{name} {path!r} must be a folder, and {str(place)!r} is a file: choose another path")
        if not os.access(place, os.W_OK | os.X_OK):
            raise ConfigurationError(f"{name} {path!r} cannot be written: there is no permission to write in {str(place)!r}")
    return value


def writable_file(name: str, value: Any) -> Any:
    """Check that a value is the path of a file that can be written, in a folder that is there or can be made."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value) or "\0" in os.fsdecode(value):
        raise ConfigurationError(f"{name} must be the path of a file, not {value!r}")
    if Path(value).is_dir():
        raise ConfigurationError(f"{name} {os.fsdecode(value)!r} must be a file, and is a folder: name a file in it")
    writable_folder(f"the folder of {name}", Path(value).absolute().parent)
    return value


def is_rows_file(output: str | os.PathLike[str]) -> bool:
    """Return True if the `output` of a run names a file of NeMo Gym rows."""
    return Path(output).suffix.lower() == ".jsonl"


def run_folder_of(output: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder of a run with this `output`: of a file of rows, the folder beside it. None stays None.

    Example:
        >>> run_folder_of("data/rollouts.jsonl") == run_folder_of("data/rollouts") == Path("data/rollouts")
        True
    """
    if output is None or not os.fspath(output):
        return None
    return Path(output).with_suffix("") if is_rows_file(output) else Path(output)
