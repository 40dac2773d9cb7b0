"""Runs of the `verifiers` library: `traces.jsonl` of newer versions and `results.jsonl` of `vf-eval`.

A line of `traces.jsonl` is an episode with a trace for each of its agents, or a trace alone. A trace is a graph of
messages. Its rollout is the path to the last message that was made. Other branches, such as sub-agents and dropped
histories, stay in `metadata["verifiers"]`. A line of `results.jsonl` is a rollout with `prompt`, `completion` and `reward`;
`metadata.json` beside it names the environment, the model and the sampling parameters.

Origin, traces: sampled nodes are the policy's. Nodes before the first of them are given, tools and users after it are the
environment, and other assistant nodes are given. The turns of an agent that is not trainable, and sampled nodes in which
verifiers masks every token, have the weight 0.
Origin, results: the prompt is given. The assistant's messages of the completion are the policy's, the others of it are the
environment's.

End: verifiers' own stop condition is the `stop_reason`. Its limits and timeouts make the rollout `truncated`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from openreward_gym.chat import from_openai
from openreward_gym.chat.dialect import ended_of, total
from openreward_gym.chat.plain import number, rest_of
from openreward_gym.importers.files import Record, read_beside
from openreward_gym.importers.jsonl import files_of, identity, tool_of
from openreward_gym.importers.reasons import UNREADABLE, reason_of, wrong
from openreward_gym.importers.shapes import Part, are_numbers, objects_at, opened, read_parts, with_tokens
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import (
    AssistantMessage,
    Message,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Status,
    Task,
    Usage,
    UserMessage,
    task_id,
    with_origins,
)
from openreward_gym.types.rollout import object_of

_FILES = ("traces.jsonl", "results.jsonl")
# Stop conditions of a limit or a timeout, of the newer and of the older library.
_LIMITS = {
    *("max_turns", "max_input_tokens", "max_output_tokens", "max_total_tokens", "context_length", "timeout"),
    *("max_turns_reached", "timeout_reached", "prompt_too_long", "max_total_completion_tokens_reached"),
}
_TRACE_FIELDS = ("nodes", "calls", "tools", "timing")
_NODE_FIELDS = ("parent", "message", "sampled", "timestamp", "token_ids", "mask", "logprobs")
_KEPT_FIELDS = ("timing", "error", "error_chain", "long_error_chain", "token_usage", "stop_condition", "is_truncated")
_ROW_FIELDS = {
    *("example_id", "id", "prompt", "completion", "reward", "is_completed", "metrics", "tool_defs", "oai_tools"),
    *("trajectory", "info", "answer", "task", *_KEPT_FIELDS),
}
# A row of results has some of these; a log of TRL has a completion, too.
_RESULT_FIELDS = {"example_id", "id", "task", "answer", "info", "metrics", "is_completed", "stop_condition", "timing", "env_id"}
_SPEC_FIELDS = ("example_id", "id", "task", "prompt", "answer", "info")


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """Yield the rollouts of a `traces.jsonl` or `results.jsonl`, or of all such files in a folder and the folders in it."""
    for file in files_of(path, f"no {' or '.join(_FILES)} there", [f"**/{name}" for name in _FILES]):
        run, damages = _run_of(file)
        yield from damages
        yield from read_parts(file, partial(_parts, run=run, samples=Counter()))


def _parts(record: Record, run: Mapping[str, Json], samples: Counter[str | None]) -> Iterator[Part]:
    """Yield the rollouts of an episode, a trace or a row of results."""
    row = record.value
    if not isinstance(row, dict):
        raise wrong("record", "an object", row)
    if row.get("traces") is not None:
        traces = objects_at(row, "traces")
        for position, trace in enumerate(traces):
            yield f"trace {position}" if len(traces) > 1 else "", partial(rollout_of, trace, row)
    elif row.get("nodes") is not None:
        yield "", partial(rollout_of, row, {})
    elif "completion" in row and row.keys() & _RESULT_FIELDS:
        names = json.dumps([run.get("env_id"), run.get("model")]).encode()
        yield "", partial(_numbered_result, row, run, identity(record.content + names, record.number), samples)
    else:
        raise ValueError('no "traces", "nodes" or "completion": this is not a record of verifiers')


def _numbered_result(row: Mapping[str, Json], run: Mapping[str, Json], row_id: str, samples: Counter[str | None]) -> Rollout:
    rollout = rollout_of_result(row, run, row_id)
    rollout.sample = samples[rollout.group]
    samples[rollout.group] += 1
    return rollout


def _run_of(file: Path) -> tuple[dict[str, Json], list[Damage]]:
    """Return the `metadata.json` beside a file, empty without one, and the damage of one that cannot be read."""
    try:
        return object_of(read_beside(file.parent / "metadata.json"), "metadata"), []
    except FileNotFoundError:
        return {}, []
    except (OSError, *UNREADABLE) as error:
        return {}, [
            Damage(
                0, f"the run's model and environment are not known: {reason_of(error)}"[:500], f"{file.parent / 'metadata.json'}"
            )
        ]


def rollout_of(trace: Mapping[str, Json], episode: Mapping[str, Json]) -> Rollout:
    """Return the rollout of one trace; raise KeyError, ValueError or TypeError for another value."""
    nodes, calls, agent = trace["nodes"], trace.get("calls") or [], trace.get("agent") or {}
    path = _path(nodes)
    calls_by_node = {call.get("node"): call for call in calls if call.get("node") is not None}
    messages = _messages([nodes[position] for position in path], [calls_by_node.get(position, {}) for position in path])
    if agent.get("trainable") is False or trace.get("trainable") is False:
        messages = [message.replace(weight=0.0) if message.origin == "policy" else message for message in messages]
    rewards = {name: r["score"] * r.get("weight", 1.0) for name, r in (trace.get("rewards") or {}).items() if r is not None}
    reward = sum(rewards.values()) if rewards else None
    status, stop_reason = _ending(trace, calls)
    if messages and reward is not None:
        messages[-1] = messages[-1].replace(reward=reward, finished=status == "completed")
    environment, task = _task_of(trace, episode)
    on_path = set(path)
    others = [node for position, node in enumerate(nodes) if position not in on_path]
    kept: dict[str, Json] = {
        **{name: value for name, value in trace.items() if name not in _TRACE_FIELDS},
        "episode": {name: value for name, value in episode.items() if name not in ("traces", "task")},
        "other_nodes": others or None,
        "other_calls": [call for call in calls if call.get("node") not in on_path] or None,
    }
    config = agent.get("config") or {}
    model = next((call["model"] for call in reversed(calls) if call.get("model")), config.get("model"))
    run = episode.get("run") or {}
    return Rollout(
        id=str(trace["id"]),
        run=str(run.get("name") or ""),
        environment=environment,
        task=task,
        group=_group(trace, episode, task.id),
        step=(run.get("work") or {}).get("step"),
        advantage=_advantage(messages),
        model={"name": model} if model else None,
        sampling=_without_none(config.get("sampling") or (calls[-1].get("sampling") if calls else None)),
        tools=[tool_of(tool) for tool in trace.get("tools") or ()] or None,
        messages=messages,
        reward=reward,
        final_reward=reward,
        metrics={**rewards, **(trace.get("metrics") or {})} or None,
        status=status,
        stop_reason=stop_reason,
        error=_error(trace) if status == "error" else None,
        started_at=_iso((trace.get("timing") or {}).get("start")),
        ended_at=messages[-1].ended_at if messages else None,
        usage=_usage([call.get("usage") for call in calls]),
        cost_usd=_cost([call.get("usage") for call in calls]),
        metadata={"verifiers": rest_of(kept)},
    )


def _task_of(trace: Mapping[str, Json], episode: Mapping[str, Json]) -> tuple[RolloutEnvironment, Task]:
    """Return the environment and the task of a trace. A task of this package's integration is named as in its own record."""
    recorded, name = trace.get("task") or episode.get("task") or {}, str((episode.get("env") or {}).get("id") or "")
    data = recorded.get("data") if isinstance(recorded.get("data"), dict) else None
    source = (data or {}).get("source")
    if data is not None and isinstance(source, Mapping) and isinstance(source.get("environment"), str):
        index, played = data.get("task_index"), (trace.get("info") or {}).get("openreward") or {}
        split, variant = (str(source[key]) if source.get(key) else None for key in ("split", "variant"))
        if isinstance(index, int):
            identity = str(played.get("task") or task_id(source["environment"], split, None, index, variant))
            own = RolloutEnvironment(name=source["environment"], variant=variant, split=split)
            return own, Task(split=split or "", index=index, id=identity)
    identity = task_id(name, None, data or {"hash": recorded.get("hash") or recorded.get("key")})
    spec = data or {}
    return RolloutEnvironment(name=name), Task(spec=data, index=spec.get("idx"), id=identity, golden_answer=spec.get("answer"))


