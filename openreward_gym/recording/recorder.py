"""`Recorder`: a log for loops without an env, in the message format of any provider."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import logging
import os
import re
import shlex
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from openreward_gym.checks import names
from openreward_gym.errors import ConfigurationError
from openreward_gym.jsonio import Json
from openreward_gym.platform import Platform, Uploader, UploadReport
from openreward_gym.processes import ProcessBound
from openreward_gym.recording.log import RolloutLog, mapping_of, model_of
from openreward_gym.redaction import SHORTEST_OWN, RecordRedactor
from openreward_gym.store.store import RolloutStore, viewer_address
from openreward_gym.suggestions import suggests_options
from openreward_gym.types import Message, Rollout, RolloutEnvironment, Task, task_id
from openreward_gym.types.rollout import now_iso
from openreward_gym.urls import hide_credentials
from openreward_gym.variables import API_KEY, rollout_logging_format

logger = logging.getLogger("openreward_gym.upload")


class Recorder(ProcessBound):
    """A recorder of rollouts into a run's folder, and to the OpenReward platform if `upload` is set.

    A rollout is written when a message is logged with `is_finished=True`, when it is closed, and at the latest when the
    recorder is closed or the program ends. `create` is the same as `rollout`, with the names of the official client.

    When a run begins, the standard error shows the command that opens it in the viewer and the address of its first
    rollout. With `print_messages`, it shows the address of every rollout.

    A recorder belongs to the process that made it: in a forked child its methods raise ConfigurationError, and closing it there
    changes nothing.

    Args:
        path: The run's folder. None: a folder `runs/<run_name>` for each run name.
        upload: Send the rollouts to the platform, in the background; see `Uploader`.
        run_info: Facts about every rollout (`model_name`, `run_type`, `checkpoint`, ...), a mapping or a dataclass. `model_name`
            or `model` is the `name` of the record's `model`.
        redact: Names of environment variables whose values are cut out of the rollouts; see `RecordRedactor`.
            The key of the platform always is.
        redact_patterns: Regular expressions whose matches are cut out as well.
        platform: The client to upload with. None for one with the address and the key of the environment variables; see
            `Platform`.
        close_timeout_s: Seconds that `close` waits for the platform, for all runs together. Rollouts that are not sent by then
            stay in the run's folder and go with the next upload.

    Example:
        >>> from openreward_gym import ToolResult, UserMessage
        >>> call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
        >>> with Recorder("runs/example") as recorder:
        ...     with recorder.rollout(environment="weather", split="train", prompt=[UserMessage("How warm is it?")]) as rollout:
        ...         rollout.log_openai_completions({"role": "assistant", "tool_calls": [call]})
        ...         rollout.log(ToolResult("7 C", call_id="c1"), reward=1.0, is_finished=True)
        >>> [message.origin for message in RolloutStore("runs/example")[0].messages]
        ['given', 'policy', 'environment']
    """

    _noun = "recorder"
    _instead = "make another recorder in this process, which may record into the same folder"

    @suggests_options
    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        upload: bool = False,
        run_info: Any = None,
        redact: Sequence[str] = (),
        redact_patterns: Sequence[str] = (),
        platform: Platform | None = None,
        close_timeout_s: float = 30.0,
    ) -> None:
        keys = [] if platform is None else [secret.reveal() for secret in platform.secrets]
        self._redactor = RecordRedactor(
            names("redact", redact) or (),
            names("redact_patterns", redact_patterns) or (),
            own=[API_KEY],
            texts={API_KEY: [key for key in keys if len(key) >= SHORTEST_OWN]},
        )
        self._platform = platform
        self._path = path
        self._upload = upload
        self._run_info = mapping_of(run_info)
        self._close_timeout_s = close_timeout_s
        self._lock = threading.RLock()
        self._stores: dict[str, RolloutStore] = {}
        self._uploaders: dict[str, Uploader] = {}
        self._open: dict[str, RolloutLog] = {}
        self._announced: set[str] = set()
        self.reports: list[UploadReport] = []
        if path is not None:
            self._start(str(path))
        atexit.register(_close_at_exit, weakref.ref(self))

    def __repr__(self) -> str:
        if "_open" not in vars(self):
            return "<Recorder, not made>"
        folders = hide_credentials(", ".join(self.paths)) or "each run's own folder"
        return f"<Recorder into {folders}: {len(self._open)} open rollouts>"

    @property
    def paths(self) -> list[str]:
        """The folders of the runs that it records into."""
        with self._lock:
            return list(dict.fromkeys([*([] if self._path is None else [str(self._path)]), *self._stores]))

    def _start(self, path: str) -> RolloutStore:
        with self._lock:
            if path not in self._stores:
                self._stores[path] = RolloutStore(path, redactor=self._redactor)
                if self._upload:
                    self._uploaders[path] = Uploader(self._stores[path], platform=self._platform)
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
        prompt: Iterable[Message] = (),
        **fields: Any,
    ) -> RolloutLog:
        """Begin a rollout.

        Args:
            run_name: The run it belongs to; the folder's name by default.
            rollout_name: Its own name.
            environment, variant, split, task_spec, task_index: The task.
            metadata: Free data, kept with it. A `model` in it names the record's model where the run info does not.
            run_info: Run info of this rollout; its values replace the recorder's.
            print_messages: Print each message as it is logged, in the format of `OPENREWARD_ROLLOUT_LOGGING_FORMAT`: "pretty"
                (the default) or "structured".
            prompt: Messages that were given to the policy, of any role; logged first, with the origin "given".
            **fields: Further fields of `Rollout` (`group`, `sample`, `step`, `seed`, `sampling`, `tools`, ...).

        Raises:
            ConfigurationError: Both the recorder's path and `run_name` are missing, `Rollout` has no such field, or there is no
                format of the name in `OPENREWARD_ROLLOUT_LOGGING_FORMAT`.
        """
        self._check_process()
        rollout_logging_format()  # before anything is recorded
        if self._path is None and not run_name:
            raise ConfigurationError("a recorder without a path needs a run_name: it records into runs/<run_name>")
        if unknown := sorted(set(fields) - {field.name for field in dataclasses.fields(Rollout)}):
            raise ConfigurationError(f"a rollout has no field {', '.join(unknown)}: free data goes into metadata={{...}}")
        store = self._start(str(self._path if self._path is not None else Path("runs") / folder_name(run_name or "")))
        free_data = None if metadata is None else mapping_of(metadata, keep_none=True)
        spec = None if task_spec is None else mapping_of(task_spec, keep_none=True)
        own_info = {**mapping_of(fields.pop("model", None)), **mapping_of(run_info)}
        rollout = Rollout(
            run=run_name or store.run,
            name=rollout_name or "",
            environment=RolloutEnvironment(name=environment or "", variant=variant, split=split),
            task=Task(split or "", task_index, spec, task_id(environment or "", split, spec, task_index, variant)),
            metadata=free_data,
            model=self._model(free_data or {}, own_info) or None,
            status="running",
            started_at=now_iso(),
            **fields,
        )
        self._announce(store, rollout, print_messages)
        log = RolloutLog(store, rollout, print_messages=print_messages, on_end=self._ended, redactor=self._redactor)
        with self._lock:
            self._open[rollout.id] = log
        for message in prompt:
            log.log(message, origin="given")
        return log

    def _model(self, free_data: dict[str, Json], own_info: dict[str, Json]) -> dict[str, Json]:
        """Return a record's `model`: the run info, and the name of the model from the last of these that names it."""
        shared_info = dict(self._run_info)
        names = {**model_of(dict(free_data)), **model_of(shared_info), **model_of(own_info)}
        return {**names, **shared_info, **own_info}

    def _announce(self, store: RolloutStore, rollout: Rollout, always: bool) -> None:
        """Print the address of the rollout's page, once per run. The viewer reads folders of this machine only."""
        path = str(store.path)
        with self._lock:
            first = path not in self._announced
            self._announced.add(path)
        if "://" in path or not (first or always):
            return
        address = viewer_address(Path(path).resolve().name, rollout.run, rollout.id)
        with contextlib.suppress(OSError):  # the first write raises it again
            Path(path).mkdir(parents=True, exist_ok=True)  # so that the command that is printed works at once
        how = f"  (openreward-gym view {shlex.quote(path)})" if first else ""
        sys.stderr.write(f"Recording {address}{how}\n")

    @property
    def rollout(self) -> RolloutFactory:
        """Begin a rollout with `recorder.rollout(...)` in a `with` block, or as the official client does it, with
        `recorder.rollout.create(...)` and `recorder.rollout.close()`.
        """
        return RolloutFactory(self)

    def _ended(self, log: RolloutLog) -> None:
        with self._lock:
            self._open.pop(log.rollout_id, None)
            uploader = self._uploaders.get(str(log.store.path))
        if uploader is not None:
            uploader.wake()

    def flush(self, timeout_s: float | None = None) -> list[UploadReport]:
        """Wait until all written rollouts are uploaded, at most `timeout_s` seconds (None: no limit); one report per run."""
        self._check_process()
        return [uploader.flush(timeout_s) for uploader in list(self._uploaders.values())]

    def close(self) -> list[UploadReport]:
        """Write the open rollouts, upload the rest, and return one report per uploaded run.

        The recorder may be used again after it.
        """
        if self._is_foreign:
            return self.reports
        for log in list(self._open.values()):
            log.close()
        with self._lock:
            uploaders, self._uploaders = self._uploaders, {}
            ends = time.monotonic() + self._close_timeout_s
            for path, uploader in uploaders.items():
                report = uploader.close(max(ends - time.monotonic(), 0.1))
                self.reports.append(report)
                if not report.complete:
                    why = str(report).removesuffix(".")
                    logger.warning("%s: %s. Send the rest with `openreward-gym upload %s`.", path, why, shlex.quote(path))
            while self._stores:
                self._stores.popitem()[1].close()
        return self.reports

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class RolloutFactory:
    """The value of `recorder.rollout`: callable, with the official client's `create` and `close`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.create = recorder.create
        self.close = recorder.close

    def __call__(self, run: str | None = None, name: str | None = None, **fields: Any) -> RolloutLog:
        return self._recorder.create(run, name, **fields)


def folder_name(run_name: str) -> str:
    """Return `run_name` as the name of a folder: one path component, whatever characters it has."""
    return re.sub(r"[^\w.+=@-]+", "_", run_name).lstrip(".")[:200] or "run"


def _close_at_exit(reference: weakref.ref[Recorder]) -> None:
    recorder = reference()
    if recorder is not None:
        recorder.close()
