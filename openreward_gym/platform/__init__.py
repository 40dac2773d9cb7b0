"""The hosted OpenReward platform: its API, and the upload of runs to it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from openreward_gym.platform.client import Platform, TaskDifficulty

if TYPE_CHECKING:
    from openreward_gym.platform.uploader import Uploader, UploadReport, upload

__all__ = ["Platform", "TaskDifficulty", "UploadReport", "Uploader", "upload"]


def __getattr__(name: str) -> Any:
    # An upload reads a store, which the rest of the room does not need.
    if name in ("UploadReport", "Uploader", "upload"):
        return getattr(importlib.import_module("openreward_gym.platform.uploader"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
