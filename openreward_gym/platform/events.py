"""A rollout as the events the OpenReward platform takes (`POST /v1/rollouts`), and back.

One event begins the rollout, one follows for each thing that was said, and one updates what is known at the end. Their
ids are made from the rollout's id and their position, so the same rollout always gives the same events: what is sent
twice is recognised.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from openreward_gym.recording.turns import joined
from openreward_gym.types import Json
from openreward_gym.types.conversion import total_reward
from openreward_gym.types.rollout import (
    EnvironmentRecord,
    ImagePart,
    MessageRecord,
    Part,
    ReasoningPart,
    Rollout,
    TaskRecord,
    TextPart,
    TokenUsage,
    ToolCallPart,
    moment_of,
    task_id,
)

SAMPLING = ("temperature", "top_p", "top_k", "max_tokens")
"""What the platform's rollout info has of sampling, under the names that our records use, too."""

# What our records call it, and what the platform does.
_RUN_INFO = {"name": "model_name", "type": "run_type", "algorithm": "rl_algorithm"}
_ROLLOUT_INFO = ("env_version", "num_compactions", "duration_ms", "harness")
_MESSAGE_FIELDS = ("usage", "stop_reason", "model", "is_error")


def events_of(
    rollout: Rollout, *, environment_id: str | None = None, variant_id: str | None = None, untimed_ms: int = 0
) -> Iterator[dict[str, Json]]:
    """All events of `rollout`, in the order in which they must arrive.

    Images are named, not sent: the platform takes text. Token ids and log-probabilities stay in the record.

    Args:
        rollout: The record.
        environment_id: The platform's id of the environment; None where it has none.
        variant_id: The platform's id of the variant; likewise.
        untimed_ms: The timestamp of events of which the record has no time, in milliseconds since 1970.
    """
    started_ms = _milliseconds(rollout.started_at) or untimed_ms
    yield _clean({**_rollout_event(rollout, environment_id, variant_id), "timestamp": started_ms})
    index = 0
    for message in rollout.messages:
        for event in message_events(message):
            common = {
                "eventId": str(uuid.uuid5(_root(rollout), str(index))),
                "timestamp": _milliseconds(message.ended_at) or _milliseconds(message.started_at) or started_ms,
                "eventType": "message",
                "index": index,
                "rolloutEventId": event_id(rollout),
                "environment_id": environment_id,
            }
            yield _clean({**common, **event})
            index += 1
    info = _rollout_info(rollout)
    if info:
        yield _clean(
            {
                "eventId": event_id(rollout),
                "timestamp": _milliseconds(rollout.ended_at) or started_ms,
                "eventType": "rollout_update",
                "rollout_info": info,
            }
        )


def event_id(rollout: Rollout) -> str:
    """The id under which the platform knows the rollout: its own where that is a uuid."""
    return str(_root(rollout))


def _root(rollout: Rollout) -> uuid.UUID:
    try:
        return uuid.UUID(rollout.id)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_OID, rollout.id.encode("utf-8", "backslashreplace").decode())


def _rollout_event(rollout: Rollout, environment_id: str | None, variant_id: str | None) -> dict[str, Json]:
    model = dict(rollout.model or {})
    for ours, theirs in _RUN_INFO.items():
        if ours in model and theirs not in model:
            model[theirs] = model.pop(ours)
    return {
        "eventId": event_id(rollout),
        "eventType": "rollout",
        "runName": rollout.run,
        "rolloutName": rollout.name or None,
        "environment": rollout.environment.name or None,
        "environment_id": environment_id,
        "variant": rollout.environment.variant,
        "variant_id": variant_id,
        "split": rollout.environment.split,
        "metadata": rollout.metadata,
        "task_spec": rollout.task.spec,
        "run_info": model or None,
        "step": rollout.step,
    }


def _rollout_info(rollout: Rollout) -> dict[str, Json]:
    sampling = rollout.sampling or {}
    info = {
        "task_index": rollout.task.index,
        "current_step": rollout.step,
        "env_version": rollout.environment.server_version,
        **{name: sampling.get(name) for name in SAMPLING},
        **{name: (rollout.metadata or {}).get(name) for name in ("num_compactions", "harness")},
        "duration_ms": None if rollout.duration_s is None else round(rollout.duration_s * 1000),
    }
    # The platform wants a task's index in every such event.
    return {} if info["task_index"] is None else {name: value for name, value in info.items() if value is not None}


def message_events(message: MessageRecord) -> list[dict[str, Json]]:
    """What was said in one message, a part an event; the reward, the end and the metadata are on the last of them."""
    if message.role == "tool":
        content = "\n".join(_shown(part) for part in message.blocks)
        events: list[dict[str, Json]] = [{"type": "tool_result", "content": content, "callId": message.tool_call_id}]
    else:
        events = [event for part in message.blocks if (event := _part_event(message.role, part)) is not None]
    ends = message.reward is not None or message.finished
    if not events and (ends or message.metadata):
        events = [{"type": f"{message.role}_message", "content": ""}]
    for event in events:
        event |= {"isFinished": False, "metadata": {}}
    if events:
        events[-1] |= {"reward": message.reward, "isFinished": message.finished, "metadata": _metadata(message)}
    return events


