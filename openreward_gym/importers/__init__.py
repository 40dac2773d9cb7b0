"""Other systems' rollouts. Each module has `read(path)`, which yields a `Rollout` for each record, or the `Damage` that
kept it from being read; `import_run` brings them into a run.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from openreward_gym.errors import ConfigurationError, StoreError
from openreward_gym.store.damage import Damage
from openreward_gym.store.store import RolloutStore
from openreward_gym.types.rollout import Rollout

SOURCES = {
    "nemo-gym": "nemo_gym",
    "openreward": "openreward",
    "openai-chat": "openai_chat",
    "trl": "trl",
    "verifiers": "verifiers",
    "inspect": "inspect_logs",
    "firehorse": "firehorse",
}
"""The names by which the sources go, and their modules."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of an import.

    Attributes:
        imported: Rollouts that were written.
        known: Rollouts that the run had already (an import can be repeated).
        damages: What could not be read.
    """

    imported: int
    known: int
    damages: tuple[Damage, ...]


def read(source: str, path: str | os.PathLike[str], **options: Any) -> Iterator[Rollout | Damage]:
    """The rollouts of another system.

    Raises:
        ConfigurationError: There is no such source.
        StoreError: There is nothing at `path`.
    """
    if source not in SOURCES:
        raise ConfigurationError(f"no source {source!r}: there are {', '.join(SOURCES)}")
    module = importlib.import_module(f"{__name__}.{SOURCES[source]}")
    found: Iterator[Rollout | Damage] = module.read(path, **options)
    return found


def import_run(
    source: str,
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    run: str | None = None,
    on_damage: Callable[[Damage], None] | None = None,
    **options: Any,
) -> ImportReport:
    """Bring another system's rollouts into a run, which may exist: what it has already is not written again.

    Args:
        source: One of `SOURCES`.
        path: The file or folder; of "openreward", the run's id or name.
        output: The run's folder.
        run: The run's name; the folder's by default.
        on_damage: Called with each piece that could not be read, when it is met.
        **options: Further arguments of the source's `read`.

    Raises:
        ConfigurationError, StoreError: As `read`; or the run cannot be written.
    """
    damages: list[Damage] = []
    imported = known = 0
    with RolloutStore(output, run=run) as store:
        try:
            there = set(store.ids())
        except StoreError:
            there = set()
        for item in read(source, path, **options):
            if isinstance(item, Damage):
                damages.append(item)
                if on_damage is not None:
                    on_damage(item)
            elif item.id in there:
                known += 1
            else:
                store.append(item)
                there.add(item.id)
                imported += 1
    return ImportReport(imported, known, tuple(damages))
