"""Trajectories of SWE-agent (`.traj`), of mini-swe-agent (`.traj.json`), and rows of datasets made from them (`trajectory` with
`role`, `text` and `mask`).

A `.traj` has the whole `history`, or, in replays, only the `trajectory` of steps: then each step's `response` is a turn, and its
`observation` the answer. Entries of other agents of the history (a summarizer) were not shown to the main agent: they stand in
`metadata["swe_agent"]["other_agents"]`. mini-swe-agent's last message, of the role `exit`, was shown to nobody; it stands in
`metadata["swe_agent"]["exit"]`.

Origin: the assistant's messages are the policy's, except demonstrations (`is_demo`), which are given, and, in mini-swe-agent's
files, those without a model's response where others have one: a person wrote these. What comes before the policy's first
message is given, what comes after it is the environment's. In rows with a `mask`, a masked turn has the weight 0.

End: `exit_status`. How a turn ended is known only where mini-swe-agent kept the model's response.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from openreward_gym.chat import from_openai_responses
from openreward_gym.chat.plain import as_list, integer, number, rest_of
from openreward_gym.importers.files import Record
from openreward_gym.importers.jsonl import GroupBy, files_of, identity
from openreward_gym.importers.reasons import UNREADABLE, wrong
from openreward_gym.importers.shapes import (
    Part,
    answer_of,
    chat_message,
    label_of,
    object_at,
    object_or_empty,
    objects_at,
    read_parts,
    text_at,
    with_metadata,
    with_reward,
)
from openreward_gym.jsonio import Json, loads
from openreward_gym.store import Damage
from openreward_gym.types import (
    AssistantMessage,
    Message,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Status,
    SystemMessage,
    Task,
    Usage,
    UserMessage,
    task_id,
    with_origins,
)
from openreward_gym.types.rollout import total_usage

_MAIN_AGENTS = ("main", "primary")
_ENDINGS: Mapping[str, tuple[Status, str]] = {
    "submitted": ("completed", "finished"),
    "exit_command": ("completed", "finished"),
    "exit_forfeit": ("completed", "exit_forfeit"),
    "exit_context": ("truncated", "context_overflow"),
    "contextwindowexceedederror": ("truncated", "context_overflow"),
    "exit_cost": ("truncated", "exit_cost"),
    "limitsexceeded": ("truncated", "max_steps"),
    "timeexceeded": ("truncated", "deadline"),
    "exit_total_execution_time": ("truncated", "deadline"),
    "exit_command_timeout": ("truncated", "deadline"),
    "exit_format": ("error", "policy_failed"),
    "repeatedformaterror": ("error", "policy_failed"),
    "exit_api": ("error", "policy_failed"),
    "early_exit": ("cancelled", "early_exit"),
    "incomplete": ("cancelled", "incomplete"),
    "": ("cancelled", ""),
}
_MINI = ("info", "trajectory_format", "instance_id", "traj_id", "exit_status")
_ITEM = ("role", "content", "agent", "is_demo", "tool_calls", "tool_call_ids", "tool_call_id", "thinking_blocks", "name")
_CHAT = ("role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content", "reasoning", "refusal", "function_call")


def read(path: str | os.PathLike[str], *, group_by: GroupBy | None = None) -> Iterator[Rollout | Damage]:
    """Yield the trajectory of a file, the rows of a dataset's file, or the `.traj` and `.traj.json` files of a folder."""
    files = files_of(path, "no .traj file there: is it SWE-agent's output folder?", ("**/*.traj", "**/*.traj.*"))
    for file in files:

        def parts(record: Record, file: Path = file) -> Iterator[Part]:
            yield "", lambda: rollout_of(record.value, identity(record.content, record.number), _name_of(file))

        yield from read_parts(file, parts, group_by, _is_chat)


