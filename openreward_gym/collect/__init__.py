"""Runs policies over many tasks at once and fills a store."""

from __future__ import annotations

import sys
import types
from typing import Any

from openreward_gym.collect.attempts import Coverage
from openreward_gym.collect.budgets import BUDGETS, RetryBudget
from openreward_gym.collect.collection import acollect, collect, estimate
from openreward_gym.collect.engine import CollectionResult
from openreward_gym.collect.estimating import Estimate
from openreward_gym.policies import EpisodicPolicy, Policy, RandomPolicy, ScriptedPolicy, play_steps

__all__ = [
    "BUDGETS",
    "CollectionResult",
    "Coverage",
    "EpisodicPolicy",
    "Estimate",
    "Policy",
    "RandomPolicy",
    "RetryBudget",
    "ScriptedPolicy",
    "acollect",
    "collect",
    "estimate",
    "play_steps",
]


class _CallableRoom(types.ModuleType):
    """`from openreward_gym import collect` is the function; the import system binds that name to this module."""

    def __call__(self, *args: Any, **arguments: Any) -> CollectionResult:
        return collect(*args, **arguments)


sys.modules[__name__].__class__ = _CallableRoom
