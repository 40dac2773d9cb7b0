"""Rollouts of NeMo Gym (`ng_collect_rollouts`, `gym eval run`), read and written.

A line has `responses_create_params` (the request to the model: `input`, `tools`, ...), `response` (its `output` and
`usage`), `reward`, and the fields of the environment's verifier. A line of an environment server has `invocations` instead,
each a request and a response with the role that the model played. The line, without the items that can be written
again from the messages, is kept in the record's `metadata["nemo_gym"]`, so that `write` gives the line back unchanged.

A rollout of another source is written with all fields that the types of OpenAI and NeMo Gym require. What these have no field
for (the split, the group, the end, the origins) is in the line's `openreward_gym`, which NeMo Gym leaves alone.

Origin: the messages of `input` and `instructions` are given, whatever their roles. In `output` the assistant's items are the
policy's; the outputs of calls and the messages of other roles are the environment's. Of an environment server's line the policy
is the role `assistant`: its last request and response are the conversation, in which the answers of its earlier responses are
the policy's too. The turns of other roles, such as a simulated user or a judge, are not.

Ends: `incomplete_details` and `status` of the response tell the end of the last turn; of an earlier turn, the status of its
items, and whether its calls were answered.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC
from itertools import chain
from pathlib import Path

from openreward_gym.chat.openai import usage_of
from openreward_gym.chat.plain import rest_of
from openreward_gym.importers.jsonl import NO_ROWS, GroupBy, files_of, read_lines, tool_of
from openreward_gym.importers.nemo_gym_inputs import input_line, restored_line, with_input_line
from openreward_gym.importers.nemo_gym_items import (
    end_reason,
    marks_of,
    prompt_and_output,
    read_input,
    read_marked,
    read_output,
    same,
    write_items,
    write_valid_items,
)
from openreward_gym.importers.shapes import opened
from openreward_gym.jsonio import Json, loads
from openreward_gym.store import Damage
from openreward_gym.types import Message, Rollout, RolloutEnvironment, Task, ToolSpec, Usage, task_id
from openreward_gym.types.rollout import line_of, moment_of

OWN = "openreward_gym"
"""The field of a line with what NeMo Gym has no field for."""

_SAMPLING = {"temperature": "temperature", "top_p": "top_p", "max_output_tokens": "max_tokens"}
# Parameters of a request that are kept in `sampling` by their names.
_PARAMETERS = (
    "top_logprobs",
    "reasoning",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "truncation",
    "max_tool_calls",
    "include",
)
_DEFAULTS = {"tool_choice": "auto", "parallel_tool_calls": True}
# Fields that a table may have as JSON text.
_OBJECTS = ("responses_create_params", "response", "agent_ref", "invocations", "reward_components", "_ng_task_id", OWN)
_OWN_FIELDS = ("responses_create_params", "response", "reward", "agent_ref", "invocations", OWN)


def read(path: str | os.PathLike[str], group_by: GroupBy | None = None) -> Iterator[Rollout | Damage]:
    """Yield the rollouts of a file, or of the files of a folder. For a line that is only an input, the Damage says so."""
    for file in files_of(path, NO_ROWS, formats=("nemo_gym",)):
        yield from read_lines(file, rollout_of, group_by)


def is_row(row: Mapping[str, Json]) -> bool:
    """Return whether a line is NeMo Gym's: a rollout or an input."""
    return "responses_create_params" in row


def question_of(row: Mapping[str, Json]) -> str:
    """Return the text of a line's last user message, without surrounding space; empty without such a message."""
    request = opened(row.get("responses_create_params"))
    try:
        messages = read_input(request) if isinstance(request, Mapping) else []
    except (TypeError, ValueError):
        return ""
    return next((message.text.strip() for message in reversed(messages) if message.role == "user"), "")


def spec_of(row: Mapping[str, Json]) -> dict[str, Json]:
    """Return a line as the spec of a task: the fields beside the conversation, and the question as `question` by default."""
    fields = {name: value for name, value in row.items() if name not in ("responses_create_params", "agent_ref")}
    return {"question": question_of(row), **fields}


