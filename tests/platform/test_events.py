from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_strategies import EXAMPLES, rollouts

from openreward_gym.platform.events import event_id, events_of, rollout_of
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
    task_id,
    with_origins,
)
from openreward_gym.types.rollout import total_reward

plain_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
values = st.integers() | st.booleans() | plain_texts
objects = st.dictionaries(plain_texts, values, max_size=2)
filled_objects = st.dictionaries(plain_texts, values, min_size=1, max_size=2)
times = st.integers(10**11, 4 * 10**12).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="microseconds"))


@st.composite
def messages_events_can_carry(draw: st.DrawFn) -> Message:
    """Draw a text of the user or system, a tool's result, or a turn of reasoning, a text and calls; its metadata closes it."""
    metadata = {"n": draw(st.integers())}
    rewards = st.none() | st.floats(allow_nan=False, allow_infinity=False)
    ends: dict[str, Any] = {"reward": draw(rewards), "finished": draw(st.booleans())}
    role: Any = draw(st.sampled_from(["user", "system", "tool", "assistant"]))
    text = TextBlock(text=draw(plain_texts))
    if role != "assistant":
        call_id = draw(st.none() | plain_texts) if role == "tool" else None
        return Message(role=role, blocks=(text,), call_id=call_id, ended_at=draw(times), metadata=metadata, **ends)
    blocks: list[Any] = [
        ReasoningItem(
            content=draw(plain_texts), summary=draw(st.none() | plain_texts), content_reference=draw(st.none() | plain_texts)
        )
        for _ in range(draw(st.integers(0, 2)))
    ]
    blocks += [text] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0 if blocks else 1, 2))):
        arguments = draw(objects)
        blocks.append(
            ToolCall(call_id=draw(plain_texts), name=draw(plain_texts), arguments=arguments, content=json.dumps(arguments))
        )
    usage = draw(st.none() | st.just(Usage(3)))
    sampled = None if usage is None else Sampled(usage, "length", model="m")
    marks: dict[str, Any] = {"origin": draw(st.none() | st.just("policy")), "weight": draw(st.none() | st.just(0.0))}
    marks["ended"] = draw(st.none() | st.just("length"))
    return Message(role, tuple(blocks), sampled=sampled, ended_at=draw(times), metadata=metadata, **marks, **ends)


@st.composite
def rollouts_events_can_carry(draw: st.DrawFn) -> Rollout:
    messages = draw(st.lists(messages_events_can_carry(), min_size=1, max_size=5))
    name, split, variant = draw(plain_texts), draw(plain_texts), draw(st.none() | plain_texts)
    spec, index = draw(objects), draw(st.none() | st.integers(0, 100))
    reward, final_reward = total_reward(messages)
    finished = any(m.finished for m in messages)
    return Rollout(
        id=str(draw(st.uuids())),
        run=draw(plain_texts),
        name=draw(plain_texts),
        environment=RolloutEnvironment(name=name, split=split, variant=variant),
        task=Task(id=task_id(name, split, spec, index, variant), index=index, spec=spec),
        step=draw(st.none() | st.integers()),
        model=draw(st.none() | filled_objects.filter(lambda x: not set(x) & {"name", "type", "algorithm"})),
        sampling=None if index is None else draw(st.none() | st.just({"temperature": 0.5})),
        messages=messages,
        reward=reward,
        final_reward=final_reward,
        status="completed" if finished else "truncated",
        stop_reason="finished" if finished else "",
        started_at=draw(times),
        ended_at=messages[-1].ended_at,
        metadata=draw(st.none() | filled_objects),
    )


@given(rollouts_events_can_carry())
@settings(max_examples=EXAMPLES, deadline=None)
def test_events_and_back(rollout: Rollout) -> None:
    """The origins that the roles imply are not sent, so that events equal the official client's."""
    events = json.loads(json.dumps(list(events_of(rollout))))
    again = rollout_of(events)
    expected = replace(rollout, messages=with_origins(rollout.messages))
    again.messages = with_origins(again.messages)
    assert again.to_dict() == {**expected.to_dict(), **_duration(rollout, events)}


