from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from openai.types import responses
from rollout_strategies import EXAMPLES, rollouts

from openreward_gym.errors import StoreError
from openreward_gym.importers import nemo_gym
from openreward_gym.store import Damage, RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
)

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
    fields = ("id", "environment", "task", "group", "sample", "status", "stop_reason", "reward", "model", "metadata")
    assert json.loads(again.to_line()).keys() == json.loads(rollout.to_line()).keys()
    kept = [[json.loads(one.to_line()).get(name) for name in fields] for one in (again, rollout)]
    assert kept[0] == kept[1]
    marks = [[(m.role, m.origin, m.weight, m.ended, m.reward, m.finished) for m in one.messages] for one in (again, rollout)]
    assert marks[0] == marks[1]


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


def output_of(*items: dict[str, Any], prompt: Any = "Go", **response: Any) -> Rollout:
    row = {"responses_create_params": {"input": prompt}, "response": {"output": list(items), **response}, "reward": 1.0}
    rollout = nemo_gym.rollout_of(row, "x")
    assert nemo_gym.row_of(Rollout.from_line(rollout.to_line())) == row
    return rollout


def test_the_reasoning_of_open_models_stands_in_the_summary() -> None:
    summary = [{"type": "summary_text", "text": "First.\n"}]
    open_model = output_of({"type": "reasoning", "id": "r", "summary": summary, "encrypted_content": None}, CALL)
    assert open_model.messages[1].blocks[0].content == "First.\n"  # type: ignore[union-attr]
    hidden = output_of({"type": "reasoning", "id": "r", "summary": summary, "encrypted_content": "gAAA"}, CALL)
    assert hidden.messages[1].blocks[0].content is None  # type: ignore[union-attr]
    assert hidden.messages[1].blocks[0].summary == "First.\n"  # type: ignore[union-attr]


def tokens(*ids: int) -> dict[str, Any]:
    return {"prompt_token_ids": [0], "generation_token_ids": list(ids), "generation_log_probs": [-0.5] * len(ids)}


def said(text: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "role": "assistant",
        "id": "m",
        "status": "completed",
        "content": [{**ANSWER, "text": text}],
        **fields,
    }


def test_token_ids_are_the_turn_s() -> None:
    result = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
    reasoning = {"type": "reasoning", "id": "r", "summary": []}
    rollout = output_of(
        reasoning, said("I look."), {**CALL, **tokens(1, 2)}, result, said("Rain.", **tokens(3), routed_experts="e")
    )
    first, last = rollout.messages[1].sampled, rollout.messages[3].sampled
    assert first is not None
    assert last is not None
    assert (first.token_ids, first.logprobs, first.prompt_token_ids, last.token_ids) == ((1, 2), (-0.5, -0.5), (0,), (3,))
    # Token ids end a turn, or begin it, where nothing else stands between two calls of the model.
    ends = output_of(reasoning, said("a", **tokens(1)), reasoning, said("b", **tokens(2)))
    begins = output_of(said("a", **tokens(1)), CALL, said("b", **tokens(2)), CALL)
    for each in (ends, begins):
        assert [m.token_ids for m in each.messages[1:]] == [[1], [2]]
    uneven = {**tokens(1, 2), "generation_log_probs": [-0.5]}
    assert output_of(said("a", **uneven)).messages[1].logprobs is None
    assert output_of(said("a", **tokens())).messages[1].token_ids is None


def test_the_end_of_each_turn() -> None:
    result = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
    rollout = output_of(CALL, result, said("Ra"), incomplete_details={"reason": "max_output_tokens"}, status="incomplete")
    assert [(m.ended, m.stop_reason) for m in rollout.messages if m.origin == "policy"] == [
        ("tool_calls", None),
        ("length", "max_output_tokens"),
    ]
    assert (rollout.status, rollout.stop_reason) == ("truncated", "max_tokens")
    assert output_of(said("x"), status="failed").status == "error"


def test_an_answer_that_begins_with_the_prompt_has_it_once() -> None:
    prompt = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    repeated = [{**message, "type": "message"} for message in prompt]
    for request, output in ((prompt, [*repeated, said("A")]), ([], [*repeated, said("A")]), (prompt, [said("A")])):
        rollout = output_of(*output, prompt=request)
        assert [(m.role, m.origin) for m in rollout.messages] == [("system", "given"), ("user", "given"), ("assistant", "policy")]


def test_parameters_of_the_request_and_what_was_used() -> None:
    metadata = {"chat_template_kwargs": '{"enable_thinking": false}', "extra_body": '{"seed": 3}', "other": "x"}
    request = {
        "input": "Q",
        "top_p": 0.9,
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "metadata": metadata,
        "model": "m",
    }
    row = {"responses_create_params": request, "response": {"output": [said("A")], "temperature": 0.3, "top_p": 1.0}}
    rollout = nemo_gym.rollout_of(row, "x")
    assert rollout.sampling == {
        "temperature": 0.3,
        "top_p": 0.9,
        "parallel_tool_calls": False,
        "chat_template_kwargs": {"enable_thinking": False},
        "seed": 3,
    }
    assert rollout.model == {"name": "m"}


def invocation(role: str, given: list[Any], *output: Any) -> dict[str, Any]:
    return {"role": role, "request": {"input": given, "tools": [TOOL]}, "response": {"output": list(output), "model": "m"}}