def _group(trace: Mapping[str, Json], episode: Mapping[str, Json], task_identity: str) -> str:
    """Return the episode's group, or the task; of an episode with several kinds of agents, each kind has a group of its own."""
    group = (episode.get("group") or {}).get("id") or task_identity
    agents = {(other.get("agent") or {}).get("name") for other in episode.get("traces") or () if isinstance(other, Mapping)}
    name = (trace.get("agent") or {}).get("name")
    return f"{group}/{name}" if len(agents) > 1 else str(group)


def _path(nodes: Sequence[Mapping[str, Json]]) -> list[int]:
    """Return the numbers of the nodes from a root to the last one that was made, in order."""
    path: list[int] = []
    position: int | None = len(nodes) - 1 if nodes else None
    seen: set[int] = set()
    while position is not None:
        if not 0 <= position < len(nodes) or position in seen:
            raise ValueError(f"its messages do not form a path: node {position}")
        path.append(position)
        seen.add(position)
        position = nodes[position].get("parent")
    return path[::-1]


def _messages(nodes: Iterable[Mapping[str, Json]], calls: Iterable[Mapping[str, Json]]) -> list[Message]:
    """Return the messages of a path, each with the call of the model that made it."""
    messages: list[Message] = []
    context: list[int] | None = []  # the ids of all tokens so far; None after a node without ids
    for node, call in zip(nodes, calls, strict=True):
        (message,) = from_openai(_chat_message(node["message"]))
        message = message.replace(ended_at=_iso(node.get("timestamp")))
        ids = node.get("token_ids")
        rest = rest_of(node, *_NODE_FIELDS)
        if node.get("sampled"):
            sampled, unused = _sampled(node, call, context)
            before = message.sampled.metadata if message.sampled else None
            kept = {**(before or {}), **rest, **unused, **(sampled.metadata or {})}
            sampled = replace(sampled, metadata=kept or None)
            ended = ended_of(sampled.stop_reason, message.blocks)
            weight = 0.0 if _is_masked(node) else None
            message = message.replace(origin="policy", sampled=sampled, ended=ended, weight=weight)
        elif rest:
            message = message.replace(metadata={**(message.metadata or {}), "verifiers": rest})
        context = context + ids if context is not None and ids and are_numbers(ids) else None
        messages.append(message)
    return with_origins(messages, lambda message: False)


