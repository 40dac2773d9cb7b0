"""Trajectories in ATIF 1.0 to 1.8, the Agent Trajectory Interchange Format: a trajectory per file, arrays, lines, and the folders
of Harbor's jobs, where `result.json` beside the trajectory has the task, the reward, the model and the exception.

Each trajectory is a rollout. Embedded `subagent_trajectories` are rollouts of their own, without a group or a reward. A
trajectory that is continued in another file is truncated, and the job's reward is in the last one. Images by a relative path
are read if they lie in the trajectory's folder; others stay as they came.

Origin: the agent's steps are the policy's, except those with `is_copied_context` and those that no model made
(`llm_call_count: 0`), which are given. System and user steps are given before the policy's first step and the environment's
after it; so are results. Trajectories that this package wrote have the origin, weight and end of each message in `extra`.

End: of a job, the exception of `result.json`; a trajectory alone does not say it, and counts as completed. How a turn ended is
known only in trajectories that this package wrote.
"""

from __future__ import annotations

import base64
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from openreward_gym.chat.dialect import image_of_url, opaque, tool_call
from openreward_gym.chat.plain import integer, number, rest_of
from openreward_gym.importers.files import Record, read_file
from openreward_gym.importers.jsonl import NO_ROWS, GroupBy, files_of, identity, tool_of
from openreward_gym.importers.reasons import wrong
from openreward_gym.importers.shapes import (
    Part,
    label_of,
    object_at,
    object_or_empty,
    objects_at,
    read_parts,
    text_at,
    with_metadata,
    with_reward,
    with_tokens,
)
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Message,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Status,
    SystemMessage,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
    as_blocks,
    codec,
    task_id,
    with_origins,
)
from openreward_gym.types.rollout import SCHEMA, total_cost, total_usage

PRODUCER = "openreward-gym"
"""The name of the agent in trajectories that this package wrote."""

_VERSION = re.compile(r"ATIF-v1\.\d+")
_ROLES = {"system": "system", "user": "user", "agent": "assistant"}
_USAGE = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens", "cached_tokens": "cached_tokens"}
_METRICS = (*_USAGE, "cost_usd", "cost", "prompt_token_ids", "completion_token_ids", "logprobs")
_STEP = ("step_id", "source", "message", "timestamp", "model_name", "reasoning_content", "tool_calls", "observation", "metrics")
_TIMEOUTS = ("AgentTimeoutError", "TimeoutError")


def read(path: str | os.PathLike[str], *, group_by: GroupBy | None = None) -> Iterator[Rollout | Damage]:
    """Yield the trajectories of a file, or of a folder by name: those of a job (`agent/trajectory*.json`), or all files."""
    jobs = sorted(Path(path).glob("**/agent/trajectory*.json"))
    for file in jobs or files_of(path, NO_ROWS, formats=("atif",)):

        def parts(record: Record, file: Path = file) -> Iterator[Part]:
            yield from _parts(record.value, identity(record.content, record.number), file)

        yield from read_parts(file, parts, group_by)


def _parts(trajectory: Json, row_id: str, file: Path) -> Iterator[Part]:
    job = _job(file)
    yield "", lambda: rollout_of(trajectory, row_id, file.parent, job)
    if isinstance(trajectory, dict):
        for position, inner in enumerate(objects_at(trajectory, "subagent_trajectories")):
            place = f"subagent_trajectories[{position}]"
            inner_id = identity(f"{row_id} {place}".encode(), position)
            yield place, functools.partial(_subagent, inner, inner_id, file.parent, trajectory)


def _subagent(inner: Mapping[str, Json], row_id: str, folder: Path, parent: Mapping[str, Json]) -> Rollout:
    rollout = rollout_of(inner, row_id, folder)
    rollout.group, rollout.task = None, Task()
    own = (rollout.metadata or {}).get("atif", {})
    ids = {"parent": parent.get("trajectory_id") or parent.get("session_id")}
    rollout.metadata = {"atif": {**own, **rest_of(ids)}}
    return rollout


def rollout_of(
    trajectory: Json, row_id: str, folder: Path | None = None, job: Mapping[str, Mapping[str, Json]] | None = None
) -> Rollout:
    """Return the rollout of a trajectory.

    Args:
        trajectory: The trajectory.
        row_id: The rollout's id, for a trajectory that this package did not write.
        folder: The folder of its images; None if there is none.
        job: The files of a job beside it, by name (`result.json`); None without a job.

    Raises:
        ValueError: It is not a trajectory of ATIF 1, or a field has a wrong type.
    """
    if not isinstance(trajectory, dict):
        raise ValueError(f"not a trajectory: a JSON {type(trajectory).__name__}, not an object")
    schema = trajectory.get("schema_version")
    if "steps" not in trajectory or (schema is None and "agent" not in trajectory):
        raise ValueError('no "schema_version" and "steps": this is not a trajectory of ATIF')
    if schema is not None and not (isinstance(schema, str) and _VERSION.fullmatch(schema)):
        raise ValueError(f"its version is {schema!r}; this importer reads ATIF-v1.0 to ATIF-v1.8")
    agent = object_at(trajectory, "agent")
    if agent.get("name") == PRODUCER and text_at(trajectory, "trajectory_id"):
        return _Own(folder).rollout(trajectory)
    return _foreign(trajectory, row_id, folder, job or {})


