"""Logs of the UK AI Security Institute's Inspect (`.eval` or `.json`), read through its own library, a sample at a time.

Texts and media that a log keeps beside its messages (`attachment://`) are put back. Images become image blocks; documents,
audio and video are kept as opaque blocks. What a message does not say of its turn (usage, stop reason, model, duration) and
the tools and sampling parameters are read from the sample's model events, which are joined by the message's id. Of other
events nothing is kept.

Origin: Inspect marks a message's `source`. Assistant messages that were generated are the policy's, and those of the input
are given. Without a mark an assistant message is the policy's if it names its model; if no assistant message of the sample
has a mark or a model, their origin is unknown. Messages before the policy's first are given; tools and users after it are
the environment.

Samples of `openreward_gym.integrations.inspect` carry in their metadata what Inspect has no field for: the record without its
messages, the last messages where a limit kept them out of the log, and of each message the origin, the reward and whether it
ended the episode. These are taken as they are.

End: a sample that reached one of Inspect's limits is `truncated`, with the limit as the stop reason. A turn has the stop
reason of its own model event; a turn whose call Inspect could not parse is `malformed`.

Environment: samples of inspect-openreward name the OpenReward environment, split and task in their metadata. Others have the
name of Inspect's task. The identity of a task includes the task's registry name or file, the dataset and the sample.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from openreward_gym.chat.dialect import ended_of, image_of_url, opaque, tool_call, total
from openreward_gym.chat.plain import number, plain, rest_of
from openreward_gym.errors import MissingExtraError
from openreward_gym.importers.archives import Archive
from openreward_gym.importers.jsonl import checked, files_of
from openreward_gym.importers.reasons import UNREADABLE, reason_of
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Message,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Status,
    Task,
    TextBlock,
    ToolMessage,
    ToolSpec,
    Usage,
    as_blocks,
    task_id,
    with_origins,
)

# The letters of Inspect's scorers.
_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_ENDINGS = (".eval", ".json")
_SAMPLES = "samples/"
_ATTACHMENT = "attachment://"
_PARSE_ERROR = re.compile(r"Error parsing the following tool call arguments:\n\n(.*)\n\nError details: ", re.DOTALL)
MARK = "openreward_gym"
"""Key of a sample's metadata, and of a message's, under which `openreward_gym.integrations.inspect` keeps parts of its record."""
MARKED = ("origin", "reward", "finished", "is_error", "name", "call_id", "started_at", "ended_at", "metadata")
"""Fields of a message that its mark may have. A mark has them all: one that is missing is at its default."""
DETAILS = "details"
"""Key in the mark of a message: the `detail` of each of its blocks, if any block has one."""
_MARKED_RECORD = (
    "id",
    "environment",
    "task",
    "group",
    "sample",
    "attempt",
    "name",
    "tools",
    "terminal_tool",
    "reward",
    "final_reward",
    "status",
    "stop_reason",
    "error",
    "seed",
    "versions",
    "redacted",
)
_OWN = ("messages", "events", "events_data", "attachments", "output", "input", "timelines")


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """Yield the samples of a log, or of all logs in a folder, by name; raise MissingExtraError without Inspect's library."""
    try:
        library = importlib.import_module("inspect_ai.log")
    except ImportError:
        raise MissingExtraError("reading Inspect's logs needs its library: pip install inspect_ai") from None
    # Inspect's names begin with the time: other JSON files of a folder are no logs.
    for file in files_of(path, "no .eval log there", ("**/*.eval", "**/[0-9]*T[0-9]*_*.json")):
        yield from _read_log(library, file)


