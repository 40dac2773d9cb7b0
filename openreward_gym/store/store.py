"""`RolloutStore`: a run's folder to append rollouts to, and one run or several to read as a sequence."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any, get_args, overload
from urllib.parse import quote

from openreward_gym import checks
from openreward_gym.errors import ConfigurationError, OpenRewardGymError, RecordError, StoreError
from openreward_gym.redaction import RecordRedactor
from openreward_gym.store import images
from openreward_gym.store.damage import Damage, OnDamage
from openreward_gym.store.folder import Compression, Folder, RemoteFolder, ShardWriter, folder_at
from openreward_gym.store.index import Place, ShardIndex, damage_at, damaged, pass_over, read_each
from openreward_gym.store.records import Failure
from openreward_gym.store.running import RunningRollout
from openreward_gym.store.writer import Fsync, reason_of
from openreward_gym.suggestions import did_you_mean, suggests_options
from openreward_gym.types import Rollout
from openreward_gym.types.rollout import line_of
from openreward_gym.urls import hide_credentials

_COUNTED_BYTES = 64 * 1024 * 1024
"""Size in bytes of the largest run whose lines a repr counts, where nothing else has counted them."""
_READ_BYTES = 1024 * 1024
"""Length in bytes of the longest line that a repr reads."""


class RolloutStore(Sequence[Rollout]):
    """The rollouts of a run: a folder to append to, and a sequence to read.

    Writing. Nothing is created before the first `append`. Each store object that appends has a shard of its own, so any
    number of processes and machines may append to one folder at once. A line is written whole or not at all, and is in
    the file when `append` returns. `append` may be called from any thread; after a fork the child opens its own shard.

    Reading. Records are parsed when asked for; in between only their byte offsets are kept (16 bytes each). The order is
    by shard file name (which begins with the time its writer began), then by line; several runs follow each other as
    given to `open`. `len()`, iteration and `refresh()` look at the disk again, so that a store can be read while others
    write; the positions between two looks stay as they were, and an id or a `RolloutView` stays true for ever. A last
    line without a newline is not there yet. Any other line that is not a rollout raises `RecordError` with its file,
    line and byte when it is read, and a file that cannot be read raises `StoreError`; `damage()` lists all of them, and
    `rollouts(on_damage)` reads past them.

    Links. The folder may be a link. A link inside it that leads out of it is not followed, by readers or by writers.

    Args:
        path: The run's folder, or its address on a file system that fsspec knows (`s3://bucket/runs/mine`). Such a file
            system takes whole files only: a shard of up to 4 MB is written again after each rollout (or as `fsync` says),
            and read through a local copy.
        run: The name of the run, set on rollouts that have none; the folder's name by default.
        fsync: When lines are forced to the disk (see `Fsync`); None for "close" on this machine and "always" elsewhere.
        compression: "zstd" compresses a shard when it is closed. Compressed shards are read in any case.
        redactor: What is cut out of rollouts and failures before they are written. None cuts out nothing.

    Example:
        >>> with RolloutStore("runs/my-run") as store:
        ...     for reward in (0.0, 1.0):
        ...         store.append(Rollout(status="completed", reward=reward))
        >>> len(store), store[0].reward, store.get(store[1].id).reward
        (2, 0.0, 1.0)
        >>> [rollout.reward for rollout in store.filter(min_reward=0.5)]
        [1.0]
        >>> store
        <RolloutStore runs/my-run: 2 rollouts, 0.3 KB>
    """

    @suggests_options
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        run: str | None = None,
        fsync: Fsync | None = None,
        compression: Compression = "",
        redactor: RecordRedactor | None = None,
    ) -> None:
        self._open_folders([path], run, fsync, compression, redactor)

    @classmethod
    def open(cls, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> RolloutStore:
        """Open one run, or several as one; several can only be read.

        Raises:
            ConfigurationError: No path was given.
        """
        folders = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        if not folders:
            raise ConfigurationError("no run was named: give at least one run's folder")
        store = cls.__new__(cls)
        store._open_folders(folders, None, None, "")
        return store

    def _open_folders(
        self,
        paths: Sequence[str | os.PathLike[str]],
        run: str | None,
        fsync: Fsync | None,
        compression: Compression,
        redactor: RecordRedactor | None = None,
    ) -> None:
        checks.choice(Compression)("compression", compression)
        _check_fsync(fsync)
        self._paths = list(paths)
        self._folders = [folder_at(path) for path in paths]
        self._run_name = run
        self._fsync = fsync
        self._compression: Compression = compression
        self._redactor = redactor
        self._indexes = [ShardIndex(folder, "rollouts") for folder in self._folders]
        self._looked = False
        self._ids: dict[str, Place] = {}
        self._writers: dict[str, ShardWriter] = {}
        self._lock = threading.RLock()
        self._pid = os.getpid()

    @property
    def path(self) -> str:
        """The run's folder; of several runs, the first folder."""
        return str(self._folders[0])

    @property
    def paths(self) -> list[str]:
        """The folders of all runs, in order."""
        return [str(folder) for folder in self._folders]

    @property
    def run(self) -> str:
        """The name of the run; of several runs, their names joined by commas."""
        return self._run_name or ", ".join(folder.name for folder in self._folders)

    def __repr__(self) -> str:
        return f"<RolloutStore {hide_credentials(', '.join(map(str, self._folders)))}{self._shape()}>"

    def _shape(self) -> str:
        """Return the number of rollouts, the size, the run's name and the environment, as far as that takes little reading."""
        try:
            if not self._looked:
                if any(isinstance(folder, RemoteFolder) for folder in self._folders):
                    return ""
                if not any(folder.is_run() for folder in self._folders):
                    return ": no rollouts yet"
            shards = [shard for folder in self._folders for shard in folder.shards("rollouts")]
            size = sum(max(shard.size, 0) for shard in shards)
            if not self._looked:
                if size > _COUNTED_BYTES or any(shard.name.endswith(".zst") for shard in shards):
                    return f": {size_text(size)}, not counted yet"
                self.refresh()
            counts = [sum(count for _, count in index.counts()) for index in self._indexes]
            noun = "rollout" if counts == [1] else "rollouts"
            parts = [f"{', '.join(f'{count:,}' for count in counts)} {noun}", size_text(size)]
            if self._run_name and self._run_name != self._folders[0].name:
                parts.append(f"run {self._run_name[:100]!r}")
            return ": " + ", ".join([*parts, *self._first_environment()])
        except (OpenRewardGymError, OSError):  # what is shown must not fail where reading names the damage
            return ": cannot be read"

    def _first_environment(self) -> list[str]:
        """Return the environment's name of the first rollout that is not very long, in words; nothing where it has none."""
        for number, index in enumerate(self._indexes):
            for stem, count in index.counts():
                if count and index.length(stem, 0) <= _READ_BYTES:
                    name = self._parse(Place(number, stem, 0), index.line(stem, 0)).environment.name
                    return [f"environment {name[:100]!r}"] if name else []
        return []

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (self._paths, self._run_name, self._fsync, self._compression, self._redactor))

    # Writing

    def append(self, rollout: Rollout, *, redactor: RecordRedactor | None = None) -> None:
        """Write `rollout` as one line, without what `redactor` (None: that of the store) cuts out.

        Its images go to `images/`, each image once.

        Raises:
            StoreError: It could not be written; the store is as it was before.
            ConfigurationError: The store has several runs.
        """
        record = rollout.to_dict()
        if not rollout.run:
            record = {"schema": record.pop("schema"), "id": record.pop("id"), "run": self.run, **record}
        images.move_out(record, self._only_folder(), sync=self._fsync == "always")
        line = line_of(record)
        redactor = redactor or self._redactor
        if redactor is not None and redactor.may_change(line):
            line = line_of(redactor.record(record))
        self._append_line("rollouts", line)

    def recording(self, redactor: RecordRedactor | None = None) -> RunningRollout:
        """Return the file of a rollout that begins, for readers that look on; see `openreward_gym.store.running`.

        Args:
            redactor: What is cut out; None: that of the store.
        """
        return RunningRollout(self._only_folder(), self.run, redactor or self._redactor)

    def append_failure(self, failure: Failure) -> None:
        """Write a failed attempt to `failures/`; raises as `append`."""
        self._append_line("failures", (failure if self._redactor is None else failure.redacted(self._redactor)).to_line())

    def _append_line(self, kind: str, line: str) -> None:
        folder = self._only_folder()
        with self._locked():
            writer = self._writers.get(kind)
            try:
                if writer is None:
                    writer = self._writers[kind] = folder.writer(kind, self._fsync, self._compression)
            except OSError as error:
                raise StoreError(f"{folder}: cannot be written: {reason_of(error)}") from error
            writer.append(line)

    def _only_folder(self) -> Folder:
        if len(self._folders) > 1:
            raise ConfigurationError(f"{', '.join(self.paths)}: several runs can only be read: open one of them to append to it")
        return self._folders[0]

    def close(self) -> None:
        """Close the shards that were written. The store can still be read; a later `append` begins a new shard.

        Raises:
            StoreError: The lines could not be forced to the disk, or a shard not be compressed.
        """
        with self._locked():
            while self._writers:
                try:
                    self._writers.popitem()[1].close()
                except OSError as error:
                    if isinstance(error, StoreError):
                        raise
                    raise StoreError(f"{self._folders[0]}: not closed: {reason_of(error)}") from error

    def __enter__(self) -> RolloutStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _locked(self) -> threading.RLock:
        """Return the lock. In a forked child, leave the parent's shards to the parent first: the child writes its own."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.RLock()  # another thread of the parent may have held the old one
            writers, self._writers = self._writers, {}
            for writer in writers.values():
                writer.abandon()
        return self._lock

    # Reading

    def refresh(self) -> None:
        """Look for new rollouts on the disk. A file that cannot be read is passed over here; reading the rollouts names it.

        Raises:
            StoreError: A path is not a run.
        """
        with self._locked():
            for folder, index in zip(self._folders, self._indexes, strict=True):
                if not folder.is_run():
                    raise StoreError(folder.why_no_run())
                index.refresh()
            self._looked = True

    def _counts(self, *, look: bool, on_damage: OnDamage | None = None) -> list[tuple[int, str, int]]:
        with self._locked():
            if look or not self._looked:
                self.refresh()
            pass_over((damage for index in self._indexes for damage in index.unreadable), on_damage)
            return [(number, stem, count) for number, index in enumerate(self._indexes) for stem, count in index.counts()]

    def __len__(self) -> int:
        return sum(count for _, _, count in self._counts(look=True))

    def __iter__(self) -> Iterator[Rollout]:
        """Yield all rollouts that are on the disk now, one in memory at a time."""
        for _, rollout in self._stream():
            yield rollout

    def _stream(self) -> Iterator[tuple[Place, Rollout]]:
        for number, stem, count in self._counts(look=True):
            for line_number, line in self._indexes[number].lines(stem, count):
                place = Place(number, stem, line_number)
                yield place, self._parse(place, line)

    def _parse(self, place: Place, line: bytes) -> Rollout:
        try:
            return Rollout.from_line(line)
        except RecordError as error:
            raise damaged(self._indexes[place.folder].where(place.stem, place.number), error) from None

    def places(self, on_damage: OnDamage | None = None) -> list[Place]:
        """Return the position of each line, in the order of iteration; a position stays valid as the run grows.

        Args:
            on_damage: Called with each file that cannot be read; None raises a StoreError for the first.
        """
        counts = self._counts(look=True, on_damage=on_damage)
        return [Place(number, stem, line) for number, stem, count in counts for line in range(count)]

    def damage_at(self, place: Place, error: Exception) -> Damage:
        """Return the damage of the line at a position, with the words of the error that reading it raised."""
        return damage_at(self._indexes[place.folder].where(place.stem, place.number), error)

    def unfinished_lines(self) -> int:
        """Return the number of lines without an end, which are being written or were torn; they are not read."""
        return sum(index.unfinished() for index in self._indexes)

    def line(self, place: Place) -> bytes:
        """Return the line at a position, unparsed, for readers of very many lines that parse for themselves."""
        return self._indexes[place.folder].line(place.stem, place.number)

    def lines(self, places: Iterable[Place]) -> Iterator[bytes]:
        """Yield the lines at positions, unparsed. Each file is opened once as long as the positions stay in it."""
        for (folder, stem), group in groupby(places, lambda place: place[:2]):
            for _, line in self._indexes[folder].lines_at(stem, (place.number for place in group)):
                yield line

    def read(self, place: Place) -> Rollout:
        """Return the rollout at a position.

        Raises:
            RecordError: The line is not a rollout; the message has its file, line and byte.
        """
        return self._parse(place, self.line(place))

    @overload
    def __getitem__(self, index: int) -> Rollout: ...
    @overload
    def __getitem__(self, index: slice) -> RolloutView: ...
    def __getitem__(self, index: int | slice) -> Rollout | RolloutView:
        """Return one rollout, or a view of several that reads them when they are needed."""
        if isinstance(index, slice):
            return RolloutView(self, self.places()[index])
        place = self._place(index, look=index < 0) or (self._place(index, look=True) if index >= 0 else None)
        if place is None:
            raise IndexError(f"{self.run} has {len(self)} rollouts: there is no number {index}")
        return self.read(place)

    def _place(self, index: int, *, look: bool) -> Place | None:
        counts = self._counts(look=look)
        if index < 0:
            index += sum(count for _, _, count in counts)
        for number, stem, count in counts:
            if 0 <= index < count:
                return Place(number, stem, index)
            index -= count
        return None

    def get(self, rollout_id: str) -> Rollout:
        """Return the rollout with that id; of several, the last one written.

        Raises:
            KeyError: There is no such rollout.
        """
        with self._locked():
            if rollout_id not in self._ids:
                self._find_ids()
            place = self._ids.get(rollout_id)
        if place is None:
            raise KeyError(f"{self.run} has no rollout {rollout_id!r}")
        return self.read(place)

    def ids(self, start: int = 0) -> list[str]:
        """Return the ids of all rollouts but the first `start`, each once, in the order in which this store found them.

        Only the beginnings of lines are read. A later call returns the same ids in the same order, then the new ones.
        """
        with self._locked():
            self._find_ids()
            return list(islice(self._ids, start, None))

    def _find_ids(self) -> None:
        self.refresh()
        for number, index in enumerate(self._indexes):
            self._ids.update((identity, Place(number, stem, line)) for identity, stem, line in index.new_ids())

    def filter(self, where: Callable[[Rollout], bool] | None = None, **criteria: Any) -> RolloutView:
        """Return a view of the rollouts for which `where` is true and that meet every criterion. Reads all of them once.

        Criteria: `run`, `environment`, `split`, `task` (its id), `group`, `status` and `stop_reason` (each a value or
        a list of values), `min_reward` and `max_reward` (a rollout without a reward meets neither).
        """
        meets = _criteria_met(where, criteria)
        return RolloutView(self, [place for place, rollout in self._stream() if meets(rollout)])

    def rollouts(self, on_damage: OnDamage) -> Iterator[Rollout]:
        """Yield all rollouts as iteration does, but read past what is damaged.

        Args:
            on_damage: Called with each line that is not a rollout, and each file that cannot be read.

        Example:
            >>> from pathlib import Path
            >>> with RolloutStore("runs/damaged") as store:
            ...     store.append(Rollout(status="completed"))
            >>> _ = Path("runs/damaged/rollouts/other.jsonl").write_text("not JSON")  # a line without an end is not there yet
            >>> damages = []
            >>> len(list(store.rollouts(damages.append))), damages
            (1, [])
        """
        return (rollout for _, rollout in self.placed_rollouts(on_damage))

    def placed_rollouts(self, on_damage: OnDamage) -> Iterator[tuple[Place, Rollout]]:
        """Yield (position, rollout) as `rollouts` does."""
        for number, stem, count in self._counts(look=True, on_damage=on_damage):
            for line_number, line in self._indexes[number].lines(stem, count):
                try:
                    rollout = Rollout.from_line(line)
                except RecordError as error:
                    on_damage(damage_at(self._indexes[number].where(stem, line_number), error))
                else:
                    yield Place(number, stem, line_number), rollout

    def damage(self) -> list[Damage]:
        """Return every line that is not a rollout, with its file, line and byte, and every file that cannot be read."""
        damages: list[Damage] = []
        for _ in self.rollouts(damages.append):
            pass
        return damages

    def failures(self, *, retried: bool = False, on_damage: OnDamage | None = None) -> Iterator[Failure]:
        """Yield the failed attempts, in the order of reading.

        Args:
            retried: Whether to yield requests that were sent again, too.
            on_damage: Called with each line that is not a failure; None raises a RecordError for the first.
        """
        for folder in self._folders:
            for failure in read_each(folder, "failures", Failure.from_line, on_damage):
                if retried or failure.retried_in_s is None:
                    yield failure

    def image(self, sha256: str) -> bytes:
        """Return the bytes of an image.

        Raises:
            StoreError: The store has no such image, or it is damaged.
        """
        for folder in self._folders[:-1]:
            with contextlib.suppress(StoreError):
                return images.read(folder, sha256)
        return images.read(self._folders[-1], sha256)

    def with_images(self, rollout: Rollout, on_error: Callable[[StoreError], None] | None = None) -> Rollout:
        """Return `rollout` with the data of its images inside it again.

        Args:
            rollout: The rollout.
            on_error: Called for each image that is missing or damaged, which stays a name; None raises the first error.

        Raises:
            StoreError: An image is missing or damaged.
        """
        record = rollout.to_dict()
        images.move_in(record, self.image, on_error)
        return Rollout.from_dict(record)


def _check_fsync(fsync: Any) -> None:
    """Check a value of `fsync`: a word, or seconds between two times that lines are forced to the disk."""
    if isinstance(fsync, int | float) and not isinstance(fsync, bool):
        checks.number(zero=True)("fsync", fsync)
    elif fsync is not None:
        words = get_args(get_args(Fsync)[0])
        if not isinstance(fsync, str) or fsync not in words:
            raise ConfigurationError(f"fsync={fsync!r}: {did_you_mean(fsync, words, 'values')}, seconds, or None")


def size_text(size: int) -> str:
    """Return a number of bytes for people.

    >>> size_text(300), size_text(5_000_000), size_text(7_300_000_000)
    ('0.3 KB', '4.8 MB', '6.8 GB')
    """
    power = 3 if size >= 1024**3 else 2 if size >= 1024**2 else 1
    return f"{size / 1024**power:.1f} {('KB', 'MB', 'GB')[power - 1]}"


def _reopen(
    paths: list[str | os.PathLike[str]],
    run: str | None,
    fsync: Fsync | None,
    compression: Compression,
    redactor: RecordRedactor | None,
) -> RolloutStore:
    if len(paths) > 1:
        return RolloutStore.open(paths)
    return RolloutStore(paths[0], run=run, fsync=fsync, compression=compression, redactor=redactor)


class RolloutView(Sequence[Rollout]):
    """A selection of rollouts of a store, read when they are needed; it stays the same while the store grows.

    Attributes:
        store: The store.
        places: The positions of the rollouts in the store, in order.
    """

    def __init__(self, store: RolloutStore, places: list[Place]) -> None:
        self.store = store
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Rollout: ...
    @overload
    def __getitem__(self, index: slice) -> RolloutView: ...
    def __getitem__(self, index: int | slice) -> Rollout | RolloutView:
        if isinstance(index, slice):
            return RolloutView(self.store, self.places[index])
        return self.store.read(self.places[index])

    def __iter__(self) -> Iterator[Rollout]:
        return map(self.store.read, self.places)

    def filter(self, where: Callable[[Rollout], bool] | None = None, **criteria: Any) -> RolloutView:
        """Return the rollouts for which `where` is true and that meet every criterion; see `RolloutStore.filter`."""
        meets = _criteria_met(where, criteria)
        return RolloutView(self.store, [place for place in self.places if meets(self.store.read(place))])

    def __repr__(self) -> str:
        return f"<{len(self)} rollouts of {self.store!r}>"


_CRITERIA: Mapping[str, Callable[[Rollout], Any]] = {
    "run": lambda rollout: rollout.run,
    "environment": lambda rollout: rollout.environment.name,
    "split": lambda rollout: rollout.environment.split,
    "task": lambda rollout: rollout.task.id,
    "group": lambda rollout: rollout.group,
    "status": lambda rollout: rollout.status,
    "stop_reason": lambda rollout: rollout.stop_reason,
}


def _criteria_met(where: Callable[[Rollout], bool] | None, criteria: Mapping[str, Any]) -> Callable[[Rollout], bool]:
    """Return a predicate for rollouts that meet `where` and all of `criteria` (those of `RolloutStore.filter`).

    Raises:
        ConfigurationError: There is no such criterion.
    """
    unknown = sorted(set(criteria) - set(_CRITERIA) - {"min_reward", "max_reward"})
    if unknown:
        known = did_you_mean(unknown[0], [*_CRITERIA, "min_reward", "max_reward"], "criteria")
        raise ConfigurationError(f"filter() has no criterion {unknown[0]!r}: {known}; `where` is for anything else")
    low, high = criteria.get("min_reward"), criteria.get("max_reward")
    allowed = {
        name: value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
        for name, value in criteria.items()
        if name in _CRITERIA
    }

    def meets(rollout: Rollout) -> bool:
        if low is not None and not (rollout.reward is not None and rollout.reward >= low):
            return False
        if high is not None and not (rollout.reward is not None and rollout.reward <= high):
            return False
        return all(_CRITERIA[name](rollout) in values for name, values in allowed.items()) and (where is None or where(rollout))

    return meets


VIEWER = "http://127.0.0.1:7860"
"""The address at which `openreward-gym view` serves by default."""


def run_key(folder: str, run: str) -> str:
    """Return the viewer's name of the run `run` in a folder named `folder`."""
    return run if run == folder else f"{folder}/{run}"


def viewer_address(folder: str, run: str, rollout_id: str, base: str = VIEWER) -> str:
    """Return the URL of a rollout's page in the viewer; it opens as soon as the rollout has a message."""
    names = (("run", run_key(folder, run)), ("sample", rollout_id))
    return f"{base}/#/rollouts?" + "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in names)
