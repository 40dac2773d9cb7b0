"""Runs of verifiers: `results.jsonl`, and what newer traces hold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from openreward_gym.errors import StoreError
from openreward_gym.importers import read, verifiers
from openreward_gym.store import Damage
from openreward_gym.types import Rollout

CALL = json.dumps({"id": "c1", "name": "weigh", "arguments": '{"kg":  3}'})
ROW: dict[str, Any] = {
    "example_id": 4,
    "prompt": [{"role": "user", "content": "Heavy?"}],
    "completion": [
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "3 kg"},
        {"role": "assistant", "content": "No."},
    ],
    "answer": "no",
    "task": "default",
    "info": {"level": 2},
    "reward": 0.5,
    "metrics": {"exact": 1.0},
    "exact": 1.0,
    "judge_score": 0.25,
    "note": "kept",
    "is_completed": True,
    "is_truncated": False,
    "stop_condition": "no_tools_called",
    "timing": {"start_time": 1.0e9, "scoring": {"start": 1.0e9 + 4, "end": 1.0e9 + 5}},
    "token_usage": {"input_tokens": 20.0, "output_tokens": 6.0},
    "tool_defs": [{"name": "weigh", "description": "d", "parameters": {"type": "object"}}],
}
RUN = {"env_id": "scales", "model": "m-2", "sampling_args": {"temperature": 0.7, "max_tokens": None}}


def run_folder(folder: Path, *rows: Any, run: Any = RUN) -> Path:
    place = folder / "scales--m-2" / "ab12"
    place.mkdir(parents=True)
    (place / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if run is not None:
        (place / "metadata.json").write_text(run if isinstance(run, str) else json.dumps(run))
    return place


def test_a_line_of_results_is_a_rollout(tmp_path: Path) -> None:
    run_folder(tmp_path, ROW, {**ROW, "reward": 0.0}, {**ROW, "example_id": 5})
    first, second, third = (item for item in read("verifiers", tmp_path) if isinstance(item, Rollout))
    assert [(m.role, m.origin) for m in first.messages] == [
        ("user", "given"),
        ("assistant", "policy"),
        ("tool", "environment"),
        ("assistant", "policy"),
    ]
    call = first.messages[1].tool_calls[0]
    assert (call.call_id, call.name, call.content) == ("c1", "weigh", '{"kg":  3}')
    assert (first.environment.name, first.model, first.sampling) == ("scales", {"name": "m-2"}, {"temperature": 0.7})
    assert (first.task.index, first.task.golden_answer) == (4, "no")
    assert (first.group == second.group != third.group, first.sample, second.sample, third.sample) == (True, 0, 1, 0)
    assert first.metrics == {"exact": 1.0, "judge_score": 0.25}
    assert (first.status, first.stop_reason, first.duration_s) == ("completed", "no_tools_called", 5.0)
    assert first.usage is not None
    assert (first.usage.input_tokens, [tool.name for tool in first.tools or ()]) == (20, ["weigh"])
    assert first.metadata is not None
    assert first.metadata["verifiers"]["note"] == "kept"


def test_texts_of_a_completions_model_and_older_names(tmp_path: Path) -> None:
    row = {"id": 1, "prompt": "Once", "completion": " upon a time", "reward": 1.0, "task": "tales"}
    (rollout,) = read("verifiers", run_folder(tmp_path, row) / "results.jsonl")
    assert isinstance(rollout, Rollout)
    assert [(m.role, m.text, m.origin) for m in rollout.messages] == [
        ("user", "Once", "given"),
        ("assistant", " upon a time", "policy"),
    ]
    assert (rollout.environment.variant, rollout.stop_reason) == ("tales", "message")


@pytest.mark.parametrize(
    ("fields", "ending"),
    [
        ({"stop_condition": "max_turns_reached"}, ("truncated", "max_turns_reached", None)),
        ({"stop_condition": "prompt_too_long"}, ("truncated", "prompt_too_long", None)),
        ({"stop_condition": None, "is_truncated": True}, ("truncated", "length", None)),
        ({"is_completed": False, "stop_condition": None}, ("cancelled", "", None)),
        ({"error": {"error": "ModelError", "message": "503"}}, ("error", "no_tools_called", "ModelError: 503")),
        ({"error": "ModelError('503')", "stop_condition": "has_error"}, ("error", "has_error", "ModelError('503')")),
    ],
)
def test_the_stop_condition_of_results(fields: dict[str, Any], ending: Any) -> None:
    rollout = verifiers.rollout_of_result({**ROW, **fields}, {}, "x")
    assert (rollout.status, rollout.stop_reason, rollout.error) == ending


def test_one_truncated_answer_ended_by_length() -> None:
    row = {**ROW, "completion": [{"role": "assistant", "content": "Well"}], "is_truncated": True}
    assert verifiers.rollout_of_result(row, {}, "x").messages[-1].ended == "length"


def test_a_trajectory_gives_the_turns_their_ids() -> None:
    def step(ids: list[int], finish: str, **fields: Any) -> dict[str, Any]:
        tokens = {"prompt_ids": [1, 2], "completion_ids": ids, "completion_logprobs": [-0.5] * len(ids), "completion_mask": [1]}
        usage = {"prompt_tokens": 2, "completion_tokens": len(ids), "reasoning_tokens": 0}
        response = {"model": "m-3", "usage": usage, "message": {"finish_reason": finish}}
        return {"tokens": {**tokens, **fields}, "response": response, "is_truncated": False}

    steps = [step([3, 4], "tool_calls"), step([5], "stop", completion_mask=[0])]
    rollout = verifiers.rollout_of_result({**ROW, "trajectory": steps}, {}, "x")
    first, last = rollout.messages[1], rollout.messages[3]
    assert (first.prompt_token_ids, first.token_ids, first.logprobs, first.ended) == ([1, 2], [3, 4], [-0.5, -0.5], "tool_calls")
    assert (first.weight, last.weight, last.ended) == (None, 0.0, "stop")
    assert rollout.metadata is not None
    assert "trajectory" not in rollout.metadata["verifiers"]


def test_a_broken_metadata_file_is_damage_and_the_rows_are_read(tmp_path: Path) -> None:
    damage, rollout = read("verifiers", run_folder(tmp_path, ROW, run="{"))
    assert isinstance(damage, Damage)
    assert "metadata.json" in str(damage)
    assert isinstance(rollout, Rollout)


def test_a_metadata_file_that_is_a_pipe_is_damage(tmp_path: Path) -> None:
    os.mkfifo(run_folder(tmp_path, ROW, run=None) / "metadata.json")
    damage, rollout = read("verifiers", tmp_path)
    assert "metadata.json: not a file but a named pipe" in str(damage)
    assert isinstance(rollout, Rollout)


def test_a_folder_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"traces\.jsonl or results\.jsonl"):
        list(read("verifiers", tmp_path))


def node(role: str, text: str, parent: int | None = None, **fields: Any) -> dict[str, Any]:
    return {"parent": parent, "message": {"role": role, "content": text}, "timestamp": 1.0e9, **fields}


def trace(*nodes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "t", "nodes": list(nodes), "calls": [], "is_completed": True, "ok": True, **fields}


def sampled(text: str, mask: list[bool], **fields: Any) -> dict[str, Any]:
    ids = list(range(10, 10 + len(mask)))
    return node("assistant", text, 0, sampled=True, token_ids=ids, mask=mask, logprobs=[-0.5] * sum(mask), **fields)


def test_a_node_that_verifiers_does_not_train_has_no_weight() -> None:
    prompt = node("user", "Heavy?", token_ids=[1], mask=[False])
    masked = verifiers.rollout_of(trace(prompt, sampled("No.", [False, False])), {}).messages[-1]
    assert (masked.origin, masked.weight) == ("policy", 0.0)
    weightless = sampled("No.", [False, True], loss_weights={"rl": [0.0, 0.0]})
    assert verifiers.rollout_of(trace(prompt, weightless), {}).messages[-1].weight == 0.0
    trained = verifiers.rollout_of(trace(prompt, sampled("No.", [False, True, True], advantages=[0.5, 0.5])), {})
    assert (trained.messages[-1].weight, trained.advantage) == (None, 0.5)
    assert trained.messages[-1].prompt_token_ids == [1, 10]


def test_ids_that_do_not_fit_together_are_kept_apart() -> None:
    prompt = node("user", "Heavy?", token_ids=[1], mask=[False])
    gap = verifiers.rollout_of(trace(prompt, sampled("No.", [True, False, True])), {}).messages[-1]
    assert gap.token_ids is None
    assert gap.sampled is not None
    assert gap.sampled.metadata is not None
    assert gap.sampled.metadata["token_ids"] == [10, 11, 12]
    tail = verifiers.rollout_of(trace(prompt, sampled("No.", [False, True, False])), {}).messages[-1]
    assert (tail.prompt_token_ids, tail.token_ids) == ([1, 10], [11])


@pytest.mark.parametrize(
    ("fields", "ending"),
    [
        ({"stop_condition": "agent_completed"}, ("completed", "agent_completed", None)),
        ({"stop_condition": "max_total_tokens"}, ("truncated", "max_total_tokens", None)),
        ({"stop_condition": "context_length"}, ("truncated", "context_length", None)),
        ({"calls": [{"node": 1, "finish_reason": "length"}]}, ("truncated", "length", None)),
        ({"stop_condition": "error", "ok": False, "errors": [{"type": "E", "message": "m"}]}, ("error", "error", "E: m")),
        # An error of an attempt before the one that succeeded.
        ({"errors": [{"type": "E", "message": "m"}], "stop_condition": "done"}, ("completed", "done", None)),
        ({"is_completed": False, "ok": False}, ("cancelled", "", None)),
    ],
)
def test_the_stop_condition_of_traces(fields: dict[str, Any], ending: Any) -> None:
    nodes = node("user", "Heavy?"), sampled("No.", [True])
    rollout = verifiers.rollout_of(trace(*nodes, **fields), {})
    assert (rollout.status, rollout.stop_reason, rollout.error) == ending


def test_agents_of_one_episode_are_apart_and_one_bad_trace_does_not_take_the_others(tmp_path: Path) -> None:
    nodes = [node("user", "Heavy?"), sampled("No.", [True])]
    task = {"type": "Scales", "data": {"idx": 3, "kg": 3}}
    solver, judge = (
        trace(*nodes, agent={"name": name, "trainable": name == "solver"}, task=task) for name in ("solver", "judge")
    )
    traces = [solver, {**solver, "id": "t3"}, {"id": "bad"}, {**judge, "id": "t2"}]
    run = {"type": "train", "id": "r", "work": {"type": "train", "step": 12}}
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps({"id": "e", "env": {"id": "scales"}, "run": run, "traces": traces}) + "\n" + json.dumps(solver))
    first, second, damage, third, alone = read("verifiers", path)
    assert isinstance(first, Rollout)
    assert isinstance(second, Rollout)
    assert isinstance(third, Rollout)
    assert isinstance(alone, Rollout)
    assert isinstance(damage, Damage)
    assert (damage.line, damage.reason) == (1, "trace 2: no field 'nodes' in \"traces[2]\"")
    assert first.group == second.group != third.group
    assert (first.step, first.task.index, third.messages[-1].weight) == (12, 3, 0.0)


def test_prompts_and_completions_that_are_json_text_are_opened() -> None:
    row = {**ROW, "prompt": json.dumps(ROW["prompt"]), "completion": json.dumps(ROW["completion"])}
    opened, plain = (verifiers.rollout_of_result(each, {}, "x") for each in (row, ROW))
    assert opened.messages == plain.messages
    assert [message.origin for message in opened.messages] == ["given", "policy", "environment", "policy"]
    text = {**ROW, "prompt": "[draft] Heavy?", "completion": "{no"}
    assert [message.text for message in verifiers.rollout_of_result(text, {}, "x").messages] == ["[draft] Heavy?", "{no"]
