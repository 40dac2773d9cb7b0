"""Rollouts as the events that the OpenReward platform takes (`POST /v1/rollouts`), and events as rollouts.

One event begins the rollout, one follows for each piece of a message, and one updates the facts that are known at the end. They
are the events that the official client sends; docs/how-to/coming-from-the-openreward-sdk.md lists the differences. The ids of the
events are derived from the rollout's id and their positions, so that the platform recognises repeats.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from openreward_gym.jsonio import Json, escape_surrogates, loads
from openreward_gym.platform.references import platform_fields, reasoning_of
from openreward_gym.types import (
    Block,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Role,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Task,
    TextBlock,
    ToolCall,
    ToolResult,
    codec,
    join_turns,
    task_id,
    with_origins,
)
from openreward_gym.types.rollout import moment_of, total_reward

SAMPLING = ("temperature", "top_p", "top_k", "max_tokens")
"""The sampling parameters in the platform's rollout info. Our records have them under the same names."""

# Our names of run info, and the platform's.
_RUN_INFO = {"name": "model_name", "type": "run_type", "algorithm": "rl_algorithm"}
_UPDATED_METADATA = ("num_compactions", "duration_ms", "harness")
# Fields of a message that go into the metadata of its last event, and those that go into the metadata of every event.
_SAMPLED_FIELDS = ("usage", "stop_reason", "model")
_LAST_FIELDS = ("is_error", "ended")
_EVERY_FIELDS = ("origin", "weight")
# The mark of an event whose text is a provider's part in JSON, not words.
_OPAQUE = "is_opaque"
# Blocks of which neighbours are one event.
_SHOWN = (TextBlock, ImageBlock, ToolResult)
_ROLES: Mapping[Json, Role] = {"user_message": "user", "system_message": "system", "assistant_message": "assistant"}


def events_of(
    rollout: Rollout, *, environment_id: str | None = None, variant_id: str | None = None, untimed_ms: int = 0
) -> Iterator[dict[str, Json]]:
    """Yield all events of `rollout`, in the order in which they must arrive.

    Images are named, not sent: the platform takes text. Token ids and log-probabilities stay in the record.

    Args:
        rollout: The record.
        environment_id, variant_id: The platform's ids. None if it has none.
        untimed_ms: The timestamp of events for which the record has no time, in milliseconds since 1970.
    """
    started_ms = _milliseconds(rollout.started_at) or untimed_ms
    yield _clean({**_rollout_event(rollout, environment_id, variant_id), "timestamp": started_ms})
    index = 0
    implied = with_origins([message.replace(origin=None) for message in rollout.messages])
    for message, guess in zip(rollout.messages, implied, strict=True):
        # An origin that the roles imply is not sent: the importer finds it again.
        for event in message_events(message.replace(origin=None) if message.origin == guess.origin else message):
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
    if info := _rollout_info(rollout):
        ended_ms = _milliseconds(rollout.ended_at) or started_ms
        update = {"eventId": event_id(rollout), "timestamp": ended_ms, "eventType": "rollout_update", "rollout_info": info}
        yield _clean(update)


def event_id(rollout: Rollout) -> str:
    """Return the platform's id of the rollout: its own id if that is a uuid, else one derived from it."""
    return str(_root(rollout))


def _root(rollout: Rollout) -> uuid.UUID:
    try:
        return uuid.UUID(rollout.id)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_OID, rollout.id.encode("utf-8", "backslashreplace").decode())


def _rollout_event(rollout: Rollout, environment_id: str | None, variant_id: str | None) -> dict[str, Json]:
    model = dict(rollout.model or {})
    if list(model) == ["name"] and model["name"] == (rollout.metadata or {}).get("model"):
        model = {}  # the metadata says it
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
        "metadata": _free_data(rollout),
        "task_spec": rollout.task.spec,
        "run_info": model or None,
        "step": rollout.step,
    }


def _free_data(rollout: Rollout) -> Json:
    """Return the rollout's metadata without what goes into its rollout info. None where nothing else is left."""
    if rollout.metadata is None or rollout.task.index is None:
        return rollout.metadata
    rest = {name: value for name, value in rollout.metadata.items() if name not in _UPDATED_METADATA}
    return rest if rest or not rollout.metadata else None


def _rollout_info(rollout: Rollout) -> dict[str, Json]:
    sampling = rollout.sampling or {}
    info = {
        "task_index": rollout.task.index,
        "current_step": rollout.step,
        "env_version": rollout.environment.server_version,
        **{name: sampling.get(name) for name in SAMPLING},
        **{name: (rollout.metadata or {}).get(name) for name in ("num_compactions", "harness")},
        "duration_ms": _duration_ms(rollout),
    }
    # The platform requires a task index in every such event.
    return {} if info["task_index"] is None else {name: value for name, value in info.items() if value is not None}


