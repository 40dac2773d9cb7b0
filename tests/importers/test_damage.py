"""Property: whatever a record of another system holds, reading it gives rollouts or damage, and nothing else."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import MUTATIONS
from test_firehorse import ANSWERED, PROMPT, SUMMARY, called, said
from test_verifiers import ROW, RUN, node, sampled, trace

from openreward_gym.importers import inspect_logs, read
from openreward_gym.importers.jsonl import checked
from openreward_gym.importers.reasons import UNREADABLE
from openreward_gym.store import Damage
from openreward_gym.types import Rollout

NESTED: Any = []
for _ in range(300):
    NESTED = [NESTED]

ODD = st.sampled_from(
    [None, True, 0, -1, 10**400, 1.5, math.nan, math.inf, "", "\ud800", "x" * 50, "[1", [], [None], [[]], {}, {"a": None}, NESTED]
)

TRACE = trace(
    node("user", "Heavy?", token_ids=[1], mask=[False]),
    sampled("No.", [False, True], loss_weights={"rl": [0.0, 1.0]}, advantages=[0.5]),
    agent={"name": "a", "trainable": True, "config": {"sampling": {"temperature": 1.0}, "model": "m"}},
    calls=[
        {"node": 1, "model": "m", "finish_reason": "stop", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.1}}
    ],
    rewards={"r": {"score": 1.0, "weight": 1.0}},
    metrics={"m": 1.0},
    task={"type": "T", "data": {"idx": 1}},
    tools=[{"name": "weigh", "description": "d", "parameters": {}}],
    errors=[{"type": "E", "message": "m"}],
    timing={"start": 1.0e9},
    stop_condition="max_turns",
)
EPISODE = {"id": "e", "env": {"id": "scales"}, "group": {"id": "g"}, "run": {"name": "r", "work": {"step": 1}}, "traces": [TRACE]}
COMPLETION = {
    "step": 1,
    "prompt": [{"role": "user", "content": "?"}],
    "completion": [{"role": "assistant", "content": "!", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}],
    "right": 1.0,
    "rewards": {"short": 0.5},
    "advantage": 0.5,
}
SAMPLE: dict[str, Any] = {
    "id": "s",
    "uuid": "u",
    "epoch": 1,
    "input": [{"role": "user", "content": "attachment://k"}],
    "target": "!",
    "attachments": {"k": "a long text"},
    "messages": [
        {"role": "user", "content": [{"type": "image", "image": "attachment://k"}], "source": "input"},
        {"role": "assistant", "content": [{"type": "text", "text": "!"}], "id": "a", "source": "generate"},
        {"role": "tool", "content": "x", "tool_call_id": "c", "function": "f", "error": {"message": "m"}},
    ],
    "events": [
        {
            "event": "model",
            "tools": [{"name": "f", "parameters": {}}],
            "config": {"temperature": 1.0},
            "timestamp": "2026-01-01T00:00:00+00:00",
            "output": {"model": "m", "choices": [{"message": {"id": "a"}, "stop_reason": "stop"}], "usage": {"input_tokens": 1}},
        }
    ],
    "output": {"choices": [{"message": {"id": "a"}, "stop_reason": "stop"}], "usage": {"input_tokens": 1}},
    "scores": {"s": {"value": {"a": 1.0}}},
    "metadata": {"openreward_task": {"server_name": "acme/tides", "task_spec": {"n": 1}}, "openreward_split": "test"},
    "model_usage": {"m": {"input_tokens": 1, "total_cost": 0.5}},
    "limit": {"type": "token"},
    "error": {"message": "m"},
    "invalidation": {"reason": "r"},
    "started_at": "2026-01-01T00:00:00+00:00",
}
HEADER = {
    "eval": {
        "task": "t",
        "run_id": "r",
        "model": "m",
        "task_args": {"split": "test"},
        "dataset": {"name": "openreward:acme/tides:test"},
        "model_generate_config": {"temperature": 1.0},
    }
}
CLAUDE = {"type": "assistant", "message": {"id": "m", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}}
TRIAL = [
    PROMPT,
    called(),
    ANSWERED,
    {"type": "assistant", "provider": "openai", "raw": [{"type": "function_call", "name": "f", "call_id": "c"}]},
    {"type": "tool_results", "raw": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}},
    {"type": "assistant", "provider": "google", "raw": "parts=[Part(text='x')] role='model'"},
    CLAUDE,
    {"type": "item.completed", "item": {"id": "i", "type": "mcp_tool_call", "tool": "f", "arguments": {}, "result": "x"}},
    {"msg": {"type": "mcp_tool_call_begin", "call_id": "c", "invocation": {"tool": "f", "arguments": {}}}},
    {"type": "message", "role": "assistant", "content": "x", "delta": True},
    {"type": "result", "subtype": "success", "usage": {"input_tokens": 1}},
    said("Lost."),
    {**SUMMARY, "usage": {"input_tokens": 1}, "bridge_result": {"finished": False, "last_reward": 1.0}},
]


def places_of(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([place] if place else []), *(path for key, item in items for path in places_of(item, (*place, key)))]


def mutated(data: st.DataObject, good: Any) -> Any:
    """Return a copy of a good value in which a few values are replaced or removed."""
    value = copy.deepcopy(good)
    for _ in range(data.draw(st.integers(1, 2))):
        *path, last = data.draw(st.sampled_from(places_of(value)))
        parent = value
        for key in path:
            parent = parent[key]
        if data.draw(st.booleans()):
            parent[last] = copy.deepcopy(data.draw(ODD))
        else:
            del parent[last]
        if not places_of(value):
            break
    return value


many = settings(max_examples=MUTATIONS, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(
    ("source", "name", "good"),
    [
        ("verifiers", "traces.jsonl", [EPISODE]),
        ("verifiers", "results.jsonl", [{**ROW, "trajectory": [{"tokens": {"completion_ids": [1]}, "response": {}}] * 2}]),
        ("trl", "completions.jsonl", [COMPLETION]),
        ("firehorse", "trial_1.jsonl", TRIAL),
    ],
    ids=["traces", "results", "trl", "firehorse"],
)
@many
@given(data=st.data())
def test_a_file_of_odd_records_gives_rollouts_or_damage(
    source: str, name: str, good: list[Any], data: st.DataObject, tmp_path: Path
) -> None:
    (tmp_path / "metadata.json").write_text(json.dumps(mutated(data, RUN)))
    (tmp_path / "trial_1_result.json").write_text(json.dumps(mutated(data, {"split": "a", "usage": {"cost_usd": 1}})))
    (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in mutated(data, good)))
    for item in read(source, tmp_path / name):
        if isinstance(item, Damage):
            assert item.reason
        else:
            assert Rollout.from_line(item.to_line()).to_line() == item.to_line()


@many
@given(data=st.data())
def test_an_odd_sample_of_inspect_is_a_rollout_or_unreadable(data: st.DataObject) -> None:
    sample, header = mutated(data, SAMPLE), mutated(data, HEADER)
    try:
        rollout = checked(inspect_logs.rollout_of(sample, header))
    except UNREADABLE:
        return
    assert Rollout.from_line(rollout.to_line()).to_line() == rollout.to_line()


@pytest.mark.parametrize("source", ["verifiers", "trl", "firehorse"])
def test_one_bad_record_does_not_take_the_others(source: str, tmp_path: Path) -> None:
    good = {"verifiers": ROW, "trl": COMPLETION, "firehorse": said("Lost.")}[source]
    path = tmp_path / "trial_1.jsonl"
    path.write_text(f"{json.dumps(good)}\n{{torn\n[]\n{json.dumps(good)}\n")
    items = list(read(source, path))
    assert [item.line for item in items if isinstance(item, Damage)] == [2, 3]
    rollouts = [item for item in items if isinstance(item, Rollout)]
    assert sum(len(list(rollout.turns)) for rollout in rollouts) >= 2
