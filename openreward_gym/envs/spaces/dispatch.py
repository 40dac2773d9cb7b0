"""Tells Gymnasium's functions over spaces what to do with ours: vector environments and wrappers call these.

Gymnasium dispatches on a space's class. `batch_space`, `concatenate` and (over tuples) `iterate` know every space; the
functions here know only those that are registered, some of them by the exact class.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
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

from openreward_gym.envs.spaces.blocks import BlocksSpace, MessagesSpace
from openreward_gym.envs.spaces.shared_memory import create_slots, read_slots, write_slots
from openreward_gym.envs.spaces.text import UnicodeText
from openreward_gym.envs.spaces.tool_calls import ToolCallSpace
from openreward_gym.errors import ConfigurationError


def _zero_text(space: UnicodeText) -> str:
    return ""


def _zero_transcript(space: Space[Any]) -> tuple[()]:
    return ()


def _zero_call(space: ToolCallSpace) -> Any:
    # The least call: always the same one, whatever was sampled before.
    return ToolCallSpace(space.tools[:1], message=True, seed=0).sample()


def _batch_differing(differing: Sequence[Space[Any]]) -> spaces.Tuple[Any]:
    return spaces.Tuple([deepcopy(space) for space in differing], seed=deepcopy(differing[0].np_random))


def _equivalent(space_1: Space[Any], space_2: Space[Any]) -> bool:
    # Elements of any length are kept the same way, so spaces of one class can share a batch.
    return type(space_1) is type(space_2)


def _empty(space: Space[Any], n: int | None = 1, fn: Any = None) -> Any:
    zero = create_zero_array(space)
    return zero if n is None else tuple(zero for _ in range(n))


# What has no numbers is flattened to itself, as Gymnasium does with graphs: in a Dict the rest is still flattened.
def _flat_space(space: Space[Any]) -> Space[Any]:
    return space


def _flat(space: Space[Any], x: Any) -> Any:
    return x


def _no_dimensions(space: Space[Any]) -> int:
    raise ConfigurationError(f"{space} cannot be flattened to a numpy array: its elements are text or JSON")


def _register(kind: type[Space[Any]], zero: Any) -> None:
    implementations: list[tuple[Any, Any]] = [
        (create_zero_array, zero),
        (create_empty_array, _empty),
        (create_shared_memory, create_slots),
        (read_from_shared_memory, read_slots),
        (write_to_shared_memory, write_slots),
        (batch_differing_spaces, _batch_differing),
        (is_space_dtype_shape_equiv, _equivalent),
        (flatdim, _no_dimensions),
        (flatten_space, _flat_space),
        (flatten, _flat),
        (unflatten, _flat),
    ]
    for function, implementation in implementations:
        function.register(kind, implementation)


_register(UnicodeText, _zero_text)
_register(BlocksSpace, _zero_transcript)
_register(MessagesSpace, _zero_transcript)
_register(ToolCallSpace, _zero_call)
