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
from pathlib import Path
from typing import Any

from openreward_gym.chat import from_openai
from openreward_gym.importers.decoded import split_completion
from openreward_gym.importers.jsonl import convert_each, files_of, identity, lines
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import Message, Rollout, Task, UserMessage, task_id, with_origins
from openreward_gym.types.rollout import object_of

_OWN = ("step", "prompt", "completion", "advantage", "advantages", "reward", "rewards")
_JSON_LINES = (".jsonl", ".json", ".ndjson")


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """Yield the completions of a file (Parquet or JSON lines), or of all completion files in a folder, by name."""
    samples: Counter[str | None] = Counter()
    missing = "no completions_*.parquet there: train with log_completions=True"
    for file in files_of(path, missing, ("**/completions*.parquet", "**/completions*.jsonl")):
        for item in _read_lines(file) if file.suffix in _JSON_LINES else _read_parquet(file):
            if isinstance(item, Rollout):
                item.sample = samples[item.group]
                samples[item.group] += 1
            yield item


def _read_lines(file: Path) -> Iterator[Rollout | Damage]:
    def convert(number: int, line: bytes) -> Rollout:
        return rollout_of(object_of(line, "record"), identity(line.rstrip(b"\r\n"), number))

    return convert_each(lines(file), convert, file)


def _read_parquet(file: Path) -> Iterator[Rollout | Damage]:
    # A heavy import, which only this importer needs.
    import pyarrow
    import pyarrow.parquet

    def convert(number: int, row: dict[str, Json]) -> Rollout:
        return rollout_of(row, identity(repr(row).encode("utf-8", "backslashreplace"), number))

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=256):
            rows = batch.to_pylist()
            yield from convert_each(enumerate(rows, number + 1), convert, file)
            number += len(rows)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        yield Damage(number + 1, f"not a Parquet file: {error}", str(file))


def rollout_of(row: Mapping[str, Json], row_id: str) -> Rollout:
    """Return the rollout of one row. Floats that are not in TRL's own columns are rewards."""
    if row.get("completion") is None:
        raise ValueError('no "completion": this is not a log of TRL')
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
    """Read messages. In Parquet each has the fields of all, also inside; those that it does not use are None."""
    return from_openai([_without_none(message) for message in messages])


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value
