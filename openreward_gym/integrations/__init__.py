"""Trainers and evaluators that play our environments: one module each, over one contract.

    from openreward_gym.integrations import trl

    trainer = GRPOTrainer(model="Qwen/Qwen3-0.6B", **trl.grpo("weather", base_url="http://127.0.0.1:8080", output="runs/grpo"))

A module imports its trainer when it is used. `Episode` and `TokenEpisode` are the contract, also for trainers without a module
here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from openreward_gym.lazy import lazy_names

if TYPE_CHECKING:
    from openreward_gym.integrations.episode import Answer, Episode, EpisodeOptions, Episodes
    from openreward_gym.integrations.token_history import Segment
    from openreward_gym.integrations.tokens import TokenEpisode

__all__ = ["Answer", "Episode", "EpisodeOptions", "Episodes", "Segment", "TokenEpisode"]

_name, _names = lazy_names(
    __name__,
    {"episode": "Answer Episode EpisodeOptions Episodes", "token_history": "Segment", "tokens": "TokenEpisode"},
)
_MODULES = ("inspect", "nemo_gym", "openenv", "skyrl", "tinker", "trl", "verifiers", "verl")

if not TYPE_CHECKING:  # a checker would take every name for one that this function makes

    def __getattr__(name: str) -> Any:
        return importlib.import_module(f"{__name__}.{name}") if name in _MODULES else _name(name)


def __dir__() -> list[str]:
    return sorted({*_names(), *_MODULES})