class _Reader:
    """Reads steps as messages. Images are read from the trajectory's folder."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = None if folder is None else folder.resolve()

    def contents(self, data: Mapping[str, Json], name: str) -> list[Block]:
        """Return the blocks of a text, or of parts."""
        content = data.get(name)
        if content is None or isinstance(content, str):
            return list(as_blocks(content or ""))
        return [self._part(part) for part in objects_at(data, name)]

    def _part(self, part: Mapping[str, Json]) -> Block:
        if part.get("type") == "text":
            return TextBlock(text_at(part, "text") or "")
        source = object_at(part, "source")
        path = source.get("path")
        if part.get("type") != "image" or not isinstance(path, str):
            return opaque(part)
        if path.startswith(("http://", "https://")):
            return opaque({"type": "image_url", "image_url": {"url": path}})
        if path.startswith("data:"):
            return image_of_url(path, {}) or opaque(part)
        data = self.file(path)
        return opaque(part) if data is None else ImageBlock(data, label_of(source.get("media_type")) or "image/png")

    def file(self, path: str) -> str | None:
        """Return a file of the trajectory's folder as base64 text; None if it is missing, or lies elsewhere."""
        if self.folder is None:
            return None
        try:
            file = (self.folder / path).resolve()
            if not file.is_relative_to(self.folder) or not file.is_file():
                return None
            return base64.b64encode(file.read_bytes()).decode("ascii")
        except (OSError, ValueError):
            return None


# Trajectories of other producers.


def _foreign(trajectory: Mapping[str, Json], row_id: str, folder: Path | None, job: Mapping[str, Mapping[str, Json]]) -> Rollout:
    agent, result, reader = object_at(trajectory, "agent"), job.get("result.json", {}), _Reader(folder)
    messages = with_origins(message for step in objects_at(trajectory, "steps") for message in _messages(step, reader))
    final = object_at(trajectory, "final_metrics")
    continued = text_at(trajectory, "continued_trajectory_ref")
    reward, metrics = (None, None) if continued else _reward(job)
    status, stop_reason, error = ("truncated", "continued", None) if continued else _ending(result)
    names = [label_of(result.get("task_name")), label_of(object_or_empty(job.get("config.json", {}), "task").get("path"))]
    name = next((name for name in names if name), "")
    environment = label_of(result.get("source")) or "harbor" if result else ""
    task = task_id(environment, None, {"task_name": name}) if name else ""
    model_info = object_or_empty(object_or_empty(result, "agent_info"), "model_info")
    model = text_at(agent, "model_name") or label_of(model_info.get("name"))
    usage = _usage({key.removeprefix("total_"): value for key, value in final.items()}) or _job_usage(result)
    cost = next((value for key in ("total_cost_usd", "total_cost") if (value := number(final, key)) is not None), None)
    version = text_at(agent, "version")
    rest = rest_of(trajectory, "steps", "subagent_trajectories", "schema_version")
    return Rollout(
        id=row_id,
        name=label_of(result.get("trial_name")),
        environment=RolloutEnvironment(name=environment),
        task=Task(spec={"task_name": name} if name else None, id=task),
        group=task or None,
        model={"name": model} if model else None,
        tools=[tool_of(tool) for tool in objects_at(agent, "tool_definitions")] or None,
        messages=with_reward(messages, reward, status == "completed" and reward is not None),
        reward=reward,
        final_reward=reward,
        metrics=metrics,
        status=status,
        stop_reason=stop_reason,
        error=error,
        started_at=text_at(result, "started_at") or next((m.started_at for m in messages if m.started_at), None),
        ended_at=text_at(result, "finished_at") or next((m.started_at for m in reversed(messages) if m.started_at), None),
        usage=usage or total_usage(messages),
        cost_usd=cost if cost is not None else total_cost(messages),
        versions={label_of(agent.get("name")) or "agent": version} if version else None,
        metadata={"atif": {**rest, "schema_version": trajectory.get("schema_version"), **({"job": dict(job)} if job else {})}},
    )