def rollout_of(row: Mapping[str, Json], identity: str) -> Rollout:
    """Return the rollout of one line; raise ValueError for a line that is not a rollout of NeMo Gym."""
    row = {name: opened(value) if name in _OBJECTS else value for name, value in row.items()}
    if isinstance(row.get("invocations"), list) and not isinstance(row.get("responses_create_params"), Mapping):
        request, response, messages = _of_invocations(row["invocations"])
    else:
        request, response = _request_and_response(row)
        prompt = read_input(request)
        facts = row.get(OWN)
        if isinstance(facts, Mapping) and isinstance(facts.get("rollout"), Mapping):
            items = [request.get("input") or [], response.get("output") or []]
            marked = [read_marked(own, facts.get(name)) for own, name in zip(items, ("input", "output"), strict=True)]
            prompt = prompt if marked[0] is None else marked[0]
            output = read_output(response, prompt=prompt) if marked[1] is None else marked[1]
            return _restored(row, [*prompt, *output])
        messages = [*prompt, *read_output(response, prompt=prompt)]
    reward = None if row.get("reward") is None else float(row["reward"])
    name, task = _environment_and_task(row, request)
    status, stop_reason = _end(row, response)
    if messages and reward is not None:
        messages[-1] = messages[-1].replace(reward=reward, finished=True)
    return Rollout(
        id=identity,
        environment=RolloutEnvironment(name=name),
        task=task,
        group=task.id,
        sample=row.get("_ng_rollout_index"),
        attempt=row.get("_ng_attempt_index") or 0,
        model={"name": model} if (model := response.get("model") or request.get("model")) else None,
        sampling=_sampling(request, response) or None,
        tools=_tools(request),
        messages=messages,
        reward=reward,
        final_reward=reward,
        metrics=_metrics(row) or None,
        status=status,
        stop_reason=stop_reason,
        error=str(row["_ng_failure_class"]) if status == "error" and row.get("_ng_failure_class") else None,
        usage=usage_of(response.get("usage"), "input", "output"),
        metadata={"nemo_gym": _remainder(row, messages)},
    )


def _request_and_response(row: Mapping[str, Json]) -> tuple[Mapping[str, Json], Mapping[str, Json]]:
    request, response = row.get("responses_create_params"), row.get("response")
    if not isinstance(request, Mapping):
        raise ValueError('no "responses_create_params": this is not a line of NeMo Gym')
    if not isinstance(response, Mapping):
        if row.get("_ng_failure_class"):
            raise ValueError('no "response": this is a failed attempt, not a rollout')
        raise ValueError('no "response": this is an input (a task), not a rollout')
    return request, response


def _of_invocations(invocations: list[Json]) -> tuple[Mapping[str, Json], Mapping[str, Json], list[Message]]:
    """Return the last request and response of the policy, and the conversation."""
    calls = [call for call in invocations if isinstance(call, Mapping) and call.get("role") in ("assistant", "agent", "policy")]
    calls = [call for call in calls if isinstance(call.get("request"), Mapping) and isinstance(call.get("response"), Mapping)]
    if not calls:
        raise ValueError('no invocation of the role "assistant" with a request and a response: there is no turn of the policy')
    answers = [message for call in calls[:-1] for message in read_output(call["response"], prompt=read_input(call["request"]))]
    request, response = calls[-1]["request"], calls[-1]["response"]
    messages: list[Message] = []
    began = False
    for message in read_input(request):
        turn = next((answer for answer in answers if answer.role == "assistant" and _says_the_same(answer, message)), None)
        if turn is not None:
            answers.remove(turn)
            message, began = turn, True
        elif began and message.role != "assistant":
            message = message.replace(origin="environment")
        messages.append(message)
    return request, response, [*messages, *read_output(response, prompt=messages)]


def _says_the_same(first: Message, second: Message) -> bool:
    if second.role != "assistant":
        return False
    calls = [[(call.name, call.arguments_json) for call in message.tool_calls] for message in (first, second)]
    return first.text == second.text and calls[0] == calls[1] and bool(first.text or calls[0])


def _environment_and_task(row: Mapping[str, Json], request: Mapping[str, Json]) -> tuple[str, Task]:
    agent, identity = row.get("agent_ref"), row.get("_ng_task_id")
    name = str(agent.get("name") or "") if isinstance(agent, Mapping) else ""
    name = name or str(row.get("_ng_environment_server") or "")
    index = row.get("_ng_task_index", row.get("task_idx"))
    spec: Mapping[str, Json] | None = None
    if isinstance(identity, Mapping):
        spec = dict(identity)
    elif index is None:
        spec = {"input": request.get("input")}
    extra = {"nemo_gym": dict(identity)} if isinstance(identity, Mapping) else {}
    return name, Task(index=index, id=task_id(name, None, spec, index), extra=extra)


