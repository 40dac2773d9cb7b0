"""Token-exactness over all chat templates of the installed TRL, as benchmarks/token_exactness.py checks it."""

from __future__ import annotations

import os

import pytest
import token_exactness

CONVERSATIONS = 1000 if os.environ.get("OPENREWARD_GYM_LONG") else 10
NOT_SHOWN = {"cohere", "cohere2", "phi3", "phi3_5"}
"""Families whose templates show no results of tools."""

pytestmark = pytest.mark.train


@pytest.mark.parametrize("name", token_exactness.templates())
def test_what_is_trained_is_what_was_sampled(name: str) -> None:
    counts = token_exactness.run(name, CONVERSATIONS)
    assert counts.conversations == CONVERSATIONS
    assert counts.extended + counts.split + counts.refused == counts.turns - counts.conversations + counts.refused
    assert counts.extended
    assert counts.compared