def _duration(rollout: Rollout, events: list[dict[str, Any]]) -> dict[str, Any]:
    """The platform is told how long it took: that comes back with the metadata."""
    info = events[-1].get("rollout_info", {})
    return {"metadata": {**(rollout.metadata or {}), "duration_ms": info["duration_ms"]}} if "duration_ms" in info else {}


def strings(value: Any) -> list[str]:
    """All texts inside a JSON value, keys included."""
    if isinstance(value, dict):
        return [text for item in [*value, *value.values()] for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


@given(rollouts)
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_rollout_has_events_that_a_strict_platform_takes(rollout: Rollout) -> None:
    events = list(events_of(rollout, untimed_ms=5))
    text = json.dumps(events, ensure_ascii=False, allow_nan=False)
    assert text.encode("utf-8")
    assert not any("\x00" in text for text in strings(events))
    assert events[0]["eventType"] == "rollout"
    messages = [event for event in events if event["eventType"] == "message"]
    assert [event["index"] for event in messages] == list(range(len(messages)))
    assert len({event["eventId"] for event in messages}) == len(messages)
    assert list(events_of(rollout, untimed_ms=5)) == events
    rewards = [event["reward"] for event in messages if "reward" in event]
    assert len(rewards) == sum(message.reward is not None for message in rollout.messages)


def test_what_text_cannot_carry_is_named(tmp_path: Any) -> None:
    parts: list[Any] = [
        TextBlock(text="see"),
        ImageBlock(mime_type="image/png", sha256="0" * 64),
        OpaqueBlock({"type": "audio", "data": "x"}),
    ]
    rollout = Rollout(status="completed", id="not a uuid", messages=[Message("tool", tuple(parts), is_error=True)])
    event = list(events_of(rollout))[1]
    assert event["content"] == f'see\n[image image/png {"0" * 64}]\n{{"type": "audio", "data": "x"}}'
    assert event["metadata"] == {"is_error": True}
    assert uuid.UUID(event_id(rollout))


def test_events_without_a_beginning_are_no_rollout() -> None:
    with pytest.raises(ValueError, match="do not begin a rollout"):
        rollout_of([{"eventType": "message"}])


def test_the_caller_s_duration_and_nulls_inside_lists_are_sent() -> None:
    spec = {"options": [{"limit": None, "sizes": [None, {"a": None}]}, None], "left": None}
    rollout = Rollout(
        status="completed",
        task=Task(index=1, spec=spec),
        started_at="2026-01-01T00:00:00+00:00",
        ended_at="2026-01-01T00:00:01+00:00",
        metadata={"duration_ms": 77},
    )
    first, last = events_of(rollout)
    assert first["task_spec"] == {"options": spec["options"]}
    assert last["rollout_info"]["duration_ms"] == 77
    rollout.metadata = None
    assert list(events_of(rollout))[-1]["rollout_info"]["duration_ms"] == 1000


def test_a_providers_part_and_a_cited_text_come_back_as_they_were() -> None:
    search = OpaqueBlock({"type": "web_search_call", "id": "w1", "status": "completed"})
    turn = AssistantMessage([search, TextBlock("Two "), TextBlock("ferries.")], origin="policy", ended="stop")
    record = Rollout(status="completed", messages=[UserMessage("How many?", origin="given"), turn])
    answer = rollout_of(events_of(record)).messages[-1]
    assert answer.blocks == (search, TextBlock("Two ferries."))
    assert (answer.ended, answer.metadata) == ("stop", None)


def test_a_failed_turn_and_an_infinite_reward_are_events() -> None:
    results = [ToolMessage("-", "c1", origin="environment", reward=reward) for reward in (float("-inf"), 1.0)]
    failed = AssistantMessage(origin="policy", ended="error")
    record = Rollout(status="error", messages=[UserMessage("Go", origin="given"), *results, failed])
    back = rollout_of(events_of(record))
    assert (back.reward, back.messages[-1].ended, len(back.messages)) == (float("-inf"), "error", 4)


def test_the_model_has_our_names_again() -> None:
    model = {"name": "m1", "type": "eval", "algorithm": "grpo", "checkpoint": "c9"}
    record = Rollout(status="completed", model=dict(model), messages=[UserMessage("Go", origin="given")])
    assert rollout_of(events_of(record)).model == model
