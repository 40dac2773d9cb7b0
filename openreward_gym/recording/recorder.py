"""A log for loops that have no env: what is said is logged as it is said, in anybody's format, and becomes a rollout."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import shlex
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openreward_gym.chat.plain import plain
from openreward_gym.errors import ConfigurationError
from openreward_gym.platform import Uploader, UploadReport
from openreward_gym.recording.log import RolloutLog, mapping_of
from openreward_gym.store.addresses import viewer_address
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import Json
from openreward_gym.types.rollout import EnvironmentRecord, Rollout, TaskRecord, now_iso, task_id

logger = logging.getLogger("openreward_gym.upload")

_open_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


class Recorder:
    """Records rollouts into a run's folder, and sends them to the OpenReward platform if asked to.

        with Recorder("runs/my-run") as recorder:
            with recorder.rollout(environment="GeneralReasoning/CTF", split="train", task_spec=task_spec) as rollout:
                rollout.log(UserMessage("..."))
                rollout.log_openai_completions(response)
                rollout.log(ToolResult("...", call_id="c1"), reward=1.0, is_finished=True)

    A rollout is written when a message is logged with `is_finished=True`, when it is closed, and at the latest when the
    recorder is closed or the program ends. `create` is the same as `rollout`, with the names of the official client.

    When a run begins, where to look at it is printed on the standard error: the command, and the address of its first
    rollout. With `print_messages`, the address of every rollout is.

    Args:
        path: The run's folder. None: a folder `runs/<run_name>` for each run name.
        upload: Whether to send what is recorded to the platform, in the background; see `Uploader`.
        run_info: What holds for every rollout (`model_name`, `run_type`, `checkpoint`, ...), a mapping or a dataclass.
        close_timeout_s: How long `close` waits for the platform; what is not sent by then stays in the run's folder and
            goes with the next upload.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        upload: bool = False,
        run_info: Any = None,
        close_timeout_s: float = 30.0,
    ) -> None:
        self._path = path
        self._upload = upload
        self._run_info = mapping_of(run_info)
        self._close_timeout_s = close_timeout_s
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._stores: dict[str, RolloutStore] = {}
        self._uploaders: dict[str, Uploader] = {}
        self._open: dict[str, RolloutLog] = {}
        self._announced: set[str] = set()
        self.reports: list[UploadReport] = []
        if path is not None:
            self._start(str(path))
        _open_recorders.add(self)

    def _start(self, path: str) -> RolloutStore:
        with self._lock:
            if path not in self._stores:
                self._stores[path] = RolloutStore(path)
                if self._upload:
                    self._uploaders[path] = Uploader(self._stores[path])
            return self._stores[path]

    def create(
        self,
        run_name: str | None = None,
        rollout_name: str | None = None,
        environment: str | None = None,
        variant: str | None = None,
        split: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        task_spec: Mapping[str, Json] | None = None,
        run_info: Any = None,
        print_messages: bool = False,
        *,
        task_index: int | None = None,
        **fields: Any,
    ) -> RolloutLog:
        """Begin a rollout.

        Args:
            run_name: The run it belongs to; the folder's name by default.
            rollout_name: Its own name.
            environment, variant, split, task_spec, task_index: What is played.
            metadata: Free data, kept with it.
            run_info: As the recorder's, for this rollout; what it sets wins.
            print_messages: Print each message as it is logged; `OPENREWARD_ROLLOUT_LOGGING_FORMAT` says how.
            **fields: Further fields of `Rollout` (`group`, `sample`, `step`, `seed`, `sampling`, `tools`, ...).

        Raises:
            ConfigurationError: The recorder has neither a path nor was a run name given; or a field is none of `Rollout`.
        """
        if self._path is None and not run_name:
            raise ConfigurationError("a recorder without a path needs a run_name: it records into runs/<run_name>")
        if unknown := sorted(set(fields) - set(Rollout.model_fields)):
            raise ConfigurationError(f"a rollout has no field {', '.join(unknown)}: free data goes into metadata={{...}}")
        store = self._start(str(self._path if self._path is not None else Path("runs") / folder_name(run_name or "")))
        model = {**self._run_info, **mapping_of(run_info)}
        spec = None if task_spec is None else dict(plain(task_spec))
        rollout = Rollout(
            run=run_name or store.run,
            name=rollout_name or "",
            environment=EnvironmentRecord(name=environment or "", variant=variant, split=split),
            task=TaskRecord(id=task_id(environment or "", split, spec, task_index, variant), index=task_index, spec=spec),
            metadata=None if metadata is None else dict(plain(metadata)),
            model=model or None,
            status="running",
            started_at=now_iso(),
            **fields,
        )
        self._announce(store, rollout, print_messages)
        log = RolloutLog(store, rollout, print_messages=print_messages, on_end=self._ended)
        with self._lock:
            self._open[rollout.id] = log
        return log

    def _announce(self, store: RolloutStore, rollout: Rollout, always: bool) -> None:
        """Say where the rollout is to be seen; once a run. The viewer reads folders of this machine alone."""
        path = str(store.path)
        with self._lock:
            first = path not in self._announced
            self._announced.add(path)
        if "://" in path or not (first or always):
            return
        address = viewer_address(Path(path).resolve().name, rollout.run, rollout.id)
        with contextlib.suppress(OSError):  # writing will say what is wrong
            Path(path).mkdir(parents=True, exist_ok=True)  # so that the command that is printed works at once
        how = f"  (openreward-gym view {shlex.quote(path)})" if first else ""
        sys.stderr.write(f"Recording {address}{how}\n")

    @property
    def rollout(self) -> RolloutFactory:
        """`recorder.rollout(...)` begins a rollout for a `with` block; `recorder.rollout.create(...)` is the official
        client's way to begin one, and `recorder.rollout.close()` its way to end.
        """
        return RolloutFactory(self)

    def _ended(self, log: RolloutLog) -> None:
        with self._lock:
            self._open.pop(log.rollout_id, None)
            uploader = self._uploaders.get(str(log.store.path))
        if uploader is not None:
            uploader.wake()

    def flush(self, timeout_s: float | None = None) -> list[UploadReport]:
        """Wait until what was written is sent, at most `timeout_s` seconds (None: as long as it takes); one report a run."""
        return [uploader.flush(timeout_s) for uploader in list(self._uploaders.values())]

    def close(self) -> list[UploadReport]:
        """Write what is open, send what is not sent, and say what became of it: one report a run that is uploaded.

        The recorder may be used again after it.
        """
        self._leave()
        with self._lock:
            uploaders, self._uploaders = self._uploaders, {}
            for path, uploader in uploaders.items():
                report = uploader.close(self._close_timeout_s)
                self.reports.append(report)
                if not report.complete:
                    logger.warning("%s: %s; the rest goes with `openreward-gym upload %s`", path, report, path)
            while self._stores:
                self._stores.popitem()[1].close()
        return self.reports

    def _leave(self) -> None:
        """Write the rollouts that are still open; in a forked child they are the parent's."""
        if os.getpid() == self._pid:
            for log in list(self._open.values()):
                log.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class RolloutFactory:
    """What `recorder.rollout` is: callable, with the official client's `create` and `close`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.create = recorder.create
        self.close = recorder.close

    def __call__(self, run: str | None = None, name: str | None = None, **fields: Any) -> RolloutLog:
        return self._recorder.create(run, name, **fields)


def folder_name(run_name: str) -> str:
    """`run_name` as the name of a folder: one path component, whatever is in the name."""
    return re.sub(r"[^\w.+=@-]+", "_", run_name).lstrip(".")[:200] or "run"


@atexit.register
def _close_what_is_left() -> None:
    for recorder in list(_open_recorders):
        if recorder._pid == os.getpid():
            recorder.close()
