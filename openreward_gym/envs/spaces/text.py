"""The space of observations that are text."""

from __future__ import annotations

import string
import sys
from typing import Any

import numpy as np
from gymnasium import spaces

from openreward_gym.errors import ConfigurationError

_SAMPLED_LENGTH = 32
"""Longest sample, in characters: samples are for smoke tests, and a uniform length below a million fills memory."""

_SAMPLED_CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " \n"


class UnicodeText(spaces.Text):
    """Any text: empty, with NUL characters, with any script, with lone surrogates.

    `gymnasium.spaces.Text` cannot be used for what a tool prints: it holds a set of characters, at least one character,
    and a greatest length for which memory is set aside. This one is still a `Text`, so that code which asks
    `isinstance(space, Text)` knows what to do with it; `character_set` holds only what `sample` draws from.

    Args:
        max_length: Longest element, in characters. None (default) for no limit.
        seed: Seeds `sample`.

    Raises:
        ConfigurationError: `max_length` is negative or not an integer.
    """

    def __init__(self, max_length: int | None = None, *, seed: int | np.random.Generator | None = None) -> None:
        if max_length is not None and (isinstance(max_length, bool) or not isinstance(max_length, (int, np.integer))):
            raise ConfigurationError(f"max_length must be an integer of characters or None, not {max_length!r}")
        if max_length is not None and max_length < 0:
            raise ConfigurationError(f"max_length must not be negative, got {max_length}")
        super().__init__(
            sys.maxsize if max_length is None else int(max_length), min_length=0, charset=_SAMPLED_CHARACTERS, seed=seed
        )

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """A short text of printable ASCII characters.

        Args:
            mask: `(length, characters)` as of `gymnasium.spaces.Text`; either may be None.
            probability: The same with probabilities of characters.
        """
        if mask is None and probability is None:
            characters = self.character_list
            drawn = self.np_random.integers(len(characters), size=self._drawn_length())
            return "".join(characters[i] for i in drawn.tolist())
        return str(super().sample(mask=self._with_length(mask), probability=self._with_length(probability)))

    def _drawn_length(self) -> int:
        return int(self.np_random.integers(min(self.max_length, _SAMPLED_LENGTH) + 1))

    def _with_length(self, weights: Any | None) -> Any | None:
        # Text draws a missing length between 0 and max_length, which here is no length to build a string of.
        if isinstance(weights, tuple) and len(weights) == 2 and weights[0] is None:
            return (self._drawn_length(), weights[1])
        return weights

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeText) and self.max_length == other.max_length

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "UnicodeText()" if self.max_length == sys.maxsize else f"UnicodeText(max_length={self.max_length})"
