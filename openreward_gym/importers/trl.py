"""What TRL's trainers log with `log_completions=True`: `completions/completions_00010.parquet` in their output folder.

A row has `step`, `prompt` and `completion` (text or messages), a column for each reward function, `advantage`, and
whatever else was logged. TRL keeps the reward functions' values, not their weights: the reward here is their plain sum.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from openreward_gym.chat.completions import from_openai
from openreward_gym.errors import StoreError
from openreward_gym.importers.jsonl import UNREADABLE, identity, reason_of
from openreward_gym.store.damage import Damage
from openreward_gym.types import Json
from openreward_gym.types.conversion import message_records
from openreward_gym.types.rollout import MessageRecord, Rollout, TaskRecord, TextPart, task_id

_OWN = ("step", "prompt", "completion", "advantage")


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """The completions of a parquet file, or of all in a folder, by name.

    Raises:
        StoreError: There is no such file, or no completions in the folder.
    """
    place = Path(path)
    files = sorted(place.glob("**/completions_*.parquet")) if place.is_dir() else [place]
    if not files or not all(file.is_file() for file in files):
        raise StoreError(f"{path}: no completions_*.parquet there: train with log_completions=True")
    for file in files:
        yield from _read_file(file)


def _read_file(file: Path) -> Iterator[Rollout | Damage]:
    # The heavy import waits for somebody who has such a file.
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        yield Damage(1, f"not a parquet file: {error}", str(file))
        return
    number = 0
    for batch in table.iter_batches(batch_size=256):
        for row in batch.to_pylist():
            number += 1
            try:
                yield rollout_of(row, identity(repr(row).encode("utf-8", "backslashreplace"), number))
            except UNREADABLE as error:
                yield Damage(number, reason_of(error), str(file))


def rollout_of(row: Mapping[str, Json], row_id: str) -> Rollout:
    """One row's rollout; numbers that are not among TRL's own columns count as rewards.

    Raises:
        ValueError: It has no completion.
    """
    if row.get("completion") is None:
        raise ValueError('no "completion": this is not a log of TRL')
    messages = [*_messages(row.get("prompt"), "user"), *_messages(row["completion"], "assistant")]
    values = {name: value for name, value in row.items() if name not in _OWN}
    rewards = {name: float(value) for name, value in values.items() if isinstance(value, float) and not math.isnan(value)}
    reward = sum(rewards.values()) if rewards else None
    if messages:
        messages[-1].reward = reward
    task = task_id("", None, {"prompt": row.get("prompt")})
    return Rollout(
        id=row_id,
        task=TaskRecord(id=task),
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


def _messages(said: Json, role: str) -> list[MessageRecord]:
    if said is None:
        return []
    if isinstance(said, str):
        return [MessageRecord(role="user" if role == "user" else "assistant", blocks=[TextPart(text=said)])]
    # Parquet gives every message every message's fields: those it does not have are None.
    given = [{name: value for name, value in message.items() if value is not None} for message in said]
    return [record for message in from_openai(given) for record in message_records(message)]
