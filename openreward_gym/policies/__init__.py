"""Policies: models, scripts and functions that answer a transcript with the next assistant message."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from openreward_gym.policies.policy import (
    EpisodicPolicy,
    Policy,
    Transcript,
    policy_name,
    policy_of_episode,
    policy_settings,
    resolve,
)

if TYPE_CHECKING:
    from openreward_gym.policies.baselines import RandomPolicy, ScriptedPolicy, play_steps
    from openreward_gym.policies.model import PRICES, ModelPolicy, Price

# Modules that are imported on first use, and the public names that they define. All other names are those of `policy`.
_LAZY = {"baselines": ("RandomPolicy", "ScriptedPolicy", "play_steps"), "model": ("PRICES", "ModelPolicy", "Price")}

__all__ = [
    "PRICES",
    "EpisodicPolicy",
    "ModelPolicy",
    "Policy",
    "Price",
    "RandomPolicy",
    "ScriptedPolicy",
    "Transcript",
    "play_steps",
    "policy_name",
    "policy_of_episode",
    "policy_settings",
    "resolve",
]


def __getattr__(name: str) -> Any:
    for module, names in _LAZY.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
