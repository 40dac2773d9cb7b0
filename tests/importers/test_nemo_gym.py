from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from rollout_strategies import EXAMPLES, rollouts

from openreward_gym.errors import StoreError
from openreward_gym.importers import nemo_gym
from openreward_gym.store import Damage, RolloutStore
from openreward_gym.types import Rollout, TextBlock

# Real files, where they lie beside the project; it does not carry them.
DATA = Path(__file__).parents[3] / "shared" / "data" / "nemo_gym_rollouts"
FILES = sorted(DATA.glob("*.rollouts.jsonl"))
INPUTS = sorted(DATA.glob("*_materialized_inputs.jsonl"))

CALL = {"type": "function_call", "name": "get_weather", "arguments": '{"city":"Chicago"}', "call_id": "c1", "id": "fc_1"}
ANSWER: dict[str, Any] = {"type": "output_text", "text": "Yes.", "annotations": [], "logprobs": None}
TOOL = {"type": "function", "name": "get_weather", "description": "d", "parameters": {"type": "object"}, "strict": True}
LINE: dict[str, Any] = {
    "responses_create_params": {
        "input": [{"role": "developer", "content": "be good"}, {"role": "user", "content": "Should I bring an umbrella?"}],
        "instructions": None,
        "temperature": 0.7,
        "max_output_tokens": 100,
        "tools": [TOOL],
    },
    "response": {
        "id": "resp_1",
        "model": "m",
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
            {**CALL, "status": "completed"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain", "id": None, "status": None},
            {"type": "message", "role": "assistant", "id": "m1", "status": "completed", "content": [ANSWER]},
        ],
        "usage": {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8, "output_tokens_details": {"reasoning_tokens": 2}},
    },
    "reward": 1,
    "accuracy": True,
    "_ng_task_index": 4,
    "_ng_rollout_index": 2,
    "agent_ref": {"type": "responses_api_agents", "name": "weather_agent"},
    "terminated": True,
    "truncated": False,
    "info": {"x": 1},
}


def back(path: Path, tmp_path: Path) -> list[Any]:
    """Import a file into a run on disk, write the run as a file of NeMo Gym, and return its lines."""
    with RolloutStore(tmp_path / "run") as store:
        for rollout in nemo_gym.read(path):
            assert isinstance(rollout, Rollout), rollout
            store.append(rollout)
        out = tmp_path / "out.jsonl"
        assert nemo_gym.write((store.with_images(rollout) for rollout in store), out) == len(store)
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.split(".")[0])
def test_real_files_come_back_as_they_were(path: Path, tmp_path: Path) -> None:
    assert back(path, tmp_path) == [json.loads(line) for line in path.read_text().splitlines()]
    for rollout in RolloutStore(tmp_path / "run"):
        assert rollout.num_turns > 0
        assert rollout.reward is not None


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name.split(".")[0])
def test_inputs_are_named_as_what_they_are(path: Path) -> None:
    for damage in nemo_gym.read(path):
        assert isinstance(damage, Damage)
        assert damage.reason == 'no "response": this is an input (a task), not a rollout'


def test_a_line_becomes_a_rollout_with_every_field_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(LINE) + "\n")
    assert back(path, tmp_path) == [LINE]
    (rollout,) = RolloutStore(tmp_path / "run")
    assert [message.role for message in rollout.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert rollout.messages[2].tool_calls[0].arguments == {"city": "Chicago"}
    assert (rollout.messages[3].text, rollout.messages[4].text) == ("rain", "Yes.")
    assert (rollout.reward, rollout.messages[4].reward, rollout.sample, rollout.task.index) == (1.0, 1.0, 2, 4)
    assert rollout.environment.name == "weather_agent"
    assert rollout.sampling == {"temperature": 0.7, "max_tokens": 100}
    assert rollout.model == {"name": "m"}
    assert rollout.metrics == {"accuracy": 1.0, "terminated": 1.0, "truncated": 0.0}
    assert rollout.usage is not None
    assert rollout.usage.reasoning_tokens == 2
    assert [tool.name for tool in rollout.tools or ()] == ["get_weather"]
    again = next(iter(nemo_gym.read(path)))
    assert isinstance(again, Rollout)
    assert again.id == rollout.id


def test_what_was_changed_since_is_written_as_it_is_now(tmp_path: Path) -> None:
    rollout = nemo_gym.rollout_of(LINE, "x")
    rollout.reward = 0.5
    rollout.messages[-1] = rollout.messages[-1].replace(blocks=(TextBlock("No."),))
    row = nemo_gym.row_of(rollout)
    assert row["reward"] == 0.5
    assert row["response"]["output"][-1]["content"][0]["text"] == "No."
    assert row["responses_create_params"] == LINE["responses_create_params"]
    assert row["accuracy"] is True


def test_steps_that_each_repeat_what_went_before(tmp_path: Path) -> None:
    output = LINE["response"]["output"]
    nested = {**LINE, "response": {**LINE["response"], "output": [output[:3], output]}}
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(nested) + "\n")
    assert back(path, tmp_path) == [nested]
    assert len(RolloutStore(tmp_path / "run")[0].messages) == 5


@given(rollouts)
@settings(max_examples=EXAMPLES, deadline=None)
def test_rollouts_of_our_own_can_be_written_and_read(rollout: Rollout) -> None:
    if isinstance(rollout.metadata, dict):
        rollout.metadata.pop("nemo_gym", None)
    row = json.loads(json.dumps(nemo_gym.row_of(rollout)))
    again = nemo_gym.rollout_of(row, "x")
    assert json.loads(json.dumps(nemo_gym.row_of(again))) == row


def test_damage_is_named_by_line_and_reason_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    good = json.dumps(LINE).encode()
    bad = [
        b"{torn",
        b"[1]",
        b"{}",
        b'{"responses_create_params": {}, "response": {"output": [3]}}',
        b"\xff",
        b'{"a":' + b"[" * 100_000,
    ]
    path.write_bytes(b"\n".join([good, b"", *bad, good]))
    items = list(nemo_gym.read(path))
    assert [isinstance(item, Rollout) for item in items] == [True, *[False] * len(bad), True]
    damages = [item for item in items if isinstance(item, Damage)]
    assert [damage.line for damage in damages] == [3, 4, 5, 6, 7, 8]
    assert "not JSON" in damages[0].reason
    assert "a JSON list, not an object" in damages[1].reason
    assert "not a line of NeMo Gym" in damages[2].reason
    assert str(damages[0]).startswith(f"{path}: line 3: not JSON")
    with pytest.raises(StoreError, match=r"nowhere\.jsonl: cannot be read: No such file"):
        list(nemo_gym.read(tmp_path / "nowhere.jsonl"))