def _duration_ms(rollout: Rollout) -> Json:
    """Return the duration that the caller gave, else the one from the record's times; None if neither is known."""
    duration = (rollout.metadata or {}).get("duration_ms")
    if duration is not None:
        return duration
    return None if rollout.duration_s is None else round(rollout.duration_s * 1000)


def message_events(message: Message) -> list[dict[str, Json]]:
    """Return the events of one message: one for neighbouring texts and images, one for each other block.

    The reward, the end and the metadata are on the last of them. A message without content is one event with an empty text.
    """
    if message.role == "tool":
        content = "\n".join(map(_text_of, message.blocks))
        events: list[dict[str, Json]] = [{"type": "tool_result", "content": content, "callId": message.call_id}]
    else:
        groups = _pieces(message.blocks)
        events = [event for group in groups if (event := _piece_event(message.role, group)) is not None]
    events = events or [{"type": f"{message.role}_message", "content": ""}]
    common = {name: getattr(message, name) for name in _EVERY_FIELDS if getattr(message, name) is not None}
    for event in events:
        event |= {"isFinished": False, "metadata": {**event.get("metadata", {}), **common}}
    own = events[-1]["metadata"]
    events[-1] |= {"reward": message.reward, "isFinished": message.finished, "metadata": {**own, **_metadata(message)}}
    return events


def _pieces(blocks: Iterable[Block]) -> list[list[Block]]:
    """Return the blocks by their events: neighbouring texts and images are of one."""
    pieces: list[list[Block]] = []
    for block in blocks:
        if pieces and isinstance(block, _SHOWN) and isinstance(pieces[-1][-1], _SHOWN):
            pieces[-1].append(block)
        else:
            pieces.append([block])
    return pieces


def _piece_event(role: str, piece: list[Block]) -> dict[str, Json] | None:
    block = piece[0]
    if isinstance(block, ToolCall):
        arguments = block.content
        if arguments is None:
            arguments = json.dumps(block.arguments or {}, ensure_ascii=False, separators=(",", ":"))
        arguments = arguments if arguments.strip() else "{}"
        return {"type": "tool_call", "name": block.name, "content": arguments, "callId": block.call_id or None}
    if isinstance(block, ReasoningItem):
        content, summary, reference = platform_fields(block)
        return {"type": "reasoning", "content": content, "summary": summary, "contentReference": reference}
    if isinstance(block, OpaqueBlock):
        return {"type": f"{role}_message", "content": _text_of(block), "metadata": {_OPAQUE: True}}
    text = _text_of(block)
    for before, after in itertools.pairwise(piece):
        # The texts of one message are said in one go; a named image has a line of its own.
        both_texts = isinstance(before, TextBlock) and isinstance(after, TextBlock)
        text += _text_of(after) if both_texts or not text else "\n" + _text_of(after)
    return {"type": f"{role}_message", "content": text} if text else None


def _text_of(block: Block) -> str:
    if isinstance(block, TextBlock):
        return block.text
    if isinstance(block, ImageBlock):
        return f"[image {block.mime_type} {block.sha256}]" if block.sha256 else f"[image {block.mime_type}]"
    if isinstance(block, ToolResult):
        return "\n".join(map(_text_of, block.blocks))
    return json.dumps(codec.write(block), ensure_ascii=False)


def _metadata(message: Message) -> dict[str, Json]:
    metadata = message.metadata if isinstance(message.metadata, dict) else {"metadata": message.metadata}
    sampled = {} if message.sampled is None else codec.write(message.sampled)
    fields = {name: sampled[name] for name in _SAMPLED_FIELDS if name in sampled}
    fields |= {name: value for name in _LAST_FIELDS if (value := getattr(message, name))}
    return {**fields, **metadata}


def _milliseconds(time: str | None) -> int:
    """Return milliseconds since 1970. 0 for a missing time, or one that is not ISO 8601."""
    moment = moment_of(time)
    return 0 if moment is None else round(moment.timestamp() * 1000)


