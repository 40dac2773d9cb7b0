"""A run to the OpenReward platform: in the background, in order, until the platform has confirmed every event."""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
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
from openreward_gym.options import RetryLimits
from openreward_gym.platform.client import Platform
from openreward_gym.platform.events import events_of
from openreward_gym.platform.spool import Spool
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import Json
from openreward_gym.types.rollout import Rollout

MAX_EVENTS = 128
MAX_BYTES = 1_000_000
_OVERHEAD = len(b'{"events":[]}')
_LOOK_EVERY_S = 1.0

_Answer = TypeVar("_Answer")

logger = logging.getLogger("openreward_gym.upload")


@dataclass(frozen=True, slots=True)
class UploadReport:
    """What became of an upload.

    Attributes:
        sent: Rollouts that the platform has confirmed whole, by whichever process and whenever.
        pending: Rollouts that it has not; they stay in the run and go with the next upload.
        refused: Those of the pending that it refused, with its words.
        unreadable: Lines of the run that are no rollouts; `upload` counts them at its end, an `Uploader` does not.
        cut: Events of this upload whose text was too long for a batch and was cut (the record keeps it whole).
        error: What stopped the upload; empty where nothing did.
    """

    sent: int = 0
    pending: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0
    cut: int = 0
    error: str = ""

    @property
    def complete(self) -> bool:
        return self.pending == 0 and self.unreadable == 0 and not self.error

    def __str__(self) -> str:
        parts = [f"{self.sent} rollouts sent"]
        if self.pending:
            parts.append(f"{self.pending} not")
        parts += [f"{len(self.refused)} of them refused"] if self.refused else []
        parts += [f"{self.unreadable} lines of the run could not be read"] if self.unreadable else []
        parts += [f"{self.cut} texts cut"] if self.cut else []
        return ", ".join(parts) + (f": {self.error}" if self.error else "")