def _read_log(library: Any, file: Path) -> Iterator[Rollout | Damage]:
    try:
        archive = Archive(file) if file.suffix == ".eval" else None
        for name in archive.names if archive is not None else ():
            reason = archive.reason_against(name) if archive is not None and not name.startswith(_SAMPLES) else None
            if reason is not None:
                yield Damage(0, reason, str(file))
                return
        header = plain(library.read_eval_log(str(file), header_only=True))
        summaries = library.read_eval_log_sample_summaries(str(file))
    except Exception as error:  # the library raises any error at a file that is not a log
        reason = f"its library says {_words(error)}" if file.suffix in _ENDINGS else f"their names end in {' or '.join(_ENDINGS)}"
        yield Damage(0, f"not a log of Inspect: {reason}"[:500], str(file))
        return
    for position, summary in enumerate(summaries, 1):
        try:
            member = f"{_SAMPLES}{summary.id}_epoch_{summary.epoch}.json"
            reason = archive.reason_against(member) if archive is not None else None
            if reason is not None:
                yield Damage(position, reason, str(file))
                continue
            sample = library.read_eval_log_sample(str(file), id=summary.id, epoch=summary.epoch)
            rollout = checked(rollout_of(plain(sample), header))
        except (OSError, *UNREADABLE) as error:
            yield Damage(position, reason_of(error), str(file))
        except Exception as error:  # the library raises any error at a member that is damaged or encrypted
            yield Damage(position, f"its library says {_words(error)}"[:500], str(file))
        else:
            yield rollout


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def rollout_of(sample: Mapping[str, Json], header: Mapping[str, Json]) -> Rollout:
    """Return the rollout of one sample. Its scores are metrics, and its first score with a number is the reward.

    The reward of a sample of inspect-openreward is the environment's last one.
    """
    evaluation, attachments = header.get("eval") or {}, sample.get("attachments") or {}
    events = _model_events(sample.get("events") or ())
    messages = _messages(_resolve(sample.get("messages") or [], attachments), sample.get("output") or {}, events)
    scores = dict(_scores(sample.get("scores") or {}))
    bridge = _bridge(sample, evaluation)
    reward = bridge.reward if bridge.reward is not None else next((v for v in scores.values() if v is not None), None)
    status, stop_reason = _ending(sample, messages, bridge.finished)
    own = (sample.get("metadata") or {}).get(MARK)
    if messages and reward is not None and own is None:
        is_end = status == "completed" if bridge.finished is None else bridge.finished
        messages[-1] = messages[-1].replace(reward=reward, finished=is_end)
    spec = (
        bridge.spec if bridge.spec is not None else {"id": sample.get("id"), "input": _digest(sample.get("input"), attachments)}
    )
    identity = bridge.spec if bridge.spec is not None else {**spec, "source": _source_of(evaluation, sample, messages)}
    task = task_id(bridge.name, bridge.split, identity, variant=bridge.variant)
    error = sample.get("error")
    invalidation = sample.get("invalidation")
    turns = [events[item["id"]] for item in sample.get("messages") or () if item.get("id") in events]
    rollout = Rollout(
        id=str(sample.get("uuid") or f"{evaluation.get('run_id')}-{sample.get('id')}-{sample.get('epoch')}"),
        run=str(evaluation.get("run_id") or ""),
        name=f"{sample.get('id')}",
        environment=RolloutEnvironment(name=bridge.name, variant=bridge.variant, split=bridge.split),
        task=Task(spec=spec, index=bridge.index, id=task, golden_answer=sample.get("target")),
        group=task,
        sample=sample.get("epoch"),
        discard_reason=f"invalidated: {invalidation.get('reason') or ''}".strip(": ") if invalidation else None,
        model={"name": evaluation["model"]} if evaluation.get("model") else None,
        sampling=_sampling(evaluation, turns),
        tools=_tools(turns or list(events.values())),
        messages=messages,
        reward=reward,
        final_reward=reward,
        metrics=scores or None,
        status=status,
        stop_reason=stop_reason,
        error=None if not error else str(error.get("message")),
        started_at=_time(sample.get("started_at")),
        ended_at=_time(sample.get("completed_at")),
        usage=_usage((sample.get("model_usage") or {}).values()),
        cost_usd=_cost((sample.get("model_usage") or {}).values()),
        metadata={
            "inspect": {
                **_resolve(
                    rest_of({**sample, "metadata": rest_of(sample.get("metadata") or {}, MARK) or None}, *_OWN), attachments
                ),
                "eval": _facts(evaluation),
            }
        },
    )
    if own is None:
        return rollout
    # The numbers of the record are the environment's; Inspect's scores stay metrics.
    record = Rollout.from_dict(_resolve(own, attachments))
    rollout.messages += record.messages
    return replace(rollout, **{name: getattr(record, name) for name in _MARKED_RECORD})


@dataclass(frozen=True)
class _Bridge:
    """The environment, task and end of a sample; of an evaluation without OpenReward, those of Inspect's task."""

    name: str
    variant: str | None = None
    split: str | None = None
    spec: Mapping[str, Json] | None = None
    index: int | None = None
    reward: float | None = None
    finished: bool | None = None


