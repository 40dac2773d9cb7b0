"""Merge the runs of several machines into one, and report duplicates and gaps."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from openreward_gym.errors import StoreError
from openreward_gym.store.folder import Compression, folder_at
from openreward_gym.store.records import Damage
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import Rollout

_FILES = ("run.json", "tasks.jsonl")


@dataclass(frozen=True, slots=True)
class MergeReport:
    """The result of a merge.

    Attributes:
        merged: Number of rollouts that were written.
        duplicates: Ids that occur more than once with equal contents; each was written once.
        conflicts: Ids that occur more than once with different contents; the rollout that ended last was written.
        doubled: (task, sample) pairs with more than one rollout, each with its ids; all of them were written.
        gaps: (task, sample) pairs without a rollout that the inventories of the runs (`tasks.jsonl`) name, or that are
            below the highest sample of a task.
        damages: Lines that could not be read; all others were merged.
    """

    merged: int
    duplicates: tuple[str, ...]
    conflicts: tuple[str, ...]
    doubled: dict[tuple[str, int], tuple[str, ...]]
    gaps: tuple[tuple[str, int], ...]
    damages: tuple[Damage, ...]

    @property
    def complete(self) -> bool:
        """True if every (task, sample) has exactly one rollout and every line was read."""
        return not (self.conflicts or self.doubled or self.gaps or self.damages)


def merge(
    runs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    run: str | None = None,
    compression: Compression = "",
) -> MergeReport:
    """Write the rollouts and failures of several runs, with their images, into one new run.

    Only ids and (task, sample) pairs are held in memory.

    Args:
        runs: The runs' folders.
        output: The new run's folder.
        run: The name of rollouts that have none.
        compression: As for `RolloutStore`.

    Raises:
        StoreError: A path is not a run; or `output` is a run already.

    Example:
        >>> from openreward_gym import Rollout, RolloutStore
        >>> for name in ("a", "b"):
        ...     with RolloutStore(name) as store:
        ...         store.append(Rollout(status="completed"))
        >>> merge(["a", "b"], "both").merged
        2
    """
    if folder_at(output).is_run():
        raise StoreError(f"{output} is a run already: merge into a new folder")
    stores = [RolloutStore(path) for path in runs]
    newest, duplicates, conflicts, damages = _choose(stores)
    samples: dict[tuple[str, int], list[str]] = {}
    merged = 0
    with RolloutStore(output, run=run, compression=compression) as target:
        for number, store in enumerate(stores):
            for rollout in _readable(store, []):
                if newest.get(rollout.id, (None, ""))[0] != number:
                    continue
                del newest[rollout.id]
                target.append(store.with_images(rollout))
                merged += 1
                # The group of a collection is its task, and tells equal tasks of one run apart.
                if (task := rollout.group or rollout.task.id) and rollout.sample is not None:
                    samples.setdefault((task, rollout.sample), []).append(rollout.id)
            for failure in store.failures(retried=True):
                target.append_failure(failure)
    _copy_files(runs, output)
    doubled = {key: tuple(ids) for key, ids in samples.items() if len(ids) > 1}
    gaps = sorted((_expected(runs) | _below(samples)) - set(samples))
    return MergeReport(merged, tuple(duplicates), tuple(conflicts), doubled, tuple(gaps), tuple(damages))


def _choose(stores: Sequence[RolloutStore]) -> tuple[dict[str, tuple[int | None, str]], list[str], list[str], list[Damage]]:
    """Choose the store of each id: that of the rollout that ended last, or the first of equal ones."""
    chosen: dict[str, tuple[int | None, str]] = {}
    contents: dict[str, int] = {}
    duplicates: dict[str, None] = {}
    conflicts: dict[str, None] = {}
    damages: list[Damage] = []
    for number, store in enumerate(stores):
        for rollout in _readable(store, damages):
            ended, content = rollout.ended_at or "", hash(rollout.to_line())
            if rollout.id in chosen:
                (duplicates if contents[rollout.id] == content else conflicts)[rollout.id] = None
                if ended <= chosen[rollout.id][1]:
                    continue
            chosen[rollout.id], contents[rollout.id] = (number, ended), content
    return chosen, [identity for identity in duplicates if identity not in conflicts], list(conflicts), damages


def _readable(store: RolloutStore, damages: list[Damage]) -> Iterable[Rollout]:
    for item in store.readable():
        if isinstance(item, Damage):
            damages.append(item)
        else:
            yield item


def _expected(runs: Iterable[str | os.PathLike[str]]) -> set[tuple[str, int]]:
    """Return the (task, sample) pairs that the inventories of the runs name."""
    expected: set[tuple[str, int]] = set()
    for run in runs:
        try:
            lines = folder_at(run).read_bytes("tasks.jsonl").splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            try:
                item = json.loads(line)
                task = item["group"] if "group" in item else item["task"]
                expected.add((task if isinstance(task, str) else task["id"], int(item["sample"])))
            except (ValueError, KeyError, TypeError):
                continue  # a torn last line, or another kind of inventory
    return expected


def _below(samples: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """Return all samples of each task below its highest."""
    highest: dict[str, int] = {}
    for task, sample in samples:
        highest[task] = max(sample, highest.get(task, 0))
    return {(task, sample) for task, last in highest.items() for sample in range(last)}


def _copy_files(runs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> None:
    """Copy the description of the first run and the inventories of all runs, one after the other."""
    target = folder_at(output)
    for name in _FILES:
        parts: dict[bytes, None] = {}
        for run in runs:
            try:
                content = folder_at(run).read_bytes(name)
            except FileNotFoundError:
                continue
            if name == "run.json" and parts:
                break
            parts.update(dict.fromkeys([content] if name == "run.json" else content.splitlines(keepends=True)))
        if parts:
            target.write_bytes(name, b"".join(parts))