def _messages(step: Mapping[str, Json], reader: _Reader) -> list[Message]:
    """Return the message of a step, and the results in it."""
    source = step.get("source")
    if source not in _ROLES:
        raise wrong("source", "system, user or agent", source)
    blocks, said_at = reader.contents(step, "message"), text_at(step, "timestamp")
    calls = [_call(call) for call in objects_at(step, "tool_calls")] if source == "agent" else []
    copied = step.get("is_copied_context") is True
    if source == "agent":
        reasoning = text_at(step, "reasoning_content")
        thoughts = [ReasoningItem(reasoning)] if reasoning else []
        message: Message = AssistantMessage([*thoughts, *blocks, *calls], sampled=_sampled(step))
        if copied or (integer(step, "llm_call_count") == 0):
            message = message.replace(origin="given")
    else:
        message = SystemMessage(blocks) if source == "system" else UserMessage(blocks)
    rest = rest_of(step, *_STEP)
    results = objects_at(object_at(step, "observation"), "results")
    # A result that only refers to a subagent's trajectory was shown to nobody.
    silent = [result for result in results if not result.get("content") and not result.get("source_call_id")]
    results = [result for result in results if result not in silent]
    rest |= {"results": silent} if silent else {}
    ids = [call.call_id for call in calls]
    messages = [with_metadata(message.replace(started_at=said_at), {"atif": rest or None})]
    if source != "agent" and not message.blocks and results:
        messages = []  # a step that only carries what the system did
    messages += [_result(result, ids, len(results) == 1, reader) for result in results]
    return [message.replace(origin="given") for message in messages] if copied else messages


def _call(call: Mapping[str, Json]) -> ToolCall:
    name = text_at(call, "function_name") or text_at(call, "name")
    if name is None:
        raise wrong("tool_calls[].function_name", "text", None)
    extra = rest_of(call, "tool_call_id", "function_name", "name", "arguments")
    return tool_call(name, call.get("arguments"), call.get("tool_call_id"), {"atif": extra} if extra else None)


def _result(result: Mapping[str, Json], ids: Sequence[str], is_only: bool, reader: _Reader) -> Message:
    """Return a result: of the call that it names, of the step's only call, or, in a step without calls, a user's turn."""
    blocks, call_id = reader.contents(result, "content"), text_at(result, "source_call_id")
    rest = {"atif": rest_of(result, "content", "source_call_id") or None}
    if not ids and call_id is None:
        return with_metadata(UserMessage(blocks), rest)
    if call_id is None and is_only and len(ids) == 1:
        call_id = ids[0]
    return with_metadata(ToolMessage(blocks, call_id or ""), rest)


def _sampled(step: Mapping[str, Json]) -> Sampled | None:
    metrics = object_at(step, "metrics")
    costs = [number(metrics, name) for name in ("cost_usd", "cost")]
    fields = {**rest_of(metrics, *_METRICS, "extra"), **object_at(metrics, "extra")}
    sampled = Sampled(
        usage=_usage(metrics),
        model=text_at(step, "model_name"),
        cost_usd=next((cost for cost in costs if cost is not None), None),
        metadata=fields or None,
    )
    sampled = with_tokens(sampled, metrics, "completion_token_ids", "logprobs", "prompt_token_ids")
    return None if sampled == Sampled() else sampled


def _usage(metrics: Mapping[str, Json]) -> Usage | None:
    usage = Usage(
        integer(metrics, "prompt_tokens"),
        integer(metrics, "completion_tokens"),
        integer(metrics, "cached_tokens"),
        integer(metrics, "extra", "reasoning_tokens"),
    )
    return None if usage == Usage() else usage


# Jobs of Harbor.


def _job(file: Path) -> dict[str, dict[str, Json]]:
    """Return the files of a trial whose agent wrote `file`, by name; empty for a file elsewhere."""
    trial, files = file.parent.parent, dict[str, dict[str, Json]]()
    if file.parent.name != "agent":
        return {}
    for name in ("result.json", "config.json", "verifier/reward.json"):
        if (trial / name).is_file():
            value = next((record.value for record in read_file(trial / name)), None)
            files |= {name: value} if isinstance(value, dict) else {}
    text = trial / "verifier" / "reward.txt"
    if "verifier/reward.json" not in files and text.is_file():
        try:
            files["verifier/reward.json"] = {"reward": float(text.read_text(encoding="utf-8").strip())}
        except ValueError:
            files["verifier/reward.json"] = {}
    return files


def _reward(job: Mapping[str, Mapping[str, Json]]) -> tuple[float | None, dict[str, float | None] | None]:
    """Return the reward of a trial, and all its named rewards."""
    verifier = object_or_empty(job.get("result.json", {}), "verifier_result")
    rewards = object_or_empty(verifier, "rewards") or ({"reward": verifier["reward"]} if "reward" in verifier else {})
    rewards = rewards or job.get("verifier/reward.json", {})
    values = {name: number(rewards, name) for name in rewards}
    known = [value for value in values.values() if value is not None]
    reward = values.get("reward", known[0] if len(known) == 1 else None)
    return reward, values or None


