"""Input lines of NeMo Gym in records: the line from which a rollout was collected, and its way back into the rollout's line."""

from __future__ import annotations

from collections.abc import Mapping

from openreward_gym.jsonio import Json
from openreward_gym.types import Rollout

_MADE = ("response", "reward")
# Parameters of the request that a response repeats; of these the record knows the values that were used.
_REPEATED = (
    "instructions",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "reasoning",
    "text",
    "tool_choice",
    "top_logprobs",
)
_USED = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "max_output_tokens": ("max_tokens", "max_completion_tokens", "max_new_tokens"),
}


def input_line(rollout: Rollout) -> Mapping[str, Json] | None:
    """Return the input line from which a rollout was collected. None for a rollout of another source.

    It is in the record's `metadata["nemo_gym"]`, where an imported rollout has its line, which is one with a response.
    """
    line = (rollout.metadata or {}).get("nemo_gym")
    if not isinstance(line, Mapping) or "response" in line or not isinstance(line.get("responses_create_params"), Mapping):
        return None
    return line


def with_input_line(
    new: Mapping[str, Json], line: Mapping[str, Json], own: str, *, sampling: Mapping[str, Json], same: bool
) -> dict[str, Json]:
    """Return a rollout's line with the fields of its input line.

    Args:
        new: The line that was made of the rollout alone.
        line: The input line.
        own: Name of the field with what NeMo Gym has no field for.
        sampling: The sampling parameters of the rollout.
        same: True if the rollout's prompt is the input of the line; otherwise the prompt that was played is written.
    """
    request = dict(line["responses_create_params"])
    response = dict(new["response"])
    response |= {name: request[name] for name in _REPEATED if request.get(name) is not None}
    for name, ours in _USED.items():
        used = next((sampling[key] for key in ours if sampling.get(key) is not None), request.get(name))
        response |= {} if used is None else {name: used}
    if request.get("tools"):
        response["tools"] = request["tools"]
    if not same:
        request["input"] = new["responses_create_params"]["input"]
        request.pop("instructions", None)
    kept = {name: value for name, value in line.items() if name not in (*_MADE, own, "responses_create_params")}
    row = {"responses_create_params": request, "response": response, "reward": new["reward"]}
    row |= {**{name: value for name, value in new.items() if name not in row}, **kept}
    facts = dict(new[own])
    record = dict(facts["rollout"])
    metadata = {name: value for name, value in (record.get("metadata") or {}).items() if name != "nemo_gym"}
    record["metadata"] = metadata or None
    replaced = {name: value for name, value in line.items() if name not in row or row[name] != value}
    facts |= {"rollout": {name: value for name, value in record.items() if value is not None}, "line": list(line)}
    return {**row, own: {**facts, **({"replaced": replaced} if replaced else {})}}


def restored_line(row: Mapping[str, Json], facts: Mapping[str, Json]) -> dict[str, Json] | None:
    """Return the input line of a row that `with_input_line` made. None for another row."""
    names, replaced = facts.get("line"), facts.get("replaced") or {}
    if not isinstance(names, list) or not isinstance(replaced, Mapping):
        return None
    return {name: replaced[name] if name in replaced else row.get(name) for name in names if isinstance(name, str)}