def _sampled(
    node: Mapping[str, Json], call: Mapping[str, Json], context: Sequence[int] | None
) -> tuple[Sampled, dict[str, Json]]:
    """Return the report on a sampled node, and those of its token fields that do not fit together."""
    ids, mask, logprobs = node.get("token_ids") or [], node.get("mask") or [], node.get("logprobs") or []
    first = next((position for position, is_sampled in enumerate(mask) if is_sampled), len(ids))
    size = sum(map(bool, mask))
    unused: dict[str, Json] = {}
    # The sampled tokens follow the header of the turn, without a gap.
    if len(mask) != len(ids) or not all(mask[first : first + size]) or not are_numbers(ids):
        unused, first, size = {"token_ids": ids, "mask": mask}, 0, 0
    if logprobs and not size:
        unused, logprobs = {**unused, "logprobs": logprobs}, []
    usage = call.get("usage")
    spent = call.get("time") or {}
    sampled = Sampled(
        usage=_usage([usage]),
        stop_reason=call.get("finish_reason"),
        model=call.get("model"),
        cost_usd=_cost([usage]),
        duration_s=spent["end"] - spent["start"] if spent.get("end") and spent.get("start") else None,
    )
    tokens = {"token_ids": ids[first : first + size], "logprobs": logprobs}
    if size and context and are_numbers(ids):
        tokens["prompt_token_ids"] = [*context, *ids[:first]]
    return with_tokens(sampled, tokens, "token_ids", "logprobs", "prompt_token_ids"), unused


def _is_masked(node: Mapping[str, Json]) -> bool:
    """Return whether verifiers leaves a sampled node out of training: no token in its mask, or only weights of 0."""
    mask, weights = node.get("mask") or (), node.get("loss_weights") or {}
    return (bool(mask) and not any(mask)) or (bool(weights) and not any(any(stream) for stream in weights.values()))


