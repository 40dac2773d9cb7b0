"""Trials of firehorse, OpenReward's own agent harness: `trial_*.jsonl`, an event a line, a file a trial.

Its agents write what was said in their providers' own forms (`raw`), or as `text_content`, `reasoning_content` and
`tool_calls`; tools' results are events of their own, and the last line sums the trial up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from openreward_gym.chat.action import parse_action
from openreward_gym.chat.anthropic import from_anthropic
from openreward_gym.chat.plain import json_text
from openreward_gym.chat.responses import OpenAIResponsesDialect
from openreward_gym.errors import StoreError
from openreward_gym.importers.jsonl import UNREADABLE, identity, lines, reason_of
from openreward_gym.recording.turns import joined
from openreward_gym.store.damage import Damage
from openreward_gym.types import AssistantMessage, Json, Message, ToolCall
from openreward_gym.types.conversion import message_records, total_reward
from openreward_gym.types.rollout import (
    EnvironmentRecord,
    MessageRecord,
    Rollout,
    TaskRecord,
    TextPart,
    TokenUsage,
    ToolCallPart,
    task_id,
)


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """The trial of a file, or all trials of a folder, by name. A damaged line is reported and the rest of its trial kept.

    Raises:
        StoreError: A file cannot be read, or there is no trial in the folder.
    """
    place = Path(path)
    files = sorted(place.glob("**/trial_*.jsonl")) if place.is_dir() else [place]
    if not files:
        raise StoreError(f"{path}: no trial_*.jsonl there: is it firehorse's output folder?")
    for file in files:
        yield from _read_trial(file)


def _read_trial(file: Path) -> Iterator[Rollout | Damage]:
    events: list[tuple[int, Mapping[str, Json]]] = []
    content = b""
    for number, line in lines(file):
        try:
            event = json.loads(line)
            if not isinstance(event, dict) or "type" not in event:
                raise ValueError('no "type": this is not an event of firehorse')
            events.append((number, event))
            content += line
        except (RecursionError, *UNREADABLE) as error:
            yield Damage(number, reason_of(error), str(file))
    messages: list[MessageRecord] = []
    for number, event in events:
        try:
            messages += _answered(messages, event) if event["type"] == "tool_results" else _records(event)
        except UNREADABLE as error:
            yield Damage(number, reason_of(error), str(file))
    if messages:
        facts = {key: value for _, event in events for key, value in event.items() if event["type"].startswith("openreward_")}
        yield _rollout(file, identity(content, 0), joined(messages), facts)


def _records(event: Mapping[str, Json]) -> list[MessageRecord]:
    """What one event says; none for compactions, raw lines of a harness and the like."""
    kind = event["type"]
    if kind == "openreward_prompt":
        system, prompt = event.get("system_prompt"), event.get("environment_prompt")
        records = [_text("system", system)] if system and system != "default" else []
        return [*records, *([_text("user", prompt)] if prompt else [])]
    if kind in ("system", "user") and isinstance(event.get("content"), str):
        return [_text(kind, event["content"])]
    if kind == "assistant":
        return _assistant(event)
    if kind == "tool_call":
        name, arguments = event.get("tool_name") or event.get("name") or "", event.get("arguments")
        given = arguments if isinstance(arguments, dict) else None
        written = None if given is not None else json_text(arguments if arguments is not None else {})
        call = ToolCallPart(id=str(event.get("call_id") or ""), name=name, input=given, input_text=written)
        return [MessageRecord(role="assistant", blocks=[call])]
    if kind == "tool_result":
        return [_result(event)]
    return []


def _answered(messages: list[MessageRecord], event: Mapping[str, Json]) -> list[MessageRecord]:
    """Results as the model was given them; what each was worth was an event of its own before, without its words."""
    records = [record for message in from_anthropic(event["raw"]) for record in message_records(message)]
    for record in records:
        for worth in [m for m in messages if m.role == "tool" and m.tool_call_id == record.tool_call_id and not m.text]:
            record.reward, record.finished, record.name = worth.reward, worth.finished, worth.name
            messages.remove(worth)
    return records


def _text(role: Json, text: Json) -> MessageRecord:
    return MessageRecord(role=role, blocks=[TextPart(text=str(text))])


def _assistant(event: Mapping[str, Json]) -> list[MessageRecord]:
    raw = event.get("raw")
    message: Message
    if isinstance(raw, list):
        message = AssistantMessage([block for item in raw for block in OpenAIResponsesDialect().read_part(item)])
    elif raw:
        message = parse_action({"role": "assistant", **raw})
    else:
        calls = [_call(call) for call in event.get("tool_calls") or ()]
        message = AssistantMessage(event.get("text_content") or "", calls, reasoning=event.get("reasoning_content"))
    records = message_records(message)
    tokens = {name: event.get(name) for name in ("input_tokens", "output_tokens") if isinstance(event.get(name), int)}
    if tokens:
        records[-1].usage = TokenUsage(**tokens)
    return records


def _call(call: Mapping[str, Json]) -> ToolCall:
    arguments = call.get("arguments") or {}
    call_id = str(call.get("id") or call.get("call_id") or "")
    if isinstance(arguments, str):
        return ToolCall(call["name"], call_id=call_id, content=arguments)
    return ToolCall(call["name"], arguments, call_id)


def _result(event: Mapping[str, Json]) -> MessageRecord:
    given = event.get("raw")
    raw: Mapping[str, Json] = given if isinstance(given, Mapping) else {}
    output = event.get("output") or raw.get("output") or raw.get("content") or ""
    ids = [part.get(name) for part in (event, raw) for name in ("call_id", "tool_call_id", "tool_use_id")]
    call_id = next((str(value) for value in ids if value), None)
    reward = event.get("reward")
    return MessageRecord(
        role="tool",
        blocks=[TextPart(text=json_text(output))],
        tool_call_id=call_id,
        name=event.get("tool_name"),
        reward=None if reward is None else float(reward),
        finished=bool(event.get("finished")),
    )


def _rollout(file: Path, trial_id: str, messages: list[MessageRecord], facts: Mapping[str, Json]) -> Rollout:
    reward, final_reward = total_reward(message.reward for message in messages)
    told = facts.get("final_reward", facts.get("reward"))
    if reward is None and told is not None:
        reward = final_reward = float(told)
    finished = bool(facts.get("finished")) or any(message.finished for message in messages)
    environment, split = str(facts.get("env") or facts.get("environment") or ""), facts.get("split")
    spec, index = facts.get("task_spec"), facts.get("task_index")
    usage = facts.get("usage") or {}
    tokens = {name: usage[name] for name in ("input_tokens", "output_tokens") if isinstance(usage.get(name), int)}
    known = spec is not None or index is not None
    task = task_id(environment, split, spec, index) if known else task_id(environment, split, {"file": file.stem})
    return Rollout(
        id=str(facts.get("rollout_id") or trial_id),
        run=str(facts.get("run_name") or ""),
        name=file.stem,
        environment=EnvironmentRecord(name=environment, split=split),
        task=TaskRecord(id=task, index=index, spec=spec if isinstance(spec, dict) else None),
        group=task,
        model={"name": facts["model"]} if facts.get("model") else None,
        messages=messages,
        reward=reward,
        final_reward=final_reward,
        status="completed" if finished else "error" if facts.get("error") else "cancelled",
        stop_reason="finished" if finished else "",
        error=None if facts.get("error") is None else str(facts["error"]),
        usage=TokenUsage(**tokens) if tokens else None,
        cost_usd=usage.get("cost_usd"),
        metadata={
            "firehorse": {key: value for key, value in facts.items() if key not in ("system_prompt", "environment_prompt")}
        },
    )
