"""Rows that this package makes are valid by OpenAI's types, and read back as they were."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import orjson
import pytest
from foreign_files import FILES, importer_of
from hypothesis import HealthCheck, given, settings
from nemo_rows import KINDS, WITH_USER_IN_OUTPUT, call, faults, has_user, rollout, said, told, user, written
from openai.types.responses import Response
from pydantic import ValidationError
from rollout_strategies import EXAMPLES, rollouts

from openreward_gym.importers import nemo_gym, read
from openreward_gym.jsonio import loads
from openreward_gym.store import RolloutStore
from openreward_gym.types import Rollout, ToolSpec
from openreward_gym.types.rollout import line_of


def again(row: dict[str, Any]) -> Rollout:
    return nemo_gym.rollout_of(loads(line_of(row)), "another id")


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_each_kind_is_valid_and_read_as_it_was(kind: str) -> None:
    row = written(KINDS[kind])
    assert faults(row) == []
    assert has_user(row) == (kind in WITH_USER_IN_OUTPUT)
    if has_user(row):
        row["response"]["output"] = [item for item in row["response"]["output"] if item.get("role") != "user"]
    Response.model_validate(row["response"])
    row = written(KINDS[kind])
    assert again(row).to_line() == KINDS[kind].to_line()
    assert written(again(row)) == row


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rollouts)
def test_any_rollout_makes_a_valid_row(record: Rollout) -> None:
    if isinstance(record.metadata, dict):
        record.metadata.pop("nemo_gym", None)
    record = Rollout.from_line(record.to_line())
    row = written(record)
    assert faults(row) == []
    if not has_user(row):
        Response.model_validate(row["response"])
    assert again(row).to_line() == record.to_line()


def test_openai_s_type_refuses_a_message_of_the_user_in_a_response() -> None:
    """The reason for the one exception."""
    (item,) = [item for item in written(KINDS["several users"])["response"]["output"] if item.get("role") == "user"]
    assert item == {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "3 m."}]}
    with pytest.raises(ValidationError):
        Response.model_validate(written(KINDS["several users"])["response"])


@pytest.mark.parametrize("kind", [kind for kind in FILES if importer_of(kind) != "nemo-gym"])
def test_records_of_other_systems_make_valid_rows(kind: str, tmp_path: Path) -> None:
    name, content = FILES[kind]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    records = [record for record in read(importer_of(kind), path) if isinstance(record, Rollout)]
    assert records
    for record in records:
        row = written(record)
        assert faults(row) == []
        if not has_user(row):
            Response.model_validate(row["response"])
        assert again(row).to_line() == record.to_line()


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("text", "completed", None),
        ("cut off", "incomplete", "max_output_tokens"),
        ("window full", "incomplete", "max_output_tokens"),
        ("token limit", "incomplete", "max_output_tokens"),
        ("filtered", "incomplete", "content_filter"),
        ("step limit", "completed", None),
        ("failed turn", "failed", None),
    ],
)
def test_the_end_of_a_response(kind: str, status: str, reason: str | None) -> None:
    response = written(KINDS[kind])["response"]
    assert (response["status"], (response["incomplete_details"] or {}).get("reason")) == (status, reason)
    assert (response["error"] is not None) == (status == "failed")


def test_an_id_of_a_call_changes_only_where_it_would_name_two() -> None:
    for kind, expected in (("ids again", ["a", "a", "a", "a"]), ("ids again at once", ["a", "a_2", "a", "a_2"])):
        output = written(KINDS[kind])["response"]["output"]
        assert [item["call_id"] for item in output if "call_id" in item] == expected


def test_a_failure_is_masked_and_has_no_reward() -> None:
    row = written(KINDS["no turn"])
    marks = [row.get(name) for name in ("reward", "mask_sample", "failure_reason", "_ng_failure_class")]
    assert marks == [None, True, "the server went away", "agent_run_error"]
    assert written(KINDS["step limit"])["mask_sample"] is True
    assert written(KINDS["no number"])["mask_sample"] is True
    assert "mask_sample" not in written(KINDS["text"])


def test_what_was_said_after_the_last_turn_is_in_the_record_alone() -> None:
    row = written(KINDS["verdict"])
    assert [item["type"] for item in row["response"]["output"]] == ["message"]
    assert again(row).messages[-1].text == "graded"


def test_token_ids_are_complete_or_not_there() -> None:
    fields = ("prompt_token_ids", "generation_token_ids", "generation_log_probs")
    output = written(KINDS["tokens"])["response"]["output"]
    assert [[item.get(name) for name in fields] for item in output if "generation_token_ids" in item] == [
        [[1, 2], [5, 6], [-0.5, -0.25]],
        [[1, 2], [5, 6], [-0.5, -0.25]],
    ]
    assert [item["type"] for item in output if "generation_token_ids" in item] == ["function_call", "message"]
    for kind in ("tokens without numbers", "tokens that do not fit"):
        assert not any(name in item for item in written(KINDS[kind])["response"]["output"] for name in fields)


TOOL = {"type": "function", "name": "dig", "description": "Dig.", "parameters": {"type": "object"}, "x_note": [None, 1]}
SOURCE: dict[str, Any] = {
    "responses_create_params": {
        "input": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Dig."}],
        "tools": [{**TOOL, "name": "fill", "strict": None}, {**TOOL, "strict": True}, {"type": "web_search"}],
        "temperature": 1,
        "metadata": {"extra_body": '{"seed": 4}'},
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_output_tokens": None,
    },
    "expected_depth": 3.0,
    "verifier_metadata": {"hints": [None, {}]},
    "agent_ref": {"name": "gardener"},
    "_ng_task_index": 7,
    "_ng_rollout_index": 0,
}


def played(source: dict[str, Any], *given_: Any, **fields: Any) -> Rollout:
    messages = given_ or (said("Be brief.").replace(role="system", origin="given"), user())
    return rollout(
        *messages, said("", call("a")), told("3 m", "a"), said("Dug."), metadata={"nemo_gym": source, "note": 1}, **fields
    )


def test_a_rollout_that_was_played_from_a_row_has_its_request_and_fields_as_they_were() -> None:
    record = played(SOURCE)
    row = written(record)
    assert row["responses_create_params"] == SOURCE["responses_create_params"]
    assert list(row["responses_create_params"]) == list(SOURCE["responses_create_params"])
    assert row["response"]["tools"] == SOURCE["responses_create_params"]["tools"]
    assert (row["response"]["tool_choice"], row["response"]["parallel_tool_calls"]) == ("required", False)
    names = ("expected_depth", "verifier_metadata", "agent_ref", "_ng_task_index", "_ng_rollout_index", "reward")
    assert [row[name] for name in names] == [3.0, {"hints": [None, {}]}, {"name": "gardener"}, 7, 1, 1.0]
    assert again(row).to_line() == record.to_line()
    assert written(again(row)) == row


@pytest.mark.parametrize("strict", [True, False, None, "absent"])
def test_strict_of_a_tool_stays_as_it_was(strict: Any) -> None:
    tool = {**TOOL, **({} if strict == "absent" else {"strict": strict})}
    source = {"responses_create_params": {**SOURCE["responses_create_params"], "tools": [tool]}}
    assert written(played(source))["responses_create_params"]["tools"] == [tool]
    line = {**source, "response": {"output": []}, "reward": 1.0}
    record = nemo_gym.rollout_of(line, "x")
    assert written(record) == line
    # Without the line, `strict` is the tool's own.
    record.metadata = None
    (made,) = written(record)["responses_create_params"]["tools"]
    assert made["strict"] is (False if strict == "absent" else strict)


def test_messages_and_tools_of_the_environment_stand_beside_those_of_the_row() -> None:
    shown = user("You are in the garden."), said("Be brief.").replace(role="system", origin="given"), user()
    row = written(played(SOURCE, *shown, tools=[ToolSpec("dig"), ToolSpec("look", "Look around.")]))
    first, *rest = row["responses_create_params"]["input"]
    assert first == {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "You are in the garden."}]}
    assert rest == SOURCE["responses_create_params"]["input"]
    *tools, further = row["responses_create_params"]["tools"]
    assert tools == SOURCE["responses_create_params"]["tools"]
    assert (further["name"], further["description"], further["strict"]) == ("look", "Look around.", False)


@pytest.mark.parametrize("asked", [{"input": "Dig."}, {"input": "Dig.", "instructions": "Be brief."}, {"input": []}])
def test_inputs_of_other_forms(asked: dict[str, Any]) -> None:
    system = [said("Be brief.").replace(role="system", origin="given")] if "instructions" in asked else []
    record = played({"responses_create_params": asked}, *system, user(), tools=None)
    row = written(record)
    expected = asked["input"] or [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Dig."}]}]
    assert row["responses_create_params"] == {**asked, "input": expected}
    assert again(row).to_line() == record.to_line()


def test_a_row_that_somebody_scored_again_has_the_new_reward_and_fields() -> None:
    row = {**written(KINDS["calls"]), "reward": 0.25, "judge": {"model": "m"}}
    record = again(row)
    assert (record.reward, record.id) == (0.25, KINDS["calls"].id)
    result = written(record)
    assert (result["reward"], result["judge"], result["response"]) == (0.25, {"model": "m"}, row["response"])
    assert written(again(result)) == result


def test_a_line_with_a_surrogate_is_json_for_strict_readers() -> None:
    line = line_of(nemo_gym.row_of(KINDS["surrogates"]))
    assert isinstance(orjson.loads(line)["openreward_gym"], str)
    assert again(json.loads(line)).to_line() == KINDS["surrogates"].to_line()


def test_a_run_and_its_rows_compare_as_equals(tmp_path: Path) -> None:
    records = [record for kind, record in KINDS.items() if kind not in ("no number",)]
    with RolloutStore(tmp_path / "run") as store:
        for record in records:
            store.append(record)
    path = tmp_path / "rows.jsonl"
    with RolloutStore(tmp_path / "run") as store:
        assert nemo_gym.write((store.with_images(record) for record in store), path) == len(records)
    for ours, theirs in zip(records, read("nemo-gym", path), strict=True):
        assert isinstance(theirs, Rollout)
        for name in ("environment", "task", "group", "sample", "status", "stop_reason", "reward", "error", "usage"):
            assert getattr(theirs, name) == getattr(ours, name)


def test_a_masked_line_has_no_reward_but_keeps_its_own() -> None:
    line = {
        "responses_create_params": {"input": "Dig."},
        "response": {"output": [{"type": "message", "role": "assistant", "content": "Dug.", "id": "m"}]},
        "reward": 0.0,
        "mask_sample": True,
        "failure_kind": "judge_failed",
        "failure_reason": "no judge",
    }
    record = nemo_gym.rollout_of(line, "x")
    assert (record.reward, record.status, record.error) == (None, "error", "judge_failed: no judge")
    assert nemo_gym.row_of(record) == line
    record.reward = 0.5
    assert nemo_gym.row_of(record)["reward"] == 0.5


@pytest.mark.parametrize("reward", [1, 1.0, True, "0.5", math.nan, math.inf, None])
def test_a_reward_is_written_as_it_was(reward: Any) -> None:
    line = {"responses_create_params": {"input": "Dig."}, "response": {"output": []}, "reward": reward}
    assert repr(nemo_gym.row_of(nemo_gym.rollout_of(line, "x"))) == repr(line)
