"""Records of other systems with one value replaced at random: each gives a rollout or a damage, never an exception."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from openreward_gym.importers import read
from openreward_gym.store import Damage
from openreward_gym.types import Rollout

MUTATIONS = 1_000 if os.environ.get("OPENREWARD_GYM_LONG") else 80
DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]

HOSTILE: list[Any] = [
    None,
    True,
    0,
    -1,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "text",
    "\ud800",
    "9" * 30,
    [],
    {},
    [None],
    [[]],
    ["x"],
    [{}],
    {"role": "assistant"},
    {"type": "text"},
    DEEP,
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for path in [path] if path] + [found for key, item in inner for found in places(item, (*path, key))]


def mutated(record: Any) -> st.SearchStrategy[Any]:
    """Return records with up to three values replaced, or removed."""

    def replace(changes: list[tuple[tuple[Any, ...], Any]]) -> Any:
        result = copy.deepcopy(record)
        for path, value in changes:
            holder = result
            for key in path[:-1]:
                try:
                    holder = holder[key]
                except (KeyError, IndexError, TypeError):
                    break
            else:
                # The holder may have been replaced by another change.
                if isinstance(holder, dict) or (isinstance(holder, list) and path[-1] in range(len(holder))):
                    holder[path[-1]] = value
        return result

    change = st.tuples(st.sampled_from(places(record)), st.sampled_from(HOSTILE))
    return st.lists(change, min_size=1, max_size=3).map(replace)


def check(source: str, record: Any, folder: Path, name: str = "record.json", write: Callable[[Any], str] = json.dumps) -> None:
    """Assert that a file with `record` gives rollouts or damages with a reason."""
    path = folder / name
    path.write_text(write(record), encoding="ascii")
    for item in read(source, path):
        assert isinstance(item, (Rollout, Damage))
        if isinstance(item, Damage):
            assert item.reason
            assert "object has no attribute" not in item.reason, item.reason
            assert "not iterable" not in item.reason, item.reason
            assert "not subscriptable" not in item.reason, item.reason
            assert "indices must be" not in item.reason, item.reason