def _ending(result: Mapping[str, Json]) -> tuple[Status, str, str | None]:
    exception = object_or_empty(result, "exception_info")
    if not exception:
        return "completed", "finished" if result else "", None
    kind = label_of(exception.get("exception_type"))
    error = f"{kind}: {label_of(exception.get('exception_message'))}"
    return ("truncated", "deadline", error) if kind in _TIMEOUTS else ("error", kind, error)


def _job_usage(result: Mapping[str, Json]) -> Usage | None:
    counts = object_or_empty(result, "agent_result")
    usage = Usage(integer(counts, "n_input_tokens"), integer(counts, "n_output_tokens"), integer(counts, "n_cache_tokens"))
    return None if usage == Usage() else usage


# Trajectories that this package wrote: `extra` has the fields of the record under their own names.


class _Own(_Reader):
    def rollout(self, trajectory: Mapping[str, Json]) -> Rollout:
        agent, final, extra = (object_at(trajectory, name) for name in ("agent", "final_metrics", "extra"))
        messages = [message for step in objects_at(trajectory, "steps") for message in self._messages(step)]
        usage = {ours: final.get(f"total_{theirs}") for theirs, ours in _USAGE.items()}
        data = {
            "schema": SCHEMA,
            "status": "completed",
            **extra,
            "id": trajectory["trajectory_id"],
            "messages": messages,
            **rest_of(
                {"usage": {**rest_of(usage), **object_at(extra, "usage")} or None, "cost_usd": final.get("total_cost_usd")}
            ),
        }
        tools = object_at(agent, "extra").get("tools")
        rollout = Rollout.from_dict({**data, "tools": tools} if tools else data)
        if not tools:
            rollout.tools = [tool_of(tool) for tool in objects_at(agent, "tool_definitions")] or None
        if rollout.model is None and agent.get("model_name"):
            rollout.model = {"name": agent["model_name"]}
        return rollout

    def _messages(self, step: Mapping[str, Json]) -> list[dict[str, Json]]:
        """Return the record's messages of a step."""
        source, extra = step.get("source"), object_at(step, "extra")
        if source not in _ROLES:
            raise wrong("source", "system, user or agent", source)
        message = {"role": _ROLES[source], **rest_of({"started_at": step.get("timestamp")}), **extra}
        message["blocks"] = self._blocks(extra) if "blocks" in extra else self._said(step)
        if "metrics" in step:
            message["sampled"] = self._report(step)
        messages = [] if extra.get("no_message") is True else [message]
        for result in objects_at(object_at(step, "observation"), "results"):
            more = object_at(result, "extra")
            answer = {"role": "tool", **rest_of({"call_id": result.get("source_call_id")}), **more}
            answer["blocks"] = (
                self._blocks(more) if "blocks" in more else list(map(codec.write, self.contents(result, "content")))
            )
            messages.append(answer)
        return messages

    def _said(self, step: Mapping[str, Json]) -> list[Json]:
        reasoning = text_at(step, "reasoning_content")
        blocks: list[Json] = [{"type": "reasoning", "content": reasoning}] if reasoning else []
        blocks += map(codec.write, self.contents(step, "message"))
        for call in objects_at(step, "tool_calls"):
            extra = object_at(call, "extra")
            fields = {"call_id": extra.get("call_id", call.get("tool_call_id")), **rest_of(extra, "call_id")}
            if call.get("arguments") or "content" not in fields:
                fields["arguments"] = call.get("arguments")
            blocks.append({"type": "tool_call", "name": call.get("function_name"), **fields})
        return blocks

    def _blocks(self, extra: Mapping[str, Json]) -> list[Json]:
        """Return the blocks of `extra`, with the bytes of their images."""
        blocks = []
        for block in objects_at(extra, "blocks"):
            path = block.get("path")
            data = self.file(path) if block.get("type") == "image" and isinstance(path, str) else None
            blocks.append(block if data is None else {**rest_of(block, "path"), "data": data})
        return blocks

    def _report(self, step: Mapping[str, Json]) -> dict[str, Json]:
        metrics = object_at(step, "metrics")
        extra = object_at(metrics, "extra")
        usage = {**{ours: metrics[theirs] for theirs, ours in _USAGE.items() if theirs in metrics}, **object_at(extra, "usage")}
        names = {"cost_usd": "cost_usd", "completion_token_ids": "token_ids", "prompt_token_ids": "prompt_token_ids"}
        report = {ours: metrics[theirs] for theirs, ours in {**names, "logprobs": "logprobs"}.items() if theirs in metrics}
        report |= rest_of({"model": step.get("model_name")})
        return {**report, **extra, **({"usage": usage} if usage or "usage" in extra else {})}
