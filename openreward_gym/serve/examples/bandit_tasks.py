"""The tasks of `bandit`: prompts that differ in a number, and the letters that an answer must begin with to be rewarded."""

from __future__ import annotations

from collections.abc import Mapping

from openreward_gym.errors import ConfigurationError
from openreward_gym.types import Json

LETTERS = "abcdefghijklm"
"""The rewarded first letters of every listed task, in either case. A task of one's own may name others."""

TASKS: Mapping[str, int] = {"train": 8, "test": 2}
"""The number of tasks by split."""


def task_specs(split: str) -> list[dict[str, Json]]:
    """Return the tasks of `split`: `{"machine": 1, "letters": "abcdefghijklm"}`. Machines are numbered across the splits."""
    first = 1 if split == "train" else 1 + TASKS["train"]
    return [{"machine": first + number, "letters": LETTERS} for number in range(TASKS[split])]


def prompt(machine: Json) -> str:
    """Return the prompt of a task. It does not name the letters: they are learned from rewards."""
    return f"Machine {machine} has an arm for each letter. Answer with the letter of the arm that you pull."


def pays(answer: str, letters: str) -> bool:
    """Return True if `answer`, after leading spaces, begins with one of `letters`, in either case."""
    return answer.lstrip()[:1].casefold() in {letter.casefold() for letter in letters}


def solution(task_spec: Mapping[str, Json]) -> list[str]:
    """Return the first of the rewarded letters as the only answer."""
    letters = task_spec.get("letters")
    if not isinstance(letters, str) or not letters:
        raise ConfigurationError(f"a task of 'bandit' needs 'letters', but this one is {dict(task_spec)}")
    return [letters[0]]
