"""Rows of NeMo Gym for rollouts of this package, and the rollouts of such rows.

A row has all fields that the types of OpenAI and NeMo Gym require. What these have no field for (the split, the group, the end,
the origins, the ids as they were) is in the row's `openreward_gym`, which NeMo Gym leaves alone.

A rollout that was played from a row of NeMo Gym has that row in `metadata["nemo_gym"]`. Its own row then has the messages, tools
and parameters of the request as they were there, and all other fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from itertools import chain

from openreward_gym.chat.plain import rest_of
from openreward_gym.importers.nemo_gym_items import prompt_and_output, read_input, read_output, read_spans
from openreward_gym.importers.nemo_gym_marks import marks_of, read_marked
from openreward_gym.importers.nemo_gym_valid import ValidItems
from openreward_gym.importers.shapes import opened
from openreward_gym.jsonio import Json, dumps, escape_surrogates, finite, is_utf8
from openreward_gym.types import Message, Rollout, ToolSpec, Usage
from openreward_gym.types.rollout import moment_of

OWN = "openreward_gym"
"""The field of a row with what NeMo Gym has no field for."""

SAMPLING = {"temperature": "temperature", "top_p": "top_p", "max_output_tokens": "max_tokens"}
"""Parameters of a request, and their names in `sampling`."""

_MADE = (
    "responses_create_params",
    "response",
    "reward",
    "agent_ref",
    "terminated",
    "truncated",
    "info",
    "mask_sample",
    "failure_reason",
    "_ng_failure_class",
    "_ng_task_index",
    "_ng_rollout_index",
    OWN,
)
_MOST = 2**53
"""Larger counts are not whole numbers to every JSON reader."""
_INCOMPLETE = {"length": "max_output_tokens", "context_overflow": "max_output_tokens", "content_filter": "content_filter"}


def request_of(row: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the request of a row, also of a task of NeMo Gym 0.7 (under `task_input`); empty for a row without one."""
    request = given_request(row)
    return request if isinstance(request, Mapping) else {}


def given_request(row: Mapping[str, Json]) -> Json:
    """Return what a row has as its request, of whatever type; None if it has none. JSON text of an object is that object."""
    task = opened(row.get("task_input"))
    return opened(row.get("responses_create_params", task.get("responses_create_params") if isinstance(task, Mapping) else None))


def new_row(rollout: Rollout) -> dict[str, Json]:
    """Return the row of a rollout that was not imported from one."""
    played = (rollout.metadata or {}).get("nemo_gym")
    source: Mapping[str, Json] = played if isinstance(played, Mapping) else {}
    prompt, output = prompt_and_output(rollout.messages)
    given, sampled, text = _items(prompt, output, request_of(source))
    request = {**request_of(source), "input": list(chain.from_iterable(given)) if text is None else text}
    tools = _tools(rollout, request.get("tools"))
    if tools or not source:
        request["tools"] = tools
    if not source:
        request |= _parameters(rollout.sampling or {})
    row: dict[str, Json] = {
        "responses_create_params": request,
        "response": {**_response(rollout, request, output), "output": list(chain.from_iterable(sampled))},
        "reward": rollout.reward,
        "agent_ref": {"type": "responses_api_agents", "name": rollout.environment.name},
        "terminated": rollout.status == "completed",
        "truncated": rollout.status == "truncated",
        "info": {"stop_reason": rollout.stop_reason},
    }
    row |= {name: value for name, value in source.items() if name in ("agent_ref", "info") or name not in row}
    row |= _failure(rollout)
    for name, value in (("_ng_task_index", rollout.task.index), ("_ng_rollout_index", rollout.sample)):
        if value is not None and (name not in source or name == "_ng_rollout_index"):
            row[name] = value
    row = escape_surrogates(row)
    own = {
        "rollout": _record(rollout, source),
        **({"source": _folded(source, row)} if source else {}),
        "input": marks_of(prompt, given if text is None else [()] * len(prompt)),
        "output": marks_of(output, sampled),
    }
    # NeMo Gym's JSON reader refuses lone surrogates: as a text in the text, they are escaped.
    row[OWN] = own if is_utf8(own) else dumps(own, non_finite="text").decode()
    return row


def new_request(prompt: Sequence[Message], tools: Iterable[ToolSpec] = ()) -> dict[str, Json]:
    """Return the request of a row that has not been played: the items of a prompt, and tools.

    Example:
        >>> from openreward_gym.types import UserMessage
        >>> new_request([UserMessage("How warm is it?")])["input"][0]["role"]
        'user'
    """
    items = ValidItems()
    given = [item for number, message in enumerate(prompt) for item in items.write(message, number)]
    request: dict[str, Json] = escape_surrogates({"input": given, "tools": [_written_tool(tool) for tool in tools]})
    return request


