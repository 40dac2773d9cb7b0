"""ATIF v1.8, the Agent Trajectory Interchange Format (Harbor's RFC 0001): one trajectory per line.

What ATIF has no field for stands in `extra` under the name that it has in the record: a step's `origin`, `weight`, `ended`,
`reward`, ..., a call's text (`content`), and the `blocks` of a message whose order or kinds ATIF cannot say. The importer `atif`
reads the same messages back. Turns that are not to be trained are marked with `is_copied_context`, which ATIF's readers know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from openreward_gym.export.conversation import Conversation
from openreward_gym.export.formats.base import Context, Format, LeftOut
from openreward_gym.export.reader import Record, is_trained, model_of, sampled_of
from openreward_gym.export.reasons import RECORD_FINDINGS
from openreward_gym.export.tables import Columns, Row
from openreward_gym.images import extension_of, mime_type_of
from openreward_gym.types import text_separator
from openreward_gym.types.rollout import moment_of

SCHEMA_VERSION = "ATIF-v1.8"
PRODUCER = "openreward-gym"
"""The name of the agent in trajectories whose `extra` has the record's fields."""

Json: TypeAlias = Any

_SOURCES = {"system": "system", "user": "user", "assistant": "agent"}
_MEDIA_TYPES = {extension_of(kind): kind for kind in ("image/png", "image/jpeg", "image/gif", "image/webp")}
_CALL = {"type", "name", "arguments", "call_id", "content"}
_IMAGE = {"type", "data", "sha256", "mimeType"}
_USAGE = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens", "cached_tokens": "cached_tokens"}
_METRICS = {"cost_usd": "cost_usd", "prompt_token_ids": "prompt_token_ids", "token_ids": "completion_token_ids"}
# Fields of a record that ATIF has no field for. The task's spec and answer, and the free metadata, stay in the archive.
_RECORD = (
    *("run", "name", "environment", "group", "sample", "attempt", "step", "advantage", "discard_reason", "labels", "model"),
    *("sampling", "terminal_tool", "reward", "final_reward", "metrics", "status", "stop_reason", "error", "started_at"),
    *("ended_at", "timing", "seed", "versions"),
)


class Atif(Format):
    """Steps of the system, the user and the agent; a tool's results and rewards stand in the step of their calls."""

    name = "atif"
    about = "trajectories in the Agent Trajectory Interchange Format, version 1.8"
    file = "jsonl"
    statuses = None
    trains = False
    image_column = False
    remarks = RECORD_FINDINGS | {"reasoning_left_out"}

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
        record = conversation.record
        steps = _Steps(self.context)
        for message in record.get("messages") or ():
            steps.add(message)
        if not steps.steps:
            raise LeftOut("it has no messages")
        agent = {"name": PRODUCER, "version": version("openreward-gym")}
        tools = record.get("tools") or ()
        exact = all(tool.keys() <= {"name", "description", "input_schema"} and "input_schema" in tool for tool in tools)
        yield {
            "schema_version": SCHEMA_VERSION,
            "session_id": record["id"],
            "trajectory_id": record["id"],
            "agent": {
                **agent,
                **_present(model_name=model_of(record), tool_definitions=conversation.tools),
                **({} if exact else {"extra": {"tools": tools}}),
            },
            "steps": steps.steps,
            "final_metrics": _final_metrics(record, len(steps.steps)),
            "extra": _extra(record),
        }


