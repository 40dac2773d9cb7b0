"""Completions that TRL's trainers log with `log_completions=True`: `completions/completions_00010.parquet`.

A row has `step`, `prompt` and `completion` (text or messages), a column for each reward function, `advantage`, and any
other columns that were logged. TRL logs the values of the reward functions, not their weights: the reward here is their
plain sum.

Origin: the prompt is given. In a completion of messages the assistant's are the policy's, and tools and users are the
environment. A completion of text is the policy's, unless it has the marks of other turns: such a text mixes the policy's
words with a tool's, and its origin is unknown.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from openreward_gym.chat import from_openai
from openreward_gym.importers.jsonl import convert_each, files_of, identity
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import AssistantMessage, Message, Rollout, Task, UserMessage, task_id, with_origins

_OWN = ("step", "prompt", "completion", "advantage")
# Decoded without special tokens, a template leaves the role's name alone on a line.
_OTHER_TURNS = re.compile(
    r"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|start\|>|<tool_response>|\[TOOL_RESULTS\]|\[INST\]"
    r"|<\|(?:user|tool|observation)\|>|^(?:user|tool|ipython)\n[\s\S]*^(?:assistant|model)\n",
    re.MULTILINE,
)


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """Yield the completions of a Parquet file, or of all completion files in a folder, by name."""
    pattern = "completions_*.parquet"
    for file in files_of(path, f"**/{pattern}", f"no {pattern} there: train with log_completions=True"):
        yield from _read_file(file)


def _read_file(file: Path) -> Iterator[Rollout | Damage]:
    # A heavy import, which only this importer needs.
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        yield Damage(1, f"not a Parquet file: {error}", str(file))
        return

    def convert(number: int, row: dict[str, Json]) -> Rollout:
        return rollout_of(row, identity(repr(row).encode("utf-8", "backslashreplace"), number))

    rows = (row for batch in table.iter_batches(batch_size=256) for row in batch.to_pylist())
    yield from convert_each(enumerate(rows, 1), convert, file)


def rollout_of(row: Mapping[str, Json], row_id: str) -> Rollout:
    """Return the rollout of one row. Floats that are not in TRL's own columns are rewards."""
    if row.get("completion") is None:
        raise ValueError('no "completion": this is not a log of TRL')
    messages = _messages(row.get("prompt"), row["completion"])
    values = {name: value for name, value in row.items() if name not in _OWN}
    rewards = {name: float(value) for name, value in values.items() if isinstance(value, float) and not math.isnan(value)}
    reward = sum(rewards.values()) if rewards else None
    if messages:
        messages[-1] = messages[-1].replace(reward=reward)
    task = task_id("", None, {"prompt": row.get("prompt")})
    return Rollout(
        id=row_id,
        task=Task(id=task),
        group=task,
        step=row.get("step"),
        advantage=row.get("advantage"),
        messages=messages,
        reward=reward,
        final_reward=reward,
        metrics=dict(rewards) or None,
        status="completed",
        stop_reason="message",
        metadata={name: value for name, value in values.items() if name not in rewards} or None,
    )


def _messages(prompt: Json, completion: Json) -> list[Message]:
    prompt_turns = [UserMessage(prompt)] if isinstance(prompt, str) else _chat(prompt or ())
    messages: list[Message] = [message.replace(origin="given") for message in prompt_turns]
    if not isinstance(completion, str):
        return with_origins([*messages, *_chat(completion)])
    return [*messages, AssistantMessage(completion, origin=None if _OTHER_TURNS.search(completion) else "policy")]


def _chat(messages: Json) -> list[Message]:
    # In Parquet every message has the fields of all messages; those that it does not use are None.
    return from_openai([{name: value for name, value in message.items() if value is not None} for message in messages])