def _tools(request: Mapping[str, Json]) -> list[ToolSpec] | None:
    """Return the tools of a request with a name; those that the provider runs itself (`web_search`) stay in the metadata."""
    tools = [opened(tool) for tool in request.get("tools") or ()]
    is_hosted = [isinstance(t, Mapping) and t.get("type") not in (None, "function", "custom") and "name" not in t for t in tools]
    return [tool_of(tool) for tool, hosted in zip(tools, is_hosted, strict=True) if not hosted] or None


def _end(row: Mapping[str, Json], response: Mapping[str, Json]) -> tuple[Json, str]:
    """Return the status and the stop reason."""
    if row.get("_ng_failure_class") or response.get("error") or response.get("status") in ("failed", "cancelled"):
        return "error", ""
    reason = end_reason(response)
    if reason:
        return "truncated", "max_tokens" if reason == "max_output_tokens" else reason
    if row.get("truncated") and not row.get("terminated"):
        return "truncated", ""
    return "completed", "finished"


def _sampling(request: Mapping[str, Json], response: Mapping[str, Json]) -> dict[str, Json]:
    """Return the parameters of the request; where it leaves one to the server, the response tells the one that was used."""
    sampling: dict[str, Json] = {}
    for theirs, ours in (*_SAMPLING.items(), *((name, name) for name in _PARAMETERS)):
        value = request.get(theirs)
        value = response.get(theirs) if value is None and theirs in _SAMPLING else value
        if value not in (None, [], {}, _DEFAULTS.get(theirs)):
            sampling[ours] = value
    metadata = request.get("metadata")
    for name in ("chat_template_kwargs", "extra_body"):
        # NeMo Gym's metadata takes text only.
        value = metadata.get(name) if isinstance(metadata, Mapping) else None
        if isinstance(value, str):
            try:
                value = loads(value)
            except ValueError:
                value = None
        if isinstance(value, dict) and value:
            sampling.update(value if name == "extra_body" else {name: value})
    return sampling


def _metrics(row: Mapping[str, Json]) -> dict[str, float | None]:
    fields = {name: value for name, value in row.items() if name not in _OWN_FIELDS and not name.startswith("_ng_")}
    components = row.get("reward_components")
    fields |= {f"reward_components.{name}": value for name, value in (components if isinstance(components, dict) else {}).items()}
    return {name: float(value) for name, value in fields.items() if isinstance(value, (int, float))}


def _restored(row: Mapping[str, Json], messages: list[Message]) -> Rollout:
    """Return the rollout that this package wrote into a line, with its messages."""
    record = row[OWN].get("rollout")
    rollout = Rollout.from_dict({**(record if isinstance(record, Mapping) else {}), "schema": Rollout.SCHEMA})
    rollout.messages = messages
    line = restored_line(row, row[OWN])
    if line is not None:
        rollout.metadata = {**(rollout.metadata or {}), "nemo_gym": line}
    return rollout


def _remainder(row: Mapping[str, Json], messages: list[Message]) -> dict[str, Json]:
    """Return the line without the items that `write` can make again, unchanged, from the messages."""
    if "responses_create_params" not in row:
        return dict(row)
    request, response = dict(row["responses_create_params"]), dict(row["response"])
    prompt, output = prompt_and_output(messages)
    if write_items(prompt) == request.get("input"):
        del request["input"]
    if write_items(output) == response.get("output"):
        del response["output"]
    return {**row, "responses_create_params": request, "response": response}


def write(rollouts: Iterable[Rollout], path: str | os.PathLike[str]) -> int:
    """Write rollouts as a file of NeMo Gym, and return their number."""
    count = 0
    with Path(path).open("w", encoding="utf-8") as file:
        for rollout in rollouts:
            file.write(line_of(row_of(rollout)) + "\n")
            count += 1
    return count


