"""Logs of the UK AI Security Institute's Inspect (`.eval` or `.json`), read through its own library, a sample at a time."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from openreward_gym.chat.dialect import image_of_url, opaque
from openreward_gym.chat.plain import plain
from openreward_gym.errors import MissingExtraError, StoreError
from openreward_gym.importers.jsonl import UNREADABLE, reason_of
from openreward_gym.store.damage import Damage
from openreward_gym.types import Block, Json, Message, ReasoningItem, TextBlock, ToolCall, ToolResult
from openreward_gym.types.conversion import message_records
from openreward_gym.types.rollout import EnvironmentRecord, MessageRecord, Rollout, TaskRecord, TokenUsage, task_id

# Inspect's letters for what a scorer said in words.
_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """The samples of a log, or of all logs in a folder, by name.

    Raises:
        MissingExtraError: Inspect is not installed.
        StoreError: There is no such log.
    """
    try:
        log_library = importlib.import_module("inspect_ai.log")
    except ImportError:
        raise MissingExtraError("reading Inspect's logs needs its library: pip install inspect_ai") from None
    place = Path(path)
    files = sorted(place.glob("*.eval")) if place.is_dir() else [place]
    if not files or not all(file.is_file() for file in files):
        raise StoreError(f"{path}: no .eval log there")
    for file in files:
        yield from _read_log(log_library, file)


def _read_log(library: Any, file: Path) -> Iterator[Rollout | Damage]:
    try:
        header = plain(library.read_eval_log(str(file), header_only=True))
        summaries = library.read_eval_log_sample_summaries(str(file))
    except Exception as error:  # whatever the library raises at a file that is no log
        yield Damage(0, f"not a log of Inspect: {type(error).__name__}: {error}", str(file))
        return
    for number, summary in enumerate(summaries, 1):
        try:
            sample = library.read_eval_log_sample(str(file), id=summary.id, epoch=summary.epoch)
            yield rollout_of(plain(sample), header)
        except (OSError, *UNREADABLE) as error:
            yield Damage(number, reason_of(error), str(file))


def rollout_of(sample: Mapping[str, Json], header: Mapping[str, Json]) -> Rollout:
    """One sample's rollout; its scores are metrics, and its first score is the reward.

    Raises:
        ValueError, KeyError, TypeError: It is no sample.
    """
    told = header.get("eval") or {}
    messages = [record for message in sample.get("messages") or () for record in message_records(_message(message))]
    scores = {name: _number((score or {}).get("value")) for name, score in (sample.get("scores") or {}).items()}
    reward = next(iter(scores.values()), None)
    if messages and reward is not None:
        messages[-1] = messages[-1].model_copy(update={"reward": reward, "finished": True})
    _add_usage(messages, sample)
    name = str(told.get("task") or "")
    spec = {"id": sample.get("id"), "input": sample.get("input")}
    limit, error = sample.get("limit"), sample.get("error")
    rest = {key: value for key, value in sample.items() if key not in ("messages", "events", "attachments", "output")}
    task = task_id(name, None, spec)
    return Rollout(
        id=str(sample.get("uuid") or f"{told.get('run_id')}-{sample.get('id')}-{sample.get('epoch')}"),
        run=str(told.get("run_id") or ""),
        name=f"{sample.get('id')}",
        environment=EnvironmentRecord(name=name),
        task=TaskRecord(id=task, spec=spec, golden_answer=sample.get("target")),
        group=task,
        sample=sample.get("epoch"),
        model={"name": told["model"]} if told.get("model") else None,
        sampling=told.get("model_generate_config") or None,
        messages=messages,
        reward=reward,
        final_reward=reward,
        metrics=scores or None,
        status="error" if error else "truncated" if limit else "completed",
        stop_reason=str((limit or {}).get("type") or "") or ("" if error else "finished"),
        error=None if not error else str(error.get("message")),
        started_at=_time(sample.get("started_at")),
        ended_at=_time(sample.get("completed_at")),
        usage=_usage(sample.get("model_usage")),
        metadata={"inspect": rest},
    )


def _message(data: Mapping[str, Json]) -> Message:
    role, content = data["role"], data.get("content")
    blocks: list[Block] = [TextBlock(content)] if isinstance(content, str) and content else []
    if isinstance(content, list):
        blocks = [_block(part) for part in content]
    if role == "tool":
        error = data.get("error")
        if error and not blocks:
            blocks = [TextBlock(str(error.get("message") or ""))]
        result = ToolResult(blocks, data.get("tool_call_id") or "", data.get("function") or "", bool(error))
        return Message("tool", (result,))
    calls = [
        ToolCall(call["function"], call.get("arguments") or {}, call.get("id") or "") for call in data.get("tool_calls") or ()
    ]
    return Message(role, (*blocks, *calls), detail={"model": data["model"]} if data.get("model") else None)


def _block(part: Mapping[str, Json]) -> Block:
    kind = part.get("type")
    if kind == "text":
        return TextBlock(part["text"])
    if kind == "reasoning":
        hidden = bool(part.get("redacted"))
        text = part.get("reasoning")
        return ReasoningItem(None if hidden else text, text if hidden else None, part.get("summary"), part.get("signature"))
    if kind == "image":
        return image_of_url(part.get("image"), {}) or opaque(part)
    return opaque(part)


def _number(value: Json) -> float | None:
    if isinstance(value, str):
        return _GRADES.get(value)
    return float(value) if isinstance(value, (int, float)) else None


def _usage(by_model: Json) -> TokenUsage | None:
    if not by_model:
        return None
    found = list(by_model.values())

    def total(name: str) -> int | None:
        given = [usage[name] for usage in found if usage.get(name) is not None]
        return sum(given) if given else None

    return TokenUsage(
        input_tokens=total("input_tokens"),
        output_tokens=total("output_tokens"),
        cached_tokens=total("input_tokens_cache_read"),
        reasoning_tokens=total("reasoning_tokens"),
    )


def _add_usage(messages: list[MessageRecord], sample: Mapping[str, Json]) -> None:
    """The last answer's own usage and reason to stop, which Inspect keeps beside the messages."""
    output = sample.get("output") or {}
    turns = [message for message in messages if message.role == "assistant"]
    if turns and output:
        turns[-1].usage = _usage({"": output["usage"]}) if output.get("usage") else None
        turns[-1].stop_reason = next((choice.get("stop_reason") for choice in output.get("choices") or ()), None)


def _time(value: Json) -> str | None:
    return None if value is None else datetime.fromisoformat(str(value)).isoformat()
