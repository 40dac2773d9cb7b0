"""Rows of a vector environment: what one env's reset or step brought, the box where they arrive, and batches of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from openreward_gym.envs.observations import Info

Batch = tuple[tuple[Any, ...], npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]
"""observations, rewards, terminations, truncations, infos; as many of each as there are rows."""


@dataclass(slots=True)
class Row:
    """One env's part of a batch.

    Attributes:
        env_id: Which env, from 0.
        failed: Whether there is no episode: its reset failed. `info["error"]` says why.
        problem: The caller's mistake, to be raised in place of the row; None for a proper row.
    """

    env_id: int
    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: Info
    failed: bool = False
    problem: Exception | None = None


class Inbox:
    """Where the event loop's thread puts rows and the caller's takes them: each once, in the order of arrival."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._arrival = threading.Condition()

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, row: Row) -> None:
        with self._arrival:
            self._rows.append(row)
            self._arrival.notify_all()

    def take(self, of: Collection[int], least: int, most: int, timeout_s: float | None) -> list[Row]:
        """Waits for `least` rows of the envs `of` and takes them with what else is there of these, up to `most`.

        Args:
            timeout_s: Seconds after which fewer are taken, perhaps none; None waits.
        """
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        with self._arrival:
            while sum(row.env_id in of for row in self._rows) < least:
                left = None if ends is None else ends - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._arrival.wait(left)
            taken = [row for row in self._rows if row.env_id in of][:most]
            chosen = {id(row) for row in taken}
            self._rows = [row for row in self._rows if id(row) not in chosen]
            return taken


def batch_of(rows: Sequence[Row]) -> Batch:
    """The rows as one batch, with `infos["env_id"]`."""
    return (
        tuple(row.observation for row in rows),
        np.array([row.reward for row in rows], dtype=np.float64),
        np.array([row.terminated for row in rows], dtype=np.bool_),
        np.array([row.truncated for row in rows], dtype=np.bool_),
        merged_infos({place: {"env_id": row.env_id, **row.info} for place, row in enumerate(rows)}, len(rows)),
    )


def merged_infos(infos: dict[int, Info], n: int) -> dict[str, Any]:
    """Infos by their place as one dict of arrays of length `n`, as Gymnasium's vector environments merge them.

    Beside each key there is `_key`, a bool array of which places have it. Numbers and bools make arrays of their type,
    dicts are merged likewise, anything else makes an object array. Each key must always have the same type.
    """
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for info in infos.values() for key in info):
        values = {place: info[key] for place, info in infos.items() if key in info}
        first = next(iter(values.values()))
        if isinstance(first, dict) and key != "final_obs":
            merged[key] = merged_infos(values, n)
        else:
            kind = type(first) if type(first) in (int, float, bool) else object
            column = np.full(n, None, object) if kind is object else np.zeros(n, kind)
            for place, value in values.items():
                column[place] = value
            merged[key] = column
        present = np.zeros(n, np.bool_)
        present[list(values)] = True
        merged[f"_{key}"] = present
    return merged
