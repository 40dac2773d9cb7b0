"""Rollouts of NeMo Gym (`ng_collect_rollouts`), read and written.

A line has `responses_create_params` (the request to the model: `input`, `tools`, ...), `response` (its `output` and
`usage`), `reward`, and the fields of the environment's verifier. The line, without the items that can be written
again from the messages, is kept in the record's `metadata["nemo_gym"]`, so that `write` gives the line back unchanged.

Origin: the messages of `input` and `instructions` are given, whatever their roles. In `output` the assistant's items are the
policy's; the outputs of calls and the messages of other roles are the environment's.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path

from openreward_gym.chat import from_openai_responses, to_openai_responses
from openreward_gym.chat.dialect import ended_of
from openreward_gym.chat.openai import usage_of
from openreward_gym.importers.jsonl import GroupBy, read_lines, tool_of
from openreward_gym.jsonio import Json
from openreward_gym.store import Damage
from openreward_gym.types import Message, Rollout, RolloutEnvironment, SystemMessage, Task, ToolSpec, Usage, task_id
from openreward_gym.types.rollout import line_of

_SAMPLING = {"temperature": "temperature", "top_p": "top_p", "max_output_tokens": "max_tokens"}
_OWN = ("responses_create_params", "response", "reward", "agent_ref")


def read(path: str | os.PathLike[str], group_by: GroupBy | None = None) -> Iterator[Rollout | Damage]:
    """Yield the rollouts of a NeMo Gym file. For a line that is only an input (a task), the Damage says so."""
    return read_lines(path, rollout_of, group_by)


def is_row(row: Mapping[str, Json]) -> bool:
    """Return whether a line is NeMo Gym's: a rollout or an input."""
    return "responses_create_params" in row


def question_of(row: Mapping[str, Json]) -> str:
    """Return the text of a line's last user message, without surrounding space; empty without such a message."""
    request = row.get("responses_create_params")
    try:
        messages = _input(request) if isinstance(request, Mapping) else []
    except (TypeError, ValueError):
        return ""
    return next((message.text.strip() for message in reversed(messages) if message.role == "user"), "")


def spec_of(row: Mapping[str, Json]) -> dict[str, Json]:
    """Return a line as the spec of a task: the fields beside the conversation, and the question as `question` by default."""
    fields = {name: value for name, value in row.items() if name not in ("responses_create_params", "agent_ref")}
    return {"question": question_of(row), **fields}


def rollout_of(row: Mapping[str, Json], identity: str) -> Rollout:
    """Return the rollout of one line; raise ValueError for a line that is not a rollout of NeMo Gym."""
    request, response = row.get("responses_create_params"), row.get("response")
    if not isinstance(request, Mapping):
        raise ValueError('no "responses_create_params": this is not a line of NeMo Gym')
    if not isinstance(response, Mapping):
        raise ValueError('no "response": this is an input (a task), not a rollout')
    messages = [*_input(request), *_output(response)]
    reward = None if row.get("reward") is None else float(row["reward"])
    if messages and reward is not None:
        messages[-1] = messages[-1].replace(reward=reward, finished=True)
    agent = row.get("agent_ref")
    name = str(agent.get("name") or "") if isinstance(agent, Mapping) else ""
    index = row.get("_ng_task_index", row.get("task_idx"))
    model = response.get("model") or request.get("model")
    task = task_id(name, None, {"input": request.get("input")} if index is None else None, index)
    metrics = {name: value for name, value in row.items() if name not in _OWN and not name.startswith("_ng_")}
    truncated = bool(row.get("truncated")) and not row.get("terminated")
    return Rollout(
        id=identity,
        environment=RolloutEnvironment(name=name),
        task=Task(index=index, id=task),
        group=task,
        sample=row.get("_ng_rollout_index"),
        model={"name": model} if model else None,
        sampling={ours: request[theirs] for theirs, ours in _SAMPLING.items() if request.get(theirs) is not None} or None,
        tools=[tool_of(tool) for tool in request.get("tools") or ()] or None,
        messages=messages,
        reward=reward,
        final_reward=reward,
        metrics={name: float(v) for name, v in metrics.items() if isinstance(v, (int, float))} or None,
        status="truncated" if truncated else "completed",
        stop_reason="" if truncated else "finished",
        usage=usage_of(response.get("usage"), "input", "output"),
        metadata={"nemo_gym": _remainder(row, messages)},
    )


def _input(request: Mapping[str, Json]) -> list[Message]:
    """Return the messages of a request, which are given."""
    messages = from_openai_responses(request.get("input") or [])
    if isinstance(request.get("instructions"), str) and request["instructions"]:
        messages.insert(0, SystemMessage(request["instructions"]))
    return [message.replace(origin="given") for message in messages]


