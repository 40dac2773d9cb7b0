"""Runs of the `verifiers` library: `traces.jsonl`, an episode per line, with a trace for each of its agents.

A trace is a graph of messages. Its rollout is the path to the last message that was made. Other branches, such as
sub-agents and dropped histories, stay in `metadata["verifiers"]`.

Origin: sampled nodes are the policy's. Nodes before the first of them are given, tools and users after it are the
environment, and other assistant nodes are given. The turns of an agent that is not trainable have the weight 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from openreward_gym.chat import from_openai
from openreward_gym.chat.dialect import ended_of, total
from openreward_gym.importers.jsonl import UNREADABLE, checked, lines, reason_of, tool_of
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import Message, Rollout, RolloutEnvironment, Sampled, Status, Task, Usage, task_id, with_origins
from openreward_gym.types.rollout import object_of


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """Yield the traces of a `traces.jsonl`, or of the one in a run's folder."""
    place = Path(path)
    file = place / "traces.jsonl" if place.is_dir() else place
    for number, line in lines(file):
        try:
            episode = object_of(line, "record")
            if not isinstance(episode.get("traces"), list):
                raise ValueError('no "traces": this is not an episode of verifiers')
            yield from [checked(rollout_of(trace, episode)) for trace in episode["traces"]]
        except UNREADABLE as error:
            yield Damage(number, reason_of(error), str(file))


def rollout_of(trace: Mapping[str, Json], episode: Mapping[str, Json]) -> Rollout:
    """Return the rollout of one trace; raise KeyError, ValueError or TypeError for another value."""
    nodes, calls, agent = trace["nodes"], trace.get("calls") or [], trace.get("agent") or {}
    path = _path(nodes)
    calls_by_node = {call.get("node"): call for call in reversed(calls)}
    messages = _messages([nodes[number] for number in path], [calls_by_node.get(number, {}) for number in path])
    if agent.get("trainable") is False:
        messages = [message.replace(weight=0.0) if message.origin == "policy" else message for message in messages]
    rewards = {name: r["score"] * r.get("weight", 1.0) for name, r in (trace.get("rewards") or {}).items() if r is not None}
    reward = sum(rewards.values()) if rewards else None
    if messages and reward is not None:
        messages[-1] = messages[-1].replace(reward=reward, finished=True)
    task, environment = trace.get("task") or episode.get("task") or {}, (episode.get("env") or {}).get("id") or ""
    spec = task.get("data") if isinstance(task.get("data"), dict) else None
    errors = trace.get("errors") or []
    status, stop_reason = _ending(trace)
    others = [node for number, node in enumerate(nodes) if number not in set(path)]
    rest = {name: value for name, value in trace.items() if name not in ("nodes", "calls", "tools", "timing")}
    return Rollout(
        id=str(trace["id"]),
        run=((episode.get("run") or {}).get("name") or ""),
        environment=RolloutEnvironment(name=environment),
        task=Task(spec=spec, id=task_id(environment, None, spec or {"hash": task.get("hash")})),
        group=(episode.get("group") or {}).get("id"),
        model={"name": calls[-1]["model"]} if calls and calls[-1].get("model") else None,
        sampling=(agent.get("config") or {}).get("sampling") or None,
        tools=[tool_of(tool) for tool in trace.get("tools") or ()] or None,
        messages=messages,
        reward=reward,
        final_reward=reward,
        metrics={**rewards, **(trace.get("metrics") or {})} or None,
        status=status,
        stop_reason=stop_reason,
        error=f"{errors[-1].get('type')}: {errors[-1].get('message')}" if errors else None,
        started_at=_iso((trace.get("timing") or {}).get("start")),
        ended_at=messages[-1].ended_at if messages else None,
        usage=_usage([call.get("usage") for call in calls]),
        metadata={"verifiers": {**rest, "episode": episode.get("id"), **({"other_nodes": others} if others else {})}},
    )


def _path(nodes: Sequence[Mapping[str, Json]]) -> list[int]:
    """Return the numbers of the nodes from a root to the last one that was made, in order."""
    path: list[int] = []
    number: int | None = len(nodes) - 1 if nodes else None
    while number is not None:
        if not 0 <= number < len(nodes) or number in path:
            raise ValueError(f"its messages do not form a path: node {number}")
        path.append(number)
        number = nodes[number].get("parent")
    return path[::-1]


def _messages(nodes: Iterable[Mapping[str, Json]], calls: Iterable[Mapping[str, Json]]) -> list[Message]:
    """Return the messages of a path, each with the call of the model that made it."""
    messages: list[Message] = []
    context: list[int] | None = []  # the ids of all tokens so far; None after a node without ids
    for node, call in zip(nodes, calls, strict=True):
        (message,) = from_openai(_chat_message(node["message"]))
        message = message.replace(ended_at=_iso(node.get("timestamp")))
        ids = node.get("token_ids")
        if node.get("sampled"):
            masked = list(zip(ids or (), node.get("mask") or (), strict=False))
            sampled_ids = [token for token, is_sampled in masked if is_sampled]
            header = [token for token, is_sampled in masked if not is_sampled]
            sampled = Sampled(
                usage=_usage([call.get("usage")]),
                stop_reason=call.get("finish_reason"),
                token_ids=tuple(sampled_ids) or None,
                logprobs=tuple(node.get("logprobs") or ()) or None,
                prompt_token_ids=tuple(context + header) if sampled_ids and context else None,
                model=call.get("model"),
                metadata=None if message.sampled is None else message.sampled.metadata,
            )
            message = message.replace(origin="policy", sampled=sampled, ended=ended_of(sampled.stop_reason, message.blocks))
        context = context + ids if context is not None and ids else None
        messages.append(message)
    return with_origins(messages, lambda message: False)


def _chat_message(data: Mapping[str, Json]) -> dict[str, Json]:
    calls = [
        {"id": call.get("id"), "function": {"name": call["name"], "arguments": call["arguments"]}}
        for call in data.get("tool_calls") or ()
    ]
    return {**data, "tool_calls": calls} if calls else dict(data)


def _usage(usages: Iterable[Json]) -> Usage | None:
    """Return the sum. verifiers counts tokens read from a cache apart from the other input."""
    known = [usage for usage in usages if usage]
    if not known:
        return None
    cached = total(*(usage.get("cached_input_tokens") for usage in known))
    return Usage(
        input_tokens=sum(usage["prompt_tokens"] for usage in known) + (cached or 0),
        output_tokens=sum(usage["completion_tokens"] for usage in known),
        cached_tokens=cached,
        reasoning_tokens=total(*(usage.get("reasoning_tokens") for usage in known)),
    )


def _ending(trace: Mapping[str, Json]) -> tuple[Status, str]:
    if trace.get("is_timeout"):
        return "truncated", "deadline"
    stop_condition = str(trace.get("stop_condition") or "")
    if trace.get("errors") and not trace.get("ok"):
        return "error", stop_condition
    return ("completed" if trace.get("is_completed") else "cancelled"), stop_condition


def _iso(seconds: Json) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds") if seconds else None
