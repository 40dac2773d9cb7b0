"""Results of tau-bench (an array of entries with `traj`) and of tau2-bench (files with `simulations`, or a folder of them).

The agent is the policy; the simulated user is part of the environment. The calls that tau2's user makes, and their results,
were not shown to the agent: they are no messages here, but stand in the metadata of the user's next message, and of the
rollout after the last. The files do not have the agent's system prompt (tau2) or tools (tau-bench); tau2's policy text is in
`metadata["tau_bench"]["policy"]`.

Origin: the assistant's messages are the policy's, except for a greeting that a script said: the first message, without
calls, that is tau2's fixed greeting, or that lacks the usage that the others have. What comes before the policy's first
message is given, what comes after it is the environment's.

End: tau2's `termination_reason`. tau-bench does not say it: an episode is finished if the user's last message has the mark
`###STOP###`, if its last call hands over to a human, or if it ends with the assistant; otherwise its steps were used up.
How a turn ended is known only where tau2 kept the provider's answer.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from openreward_gym.chat.dialect import tool_call
from openreward_gym.chat.openai import usage_of
from openreward_gym.chat.plain import integer, number, rest_of
from openreward_gym.importers.files import Record, read_file
from openreward_gym.importers.jsonl import GroupBy, files_of, identity
from openreward_gym.importers.reasons import UNREADABLE, wrong
from openreward_gym.importers.shapes import (
    Part,
    answer_of,
    chat_message,
    label_of,
    object_at,
    objects_at,
    read_parts,
    text_at,
    with_metadata,
    with_reward,
)
from openreward_gym.jsonio import Json, dumps
from openreward_gym.store import Damage
from openreward_gym.types import (
    AssistantMessage,
    Message,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Status,
    Task,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
    task_id,
    with_origins,
)
from openreward_gym.types.rollout import total_usage

GREETING = "Hi! How can I help you today?"
"""The agent's first message in tau2, which no model sampled."""

_STOP = "###STOP###"
_HAND_OVER = "transfer_to_human_agents"
_DOMAIN = re.compile(r"\s*# (Airline|Retail) agent policy", re.IGNORECASE)
_ENDINGS: Mapping[str, tuple[Status, str]] = {
    "user_stop": ("completed", "finished"),
    "agent_stop": ("completed", "finished"),
    "max_steps": ("truncated", "max_steps"),
    "timeout": ("truncated", "deadline"),
    "context_window_exceeded": ("truncated", "context_overflow"),
    "too_many_errors": ("truncated", "too_many_errors"),
    "agent_error": ("error", "policy_failed"),
}
_MESSAGE = ("role", "content", "tool_calls", "id", "name", "requestor", "error", "timestamp", "usage", "cost", "raw_data")
_SIMULATION = ("messages", "start_time", "end_time", "seed", "trial")


def read(path: str | os.PathLike[str], *, group_by: GroupBy | None = None) -> Iterator[Rollout | Damage]:
    """Yield the rollouts of a file of results, or of the `.json` files of a folder, by name."""
    place = Path(path)
    if (place / "results.json").is_file():
        place = place / "results.json"
    for file in files_of(place, "no .json file there: are these the results of tau-bench?", ("*.json", "*.jsonl")):
        facts = _Facts(file)
        yield from read_parts(file, facts.parts, group_by)


