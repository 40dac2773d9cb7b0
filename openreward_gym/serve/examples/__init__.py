"""Environments that come with the package, small enough to read and real enough to learn from.

    weather     one tool and a verified answer in plain words: the tutorial's five questions
    ctf         a hunt of several steps through a file tree, with wrong turns and a limited number of submissions
    reasoning   thousands of generated puzzles with verifiers, by index alone (needs `reasoning-gym`)

Nothing here imports the `openreward` SDK: the modules that define the environments do, and only a server loads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.examples import challenges, cities
from openreward_gym.types import Json

__all__ = ["BUILT_IN", "Step", "solution"]

BUILT_IN: Mapping[str, str] = {
    "weather": "openreward_gym.serve.examples.weather:Weather",
    "ctf": "openreward_gym.serve.examples.ctf:CTF",
    "reasoning": "openreward_gym.serve.examples.reasoning:Reasoning",
}
"""Where the class of each built-in environment is, by its name."""

Step: TypeAlias = "str | Mapping[str, Json]"
"""One action: a tool call `{"name": ..., "arguments": {...}}`, or a plain message."""


def solution(environment: str, task_spec: Mapping[str, Json]) -> list[Step]:
    """The actions that solve a task of `weather` or `ctf`, in their order: what a scripted policy plays.

    Raises:
        ConfigurationError: There is no scripted solution for that environment, or its task is not one of its own.
    """
    if environment == "weather":
        return list(cities.solution(task_spec))
    if environment == "ctf":
        return list(challenges.solution(task_spec))
    raise ConfigurationError(f"no scripted solution for {environment!r}: there is one for 'weather' and one for 'ctf'")
