"""Rows of the index for rollouts that are still being recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openreward_gym.errors import OpenRewardGymError
from openreward_gym.store.folder import LocalFolder
from openreward_gym.store.running import KIND, RunningFile, running_files

STOPPED = "stopped while running"
"""The stop reason that is shown for a rollout whose recorder is gone."""
RUNNING_LENGTH = -1
"""The length in the index of a rollout that has no line yet."""

_QUIET_S = 5.0
_TEXT = 2_000


class RunningRollouts:
    """The rollouts that are being recorded into some runs, without their texts."""

    def __init__(self) -> None:
        self._files: dict[Path, RunningFile] = {}
        self._is_written: dict[Path, bool] = {}

    @staticmethod
    def find(folders: list[LocalFolder]) -> list[tuple[LocalFolder, Path]]:
        """Return (folder, file) of each of them. They are looked for before the shards, so that one that ends is not missed."""
        return [(folder, path) for folder in folders for path in running_files(folder)]

    def changed(self, found: list[tuple[LocalFolder, Path]]) -> Iterator[tuple[LocalFolder, Path, dict[str, Any]]]:
        """Yield (folder, file, record) of those that changed since the last call."""
        paths = {path for _, path in found}
        for gone in self._files.keys() - paths:
            del self._files[gone]
            self._is_written.pop(gone, None)
        for folder, path in found:
            file = self._files.setdefault(path, RunningFile(path, _without_texts))
            try:
                is_new = file.refresh()
            except (OSError, OpenRewardGymError):
                continue  # it has ended since it was listed
            is_written = is_new or file.age_s < _QUIET_S or file.is_written
            if file.head and (is_new or is_written != self._is_written.get(path)):
                self._is_written[path] = is_written
                yield folder, path, file.record() if is_written else {**file.record(), "stop_reason": STOPPED}


def is_running_file(path: str) -> bool:
    """Return whether a file of the index holds a rollout that is being recorded."""
    return Path(path).parent.name == KIND


def _without_texts(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message with no more of its texts than a row needs."""
    blocks = message.get("blocks")
    short = [_short(block) for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []
    return {**message, "blocks": short, "metadata": None}


def _short(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value[:_TEXT] if isinstance(value, str) else value for key, value in block.items() if key != "arguments"}