def row_of(rollout: Rollout) -> dict[str, Json]:
    """Return a rollout as a line. A rollout that was read from a line gives its unchanged parts back as they were.

    The line shares these parts with the rollout's metadata.
    """
    line = input_line(rollout)
    if line is not None:
        prompt, _ = prompt_and_output(rollout.messages)
        is_same = same(read_input(line["responses_create_params"]), prompt)
        return with_input_line(_new_row(rollout), line, OWN, sampling=rollout.sampling or {}, same=is_same)
    original = (rollout.metadata or {}).get("nemo_gym")
    return _changed_row(rollout, original) if isinstance(original, Mapping) else _new_row(rollout)


def _changed_row(rollout: Rollout, original: Mapping[str, Json]) -> dict[str, Json]:
    row = dict(original)
    if any(message.weight is not None for message in rollout.messages):
        return _rewritten(rollout, row)  # NeMo Gym has no field for it
    prompt, output = prompt_and_output(rollout.messages)
    if "responses_create_params" in row:
        request, response = dict(row["responses_create_params"]), dict(row["response"])
        before = read_input(request) if "input" in request else prompt
        if "input" in request and same(before, rollout.messages[: len(before)]):
            output = rollout.messages[len(before) :]
        else:
            request["input"] = write_items(prompt)
        if "output" not in response or not same(read_output(response, prompt=before), output):
            response["output"] = write_items(output)
        row |= {"responses_create_params": request, "response": response}
    elif not same(_of_invocations(row["invocations"])[2], rollout.messages):
        return _rewritten(rollout, row)
    if "reward" in row or rollout.reward is not None:
        reward = row.get("reward")
        # An unchanged reward is written as it was: 1, not 1.0.
        row["reward"] = reward if isinstance(reward, (int, float)) and reward == rollout.reward else rollout.reward
    return row


def _rewritten(rollout: Rollout, row: Mapping[str, Json]) -> dict[str, Json]:
    """Return a line with the items and facts of the rollout, and the other fields that it had."""
    new = _new_row(rollout)
    for name in ("responses_create_params", "response"):
        new[name] = {**(row.get(name) or {}), **new[name]}
    return {**row, **new}


def _new_row(rollout: Rollout) -> dict[str, Json]:
    prompt, output = prompt_and_output(rollout.messages)
    sampling, model = rollout.sampling or {}, rollout.model or {}
    name = str(model.get("name") or model.get("model_name") or "")
    tools = [_written_tool(tool) for tool in rollout.tools or ()]
    parameters = {theirs: sampling[ours] for theirs, ours in _SAMPLING.items() if sampling.get(ours) is not None}
    items = write_valid_items(rollout.messages)
    given, sampled = items[: len(prompt)], items[len(prompt) :]
    started = moment_of(rollout.started_at)
    last = next((message for message in reversed(output) if message.role == "assistant"), None)
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get((last and last.ended) or "")
    return {
        "responses_create_params": {"input": list(chain.from_iterable(given)), "tools": tools, **parameters},
        "response": {
            "id": rollout.id,
            "created_at": 0.0 if started is None else started.astimezone(UTC).timestamp(),
            "model": name,
            "object": "response",
            "output": list(chain.from_iterable(sampled)),
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": tools,
            "status": "incomplete" if reason else "completed",
            "incomplete_details": {"reason": reason} if reason else None,
            "usage": _written_usage(rollout.usage),
        },
        "reward": rollout.reward,
        "agent_ref": {"type": "responses_api_agents", "name": rollout.environment.name},
        "terminated": rollout.status == "completed",
        "truncated": rollout.status == "truncated",
        "info": {"stop_reason": rollout.stop_reason},
        **({} if rollout.task.index is None else {"_ng_task_index": rollout.task.index}),
        **({} if rollout.sample is None else {"_ng_rollout_index": rollout.sample}),
        OWN: {
            "rollout": rest_of(replace(rollout, messages=[]).to_dict(), "schema"),
            "input": marks_of(prompt, given),
            "output": marks_of(output, sampled),
        },
    }


def _written_tool(tool: ToolSpec) -> dict[str, Json]:
    parameters = tool.input_schema or {"type": "object", "properties": {}}
    return {"type": "function", "name": tool.name, "description": tool.description, "parameters": parameters, "strict": False}


def _written_usage(usage: Usage | None) -> dict[str, Json] | None:
    """Return token counts as OpenAI's type wants them: all are numbers. Without the two sums there is no usage."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