def rollout_of(row: Json, row_id: str, name: str) -> Rollout:
    """Return the rollout of a file or row; `name` is the instance's name where the row does not have it.

    Raises:
        ValueError: It is not a trajectory of SWE-agent, or a field has a wrong type.
    """
    if isinstance(row, list) and _is_chat(row):
        row = {"messages": row, "info": {}}  # the first format of mini-swe-agent
    if not isinstance(row, dict):
        raise ValueError(f"not a trajectory: a JSON {type(row).__name__}, not an object")
    if isinstance(row.get("messages"), list):
        if not row.keys() & _MINI:
            raise ValueError('"messages" without "info": not a trajectory of mini-swe-agent; import chats as openai-chat')
        return _mini(row, row_id, name)
    if "history" in row or _is_steps(row.get("trajectory")):
        return _swe_agent(row, row_id, name)
    if isinstance(row.get("trajectory"), list):
        return _dataset_row(row, row_id)
    raise ValueError('no "history", "trajectory" or "messages": this is not a trajectory of SWE-agent')


def _name_of(file: Path) -> str:
    return file.name.split(".traj")[0]


def _is_chat(items: list[Json]) -> bool:
    return bool(items) and all(isinstance(item, dict) and "role" in item and "messages" not in item for item in items)


def _is_steps(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(s, dict) and "observation" in s for s in value)


def _ending(exit_status: Json) -> tuple[Status, str]:
    text = label_of(exit_status).strip()
    word = text.lower()
    if word.startswith("submitted (") and word.endswith(")"):
        # A patch that was taken after a limit stopped the agent.
        inner = word.removeprefix("submitted (").removesuffix(")")
        status, stop_reason = _ENDINGS.get(inner, ("truncated", inner))
        return ("truncated" if status in ("completed", "cancelled") else status), stop_reason
    return _ENDINGS.get(word, ("error", text))


def _swe_agent(row: Mapping[str, Json], row_id: str, name: str) -> Rollout:
    info, history = object_at(row, "info"), objects_at(row, "history")
    steps = objects_at(row, "trajectory")
    agent = _main_agent(history)
    own = [item for item in history if item.get("agent") in (None, agent)]
    others = [item for item in history if item.get("agent") not in (None, agent)]
    messages = with_origins([_history_item(item) for item in own] if history else _of_steps(steps))
    config = _replay_config(row)
    model = object_or_empty(object_or_empty(config, "agent"), "model")
    problem = object_or_empty(config, "problem_statement")
    environment = text_at(row, "environment") or "swe-agent"
    instance = label_of(problem.get("id")) or name
    rest = rest_of(row, "history", "trajectory", "environment")
    rest |= {"other_agents": others} if others else {}
    rest |= (
        {"states": [rest_of(step, "response", "observation", "query", "thought", "action") for step in steps]} if steps else {}
    )
    versions = {key: value for key, value in info.items() if key.endswith(("_version", "_hash")) and isinstance(value, str)}
    return _rollout(
        row_id,
        environment,
        instance,
        messages,
        info,
        model={"name": model["name"]} if isinstance(model.get("name"), str) else None,
        sampling={key: model[key] for key in ("temperature", "top_p") if model.get(key) is not None} or None,
        versions=versions or None,
        metadata={"swe_agent": rest},
    )


def _rollout(
    row_id: str,
    environment: str,
    instance: str,
    messages: list[Message],
    info: Mapping[str, Json],
    *,
    model: dict[str, Json] | None,
    sampling: dict[str, Json] | None,
    versions: dict[str, str] | None,
    metadata: dict[str, Json],
) -> Rollout:
    """Return a rollout whose end and costs stand in the `info` of its file."""
    status, stop_reason = _ending(info.get("exit_status"))
    stats = object_at(info, "model_stats")
    sent, received = integer(stats, "tokens_sent"), integer(stats, "tokens_received")
    task = task_id(environment, None, {"instance_id": instance})
    return Rollout(
        id=row_id,
        name=instance,
        environment=RolloutEnvironment(name=environment),
        task=Task(spec={"instance_id": instance}, id=task),
        group=task,
        model=model,
        sampling=sampling,
        messages=with_reward(messages, None, stop_reason == "finished"),
        status=status,
        stop_reason=stop_reason,
        error=label_of(info.get("exit_status")) if status == "error" else None,
        usage=total_usage(messages) or (Usage(sent, received) if sent is not None or received is not None else None),
        cost_usd=number(stats, "instance_cost"),
        versions=versions,
        metadata=metadata,
    )


