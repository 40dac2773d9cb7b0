"""The origin, the weight and the end that each importer gives to the messages of another system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from openreward_gym.importers import firehorse, inspect_logs, nemo_gym, openai_chat, openreward, trl, verifiers
from openreward_gym.platform.events import events_of
from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    Message,
    Rollout,
    Sampled,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
    with_origins,
)

# Real files, where they lie beside the project; it does not carry them.
DATA = Path(__file__).parents[3] / "shared" / "data" / "nemo_gym_rollouts"
FILES = sorted(DATA.glob("*.rollouts.jsonl"))

CALL: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def origins(rollout: Rollout) -> list[tuple[str, str | None]]:
    return [(message.role, message.origin) for message in rollout.messages]


def test_marks_of_a_message_are_kept_and_the_others_follow_from_the_policy_s_first_turn() -> None:
    messages = [
        Message("assistant", origin="given"),
        Message("user"),
        Message("assistant"),
        Message("tool", origin="client"),
        Message("user"),
        Message("assistant"),
    ]
    assert [m.origin for m in with_origins(messages)] == ["given", "given", "policy", "client", "environment", "policy"]
    assert [m.origin for m in with_origins(messages, lambda message: False)][2:] == ["given", "client", "given", "given"]


def test_a_chat_for_fine_tuning_keeps_its_weights(tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Three.", "weight": 0},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 1},
        {"role": "tool", "tool_call_id": "c", "content": "2"},
        {"role": "assistant", "content": "Two."},
    ]
    rollout = openai_chat.rollout_of({"messages": chat}, "x")
    assert origins(rollout) == [
        ("system", "given"),
        ("user", "given"),
        ("assistant", "policy"),
        ("user", "environment"),
        ("assistant", "policy"),
        ("tool", "environment"),
        ("assistant", "policy"),
    ]
    assert [message.weight for message in rollout.messages] == [None, None, 0.0, None, 1.0, None, None]
    assert {message.ended for message in rollout.messages} == {None}
    with RolloutStore(tmp_path / "run") as store:
        store.append(rollout)
    assert RolloutStore(tmp_path / "run")[0].messages == rollout.messages


def item(role: str, text: str, **fields: Any) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}], **fields}


def nemo_row(prompt: list[Any], output: list[Any], **response: Any) -> dict[str, Any]:
    call = {"responses_create_params": {"input": prompt}, "response": {"output": output, **response}}
    return {**call, "reward": 1.0, "agent_ref": {"name": "a"}}


DONE = {"status": "completed"}
FUNCTION_CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


def test_nemo_gym_s_input_is_given_whatever_its_roles() -> None:
    history = [item("user", "Hi"), item("assistant", "Hello"), item("user", "And now?"), item("assistant", "A shot.")]
    output = [
        {**FUNCTION_CALL, **DONE},
        {"type": "function_call_output", "call_id": "c", "output": "4"},
        item("user", "Go on."),
        item("assistant", "Done", **DONE),
    ]
    rollout = nemo_gym.rollout_of(nemo_row(history, output), "x")
    assert [origin for _, origin in origins(rollout)] == ["given"] * 4 + ["policy", "environment", "environment", "policy"]
    assert [message.ended for message in rollout.messages[4:]] == ["tool_calls", None, None, "stop"]
    assert rollout.num_turns == 2


def test_nemo_gym_s_output_may_begin_with_the_environment() -> None:
    row = nemo_row([item("user", "Hi")], [item("user", "Your move.", **DONE), item("assistant", "e4", **DONE)])
    rollout = nemo_gym.rollout_of(row, "x")
    assert [origin for _, origin in origins(rollout)] == ["given", "environment", "policy"]
    assert nemo_gym.row_of(rollout) == row


@pytest.mark.parametrize(
    ("response", "ended"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "completed"}, "stop"),
        ({"status": "failed"}, "error"),
        ({}, None),
    ],
)
def test_nemo_gym_s_response_tells_the_end_of_the_last_turn(response: dict[str, Any], ended: str | None) -> None:
    row = nemo_row([item("user", "Hi")], [item("assistant", "Well")], **response)
    assert nemo_gym.rollout_of(row, "x").messages[-1].ended == ended


def test_rows_of_our_own_are_split_at_the_policy_s_first_turn() -> None:
    messages: list[Message] = [
        UserMessage("Two?", origin="given"),
        AssistantMessage("Three.", origin="given"),
        UserMessage("And two more?", origin="given"),
        AssistantMessage("Five.", origin="policy"),
    ]
    row = nemo_gym.row_of(Rollout(status="completed", messages=messages))
    assert (len(row["responses_create_params"]["input"]), len(row["response"]["output"])) == (3, 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.split(".")[0])
def test_real_files_have_as_many_given_messages_as_their_input(path: Path) -> None:
    for line, rollout in zip(path.read_text().splitlines(), nemo_gym.read(path), strict=True):
        row = json.loads(line)
        assert isinstance(rollout, Rollout)
        request = row["responses_create_params"]
        prompt = [message for message in rollout.messages if message.origin == "given"]
        items = request["input"] if isinstance(request["input"], list) else [request["input"]]
        turns = [entry for entry in items if isinstance(entry, str) or entry.get("role", "assistant") != "assistant"]
        assert len([message for message in prompt if message.role in ("system", "user")]) >= len(turns)
        assert rollout.messages[: len(prompt)] == prompt
        assert {m.origin for m in rollout.messages if m.role == "tool" and m not in prompt} <= {"environment"}
        assert all(m.origin == "policy" for m in rollout.messages[len(prompt) :] if m.role == "assistant")


def test_verifiers_marks_the_sampled_nodes() -> None:
    nodes: list[dict[str, Any]] = [
        {"message": {"role": "user", "content": "An example?"}, "token_ids": [1, 2]},
        {"parent": 0, "message": {"role": "assistant", "content": "Like so."}, "token_ids": [3]},
        {
            "parent": 1,
            "message": {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "name": "f", "arguments": "{}"}]},
            "sampled": True,
            "token_ids": [4, 5, 6],
            "mask": [False, True, True],
            "logprobs": [-0.5, -0.25],
        },
        {"parent": 2, "message": {"role": "tool", "tool_call_id": "c", "content": "4"}},
        {"parent": 3, "message": {"role": "user", "content": "Sure?"}},
        {"parent": 4, "message": {"role": "assistant", "content": "Yes"}, "sampled": True, "token_ids": [9], "mask": [True]},
    ]
    calls = [{"node": 2, "model": "m", "finish_reason": "tool_calls"}, {"node": 5, "model": "m", "finish_reason": "length"}]
    trace = {"id": "t", "nodes": nodes, "calls": calls, "is_completed": True}
    rollout = verifiers.rollout_of(trace, {"id": "e"})
    assert [origin for _, origin in origins(rollout)] == ["given", "given", "policy", "environment", "environment", "policy"]
    assert [message.ended for message in rollout.messages] == [None, None, "tool_calls", None, None, "length"]
    first, last = rollout.messages[2].sampled, rollout.messages[5].sampled
    assert first is not None
    assert last is not None
    assert (first.prompt_token_ids, first.token_ids, first.logprobs) == ((1, 2, 3, 4), (5, 6), (-0.5, -0.25))
    # The tool's node has no ids: the context of the last turn is not known.
    assert (last.prompt_token_ids, last.token_ids) == (None, (9,))
    assert {message.weight for message in rollout.messages} == {None}
    judge = verifiers.rollout_of({**trace, "agent": {"name": "judge", "trainable": False}}, {"id": "e"})
    assert [message.weight for message in judge.messages] == [None, None, 0.0, None, None, 0.0]


def trl_rollouts(tmp_path: Path, **columns: list[Any]) -> list[Rollout]:
    path = tmp_path / "completions_00001.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    rollouts = list(trl.read(path))
    assert all(isinstance(rollout, Rollout) for rollout in rollouts)
    return [rollout for rollout in rollouts if isinstance(rollout, Rollout)]


def test_trl_s_prompt_is_given(tmp_path: Path) -> None:
    prompt = [{"role": "user", "content": "Two?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "Three?"}]
    completion = [
        {"role": "assistant", "content": "I look."},
        {"role": "tool", "content": "3"},
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": "3"},
    ]
    (rollout,) = trl_rollouts(tmp_path, prompt=[prompt], completion=[completion], right=[1.0])
    assert [origin for _, origin in origins(rollout)] == ["given"] * 3 + ["policy", "environment", "environment", "policy"]


@pytest.mark.parametrize(
    ("completion", "origin"),
    [
        ("It is 3.", "policy"),
        ("The user\nwrote a text in which the\nassistant is named.", "policy"),
        ("<think>A sum.</think>3", "policy"),
        ('<tool_call>{"name": "f", "arguments": {}}</tool_call>', "policy"),
        ("<tool_call>{}</tool_call>\nuser\n<tool_response>\n3\n</tool_response>\nassistant\nIt is 3.", None),
        ("I look.\ntool\n3\nassistant\nIt is 3.", None),
        ("I look.<|eot_id|><|start_header_id|>ipython<|end_header_id|>\n\n3", None),
    ],
)
def test_a_text_of_trl_that_mixes_turns_has_no_known_origin(tmp_path: Path, completion: str, origin: str | None) -> None:
    (rollout,) = trl_rollouts(tmp_path, prompt=["user\nThree?\nassistant\n"], completion=[completion], right=[1.0])
    assert origins(rollout) == [("user", "given"), ("assistant", origin)]
    assert rollout.messages[1].text == completion


def inspect_origins(*messages: dict[str, Any], **sample: Any) -> list[str | None]:
    rollout = inspect_logs.rollout_of({"id": 1, "messages": messages, **sample}, {"eval": {"task": "t"}})
    return [origin for _, origin in origins(rollout)]


def test_inspect_marks_the_source_of_a_message() -> None:
    question, shown = (
        {"role": "user", "content": "2", "source": "input"},
        {"role": "assistant", "content": "4", "source": "input"},
    )
    answer = {"role": "assistant", "content": "9", "source": "generate", "model": "m"}
    simulated = {"role": "user", "content": "Sure?", "source": "generate"}
    inserted = {"role": "assistant", "content": "An inserted turn"}
    assert inspect_origins(question, shown, question, answer) == ["given", "given", "given", "policy"]
    tool = {"role": "tool", "content": "x", "function": "f"}
    assert inspect_origins(question, answer, tool, simulated, inserted, answer) == [
        "given",
        "policy",
        "environment",
        "environment",
        "given",
        "policy",
    ]


def test_inspect_without_marks_goes_by_the_model_or_does_not_know() -> None:
    question, answer = {"role": "user", "content": "2"}, {"role": "assistant", "content": "4"}
    assert inspect_origins(question, answer, question, {**answer, "model": "m"}) == ["given", "given", "given", "policy"]
    assert inspect_origins(question, answer, question, answer) == ["given", None, "environment", None]


@pytest.mark.parametrize(
    ("stop_reason", "ended"),
    [("stop", "stop"), ("max_tokens", "length"), ("model_length", "context_overflow"), ("content_filter", "content_filter")],
)
def test_inspect_keeps_the_end_of_the_last_answer_beside_the_messages(stop_reason: str, ended: str) -> None:
    output = {"choices": [{"stop_reason": stop_reason}], "usage": {"input_tokens": 3, "output_tokens": 1}}
    answer = {"role": "assistant", "content": "4", "source": "generate", "model": "m"}
    sample = {"id": 1, "messages": [{"role": "user", "content": "2"}, answer], "output": output}
    last = inspect_logs.rollout_of(sample, {}).messages[-1]
    assert last.sampled is not None
    assert last.usage is not None
    assert (last.ended, last.sampled.stop_reason, last.sampled.model, last.usage.input_tokens) == (ended, stop_reason, "m", 3)


def test_firehorse_s_agent_is_the_policy(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = [
        {"type": "openreward_prompt", "system_prompt": "Be good.", "environment_prompt": "Go."},
        {"type": "assistant", "raw": {"content": [{"type": "text", "text": "I look."}], "stop_reason": "max_tokens"}},
        {"type": "user", "content": "Go on."},
        {"type": "assistant", "tool_calls": [{"id": "c", "name": "ls", "arguments": "{}"}]},
        {"type": "tool_result", "call_id": "c", "output": "a b"},
        {"type": "openreward_summary", "finished": True},
    ]
    path = tmp_path / "trial_1.jsonl"
    path.write_text("\n".join(map(json.dumps, events)))
    (rollout,) = firehorse.read(path)
    assert isinstance(rollout, Rollout)
    assert [origin for _, origin in origins(rollout)] == ["given", "given", "policy", "environment", "policy", "environment"]
    assert [m.ended for m in rollout.turns] == ["length", None]


def platform_item(rollout: Rollout) -> dict[str, Any]:
    first, *rest = json.loads(json.dumps(list(events_of(rollout))))
    return {**first, "messages": [event for event in rest if event["eventType"] == "message"]}


def test_the_platform_gives_back_the_origins_that_were_uploaded() -> None:
    messages: list[Message] = [
        SystemMessage("Be brief.", origin="given"),
        AssistantMessage("An example.", origin="given"),
        AssistantMessage("I look.", [ToolCall("f", {})], reasoning="Hm.", origin="policy", weight=0.5, ended="tool_calls"),
        ToolMessage("no such tool", "c", origin="client", is_error=True),
        AssistantMessage("Done", origin="policy", ended="length", sampled=Sampled(stop_reason="max_tokens")),
    ]
    rollout = openreward.rollout_of(platform_item(Rollout(status="completed", messages=messages)))
    read = [(m.role, m.text, m.origin, m.weight, m.ended, m.is_error) for m in rollout.messages]
    assert read == [(m.role, m.text, m.origin, m.weight, m.ended, m.is_error) for m in messages]
    assert rollout.messages[2].reasoning == "Hm."


def test_the_platform_s_other_rollouts_are_the_assistant_s() -> None:
    messages: list[Message] = [UserMessage("Hi"), AssistantMessage("Hello"), UserMessage("Bye"), AssistantMessage("Bye")]
    rollout = openreward.rollout_of(platform_item(Rollout(status="completed", messages=messages)))
    assert [origin for _, origin in origins(rollout)] == ["given", "policy", "environment", "policy"]


@pytest.mark.parametrize("step", ["ten", 1.5, [3]])
def test_a_value_of_a_wrong_type_is_damage(step: Any, tmp_path: Path) -> None:
    """Records of other systems are checked when they are read, so that every imported record can be read again."""
    row = {**nemo_row([item("user", "Hi")], [item("assistant", "x")]), "_ng_rollout_index": step}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    (damage,) = nemo_gym.read(path)
    assert "sample" in str(damage)
