"""Policies: models, scripts and functions that answer a transcript with the next assistant message."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openreward_gym.policies.baselines import RandomPolicy, ScriptedPolicy, play_steps
    from openreward_gym.policies.model import PRICES, ModelPolicy, Price
    from openreward_gym.policies.policy import (
        EpisodicPolicy,
        Policy,
        Transcript,
        policy_name,
        policy_of_episode,
        policy_settings,
        resolve,
    )

# Public name -> its module in this folder, which is imported on first use.
_HOMES = {
    "PRICES": "model",
    "EpisodicPolicy": "policy",
    "ModelPolicy": "model",
    "Policy": "policy",
    "Price": "model",
    "RandomPolicy": "baselines",
    "ScriptedPolicy": "baselines",
    "Transcript": "policy",
    "play_steps": "baselines",
    "policy_name": "policy",
    "policy_of_episode": "policy",
    "policy_settings": "policy",
    "resolve": "policy",
}

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
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
