"""Upload of a run to the OpenReward platform: in the background, in order, until the platform has confirmed every event."""

from __future__ import annotations

import bisect
import contextlib
import json
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from openreward_gym.errors import (
    AuthenticationError,
    ConfigurationError,
    OpenRewardGymError,
    RecordError,
    ServerError,
    StoreError,
    TransportError,
)
from openreward_gym.jsonio import Json
from openreward_gym.options import RetryLimits
from openreward_gym.platform.client import Platform
from openreward_gym.platform.events import events_of
from openreward_gym.processes import ProcessBound
from openreward_gym.store.index import LineIndex
from openreward_gym.store.store import RolloutStore
from openreward_gym.store.writer import LineWriter, lock_of
from openreward_gym.types import Rollout

MAX_EVENTS = 128
MAX_BYTES = 1_000_000
_OVERHEAD = len(b'{"events":[]}')
_POLL_S = 1.0

_Answer = TypeVar("_Answer")

logger = logging.getLogger("openreward_gym.upload")


@dataclass(frozen=True, slots=True)
class UploadReport:
    """The result of an upload, or its state while it runs.

    Attributes:
        sent: Number of rollouts that the platform has confirmed completely, whichever process sent them.
        pending: Number of rollouts that it has not confirmed. They stay in the run, for the next upload.
        refused: The pending rollouts that the platform refused: its message by rollout id.
        unreadable: Number of lines of the run that are not rollouts. Only `upload` counts them, at its end.
        cut: Number of events of this upload whose text was cut to fit into a batch. The record keeps the text.
        error: The error that stopped the upload, or an empty string.
        sent_before: Those of `sent` that another upload has sent.

    Example:
        >>> str(UploadReport(sent=3, pending=1, error="the connection was refused"))
        '3 rollouts sent, 1 not: the connection was refused'
    """

    sent: int = 0
    pending: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0
    cut: int = 0
    error: str = ""
    sent_before: int = 0

    @property
    def complete(self) -> bool:
        """True if the platform has every rollout of the run."""
        return self.pending == 0 and self.unreadable == 0 and not self.error

    def __str__(self) -> str:
        parts = [f"{_counted(self.sent - self.sent_before, 'rollout')} sent"]
        parts += [f"{self.sent_before} {'was' if self.sent_before == 1 else 'were'} sent before"] if self.sent_before else []
        parts += [f"{self.pending} not"] if self.pending else []
        parts += [f"{len(self.refused)} of them refused"] if self.refused else []
        parts += [f"{_counted(self.unreadable, 'line')} of the run could not be read"] if self.unreadable else []
        parts += [f"{_counted(self.cut, 'text')} cut"] if self.cut else []
        return ", ".join(parts) + (f": {self.error}" if self.error else "")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class UploadProgress:
    """The folder `upload/` of a run: the number of `confirmed` events per rollout, and the ids of rollouts that are `done`.

    Several processes may read the progress; the one that holds the lock sends.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / "upload"
        self.confirmed: dict[str, int] = {}
        self.done: set[str] = set()
        self._indexes: dict[Path, LineIndex] = {}
        self._writer: LineWriter | None = None
        self._lock_fd = -1
        _open_progress.add(self)

    def lock(self) -> bool:
        """Become the process that sends. Return False if another process is."""
        if self._lock_fd >= 0:
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        # On a file system without locks (None) every process sends: slower, but they send the same events.
        if lock_of(fd) is False:
            os.close(fd)
            return False
        self._lock_fd = fd
        self.refresh()
        return True

    def refresh(self) -> None:
        """Read the confirmations that any process has written since the last call."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*.jsonl")):
            index = self._indexes.setdefault(path, LineIndex())
            known = len(index)
            index.extend(path, path.stat().st_size)
            for number in range(known, len(index)):
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._add(json.loads(index.read(path, number)))

    def _add(self, line: dict[str, Json]) -> None:
        rollout_id, events = str(line["id"]), int(line["events"])
        self.confirmed[rollout_id] = max(events, self.confirmed.get(rollout_id, 0))
        if line.get("done"):
            self.done.add(rollout_id)

    def confirm(self, rollout_id: str, events: int, *, done: bool = False) -> None:
        """Record that the platform has the first `events` events of a rollout or, if `done`, all of it."""
        self._writer = self._writer or LineWriter(self.folder, "close")
        line: dict[str, Json] = {"id": rollout_id, "events": events, **({"done": True} if done else {})}
        self._writer.append(json.dumps(line))
        self._add(line)

    def close(self) -> None:
        """Write and close the files, and release the lock."""
        if self._writer is not None:
            self._writer.close()
        self.abandon()

    def abandon(self) -> None:
        """Close the files without writing. In a forked child this leaves the parent's files and its lock untouched."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)


# A forked child shares its parent's lock, and would keep it after the parent ended: it closes its copies of the files.
_open_progress: weakref.WeakSet[UploadProgress] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for progress in list(_open_progress):
        progress.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Uploader(ProcessBound):
    """Sends the rollouts of a run to the platform from a thread of its own, while they are written.

    Rollouts are read from the run's folder, however many processes write to it, and `upload/` beside them stores the
    confirmations: the next process continues from there, and recording never waits. The events of a rollout are sent in order,
    the first one confirmed before the others are sent. Their ids never change, so that the platform recognises repeats.

    It belongs to the process that made it: in a forked child its methods raise ConfigurationError, and closing it there changes
    nothing.

    Args:
        store: The run.
        base_url: The URL of the platform's API; see `Platform`.
        api_key_env: The environment variable that holds the key.
        platform: The client to send with, in place of `base_url`, `api_key_env` and `timeout_s`.
        patience_s: Seconds without success after which it stops retrying, until there is a new rollout.
        first_delay_s: Longest delay before the first retry, in seconds. It doubles with each retry, and the delay is a random
            part of it (full jitter). A `Retry-After` header takes precedence.
        longest_delay_s: Upper limit of the delays, in seconds.
        timeout_s: Seconds to wait for the platform at each step of a request.

    Raises:
        ConfigurationError: The key is missing, the URL is not valid, or the run is in a remote folder.

    Example:
        >>> uploader = Uploader("runs/first", base_url="http://127.0.0.1:8080")
        >>> uploader.close().sent  # nothing is recorded in that folder yet
        0
    """

    _noun = "uploader"
    _instead = "make another, which waits until the first one has ended"

    def __init__(
        self,
        store: RolloutStore | str | os.PathLike[str],
        *,
        base_url: str | None = None,
        api_key_env: str = "OPENREWARD_API_KEY",
        platform: Platform | None = None,
        patience_s: float = 600.0,
        first_delay_s: float = 0.5,
        longest_delay_s: float = 30.0,
        timeout_s: float = 30.0,
    ) -> None:
        # A store of its own, so that the loop's store is not locked while this one reads.
        self._store = RolloutStore(store.path if isinstance(store, RolloutStore) else store)
        if "://" in self._store.path:
            raise ConfigurationError(
                f"{self._store.path} is remote, and the progress of an upload is kept beside the run: copy the run here first"
            )
        # The uploader retries by its own rule.
        limits = RetryLimits(attempts=1, starting_s=0.0)
        own = partial(Platform, base_url, api_key_env=api_key_env, timeout_s=timeout_s, retry_limits=limits)
        self._platform = platform if platform is not None else own()
        self._progress = UploadProgress(Path(self._store.path).absolute())
        self._patience_s, self._first_delay_s, self._longest_delay_s = patience_s, first_delay_s, longest_delay_s
        self._ids: list[str] = []
        self._refused: dict[str, str] = {}
        self._environments: dict[tuple[str, str | None], tuple[str | None, str | None]] = {}
        self._cut = 0
        self._sent: set[str] = set()
        self._error = ""
        self._reading = threading.Lock()
        self._work = threading.Event()
        self._stop = threading.Event()
        self._idle = threading.Condition()
        self._settled = False
        self._thread = threading.Thread(target=self._run, name="openreward-gym upload", daemon=True)
        self._thread.start()
        self.wake()

    def wake(self) -> None:
        """Look for new rollouts now."""
        self._check_process()
        with self._idle:
            self._settled = False
        self._work.set()

    def flush(self, timeout_s: float | None = None) -> UploadReport:
        """Wait until all rollouts are sent or refused, or the upload gave up; at most `timeout_s` seconds."""
        self.wake()
        self.wait_settled(timeout_s)
        return self.report()

    def wait_settled(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is left to do, at most `timeout_s` seconds. Return False if something is left then."""
        self._check_process()
        with self._idle:
            return self._idle.wait_for(lambda: self._settled or not self._thread.is_alive(), timeout_s)

    def close(self, timeout_s: float | None = 30.0) -> UploadReport:
        """Wait as `flush` does, then stop. Rollouts that are not sent by then stay in the run, for the next upload."""
        if self._is_foreign:
            return self.report()
        # A request in flight may still be confirmed. One that hangs ends by its own timeout.
        last_s = min(5.0, timeout_s / 10) if timeout_s else 5.0
        self.flush(timeout_s if not timeout_s else timeout_s - last_s)
        self._stop.set()
        self._work.set()
        self._thread.join(timeout=last_s)
        with contextlib.suppress(StoreError):
            self._read_ids()  # of what was written since the thread looked
        return self.report()

    def report(self) -> UploadReport:
        """Return the current state."""
        done = self._progress.done
        sent = sum(rollout_id in done for rollout_id in self._ids)
        return UploadReport(
            sent,
            len(self._ids) - sent,
            dict(self._refused),
            cut=self._cut,
            error=self._error,
            sent_before=sent - sum(rollout_id in self._sent for rollout_id in self._ids),
        )

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._work.wait(None if self._settled else _POLL_S)
                self._work.clear()
                if self._stop.is_set():
                    break
                try:
                    settled = self._send_all()
                    self._error = ""
                except Exception as error:  # the thread must not end without a report
                    self._error = str(error) if isinstance(error, OpenRewardGymError) else f"{type(error).__name__}: {error}"
                    if not self._stop.is_set():  # else whoever closes it says so
                        logger.warning("the upload of %s stopped: %s", self._store.path, error)
                    settled = True
                with self._idle:
                    # A new rollout may have been written meanwhile.
                    self._settled = settled and not self._work.is_set()
                    self._idle.notify_all()
        finally:
            self._progress.close()
            with self._idle:
                self._idle.notify_all()

    def _read_ids(self) -> None:
        with self._reading:
            self._ids += self._store.ids(len(self._ids))

    def _send_all(self) -> bool:
        """Send the rollouts that are not sent yet. Return False if some are left."""
        try:
            self._read_ids()
        except StoreError:
            return True  # nothing is written yet
        self._progress.refresh()
        settled = self._progress.done | self._refused.keys()
        pending = [rollout_id for rollout_id in self._ids if rollout_id not in settled]
        if pending and not self._progress.lock():
            return False  # another process sends: read its progress later
        for rollout_id in pending:
            if self._stop.is_set():
                return False
            if rollout_id not in self._progress.done:
                self._send(rollout_id)
        return True

    def _send(self, rollout_id: str) -> None:
        try:
            rollout = self._store.get(rollout_id)
            ids = self._environment_ids(rollout)
            events = list(events_of(rollout, environment_id=ids[0], variant_id=ids[1], untimed_ms=round(time.time() * 1000)))
            start = self._progress.confirmed.get(rollout_id, 0)
            for batch, count in self._batches(events, start):
                self._retried(partial(self._platform.post, "/v1/rollouts", batch))
                start += count
                self._progress.confirm(rollout_id, start)
            self._progress.confirm(rollout_id, start, done=True)
            self._sent.add(rollout_id)
        except RecordError as error:
            self._refused[rollout_id] = f"damaged: {error}"
        except ServerError as error:
            if _is_temporary(error) or isinstance(error, AuthenticationError):
                raise
            self._refused[rollout_id] = str(error)
            logger.warning("the platform refused rollout %s: %s", rollout_id, error)

    def _environment_ids(self, rollout: Rollout) -> tuple[str | None, str | None]:
        key = (rollout.environment.name, rollout.environment.variant)
        if key not in self._environments:
            self._environments[key] = self._retried(partial(self._platform.environment_ids, *key))
        return self._environments[key]

    def _batches(self, events: list[dict[str, Json]], start: int) -> Iterator[tuple[bytes, int]]:
        """Yield (body, number of events) of each batch from event `start` on. The first event is a batch of its own."""
        batch: list[bytes] = []
        size = _OVERHEAD
        for number, event in enumerate(events[start:], start):
            data = self._encoded(event)
            if batch and (number == 1 or len(batch) == MAX_EVENTS or size + len(data) + 1 > MAX_BYTES):
                yield b'{"events":[' + b",".join(batch) + b"]}", len(batch)
                batch, size = [], _OVERHEAD
            batch.append(data)
            size += len(data) + 1
        if batch:
            yield b'{"events":[' + b",".join(batch) + b"]}", len(batch)

    def _encoded(self, event: dict[str, Json]) -> bytes:
        data = _json(event)
        over = len(data) - (MAX_BYTES - _OVERHEAD)
        if over > 0 and isinstance(content := event.get("content"), str):
            self._cut += 1
            note = {**event.get("metadata", {}), "cut_from_characters": len(content)}
            # The longest beginning whose JSON leaves enough room.
            room = len(_json(content)) - over - len(_json(note))
            length = bisect.bisect_right(range(1, len(content) + 1), room, key=lambda end: len(_json(content[:end])))
            data = _json({**event, "content": content[:length], "metadata": note})
        return data

    def _retried(self, call: Callable[[], _Answer]) -> _Answer:
        """Return the result of `call`, retried while the platform fails, for at most `patience_s` seconds."""
        first_failure: float | None = None
        delay = self._first_delay_s
        while True:
            try:
                return call()
            except (TransportError, ServerError) as error:
                if isinstance(error, ServerError) and not _is_temporary(error):
                    raise
                now = time.monotonic()
                first_failure = now if first_failure is None else first_failure
                retry_after_s = getattr(error, "retry_after_s", None)
                wait = random.uniform(0, delay) if retry_after_s is None else retry_after_s
                if now + wait - first_failure > self._patience_s or self._stop.wait(wait):
                    raise
                if first_failure == now:
                    logger.info("the upload waits for the platform: %s", error)
                delay = min(delay * 2, self._longest_delay_s)


