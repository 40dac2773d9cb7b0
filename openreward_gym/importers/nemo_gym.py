"""NeMo Gym's rollouts (`ng_collect_rollouts`), read and written.

A line has `responses_create_params` (what the model was asked: `input`, `tools`, ...), `response` (what came of it:
`output`, `usage`), `reward`, and whatever the environment's verifier adds. Everything is kept: the line, without what can
be written again from the record, is in the record's `metadata["nemo_gym"]`, and `write` gives the line back as it was.
`metadata["nemo_gym_prompt"]` is the number of messages that were the prompt.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from openreward_gym.chat.responses import from_openai_responses, to_openai_responses
from openreward_gym.importers.jsonl import numbers_of, read_lines
from openreward_gym.store.damage import Damage
from openreward_gym.types import Json
from openreward_gym.types.conversion import message_of, message_records
from openreward_gym.types.rollout import (
    EnvironmentRecord,
    MessageRecord,
    Rollout,
    TaskRecord,
    TextPart,
    TokenUsage,
    ToolRecord,
    line_of,
    task_id,
)

_SAMPLING = {"temperature": "temperature", "top_p": "top_p", "max_output_tokens": "max_tokens"}
_OWN = ("responses_create_params", "response", "reward", "agent_ref")


def read(path: str | os.PathLike[str]) -> Iterator[Rollout | Damage]:
    """The rollouts of a NeMo Gym file; a line that is only an input (a task, not a rollout) is named as such.

    Raises:
        StoreError: The file cannot be read.
    """
    return read_lines(path, rollout_of)


def is_row(row: Mapping[str, Json]) -> bool:
    """Whether a line is NeMo Gym's: a rollout or an input."""
    return "responses_create_params" in row


def question_of(row: Mapping[str, Json]) -> str:
    """What a line's last user message asks, without space around it; empty where there is none."""
    asked = row.get("responses_create_params")
    try:
        messages = _prompt(asked) if isinstance(asked, Mapping) else []
    except (TypeError, ValueError):
        return ""
    said = next((message for message in reversed(messages) if message.role == "user"), None)
    parts = [] if said is None else [part.text for part in said.blocks if isinstance(part, TextPart)]
    return "\n".join(parts).strip()


def spec_of(row: Mapping[str, Json]) -> dict[str, Json]:
    """A line as the spec of a task: the fields beside the conversation, with the question as `question` where they have none."""
    beside = {name: value for name, value in row.items() if name not in ("responses_create_params", "agent_ref")}
    return {"question": question_of(row), **beside}


def rollout_of(row: Mapping[str, Json], identity: str) -> Rollout:
    """One line's rollout.

    Raises:
        ValueError: It is no rollout of NeMo Gym.
    """
    asked, response = row.get("responses_create_params"), row.get("response")
    if not isinstance(asked, Mapping):
        raise ValueError('no "responses_create_params": this is not a line of NeMo Gym')
    if not isinstance(response, Mapping):
        raise ValueError('no "response": this is an input (a task), not a rollout')
    messages = [*_prompt(asked), *_records(_said(response))]
    reward = None if row.get("reward") is None else float(row["reward"])
    if messages and reward is not None:
        messages[-1] = messages[-1].model_copy(update={"reward": reward, "finished": True})
    agent = row.get("agent_ref")
    name = str(agent.get("name") or "") if isinstance(agent, Mapping) else ""
    index, given = row.get("_ng_task_index", row.get("task_idx")), asked.get("input")
    spec = {"input": given} if index is None else None
    model = response.get("model") or asked.get("model")
    task = task_id(name, None, spec, index)
    truncated = bool(row.get("truncated")) and not row.get("terminated")
    return Rollout(
        id=identity,
        environment=EnvironmentRecord(name=name),
        task=TaskRecord(id=task, index=index),
        group=task,
        sample=row.get("_ng_rollout_index"),
        model={"name": model} if model else None,
        sampling={ours: asked[theirs] for theirs, ours in _SAMPLING.items() if asked.get(theirs) is not None} or None,
        tools=[_tool(tool) for tool in asked.get("tools") or ()] or None,
        messages=messages,
        reward=reward,
        final_reward=reward,
        metrics=numbers_of({key: value for key, value in row.items() if key not in _OWN and not key.startswith("_ng_")}) or None,
        status="truncated" if truncated else "completed",
        stop_reason="" if truncated else "finished",
        usage=_usage(response.get("usage")),
        metadata={"nemo_gym": _remainder(row, messages), "nemo_gym_prompt": len(_prompt(asked))},
    )


def _prompt(asked: Mapping[str, Json]) -> list[MessageRecord]:
    records = _records(asked.get("input") or [])
    if isinstance(asked.get("instructions"), str) and asked["instructions"]:
        records.insert(0, MessageRecord(role="system", blocks=[TextPart(text=asked["instructions"])]))
    return records


def _said(response: Mapping[str, Json]) -> list[Json]:
    """The items of a response. Some agents give a list for each step, mostly each with all that went before."""
    output = list(response.get("output") or [])
    if not output or not all(isinstance(item, list) for item in output):
        return output
    grows = all(output[n] == output[n + 1][: len(output[n])] for n in range(len(output) - 1))
    return output[-1] if grows else [item for step in output for item in step]


