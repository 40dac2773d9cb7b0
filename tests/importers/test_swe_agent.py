"""Trajectories of SWE-agent and mini-swe-agent, and rows of datasets made from them."""

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
from openreward_gym.types import Rollout, Usage


def imported(data: Any, folder: Path, name: str = "pump__1.traj") -> Rollout:
    (folder / name).write_text(json.dumps(data))
    (item,) = read("swe-agent", folder / name)
    assert isinstance(item, Rollout), item
    return item


def origins(rollout: Rollout) -> list[tuple[str, str | None]]:
    return [(message.role, message.origin) for message in rollout.messages]


CALL = {"id": "k1", "type": "function", "function": {"name": "open", "arguments": '{"path":  "a.py"}'}}
HISTORY: list[dict[str, Any]] = [
    {"role": "system", "content": "You mend code.", "agent": "main", "message_type": "system_prompt"},
    {"role": "user", "content": "An example: ls", "agent": "main", "is_demo": True, "message_type": "demonstration"},
    {"role": "assistant", "content": "ls\n```\nls\n```", "agent": "main", "is_demo": True, "message_type": "action"},
    {"role": "user", "content": [{"type": "text", "text": "Mend the pump."}], "agent": "main", "message_type": "observation"},
    {
        "role": "assistant",
        "content": "I open it.",
        "thought": "I open it.",
        "action": "open a.py",
        "agent": "main",
        "tool_calls": [CALL],
        "thinking_blocks": [{"type": "thinking", "thinking": "Where?", "signature": "s"}],
        "message_type": "action",
    },
    {
        "role": "tool",
        "content": [{"type": "text", "text": "x = 1", "cache_control": {"type": "ephemeral"}}],
        "agent": "main",
        "tool_call_ids": ["k1"],
        "message_type": "observation",
    },
    {"role": "user", "content": "Sum this up.", "agent": "summarizer"},
    {"role": "assistant", "content": "A file was opened.", "agent": "summarizer"},
    {"role": "assistant", "content": "submit", "agent": "main", "message_type": "action"},
]
STATS = {"instance_cost": 0.5, "tokens_sent": 90, "tokens_received": 8, "api_calls": 2}
TRAJ: dict[str, Any] = {
    "environment": "swe_main",
    "trajectory": [{"action": "open a.py", "observation": "x = 1", "response": "I open it.", "state": {"open_file": "a.py"}}],
    "history": HISTORY,
    "info": {"exit_status": "submitted", "submission": "diff", "model_stats": STATS, "swe_agent_version": "1.1.0"},
    "replay_config": json.dumps(
        {"agent": {"model": {"name": "wren", "temperature": 0.25}}, "problem_statement": {"id": "pump__1"}}
    ),
}


def test_a_history_is_a_rollout(tmp_path: Path) -> None:
    rollout = imported(TRAJ, tmp_path)
    assert origins(rollout) == [
        ("system", "given"),
        ("user", "given"),
        ("assistant", "given"),
        ("user", "given"),
        ("assistant", "policy"),
        ("tool", "environment"),
        ("assistant", "policy"),
    ]
    turn, result = rollout.messages[4:6]
    assert (turn.text, turn.reasoning, turn.tool_calls[0].content) == ("I open it.", "Where?", '{"path":  "a.py"}')
    assert (result.text, result.call_id) == ("x = 1", "k1")
    assert turn.metadata == {"swe_agent": {"action": "open a.py", "message_type": "action"}}
    assert (rollout.model, rollout.sampling, rollout.cost_usd) == ({"name": "wren"}, {"temperature": 0.25}, 0.5)
    assert (rollout.usage, rollout.versions) == (Usage(90, 8), {"swe_agent_version": "1.1.0"})
    assert (rollout.name, rollout.reward, rollout.status, rollout.stop_reason) == ("pump__1", None, "completed", "finished")
    assert rollout.group == rollout.task.id
    rest = (rollout.metadata or {})["swe_agent"]
    assert [item["content"] for item in rest["other_agents"]] == ["Sum this up.", "A file was opened."]
    assert rest["info"]["submission"] == "diff"
    assert rest["states"] == [{"state": {"open_file": "a.py"}}]


