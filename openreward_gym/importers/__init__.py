"""Importers: the records of other systems, read as rollouts.

Each module has a function `read(path)` that yields a `Rollout` for each record, or the `Damage` that says why the record
could not be read. Another distribution adds an importer by offering such a function in its `pyproject.toml`:

    [project.entry-points."openreward_gym.importers"]
    my-system = "my_package.my_system:read"
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from openreward_gym import plugins
from openreward_gym.errors import ConfigurationError, StoreError
from openreward_gym.importers.grouping import GroupBy
from openreward_gym.importers.paths import PathLike, existing_paths, paths_of
from openreward_gym.store import Damage, RolloutStore, describe
from openreward_gym.types import Rollout

__all__ = ["GROUP", "GroupBy", "ImportReport", "Importer", "describe", "find", "import_run", "names", "read"]

GROUP = "openreward_gym.importers"
"""The group of entry points in which other distributions offer importers."""

# The importers of this package: their names and modules.
_MODULES: Mapping[str, str] = {
    "nemo-gym": "nemo_gym",
    "openreward": "openreward",
    "openai-chat": "openai_chat",
    "anthropic-chat": "openai_chat",
    "sharegpt": "sharegpt",
    "trl": "trl",
    "verifiers": "verifiers",
    "inspect": "inspect_logs",
    "firehorse": "firehorse",
    "atif": "atif",
    "tau-bench": "tau_bench",
    "swe-agent": "swe_agent",
    "openhands": "openhands",
}


class Importer(Protocol):
    """A function that reads the records of one system.

    It yields a `Rollout` for each record, with the origin of each message as far as the source tells it, and a `Damage` for
    each record that it cannot read. It raises StoreError if `path` does not exist.
    """

    def __call__(self, path: str, **options: Any) -> Iterator[Rollout | Damage]: ...


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of an import.

    Attributes:
        imported: Number of rollouts that were written.
        known: Number of rollouts that the run already had. An import can be repeated.
        damages: The records that could not be read.
        ungrouped: Number of rollouts without the field that the import groups by. They keep the group of their importer.

    Example:
        >>> ImportReport(imported=3, known=0, damages=()).imported
        3
    """

    imported: int
    known: int
    damages: tuple[Damage, ...]
    ungrouped: int = 0

    @property
    def problems(self) -> tuple[str, ...]:
        """The reasons why records could not be read: a line of text for each, with the number of records and where they are."""
        return describe(self.damages)


def names() -> tuple[str, ...]:
    """Return the names of all importers: those of this package first, then those of other distributions.

    Example:
        >>> names()[:3]
        ('nemo-gym', 'openreward', 'openai-chat')
    """
    return (*_MODULES, *(name for name in plugins.names(GROUP) if name not in _MODULES))


def find(name: str) -> Importer:
    """Return the importer of a system.

    Raises:
        ConfigurationError: The name is unknown, or the importer of another distribution cannot be imported.
    """
    if name in _MODULES:
        return cast(Importer, importlib.import_module(f"{__name__}.{_MODULES[name]}").read)
    importer = plugins.find(GROUP, name)
    if importer is None:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigurationError(f"there is no importer {name!r}: {hint}the importers are {', '.join(names())}")
    if not callable(importer):
        raise ConfigurationError(
            f"the importer {name!r} is a {type(importer).__name__} object, but has to be a function: mend its entry point"
        )
    return importer