def _records(items: Json) -> list[MessageRecord]:
    return [record for message in from_openai_responses(items) for record in message_records(message)]


def _tool(tool: Mapping[str, Json]) -> ToolRecord:
    return ToolRecord(name=tool["name"], description=tool.get("description") or "", input_schema=tool.get("parameters"))


def _usage(usage: Json) -> TokenUsage | None:
    if not isinstance(usage, Mapping):
        return None
    details = (usage.get("input_tokens_details") or {}), (usage.get("output_tokens_details") or {})
    return TokenUsage(
        input_tokens=usage.get("input_tokens"),
        output_tokens=usage.get("output_tokens"),
        cached_tokens=details[0].get("cached_tokens"),
        reasoning_tokens=details[1].get("reasoning_tokens"),
    )


def _remainder(row: Mapping[str, Json], messages: list[MessageRecord]) -> dict[str, Json]:
    """The line without the items that `write` makes again, to the letter, from the messages."""
    remainder: dict[str, Json] = copy.deepcopy(dict(row))
    prompt = len(_prompt(row["responses_create_params"]))
    for holder, field, said in (
        ("responses_create_params", "input", messages[:prompt]),
        ("response", "output", messages[prompt:]),
    ):
        if _items(said) == row[holder].get(field):
            del remainder[holder][field]
    return remainder


def _items(messages: Iterable[MessageRecord]) -> list[dict[str, Json]]:
    return to_openai_responses(message_of(message) for message in messages)


def write(rollouts: Iterable[Rollout], path: str | os.PathLike[str]) -> int:
    """Write rollouts as a file of NeMo Gym; returns how many."""
    count = 0
    with Path(path).open("w", encoding="utf-8") as file:
        for rollout in rollouts:
            file.write(line_of(row_of(rollout)) + "\n")
            count += 1
    return count


def row_of(rollout: Rollout) -> dict[str, Json]:
    """The line of a rollout: the one it came from, where it came from one and was not changed since."""
    kept = (rollout.metadata or {}).get("nemo_gym")
    if isinstance(kept, Mapping):
        row: dict[str, Json] = copy.deepcopy(dict(kept))
        asked, response = row["responses_create_params"], row["response"]
        prompt = (rollout.metadata or {}).get("nemo_gym_prompt") or 0
        asked_items, said_items = rollout.messages[:prompt], rollout.messages[prompt:]
        if "input" not in asked or not _same(_prompt(asked), asked_items):
            asked["input"] = _items(asked_items)
        if "output" not in response or not _same(_records(_said(response)), said_items):
            response["output"] = _items(said_items)
        if "reward" in row or rollout.reward is not None:
            row["reward"] = _as_before(row.get("reward"), rollout.reward)
        return row
    prompt = _prompt_length(rollout.messages)
    sampling = rollout.sampling or {}
    return {
        "responses_create_params": {
            "input": _items(rollout.messages[:prompt]),
            "tools": [_tool_of(tool) for tool in rollout.tools or ()],
            **{theirs: sampling[ours] for theirs, ours in _SAMPLING.items() if ours in sampling},
        },
        "response": {
            "id": rollout.id,
            "object": "response",
            "model": (rollout.model or {}).get("name") or (rollout.model or {}).get("model_name"),
            "output": _items(rollout.messages[prompt:]),
            "usage": _usage_of(rollout.usage),
        },
        "reward": rollout.reward,
        "agent_ref": {"type": "responses_api_agents", "name": rollout.environment.name},
        "terminated": rollout.status == "completed",
        "truncated": rollout.status == "truncated",
        "info": {"stop_reason": rollout.stop_reason},
        **({} if rollout.task.index is None else {"_ng_task_index": rollout.task.index}),
        **({} if rollout.sample is None else {"_ng_rollout_index": rollout.sample}),
    }


def _prompt_length(messages: list[MessageRecord]) -> int:
    """How many messages there are before the assistant's first."""
    return next((n for n, message in enumerate(messages) if message.role == "assistant"), len(messages))


def _same(first: list[MessageRecord], second: list[MessageRecord]) -> bool:
    """Whether they say the same, whatever reward was put on them."""

    def bare(messages: list[MessageRecord]) -> list[dict[str, Any]]:
        return [message.model_dump(exclude={"reward", "finished"}) for message in messages]

    return bare(first) == bare(second)


def _as_before(kept: Json, reward: float | None) -> Json:
    """The reward as it was written (1, not 1.0), unless it changed."""
    return kept if isinstance(kept, (int, float)) and kept == reward else reward


def _tool_of(tool: ToolRecord) -> dict[str, Json]:
    parameters = tool.input_schema or {"type": "object", "properties": {}}
    return {"type": "function", "name": tool.name, "description": tool.description, "parameters": parameters, "strict": False}


def _usage_of(usage: TokenUsage | None) -> dict[str, Json] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": (usage.input_tokens or 0) + (usage.output_tokens or 0),
    }
