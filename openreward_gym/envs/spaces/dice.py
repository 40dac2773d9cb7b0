"""Random choices out of a numpy generator, cheap enough to make dozens of them a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_ROLLS = 32


class Dice:
    """Draws one sample's random choices.

    A call of numpy's generator costs microseconds whatever its size, so numbers are fetched many at a time. What is left
    over is thrown away with the dice: make one for each sample, and the generator's state alone decides the next.
    """

    __slots__ = ("_generator", "_rolls")

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._rolls: list[float] = []

    def roll(self) -> float:
        """A number in [0, 1)."""
        if not self._rolls:
            self._rolls = self._generator.random(_ROLLS).tolist()
        return self._rolls.pop()

    def below(self, n: int) -> int:
        """An integer in [0, n); `n` is at least 1 and may be larger than a float holds."""
        if n >= 1 << 53:
            return int(self.roll() * (1 << 53)) * n >> 53
        return int(self.roll() * n)

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        return self.roll() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of `items`, which are not empty."""
        return items[self.below(len(items))]