def _main_agent(history: list[dict[str, Json]]) -> Json:
    """Return the name of the agent whose history it is: one of SWE-agent's names for it, or that of the first entry."""
    names = [item.get("agent") for item in history if item.get("agent") is not None]
    return next((name for name in names if name in _MAIN_AGENTS), names[0] if names else None)


def _history_item(item: Mapping[str, Json]) -> Message:
    fields = {key: item[key] for key in ("role", "content", "tool_calls", "name") if item.get(key) is not None}
    ids = item.get("tool_call_ids")
    if ids is not None and not isinstance(ids, list):
        raise wrong("tool_call_ids", "a list", ids)
    call_id = item.get("tool_call_id") or (ids[0] if ids else None)
    if item.get("role") == "tool":
        fields["tool_call_id"] = label_of(call_id)
    else:
        fields.pop("name", None)
    message = chat_message(fields)
    thoughts = [_thought(block) for block in objects_at(item, "thinking_blocks")]
    message = message.replace(blocks=(*thoughts, *message.blocks), origin="given" if item.get("is_demo") else None)
    rest = rest_of(item, *_ITEM)
    if item.get("is_demo"):
        rest["is_demo"] = True
    # In most entries the thought and the action repeat the content.
    rest = {key: value for key, value in rest.items() if not (key == "thought" and value == item.get("content"))}
    return with_metadata(message, {"swe_agent": {**rest, **({"tool_call_ids": ids} if ids and len(ids) > 1 else {})} or None})


def _thought(block: Mapping[str, Json]) -> ReasoningItem:
    rest = rest_of(block, "type", "thinking", "signature", "data")
    return ReasoningItem(
        text_at(block, "thinking"),
        text_at(block, "data"),
        signature=text_at(block, "signature"),
        extra={"swe_agent": rest} if rest else {},
    )


def _of_steps(steps: list[dict[str, Json]]) -> list[Message]:
    """Return the messages of a trajectory without a history: the first step's request, then each response and observation."""
    messages = [_history_item(item) for item in (objects_at(steps[0], "query") if steps else ()) if item.get("role")]
    messages = [message.replace(origin="given") for message in messages]
    for step in steps:
        rest = {key: step[key] for key in ("thought", "action", "execution_time") if step.get(key) is not None}
        turn = AssistantMessage(text_at(step, "response") or "")
        messages.append(with_metadata(turn, {"swe_agent": rest or None}))
        messages.append(UserMessage(text_at(step, "observation") or ""))
    return messages