def _clean(value: Json, *, keep_none: bool = False) -> Json:
    """Return an event without None values, NUL characters and lone surrogates, which the platform does not store.

    None inside a list is a value, and is kept at every depth (`keep_none`).
    """
    if isinstance(value, str):
        return escape_surrogates(value.replace("\x00", ""))
    if isinstance(value, Mapping):
        kept = [(key, item) for key, item in value.items() if keep_none or item is not None]
        return {_clean(str(key)): _clean(item, keep_none=keep_none) for key, item in kept}
    if isinstance(value, (list, tuple)):
        return [_clean(item, keep_none=True) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def rollout_of(events: Iterable[Mapping[str, Json]]) -> Rollout:
    """Return the record of one rollout's events. Neighbouring reasoning, text and calls become one turn.

    Raises:
        ValueError: No event begins the rollout, or a field has a value of a wrong type.
    """
    begin: Mapping[str, Json] | None = None
    update: dict[str, Json] = {}
    pieces: list[Mapping[str, Json]] = []
    for event in events:
        kind = event.get("eventType")
        if kind == "rollout":
            begin = event
        elif kind == "rollout_update":
            update |= event.get("rollout_info") or {}
        elif kind == "message":
            pieces.append(event)
    if begin is None:
        raise ValueError("no event of type 'rollout': these events do not begin a rollout")
    messages = join_turns([message_of_event(event) for event in sorted(pieces, key=lambda event: event.get("index", 0))])
    reward, final_reward = total_reward(messages)
    finished = any(message.finished for message in messages)
    times = [message.ended_at for message in messages if message.ended_at]
    name, split, spec = begin.get("environment") or "", begin.get("split"), begin.get("task_spec")
    variant, index = begin.get("variant"), update.get("task_index")
    return Rollout(
        id=begin["eventId"],
        run=begin.get("runName") or "",
        name=begin.get("rolloutName") or "",
        environment=RolloutEnvironment(name=name, variant=variant, split=split, server_version=update.get("env_version")),
        task=Task(index=index, spec=spec, id=task_id(name, split, spec, index, variant)),
        step=begin.get("step") if begin.get("step") is not None else update.get("current_step"),
        model=_our_names(begin.get("run_info")),
        sampling={key: update[key] for key in SAMPLING if key in update} or None,
        messages=messages,
        reward=reward,
        final_reward=final_reward,
        status="completed" if finished else "truncated",
        stop_reason="finished" if finished else "",
        started_at=_iso(begin.get("timestamp")),
        ended_at=times[-1] if times else None,
        metadata={**(begin.get("metadata") or {}), **{key: update[key] for key in _UPDATED_METADATA if key in update}} or None,
    )


def _our_names(run_info: Json) -> Json:
    """Return the platform's run info under our names; a name of ours that is already there stays."""
    if not isinstance(run_info, Mapping):
        return run_info
    ours = {theirs: name for name, theirs in _RUN_INFO.items() if name not in run_info}
    return {ours.get(name, name): value for name, value in run_info.items()}


def message_of_event(event: Mapping[str, Json]) -> Message:
    """Return the message of one event, or raise ValueError for a field with a value of a wrong type."""
    kind, value = event.get("type"), event.get("content")
    content = value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    metadata = dict(event.get("metadata") or {})
    fields: dict[str, Any] = {name: metadata.pop(name) for name in (*_EVERY_FIELDS, *_LAST_FIELDS) if name in metadata}
    is_opaque = metadata.pop(_OPAQUE, False)
    sampled = {name: metadata.pop(name) for name in _SAMPLED_FIELDS if name in metadata}
    fields |= {"sampled": codec.read_as(Sampled, sampled) if sampled else None, "metadata": metadata or None}
    fields |= {
        "reward": _number(event.get("reward")),
        "finished": bool(event.get("isFinished")),
        "ended_at": _iso(event.get("timestamp")),
    }
    if kind == "tool_call":
        call = ToolCall(event.get("name") or "", call_id=event.get("callId") or "", content=content or "")
        return Message("assistant", (call,), **fields)
    if kind == "reasoning":
        thought = reasoning_of(content, event.get("summary"), event.get("contentReference"))
        return Message("assistant", (thought,), **fields)
    blocks: tuple[Block, ...] = (TextBlock(content),) if content else ()
    if is_opaque and content and isinstance(part := loads(content), dict):
        blocks = (OpaqueBlock(part),)
    if kind == "tool_result":
        return Message("tool", blocks, call_id=event.get("callId"), **fields)
    return Message(_ROLES.get(kind, "user"), blocks, **fields)


def _number(reward: Json) -> Json:
    """Return a reward; NaN and the infinities are texts in events."""
    return float(reward) if reward in ("nan", "inf", "-inf") else reward


def _iso(milliseconds: Json) -> str | None:
    if not isinstance(milliseconds, (int, float)) or isinstance(milliseconds, bool) or not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="microseconds")