class _Steps:
    """The steps of a trajectory, made message by message."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.steps: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        # Of the last step's calls that have no result yet: (id in the record, name, id in the trajectory).
        self._unanswered: list[tuple[str, str, str]] = []

    def add(self, message: Record) -> None:
        blocks = message.get("blocks") or []
        if not self.context.options.reasoning:
            blocks = [block for block in blocks if block["type"] != "reasoning"]
        if message["role"] == "tool":
            if not self.steps:
                self._step({"source": "system", "message": "", "extra": {"no_message": True}})
            self.steps[-1].setdefault("observation", {"results": []})["results"].append(self._result(message, blocks))
            return
        self._unanswered = []
        source = _SOURCES[message["role"]]
        step: dict[str, Any] = {"source": source}
        hidden = {"role", "blocks"}
        if moment_of(message.get("started_at")) is not None:
            step["timestamp"] = message["started_at"]
            hidden.add("started_at")
        is_exact = (
            self._agent(step, message, blocks, hidden) if source == "agent" else self._set_message(step, blocks, message["role"])
        )
        extra = {name: value for name, value in message.items() if name not in hidden}
        if not is_exact:
            extra["blocks"] = [self._kept(block) for block in blocks]
        self._step({**step, **({"extra": extra} if extra else {})})

    def _step(self, step: dict[str, Any]) -> None:
        self.steps.append({"step_id": len(self.steps) + 1, **step})

    def _set_message(self, step: dict[str, Any], blocks: Sequence[Record], role: str) -> bool:
        """Set the step's message; return whether it says the blocks exactly."""
        step["message"], is_exact = self._content(blocks, role)
        return is_exact

    def _agent(self, step: dict[str, Any], message: Record, blocks: Sequence[Record], hidden: set[str]) -> bool:
        """Set the fields of an agent's step, and name those of the record that they say; return whether they say the blocks."""
        thoughts = [block for block in blocks if block["type"] == "reasoning"]
        calls = [block for block in blocks if block["type"] == "tool_call"]
        others = [block for block in blocks if block["type"] not in ("reasoning", "tool_call")]
        is_exact = self._set_message(step, others, "assistant") and [*thoughts, *others, *calls] == list(blocks)
        is_exact = is_exact and [block.keys() for block in thoughts] in ([], [{"type", "content"}])
        is_exact = is_exact and all(block.keys() <= _CALL and ("arguments" in block or "content" in block) for block in calls)
        reasoning = "".join(block.get("content") or "" for block in thoughts)
        is_exact = is_exact and bool(reasoning) == bool(thoughts)
        if "sampled" in message:
            hidden.add("sampled")
            step["metrics"] = _metrics(sampled_of(message))
            step.update(_present(model_name=sampled_of(message).get("model")))
        if reasoning:
            step["reasoning_content"] = reasoning
        if calls:
            step["tool_calls"] = [self._call(block, number) for number, block in enumerate(calls)]
        if message.get("origin") in ("environment", "client") and not reasoning and "sampled" not in message:
            step["llm_call_count"] = 0
        elif not is_trained(message) or message.get("origin") is None:
            step["is_copied_context"] = True
        elif "sampled" in message:
            step["llm_call_count"] = 1
        return is_exact

    def _call(self, block: Record, number: int) -> dict[str, Any]:
        call_id = block.get("call_id") or ""
        unique = call_id or f"call_{len(self.steps) + 1}_{number}"
        while unique in self._ids:
            unique += "_"
        self._ids.add(unique)
        self._unanswered.append((call_id, block["name"], unique))
        extra = {"content": block["content"]} if "content" in block else {}
        if unique != call_id:
            extra["call_id"] = call_id
        call = {"tool_call_id": unique, "function_name": block["name"], "arguments": block.get("arguments") or {}}
        return {**call, "extra": extra} if extra else call

    def _result(self, message: Record, blocks: Sequence[Record]) -> dict[str, Any]:
        content, is_exact = self._content(blocks, "tool")
        extra = {name: value for name, value in message.items() if name not in ("role", "blocks", "call_id")}
        if not is_exact:
            extra["blocks"] = [self._kept(block) for block in blocks]
        call_id = message.get("call_id")
        source = self._source_of(call_id, message.get("name"))
        if source != call_id:
            extra["call_id"] = call_id
        return {**_present(source_call_id=source), "content": content, **({"extra": extra} if extra else {})}

    def _source_of(self, call_id: str | None, name: str | None) -> str | None:
        """Return the id of the call that a result answers: by id, or else by name; None for one that answers no call."""
        for call in self._unanswered:
            if call[0] == call_id if call_id else not call[0] and name in (None, call[1]):
                self._unanswered.remove(call)
                return call[2]
        return None

    def _content(self, blocks: Sequence[Record], role: str) -> tuple[Json, bool]:
        """Return blocks as a text, or as parts if there are images; and whether these say the blocks exactly."""
        parts: list[dict[str, Any]] = []
        is_exact = True
        for block in blocks:
            part, same = self._part(block)
            is_exact = is_exact and same
            if part is not None:
                parts.append(part)
        if any(part["type"] != "text" for part in parts):
            return parts, is_exact
        text = text_separator(role).join(part["text"] for part in parts)
        return text, is_exact and len(parts) == (1 if text else 0)

    def _part(self, block: Record) -> tuple[dict[str, Any] | None, bool]:
        if block["type"] == "text":
            return {"type": "text", "text": block["text"]}, block.keys() == {"type", "text"}
        if block["type"] == "image":
            content = self.context.read_image(block)
            media_type = None if content is None else mime_type_of(content)
            if content is None or media_type is None or media_type not in _MEDIA_TYPES.values():
                return None, False
            same = block.keys() <= _IMAGE and block.get("mimeType", "image/png") == media_type
            return _image_part(self._path_of(content), media_type), same
        url = _url_of(block)
        media_type = _MEDIA_TYPES.get(urlsplit(url).path.rpartition(".")[2].lower().replace("jpeg", "jpg")) if url else None
        if url is None or media_type is None:
            return None, False
        return _image_part(url, media_type), block == {"type": "image_url", "image_url": {"url": url}}

    def _path_of(self, content: bytes) -> str:
        if self.context.image_files is None:
            raise LeftOut("it has images: ATIF takes paths, which `write` makes")
        return self.context.image_files.path_of(content)

    def _kept(self, block: Record) -> Record:
        """Return a block for `extra`; an image has the path of its file."""
        content = self.context.read_image(block) if block["type"] == "image" else None
        if content is None:
            return block
        return {**{key: block[key] for key in block if key not in ("data", "sha256")}, "path": self._path_of(content)}


