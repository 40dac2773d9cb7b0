"""Selection of rollouts by the viewer's filter, without a viewer."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from openreward_gym.viewer.answers.selecting import check_filter
from openreward_gym.viewer.filters import compile_filter
from openreward_gym.viewer.index import JOINED, RunIndex, Runs


def ids_that_match(runs: Runs, filter_: str) -> set[str]:
    """Return the ids of the rollouts of these runs that a filter selects, kept and discarded ones.

    Raises:
        ConfigurationError: The filter cannot be parsed, or names a field that no run has.
        StoreError: A folder does not exist.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(RunIndex(runs, Path(folder) / "index.sqlite")) as index:
        index.refresh()
        check_filter(index, None, filter_)
        condition = compile_filter(filter_)
        return {key for (key,) in index.rows(f"SELECT r.id FROM {JOINED} WHERE {condition.text}", condition.parameters)}
