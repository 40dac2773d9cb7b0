"""Side by side with TRL's own adapter for OpenReward: the same rewards where that is right, and the differences."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]


def test_both_adapters_on_the_same_tasks() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import trl_adapters

        # Dead servers, which the SDK's client asks for seconds, are in the tests of the episodes.
        alive = [situation for situation in trl_adapters.SITUATIONS if situation.dies is None]
        outcomes = trl_adapters.compare(alive)
    same = {name for name, (theirs, ours) in outcomes.items() if theirs == ours}
    assert same == {"a tool ends the episode: right", "a tool ends the episode: wrong"}
    assert [outcomes[name][1][1] for name in sorted(same)] == [1.0, 0.0]
    rewards = {name: (theirs[1], ours[1]) for name, (theirs, ours) in outcomes.items() if name not in same}
    assert rewards == {
        "two rewards of 0.5": (0.5, 1.0),
        "the environment judges the last message": (None, 1.0),
        "a tool returns text and an image": (0.0, 0.0),
        "a tool returns nothing": (None, 0.0),
        "a call with a wrong argument": (None, 0.0),
        "a tool with an odd name": (None, 0.25),
        "a call after the end": (1.0, 1.0),
        "the environment raises": (0.5, None),
    }
    assert [outcome[0] for outcome in outcomes["a tool returns text and an image"]] == ["look", "look + the image"]
    assert outcomes["the environment raises"][0][0].startswith("Error: ")
    assert outcomes["the environment raises"][1][0] == ""
    assert trl_adapters.table(outcomes).count("\n") == len(outcomes) + 1
