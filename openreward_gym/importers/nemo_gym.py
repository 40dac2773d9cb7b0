"""Rollouts of NeMo Gym (`ng_collect_rollouts`, `gym eval run`), read and written.

A line has `responses_create_params` (the request to the model: `input`, `tools`, ...), `response` (its `output` and
`usage`), `reward`, and the fields of the environment's verifier. A line of an environment server has `invocations` instead,
each a request and a response with the role that the model played. The line, without the items that can be written
again from the messages, is kept in the record's `metadata["nemo_gym"]`, so that `write` gives the line back unchanged.

Origin: the messages of `input` and `instructions` are given, whatever their roles. In `output` the assistant's items are the
policy's; the outputs of calls and the messages of other roles are the environment's. Of an environment server's line the policy
is the role `assistant`: its last request and response are the conversation, in which the answers of its earlier responses are
the policy's too. The turns of other roles, such as a simulated user or a judge, are not.

Ends: `incomplete_details` and `status` of the response tell the end of the last turn; of an earlier turn, the status of its
items, and whether its calls were answered.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from openreward_gym.chat.openai import usage_of
from openreward_gym.importers.jsonl import NO_ROWS, GroupBy, files_of, read_lines, tool_of
from openreward_gym.importers.nemo_gym_items import (
    end_reason,
    prompt_and_output,
    read_input,
    read_output,
    same,
    write_items,
)
from openreward_gym.importers.nemo_gym_order import in_order, is_order, order_of
from openreward_gym.importers.nemo_gym_rows import OWN, SAMPLING, new_row, request_of, restored
from openreward_gym.importers.shapes import opened
from openreward_gym.jsonio import Json, loads
from openreward_gym.store import Damage
from openreward_gym.types import Message, Rollout, RolloutEnvironment, Task, ToolSpec, task_id
from openreward_gym.types.rollout import line_of

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
_OBJECTS = (
    "responses_create_params",
    "response",
    "agent_ref",
    "invocations",
    "reward_components",
    "task_input",
    "_ng_task_id",
    OWN,
)
_OWN_FIELDS = ("responses_create_params", "response", "reward", "agent_ref", "invocations", "mask_sample", OWN)


def read(path: str | os.PathLike[str], group_by: GroupBy | None = None) -> Iterator[Rollout | Damage]:
    """Yield the rollouts of a file, or of the files of a folder. For a line that is only an input, the Damage says so."""
    for file in files_of(path, NO_ROWS, formats=("nemo_gym",)):
        yield from read_lines(file, rollout_of, group_by)


def is_row(row: Mapping[str, Json]) -> bool:
    """Return whether a line is NeMo Gym's: a rollout or an input, also a task of version 0.7 (under `task_input`)."""
    return "responses_create_params" in row or "responses_create_params" in _object(row, "task_input")


def question_of(row: Mapping[str, Json]) -> str:
    """Return the text of a line's last user message, without surrounding space; empty without such a message."""
    try:
        messages = read_input(request_of(_opened(row)))
    except (TypeError, ValueError):
        return ""
    return next((message.text.strip() for message in reversed(messages) if message.role == "user"), "")


def spec_of(row: Mapping[str, Json]) -> dict[str, Json]:
    """Return a line as the spec of a task: the fields beside the conversation, and the question as `question` by default."""
    fields = {**row, **_object(row, "task_input")} if "responses_create_params" not in row else dict(row)
    left_out = ("responses_create_params", "task_input", "agent_ref", "response", OWN)
    return {"question": question_of(row), **{name: value for name, value in fields.items() if name not in left_out}}


def rollout_of(row: Mapping[str, Json], identity: str) -> Rollout:
    """Return the rollout of one line; raise ValueError for a line that is not a rollout of NeMo Gym."""
    row = _opened(row)
    if isinstance(row.get("invocations"), list) and not isinstance(row.get("responses_create_params"), Mapping):
        request, response, messages = _of_invocations(row["invocations"])
    else:
        request, response = _request_and_response(row)
        if (own := restored(row)) is not None:
            return own
        prompt = read_input(request)
        messages = [*prompt, *read_output(response, prompt=prompt)]
    # NeMo Gym masks a row whose reward is no measurement: something else than the policy failed.
    is_masked = row.get("mask_sample") is True
    reward = None if row.get("reward") is None or is_masked else float(row["reward"])
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
        error=_error(row, response) if status == "error" else None,
        usage=usage_of(response.get("usage"), "input", "output"),
        metadata={"nemo_gym": _remainder(row, messages)},
    )


def _opened(row: Mapping[str, Json]) -> dict[str, Json]:
    return {name: opened(value) if name in _OBJECTS else value for name, value in row.items()}


