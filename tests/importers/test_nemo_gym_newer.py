"""What NeMo Gym 0.7 writes: results of environment servers, failed attempts, tasks that are laid out for a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openreward_gym.importers import nemo_gym
from openreward_gym.store import Damage
from openreward_gym.types import Rollout

ANSWER = {
    "type": "message",
    "id": "m1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Dug.", "annotations": []}],
}
REQUEST = {"input": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Dig."}], "tools": []}
RESPONSE = {"id": "r", "object": "response", "model": "m", "output": [ANSWER], "usage": None}
IDENTITY = {"_ng_task_id": {"taskset": "garden:train", "task_id": "g-1"}, "_ng_task_index": 4, "_ng_rollout_index": 2}
TURN = {"sequence": 0, "role": "assistant", "request": REQUEST, "response": RESPONSE, "observations": None, "state_after": None}
MARKS = {"mask_sample": False, "failure_kind": None, "failure_reason": None}

ROWS: dict[str, dict[str, Any]] = {
    "a single turn of an agent": {
        "responses_create_params": REQUEST,
        "response": RESPONSE,
        "reward": 1.0,
        **MARKS,
        "ng_agent_observations": None,
        "_ng_environment_server": "garden_environment",
        "_ng_result_type": "single_agent_turn",
        **IDENTITY,
    },
    "a simulated user": {
        "reward": 1.0,
        **MARKS,
        "reward_components": {"done": 1.0},
        "verification": {"reward": 1.0, "verifier_data": {}},
        "usersim_result": {"conversation_messages": [], "conversation_status": True},
        "invocations": [{**TURN, "role": "user"}, {**TURN, "sequence": 1}, {**TURN, "sequence": 2, "role": "judge"}],
        "episode_interaction_protocol": "usersim.ConversationLoop",
        "_ng_environment_server": "garden_environment",
        "_ng_result_type": "nemo_user_sim",
        **IDENTITY,
    },
    "a row that names its source": {
        "responses_create_params": REQUEST,
        "response": RESPONSE,
        "reward": 1.0,
        "task_source": "garden_environment",
        "_ng_attempt_index": 1,
        "ng_trajectory": {"turns": []},
        **IDENTITY,
    },
}


@pytest.mark.parametrize("kind", ROWS)
def test_results_of_environment_servers(kind: str) -> None:
    record = nemo_gym.rollout_of(ROWS[kind], "x")
    assert [(message.role, message.origin, message.text) for message in record.messages] == [
        ("system", "given", "Be brief."),
        ("user", "given", "Dig."),
        ("assistant", "policy", "Dug."),
    ]
    assert (record.environment.name, record.task.index, record.sample) == ("garden_environment", 4, 2)
    assert (record.reward, record.status, record.attempt) == (1.0, "completed", ROWS[kind].get("_ng_attempt_index", 0))
    assert "mask_sample" not in (record.metrics or {})
    assert json.dumps(nemo_gym.row_of(Rollout.from_line(record.to_line()))) == json.dumps(ROWS[kind])


def test_failed_attempts_and_tasks_are_named_as_what_they_are(tmp_path: Path) -> None:
    failure = {
        "_ng_failure_class": "environment_server_failed",
        "_ng_failure_terminal": False,
        "_ng_failure_message": "Episode timed out",
        **IDENTITY,
    }
    request = {"responses_create_params": REQUEST}
    lines = [
        failure,
        {**failure, **request, "_ng_failure_class": "agent_run_error", "_ng_failure_message": None},
        {"task_id": {"taskset": "garden:train", "task_id": "g-1"}, "task_input": {**request, "task_data": {"depth": 3}}},
        request,
        {"reward": 1.0, "policy_response": "Dug."},
    ]
    path = tmp_path / "rows_failures.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(item.line, item.reason) for item in nemo_gym.read(path) if isinstance(item, Damage)] == [
        (1, 'no "response": this is a failed attempt, not a rollout (environment_server_failed: Episode timed out)'),
        (2, 'no "response": this is a failed attempt, not a rollout (agent_run_error)'),
        (3, 'no "response": this is an input (a task), not a rollout'),
        (4, 'no "response": this is an input (a task), not a rollout'),
        (5, 'no "responses_create_params": this is not a line of NeMo Gym'),
    ]


def test_a_task_that_is_laid_out_for_a_server_is_an_input() -> None:
    task = {"task_id": {"taskset": "t", "task_id": "1"}, "task_input": {"responses_create_params": REQUEST, "depth": 3}, "x": 1}
    assert nemo_gym.is_row(task)
    assert nemo_gym.question_of(task) == "Dig."
    assert nemo_gym.spec_of(task) == {"question": "Dig.", "task_id": task["task_id"], "x": 1, "depth": 3}
    assert nemo_gym.is_row({**task, "task_input": json.dumps(task["task_input"])})
    assert not nemo_gym.is_row({"task_input": {"depth": 3}})
    assert not nemo_gym.is_row({"question": "Dig."})