class Uploader:
    """Sends a run's rollouts to the platform from a thread of its own, as they are written.

    The run's folder is the spool: a rollout is sent from there, however many processes write to it, and `upload/` beside
    it remembers what was confirmed. So nothing is lost when the process ends, the next one goes on where it stopped, and
    the loop that records is never waited for. A rollout's events go in order, its beginning confirmed before anything
    else; an event's id never changes, so one that is sent twice is recognised.

    Args:
        store: The run.
        base_url: The platform's API; see `Platform`.
        api_key_env: The environment variable that holds the key.
        patience_s: Seconds without success after which it stops trying, until there is something new to send.
        first_delay_s, longest_delay_s: Between tries, doubled from one to the other, with full jitter; `Retry-After` is
            honoured.

    Raises:
        ConfigurationError: There is no key, or the address is none.
    """

    def __init__(
        self,
        store: RolloutStore | str | os.PathLike[str],
        *,
        base_url: str | None = None,
        api_key_env: str = "OPENREWARD_API_KEY",
        patience_s: float = 600.0,
        first_delay_s: float = 0.5,
        longest_delay_s: float = 30.0,
        timeout_s: float = 30.0,
    ) -> None:
        # A reader of its own: the loop's store is not locked while we look.
        self._store = RolloutStore(store.path if isinstance(store, RolloutStore) else store)
        if "://" in self._store.path:
            raise ConfigurationError(
                f"{self._store.path}: an upload keeps its place in the run's folder: copy the run here first"
            )
        # The uploader retries itself, with a patience of its own.
        limits = RetryLimits(attempts=1, starting_s=0.0)
        self._platform = Platform(base_url, api_key_env=api_key_env, timeout_s=timeout_s, retry_limits=limits)
        self._spool = Spool(Path(self._store.path).absolute())
        self._patience_s, self._first_delay_s, self._longest_delay_s = patience_s, first_delay_s, longest_delay_s
        self._ids: list[str] = []
        self._refused: dict[str, str] = {}
        self._environments: dict[tuple[str, str | None], tuple[str | None, str | None]] = {}
        self._cut = 0
        self._error = ""
        self._work = threading.Event()
        self._stop = threading.Event()
        self._idle = threading.Condition()
        self._settled = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="openreward-gym upload", daemon=True)
        self._thread.start()
        self.wake()

    def wake(self) -> None:
        """There is something new to send."""
        with self._idle:
            self._settled = False
        self._work.set()

    def flush(self, timeout_s: float | None = None) -> UploadReport:
        """Wait until everything in the run was sent or refused, or the upload gave up; at most `timeout_s` seconds."""
        self.wake()
        self.wait_settled(timeout_s)
        return self.report()

    def wait_settled(self, timeout_s: float | None = None) -> bool:
        """Wait until there is nothing left to do; whether that is so after at most `timeout_s` seconds."""
        with self._idle:
            return self._idle.wait_for(lambda: self._settled or not self._thread.is_alive(), timeout_s)

    def close(self, timeout_s: float | None = 30.0) -> UploadReport:
        """`flush`, then stop. What is not sent by then stays in the run, for the next upload."""
        self.flush(timeout_s)
        self._stop.set()
        self._work.set()
        # A request under way may still be confirmed; one that hangs is left to its own timeout.
        self._thread.join(timeout=5.0)
        return self.report()

    def report(self) -> UploadReport:
        """How it stands."""
        done = self._spool.done
        sent = sum(identity in done for identity in self._ids)
        return UploadReport(sent, len(self._ids) - sent, dict(self._refused), cut=self._cut, error=self._error)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._work.wait(None if self._settled else _LOOK_EVERY_S)
                self._work.clear()
                if self._stop.is_set():
                    break
                try:
                    settled = self._send_all()
                    self._error = ""
                except Exception as error:  # the thread's last word must not be silence
                    self._error = str(error) if isinstance(error, OpenRewardGymError) else f"{type(error).__name__}: {error}"
                    logger.warning("upload of %s stopped: %s", self._store.path, error)
                    settled = True
                with self._idle:
                    # Something new may have come while we were sending: then we are not done.
                    self._settled = settled and not self._work.is_set()
                    self._idle.notify_all()
        finally:
            self._spool.close()
            with self._idle:
                self._idle.notify_all()

    def _send_all(self) -> bool:
        """Send what is not sent; whether nothing is left to do."""
        try:
            self._ids += self._store.ids(len(self._ids))
        except StoreError:
            return True  # nothing was written yet
        self._spool.look()
        left = [identity for identity in self._ids if identity not in self._spool.done and identity not in self._refused]
        if not left:
            return True
        if not self._spool.lock():
            return False  # another process sends: look again what it has done
        for identity in left:
            if self._stop.is_set():
                return False
            if identity not in self._spool.done:
                self._send(identity)
        return True

    def _send(self, identity: str) -> None:
        try:
            rollout = self._store.get(identity)
            ids = self._environment_ids(rollout)
            events = list(events_of(rollout, environment_id=ids[0], variant_id=ids[1], untimed_ms=round(time.time() * 1000)))
            start = self._spool.confirmed.get(identity, 0)
            for batch, count in self._batches(events, start):
                self._post(batch)
                start += count
                self._spool.confirm(identity, start)
            self._spool.confirm(identity, start, done=True)
        except RecordError as error:
            self._refused[identity] = f"damaged: {error}"
        except AuthenticationError:
            raise
        except ServerError as error:
            if _passes(error):
                raise
            self._refused[identity] = str(error)
            logger.warning("the platform refused rollout %s: %s", identity, error)

    def _environment_ids(self, rollout: Rollout) -> tuple[str | None, str | None]:
        key = (rollout.environment.name, rollout.environment.variant)
        if key not in self._environments:
            self._environments[key] = self._retried(lambda: self._platform.environment_ids(*key))
        return self._environments[key]

    def _batches(self, events: list[dict[str, Json]], start: int) -> Iterator[tuple[bytes, int]]:
        """(body, number of events) of each batch from event `start` on; the rollout's beginning is a batch of its own."""
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
            keep = _fitting(content, len(_json(content)) - over - len(_json(note)))
            data = _json({**event, "content": content[:keep], "metadata": note})
        return data

    def _post(self, body: bytes) -> None:
        self._retried(lambda: self._platform.post("/v1/rollouts", body))

    def _retried(self, call: Callable[[], _Answer]) -> _Answer:
        """The answer of `call`, tried again while the platform cannot answer, until our patience ends."""
        first_failure: float | None = None
        delay = self._first_delay_s
        while True:
            try:
                return call()
            except (TransportError, ServerError) as error:
                if isinstance(error, ServerError) and not _passes(error):
                    raise
                now = time.monotonic()
                first_failure = now if first_failure is None else first_failure
                asked = getattr(error, "retry_after_s", None)
                wait = asked if asked is not None else random.uniform(0, delay)
                if now + wait - first_failure > self._patience_s or self._stop.wait(wait):
                    raise
                if first_failure == now:
                    logger.info("upload waits for the platform: %s", error)
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
    """Send what of a finished run the platform does not have yet, and wait for it.

    Args:
        run: The run's folder.
        base_url, api_key_env, patience_s: As for `Uploader`.
        timeout_s: Seconds after which to stop; None for as long as it goes on.
        on_progress: Called about every half second with how it stands.

    Raises:
        StoreError: There is no run.
        ConfigurationError: There is no key, or the address is none.
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
        # Lines that are rollouts of one id, or none at all.
        report = replace(report, unreadable=len(store.damage()))
    if on_progress is not None:
        on_progress(report)
    return report


def _json(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _fitting(text: str, size: int) -> int:
    """How many characters of `text` fit into `size` bytes of JSON."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(_json(text[:middle])) <= size else (low, middle - 1)
    return low


def _passes(error: ServerError) -> bool:
    """Whether the same request may succeed later."""
    return error.status == 429 or (error.status is not None and error.status >= 500)