def _bridge(sample: Mapping[str, Json], evaluation: Mapping[str, Json]) -> _Bridge:
    """Return what the metadata of inspect-openreward says: one object in newer versions, fields with `or_` in older ones."""
    metadata = sample.get("metadata") or {}
    task = metadata.get("openreward_task")
    if not isinstance(task, Mapping):
        fields = ("server_name", "environment_name", "task_spec", "namespace")
        task = {name: metadata[f"or_{name}"] for name in fields if metadata.get(f"or_{name}") is not None}
    arguments, dataset = evaluation.get("task_args") or {}, str((evaluation.get("dataset") or {}).get("name") or "")
    _, named, rest = dataset.partition("openreward:")
    deployment, _, dataset_split = rest.rpartition(":")
    if not task and not named:
        return _Bridge(_task_name(evaluation))
    server, inner = str(task.get("server_name") or deployment), str(task.get("environment_name") or "")
    if task.get("namespace") and "/" not in server:
        server = f"{task['namespace']}/{server}"
    split = metadata.get("openreward_split") or dataset_split or arguments.get("split")
    reward = metadata.get("openreward_reward", metadata.get("or_reward"))
    finished = metadata.get("openreward_finished", metadata.get("or_finished"))
    position = str(sample.get("id")).rpartition("-")[2]  # "test-3", in older versions "3"
    is_variant = bool(server) and inner.lower() not in ("", server.lower(), server.rpartition("/")[2].lower())
    return _Bridge(
        name=server or inner or str(arguments.get("environment") or _task_name(evaluation)),
        variant=inner if is_variant else None,
        split=str(split) if split else None,
        spec=task["task_spec"] if isinstance(task.get("task_spec"), Mapping) else None,
        index=int(position) if position.isascii() and position.isdigit() and len(position) < 19 else None,
        reward=_number(reward),
        finished=finished if isinstance(finished, bool) else None,
    )


def _task_name(evaluation: Mapping[str, Json]) -> str:
    """Return the name of Inspect's task; one without a name is called by its registry name, dataset or file."""
    name, dataset = str(evaluation.get("task") or ""), evaluation.get("dataset") or {}
    if name not in ("", "task"):
        return name
    file = Path(str(evaluation.get("task_file") or "")).stem
    return str(evaluation.get("task_registry_name") or dataset.get("name") or file or name)


def _source_of(evaluation: Mapping[str, Json], sample: Mapping[str, Json], messages: Sequence[Message]) -> dict[str, Json]:
    """Return what tells a sample from one of another evaluation that has the same id and input."""
    dataset = evaluation.get("dataset") or {}
    source = {
        "task": evaluation.get("task_registry_name")
        or Path(str(evaluation.get("task_file") or "")).name
        or evaluation.get("task"),
        "dataset": dataset.get("name") or Path(str(dataset.get("location") or "")).name,
    }
    if sample.get("input"):
        return source
    # A solver wrote the prompt: the sample's own input says nothing.
    prompt = next((message.text for message in messages if message.role == "user" and message.origin == "given"), "")
    return {**source, "task_args": evaluation.get("task_args"), "prompt": prompt}


def _facts(evaluation: Mapping[str, Json]) -> dict[str, Json]:
    """Return what is kept of the evaluation with each of its samples: not the ids of all others."""
    dataset = rest_of(evaluation.get("dataset") or {}, "sample_ids")
    return rest_of({**evaluation, "dataset": dataset or None}, "config", "scorers", "metrics", "viewer")


def _ending(sample: Mapping[str, Json], messages: Sequence[Message], finished: bool | None) -> tuple[Status, str]:
    limit = sample.get("limit")
    if sample.get("error"):
        return "error", ""
    if limit:
        return "truncated", str(limit.get("type") or "limit")
    is_answer = bool(messages) and messages[-1].role == "assistant" and not messages[-1].tool_calls
    return "completed", "message" if is_answer and not finished else "finished"


def _model_events(events: Iterable[Json]) -> dict[str, Mapping[str, Json]]:
    """Return the calls of models that were answered, by the id of the answer."""
    answered: dict[str, Mapping[str, Json]] = {}
    for event in events:
        output = event.get("output") if event.get("event") == "model" else None
        choices = (output or {}).get("choices")
        if choices and choices[0]["message"].get("id"):
            answered[choices[0]["message"]["id"]] = event
    return answered


def _tools(events: Iterable[Mapping[str, Json]]) -> list[ToolSpec] | None:
    """Return the tools that the model was given in any of its calls."""
    tools: dict[str, ToolSpec] = {}
    for event in events:
        for tool in event.get("tools") or ():
            spec = ToolSpec(tool["name"], tool.get("description") or "", tool.get("parameters"))
            tools.setdefault(spec.name, spec)
    return list(tools.values()) or None