class _Facts:
    """What entries of a file tell of others: an entry of a failed run has neither its task nor its domain."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.domain = ""
        self.tasks: dict[str, dict[str, Json]] = {}
        for record in read_file(file) if file.stat().st_size < _MAX_BYTES else ():
            row = record.value
            if isinstance(row, dict) and isinstance(row.get("info"), dict) and isinstance(row.get("traj"), list):
                if isinstance(row["info"].get("task"), dict):
                    self.tasks.setdefault(label_of(row.get("task_id")), row["info"]["task"])
                first = row["traj"][0] if row["traj"] else None
                text = first.get("content") if isinstance(first, dict) else None
                match = _DOMAIN.match(text) if isinstance(text, str) else None
                self.domain = self.domain or (match[1].lower() if match else "")

    def parts(self, record: Record) -> Iterator[Part]:
        row = record.value
        if not isinstance(row, dict):
            raise ValueError(f"not a record: a JSON {type(row).__name__}, not an object")
        if "traj" in row:
            yield "", lambda: self.rollout_of(row, identity(record.content, record.number))
        elif "simulations" in row or "simulation_index" in row:
            yield from self._simulations(row)
        elif "termination_reason" in row or "ticks" in row:
            yield "", lambda: _simulation(row, _results_beside(self.file))
        else:
            raise ValueError('neither "traj" nor "simulations": these are not results of tau-bench or tau2-bench')

    def _simulations(self, results: Mapping[str, Json]) -> Iterator[Part]:
        simulations = results.get("simulations") or []
        if not isinstance(simulations, list):
            raise wrong("simulations", "a list of objects", simulations)
        for position, simulation in enumerate(simulations):
            yield f"simulations[{position}]", functools.partial(_simulation, simulation, results)
        if not simulations:
            for file in sorted((self.file.parent / "simulations").glob("*.json")):
                for record in read_file(file):
                    yield f"simulations/{file.name}", functools.partial(_simulation, record.value, results)

    def rollout_of(self, row: Mapping[str, Json], row_id: str) -> Rollout:
        """Return the rollout of an entry of tau-bench."""
        info = object_at(row, "info")
        messages = with_origins([chat_message(item) for item in objects_at(row, "traj")], _is_sampled)
        spec = info.get("task") if isinstance(info.get("task"), dict) else self.tasks.get(label_of(row.get("task_id")))
        name = f"tau-bench/{self.domain}" if self.domain else "tau-bench"
        task = _task(name, row.get("task_id"), spec)
        error = text_at(info, "error")
        ending: tuple[Status, str] = ("error", "") if error else _ending(messages)
        status, stop_reason = ending
        reward = number(row, "reward")
        return Rollout(
            id=row_id,
            environment=RolloutEnvironment(name=name),
            task=task,
            group=task.id,
            sample=integer(row, "trial"),
            messages=with_reward(messages, reward, status == "completed"),
            reward=reward,
            final_reward=reward,
            status=status,
            stop_reason=stop_reason,
            error=error,
            metadata={"tau_bench": {key: value for key, value in row.items() if key != "traj"}},
        )


_MAX_BYTES = 1 << 30


def _task(environment: str, number_or_name: Json, spec: Json) -> Task:
    index = number_or_name if isinstance(number_or_name, int) and not isinstance(number_or_name, bool) else None
    spec = {"task_id": number_or_name, **(spec if isinstance(spec, dict) else {})}
    return Task(index=index, spec=spec, id=task_id(environment, None, spec))


def _is_sampled(message: Message) -> bool:
    return not (message.role == "assistant" and message.text == GREETING and not message.tool_calls)


def _ending(messages: Sequence[Message]) -> tuple[Status, str]:
    """Return how an episode of tau-bench ended."""
    if not messages:
        return "cancelled", ""
    last = messages[-1]
    calls = [call for message in messages if message.role == "assistant" for call in message.tool_calls]
    handed_over = last.role == "tool" and bool(calls) and calls[-1].name == _HAND_OVER
    if handed_over or (last.role == "user" and _STOP in last.text):
        return "completed", "finished"
    return ("completed", "message") if last.role == "assistant" else ("truncated", "max_steps")


def _results_beside(file: Path) -> Mapping[str, Json]:
    """Return the results that a simulation's own file belongs to; empty where they cannot be read."""
    beside = file.parent.parent / "results.json"
    if not beside.is_file():
        return {}
    return next((record.value for record in read_file(beside) if isinstance(record.value, dict)), {})


def _simulation(simulation: Json, results: Mapping[str, Json]) -> Rollout:
    """Return the rollout of a simulation of tau2."""
    if not isinstance(simulation, dict):
        raise ValueError(f"not a simulation: a JSON {type(simulation).__name__}, not an object")
    if not simulation.get("messages") and simulation.get("ticks"):
        raise ValueError("a simulation of speech: it has ticks, not messages")
    info, agent = object_at(results, "info"), object_at(object_at(results, "info"), "agent_info")
    environment = object_at(info, "environment_info")
    domain = text_at(environment, "domain_name")
    name = f"tau2-bench/{domain}" if domain else "tau2-bench"
    specs = {label_of(task.get("id")): task for task in objects_at(results, "tasks")}
    task = _task(name, simulation.get("task_id"), specs.get(label_of(simulation.get("task_id"))))
    messages, unseen = _messages(objects_at(simulation, "messages"))
    reason = text_at(simulation, "termination_reason")
    other: tuple[Status, str] = ("error" if "error" in (reason or "") else "cancelled", reason or "")
    status, stop_reason = _ENDINGS.get(reason or "", other)
    reward_info = object_at(simulation, "reward_info")
    reward = number(reward_info, "reward")
    policy = text_at(simulation, "policy") or text_at(environment, "policy")
    breakdown = reward_info.get("reward_breakdown")
    metrics = {key: number({key: v}, key) for key, v in breakdown.items()} if isinstance(breakdown, dict) else {}
    rest = {key: value for key, value in simulation.items() if key not in _SIMULATION and value is not None}
    rest |= {"info": info} if info else {}
    rest |= {"user_tools": unseen} if unseen else {}
    return Rollout(
        id=str(simulation.get("id") or identity(dumps(simulation), 0)),
        environment=RolloutEnvironment(name=name),
        task=task,
        group=task.id,
        sample=integer(simulation, "trial"),
        model={"name": agent["llm"]} if agent.get("llm") else None,
        sampling=object_at(agent, "llm_args") or None,
        tools=_tools(object_at(environment, "tool_defs")) or None,
        messages=with_reward(messages, reward, status == "completed"),
        reward=reward,
        final_reward=reward,
        metrics=metrics or None,
        status=status,
        stop_reason=stop_reason,
        error=reason if status == "error" else None,
        started_at=text_at(simulation, "start_time"),
        ended_at=text_at(simulation, "end_time"),
        usage=total_usage(message for message in messages if message.origin == "policy"),
        cost_usd=number(simulation, "agent_cost"),
        seed=integer(simulation, "seed"),
        versions={"tau2": commit} if (commit := text_at(info, "git_commit")) else None,
        metadata={"tau_bench": {**rest, **({"policy": policy} if policy else {})}},
    )