def _image_part(path: str, media_type: str) -> dict[str, Any]:
    return {"type": "image", "source": {"media_type": media_type, "path": path}}


def _url_of(block: Record) -> str | None:
    """Return the address of an image that a provider's block names; None for any other block."""
    place: Json = block.get("image_url")
    if isinstance(place, Mapping):
        place = place.get("url")
    elif block.get("type") == "opaque" and isinstance(block.get("raw"), Mapping):
        source = block["raw"].get("source")
        place = source.get("url") if isinstance(source, Mapping) else None
    if not isinstance(place, str) or not place.startswith(("http://", "https://")):
        return None
    try:
        urlsplit(place)
    except ValueError:
        return None
    return place


def _metrics(sampled: Record) -> dict[str, Any]:
    usage = sampled.get("usage") or {}
    metrics = {theirs: usage[ours] for ours, theirs in _USAGE.items() if ours in usage}
    metrics |= {theirs: sampled[ours] for ours, theirs in _METRICS.items() if isinstance(sampled.get(ours), (int, float, list))}
    logprobs = sampled.get("logprobs")
    if isinstance(logprobs, list) and not any(isinstance(value, str) for value in logprobs):
        metrics["logprobs"] = logprobs
    written = {ours for ours, theirs in _METRICS.items() if theirs in metrics} | (
        {"logprobs"} if "logprobs" in metrics else set()
    )
    extra = {name: value for name, value in sampled.items() if name not in written and name not in ("usage", "model")}
    if sampled.get("model") == "":
        extra["model"] = ""
    rest = {name: value for name, value in usage.items() if name not in _USAGE}
    if rest or ("usage" in sampled and not usage):
        extra["usage"] = rest
    return {**metrics, "extra": extra} if extra else metrics


def _final_metrics(record: Record, steps: int) -> dict[str, Any]:
    usage = record.get("usage") or {}
    return _present(
        **{f"total_{theirs}": usage.get(ours) for ours, theirs in _USAGE.items()},
        total_cost_usd=record.get("cost_usd"),
        total_steps=steps,
    )


def _extra(record: Record) -> dict[str, Any]:
    extra = {name: record[name] for name in _RECORD if record.get(name) not in (None, "")}
    usage = {name: value for name, value in (record.get("usage") or {}).items() if name not in _USAGE}
    task = {name: value for name, value in (record.get("task") or {}).items() if name in ("id", "index")}
    return {**extra, **({"task": task} if task else {}), **({"usage": usage} if usage else {})}


def _present(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}
