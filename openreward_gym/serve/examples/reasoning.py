"""`reasoning`: thousands of puzzles, generated and scored by the `reasoning-gym` package.

An episode has one step: the answer as a plain message. The verifier of the puzzle's family gives the reward, from 0.0 to 1.0.
Tasks are generated on demand and cannot be listed: select a task by split and index.

A task's spec is `{"family", "split", "item"}`. Index i of a split is item `i // n` of family `i % n`, so that any range of
indices mixes all n families. A session may also name a family of reasoning-gym that is not in the splits.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import reasoning_gym
from pydantic import BaseModel, ConfigDict, Field
from reasoning_gym.factory import DATASETS
from reasoning_gym.utils import extract_answer

from openreward_gym.serve.examples.sdk import Environment, Split, TextBlock, ToolOutput, conversation, terminal, text_output, tool

FAMILIES = (
    "basic_arithmetic", "base_conversion", "caesar_cipher", "calendar_arithmetic", "chain_sum", "count_bits",
    "family_relationships", "gcd", "knights_knaves", "leg_counting", "letter_counting", "number_sequence", "number_sorting",
    "simple_equations", "spell_backward", "syllogism", "time_intervals", "word_sorting",
)  # fmt: skip
"""The puzzle families of the splits, in index order."""

ITEMS = {"train": 1_000, "test": 100}
"""Puzzles per family, by split."""

# reasoning-gym generates item i from seed + i. Seeds this far apart give splits without a common puzzle.
_SEEDS = {"train": 0, "test": 1_000_000_000}

SYSTEM_PROMPT = "Solve the puzzle. Think as long as you like, then give the answer alone, once, as <answer>your answer</answer>."


class Solution(BaseModel):
    model_config = ConfigDict(extra="forbid")
    message: str = Field(description="Your reasoning, if you like, and <answer>your answer</answer>")


class Reasoning(Environment):  # type: ignore[misc]  # the SDK is not typed
    """Generated puzzles with verifiers."""

    def __init__(self, task_spec: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> None:
        super().__init__(task_spec=task_spec, secrets=dict(secrets or {}))
        if not {"family", "split", "item"} <= task_spec.keys():
            raise ValueError(f"a task of `reasoning` must be {{'family': ..., 'split': ..., 'item': ...}}, not {dict(task_spec)}")
        self.family = str(task_spec["family"])
        split, item = str(task_spec["split"]), int(task_spec["item"])
        if self.family not in DATASETS:
            raise ValueError(f"reasoning-gym has no family {self.family!r}: it has {', '.join(sorted(DATASETS))}")
        if split not in ITEMS or not 0 <= item < ITEMS[split]:
            raise ValueError(f"`reasoning` has no puzzle {item} in split {split!r}; puzzles per family: {ITEMS}")
        self.puzzles = _puzzles(self.family, split)
        self.puzzle = self.puzzles[item]

    @classmethod
    def list_splits(cls) -> list[Split]:
        return [Split(name="train", type="train"), Split(name="test", type="test")]

    @classmethod
    def list_tasks(cls, split: str) -> list[Any]:
        # The SDK's way to say that tasks are available by index only.
        raise NotImplementedError("tasks of `reasoning` are made by index: use num_tasks and get_task")

    @classmethod
    async def num_tasks(cls, split: str) -> int:
        return ITEMS[split] * len(FAMILIES)

    @classmethod
    async def get_task(cls, split: str, index: int) -> dict[str, Any]:
        if not 0 <= index < ITEMS[split] * len(FAMILIES):
            raise IndexError(index)
        return {"family": FAMILIES[index % len(FAMILIES)], "split": split, "item": index // len(FAMILIES)}

    async def get_prompt(self) -> list[TextBlock]:
        return [TextBlock(text=SYSTEM_PROMPT), TextBlock(text=str(self.puzzle["question"]))]

    async def get_messages(self) -> list[Any]:
        return conversation(SYSTEM_PROMPT, str(self.puzzle["question"]))

    @terminal
    @tool
    async def answer(self, arguments: Solution) -> ToolOutput:
        """Give your answer. This ends the episode."""
        text = extract_answer(arguments.message) or arguments.message.strip()
        reward = self._score(text)
        verdict = "Right." if reward >= 1.0 else "Partly right." if reward > 0.0 else "Wrong."
        return text_output(verdict, reward=reward, finished=True, family=self.family)

    def _score(self, text: str) -> float:
        try:
            return min(max(float(self.puzzles.score_answer(text, self.puzzle)), 0.0), 1.0)
        except Exception:
            # Some verifiers raise if they cannot parse the answer: it is wrong.
            return 0.0


@functools.cache
def _puzzles(family: str, split: str) -> Any:
    return reasoning_gym.create_dataset(family, size=ITEMS[split], seed=_SEEDS[split])