def upload(
    run: str | os.PathLike[str],
    *,
    base_url: str | None = None,
    api_key_env: str = "OPENREWARD_API_KEY",
    patience_s: float = 600.0,
    timeout_s: float | None = None,
    on_progress: Callable[[UploadReport], None] | None = None,
) -> UploadReport:
    """Send the rollouts of a finished run that the platform does not have yet, and wait for the confirmations.

    Args:
        run: The run's folder.
        base_url, api_key_env, patience_s: As for `Uploader`.
        timeout_s: Seconds after which to stop; None for no limit.
        on_progress: Called about every half second with the current state.

    Raises:
        StoreError: The folder holds no run.
        ConfigurationError: The key is missing, or the URL is not valid.
    """
    store = RolloutStore(run)
    lines = len(store)
    uploader = Uploader(run, base_url=base_url, api_key_env=api_key_env, patience_s=patience_s)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        while not uploader.wait_settled(0.5) and (deadline is None or time.monotonic() < deadline):
            if on_progress is not None:
                on_progress(uploader.report())
    finally:
        report = uploader.close(0.0)
    if lines > report.sent + report.pending:
        # The other lines repeat an id, or are not rollouts.
        report = replace(report, unreadable=len(store.damage()))
    if on_progress is not None:
        on_progress(report)
    return report


def _json(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _is_temporary(error: ServerError) -> bool:
    """Return True if the same request may succeed later."""
    return error.status == 429 or (error.status is not None and error.status >= 500)