def test_an_environment_server_s_row_is_the_assistant_s() -> None:
    user = [{"role": "user", "content": text} for text in ("Q1", "Q2")]
    history = [{"role": "assistant", "content": "An example."}]
    row = {
        "reward": 0.5,
        "reward_components": {"polite": 1.0},
        "invocations": [
            invocation("user", [{"role": "system", "content": "Play a guest."}], said("Q1")),
            invocation("assistant", [*history, user[0]], said("A1")),
            invocation("user", [], said("Q2")),
            invocation("assistant", [*history, user[0], said("A1"), user[1]], said("A2")),
            invocation("judge", [], said("good")),
        ],
        "_ng_environment_server": "hotel",
        "_ng_task_id": {"taskset": "t", "task_id": "7"},
        "_ng_rollout_index": 3,
    }
    rollout = nemo_gym.rollout_of(row, "x")
    assert [(m.text, m.origin) for m in rollout.messages] == [
        ("An example.", "given"),
        ("Q1", "given"),
        ("A1", "policy"),
        ("Q2", "environment"),
        ("A2", "policy"),
    ]
    assert (rollout.reward, rollout.environment.name, rollout.sample) == (0.5, "hotel", 3)
    assert (rollout.metrics, [tool.name for tool in rollout.tools or ()]) == ({"reward_components.polite": 1.0}, ["get_weather"])
    assert nemo_gym.row_of(Rollout.from_line(rollout.to_line())) == row
    rollout.messages[-1] = rollout.messages[-1].replace(blocks=(TextBlock("No."),))
    assert nemo_gym.row_of(rollout)["response"]["output"][-1]["content"][0]["text"] == "No."
    with pytest.raises(ValueError, match="no turn of the policy"):
        nemo_gym.rollout_of({"invocations": [invocation("judge", [], said("good"))]}, "x")


def test_rows_of_our_own_are_valid_and_keep_what_nemo_gym_has_no_field_for() -> None:
    sampled = Sampled(token_ids=(1,), logprobs=(-0.5,), prompt_token_ids=(0,), stop_reason="stop")
    messages = [
        UserMessage("Q", origin="given"),
        AssistantMessage("I look.", [ToolCall("f", {}), ToolCall("g", content="{torn")], reasoning="Hm.", origin="policy"),
        ToolMessage("1", origin="environment"),
        ToolMessage("2", origin="client", is_error=True),
        AssistantMessage("An example.", origin="given"),
        AssistantMessage("Done", origin="policy", ended="stop", sampled=sampled, weight=0.5),
        ToolMessage("graded", origin="environment", reward=1.0, finished=True),
    ]
    rollout = Rollout(
        status="truncated",
        environment=RolloutEnvironment("quiz", "hard", "test"),
        task=Task("test", 4, {"q": 1}, "tid"),
        group="g",
        sample=2,
        stop_reason="max_steps",
        messages=messages,
        reward=1.0,
        final_reward=1.0,
        usage=Usage(5, 3),
        metadata={"note": "n"},
    )
    row = json.loads(json.dumps(nemo_gym.row_of(rollout)))
    output = row["response"]["output"]
    calls = [item["call_id"] for item in output if item["type"] == "function_call"]
    assert [item["call_id"] for item in output if item["type"] == "function_call_output"] == calls
    assert len(set(calls)) == 2
    assert (output[-1]["role"], output[-1]["content"][0]["text"]) == ("assistant", "Done")
    responses.Response.model_validate(row["response"])
    again = nemo_gym.rollout_of(row, "x")
    assert rollout.to_dict().keys() == again.to_dict().keys()
    for name in ("id", "environment", "task", "group", "sample", "status", "stop_reason", "reward", "usage", "metadata"):
        assert getattr(again, name) == getattr(rollout, name)
    fields = ("role", "origin", "weight", "ended", "reward", "finished", "is_error", "text", "sampled")
    for ours, theirs in zip(messages, again.messages, strict=True):
        assert [getattr(ours, name) for name in fields] == [getattr(theirs, name) for name in fields]


@pytest.mark.parametrize("instructions", [None, "Answer in one word."])
@pytest.mark.parametrize("system", [[], [{"role": "developer", "content": "Be brief."}]])
def test_a_conversation_that_repeats_its_prompt_without_the_system_messages(
    instructions: str | None, system: list[dict[str, Any]]
) -> None:
    def said(text: str) -> dict[str, Any]:
        part = {"type": "output_text", "text": text, "annotations": []}
        return {"type": "message", "id": f"m_{text}", "role": "assistant", "status": "completed", "content": [part]}

    history = [{"role": "user", "content": "Warm?"}, said("No"), {"role": "user", "content": "Cold?"}]
    request = {"input": [*system, *history], **({"instructions": instructions} if instructions else {})}
    line = {"responses_create_params": request, "response": {"output": [*history, said("Yes")]}, "reward": 1.0}
    rollout = nemo_gym.rollout_of(line, "i")
    assert [message.text for message in rollout.messages if message.origin == "policy"] == ["Yes"]
    assert [message.text for message in rollout.messages][-4:] == ["Warm?", "No", "Cold?", "Yes"]
    assert nemo_gym.row_of(rollout) == line


def test_a_response_with_an_error_is_not_completed() -> None:
    line = {**LINE, "response": {**LINE["response"], "error": {"code": "server_error", "message": "out of memory"}}}
    assert nemo_gym.rollout_of(line, "i").status == "error"


def test_tools_that_the_provider_runs_stay_in_the_line() -> None:
    request = {**LINE["responses_create_params"], "tools": [{"type": "web_search"}, TOOL]}
    line = {**LINE, "responses_create_params": request}
    rollout = nemo_gym.rollout_of(line, "i")
    assert [tool.name for tool in rollout.tools or ()] == ["get_weather"]
    assert nemo_gym.row_of(rollout)["responses_create_params"]["tools"] == request["tools"]