def _part_event(role: str, part: Part) -> dict[str, Json] | None:
    if isinstance(part, ToolCallPart):
        text = part.input_text
        if text is None:
            text = json.dumps(part.input or {}, ensure_ascii=False, separators=(",", ":"))
        return {"type": "tool_call", "name": part.name, "content": text if text.strip() else "{}", "callId": part.id or None}
    if isinstance(part, ReasoningPart):
        reference = part.reference if part.reference is not None else part.signature
        return {"type": "reasoning", "content": part.text, "summary": part.summary, "contentReference": reference}
    text = _shown(part)
    return {"type": f"{role}_message", "content": text} if text else None


def _shown(part: Part) -> str:
    """A part as text."""
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, ImagePart):
        return f"[image {part.mime_type} {part.sha256}]" if part.sha256 else f"[image {part.mime_type}]"
    data = part.model_dump(by_alias=True)
    refusal = data.get("refusal")
    return refusal if isinstance(refusal, str) else json.dumps(data, ensure_ascii=False)


def _metadata(message: MessageRecord) -> dict[str, Json]:
    metadata = message.metadata if isinstance(message.metadata, dict) else {"metadata": message.metadata}
    told = message.model_dump(include=set(_MESSAGE_FIELDS), exclude_defaults=True)
    return {**told, **metadata}


def _milliseconds(time: str | None) -> int:
    """Milliseconds since 1970; 0 where the record does not say or says it in another form than ISO 8601."""
    moment = moment_of(time)
    return 0 if moment is None else round(moment.timestamp() * 1000)


def _clean(event: Mapping[str, Json]) -> dict[str, Json]:
    """Without None values, NUL characters and lone surrogates, which the platform does not store."""
    cleaned: dict[str, Json] = _cleaned(event)
    return cleaned


def _cleaned(value: Json) -> Json:
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_cleaned(str(key)): _cleaned(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def rollout_of(events: Iterable[Mapping[str, Json]]) -> Rollout:
    """The record that one rollout's events tell, as far as they tell it.

    Reasoning, text and calls that follow each other are one turn, as they are in a log of the platform.

    Raises:
        ValueError: There is no event that begins the rollout.
    """
    begin: Mapping[str, Json] | None = None
    update: dict[str, Json] = {}
    said: list[Mapping[str, Json]] = []
    for event in events:
        kind = event.get("eventType")
        if kind == "rollout":
            begin = event
        elif kind == "rollout_update":
            update |= event.get("rollout_info") or {}
        elif kind == "message":
            said.append(event)
    if begin is None:
        raise ValueError("no event of type 'rollout': these events do not begin a rollout")
    messages = joined([message_of_event(event) for event in sorted(said, key=lambda event: event.get("index", 0))])
    reward, final_reward = total_reward(message.reward for message in messages)
    finished = any(message.finished for message in messages)
    times = [message.ended_at for message in messages if message.ended_at]
    name, split, spec = begin.get("environment") or "", begin.get("split"), begin.get("task_spec")
    variant, index = begin.get("variant"), update.get("task_index")
    return Rollout(
        id=begin["eventId"],
        run=begin.get("runName") or "",
        name=begin.get("rolloutName") or "",
        environment=EnvironmentRecord(name=name, variant=variant, split=split, server_version=update.get("env_version")),
        task=TaskRecord(id=task_id(name, split, spec, index, variant), index=index, spec=spec),
        step=begin.get("step") if begin.get("step") is not None else update.get("current_step"),
        model=begin.get("run_info"),
        sampling={key: update[key] for key in SAMPLING if key in update} or None,
        messages=messages,
        reward=reward,
        final_reward=final_reward,
        status="completed" if finished else "truncated",
        stop_reason="finished" if finished else "",
        started_at=_iso(begin.get("timestamp")),
        ended_at=times[-1] if times else None,
        metadata={**(begin.get("metadata") or {}), **{key: update[key] for key in _ROLLOUT_INFO[1:] if key in update}} or None,
    )


def message_of_event(event: Mapping[str, Json]) -> MessageRecord:
    """The message one event tells."""
    kind, given = event.get("type"), event.get("content")
    content = given if given is None or isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    metadata = dict(event.get("metadata") or {})
    fields: dict[str, Any] = {key: metadata.pop(key) for key in _MESSAGE_FIELDS if key in metadata}
    if isinstance(fields.get("usage"), dict):
        fields["usage"] = TokenUsage.model_validate(fields["usage"])
    fields |= {"reward": event.get("reward"), "finished": bool(event.get("isFinished")), "ended_at": _iso(event.get("timestamp"))}
    fields["metadata"] = metadata or None
    if kind == "tool_call":
        call = ToolCallPart(id=event.get("callId") or "", name=event.get("name") or "", input_text=content or "")
        call.input = _object(content)
        return MessageRecord(role="assistant", blocks=[call], **fields)
    if kind == "reasoning":
        thought = ReasoningPart(text=content, summary=event.get("summary"), reference=event.get("contentReference"))
        return MessageRecord(role="assistant", blocks=[thought], **fields)
    blocks: list[Part] = [TextPart(text=content)] if content else []
    if kind == "tool_result":
        return MessageRecord(role="tool", blocks=blocks, tool_call_id=event.get("callId"), **fields)
    roles: dict[Any, Any] = {"user_message": "user", "system_message": "system", "assistant_message": "assistant"}
    return MessageRecord(role=roles.get(kind, "user"), blocks=blocks, **fields)


def _object(text: Json) -> dict[str, Json] | None:
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _iso(milliseconds: Json) -> str | None:
    if not isinstance(milliseconds, (int, float)) or isinstance(milliseconds, bool) or not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="microseconds")
