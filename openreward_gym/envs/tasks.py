"""The choice of an episode's task: a pure function of the seed and of the options of `reset`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from openreward_gym.checks import integer
from openreward_gym.errors import ConfigurationError
from openreward_gym.options import TaskOrder
from openreward_gym.suggestions import unknown_option
from openreward_gym.types import Json

RESET_OPTIONS = ("split", "task_index", "task_spec")


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """The task that `reset(options=...)` requests. With `index` and `spec` None, the task order chooses."""

    split: str
    index: int | None = None
    spec: Mapping[str, Json] | None = None


def task_request(options: Mapping[str, Any] | None, split: str, index: int | None) -> TaskRequest:
    """Read the options of `reset`. `split` and `index` replace missing options.

    Raises:
        ConfigurationError: An option is unknown or has the wrong type, or both an index and a spec are passed.
    """
    if not isinstance(options, Mapping | None):
        raise ConfigurationError(f"the options of reset() must be a dict like {{'task_index': 3}}, not {options!r:.200}")
    options = dict(options or {})
    for name in options:
        if name not in RESET_OPTIONS:
            raise ConfigurationError(unknown_option("reset(options=...)", name, RESET_OPTIONS))
    wanted_split = options.get("split", split)
    if not isinstance(wanted_split, str) or not wanted_split:
        raise ConfigurationError(f"options['split'] must be the name of a split, not {wanted_split!r}")
    spec = options.get("task_spec")
    if spec is not None:
        if "task_index" in options:
            raise ConfigurationError("reset(options=...) takes task_index or task_spec, not both")
        if not isinstance(spec, Mapping):
            raise ConfigurationError(f"options['task_spec'] must be a dict, not {spec!r}")
        return TaskRequest(wanted_split, None, spec)
    return TaskRequest(wanted_split, integer(optional=True)("options['task_index']", options.get("task_index", index)))


class TaskChooser:
    """Chooses the index of the next task in a split.

    - "sequential": seed s gives task s % n, so `for s in range(n): env.reset(seed=s)` plays each task of a split once. A
      reset without a seed takes the next task.
    - "random": drawn from the env's own generator, independently each time.
    - "shuffle": a random permutation for each seed. Resets without a seed go through it, then through another one.

    Example:
        >>> chooser, rng = TaskChooser("sequential"), np.random.default_rng(0)
        >>> [chooser.choose(5, seed, rng) for seed in (3, None, None)]
        [3, 4, 0]
    """

    def __init__(self, order: TaskOrder) -> None:
        self.order = order
        self._position = 0
        self._key: int | None = None

    def choose(self, n: int, seed: int | None, rng: np.random.Generator) -> int:
        """Return the index of the next task, 0 <= index < `n`. `seed` is the seed of the reset, None if it had none."""
        if self.order == "random":
            return int(rng.integers(n))
        if seed is not None:
            self._position = seed if self.order == "sequential" else 0
            self._key = None
        position, self._position = self._position, self._position + 1
        if self.order == "sequential":
            return position % n
        if self._key is None:
            self._key = int(rng.integers(2**32))
        return _permuted(position % n, n, self._key + position // n)


def _permuted(index: int, n: int, key: int) -> int:
    """Return the image of `index` under the permutation of range(n) numbered `key`, in constant memory.

    The permutation is a four-round Feistel network over the next even number of bits, iterated until the value lies in
    range(n) (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002).
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            mixed = (right * 0x9E3779B97F4A7C15 + key * 0xBF58476D1CE4E5B9 + turn * 0x94D049BB133111EB) & (2**64 - 1)
            mixed = ((mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
            left, right = right, left ^ ((mixed >> 32) & mask)
        index = (left << half) | right
        if index < n:
            return index
