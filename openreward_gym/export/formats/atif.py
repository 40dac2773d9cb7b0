"""ATIF v1.7, the Agent Trajectory Interchange Format (Harbor's RFC 0001): one trajectory per line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any, TypeAlias

from openreward_gym.export.conversation import ChatMessage, Conversation
from openreward_gym.export.formats.base import Format, LeftOut
from openreward_gym.export.reader import Record, model_of, sampled_of
from openreward_gym.export.tables import Columns, Row
from openreward_gym.images import mime_type_of

SCHEMA_VERSION = "ATIF-v1.7"

Images: TypeAlias = Iterator[tuple[bytes, str]]
"""Images and their paths, in the order of their parts."""


class Atif(Format):
    """Steps of the system, the user and the agent; a tool's results and rewards stand in the step of their calls."""

    name = "atif"
    about = "trajectories in the Agent Trajectory Interchange Format, version 1.7"
    file = "jsonl"
    statuses = None
    tolerates = frozenset({"unanswered_call", "control_tokens", "no_model_turn", "unknown_origin", "interleaved"})
    image_column = False

    def columns(self) -> Columns:
        return {
            "schema_version": "text",
            "session_id": "text",
            "trajectory_id": "text",
            "agent": "object",
            "steps": "objects",
            "final_metrics": "object",
            "extra": "object",
        }

    def all_columns(self) -> Columns:
        # ATIF allows no further keys.
        return self.columns()

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        steps = _steps(conversation, iter(zip(conversation.images, self.image_paths(conversation, "ATIF"), strict=False)))
        if not steps:
            raise LeftOut("it has no messages")
        record = conversation.record
        agent = {"name": "openreward-gym", "version": version("openreward-gym")}
        yield {
            "schema_version": SCHEMA_VERSION,
            "session_id": record["id"],
            "trajectory_id": record["id"],
            "agent": {**agent, **_present(model_name=model_of(record), tool_definitions=conversation.tools)},
            "steps": steps,
            "final_metrics": _final_metrics(record, len(steps)),
            "extra": _extra(record),
        }


def _steps(conversation: Conversation, images: Images) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    records = conversation.record.get("messages") or []
    for message, number in zip(conversation.messages, conversation.sources, strict=True):
        record = records[number] if number >= 0 else {}
        if message["role"] == "tool":
            results = steps[-1].setdefault("observation", {"results": []})["results"]
            results.append(_result(message, record))
            continue
        source = "agent" if message["role"] == "assistant" else message["role"]
        step: dict[str, Any] = {"step_id": len(steps) + 1, "source": source, "message": _content(message["content"], images)}
        if record.get("started_at"):
            step["timestamp"] = record["started_at"]
        if source == "agent":
            step.update(_agent_fields(message, record))
        steps.append(step)
    return steps


def _content(content: Any, images: Images) -> Any:
    """Return a text, or parts in which an image has the path of its file."""
    if isinstance(content, str):
        return content
    parts: list[dict[str, Any]] = []
    for part in content:
        if part["type"] == "image":
            image, path = next(images)
            parts.append({"type": "image", "source": {"media_type": mime_type_of(image), "path": path}})
        else:
            parts.append(part)
    return parts


def _agent_fields(message: ChatMessage, record: Record) -> dict[str, Any]:
    sampled = sampled_of(record)
    usage = sampled.get("usage") or {}
    metrics = _present(
        prompt_tokens=usage.get("input_tokens"),
        completion_tokens=usage.get("output_tokens"),
        cached_tokens=usage.get("cached_tokens"),
        cost_usd=sampled.get("cost_usd"),
        prompt_token_ids=sampled.get("prompt_token_ids"),
        completion_token_ids=sampled.get("token_ids"),
        logprobs=sampled.get("logprobs"),
    )
    return _present(
        model_name=sampled.get("model") or None,
        reasoning_content=message.get("reasoning_content"),
        tool_calls=list(map(_call, message["tool_calls"])) if "tool_calls" in message else None,
        metrics=metrics or None,
    )


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {"tool_call_id": call["id"], "function_name": function["name"], "arguments": function["arguments"]}


def _result(message: ChatMessage, record: Record) -> dict[str, Any]:
    result = {"source_call_id": message["tool_call_id"], "content": message["content"]}
    extra = {name: record[name] for name in ("reward", "finished", "is_error") if record.get(name) not in (None, False)}
    return {**result, "extra": extra} if extra else result


def _final_metrics(record: Record, steps: int) -> dict[str, Any]:
    usage = record.get("usage") or {}
    return _present(
        total_prompt_tokens=usage.get("input_tokens"),
        total_completion_tokens=usage.get("output_tokens"),
        total_cached_tokens=usage.get("cached_tokens"),
        total_cost_usd=record.get("cost_usd"),
        total_steps=steps,
    )


def _extra(record: Record) -> dict[str, Any]:
    names = ("run", "environment", "group", "sample", "reward", "final_reward", "status", "stop_reason", "seed")
    extra = {name: record[name] for name in names if record.get(name) not in (None, "")}
    task = {name: value for name, value in (record.get("task") or {}).items() if name in ("id", "index")}
    return {**extra, **({"task": task} if task else {})}


def _present(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}