def test_trials_of_an_instance_are_of_one_task(tmp_path: Path) -> None:
    first = imported(TRAJ, tmp_path)
    second = imported({**TRAJ, "history": HISTORY[:5], "replay_config": None}, tmp_path)
    assert first.task.id == second.task.id
    assert first.id != second.id
    assert imported({**TRAJ, "replay_config": "{torn"}, tmp_path, "other.traj").task.id != first.task.id


def test_a_trajectory_without_a_history_has_its_steps(tmp_path: Path) -> None:
    query = [{"role": "system", "content": "You mend code."}, {"role": "user", "content": "Mend it."}]
    steps = [
        {"query": query, "response": "I look.\n```\nls\n```", "observation": "a.py", "thought": "I look.\n", "action": "ls\n"},
        {"query": query, "response": "", "observation": "done"},
    ]
    rollout = imported({"trajectory": steps, "info": {"exit_status": None}}, tmp_path)
    assert origins(rollout) == [
        ("system", "given"),
        ("user", "given"),
        ("assistant", "policy"),
        ("user", "environment"),
        ("assistant", "policy"),
        ("user", "environment"),
    ]
    assert rollout.messages[2].text == "I look.\n```\nls\n```"
    assert rollout.status == "cancelled"


@pytest.mark.parametrize(
    ("exit_status", "status", "stop_reason"),
    [
        ("submitted", "completed", "finished"),
        ("submitted (exit_context)", "truncated", "context_overflow"),
        ("submitted (exit_cost)", "truncated", "exit_cost"),
        ("submitted (exit_format)", "error", "policy_failed"),
        ("exit_total_execution_time", "truncated", "deadline"),
        ("exit_forfeit", "completed", "exit_forfeit"),
        ("exit_api", "error", "policy_failed"),
        ("exit_environment_error", "error", "exit_environment_error"),
        (None, "cancelled", ""),
    ],
)
def test_an_exit_status_is_a_status(exit_status: str | None, status: str, stop_reason: str, tmp_path: Path) -> None:
    rollout = imported({**TRAJ, "info": {"exit_status": exit_status}}, tmp_path)
    assert (rollout.status, rollout.stop_reason) == (status, stop_reason)
    assert rollout.error == (exit_status if status == "error" else None)


RESPONSE = {
    "id": "r",
    "model": "wren-2",
    "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "ls", "reasoning_content": "Look."}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2},
}
MINI: dict[str, Any] = {
    "info": {
        "model_stats": {"instance_cost": 0.3, "api_calls": 2},
        "config": {"model": {"model_name": "wren", "model_kwargs": {"temperature": 0.0}}},
        "mini_version": "2.0.0",
        "exit_status": "Submitted",
        "submission": "diff",
    },
    "messages": [
        {"role": "system", "content": "You use bash."},
        {"role": "user", "content": "List."},
        {
            "role": "assistant",
            "content": "ls",
            "extra": {"response": RESPONSE, "cost": 0.1, "timestamp": 1767225600.5, "actions": []},
        },
        {"role": "user", "content": "a.py", "extra": {"returncode": 0, "timestamp": 1767225601}},
        {"role": "assistant", "content": "typed by hand", "extra": {"actions": [{"command": "pwd"}]}},
        {"role": "user", "content": "/", "extra": {"returncode": 0}},
        {"role": "exit", "content": "diff", "extra": {"exit_status": "Submitted", "submission": "diff"}},
    ],
    "trajectory_format": "mini-swe-agent-1.1",
    "instance_id": "pump__2",
}


