"""Token-exactness over all chat templates of the installed TRL, as benchmarks/token_exactness.py checks it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import token_exactness

CONVERSATIONS = 1000 if os.environ.get("OPENREWARD_GYM_LONG") else 10

pytestmark = pytest.mark.train


@pytest.mark.parametrize("name", token_exactness.templates())
def test_what_is_trained_is_what_was_sampled(name: str) -> None:
    counts = token_exactness.run(name, CONVERSATIONS)
    assert counts.conversations == CONVERSATIONS
    assert counts.refused == 0
    # Every turn but the last of a conversation has a next prompt.
    assert counts.extended + counts.split == counts.turns - counts.conversations
    assert counts.extended
    assert counts.compared
