"""Merge the runs of several machines into one, and report duplicates and gaps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from openreward_gym.errors import RecordError, StoreError
from openreward_gym.jsonio import loads
from openreward_gym.store.damage import Damage, Damages, OnDamage
from openreward_gym.store.folder import Compression, folder_at
from openreward_gym.store.index import Place, damage_of
from openreward_gym.store.store import RolloutStore

_FILES = ("run.json", "tasks.jsonl")
_MOST_GAPS = 10_000
"""The largest number of missing samples of a task: its highest sample may be damaged too."""


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
        damages: Lines, images and files that could not be read. All others were merged; a rollout without one of its images keeps
            the image's name.
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
    damages = Damages()
    newest, duplicates, conflicts = _choose(stores, damages)
    samples: dict[tuple[str, int], list[str]] = {}
    merged = 0
    with RolloutStore(output, run=run, compression=compression) as target:
        for number, store in enumerate(stores):
            for place, rollout in store.placed_rollouts(damages):
                if newest.get(rollout.id, (None, ""))[0] != number:
                    continue
                del newest[rollout.id]
                target.append(store.with_images(rollout, partial(_note, store, place, damages)))
                merged += 1
                # The group of a collection is its task, and tells equal tasks of one run apart.
                if (task := rollout.group or rollout.task.id) and rollout.sample is not None:
                    samples.setdefault((task, rollout.sample), []).append(rollout.id)
            for failure in store.failures(retried=True, on_damage=damages):
                target.append_failure(failure)
    _copy_files(runs, output, damages)
    doubled = {key: tuple(ids) for key, ids in samples.items() if len(ids) > 1}
    gaps = sorted((_expected(runs) | _below(samples)) - set(samples))
    return MergeReport(merged, tuple(duplicates), tuple(conflicts), doubled, tuple(gaps), tuple(damages))


def _choose(
    stores: Sequence[RolloutStore], on_damage: OnDamage
) -> tuple[dict[str, tuple[int | None, str]], list[str], list[str]]:
    """Choose the store of each id: that of the rollout that ended last, or the first of equal ones."""
    chosen: dict[str, tuple[int | None, str]] = {}
    contents: dict[str, int] = {}
    duplicates: dict[str, None] = {}
    conflicts: dict[str, None] = {}
    for number, store in enumerate(stores):
        for place, rollout in store.placed_rollouts(on_damage):
            try:
                ended, content = rollout.ended_at or "", hash(rollout.to_line())
            except RecordError as error:
                _note(store, place, on_damage, error)
                continue
            if rollout.id in chosen:
                (duplicates if contents[rollout.id] == content else conflicts)[rollout.id] = None
                if ended <= chosen[rollout.id][1]:
                    continue
            chosen[rollout.id], contents[rollout.id] = (number, ended), content
    return chosen, [identity for identity in duplicates if identity not in conflicts], list(conflicts)


def _note(store: RolloutStore, place: Place, on_damage: OnDamage, error: Exception) -> None:
    on_damage(store.damage_at(place, error))


def _expected(runs: Iterable[str | os.PathLike[str]]) -> set[tuple[str, int]]:
    """Return the (task, sample) pairs that the inventories of the runs name."""
    expected: set[tuple[str, int]] = set()
    for run in runs:
        for line in (_read(run, "tasks.jsonl") or b"").splitlines():
            try:
                item = loads(line)
                task = item["group"] if "group" in item else item["task"]
                expected.add((task if isinstance(task, str) else str(task["id"]), int(item["sample"])))
            except (ValueError, KeyError, TypeError, OverflowError):
                continue  # a torn last line, or another kind of inventory
    return expected


def _read(run: str | os.PathLike[str], name: str, on_damage: OnDamage | None = None) -> bytes | None:
    """Return the bytes of a run's file; None if it is missing or cannot be read."""
    folder = folder_at(run)
    try:
        return folder.read_bytes(name)
    except FileNotFoundError:
        return None
    except OSError as error:
        if on_damage is not None:
            on_damage(damage_of(folder, name, error))
        return None


def _below(samples: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """Return all samples of each task below its highest."""
    highest: dict[str, int] = {}
    for task, sample in samples:
        highest[task] = max(sample, highest.get(task, 0))
    return {(task, sample) for task, last in highest.items() for sample in range(min(last, _MOST_GAPS))}


def _copy_files(runs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str], on_damage: OnDamage) -> None:
    """Copy the description of the first run and the inventories of all runs, one after the other."""
    target = folder_at(output)
    for name in _FILES:
        parts: dict[bytes, None] = {}
        for run in runs:
            content = _read(run, name, on_damage)
            if content is None:
                continue
            if name == "run.json" and parts:
                break
            parts.update(dict.fromkeys([content] if name == "run.json" else content.splitlines(keepends=True)))
        if parts:
            target.write_bytes(name, b"".join(parts))