def _output(response: Mapping[str, Json]) -> list[Message]:
    """Return the messages of a response: turns of the policy, and what the environment said between them."""
    messages = [
        message.replace(origin="policy" if message.role == "assistant" else "environment")
        for message in from_openai_responses(_output_items(response))
    ]
    turns = [number for number, message in enumerate(messages) if message.origin == "policy"]
    incomplete = response.get("incomplete_details")
    reason = incomplete.get("reason") if isinstance(incomplete, Mapping) else None
    if turns and (reason or response.get("status")):
        last = messages[turns[-1]]
        messages[turns[-1]] = last.replace(ended=ended_of(reason or response.get("status"), last.blocks))
    return messages


def _output_items(response: Mapping[str, Json]) -> list[Json]:
    """Return the items of a response. Some agents give a list per step, mostly each with all items of the steps before."""
    output = list(response.get("output") or [])
    if not output or not all(isinstance(item, list) for item in output):
        return output
    grows = all(output[n] == output[n + 1][: len(output[n])] for n in range(len(output) - 1))
    return output[-1] if grows else [item for step in output for item in step]


def _remainder(row: Mapping[str, Json], messages: list[Message]) -> dict[str, Json]:
    """Return the line without the items that `write` can make again, unchanged, from the messages."""
    remainder: dict[str, Json] = copy.deepcopy(dict(row))
    prompt, output = _prompt_and_output(messages)
    if to_openai_responses(prompt) == row["responses_create_params"].get("input"):
        del remainder["responses_create_params"]["input"]
    if to_openai_responses(output) == row["response"].get("output"):
        del remainder["response"]["output"]
    return remainder


def _prompt_and_output(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Split messages before the first of the policy or the environment; without origins, before the assistant's first."""
    if any(message.origin is not None for message in messages):
        prompt = list(takewhile(lambda message: message.origin not in ("policy", "environment"), messages))
    else:
        prompt = list(takewhile(lambda message: message.role != "assistant", messages))
    return prompt, messages[len(prompt) :]


def write(rollouts: Iterable[Rollout], path: str | os.PathLike[str]) -> int:
    """Write rollouts as a file of NeMo Gym, and return their number."""
    count = 0
    with Path(path).open("w", encoding="utf-8") as file:
        for rollout in rollouts:
            file.write(line_of(row_of(rollout)) + "\n")
            count += 1
    return count


def row_of(rollout: Rollout) -> dict[str, Json]:
    """Return a rollout as a line. A rollout that was read from a line gives its unchanged parts back as they were."""
    original = (rollout.metadata or {}).get("nemo_gym")
    prompt, output = _prompt_and_output(rollout.messages)
    if isinstance(original, Mapping):
        row: dict[str, Json] = copy.deepcopy(dict(original))
        request, response = row["responses_create_params"], row["response"]
        if "input" not in request or not _same(_input(request), prompt):
            request["input"] = to_openai_responses(prompt)
        if "output" not in response or not _same(_output(response), output):
            response["output"] = to_openai_responses(output)
        if "reward" in row or rollout.reward is not None:
            reward = row.get("reward")
            # An unchanged reward is written as it was: 1, not 1.0.
            row["reward"] = reward if isinstance(reward, (int, float)) and reward == rollout.reward else rollout.reward
        return row
    sampling = rollout.sampling or {}
    return {
        "responses_create_params": {
            "input": to_openai_responses(prompt),
            "tools": [_written_tool(tool) for tool in rollout.tools or ()],
            **{theirs: sampling[ours] for theirs, ours in _SAMPLING.items() if ours in sampling},
        },
        "response": {
            "id": rollout.id,
            "object": "response",
            "model": (rollout.model or {}).get("name") or (rollout.model or {}).get("model_name"),
            "output": to_openai_responses(output),
            "usage": _written_usage(rollout.usage),
        },
        "reward": rollout.reward,
        "agent_ref": {"type": "responses_api_agents", "name": rollout.environment.name},
        "terminated": rollout.status == "completed",
        "truncated": rollout.status == "truncated",
        "info": {"stop_reason": rollout.stop_reason},
        **({} if rollout.task.index is None else {"_ng_task_index": rollout.task.index}),
        **({} if rollout.sample is None else {"_ng_rollout_index": rollout.sample}),
    }


def _same(first: list[Message], second: list[Message]) -> bool:
    """Return whether two lists of messages have the same items, whatever their rewards and weights."""
    items = [[(m.role, m.blocks, m.call_id, m.metadata) for m in messages] for messages in (first, second)]
    return items[0] == items[1]


def _written_tool(tool: ToolSpec) -> dict[str, Json]:
    parameters = tool.input_schema or {"type": "object", "properties": {}}
    return {"type": "function", "name": tool.name, "description": tool.description, "parameters": parameters, "strict": False}


def _written_usage(usage: Usage | None) -> dict[str, Json] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": (usage.input_tokens or 0) + (usage.output_tokens or 0),
    }