def _advantage(messages: Iterable[Message]) -> float | None:
    """Return the advantage of the sampled tokens where all have the same."""
    streams = [(m.sampled.metadata or {}).get("advantages") for m in messages if m.origin == "policy" and m.sampled]
    values = {value for stream in streams if isinstance(stream, list) for value in stream}
    return values.pop() if len(values) == 1 else None


def rollout_of_result(row: Mapping[str, Json], run: Mapping[str, Json], row_id: str) -> Rollout:
    """Return the rollout of one line of `results.jsonl`; raise KeyError, ValueError or TypeError for another value.

    Args:
        row: The line's object.
        run: The run's `metadata.json`; empty where there is none.
        row_id: The rollout's id.
    """
    completion = opened(row.get("completion"))
    prompt = [message.replace(origin="given") for message in _chat(opened(row.get("prompt")), of_policy=False)]
    messages = with_origins([*prompt, *_chat(completion, of_policy=True)])
    messages = _with_steps(messages, row.get("trajectory"))
    status, stop_reason = _result_ending(row, messages)
    turns = [position for position, message in enumerate(messages) if message.origin == "policy"]
    if row.get("is_truncated") and len(turns) == 1 and row.get("stop_condition") not in _LIMITS:
        messages[turns[0]] = messages[turns[0]].replace(ended="length")
    reward = None if row.get("reward") is None else float(row["reward"])
    if messages and reward is not None:
        messages[-1] = messages[-1].replace(reward=reward, finished=status == "completed")
    environment, kind = str(run.get("env_id") or row.get("env_id") or ""), row.get("task")
    # The environments of a group have their own name in `task`.
    variant = kind if isinstance(kind, str) and kind not in ("", "default", environment) else None
    spec = {name: row[name] for name in _SPEC_FIELDS if row.get(name) not in (None, "", {})}
    example = row.get("example_id", row.get("id"))
    task = task_id(environment, None, spec, variant=variant)
    columns = {name: value for name, value in row.items() if name not in _ROW_FIELDS}
    numbers = {name: float(v) for name, v in columns.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    tokens, error = row.get("token_usage") or {}, row.get("error")
    started, ended = number(row, "timing", "start_time"), number(row, "timing", "scoring", "end")
    return Rollout(
        id=row_id,
        environment=RolloutEnvironment(name=environment, variant=variant),
        task=Task(index=example if isinstance(example, int) else None, spec=spec, id=task, golden_answer=row.get("answer")),
        group=task,
        model={"name": run["model"]} if run.get("model") else None,
        sampling=_without_none(run.get("sampling_args")),
        tools=[tool_of(tool) for tool in row.get("tool_defs") or row.get("oai_tools") or ()] or None,
        messages=messages,
        reward=reward,
        final_reward=reward,
        metrics={**numbers, **(row.get("metrics") or {})} or None,
        status=status,
        stop_reason=stop_reason,
        error=None if not error else _error({"errors": [error]}),
        started_at=_iso(started),
        ended_at=_iso(ended),
        usage=Usage(_count(tokens, "input_tokens"), _count(tokens, "output_tokens")) if tokens else None,
        metadata={
            "verifiers": rest_of(
                {**{n: v for n, v in columns.items() if n not in numbers}, **_kept(row, messages), "run": run or None}
            )
        },
    )


def _kept(row: Mapping[str, Json], messages: Sequence[Message]) -> dict[str, Json]:
    """Return the fields of a line that are kept as they are, beside the rollout's own fields."""
    kept = {name: row.get(name) for name in _KEPT_FIELDS}
    return kept if _has_step_per_turn(messages, row.get("trajectory")) else {**kept, "trajectory": row.get("trajectory")}


def _chat(messages: Json, *, of_policy: bool) -> list[Message]:
    """Read a prompt or a completion: text, or messages whose calls may be JSON text."""
    if messages is None:
        return []
    if isinstance(messages, str):
        return [AssistantMessage(messages) if of_policy else UserMessage(messages)]
    if not isinstance(messages, list):
        raise TypeError(f"a prompt or completion is text or a list of messages, not {type(messages).__name__}")
    role = "assistant" if of_policy else "user"
    data = [{**_chat_message(m), "role": role} if m.get("role") == "text" else _chat_message(m) for m in messages]
    return from_openai(data)


def _has_step_per_turn(messages: Sequence[Message], trajectory: Json) -> bool:
    turns = sum(message.origin == "policy" for message in messages)
    return isinstance(trajectory, list) and len(trajectory) == turns


def _with_steps(messages: list[Message], trajectory: Json) -> list[Message]:
    """Return the messages with what the steps of the trajectory tell of the policy's turns, if there is a step for each turn."""
    if not _has_step_per_turn(messages, trajectory):
        return messages
    turns = [position for position, message in enumerate(messages) if message.origin == "policy"]
    for position, step in zip(turns, trajectory, strict=True):
        response = step.get("response") if isinstance(step.get("response"), Mapping) else {}
        tokens, message = step.get("tokens") or {}, messages[position]
        usage = response.get("usage")
        stop_reason = (response.get("message") or {}).get("finish_reason")
        sampled = replace(
            message.sampled or Sampled(),
            usage=_usage([usage]),
            stop_reason=stop_reason,
            model=response.get("model"),
        )
        if tokens.get("completion_ids"):
            sampled = with_tokens(sampled, tokens, "completion_ids", "completion_logprobs", "prompt_ids")
        mask = tokens.get("completion_mask")
        messages[position] = message.replace(
            sampled=None if sampled == Sampled() else sampled,
            ended="length" if step.get("is_truncated") else ended_of(stop_reason, message.blocks),
            weight=0.0 if mask and not any(mask) else message.weight,
        )
    return messages


def _result_ending(row: Mapping[str, Json], messages: Sequence[Message]) -> tuple[Status, str]:
    condition = str(row.get("stop_condition") or "")
    if row.get("error") or condition == "has_error":
        return "error", condition
    if condition in _LIMITS or row.get("is_truncated"):
        return "truncated", condition or "length"
    if row.get("is_completed") is False:
        return "cancelled", condition
    return "completed", condition or ("message" if messages and messages[-1].role == "assistant" else "")


def _chat_message(data: Mapping[str, Json]) -> dict[str, Json]:
    """Return a message of verifiers as one of OpenAI's. Its calls have no `function`, or are JSON text."""
    calls = [json.loads(call) if isinstance(call, str) else call for call in data.get("tool_calls") or ()]
    calls = [
        call if isinstance(call.get("function"), Mapping) else {
            "id": call.get("id"), "function": {"name": call["name"], "arguments": call["arguments"]}
        }
        for call in calls
    ]  # fmt: skip
    return {**data, "tool_calls": calls} if calls else {name: value for name, value in data.items() if name != "tool_calls"}


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


def _cost(usages: Iterable[Json]) -> float | None:
    costs = [usage["cost"] for usage in usages if usage and usage.get("cost") is not None]
    return float(sum(costs)) if costs else None


def _count(data: Mapping[str, Json], name: str) -> int | None:
    """Return a number of tokens, which verifiers writes as a float."""
    value = number(data, name)
    return None if value is None else int(value)


def _without_none(values: Json) -> dict[str, Json] | None:
    return rest_of(values) or None if isinstance(values, Mapping) else None


def _error(trace: Mapping[str, Json]) -> str:
    """Return the words of the last error: an object of the newer or the older library, or text."""
    errors = trace.get("errors") or []
    last = errors[-1] if errors else None
    if not isinstance(last, Mapping):
        return str(last or trace.get("stop_condition") or "")
    return f"{last.get('type') or last.get('error')}: {last.get('message') or last.get('error_chain_repr')}"


def _ending(trace: Mapping[str, Json], calls: Sequence[Mapping[str, Json]]) -> tuple[Status, str]:
    condition = str(trace.get("stop_condition") or "")
    if trace.get("is_timeout"):
        return "truncated", condition or "deadline"
    if condition == "error" or (trace.get("errors") and not trace.get("ok")):
        return "error", condition
    last = next((call for call in reversed(calls) if not call.get("error")), {})
    if condition in _LIMITS or trace.get("is_truncated") or last.get("finish_reason") == "length":
        return "truncated", condition or "length"
    return ("completed" if trace.get("is_completed") else "cancelled"), condition


def _iso(seconds: Json) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds") if seconds else None
    except (OSError, OverflowError) as error:
        raise ValueError(f"{seconds!r} is not a time") from error