def _messages(items: Sequence[dict[str, Json]]) -> tuple[list[Message], list[Json]]:
    """Return the messages that the agent saw, and what the user did with its tools after the last of them."""
    flat = [inner for item in items for inner in (objects_at(item, "tool_messages") or [item])]
    has_usage = any(item.get("usage") or item.get("raw_data") for item in flat if item.get("role") == "assistant")
    messages: list[Message] = []
    unseen: list[Json] = []
    for item in flat:
        role = text_at(item, "role")
        by_user = item.get("requestor") == "user" or (role == "user" and bool(item.get("tool_calls")))
        if by_user and role in ("user", "tool"):
            unseen.append(dict(item))
            continue
        message = _message(item)
        if unseen and message.role == "user":
            message, unseen = with_metadata(message, {"user_tools": unseen}), []
        if role == "assistant" and not messages and not message.tool_calls:
            unsampled = has_usage and not item.get("usage") and not item.get("raw_data")
            if message.text == GREETING or unsampled:
                message = message.replace(origin="given", sampled=None)
        messages.append(message)
    return with_origins(messages), unseen


def _message(item: Mapping[str, Json]) -> Message:
    """Return a message of tau2; an assistant's with what the provider's own answer (`raw_data`) says beyond it."""
    role, content, said_at = item.get("role"), text_at(item, "content") or "", text_at(item, "timestamp")
    rest = rest_of(item, *_MESSAGE)
    if role == "tool":
        result = ToolMessage(content, label_of(item.get("id")), text_at(item, "name"), bool(item.get("error")), ended_at=said_at)
        return with_metadata(result, rest)
    if role == "user":
        simulated = {**rest, **rest_of({"usage": item.get("usage"), "cost": item.get("cost")})}
        return with_metadata(UserMessage(content, ended_at=said_at), simulated)
    if role != "assistant":
        return chat_message({"role": role, "content": content}).replace(ended_at=said_at)
    calls = [_call(call) for call in objects_at(item, "tool_calls")]
    message: Message = AssistantMessage(content, calls)
    raw = item.get("raw_data")
    answer = _answer(raw) if isinstance(raw, dict) else None
    if answer is not None and answer.text == content and _names(answer.tool_calls) == _names(calls):
        message = answer  # the same turn, with the arguments' own text, the reasoning and the end
    sampled = message.sampled or Sampled()
    extra = {**(sampled.metadata or {}), **({"raw_data": raw} if raw is not None and message is not answer else {})}
    sampled = dataclasses.replace(
        sampled,
        usage=sampled.usage or usage_of(object_at(item, "usage")),
        cost_usd=number(item, "cost"),
        duration_s=number(item, "generation_time_seconds"),
        metadata=extra or None,
    )
    rest.pop("generation_time_seconds", None)
    return with_metadata(message.replace(sampled=None if sampled == Sampled() else sampled, ended_at=said_at), rest)


def _answer(raw: Mapping[str, Json]) -> Message | None:
    if not isinstance(raw.get("choices"), list) or not raw["choices"]:
        return None
    try:
        return answer_of(raw)
    except UNREADABLE:
        return None


def _names(calls: Sequence[ToolCall]) -> list[tuple[str, Json]]:
    return [(call.name, call.arguments) for call in calls]


def _call(call: Mapping[str, Json]) -> ToolCall:
    name = text_at(call, "name")
    if name is None:
        raise wrong("tool_calls[].name", "text", None)
    extra = rest_of(call, "id", "name", "arguments", "requestor")
    return tool_call(name, call.get("arguments"), call.get("id"), {"tau_bench": extra} if extra else None)


def _tools(definitions: Mapping[str, Json]) -> list[ToolSpec]:
    tools = []
    for name in definitions:
        definition = object_at(definitions, name)
        parameters = object_at(definition, "params")
        tools.append(ToolSpec(text_at(definition, "name") or name, text_at(definition, "doc") or "", parameters or None))
    return tools