def _object(row: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    value = opened(row.get(name))
    return value if isinstance(value, Mapping) else {}


def _request_and_response(row: Mapping[str, Json]) -> tuple[Mapping[str, Json], Mapping[str, Json]]:
    request, response = row.get("responses_create_params"), row.get("response")
    if row.get("_ng_failure_class") and not isinstance(response, Mapping):
        words = ": ".join(str(row[name]) for name in ("_ng_failure_class", "_ng_failure_message") if row.get(name))
        raise ValueError(f'no "response": this is a failed attempt, not a rollout ({words})')
    if not isinstance(request, Mapping) and not is_row(row):
        raise ValueError('no "responses_create_params": this is not a line of NeMo Gym')
    if not isinstance(request, Mapping) or not isinstance(response, Mapping):
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
    name = name or str(row.get("_ng_environment_server") or row.get("task_source") or "")
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
    failed = row.get("_ng_failure_class") or row.get("mask_sample") is True or response.get("error")
    if failed or response.get("status") in ("failed", "cancelled"):
        return "error", ""
    reason = end_reason(response)
    if reason:
        return "truncated", "max_tokens" if reason == "max_output_tokens" else reason
    if row.get("truncated") and not row.get("terminated"):
        return "truncated", ""
    return "completed", "finished"


def _error(row: Mapping[str, Json], response: Mapping[str, Json]) -> str | None:
    """Return the words of a failure; None where the line has none."""
    kinds = (row.get("_ng_failure_class"), row.get("failure_kind"))
    words = (row.get("_ng_failure_message"), row.get("failure_reason"), _object(response, "error").get("message"))
    said = [next((str(word) for word in some if word), "") for some in (kinds, words)]
    return ": ".join(filter(None, said)) or None


def _sampling(request: Mapping[str, Json], response: Mapping[str, Json]) -> dict[str, Json]:
    """Return the parameters of the request; where it leaves one to the server, the response tells the one that was used."""
    sampling: dict[str, Json] = {}
    for theirs, ours in (*SAMPLING.items(), *((name, name) for name in _PARAMETERS)):
        value = request.get(theirs)
        value = response.get(theirs) if value is None and theirs in SAMPLING else value
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


def _remainder(row: Mapping[str, Json], messages: list[Message]) -> dict[str, Json]:
    """Return the line with the order of their fields in place of the items that are made again, unchanged, from the messages."""
    if "responses_create_params" not in row:
        return dict(row)
    request, response = dict(row["responses_create_params"]), dict(row["response"])
    prompt, output = prompt_and_output(messages)
    for fields, name, own in ((request, "input", prompt), (response, "output", output)):
        if name in fields and (order := order_of(fields[name], write_items(own))) is not None:
            fields[name] = order
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

    The line shares these parts with the rollout's metadata. A rollout that was played from an input of NeMo Gym, which is in its
    `metadata["nemo_gym"]`, has the input's messages, tools, parameters and other fields as they were.
    """
    original = (rollout.metadata or {}).get("nemo_gym")
    if isinstance(original, Mapping) and ("response" in original or "invocations" in original):
        return _changed_row(rollout, original)
    return new_row(rollout)


def _changed_row(rollout: Rollout, original: Mapping[str, Json]) -> dict[str, Json]:
    row = dict(original)
    if any(message.weight is not None for message in rollout.messages):
        return _rewritten(rollout, row)  # NeMo Gym has no field for it
    prompt, output = prompt_and_output(rollout.messages)
    if "responses_create_params" in row:
        request, response = dict(row["responses_create_params"]), dict(row["response"])
        before = prompt if _is_made(request, "input", prompt) else read_input(request)
        if not _is_made(request, "input", prompt) and same(before, rollout.messages[: len(before)]):
            output = rollout.messages[len(before) :]
        else:
            request["input"] = _items_again(request.get("input"), prompt)
        if _is_made(response, "output", output) or not same(read_output(response, prompt=before), output):
            response["output"] = _items_again(response.get("output"), output)
        row |= {"responses_create_params": request, "response": response}
    elif not same(_of_invocations(row["invocations"])[2], rollout.messages):
        return _rewritten(rollout, row)
    if ("reward" in row or rollout.reward is not None) and not _is_reward(rollout.reward, row):
        row["reward"] = rollout.reward
    return row


def _is_made(fields: Mapping[str, Json], name: str, messages: list[Message]) -> bool:
    """Return whether the items of a line are made again from messages. Earlier versions have left the field out."""
    return is_order(fields[name]) if name in fields else bool(messages)


def _items_again(written: Json, messages: list[Message]) -> list[Json]:
    items = write_items(messages)
    return in_order(items, written) if is_order(written) else [*items]


def _is_reward(reward: float | None, row: Mapping[str, Json]) -> bool:
    """Return whether a line says this reward, in whatever form: 1 and 1.0, the text of a number, one that is masked."""
    written = row.get("reward")
    if reward is None or written is None:
        return reward is None and (written is None or row.get("mask_sample") is True)
    try:
        return float(written) == reward or (math.isnan(float(written)) and math.isnan(reward))
    except (TypeError, ValueError):
        return False


def _rewritten(rollout: Rollout, row: Mapping[str, Json]) -> dict[str, Json]:
    """Return a line with the items and facts of the rollout, and the other fields that it had."""
    new = new_row(rollout)
    return {**new, "response": {**(row.get("response") or {}), **new["response"]}}
