"""Support of our spaces in the functions over spaces that Gymnasium's vector environments and wrappers call.

`AsyncVectorEnv` creates shared memory for a space once, reads it once, and from then on copies the object it read: if that is
an array, the copy has the newest content. Our observations have no fixed size, so `read_from_shared_memory` returns a view
that decodes when it is copied, indexed or iterated.
"""

from __future__ import annotations

import multiprocessing
import pickle
import secrets
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from gymnasium import Space, spaces
from gymnasium.spaces.utils import flatdim, flatten, flatten_space, is_space_dtype_shape_equiv, unflatten
from gymnasium.vector.utils import (
    batch_differing_spaces,
    create_empty_array,
    create_shared_memory,
    read_from_shared_memory,
    write_to_shared_memory,
)
from gymnasium.wrappers.utils import create_zero_array

from openreward_gym.envs.spaces.observations import BlocksSpace, MessagesSpace, UnicodeText
from openreward_gym.envs.spaces.tool_calls import ToolCallSpace
from openreward_gym.errors import ConfigurationError
from openreward_gym.processes import process_id, remove_folder

_BYTES_PER_ENV = 1 << 16
"""Shared memory per environment. A longer observation goes through a file."""


class ObservationBuffer:
    """Shared memory for one observation per environment, written by the worker and read by the parent."""

    def __init__(self, n: int, ctx: Any) -> None:
        self.n = n
        # A negative length is that of a file. No lock is needed: a worker writes only between a request and its response.
        self._lengths = ctx.RawArray("q", n)
        self._bytes = ctx.RawArray("B", n * _BYTES_PER_ENV)
        # The first worker that needs the folder makes it. Its name cannot be guessed, and only its owner can open it.
        self._folder = Path(tempfile.gettempdir(), f"openreward-gym-{secrets.token_hex(16)}")
        weakref.finalize(self, remove_folder, self._folder, process_id())

    def write(self, index: int, value: Any) -> None:
        content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)  # the pipes between the same processes use pickle, too
        if self._lengths[index] < 0:
            self._file(index).unlink(missing_ok=True)
        if len(content) > _BYTES_PER_ENV:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._file(index).write_bytes(content)
            self._lengths[index] = -len(content)
        else:
            start = index * _BYTES_PER_ENV
            memoryview(self._bytes).cast("B")[start : start + len(content)] = content
            self._lengths[index] = len(content)

    def read(self, index: int) -> Any:
        length = self._lengths[index]
        if length < 0:
            return pickle.loads(self._file(index).read_bytes())
        start = index * _BYTES_PER_ENV
        return pickle.loads(memoryview(self._bytes).cast("B")[start : start + length])

    def _file(self, index: int) -> Path:
        return self._folder / str(index)


class ObservationView(Sequence[Any]):
    """View of the newest observations, one per environment. Each access decodes; a copy is a plain tuple."""

    def __init__(self, buffer: ObservationBuffer) -> None:
        self._buffer = buffer

    def __len__(self) -> int:
        return self._buffer.n

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(len(self))[index])
        return self._buffer.read(range(len(self))[index])

    def __iter__(self) -> Iterator[Any]:
        return map(self._buffer.read, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (tuple, list, ObservationView)) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[Any, ...]:
        return tuple(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (tuple, (list(self),))

    def __repr__(self) -> str:
        return repr(tuple(self))


def _create_buffer(space: Space[Any], n: int = 1, ctx: Any = multiprocessing) -> ObservationBuffer:
    """Create shared memory for `n` observations, filled with the zero element of `space`."""
    buffer = ObservationBuffer(n, ctx)
    zero = create_zero_array(space)
    for index in range(n):
        buffer.write(index, zero)
    return buffer


def _read_buffer(space: Space[Any], shared_memory: ObservationBuffer, n: int = 1) -> ObservationView:
    return ObservationView(shared_memory)


def _write_buffer(space: Space[Any], index: int, values: Any, shared_memory: ObservationBuffer) -> None:
    shared_memory.write(index, values)


def _zero_call(space: ToolCallSpace) -> Any:
    # A fixed seed gives the same call whatever was sampled before.
    return ToolCallSpace(space.tools[:1], message=True, seed=0).sample()


def _batch_differing(differing: Sequence[Space[Any]]) -> spaces.Tuple[Any]:
    return spaces.Tuple([deepcopy(space) for space in differing], seed=deepcopy(differing[0].np_random))


def _equivalent(space_1: Space[Any], space_2: Space[Any]) -> bool:
    # Elements of all lengths are stored alike, so all spaces of one class can share a batch.
    return type(space_1) is type(space_2)


def _empty(space: Space[Any], n: int | None = 1, fn: Any = None) -> Any:
    zero = create_zero_array(space)
    return zero if n is None else tuple(zero for _ in range(n))


def _no_dimensions(space: Space[Any]) -> int:
    raise ConfigurationError(f"{space} cannot be flattened to a numpy array: its elements are text or JSON")


def _register(kind: type[Space[Any]], zero: Callable[[Any], Any]) -> None:
    implementations: list[tuple[Any, Any]] = [
        (create_zero_array, zero),
        (create_empty_array, _empty),
        (create_shared_memory, _create_buffer),
        (read_from_shared_memory, _read_buffer),
        (write_to_shared_memory, _write_buffer),
        (batch_differing_spaces, _batch_differing),
        (is_space_dtype_shape_equiv, _equivalent),
        (flatdim, _no_dimensions),
        # Elements without numbers flatten to themselves, as graphs do in Gymnasium: the rest of a Dict is still flattened.
        (flatten_space, lambda space: space),
        (flatten, lambda space, x: x),
        (unflatten, lambda space, x: x),
    ]
    for function, implementation in implementations:
        function.register(kind, implementation)


_register(UnicodeText, lambda space: "")
_register(BlocksSpace, lambda space: ())
_register(MessagesSpace, lambda space: ())
_register(ToolCallSpace, _zero_call)
