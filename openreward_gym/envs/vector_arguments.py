"""The arguments of a vector environment's methods: read once, under the rules of Gymnasium's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from openreward_gym.errors import ConfigurationError

PER_ENV_OPTIONS = ("task_index", "task_spec")
"""Options of `reset` that may be lists, one element an env."""


def check_number(name: str, value: Any, *, least: int) -> None:
    """Raises ConfigurationError where an argument is not a whole number, or less than `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ConfigurationError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise ConfigurationError(f"{name} must be {least} or more, not {value!r}")


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


def ids_of(env_ids: Sequence[int] | npt.NDArray[Any] | None, num_envs: int) -> list[int]:
    """The ids of some envs, each once; None for all."""
    ids = list(range(num_envs)) if env_ids is None else [int(i) for i in env_ids]
    if len(set(ids)) != len(ids) or not all(0 <= i < num_envs for i in ids):
        raise ConfigurationError(f"env_ids must be different numbers from 0 to {num_envs - 1}, not {ids}")
    return ids


def options_of(options: Mapping[str, Any], env_id: int, num_envs: int) -> dict[str, Any]:
    """The options of a reset as one env gets them: of `PER_ENV_OPTIONS` its own element, left out where that is None."""
    own = dict(options)
    for name in PER_ENV_OPTIONS:
        if isinstance(own.get(name), list | tuple | np.ndarray):
            if len(own[name]) != num_envs:
                raise ConfigurationError(f"options[{name!r}] must have {num_envs} elements, got {len(own[name])}")
            own[name] = own[name][env_id]
        if name in own and own[name] is None:
            del own[name]
    return own


def count_of(actions: Any) -> str:
    """How many actions were given, in words; a lone one is easily taken for a list."""
    return f"one ({type(actions).__name__})" if isinstance(actions, str | Mapping) else str(len(actions))
