"""Runs of the `verifiers` library: `traces.jsonl`, an episode a line, each with a trace for each of its agents.

A trace is a graph of messages. Its rollout is the path to the last message that was made; other branches (sub-agents,
dropped histories) stay in `metadata["verifiers"]`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from openreward_gym.chat.completions import from_openai
from openreward_gym.importers.jsonl import UNREADABLE, lines, reason_of
from openreward_gym.store.damage import Damage
from openreward_gym.types import Json
from openreward_gym.types.conversion import message_records
from openreward_gym.types.rollout import (
    EnvironmentRecord,
    MessageRecord,
    Rollout,
    TaskRecord,
    TokenUsage,
    ToolRecord,
    task_id,
)


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """The traces of a `traces.jsonl`, or of the one in a run's folder.

    Raises:
        StoreError: The file cannot be read.
    """
    place = Path(path)
    file = place / "traces.jsonl" if place.is_dir() else place
    for number, line in lines(file):
        try:
            episode = json.loads(line)
            if not isinstance(episode, dict) or not isinstance(episode.get("traces"), list):
                raise ValueError('no "traces": this is not an episode of verifiers')
            yield from [rollout_of(trace, episode) for trace in episode["traces"]]
        except RecursionError:
            yield Damage(number, "nested too deeply", str(file))
        except UNREADABLE as error:
            yield Damage(number, reason_of(error), str(file))


def rollout_of(trace: Mapping[str, Json], episode: Mapping[str, Json]) -> Rollout:
    """One trace's rollout.

    Raises:
        KeyError, ValueError, TypeError: It is no trace.
    """
    path, calls = _path(trace["nodes"]), trace.get("calls") or []
    messages = [record for number in path for record in _records(trace["nodes"][number], _call_of(calls, number))]
    rewards = {name: r["score"] * r.get("weight", 1.0) for name, r in (trace.get("rewards") or {}).items() if r is not None}
    reward = sum(rewards.values()) if rewards else None
    if messages and reward is not None:
        messages[-1] = messages[-1].model_copy(update={"reward": reward, "finished": True})
    task, environment = trace.get("task") or episode.get("task") or {}, (episode.get("env") or {}).get("id") or ""
    spec = task.get("data") if isinstance(task.get("data"), dict) else None
    timing, errors = trace.get("timing") or {}, trace.get("errors") or []
    config = (trace.get("agent") or {}).get("config") or {}
    status, stop = _ending(trace)
    used = set(path)
    others = [node for number, node in enumerate(trace["nodes"]) if number not in used]
    rest = {name: value for name, value in trace.items() if name not in ("nodes", "calls", "tools", "timing")}
    return Rollout(
        id=str(trace["id"]),
        run=((episode.get("run") or {}).get("name") or ""),
        environment=EnvironmentRecord(name=environment),
        task=TaskRecord(id=task_id(environment, None, spec or {"hash": task.get("hash")}), spec=spec),
        group=(episode.get("group") or {}).get("id"),
        model={"name": calls[-1]["model"]} if calls and calls[-1].get("model") else None,
        sampling=config.get("sampling") or None,
        tools=[_tool(tool) for tool in trace.get("tools") or ()] or None,
        messages=messages,
        reward=reward,
        final_reward=reward,
        metrics={**rewards, **(trace.get("metrics") or {})} or None,
        status=status,
        stop_reason=stop,
        error=f"{errors[-1].get('type')}: {errors[-1].get('message')}" if errors else None,
        started_at=_iso(timing.get("start")),
        ended_at=messages[-1].ended_at if messages else None,
        usage=_usage([call.get("usage") for call in calls]),
        metadata={"verifiers": {**rest, "episode": episode.get("id"), **({"other_nodes": others} if others else {})}},
    )


def _path(nodes: list[Mapping[str, Json]]) -> list[int]:
    """The nodes from a root to the last one that was made, in order."""
    path: list[int] = []
    number: int | None = len(nodes) - 1 if nodes else None
    while number is not None:
        if not 0 <= number < len(nodes) or number in path:
            raise ValueError(f"its messages do not form a path: node {number}")
        path.append(number)
        number = nodes[number].get("parent")
    return path[::-1]


def _records(node: Mapping[str, Json], call: Mapping[str, Json]) -> list[MessageRecord]:
    message = dict(node["message"])
    if message.get("tool_calls"):
        message["tool_calls"] = [
            {"id": item.get("id"), "function": {"name": item["name"], "arguments": item["arguments"]}}
            for item in message["tool_calls"]
        ]
    records = [record for part in from_openai(message) for record in message_records(part, ended_at=_iso(node.get("timestamp")))]
    if node.get("sampled"):
        mask = node.get("mask") or []
        tokens = [token for token, sampled in zip(node.get("token_ids") or (), mask, strict=False) if sampled]
        records[-1].token_ids = tokens or None
        records[-1].logprobs = node.get("logprobs") or None
        records[-1].stop_reason = call.get("finish_reason")
        records[-1].model = call.get("model")
        records[-1].usage = _usage([call.get("usage")])
    return records


def _call_of(calls: list[Mapping[str, Json]], node: int) -> Mapping[str, Json]:
    return next((call for call in calls if call.get("node") == node), {})


def _usage(usages: list[Json]) -> TokenUsage | None:
    """The sum; verifiers counts what was read from a cache apart from the other input."""
    given = [usage for usage in usages if usage]
    if not given:
        return None
    cached = [usage["cached_input_tokens"] for usage in given if usage.get("cached_input_tokens") is not None]
    reasoning = [usage["reasoning_tokens"] for usage in given if usage.get("reasoning_tokens") is not None]
    return TokenUsage(
        input_tokens=sum(usage["prompt_tokens"] for usage in given) + sum(cached),
        output_tokens=sum(usage["completion_tokens"] for usage in given),
        cached_tokens=sum(cached) if cached else None,
        reasoning_tokens=sum(reasoning) if reasoning else None,
    )


def _tool(tool: Mapping[str, Json]) -> ToolRecord:
    return ToolRecord(name=tool["name"], description=tool.get("description") or "", input_schema=tool.get("parameters"))


def _ending(trace: Mapping[str, Json]) -> tuple[Json, str]:
    if trace.get("is_timeout"):
        return "truncated", "deadline"
    if trace.get("errors") and not trace.get("ok"):
        return "error", str(trace.get("stop_condition") or "")
    return ("completed" if trace.get("is_completed") else "cancelled"), str(trace.get("stop_condition") or "")


def _iso(seconds: Json) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds") if seconds else None