def read(
    source: str, path: PathLike | Sequence[PathLike], *, group_by: str | None = None, **options: Any
) -> Iterator[Rollout | Damage]:
    """Yield the rollouts of another system, and a `Damage` for each record that cannot be read.

    Args:
        source: The name of the system; see `names`.
        path: The file or folder, or several, which are read in their order and each once. A pattern like "logs/*.eval" stands
            for what matches it. For "openreward": the run's id or name, or several.
        group_by: The dotted path of a field of the source's records (`metadata.prompt_id`), or of the rollouts (`task.id`).
            Rollouts with the same value are a group, in which they are numbered. None for the source's own groups.
        **options: Further arguments of the system's importer.

    Raises:
        ConfigurationError: The name is unknown, or no record has the field `group_by`.
        StoreError: A path does not exist; nothing was read then.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("chats.jsonl").write_text('{"messages": [{"role": "user", "content": "Hi"}], "prompt_id": 7}')
        >>> [(rollout.messages[0].text, rollout.group) for rollout in read("openai-chat", "chats.jsonl", group_by="prompt_id")]
        [('Hi', '7')]
    """
    importer, paths = find(source), _places(source, path)
    if group_by is None:
        return _apply(importer, paths, None, options)
    return _read_grouped(importer, paths, GroupBy(group_by), options)


def _places(source: str, path: PathLike | Sequence[PathLike]) -> list[str]:
    """Return what an importer is called with, one after the other."""
    paths = paths_of(path)
    # The importers of other distributions, and that of the platform, may take names that are no files.
    has_files = source in _MODULES and source != "openreward"
    return existing_paths(paths) if has_files else list(dict.fromkeys(paths))


def _read_grouped(
    importer: Importer, paths: Sequence[str], group_by: GroupBy, options: Mapping[str, Any]
) -> Iterator[Rollout | Damage]:
    # A wrong field is refused before the first rollout is given away: nothing has been written then.
    check, count = GroupBy(group_by.field), 0
    for item in _apply(importer, paths, check, options):
        count += isinstance(item, Rollout)
        if check.grouped:
            break
    if count and not check.grouped:
        raise ConfigurationError(check.describe_missing())
    yield from _apply(importer, paths, group_by, options)


def _apply(
    importer: Importer, paths: Sequence[str], group_by: GroupBy | None, options: Mapping[str, Any]
) -> Iterator[Rollout | Damage]:
    """Yield what an importer reads from each path."""
    groups_itself = group_by is not None and "group_by" in inspect.signature(importer).parameters
    for path in paths:
        for item in importer(path, **options, **({"group_by": group_by} if groups_itself else {})):
            if isinstance(item, Damage):
                yield _at(item, path) if len(paths) > 1 else item
            elif group_by is None or groups_itself:
                yield item
            else:
                yield group_by.apply(item)


def _at(damage: Damage, path: str) -> Damage:
    """Return the damage with the path of its file, which one path alone need not name."""
    named = damage.path if damage.path.startswith(path) else os.path.join(path, damage.path) if damage.path else path
    return replace(damage, path=named)


def import_run(
    source: str,
    path: PathLike | Sequence[PathLike],
    output: str | os.PathLike[str],
    *,
    run: str | None = None,
    on_damage: Callable[[Damage], None] | None = None,
    group_by: str | None = None,
    **options: Any,
) -> ImportReport:
    """Write the rollouts of another system into a run. Rollouts that an existing run already has are not written again.

    Args:
        source, path, group_by, **options: As for `read`.
        output: The run's folder.
        run: The run's name; the folder's name by default.
        on_damage: Called with each record that cannot be read, when it is met.

    Raises:
        ConfigurationError: The name is unknown, or no record has the field `group_by`; nothing was written then.
        StoreError: A path does not exist, or the run cannot be written.
    """
    importer, paths = find(source), _places(source, path)
    grouping = None if group_by is None else GroupBy(group_by)
    items = _apply(importer, paths, None, options) if grouping is None else _read_grouped(importer, paths, grouping, options)
    damages: list[Damage] = []
    imported = known = 0
    with RolloutStore(output, run=run) as store:
        known_ids: set[str] = set()
        with contextlib.suppress(StoreError):  # a new run has no folder yet
            known_ids.update(store.ids())
            store.places(damages.append)  # what the run has there is not known
        for item in items:
            if isinstance(item, Damage):
                damages.append(item)
                if on_damage is not None:
                    on_damage(item)
            elif item.id in known_ids:
                known += 1
            else:
                store.append(item)
                known_ids.add(item.id)
                imported += 1
    return ImportReport(imported, known, tuple(damages), 0 if grouping is None else grouping.missing)
