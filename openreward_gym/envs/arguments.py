"""The arguments of an env: what each may be, and the observation space that they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import gymnasium
import numpy as np

from openreward_gym.envs.observations import OBS_MODES
from openreward_gym.envs.spaces import BlocksSpace, MessagesSpace, UnicodeText
from openreward_gym.envs.stepping import OnMessage
from openreward_gym.errors import ConfigurationError

RENDER_MODES = ("ansi", "human", "rgb_array")


def observation_space(obs_mode: str, max_obs_chars: int | None) -> gymnasium.Space[Any]:
    """The space of what `obs_mode` shows."""
    if obs_mode == "text":
        return UnicodeText(max_length=max_obs_chars)
    return BlocksSpace() if obs_mode == "blocks" else MessagesSpace()


def check_arguments(given: Mapping[str, Any]) -> None:
    """Raises ConfigurationError for the first of `OpenRewardEnv`'s arguments that cannot be."""
    environment = given["environment"]
    if not isinstance(environment, type) and (not isinstance(environment, str) or not environment.strip()):
        raise ConfigurationError(
            "environment must be a name like 'weather' or 'owner/name', or an openreward Environment class, not "
            f"{environment!r}: gymnasium.make('OpenReward-v0', environment='weather', base_url='http://127.0.0.1:8080')"
        )
    for name in ("base_url", "variant", "split", "toolset", "api_key_env"):
        optional = name not in ("split", "api_key_env")
        if not isinstance(given[name], str) and not (optional and given[name] is None):
            raise ConfigurationError(f"{name} must be a text{' or None' if optional else ''}, not {given[name]!r}")
    for name in ("secrets_env", "env_overrides"):
        value = given[name]
        if value is not None and not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
            # It may hold what nobody should read: it is not repeated.
            raise ConfigurationError(f"{name} must be a mapping from names or None, not a {type(value).__name__}")
    index = given["task_index"]
    if index is not None and (isinstance(index, bool) or not isinstance(index, int | np.integer) or index < 0):
        raise ConfigurationError(f"task_index must be a whole number from 0, or None, not {index!r}")
    choices = {
        "obs_mode": OBS_MODES,
        "on_message": get_args(OnMessage),
        "on_failure": ("truncate", "raise"),
        "render_mode": (None, *RENDER_MODES),
    }
    for name, allowed in choices.items():
        if given[name] not in allowed:
            raise ConfigurationError(f"{name} must be one of {', '.join(map(str, allowed))}, not {given[name]!r}")
    for name in ("max_steps", "max_obs_chars", "reset_timeout_s", "step_timeout_s", "episode_timeout_s"):
        value = given[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | np.number) or not value > 0):
            raise ConfigurationError(f"{name} must be a positive number or None, not {value!r}")
