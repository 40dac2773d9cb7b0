"""Completions that TRL's trainers log with `log_completions=True`: `completions/completions_00010.parquet`, or JSON lines.

A row has `step`, `prompt` and `completion` (text or messages), a column for each reward function, `advantage`, and any
other columns that were logged. TRL logs the values of the reward functions, not their weights: the reward here is their
plain sum, or `reward` where older versions logged the total. Rows with the same prompt and step are a group.

Origin: the prompt is given. In a completion of messages the assistant's are the policy's, and tools and users are the
environment. A completion of text is the policy's, unless it has the marks of other turns. Such a text mixes the policy's
words with a tool's: it is split by the marks of its chat template, and where they leave a doubt its origin is unknown.

End: TRL does not log why a completion ended. Its turns say so only where the text has the marks of their end.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from openreward_gym.importers.decoded import split_completion
from openreward_gym.importers.jsonl import files_of, read_lines
from openreward_gym.importers.openai_chat import read_messages
from openreward_gym.importers.reasons import wrong
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import Message, Rollout, Task, UserMessage, task_id, with_origins

_OF_VERIFIERS = {"example_id", "is_completed", "stop_condition"}
_OWN = ("step", "prompt", "completion", "advantage", "advantages", "reward", "rewards")


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """Yield the completions of a file, or of all completion files in a folder, by name."""
    samples: Counter[str | None] = Counter()
    missing = "no completions_*.parquet there: train with log_completions=True"
    for file in files_of(path, missing, ("**/completions*.parquet", "**/completions*.jsonl")):
        for item in read_lines(file, rollout_of):
            if isinstance(item, Rollout):
                item.sample = samples[item.group]
                samples[item.group] += 1
            yield item


def rollout_of(row: Mapping[str, Json], row_id: str) -> Rollout:
    """Return the rollout of one row. Floats that are not in TRL's own columns are rewards."""
    if row.get("completion") is None:
        raise ValueError('no "completion": this is not a log of TRL')
    if row.keys() & _OF_VERIFIERS:
        raise ValueError("this is not a log of TRL: import it as verifiers")
    messages = _messages(row.get("prompt"), row["completion"])
    values = {name: value for name, value in row.items() if name not in _OWN}
    by_function = row["rewards"] if isinstance(row.get("rewards"), Mapping) else {}
    values = {**values, **by_function}
    rewards = {name: float(value) for name, value in values.items() if isinstance(value, float) and not math.isnan(value)}
    rewards.update({name: float(value) for name, value in by_function.items() if isinstance(value, int)})
    logged = row.get("reward", None if by_function else row.get("rewards"))
    if logged is not None and not isinstance(logged, (int, float)):
        raise TypeError(f"the reward is a number, not {str(logged)[:100]!r}")
    reward = (sum(rewards.values()) if rewards else None) if logged is None or math.isnan(logged) else float(logged)
    if messages:
        messages[-1] = messages[-1].replace(reward=reward)
    task, step = task_id("", None, {"prompt": row.get("prompt")}), row.get("step")
    is_answer = bool(messages) and messages[-1].role == "assistant"
    return Rollout(
        id=row_id,
        task=Task(id=task),
        group=task if step is None else f"{task}/{step}",
        step=step,
        advantage=row.get("advantage", row.get("advantages")),
        messages=messages,
        reward=reward,
        final_reward=reward,
        metrics=dict(rewards) or None,
        status="completed",
        stop_reason="message" if is_answer else "",
        metadata={name: value for name, value in values.items() if name not in rewards} or None,
    )


def _messages(prompt: Json, completion: Json) -> list[Message]:
    prompt_turns = [UserMessage(prompt)] if isinstance(prompt, str) else _chat(prompt or ())
    messages: list[Message] = [message.replace(origin="given") for message in prompt_turns]
    if not isinstance(completion, str):
        return with_origins([*messages, *_chat(completion)])
    return [*messages, *split_completion(completion)]


def _chat(messages: Any) -> list[Message]:
    if not isinstance(messages, list):
        raise wrong("prompt and completion", "text or a list of messages", messages)
    return read_messages(messages)
