"""Round trips of records through NeMo Gym's rows: what is read is what was written, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from rollout_strategies import rollouts

from openreward_gym import export
from openreward_gym.importers import nemo_gym, read
from openreward_gym.jsonio import dumps, loads
from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    ReasoningItem,
    Rollout,
    Sampled,
    SystemMessage,
    TextBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
)

GIF = base64.b64encode(b"GIF89a\x01\x00\x01\x00").decode()


def again(rollout: Rollout) -> Rollout:
    return nemo_gym.rollout_of(loads(dumps(nemo_gym.row_of(rollout), non_finite="text")), "another id")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rollouts)
def test_a_record_is_read_as_it_was_written(rollout: Rollout) -> None:
    rollout = Rollout.from_line(rollout.to_line())
    assert again(rollout).to_line() == rollout.to_line()


CALLS = [
    [ToolCall("dig", {"depth": 3})],
    [ToolCall("dig", {"depth": 3}, "k9")],
    [ToolCall("dig", content='{"depth":  3}')],
    [ToolCall("dig", content='{"depth":', call_id="k9")],
    [ToolCall("dig"), ToolCall("dig", {}, "k9"), ToolCall("fill", {"with": "água"})],
    [ReasoningItem("Stone."), TextBlock("I dig."), ToolCall("dig", {})],
    [ReasoningItem("Stone.", content_reference="rs_7"), ReasoningItem("Sand."), TextBlock("I dig.")],
    [ReasoningItem(summary="Stone", signature="s"), TextBlock("I dig.")],
    [TextBlock("One."), ToolCall("dig", {}), TextBlock("Two."), ToolCall("fill", {})],
    [TextBlock("One."), TextBlock("Two.")],
    [TextBlock("")],
    [],
]


@pytest.mark.parametrize("blocks", CALLS, ids=[str(number) for number in range(len(CALLS))])
@pytest.mark.parametrize("ended", [None, "tool_calls", "malformed", "length"])
def test_no_ids_or_texts_are_invented(blocks: list[Any], ended: Any) -> None:
    turn = AssistantMessage(blocks, origin="policy", ended=ended, weight=0.0)
    results = [ToolMessage("done", call.call_id or None, origin="environment") for call in turn.tool_calls]
    prompt = [SystemMessage("Be brief.", origin="given"), UserMessage("Dig.", origin="given", name="Ana")]
    rollout = Rollout(status="completed", id="own", messages=[*prompt, turn, *results])
    result = again(rollout)
    assert result.messages == rollout.messages
    assert result.id == "own"


@pytest.mark.parametrize("place", ["user", "tool"])
def test_an_image_of_a_run_has_the_same_hash_after_the_round_trip(place: str, tmp_path: Path) -> None:
    image = ImageBlock(GIF, "image/gif")
    messages: list[Message] = [UserMessage([TextBlock("What is it?"), *([image] if place == "user" else [])], origin="given")]
    messages += [AssistantMessage([ToolCall("look", {}, "c")], origin="policy")]
    messages += [ToolMessage([TextBlock("Here."), *([image] if place == "tool" else [])], "c", origin="environment")]
    with RolloutStore(tmp_path / "first") as store:
        store.append(Rollout(status="completed", id="own", messages=messages))
    (rollout,) = RolloutStore(tmp_path / "first")
    export.write(tmp_path / "first", tmp_path / "rows", formats=["nemo_gym"])
    (result,) = read("nemo-gym", tmp_path / "rows")
    assert isinstance(result, Rollout)
    with RolloutStore(tmp_path / "second") as store:
        store.append(result)
    (stored,) = RolloutStore(tmp_path / "second")
    assert stored.to_line() == rollout.to_line()
    names = [{file.name for file in (tmp_path / run / "images").iterdir()} for run in ("first", "second")]
    assert names[0] == names[1]
    assert hashlib.sha256(base64.b64decode(GIF)).hexdigest() in str(names[0])


ROW: dict[str, Any] = {
    "responses_create_params": {"input": [{"role": "user", "content": "Dig."}], "temperature": 0.5},
    "response": {
        "model": "m",
        "output": [{"type": "message", "role": "assistant", "id": "m1", "content": [{"type": "output_text", "text": "Dug."}]}],
    },
    "reward": 1.0,
    "agent_ref": {"name": "garden"},
    "_ng_task_id": {"task_id": "7"},
    "reward_components": {"deep": 0.5},
}


@pytest.mark.parametrize("texts", [["response"], ["responses_create_params"], list(ROW)])
def test_fields_that_are_json_text_are_opened(texts: list[str], tmp_path: Path) -> None:
    row = {name: json.dumps(value) if name in texts and isinstance(value, dict) else value for name, value in ROW.items()}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (rollout,) = read("nemo-gym", tmp_path / "rows.jsonl")
    assert isinstance(rollout, Rollout)
    expected = nemo_gym.rollout_of(ROW, rollout.id)
    assert rollout.to_line() == expected.to_line()
    assert nemo_gym.row_of(rollout) == ROW
    assert nemo_gym.question_of(row) == "Dig."


def test_a_weight_that_a_foreign_row_got_is_in_the_row() -> None:
    rollout = nemo_gym.rollout_of(ROW, "own")
    rollout.messages[-1] = rollout.messages[-1].replace(weight=0.0)
    row = nemo_gym.row_of(rollout)
    assert row["responses_create_params"]["temperature"] == 0.5
    result = nemo_gym.rollout_of(loads(dumps(row)), "x")
    assert (result.id, [message.weight for message in result.messages]) == ("own", [None, 0.0])


def test_rows_whose_items_somebody_changed_are_read_from_the_items() -> None:
    turn = AssistantMessage([TextBlock("I dig."), ToolCall("dig", {})], origin="policy", weight=0.0)
    row = loads(dumps(nemo_gym.row_of(Rollout(status="completed", id="own", messages=[UserMessage("Dig."), turn]))))
    del row["response"]["output"][1]
    result = nemo_gym.rollout_of(row, "x")
    assert [message.text for message in result.messages] == ["Dig.", "I dig."]
    assert not result.messages[1].tool_calls


@pytest.mark.parametrize("metadata", [False, 0, "", []])
@pytest.mark.parametrize("tokens", [((), (), ()), ((1,), (), (-0.5,)), ((1,), (2,), (-math.inf,)), ((1,), (2,), (-0.5, -0.5))])
def test_values_that_look_like_nothing_are_kept(metadata: Any, tokens: Any) -> None:
    ids, prompt, logprobs = tokens
    sampled = Sampled(token_ids=ids, prompt_token_ids=prompt, logprobs=logprobs)
    turn = AssistantMessage([TextBlock("I dig.")], origin="policy", sampled=sampled, metadata=metadata)
    rollout = Rollout(status="completed", id="own", messages=[UserMessage("Dig.", origin="given", metadata=metadata), turn])
    rollout = Rollout.from_line(rollout.to_line())
    assert again(rollout).to_line() == rollout.to_line()
