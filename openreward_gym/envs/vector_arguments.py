"""The arguments of a vector environment's methods: read once, under the rules of Gymnasium's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from openreward_gym.errors import ConfigurationError


def autoreset_mode_of(mode: AutoresetMode | str) -> AutoresetMode:
    """A mode by its name ("NEXT_STEP") or Gymnasium's value ("NextStep")."""
    for known in AutoresetMode:
        if mode in (known, known.name, known.value):
            return known
    raise ConfigurationError(f"autoreset_mode must be one of {', '.join(known.name for known in AutoresetMode)}, not {mode!r}")


def masked(mask: Any, num_envs: int) -> list[int]:
    """The envs that a reset mask names; all where there is none."""
    if mask is None:
        return list(range(num_envs))
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (num_envs,) or not mask.any():
        raise ConfigurationError(
            f"options['reset_mask'] must be a bool array of shape ({num_envs},) with at least one True, not {mask!r}"
        )
    return [int(i) for i in np.flatnonzero(mask)]


def seeds_of(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """A seed for each env: `seed + i`, or those of a list; None for none."""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int | np.integer):
        return [int(seed) + i for i in range(num_envs)]
    if len(seed) != num_envs:
        raise ConfigurationError(f"seed must be a number or a list of {num_envs}, got {len(seed)}")
    return [None if one is None else int(one) for one in seed]


def count_of(actions: Any) -> str:
    """How many actions were given, in words; a lone one is easily taken for a list."""
    return f"one ({type(actions).__name__})" if isinstance(actions, str | Mapping) else str(len(actions))