def _sampling(evaluation: Mapping[str, Json], events: Sequence[Mapping[str, Json]]) -> dict[str, Json] | None:
    """Return the parameters of the last call; those of the evaluation where its calls are not known."""
    config = {**(evaluation.get("model_generate_config") or {}), **((events[-1].get("config") or {}) if events else {})}
    return rest_of(config) or None


def _messages(
    items: Sequence[Mapping[str, Json]], output: Mapping[str, Json], events: Mapping[str, Mapping[str, Json]]
) -> list[Message]:
    messages = [_message(item) for item in items]
    turns = [position for position, message in enumerate(messages) if message.role == "assistant"]
    for position in turns:
        if event := events.get(items[position].get("id") or ""):
            messages[position] = _with_report(messages[position], event["output"], event)
    if turns and turns[-1] < len(messages) and items[turns[-1]].get("id") not in events and _is_output(items[turns[-1]], output):
        messages[turns[-1]] = _with_report(messages[turns[-1]], output, {})
    if any(messages[turn].origin is not None for turn in turns):
        return with_origins(messages, lambda message: False)
    first = turns[0] if turns else len(messages)
    return [
        message if message.role == "assistant" else message.replace(origin="given" if position < first else "environment")
        for position, message in enumerate(messages)
    ]


def _is_output(item: Mapping[str, Json], output: Mapping[str, Json]) -> bool:
    """Return whether the sample's output, which is its last answer, is the answer of a message."""
    answer = ((output.get("choices") or [{}])[0]).get("message") or {}
    ids = item.get("id"), answer.get("id")
    return bool(output) and item.get("source") != "input" and (None in ids or ids[0] == ids[1])


def _with_report(message: Message, output: Mapping[str, Json], event: Mapping[str, Json]) -> Message:
    """Return a turn with what its model call tells of it."""
    choice = (output.get("choices") or [{}])[0]
    stop_reason, usage = choice.get("stop_reason"), output.get("usage")
    duration = event.get("working_time", output.get("time"))
    kept = rest_of(output, "choices", "usage", "model", "completion", "time")
    kept |= rest_of({"logprobs": choice.get("logprobs"), "cache": event.get("cache"), "retries": event.get("retries")})
    sampled = replace(
        message.sampled or Sampled(),
        usage=_usage([usage]),
        stop_reason=stop_reason,
        model=output.get("model") or event.get("model") or (message.sampled.model if message.sampled else None),
        cost_usd=_cost([usage]),
        duration_s=duration,
        metadata={"inspect": kept} if kept else None,
    )
    return message.replace(
        sampled=None if sampled == Sampled() else sampled,
        ended=message.ended or ended_of(stop_reason, message.blocks),
        started_at=_time(event.get("timestamp")),
        ended_at=_time(event.get("completed")),
    )


def message_of(data: Mapping[str, Json], output: Mapping[str, Json] | None = None) -> Message:
    """Return a message of Inspect's, given as JSON values, as ours.

    Args:
        data: The message.
        output: The model's output that holds it, for an assistant's message. None if it is not known.

    Example:
        >>> data = {"role": "assistant", "content": "Hi", "source": "generate"}
        >>> message_of(data, {"choices": [{"stop_reason": "max_tokens"}]}).ended
        'length'
    """
    message = _message(data)
    return message if output is None else _with_report(message, output, {})


def _message(data: Mapping[str, Json]) -> Message:
    message, mark = _unmarked(data), (data.get("metadata") or {}).get(MARK)
    if not isinstance(mark, Mapping):
        return message
    defaults = {"is_error": False, "finished": False}
    blocks, details = message.blocks, mark.get(DETAILS)
    if isinstance(details, list) and len(details) == len(blocks):
        blocks = tuple(_detailed(block, detail) for block, detail in zip(blocks, details, strict=True))
    return message.replace(blocks=blocks, **{name: mark.get(name, defaults.get(name)) for name in MARKED})


def _detailed(block: Block, detail: Json) -> Block:
    return replace(block, detail=detail) if isinstance(block, TextBlock | ImageBlock) else block