def restored(row: Mapping[str, Json]) -> Rollout | None:
    """Return the rollout that this package wrote into a row; None for a row of others.

    What somebody changed in the row since is the rollout's: its items, its reward, and further fields.
    """
    own = row.get(OWN)
    record = own.get("rollout") if isinstance(own, Mapping) else None
    if not isinstance(own, Mapping) or not isinstance(record, Mapping):
        return None
    request, response = request_of(row), row["response"]
    prompt = read_marked(request.get("input"), own.get("input"))
    prompt = read_input(request) if prompt is None else prompt
    output = read_marked(response.get("output"), own.get("output"))
    rollout = Rollout.from_dict({**record, "schema": Rollout.SCHEMA})
    rollout.messages = [*prompt, *(read_output(response, prompt=prompt) if output is None else output)]
    _take_changes(rollout, row, own.get("source"))
    return rollout


def _items(
    prompt: Sequence[Message], output: Sequence[Message], request: Mapping[str, Json]
) -> tuple[list[list[Json]], list[list[Json]], str | None]:
    """Return the items of each given message and of each later one, and the text of `input` where that says it all.

    A given message that the request has, too, has the request's items, as they came.
    """
    items, spans, place = ValidItems(), _spans(request), 0
    text = request.get("input")
    if isinstance(text, str) and [*map(_words, prompt)] == [*map(_words, read_input(request))]:
        # The text of `input` has no items.
        return [[] for _ in prompt], _sampled(items, output, len(prompt)), text
    given: list[list[Json]] = []
    for number, message in enumerate(prompt):
        words = _words(message)
        found = next((n for n in range(place, len(spans)) if _words(spans[n][0]) == words), None)
        if found is None:
            given.append([*items.write(message, number)])
            continue
        place = found + 1
        given.append(spans[found][1])
        items.add(spans[found][1], number)
    return given, _sampled(items, output, len(prompt)), None


def _spans(request: Mapping[str, Json]) -> list[tuple[Message, list[Json]]]:
    try:
        return read_spans(request)
    except (TypeError, ValueError):
        return []  # not messages: those of the record are written


def _sampled(items: ValidItems, output: Sequence[Message], first: int) -> list[list[Json]]:
    last = max((number for number, message in enumerate(output) if message.role == "assistant"), default=-1)
    return [[*items.write(message, first + number, at_end=number > last)] for number, message in enumerate(output)]


def _words(message: Message) -> tuple[Json, ...]:
    """Return what a message says, to find it in a request."""
    calls = [(call.name, call.arguments_json) for call in message.tool_calls]
    images = [getattr(block, "data", "") for block in message.blocks if block.type == "image"]
    return message.role, message.text, calls, images, message.call_id or None


def _tools(rollout: Rollout, given: Json) -> list[Json]:
    """Return the tools of the request as they came, and the model's other tools."""
    own = list(given) if isinstance(given, list) else []
    names = {_tool_name(tool) for tool in own}
    return [*own, *(_written_tool(tool) for tool in rollout.tools or () if tool.name not in names)]


def _tool_name(tool: Json) -> str:
    if not isinstance(tool, Mapping):
        return ""
    function = tool.get("function")
    name = function.get("name") if "name" not in tool and isinstance(function, Mapping) else tool.get("name")
    return name if isinstance(name, str) else ""


def _written_tool(tool: ToolSpec) -> dict[str, Json]:
    parameters = tool.input_schema or {"type": "object", "properties": {}}
    strict = tool.extra.get("strict", False)
    strict = strict if isinstance(strict, bool) else None
    return {"type": "function", "name": tool.name, "description": tool.description, "parameters": parameters, "strict": strict}


def _parameters(sampling: Mapping[str, Json]) -> dict[str, Json]:
    """Return the parameters of a request that the sampling names, in the form that the types take."""
    read = {theirs: sampling.get(ours) for theirs, ours in SAMPLING.items()}
    read |= {name: sampling.get(name) for name in ("top_logprobs", "max_tool_calls", "parallel_tool_calls", "truncation")}
    effort, choice = sampling.get("reasoning_effort"), sampling.get("tool_choice")
    read["reasoning"] = {"effort": effort} if effort in ("minimal", "low", "medium", "high") else sampling.get("reasoning")
    read["tool_choice"] = choice if choice in ("none", "auto", "required") else None
    return {name: value for name, value in read.items() if value is not None and _fits(name, value)}


def _fits(name: str, value: Json) -> bool:
    if name in ("temperature", "top_p"):
        return type(value) in (int, float) and math.isfinite(value)
    if name in ("max_output_tokens", "top_logprobs", "max_tool_calls"):
        return type(value) is int
    if name == "parallel_tool_calls":
        return type(value) is bool
    if name == "reasoning":
        return (
            isinstance(value, dict) and value.keys() <= {"effort"} and value.get("effort") in ("minimal", "low", "medium", "high")
        )
    return value in ("auto", "disabled") if name == "truncation" else True


