"""Results of tau-bench and tau2-bench."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from mutations import MUTATIONS, check, mutated

from openreward_gym.importers import read
from openreward_gym.store import Damage
from openreward_gym.types import Rollout, ToolSpec, Usage


def rollouts_of(data: Any, folder: Path, name: str = "results.json") -> list[Rollout]:
    (folder / name).write_text(json.dumps(data))
    items = list(read("tau-bench", folder / name))
    for item in items:
        assert isinstance(item, Rollout), item
    return [item for item in items if isinstance(item, Rollout)]


def origins(rollout: Rollout) -> list[tuple[str, str | None]]:
    return [(message.role, message.origin) for message in rollout.messages]


def call(name: str, arguments: str, call_id: str = "c") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def entry(task: int, trial: int, *end: dict[str, Any], **fields: Any) -> dict[str, Any]:
    traj = [
        {"role": "system", "content": "# Retail agent policy\n\nBe kind."},
        {"role": "user", "content": "My lamp is broken."},
        {"role": "assistant", "content": None, "tool_calls": [call("find_user", '{"zip":  "1"}')], "function_call": None},
        {"role": "tool", "tool_call_id": "c", "name": "find_user", "content": "u1"},
        {"role": "assistant", "content": "I am sorry.", "tool_calls": None},
        *end,
    ]
    info = {"task": {"user_id": "u1", "instruction": "Complain."}, "user_cost": 0.5}
    return {"task_id": task, "trial": trial, "reward": 1.0, "info": info, "traj": traj, **fields}


STOP = {"role": "user", "content": "Thanks. ###STOP###"}


def test_an_entry_of_tau_bench_is_a_rollout_of_its_task(tmp_path: Path) -> None:
    first, second, third = rollouts_of([entry(0, 0, STOP), entry(0, 1, STOP, reward=0.0), entry(1, 0, STOP)], tmp_path)
    assert origins(first) == [
        ("system", "given"),
        ("user", "given"),
        ("assistant", "policy"),
        ("tool", "environment"),
        ("assistant", "policy"),
        ("user", "environment"),
    ]
    assert first.messages[2].tool_calls[0].content == '{"zip":  "1"}'
    assert (first.environment.name, first.task.index, first.sample) == ("tau-bench/retail", 0, 0)
    assert first.group == first.task.id == second.group != third.group
    assert (second.sample, second.reward, second.messages[-1].reward) == (1, 0.0, 0.0)
    assert first.messages[-1].finished
    assert first.cost_usd is None  # the simulated user's costs are not the policy's
    assert {message.ended for message in first.messages} == {None}
    assert (first.metadata or {})["tau_bench"]["info"]["user_cost"] == 0.5


@pytest.mark.parametrize(
    ("end", "status", "stop_reason"),
    [
        ([STOP], "completed", "finished"),
        ([], "completed", "message"),
        ([{"role": "user", "content": "And the shade?"}], "truncated", "max_steps"),
        (
            [
                {"role": "assistant", "content": "", "tool_calls": [call("transfer_to_human_agents", "{}", "h")]},
                {"role": "tool", "tool_call_id": "h", "content": "Transfer successful"},
            ],
            "completed",
            "finished",
        ),
    ],
)
def test_how_an_episode_of_tau_bench_ended(end: list[Any], status: str, stop_reason: str, tmp_path: Path) -> None:
    (rollout,) = rollouts_of([entry(0, 0, *end)], tmp_path)
    assert (rollout.status, rollout.stop_reason) == (status, stop_reason)


def test_a_failed_run_belongs_to_the_task_of_the_others(tmp_path: Path) -> None:
    failed = {"task_id": 0, "trial": 1, "reward": 0.0, "info": {"error": "no quota", "traceback": "..."}, "traj": []}
    first, second = rollouts_of([entry(0, 0, STOP), failed], tmp_path)
    assert (second.status, second.error, second.messages) == ("error", "no quota", [])
    assert first.task.id == second.task.id


def simulation(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": "sim-1",
        "task_id": "book_7",
        "trial": 2,
        "seed": 11,
        "start_time": "2026-01-01T10:00:00",
        "end_time": "2026-01-01T10:05:00",
        "termination_reason": "user_stop",
        "agent_cost": 0.25,
        "user_cost": 0.5,
        "reward_info": {"reward": 0.5, "reward_breakdown": {"DB": 1.0, "COMMUNICATE": 0.5}},
        "messages": list(messages),
        **fields,
    }


RAW = {
    "id": "r",
    "model": "wren-9",
    "choices": [
        {
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Look it up.",
                "tool_calls": [call("get_line", '{ "id": 1.0 }', "a")],
            },
        }
    ],
    "usage": {"prompt_tokens": 30, "completion_tokens": 6},
}
MESSAGES: list[dict[str, Any]] = [
    {"role": "assistant", "content": "Hi! How can I help you today?", "cost": 0.0, "turn_idx": 0},
    {"role": "user", "content": "My line is dead.", "cost": 0.1, "usage": {"prompt_tokens": 9, "completion_tokens": 9}},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "name": "get_line", "arguments": {"id": 1.0}, "requestor": "assistant"}],
        "cost": 0.01,
        "usage": {"prompt_tokens": 30, "completion_tokens": 6},
        "raw_data": RAW,
        "generation_time_seconds": 1.5,
        "timestamp": "2026-01-01T10:01:00",
    },
    {"role": "tool", "id": "a", "content": "no such line", "requestor": "assistant", "error": True},
    {"role": "assistant", "content": "Restart it.", "cost": 0.02, "usage": {"prompt_tokens": 40, "completion_tokens": 3}},
    {"role": "user", "content": None, "tool_calls": [{"id": "u", "name": "restart", "arguments": {}, "requestor": "user"}]},
    {"role": "tool", "id": "u", "content": "restarted", "requestor": "user"},
    {"role": "user", "content": "It works. ###STOP###"},
]
RESULTS: dict[str, Any] = {
    "info": {
        "git_commit": "abc",
        "agent_info": {"implementation": "llm_agent", "llm": "wren-9", "llm_args": {"temperature": 0.0}},
        "environment_info": {
            "domain_name": "telecom",
            "policy": "Help.",
            "tool_defs": {"get_line": {"name": "get_line", "doc": "A line.", "params": {"type": "object"}}},
        },
    },
    "tasks": [{"id": "book_7", "user_scenario": {"instructions": "Your line is dead."}}],
    "simulations": [simulation(*MESSAGES)],
}


def test_a_simulation_of_tau2_is_a_rollout(tmp_path: Path) -> None:
    (rollout,) = rollouts_of(RESULTS, tmp_path)
    assert origins(rollout) == [
        ("assistant", "given"),
        ("user", "given"),
        ("assistant", "policy"),
        ("tool", "environment"),
        ("assistant", "policy"),
        ("user", "environment"),
    ]
    turn = rollout.messages[2]
    assert (turn.tool_calls[0].content, turn.reasoning, turn.ended) == ('{ "id": 1.0 }', "Look it up.", "tool_calls")
    assert turn.sampled is not None
    assert (turn.sampled.cost_usd, turn.sampled.duration_s, turn.sampled.model) == (0.01, 1.5, "wren-9")
    assert rollout.messages[3].is_error
    assert rollout.messages[3].call_id == "a"
    assert (rollout.reward, rollout.metrics) == (0.5, {"DB": 1.0, "COMMUNICATE": 0.5})
    assert (rollout.id, rollout.sample, rollout.seed) == ("sim-1", 2, 11)
    assert rollout.usage == Usage(70, 9)
    assert (rollout.cost_usd, rollout.environment.name, rollout.model) == (0.25, "tau2-bench/telecom", {"name": "wren-9"})
    assert rollout.sampling == {"temperature": 0.0}
    assert rollout.tools == [ToolSpec("get_line", "A line.", {"type": "object"})]
    assert (rollout.versions, rollout.started_at) == ({"tau2": "abc"}, "2026-01-01T10:00:00")
    assert (rollout.task.spec or {})["user_scenario"] == {"instructions": "Your line is dead."}


def test_what_the_user_did_with_its_tools_is_no_message(tmp_path: Path) -> None:
    (rollout,) = rollouts_of(RESULTS, tmp_path)
    assert [item["id"] for item in rollout.messages[-1].metadata["user_tools"][1:]] == ["u"]
    assert rollout.messages[-1].metadata["user_tools"][0]["tool_calls"][0]["name"] == "restart"
    cut = {**RESULTS, "simulations": [simulation(*MESSAGES[:-1], termination_reason="max_steps")]}
    (rollout,) = rollouts_of(cut, tmp_path)
    assert len((rollout.metadata or {})["tau_bench"]["user_tools"]) == 2
    assert (rollout.status, rollout.stop_reason) == ("truncated", "max_steps")


def test_an_opening_that_was_sampled_is_the_policy_s(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    opening = {"role": "assistant", "content": "Good day.", "usage": usage}
    (rollout,) = rollouts_of({**RESULTS, "simulations": [simulation(opening, *MESSAGES[1:])]}, tmp_path)
    assert origins(rollout)[:2] == [("assistant", "policy"), ("user", "environment")]
    scripted = {"role": "assistant", "content": "Welcome to our shop."}
    (rollout,) = rollouts_of({**RESULTS, "simulations": [simulation(scripted, *MESSAGES[1:])]}, tmp_path)
    assert origins(rollout)[:2] == [("assistant", "given"), ("user", "given")]


@pytest.mark.parametrize(
    ("reason", "status", "stop_reason"),
    [
        ("agent_stop", "completed", "finished"),
        ("timeout", "truncated", "deadline"),
        ("too_many_errors", "truncated", "too_many_errors"),
        ("context_window_exceeded", "truncated", "context_overflow"),
        ("agent_error", "error", "policy_failed"),
        ("infrastructure_error", "error", "infrastructure_error"),
        ("moonrise", "cancelled", "moonrise"),
    ],
)
def test_a_termination_reason_is_a_status(reason: str, status: str, stop_reason: str, tmp_path: Path) -> None:
    (rollout,) = rollouts_of({**RESULTS, "simulations": [simulation(*MESSAGES, termination_reason=reason)]}, tmp_path)
    assert (rollout.status, rollout.stop_reason) == (status, stop_reason)


def test_a_folder_with_a_file_per_simulation(tmp_path: Path) -> None:
    (tmp_path / "simulations").mkdir()
    (tmp_path / "results.json").write_text(json.dumps({**RESULTS, "simulations": [], "simulation_index": []}))
    (tmp_path / "simulations" / "a.json").write_text(json.dumps(simulation(*MESSAGES)))
    (tmp_path / "simulations" / "b.json").write_text(json.dumps(simulation(ticks=[{}], id="b")))
    rollout, damage = read("tau-bench", tmp_path)
    assert isinstance(rollout, Rollout)
    assert isinstance(damage, Damage)
    assert rollout.environment.name == "tau2-bench/telecom"
    assert "simulations/b.json: a simulation of speech" in damage.reason
    (alone,) = read("tau-bench", tmp_path / "simulations" / "a.json")
    assert isinstance(alone, Rollout)
    assert alone.model == {"name": "wren-9"}


def test_a_damaged_simulation_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({**RESULTS, "simulations": [simulation(*MESSAGES), 5, simulation({"role": 3})]}))
    items = list(read("tau-bench", tmp_path / "r.json"))
    assert [type(item).__name__ for item in items] == ["Rollout", "Damage", "Damage"]
    assert "simulations[2]" in str(items[2])
    assert '"role" must be text' in str(items[2])


@settings(max_examples=MUTATIONS, deadline=None)
@given(mutated([entry(0, 0, STOP)]))
def test_hostile_results_of_tau_bench_are_damages(record: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check("tau-bench", record, Path(folder))


@settings(max_examples=MUTATIONS, deadline=None)
@given(mutated(RESULTS))
def test_hostile_results_of_tau2_are_damages(record: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check("tau-bench", record, Path(folder))
