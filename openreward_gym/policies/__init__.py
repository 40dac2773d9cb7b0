"""Policies: models, scripts and functions that answer a transcript with the next assistant message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openreward_gym.lazy import lazy_names
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

if not TYPE_CHECKING:  # a checker would take every name for one that `__getattr__` makes
    __getattr__, __dir__ = lazy_names(
        __name__, {"baselines": "RandomPolicy ScriptedPolicy play_steps", "model": "PRICES ModelPolicy Price"}
    )

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
