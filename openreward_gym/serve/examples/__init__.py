"""Example environments that come with the package, small enough to read and real enough to learn from.

    weather     one tool and a verified answer in plain words: the tutorial's five questions
    ctf         a multi-step search through a file tree, with wrong turns and a limited number of submissions
    bandit      one answer, rewarded by its first letter: a random model learns it, so it tests a training loop
    reasoning   thousands of generated puzzles with verifiers, by index only (needs `reasoning-gym`)

This module and the `*_tasks` modules do not import the `openreward` SDK, which takes seconds. The modules that define the
environments do; a server loads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.examples import bandit_tasks, ctf_tasks, weather_tasks
from openreward_gym.types import Json

__all__ = ["BUILT_IN", "Step", "solution"]

BUILT_IN: Mapping[str, str] = {
    "weather": "openreward_gym.serve.examples.weather:Weather",
    "ctf": "openreward_gym.serve.examples.ctf:CTF",
    "bandit": "openreward_gym.serve.examples.bandit:Bandit",
    "reasoning": "openreward_gym.serve.examples.reasoning:Reasoning",
}
"""The class of each built-in environment, as "module:Class"."""

Step: TypeAlias = "str | Mapping[str, Json]"
"""One action: a tool call `{"name": ..., "arguments": {...}}`, or a plain message."""


def solution(environment: str, task_spec: Mapping[str, Json]) -> list[Step]:
    """Return the actions that solve a task of `weather`, `ctf` or `bandit`, in order, for a scripted policy to play.

    Raises:
        ConfigurationError: The environment has no scripted solution, or the task is not one of its tasks.

    Example:
        >>> solution("weather", {"city": "Seattle"})
        [{'name': 'get_weather', 'arguments': {'city': 'Seattle'}}, 'The weather in Seattle is cold.']
    """
    if environment == "weather":
        return list(weather_tasks.solution(task_spec))
    if environment == "ctf":
        return list(ctf_tasks.solution(task_spec))
    if environment == "bandit":
        return list(bandit_tasks.solution(task_spec))
    raise ConfigurationError(f"there is no scripted solution for {environment!r}, only for 'weather', 'ctf' and 'bandit'")
