"""Logs of the UK AI Security Institute's Inspect (`.eval` or `.json`), read through its own library, a sample at a time.

Origin: Inspect marks a message's `source`. Assistant messages that were generated are the policy's, and those of the input
are given. Without a mark an assistant message is the policy's if it names its model; if no assistant message of the sample
has a mark or a model, their origin is unknown. Messages before the policy's first are given; tools and users after it are
the environment.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from openreward_gym.chat.dialect import ended_of, image_of_url, opaque, tool_call, total
from openreward_gym.chat.plain import plain
from openreward_gym.errors import MissingExtraError
from openreward_gym.importers.jsonl import UNREADABLE, checked, files_of, reason_of
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import (
    AssistantMessage,
    Block,
    Message,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Task,
    TextBlock,
    ToolMessage,
    Usage,
    as_blocks,
    task_id,
    with_origins,
)

# The letters of Inspect's scorers.
_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """Yield the samples of a log, or of all logs in a folder, by name; raise MissingExtraError without Inspect's library."""
    try:
        library = importlib.import_module("inspect_ai.log")
    except ImportError:
        raise MissingExtraError("reading Inspect's logs needs its library: pip install inspect_ai") from None
    for file in files_of(path, "*.eval", "no .eval log there"):
        yield from _read_log(library, file)


def _read_log(library: Any, file: Path) -> Iterator[Rollout | Damage]:
    try:
        header = plain(library.read_eval_log(str(file), header_only=True))
        summaries = library.read_eval_log_sample_summaries(str(file))
    except Exception as error:  # the library raises any error at a file that is not a log
        yield Damage(0, f"not a log of Inspect: {type(error).__name__}: {error}", str(file))
        return
    for number, summary in enumerate(summaries, 1):
        try:
            sample = library.read_eval_log_sample(str(file), id=summary.id, epoch=summary.epoch)
            yield checked(rollout_of(plain(sample), header))
        except (OSError, *UNREADABLE) as error:
            yield Damage(number, reason_of(error), str(file))


def rollout_of(sample: Mapping[str, Json], header: Mapping[str, Json]) -> Rollout:
    """Return the rollout of one sample. Its scores are metrics, and its first score is the reward."""
    evaluation = header.get("eval") or {}
    messages = _messages(sample.get("messages") or (), sample.get("output") or {})
    scores = {name: _number((score or {}).get("value")) for name, score in (sample.get("scores") or {}).items()}
    reward = next(iter(scores.values()), None)
    if messages and reward is not None:
        messages[-1] = messages[-1].replace(reward=reward, finished=True)
    name = str(evaluation.get("task") or "")
    spec = {"id": sample.get("id"), "input": sample.get("input")}
    limit, error = sample.get("limit"), sample.get("error")
    rest = {key: value for key, value in sample.items() if key not in ("messages", "events", "attachments", "output")}
    task = task_id(name, None, spec)
    return Rollout(
        id=str(sample.get("uuid") or f"{evaluation.get('run_id')}-{sample.get('id')}-{sample.get('epoch')}"),
        run=str(evaluation.get("run_id") or ""),
        name=f"{sample.get('id')}",
        environment=RolloutEnvironment(name=name),
        task=Task(spec=spec, id=task, golden_answer=sample.get("target")),
        group=task,
        sample=sample.get("epoch"),
        model={"name": evaluation["model"]} if evaluation.get("model") else None,
        sampling=evaluation.get("model_generate_config") or None,
        messages=messages,
        reward=reward,
        final_reward=reward,
        metrics=scores or None,
        status="error" if error else "truncated" if limit else "completed",
        stop_reason=str((limit or {}).get("type") or "") or ("" if error else "finished"),
        error=None if not error else str(error.get("message")),
        started_at=_time(sample.get("started_at")),
        ended_at=_time(sample.get("completed_at")),
        usage=_usage((sample.get("model_usage") or {}).values()),
        metadata={"inspect": rest},
    )


def _messages(items: Iterable[Mapping[str, Json]], output: Mapping[str, Json]) -> list[Message]:
    messages = [_message(item) for item in items]
    turns = [number for number, message in enumerate(messages) if message.role == "assistant"]
    if turns and output and messages[turns[-1]].origin in ("policy", None):
        # Inspect keeps the last answer's usage and stop reason beside the messages.
        last = messages[turns[-1]]
        stop_reason = next((choice.get("stop_reason") for choice in output.get("choices") or ()), None)
        model = None if last.sampled is None else last.sampled.model
        sampled = Sampled(_usage([output.get("usage")]), stop_reason, model=model)
        ended = ended_of(stop_reason, last.blocks)
        messages[turns[-1]] = last.replace(sampled=None if sampled == Sampled() else sampled, ended=ended)
    if any(messages[turn].origin is not None for turn in turns):
        return with_origins(messages, lambda message: False)
    first = turns[0] if turns else len(messages)
    return [
        message if message.role == "assistant" else message.replace(origin="given" if number < first else "environment")
        for number, message in enumerate(messages)
    ]


def _message(data: Mapping[str, Json]) -> Message:
    role, content, source = data["role"], data.get("content"), data.get("source")
    blocks = [_block(part) for part in content] if isinstance(content, list) else list(as_blocks(content or ""))
    if role == "tool":
        error = data.get("error")
        if error and not blocks:
            blocks = [TextBlock(str(error.get("message") or ""))]
        return ToolMessage(blocks, data.get("tool_call_id") or "", data.get("function"), bool(error))
    if role != "assistant":
        return Message(role, tuple(blocks), origin="given" if source == "input" else None)
    calls = [tool_call(call["function"], call.get("arguments"), call.get("id")) for call in data.get("tool_calls") or ()]
    is_generated = source == "generate" or (source is None and bool(data.get("model")))
    return AssistantMessage(
        blocks,
        calls,
        sampled=Sampled(model=data["model"]) if data.get("model") else None,
        origin="policy" if is_generated else "given" if source == "input" else None,
    )


def _block(part: Mapping[str, Json]) -> Block:
    kind = part.get("type")
    if kind == "text":
        return TextBlock(part["text"])
    if kind == "reasoning":
        text, is_hidden = part.get("reasoning"), bool(part.get("redacted"))
        return ReasoningItem(None if is_hidden else text, text if is_hidden else None, part.get("summary"), part.get("signature"))
    if kind == "image":
        return image_of_url(part.get("image"), {}) or opaque(part)
    return opaque(part)


def _number(value: Json) -> float | None:
    if isinstance(value, str):
        return _GRADES.get(value)
    return float(value) if isinstance(value, (int, float)) else None


def _usage(usages: Iterable[Json]) -> Usage | None:
    known = [usage for usage in usages if usage]
    names = ("input_tokens", "output_tokens", "input_tokens_cache_read", "reasoning_tokens")
    sums = [total(*(usage.get(name) for usage in known)) for name in names]
    return Usage(sums[0], sums[1], sums[2], sums[3]) if known else None


def _time(value: Json) -> str | None:
    return None if value is None else datetime.fromisoformat(str(value)).isoformat()