def _response(rollout: Rollout, request: Mapping[str, Json], output: Sequence[Message]) -> dict[str, Json]:
    """Return the fields of the response, without its items."""
    model = rollout.model or {}
    started = moment_of(rollout.started_at)
    last = next((message for message in reversed(output) if message.role == "assistant"), None)
    ended = (last and last.ended) or ("length" if rollout.status == "truncated" and rollout.stop_reason == "max_tokens" else "")
    reason, failed = _INCOMPLETE.get(ended), ended == "error"
    error = {"code": "server_error", "message": rollout.error or "the model did not answer"}
    choice, parallel = request.get("tool_choice"), request.get("parallel_tool_calls")
    return {
        "id": rollout.id,
        "created_at": 0.0 if started is None else started.astimezone(UTC).timestamp(),
        "model": str(model.get("name") or model.get("model_name") or ""),
        "object": "response",
        "output": [],
        "parallel_tool_calls": parallel if isinstance(parallel, bool) else True,
        "tool_choice": "auto" if choice is None else choice,
        "tools": request.get("tools") or [],
        "status": "failed" if failed else "incomplete" if reason else "completed",
        "error": error if failed else None,
        "incomplete_details": {"reason": reason} if reason else None,
        "usage": _written_usage(rollout.usage),
    }


def _written_usage(usage: Usage | None) -> dict[str, Json] | None:
    """Return token counts as OpenAI's type wants them: all are numbers. Without the two sums there is no usage."""
    counts = (None, None) if usage is None else (usage.input_tokens, usage.output_tokens)
    if usage is None or not all(count is not None and 0 <= count < _MOST for count in counts):
        return None
    cached, reasoning = (
        (count or 0) if 0 <= (count or 0) < _MOST else 0 for count in (usage.cached_tokens, usage.reasoning_tokens)
    )
    return {
        "input_tokens": counts[0],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": counts[1],
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": sum(count or 0 for count in counts),
    }


def _failure(rollout: Rollout) -> dict[str, Json]:
    """Return the marks by which NeMo Gym leaves a row out of its scores: a failure, or an episode without a reward."""
    failed = rollout.status in ("error", "cancelled")
    has_reward = rollout.reward is not None and math.isfinite(rollout.reward)
    if has_reward and not failed:
        return {}
    fields: dict[str, Json] = {"mask_sample": True}
    if rollout.error is not None:
        fields["failure_reason"] = rollout.error
    return (
        {**fields, "_ng_failure_class": "cancelled" if rollout.status == "cancelled" else "agent_run_error"} if failed else fields
    )


def _record(rollout: Rollout, source: Mapping[str, Json]) -> dict[str, Json]:
    """Return the record without its messages, and without the row that it was played from."""
    record = rest_of(replace(rollout, messages=[]).to_dict(), "schema")
    return {**record, "metadata": {**record["metadata"], "nemo_gym": None}} if source else record


def _folded(source: Mapping[str, Json], row: Mapping[str, Json]) -> list[Json]:
    """Return the fields of an object, in their order, each with its value unless `row` has the same."""
    folded: list[Json] = []
    for name, value in source.items():
        other = row.get(name)
        if name in row and dumps(finite(value)) == dumps(finite(other)):
            folded.append([name])
        elif name == "responses_create_params" and isinstance(value, Mapping) and isinstance(other, Mapping):
            folded.append([name, None, _folded(value, other)])
        else:
            folded.append([name, value])
    return folded


def _unfolded(folded: Json, row: Json) -> dict[str, Json]:
    fields: dict[str, Json] = {}
    for name, *rest in folded:
        own = row.get(name) if isinstance(row, Mapping) else None
        fields[name] = own if not rest else rest[0] if len(rest) == 1 else _unfolded(rest[1], own)
    return fields


def _take_changes(rollout: Rollout, row: Mapping[str, Json], folded: Json) -> None:
    """Give a rollout the row that it was played from, and what was changed in its own row since."""
    metadata = rollout.metadata or {}
    source = _unfolded(folded, row) if isinstance(folded, list) else {}
    known = {*_MADE, *map(escape_surrogates, source)}
    added = {name: value for name, value in row.items() if name not in known}
    if (source or added) and metadata.get("nemo_gym") is None:
        rollout.metadata = {**metadata, "nemo_gym": {**source, **added}}
    written = row.get("reward")
    if "reward" in row and finite(rollout.reward) != finite(written):
        rollout.reward = rollout.final_reward = None if written is None else float(written)
