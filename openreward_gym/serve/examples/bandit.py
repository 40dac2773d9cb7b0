"""`bandit`: answer with a letter; half of the alphabet is rewarded. A task that even a random model learns within seconds.

An episode has one step: the answer as a plain message, which goes to the hidden terminal tool and ends the episode. The reward
is 1.0 if its first letter is one of the task's letters, else 0.0; the rest of the answer does not matter. A training loop in
which the mean reward of this environment does not rise is not connected somewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from openreward_gym.serve.examples import bandit_tasks
from openreward_gym.serve.examples.sdk import Environment, Split, TextBlock, ToolOutput, terminal, text_output, tool


class Pull(BaseModel):
    model_config = ConfigDict(extra="forbid")
    message: str = Field(description="The letter of the arm")


class Bandit(Environment):  # type: ignore[misc]  # the SDK is not typed
    """One answer per episode, rewarded by its first letter."""

    def __init__(self, task_spec: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> None:
        super().__init__(task_spec=task_spec, secrets=dict(secrets or {}))
        letters = task_spec.get("letters", bandit_tasks.LETTERS)
        if not isinstance(letters, str) or not letters:
            raise ValueError(f"a task of `bandit` must be {{'machine': 1, 'letters': 'abc'}}, not {dict(task_spec)}")
        self.machine = task_spec.get("machine", 1)
        self.letters = letters

    @classmethod
    def list_splits(cls) -> list[Split]:
        return [Split(name="train", type="train"), Split(name="test", type="test")]

    @classmethod
    def list_tasks(cls, split: str) -> list[Any]:
        return bandit_tasks.task_specs(split)

    async def get_prompt(self) -> list[TextBlock]:
        return [TextBlock(text=bandit_tasks.prompt(self.machine))]

    @terminal
    @tool
    async def answer(self, arguments: Pull) -> ToolOutput:
        """Pull an arm. This ends the episode."""
        pays = bandit_tasks.pays(arguments.message, self.letters)
        verdict = "The arm paid." if pays else "The arm did not pay."
        return text_output(verdict, reward=float(pays), finished=True)