def _unmarked(data: Mapping[str, Json]) -> Message:
    role, content, source = data["role"], data.get("content"), data.get("source")
    blocks = [_block(part) for part in content] if isinstance(content, list) else list(as_blocks(content or ""))
    kept = rest_of({"metadata": data.get("metadata"), "error": data.get("error")})
    metadata = {"inspect": kept} if kept else None
    if role == "tool":
        error = data.get("error")
        if error and not blocks:
            blocks = [TextBlock(str(error.get("message") or ""))]
        call_id = data.get("tool_call_id") or ""
        return ToolMessage(blocks, call_id, data.get("function"), bool(error), metadata=metadata)
    if role != "assistant":
        return Message(role, tuple(blocks), origin="given" if source == "input" else None, metadata=metadata)
    items = data.get("tool_calls") or ()
    calls = [tool_call(call["function"], _arguments(call), call.get("id"), _call_extra(call)) for call in items]
    is_generated = source == "generate" or (source is None and bool(data.get("model")))
    is_refused = isinstance(content, list) and any(part.get("refusal") for part in content)
    return AssistantMessage(
        blocks,
        calls,
        sampled=Sampled(model=data["model"]) if data.get("model") else None,
        origin="policy" if is_generated else "given" if source == "input" else None,
        ended="malformed" if any(call.get("parse_error") for call in items) else "refusal" if is_refused else None,
        metadata=metadata,
    )


def _arguments(call: Mapping[str, Json]) -> Json:
    """Return a call's arguments: the text as the model wrote it where Inspect could not parse it."""
    error = call.get("parse_error")
    if not error:
        return call.get("arguments")
    written = _PARSE_ERROR.match(str(error))
    return written.group(1) if written else ""


def _call_extra(call: Mapping[str, Json]) -> dict[str, Json]:
    rest = rest_of(call, "id", "function", "arguments", "type")
    return {"inspect": rest} if rest else {}


def _block(part: Mapping[str, Json]) -> Block:
    kind = part.get("type")
    if kind == "text":
        rest = rest_of(part, "type", "text")
        return TextBlock(part["text"], extra={"inspect": rest} if rest else {})
    if kind == "reasoning":
        text, is_hidden = part.get("reasoning"), bool(part.get("redacted"))
        return ReasoningItem(None if is_hidden else text, text if is_hidden else None, part.get("summary"), part.get("signature"))
    if kind == "image":
        rest = rest_of(part, "type", "image", *(["detail"] if part.get("detail") == "auto" else []))
        return image_of_url(part.get("image"), {"inspect": rest} if rest else {}) or opaque(part)
    return opaque(part)


def _resolve(value: Json, attachments: Mapping[str, Json]) -> Any:
    """Return a value with the texts and media that its references name. A reference to nothing stays as it is."""
    if isinstance(value, str):
        content = attachments.get(value.removeprefix(_ATTACHMENT)) if value.startswith(_ATTACHMENT) else None
        return content if isinstance(content, str) else value
    if isinstance(value, Mapping):
        return {name: _resolve(item, attachments) for name, item in value.items()}
    return [_resolve(item, attachments) for item in value] if isinstance(value, list) else value


def _digest(value: Json, attachments: Mapping[str, Json]) -> Json:
    """Return a sample's input as part of a task: its media, which the messages have, by their hashes."""
    value = _resolve(value, attachments)
    if isinstance(value, str) and value.startswith("data:"):
        return f"sha256:{hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()}"
    if isinstance(value, Mapping):
        # Ids of messages are new in each log.
        return {name: _digest(item, {}) for name, item in value.items() if name != "id"}
    return [_digest(item, {}) for item in value] if isinstance(value, list) else value


def _scores(scores: Mapping[str, Json]) -> Iterator[tuple[str, float | None]]:
    """Yield the scores as numbers; those of a scorer with several values by scorer and name."""
    for name, score in scores.items():
        value = (score or {}).get("value")
        if isinstance(value, Mapping):
            yield from ((f"{name}/{key}", _number(item)) for key, item in value.items())
        elif isinstance(value, list):
            yield from ((f"{name}/{position}", _number(item)) for position, item in enumerate(value))
        else:
            yield name, _number(value)


def _number(value: Json) -> float | None:
    """Return a score as a number; None for other text and for NaN, with which Inspect marks what was not scored."""
    if isinstance(value, str):
        return _GRADES.get(value)
    return float(value) if isinstance(value, (int, float)) and not math.isnan(value) else None


def _usage(usages: Iterable[Json]) -> Usage | None:
    known = [usage for usage in usages if usage]
    names = ("input_tokens", "output_tokens", "input_tokens_cache_read", "reasoning_tokens")
    sums = [total(*(usage.get(name) for usage in known)) for name in names]
    return Usage(sums[0], sums[1], sums[2], sums[3]) if known else None


def _cost(usages: Iterable[Json]) -> float | None:
    costs = [number(usage, "total_cost") for usage in usages]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None


def _time(value: Json) -> str | None:
    return None if value is None else datetime.fromisoformat(str(value)).isoformat()
