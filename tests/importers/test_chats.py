"""Chats in the shapes that data sets give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openreward_gym.importers import find, openai_chat, read
from openreward_gym.store import Damage
from openreward_gym.types import AssistantMessage, ImageBlock, Rollout, TextBlock, UserMessage

ASK: dict[str, Any] = {"role": "user", "content": "How deep is the well?"}
CALL: dict[str, Any] = {"id": "w", "type": "function", "function": {"name": "measure", "arguments": '{"what":  "well"}'}}
TURNS: list[dict[str, Any]] = [
    ASK,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "w", "content": "12 m"},
    {"role": "assistant", "content": "Twelve metres."},
]
SCHEMA = {"type": "object", "properties": {"what": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "measure", "description": "Measures.", "parameters": SCHEMA}}


def chat(row: Any) -> Rollout:
    return openai_chat.rollout_of(row, "00000000-0000-0000-0000-000000000000")


def roles(rollout: Rollout) -> list[str]:
    return [message.role for message in rollout.messages]


@pytest.mark.parametrize("column", ["messages", "conversation", "conversations", "trajectory"])
@pytest.mark.parametrize("as_text", [False, True])
def test_the_conversation_is_found_in_its_column(column: str, as_text: bool) -> None:
    rollout = chat({column: json.dumps(TURNS) if as_text else TURNS, "note": "n"})
    assert roles(rollout) == ["user", "assistant", "tool", "assistant"]
    assert rollout.messages[1].tool_calls[0].content == '{"what":  "well"}'
    assert rollout.metadata == {"note": "n"}


@pytest.mark.parametrize(
    "tools",
    [
        [TOOL],
        json.dumps([TOOL]),
        [json.dumps(TOOL)],
        TOOL,
        [TOOL["function"]],
        [{"name": "measure", "description": "Measures.", "input_schema": SCHEMA}],
        [{**TOOL, "custom": None, "function": {**TOOL["function"], "strict": None}}],  # type: ignore[dict-item]
    ],
)
def test_tools_in_all_shapes(tools: Any) -> None:
    (tool,) = chat({"messages": TURNS, "tools": tools}).tools or []
    assert (tool.name, tool.description, tool.input_schema) == ("measure", "Measures.", SCHEMA)
    assert chat({"messages": TURNS, "functions": json.dumps([TOOL["function"]])}).tools == [tool]


@pytest.mark.parametrize(
    "turn",
    [
        {"tool_calls": json.dumps([CALL])},
        {"tool_calls": [json.dumps(CALL)]},
        {"tool_calls": [CALL["function"]]},
        {"function_call": CALL["function"]},
        {"function_call": json.dumps(CALL["function"])},
        {"tool_calls": [{**CALL, "custom": None}], "function_call": None, "refusal": None, "name": None},
    ],
)
def test_calls_in_all_shapes(turn: dict[str, Any]) -> None:
    rollout = chat({"messages": [ASK, {"role": "assistant", "content": "I look.", **turn}]})
    (call,) = rollout.messages[1].tool_calls
    assert (call.name, call.content) == ("measure", '{"what":  "well"}')
    assert rollout.messages[1].text == "I look."
    assert rollout.messages[1].sampled is None


@pytest.mark.parametrize(
    ("mark", "weight"),
    [({"weight": 0}, 0.0), ({"weight": 0.5}, 0.5), ({"loss_weight": 0.0}, 0.0), ({"train": False}, 0.0), ({"train": True}, None)],
)
def test_weights(mark: dict[str, Any], weight: float | None) -> None:
    message = chat({"messages": [ASK, {"role": "assistant", "content": "No.", **mark}]}).messages[1]
    assert (message.origin, message.weight, message.sampled) == ("policy", weight, None)


def test_parts_of_anthropic_are_understood() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0lGODlh"}}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "And this?"}, image]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Deep.", "signature": "s"},
                {"type": "redacted_thinking", "data": "enc"},
                {"type": "text", "text": "I measure."},
                {"type": "tool_use", "id": "a", "name": "measure", "input": {"n": 1}},
                {"type": "tool_use", "id": "b", "name": "measure", "input": {"n": 2}},
            ],
            "weight": 0,
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "3"},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "torn"}], "is_error": True},
                {"type": "text", "text": "Go on."},
            ],
        },
        {"role": "assistant", "content": "Three."},
    ]
    rollout = chat({"messages": turns, "system": [{"type": "text", "text": "Be brief."}]})
    assert roles(rollout) == ["system", "user", "assistant", "tool", "tool", "user", "assistant"]
    assert isinstance(rollout.messages[1].blocks[1], ImageBlock)
    assert [block.type for block in rollout.messages[2].blocks] == ["reasoning", "reasoning", "text", "tool_call", "tool_call"]
    assert (rollout.messages[2].weight, rollout.messages[2].origin) == (0.0, "policy")
    assert [(m.call_id, m.text, m.is_error) for m in rollout.messages[3:5]] == [("a", "3", False), ("b", "torn", True)]
    assert [m.origin for m in rollout.messages] == ["given", "given", "policy", *["environment"] * 3, "policy"]
    assert find("anthropic-chat") is find("openai-chat")


def test_the_system_prompt_is_not_doubled() -> None:
    turns = [{"role": "system", "content": "Be brief."}, *TURNS]
    assert roles(chat({"messages": turns, "system": "Be brief."}))[:2] == ["system", "user"]
    assert roles(chat({"messages": turns, "system_prompt": "Be kind."}))[:3] == ["system", "system", "user"]
    assert chat({"messages": [{"role": "developer", "content": "d"}, *TURNS]}).messages[0].role == "system"


def test_speakers_keep_their_names() -> None:
    turns = [{**ASK, "name": "ada"}, {"role": "assistant", "content": "Deep.", "name": "well_keeper"}]
    rollout = chat({"messages": turns})
    assert [message.name for message in rollout.messages] == ["ada", "well_keeper"]
    assert [message.metadata for message in rollout.messages] == [None, None]


def test_columns_with_a_field_of_the_record_go_there() -> None:
    row = {
        "messages": TURNS,
        "id": 17,
        "score": 0.25,
        "model": "m",
        "split": "validation",
        "environment": "wells",
        "group_id": "g",
        "sample": 2,
        "task_id": "t",
        "temperature": 0.5,
        "max_completion_tokens": 9,
        "parallel_tool_calls": False,
        "chat_template_kwargs": {"enable_thinking": False},
        "finish_reason": "length",
        "metadata": {"source": "s"},
        "lang": "en",
        "empty": None,
    }
    rollout = chat(row)
    assert (rollout.name, rollout.reward, rollout.model, rollout.group, rollout.sample) == ("17", 0.25, {"name": "m"}, "g", 2)
    assert (rollout.environment.name, rollout.environment.split, rollout.task.id) == ("wells", "validation", "t")
    assert rollout.sampling == {
        "temperature": 0.5,
        "max_tokens": 9,
        "parallel_tool_calls": False,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert (rollout.messages[-1].ended, rollout.messages[-1].stop_reason) == ("length", "length")
    assert rollout.metadata == {"source": "s", "lang": "en"}
    assert chat({"messages": TURNS, "metadata": {"model": "inner"}}).model == {"name": "inner"}


def test_rewards_and_scores() -> None:
    both = chat({"messages": TURNS, "reward": 1, "score": 3})
    assert (both.reward, both.metadata) == (1.0, {"score": 3})
    assert chat({"messages": TURNS, "reward": True}).reward == 1.0
    assert (chat({"messages": TURNS, "score": "high"}).metadata, chat({"messages": TURNS}).reward) == ({"score": "high"}, None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "x"}, 'no "messages"'),
        ({"messages": []}, 'no "messages"'),
        ({"messages": "Hi"}, 'no "messages"'),
        ({"messages": [3]}, "a message is an object, not int"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "narrator"),
        ({"conversations": [{"from": "human", "value": "Hi"}]}, "import the file as sharegpt"),
        ({"messages": TURNS, "tools": [{"type": "function"}]}, "no field 'name'"),
    ],
)
def test_rows_that_cannot_be_read_say_why(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(json.dumps(row))
    (damage,) = read("openai-chat", path)
    assert reason in str(damage)


def test_text_is_exact() -> None:
    text = "  two  spaces\n\n\ttab <think> [x]\u00a0 \u200b end \n"
    rollout = chat({"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]})
    assert [message.blocks for message in rollout.messages] == [(TextBlock(text),)] * 2


@pytest.mark.parametrize(
    ("mark", "weight"),
    [
        ({"loss": False}, 0.0),
        ({"loss": 0}, 0.0),
        ({"loss": True}, None),
        ({"loss": 0.71}, None),
        ({"masked": True}, 0.0),
        ({"is_masked": True, "weight": 1}, 0.0),
        ({"masked": False}, None),
        ({"train": False}, 0.0),
        ({"training": False, "weight": 1}, 0.0),
        ({"trainable": False}, 0.0),
        ({"is_trainable": False}, 0.0),
        ({"loss_mask": 0}, 0.0),
        ({"loss_mask": [0, 1, 1]}, None),
        ({"loss_scale": 0.5}, 0.5),
        ({"loss_scale": 0.5, "masked": True}, 0.0),
        ({"train_detail": [{"begin_offset": 0, "end_offset": 2, "train": False}]}, 0.0),
        ({"training_detail": '[{"begin_offset": 0, "end_offset": 2, "train": true}]'}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("source", ["openai-chat", "sharegpt"])
def test_a_turn_that_is_marked_as_not_trained_has_no_weight(
    source: str, mark: dict[str, Any], weight: float | None, tmp_path: Path
) -> None:
    chat = [ASK, {"role": "assistant", "content": "Deep.", **mark}, ASK, {"role": "assistant", "content": "12 m"}]
    turns = [{"from": "gpt" if m["role"] == "assistant" else "human", "value": m["content"]} for m in chat]
    turns[1] |= mark
    row = {"messages": chat} if source == "openai-chat" else {"conversations": turns}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (rollout,) = read(source, tmp_path / "rows.jsonl")
    assert isinstance(rollout, Rollout)
    assert [message.weight for message in rollout.messages] == [None, weight, None, None]


@pytest.mark.parametrize("mark", [{"masked": "yes"}, {"loss": "false"}, {"weight": -1}, {"train": "no"}], ids=str)
def test_a_mark_that_cannot_be_read_is_damage(mark: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": [ASK, {"role": "assistant", "content": "Deep.", **mark}]}))
    (damage,) = read("openai-chat", tmp_path / "rows.jsonl")
    assert isinstance(damage, Damage)
    assert str(next(iter(mark.values()))) in damage.reason


FEW_SHOT: list[dict[str, Any]] = [ASK, {"role": "assistant", "content": "Shallow."}, {"role": "user", "content": "And the pond?"}]
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Two metres."}, "finish_reason": "length"}


@pytest.mark.parametrize(
    ("answer", "ended", "model"),
    [
        ({"choices": [CHOICE], "model": "heron"}, "length", "heron"),
        ({"response": {"choices": [CHOICE], "model": "heron"}}, "length", "heron"),
        ({"response": {"status_code": 200, "body": {"choices": [CHOICE], "model": "heron"}}}, "length", "heron"),
        ({"response": json.dumps({"choices": [CHOICE], "model": "heron"})}, "length", "heron"),
        (
            {
                "completion": {
                    "role": "assistant",
                    "model": "wren",
                    "content": [{"type": "text", "text": "Two metres."}],
                    "stop_reason": "end_turn",
                }
            },
            "stop",
            "wren",
        ),
        ({"response": "Two metres."}, None, None),
        ({"completion": [{"role": "assistant", "content": "Two metres."}]}, None, None),
    ],
)
def test_the_answer_beside_a_request_is_the_only_turn_of_the_policy(
    answer: dict[str, Any], ended: str | None, model: str | None
) -> None:
    rollout = chat({"messages": FEW_SHOT, "note": "n", **answer})
    assert [message.origin for message in rollout.messages] == ["given", "given", "given", "policy"]
    turn = rollout.messages[-1]
    assert (turn.text, turn.ended, rollout.stop_reason) == ("Two metres.", ended, "message")
    assert rollout.model == (model and {"name": model})
    assert rollout.metadata == {"note": "n"}


def test_an_answer_that_is_among_the_messages_too_is_there_once() -> None:
    messages = [*FEW_SHOT, {"role": "assistant", "content": "Two metres."}]
    rollout = chat({"messages": messages, "choices": [CHOICE, {**CHOICE, "index": 1}]})
    assert [message.text for message in rollout.messages if message.origin == "policy"] == ["Two metres."]
    assert rollout.messages[-1].sampled is not None
    assert rollout.messages[-1].sampled.metadata == {"choices": [{**CHOICE, "index": 1}]}


def test_a_text_beside_a_finished_chat_is_no_answer() -> None:
    rollout = chat({"messages": [ASK, {"role": "assistant", "content": "Deep."}], "response": "Shallow."})
    assert [message.text for message in rollout.messages] == [ASK["content"], "Deep."]
    assert rollout.metadata == {"response": "Shallow."}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"response": {"error": {"message": "overloaded"}}}, "no answer of the model"),
        ({"response": {"choices": []}}, "no answer of the model"),
        ({name: {"role": "assistant", "content": name} for name in ("chosen", "rejected")}, "as sharegpt"),
    ],
)
def test_a_request_without_an_answer_does_not_train_its_history(answer: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        chat({"messages": FEW_SHOT, **answer})


@pytest.mark.parametrize("choices", [["2 m", "3 m"], [{"text": "2 m"}], "2 m", []])
def test_the_choices_of_a_question_are_no_answer(choices: Any) -> None:
    rollout = chat({"messages": TURNS, "choices": choices})
    assert [message.text for message in rollout.messages if message.origin == "policy"] == ["", "Twelve metres."]
    assert rollout.metadata == {"choices": choices}


@pytest.mark.parametrize("importer", ["openai-chat", "sharegpt", "anthropic-chat"])
def test_a_rollout_of_this_package_is_refused_and_not_read_as_empty(importer: str, tmp_path: Path) -> None:
    rollout = Rollout(id="r", run="run", status="completed", messages=[UserMessage("hi"), AssistantMessage("hello")])
    (tmp_path / "rows.jsonl").write_text(rollout.to_line() + "\n", encoding="utf-8")
    (damage,) = read(importer, tmp_path / "rows.jsonl")
    assert isinstance(damage, Damage)
    assert "rollouts of this package" in str(damage)
