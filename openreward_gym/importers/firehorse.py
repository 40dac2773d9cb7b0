"""Trials of firehorse, OpenReward's own agent harness: `trial_*.jsonl`, a file per trial, an event per line.

Its agents log messages in the formats of their providers (`raw`), or as `text_content`, `reasoning_content` and
`tool_calls`. The results of tools are events of their own, and the last line summarises the trial.

Origin: the agent's messages are the policy's. The prompts are given, and tools and users after the agent's first message
are the environment.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from openreward_gym.chat import OpenAIResponsesDialect, from_anthropic, parse_action
from openreward_gym.chat.dialect import tool_call
from openreward_gym.chat.plain import json_text
from openreward_gym.importers.jsonl import UNREADABLE, checked, files_of, identity, lines, reason_of
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import (
    AssistantMessage,
    Message,
    Rollout,
    RolloutEnvironment,
    Sampled,
    SystemMessage,
    Task,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
    join_turns,
    split_results,
    task_id,
    with_origins,
)
from openreward_gym.types.rollout import object_of, total_reward


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """Yield the trial of a file, or all trials of a folder, by name. A trial with a damaged line is read without that line."""
    for file in files_of(path, "**/trial_*.jsonl", "no trial_*.jsonl there: is it firehorse's output folder?"):
        yield from _read_trial(file)


def _read_trial(file: Path) -> Iterator[Rollout | Damage]:
    messages: list[Message] = []
    facts: dict[str, Json] = {}
    content = b""
    for number, line in lines(file):
        try:
            event = object_of(line, "record")
            if not isinstance(event.get("type"), str):
                raise ValueError('no "type": this is not an event of firehorse')
            content += line
            messages += _results(messages, event) if event["type"] == "tool_results" else _messages(event)
            if event["type"].startswith("openreward_"):
                facts |= event
        except UNREADABLE as error:
            yield Damage(number, reason_of(error), str(file))
    if messages:
        try:
            yield checked(_rollout(file, identity(content, 0), with_origins(join_turns(messages)), facts))
        except UNREADABLE as error:
            yield Damage(0, reason_of(error), str(file))


def _messages(event: Mapping[str, Json]) -> list[Message]:
    """Return the messages of one event. Compactions, raw lines of a harness and the like have none."""
    kind = event["type"]
    if kind == "openreward_prompt":
        system, prompt = event.get("system_prompt"), event.get("environment_prompt")
        messages: list[Message] = [SystemMessage(str(system))] if system and system != "default" else []
        return [*messages, *([UserMessage(str(prompt))] if prompt else [])]
    if kind in ("system", "user") and isinstance(event.get("content"), str):
        return [SystemMessage(event["content"]) if kind == "system" else UserMessage(event["content"])]
    if kind == "assistant":
        return [_assistant(event)]
    if kind == "tool_call":
        return [AssistantMessage([_call({"name": event.get("tool_name") or event.get("name") or "", **event})])]
    return [_result(event)] if kind == "tool_result" else []


def _results(messages: list[Message], event: Mapping[str, Json]) -> list[Message]:
    """Return results as the model read them. The events without a text that logged their rewards before are removed."""
    results = [result for message in from_anthropic(event["raw"]) for result in split_results(message)]
    for number, result in enumerate(results):
        for worth in [m for m in messages if m.role == "tool" and m.call_id == result.call_id and not m.text]:
            results[number] = results[number].replace(reward=worth.reward, finished=worth.finished, name=worth.name)
            messages.remove(worth)
    return results


def _assistant(event: Mapping[str, Json]) -> Message:
    raw = event.get("raw")
    if isinstance(raw, list):
        (message,) = OpenAIResponsesDialect().read(raw)
    elif raw:
        message = parse_action({"role": "assistant", **raw})
    else:
        calls = [_call(call) for call in event.get("tool_calls") or ()]
        message = AssistantMessage(event.get("text_content") or "", calls, reasoning=event.get("reasoning_content"))
    tokens = _tokens(event)
    if tokens is None:
        return message
    return message.replace(sampled=dataclasses.replace(message.sampled or Sampled(), usage=tokens))


def _call(call: Mapping[str, Json]) -> ToolCall:
    return tool_call(call["name"], call.get("arguments"), call.get("id") or call.get("call_id"))


def _result(event: Mapping[str, Json]) -> Message:
    raw = event["raw"] if isinstance(event.get("raw"), Mapping) else {}
    output = event.get("output") or raw.get("output") or raw.get("content") or ""
    ids = [part.get(name) for part in (event, raw) for name in ("call_id", "tool_call_id", "tool_use_id")]
    reward = event.get("reward")
    return ToolMessage(
        json_text(output),
        next((str(value) for value in ids if value), None),
        event.get("tool_name"),
        reward=None if reward is None else float(reward),
        finished=bool(event.get("finished")),
    )


def _tokens(data: Mapping[str, Json]) -> Usage | None:
    tokens = {name: data[name] for name in ("input_tokens", "output_tokens") if isinstance(data.get(name), int)}
    return Usage(**tokens) if tokens else None


def _rollout(file: Path, trial_id: str, messages: list[Message], facts: Mapping[str, Json]) -> Rollout:
    reward, final_reward = total_reward(messages)
    summary_reward = facts.get("final_reward", facts.get("reward"))
    if reward is None and summary_reward is not None:
        reward = final_reward = float(summary_reward)
    finished = bool(facts.get("finished")) or any(message.finished for message in messages)
    environment, split = str(facts.get("env") or facts.get("environment") or ""), facts.get("split")
    spec, index = facts.get("task_spec"), facts.get("task_index")
    usage = facts.get("usage") or {}
    task = task_id(environment, split, {"file": file.stem} if spec is None and index is None else spec, index)
    return Rollout(
        id=str(facts.get("rollout_id") or trial_id),
        run=str(facts.get("run_name") or ""),
        name=file.stem,
        environment=RolloutEnvironment(name=environment, split=split),
        task=Task(index=index, spec=spec if isinstance(spec, dict) else None, id=task),
        group=task,
        model={"name": facts["model"]} if facts.get("model") else None,
        messages=messages,
        reward=reward,
        final_reward=final_reward,
        status="completed" if finished else "error" if facts.get("error") else "cancelled",
        stop_reason="finished" if finished else "",
        error=None if facts.get("error") is None else str(facts["error"]),
        usage=_tokens(usage),
        cost_usd=usage.get("cost_usd"),
        metadata={
            "firehorse": {key: value for key, value in facts.items() if key not in ("system_prompt", "environment_prompt")}
        },
    )
