"""Which task an episode gets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreward_gym.envs.tasks import TaskChooser, _permuted
from openreward_gym.options import TaskOrder


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(1, 700), st.integers(0, 2**40))
def test_a_permutation_covers_everything_once(n: int, key: int) -> None:
    assert sorted(_permuted(index, n, key) for index in range(n)) == list(range(n))


def test_a_permutation_of_many_needs_no_memory() -> None:
    assert 0 <= _permuted(12345, 10**12, 7) < 10**12
    assert len({_permuted(7, 10**12, key) for key in range(100)}) == 100


@given(st.integers(1, 50), st.integers(0, 1000))
def test_sequential_seeds_cover_a_split_once(n: int, start: int) -> None:
    chooser = TaskChooser("sequential")
    assert sorted(chooser.choose(n, seed, rng(seed)) for seed in range(start, start + n)) == list(range(n))


def test_sequential_goes_on_without_a_seed() -> None:
    chooser = TaskChooser("sequential")
    assert [chooser.choose(3, None, rng(0)) for _ in range(4)] == [0, 1, 2, 0]
    assert chooser.choose(3, 7, rng(0)) == 1
    assert chooser.choose(3, None, rng(0)) == 2


@pytest.mark.parametrize("order", ["sequential", "random", "shuffle"])
def test_the_choice_is_a_pure_function_of_the_seed(order: TaskOrder) -> None:
    def walk() -> list[int]:
        chooser, source = TaskChooser(order), rng(5)
        return [chooser.choose(10, 5, source), *(chooser.choose(10, None, source) for _ in range(20))]

    assert walk() == walk()
    chooser, source = TaskChooser(order), rng(1)
    chooser.choose(10, None, source)
    source = rng(5)
    assert [chooser.choose(10, 5, source), *(chooser.choose(10, None, source) for _ in range(20))] == walk()


def test_shuffle_covers_an_epoch_and_shuffles_the_next() -> None:
    chooser, source = TaskChooser("shuffle"), rng(3)
    seen = [chooser.choose(20, 3, source), *(chooser.choose(20, None, source) for _ in range(39))]
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20))
    assert seen[:20] != seen[20:] != list(range(20))