def test_a_file_of_mini_swe_agent(tmp_path: Path) -> None:
    rollout = imported(MINI, tmp_path, "pump__2.traj.json")
    assert origins(rollout) == [
        ("system", "given"),
        ("user", "given"),
        ("assistant", "policy"),
        ("user", "environment"),
        ("assistant", "given"),
        ("user", "environment"),
    ]
    turn = rollout.messages[2]
    assert (turn.text, turn.reasoning, turn.ended, turn.stop_reason) == ("ls", "Look.", "stop", "stop")
    assert turn.sampled is not None
    assert (turn.sampled.cost_usd, turn.sampled.model, turn.usage) == (0.1, "wren-2", Usage(10, 2))
    assert turn.ended_at == "2026-01-01T00:00:00.500000+00:00"
    assert rollout.messages[3].metadata == {"swe_agent": {"returncode": 0}}
    assert (rollout.name, rollout.model, rollout.cost_usd) == ("pump__2", {"name": "wren"}, 0.3)
    assert (rollout.sampling, rollout.versions) == ({"temperature": 0.0}, {"mini_swe_agent": "2.0.0"})
    assert (rollout.metadata or {})["swe_agent"]["exit"][0]["content"] == "diff"


def test_mini_swe_agent_without_responses_and_as_a_bare_chat(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "ls"}, {"role": "user", "content": "a"}]
    rollout = imported(chat, tmp_path, "x.traj.json")
    assert origins(rollout) == [("user", "given"), ("assistant", "policy"), ("user", "environment")]
    assert rollout.name == "x"
    rollout = imported({"messages": chat, "info": {"exit_status": "LimitsExceeded"}}, tmp_path, "x.traj.json")
    assert (rollout.status, rollout.stop_reason) == ("truncated", "max_steps")


def test_mini_swe_agent_with_the_responses_api(tmp_path: Path) -> None:
    items = [
        {"role": "user", "content": "List."},
        {
            "object": "response",
            "output": [{"type": "function_call", "call_id": "c", "name": "bash", "arguments": "{}"}],
            "extra": {"cost": 0.2},
        },
        {"type": "function_call_output", "call_id": "c", "output": "a.py", "extra": {"returncode": 0}},
    ]
    rollout = imported({**MINI, "messages": items}, tmp_path)
    assert origins(rollout) == [("user", "given"), ("assistant", "policy"), ("tool", "environment")]
    assert rollout.messages[1].tool_calls[0].name == "bash"
    assert rollout.messages[1].sampled is not None
    assert rollout.messages[1].sampled.cost_usd == 0.2


ROW: dict[str, Any] = {
    "instance_id": "pump__3",
    "model_name": "wren-70b",
    "target": True,
    "exit_status": "submitted",
    "generated_patch": "diff",
    "trajectory": [
        {"role": "system", "system_prompt": "You mend code.", "text": None, "mask": False, "cutoff_date": "01.01.2026"},
        {"role": "user", "text": "Mend it.", "mask": False},
        {"role": "ai", "text": "bad move", "mask": True},
        {"role": "user", "text": "error", "mask": False},
        {"role": "ai", "text": "good move", "mask": False},
    ],
}


def test_rows_of_a_dataset_keep_their_mask_and_target(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (ROW, {**ROW, "target": False})))
    first, second = read("swe-agent", tmp_path / "rows.jsonl")
    assert isinstance(first, Rollout)
    assert isinstance(second, Rollout)
    assert [message.weight for message in first.messages] == [None, None, 0.0, None, None]
    assert first.messages[0].text == "You mend code."
    assert (first.reward, second.reward, first.messages[-1].reward) == (1.0, 0.0, 1.0)
    assert (first.task.id, first.model) == (second.task.id, {"name": "wren-70b"})


def test_a_folder_and_what_is_no_trajectory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.traj").write_text(json.dumps(TRAJ))
    (tmp_path / "b.traj.json").write_text(json.dumps(MINI))
    (tmp_path / "c.traj").write_text('{"info": {}}')
    items = list(read("swe-agent", tmp_path))
    assert [type(item).__name__ for item in items] == ["Rollout", "Rollout", "Damage"]
    assert isinstance(items[2], Damage)
    assert "not a trajectory of SWE-agent" in items[2].reason


@settings(max_examples=MUTATIONS, deadline=None)
@given(mutated(TRAJ) | mutated(MINI) | mutated(ROW))
def test_hostile_trajectories_are_damages(record: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check("swe-agent", record, Path(folder))