def _replay_config(row: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the configuration of the run, which SWE-agent writes as JSON text; empty where it cannot be read."""
    config = row.get("replay_config")
    try:
        config = loads(config) if isinstance(config, str) else config
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def _mini(row: Mapping[str, Json], row_id: str, name: str) -> Rollout:
    """Return the rollout of a file of mini-swe-agent."""
    info, items = object_at(row, "info"), objects_at(row, "messages")
    shown = [item for item in items if item.get("role") != "exit"]
    has_responses = any(isinstance(object_or_empty(item, "extra").get("response"), dict) for item in shown)
    messages = [message for item in shown for message in _mini_messages(item, has_responses)]
    model = object_or_empty(object_or_empty(info, "config"), "model")
    name = label_of(row.get("instance_id")) or name
    rest = rest_of(row, "messages")
    exits = [item for item in items if item.get("role") == "exit"]
    if "exit_status" not in info and "exit_status" in row:
        info = {**info, "exit_status": row["exit_status"]}  # of rows of datasets
    version = info.get("mini_version")
    return _rollout(
        row_id,
        "mini-swe-agent",
        name,
        with_origins(messages),
        info,
        model={"name": model["model_name"]} if isinstance(model.get("model_name"), str) else None,
        sampling=dict(object_or_empty(model, "model_kwargs")) or None,
        versions={"mini_swe_agent": version} if isinstance(version, str) else None,
        metadata={"swe_agent": {**rest, **({"exit": exits} if exits else {})}},
    )


def _mini_messages(item: Mapping[str, Json], has_responses: bool) -> list[Message]:
    extra = object_at(item, "extra")
    response = extra.get("response")
    if "role" not in item:
        # An answer of the Responses API, or the result of a call in it.
        messages = from_openai_responses(as_list(rest_of(item, "extra")))
    else:
        messages = [chat_message(item, *(key for key in item if key not in _CHAT))]
    when = number(extra, "timestamp")
    said_at = None if when is None else datetime.fromtimestamp(when, UTC).isoformat(timespec="microseconds")
    further = rest_of(extra, "response", "timestamp", "cost")
    further |= rest_of(item, "extra", *_CHAT) if "role" in item else {}
    return [
        _mini_turn(message.replace(ended_at=said_at), extra, response, has_responses, further)
        if message.role == "assistant"
        else with_metadata(message.replace(ended_at=said_at), {"swe_agent": further or None})
        for message in messages
    ]


def _mini_turn(
    message: Message, extra: Mapping[str, Json], response: Json, has_responses: bool, further: Mapping[str, Json]
) -> Message:
    """Return a turn with what the model's response says of it."""
    sampled, ended, blocks = message.sampled or Sampled(), message.ended, message.blocks
    if isinstance(response, dict):
        try:
            answer = answer_of(response)
        except UNREADABLE:
            further = {**further, "response": response}
        else:
            if answer.text == message.text:
                blocks = answer.blocks or blocks
                sampled, ended = answer.sampled or sampled, answer.ended
            else:
                further = {**further, "response": response}
    elif response is not None:
        further = {**further, "response": response}
    sampled = dataclasses.replace(sampled, cost_usd=number(extra, "cost"))
    origin = "given" if has_responses and response is None else None
    turn = message.replace(
        blocks=blocks,
        ended=None if origin == "given" else ended,
        sampled=None if sampled == Sampled() else sampled,
        origin=origin,
    )
    return with_metadata(turn, {"swe_agent": dict(further) or None})


def _dataset_row(row: Mapping[str, Json], row_id: str) -> Rollout:
    """Return the rollout of a row of a dataset: turns with `role`, `text` (or `system_prompt`) and `mask`."""
    messages: list[Message] = []
    for item in objects_at(row, "trajectory"):
        role, text = text_at(item, "role"), text_at(item, "text")
        mask = item.get("mask")
        if mask is not None and not isinstance(mask, bool):
            raise wrong("mask", "true or false", mask)
        if role == "system":
            messages.append(SystemMessage(text or text_at(item, "system_prompt") or ""))
        elif role in ("ai", "assistant"):
            messages.append(AssistantMessage(text or "", weight=0.0 if mask else None))
        elif role in ("user", "tool"):
            messages.append(UserMessage(text or ""))
        else:
            raise ValueError(f"a turn's role is system, user or ai, not {role!r}")
        if item.get("cutoff_date") is not None:
            messages[-1] = with_metadata(messages[-1], {"swe_agent": {"cutoff_date": item["cutoff_date"]}})
    target = row.get("target")
    reward = float(target) if isinstance(target, (bool, int, float)) else None
    instance = label_of(row.get("instance_id")) or row_id
    model = text_at(row, "model_name")
    rollout = _rollout(
        row_id,
        "swe-agent",
        instance,
        with_origins(messages),
        {"exit_status": row.get("exit_status")},
        model={"name": model} if model else None,
        sampling=None,
        versions=None,
        metadata={"swe_agent": rest_of(row, "trajectory", "instance_id", "model_name", "target")},
    )
    rollout.messages = with_reward(rollout.messages, reward, rollout.stop_reason == "finished")
    rollout.reward = rollout.final_reward = reward
    return rollout
