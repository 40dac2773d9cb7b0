"""The hosted OpenReward platform: its API, and the upload of runs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openreward_gym.lazy import lazy_names
from openreward_gym.platform.client import Platform, TaskDifficulty

if TYPE_CHECKING:
    from openreward_gym.platform.uploader import Uploader, UploadReport, upload

# An upload reads a store, which the rest of the room does not need.
if not TYPE_CHECKING:  # a checker would take every name for one that `__getattr__` makes
    __getattr__, __dir__ = lazy_names(__name__, {"uploader": "UploadReport Uploader upload"})

__all__ = ["Platform", "TaskDifficulty", "UploadReport", "Uploader", "upload"]
