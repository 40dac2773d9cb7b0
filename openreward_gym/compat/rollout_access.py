"""The rollouts of a client: what `client.rollout` is, and the names of its messages."""

from __future__ import annotations

import os
from typing import Any

from openreward_gym.compat.secrets import API_KEY_VARIABLE
from openreward_gym.hiding import Secret
from openreward_gym.recording.log import RolloutLog as Rollout
from openreward_gym.recording.log import mapping_of
from openreward_gym.recording.recorder import Recorder
from openreward_gym.recording.recorder import RolloutFactory as RolloutAPI
from openreward_gym.types import AssistantMessage, ReasoningItem, SystemMessage, ToolCall, ToolResult, UserMessage

__all__ = [
    "AssistantMessage",
    "ReasoningItem",
    "Rollout",
    "RolloutAPI",
    "RolloutAccess",
    "SystemMessage",
    "ToolCall",
    "ToolResult",
    "UserMessage",
]


class RolloutAccess:
    """Makes the `rollout` of a client at its first use.

    Args:
        api_key: The key that the program gave. None for that of the environment variable.
        api_base_url: Base URL of the platform's API.
        web_base_url: Base URL of the site.
        run_info: Facts about every rollout.
        upload: Send the rollouts to the platform. None sends them if there is a key.
    """

    def __init__(self, api_key: Secret | None, api_base_url: str, web_base_url: str, run_info: Any, upload: bool | None) -> None:
        self._run_info = run_info
        self._upload = upload
        self._recorder: Recorder | None = None

    @property
    def run_info(self) -> Any:
        """Facts about every rollout that begins from now on."""
        return self._run_info

    @run_info.setter
    def run_info(self, value: Any) -> None:
        self._run_info = value
        if self._recorder is not None:
            self._recorder._run_info = mapping_of(value)

    @property
    def api(self) -> RolloutAPI:
        """The factory of rollouts: `create(...)` begins one, `close()` writes and sends the rest."""
        if self._recorder is None:
            upload = bool(os.environ.get(API_KEY_VARIABLE)) if self._upload is None else self._upload
            self._recorder = Recorder(upload=upload, run_info=self._run_info)
        return self._recorder.rollout
