"""Observations of any length in memory that processes share, for `gymnasium.vector.AsyncVectorEnv`.

That class asks a space for memory once, reads it once, and from then on only copies what it read: with arrays, a copy is
the newest content. So what is read here is a view that decodes when it is copied, indexed or iterated.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from gymnasium import Space
from gymnasium.wrappers.utils import create_zero_array

from openreward_gym.envs.spaces.text import UnicodeText

_SLOT_BYTES = 1 << 16
"""Memory set aside for each environment; a longer observation goes through a file."""


class Slots:
    """A place for one observation of each environment, written by its worker and read by the parent.

    Args:
        n: Number of environments.
        ctx: The `multiprocessing` context that starts the workers.
    """

    def __init__(self, n: int, ctx: Any) -> None:
        self.n = n
        # A negative length is that of a file. No lock: a worker writes only between the parent's request and its answer.
        self._lengths = ctx.RawArray("q", n)
        self._bytes = ctx.RawArray("B", n * _SLOT_BYTES)
        # Made by the first worker that needs it; the name cannot be guessed, and the folder is its owner's alone.
        self._folder = Path(tempfile.gettempdir(), f"openreward-gym-{secrets.token_hex(16)}")
        weakref.finalize(self, _remove, self._folder, os.getpid())

    def write(self, index: int, content: bytes) -> None:
        if self._lengths[index] < 0:
            self._file(index).unlink(missing_ok=True)
        if len(content) > _SLOT_BYTES:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._file(index).write_bytes(content)
            self._lengths[index] = -len(content)
        else:
            start = index * _SLOT_BYTES
            memoryview(self._bytes).cast("B")[start : start + len(content)] = content
            self._lengths[index] = len(content)

    def read(self, index: int) -> bytes:
        length = self._lengths[index]
        if length < 0:
            return self._file(index).read_bytes()
        start = index * _SLOT_BYTES
        return bytes(memoryview(self._bytes).cast("B")[start : start + length])

    def _file(self, index: int) -> Path:
        return self._folder / str(index)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked worker inherits the finalizer, not the folder
        shutil.rmtree(folder, ignore_errors=True)


class SlotsView(Sequence[Any]):
    """The newest observations, one of each environment; each look at it decodes. A copy is a plain tuple."""

    def __init__(self, space: Space[Any], slots: Slots) -> None:
        self._space = space
        self._slots = slots

    def __len__(self) -> int:
        return self._slots.n

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(len(self))[index])
        return _decode(self._space, self._slots.read(range(len(self))[index]))

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (tuple, list, SlotsView)) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> tuple[Any, ...]:
        return tuple(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[Any, ...]:
        return tuple(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (tuple, (list(self),))

    def __repr__(self) -> str:
        return repr(tuple(self))


def create_slots(space: Space[Any], n: int = 1, ctx: Any = multiprocessing) -> Slots:
    """Memory for `n` observations of `space`, at first the space's zero."""
    slots = Slots(n, ctx)
    zero = _encode(space, create_zero_array(space))
    for index in range(n):
        slots.write(index, zero)
    return slots


def read_slots(space: Space[Any], shared_memory: Slots, n: int = 1) -> SlotsView:
    return SlotsView(space, shared_memory)


def write_slots(space: Space[Any], index: int, values: Any, shared_memory: Slots) -> None:
    shared_memory.write(index, _encode(space, values))


def _encode(space: Space[Any], value: Any) -> bytes:
    if isinstance(space, UnicodeText):
        return str(value).encode("utf-8", "surrogatepass")
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)  # as the same processes' pipes do


def _decode(space: Space[Any], content: bytes) -> Any:
    if isinstance(space, UnicodeText):
        return content.decode("utf-8", "surrogatepass")
    return pickle.loads(content)
