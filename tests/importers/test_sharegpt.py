"""Conversations in the forms that LLaMA-Factory reads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from openreward_gym.importers import read
from openreward_gym.store import Damage
from openreward_gym.types import OpaqueBlock, Rollout

PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452")


def conversations(tmp_path: Path, *rows: Any, name: str = "data.json") -> list[Rollout]:
    (tmp_path / name).write_text(json.dumps(rows))
    items = list(read("sharegpt", tmp_path / name))
    assert all(isinstance(item, Rollout) for item in items), items
    return [item for item in items if isinstance(item, Rollout)]


def turn(who: str, value: Any, **fields: Any) -> dict[str, Any]:
    return {"from": who, "value": value, **fields}


def shape(rollout: Rollout) -> list[tuple[str, str | None, list[str]]]:
    return [(message.role, message.origin, [block.type for block in message.blocks]) for message in rollout.messages]


def test_a_conversation_with_a_call(tmp_path: Path) -> None:
    tools = [{"name": "tide", "description": "d", "parameters": {"type": "object"}}]
    row = {
        "conversations": [
            turn("human", "High tide?"),
            turn("function_call", '{"name": "tide", "arguments": {"port": "Brest"}}'),
            turn("observation", "16:40"),
            turn("gpt", "At 16:40."),
        ],
        "system": "Answer.",
        "tools": json.dumps(tools),
        "source": "s",
    }
    (rollout,) = conversations(tmp_path, row)
    assert shape(rollout) == [
        ("system", "given", ["text"]),
        ("user", "given", ["text"]),
        ("assistant", "policy", ["tool_call"]),
        ("tool", "environment", ["text"]),
        ("assistant", "policy", ["text"]),
    ]
    call, result = rollout.messages[2].tool_calls[0], rollout.messages[3]
    assert (call.name, call.arguments, result.call_id, result.name) == ("tide", {"port": "Brest"}, call.call_id, "tide")
    assert [tool.name for tool in rollout.tools or ()] == ["tide"]
    assert rollout.metadata == {"source": "s"}


@pytest.mark.parametrize("value", [[{"name": "f", "arguments": {"n": n}} for n in range(2)]])
@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("joined", [True, False])
def test_parallel_calls_and_their_results(value: Any, as_text: bool, joined: bool, tmp_path: Path) -> None:
    results = ["a\n</tool_response>\n<tool_response>\nb"] if joined else ["a", "b"]
    turns = [turn("human", "Go"), turn("function_call", json.dumps(value) if as_text else value)]
    (rollout,) = conversations(
        tmp_path, {"conversations": [*turns, *[turn("observation", r) for r in results], turn("gpt", "x")]}
    )
    calls = rollout.messages[1].tool_calls
    assert [call.arguments for call in calls] == [{"n": 0}, {"n": 1}]
    assert [(m.text, m.call_id) for m in rollout.messages[2:4]] == [("a", calls[0].call_id), ("b", calls[1].call_id)]


def test_text_and_reasoning_beside_a_call(tmp_path: Path) -> None:
    call = '{"name": "f", "arguments": "{\\"n\\":  1}"}'
    values = [
        f"<think>\nHm.\n</think>\n\n{call}",
        f"I look.\n<tool_call>\n{call}\n</tool_call>",
        f"<think>\nHm.\n</think>\n\nI look. <tool_call>{call}</tool_call><tool_call>{call}</tool_call> Done.",
        "not a call",
    ]
    rows = [{"conversations": [turn("human", "Go"), turn("function_call", value)]} for value in values]
    thought, beside, both, none = (rollout.messages[1] for rollout in conversations(tmp_path, *rows))
    assert (thought.reasoning, thought.text, thought.tool_calls[0].content) == ("Hm.", "", '{"n":  1}')
    assert (beside.text, len(beside.tool_calls)) == ("I look.\n", 1)
    assert [block.type for block in both.blocks] == ["reasoning", "text", "tool_call", "tool_call", "text"]
    assert (none.text, none.ended, none.tool_calls) == ("not a call", "malformed", ())


def test_reasoning_before_an_answer(tmp_path: Path) -> None:
    values = ["<think>\nHm.\n</think>\n\n4", "<think>Hm.</think>4", "4 <think>no</think>", "<think>\n\n</think>\n\n4"]
    rows = [{"conversations": [turn("human", "2+2?"), turn("gpt", value)]} for value in values]
    answers = [rollout.messages[1] for rollout in conversations(tmp_path, *rows)]
    assert [(a.reasoning, a.text) for a in answers] == [("Hm.", "4"), ("Hm.", "4"), ("", values[2]), ("", values[3])]
    assert answers[1].blocks[0].extra == {"sharegpt": {"written": "<think>Hm.</think>"}}  # type: ignore[union-attr]


def test_preference_and_feedback(tmp_path: Path) -> None:
    before = [turn("human", "Hi"), turn("gpt", "Hello"), turn("human", "2+2?")]
    pair = {"conversations": before, "chosen": turn("gpt", "4"), "rejected": turn("gpt", "5")}
    whole = {"chosen": [*before, turn("gpt", "4")], "rejected": [*before, turn("gpt", "5")]}
    alpaca = {"instruction": "Add", "input": "2 2", "chosen": "4", "rejected": "5", "history": [["Hi", "Hello"]]}
    for row in (pair, whole, alpaca):
        good, bad = conversations(tmp_path, row)
        assert (good.reward, bad.reward, good.sample, bad.sample) == (1.0, 0.0, 0, 1)
        assert good.group == bad.group is not None
        assert good.id != bad.id
        assert [m.origin for m in good.messages] == ["given", "given", "given", "policy"]
        assert (good.messages[-1].text, bad.messages[-1].text) == ("4", "5")
        assert good.messages[:3] == bad.messages[:3]
    for name in ("kto_tag", "label"):
        liked, disliked = conversations(
            tmp_path, *({"conversations": [*before, turn("gpt", "4")], name: t} for t in (True, False))
        )
        assert (liked.reward, disliked.reward, liked.metadata) == (1.0, 0.0, None)
        assert [m.origin for m in liked.messages] == ["given", "given", "given", "policy"]


def test_rows_of_alpaca(tmp_path: Path) -> None:
    row = {"instruction": "Add.", "input": "2 2", "output": "4", "system": "S", "history": [["Hi", "Hello"]]}
    (rollout,) = conversations(tmp_path, row)
    assert [m.text for m in rollout.messages] == ["S", "Hi", "Hello", "Add.\n2 2", "4"]
    assert [m.origin for m in rollout.messages] == ["given", "given", "policy", "environment", "policy"]


def test_files_by_path(tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots/a.png").write_bytes(PNG)
    (tmp_path / "shots/b.png").write_text("not an image")
    row = {
        "messages": [{"role": "user", "content": "<image>Who?<image><video>"}, {"role": "assistant", "content": "They."}],
        "images": ["shots/a.png", "shots/b.png", "shots/none.png"],
        "videos": ["v.mp4"],
    }
    (rollout,) = conversations(tmp_path, row)
    image, text, other, video = rollout.messages[0].blocks
    assert (image.type, image.content, text.type) == ("image", PNG, "text")  # type: ignore[union-attr]
    assert (other.raw, video.raw) == (  # type: ignore[union-attr]
        {"type": "image", "path": "shots/b.png"},
        {"type": "video", "path": "v.mp4"},
    )
    assert rollout.metadata == {"images": ["shots/none.png"]}


def test_typed_parts(tmp_path: Path) -> None:
    call = {"type": "tool_call", "value": '{"name": "f", "arguments": {}}'}
    parts = [{"type": "reasoning", "value": "Hm."}, {"type": "text", "value": "I look."}, call]
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "value": "Go"}], "loss_weight": 0.0},
            {"role": "assistant", "content": parts, "loss_weight": 0.0},
            {"role": "tool", "content": [{"type": "text", "value": "done"}]},
            {"role": "assistant", "content": [{"type": "text", "value": "Done."}], "loss_weight": 1.0},
        ]
    }
    (rollout,) = conversations(tmp_path, row)
    assert [kinds for _, _, kinds in shape(rollout)] == [["text"], ["reasoning", "text", "tool_call"], ["text"], ["text"]]
    assert [message.weight for message in rollout.messages] == [0.0, 0.0, None, 1.0]


def test_names_of_columns_and_tags_in_dataset_info(tmp_path: Path) -> None:
    tags = {"role_tag": "who", "content_tag": "what", "user_tag": "Q", "assistant_tag": "A", "system_tag": "S"}
    columns = {"messages": "talk", "system": "rules", "kto_tag": "good"}
    info = {"other": {"file_name": "else.json"}, "mine": {"file_name": "mine.json", "columns": columns, "tags": tags}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    row = {"talk": [{"who": "Q", "what": "2+2?"}, {"who": "A", "what": "4"}], "rules": "Count.", "good": False}
    (rollout,) = conversations(tmp_path, row, name="mine.json")
    assert [(m.role, m.text) for m in rollout.messages] == [("system", "Count."), ("user", "2+2?"), ("assistant", "4")]
    assert rollout.reward == 0.0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "a JSON list, not an object"),
        ("{", "not JSON"),
        ('{"mine": {"file_name": "data.json", "columns": ["talk"]}}', '"columns" must be an object'),
        ('{"mine": {"file_name": "data.json", "tags": "who"}}', '"tags" must be an object'),
        (None, "not a file but a named pipe"),
    ],
)
def test_a_damaged_dataset_info_is_told_and_the_rows_are_read(content: str | None, reason: str, tmp_path: Path) -> None:
    if content is None:
        os.mkfifo(tmp_path / "dataset_info.json")
    else:
        (tmp_path / "dataset_info.json").write_text(content)
    row = {"conversations": [turn("human", "2+2?"), turn("gpt", "4")]}
    for name in ("data.json", "more.json"):
        (tmp_path / name).write_text(json.dumps([row]))
    (damage,) = (item for item in read("sharegpt", tmp_path / "data.json") if isinstance(item, Damage))
    assert reason in str(damage)
    assert "dataset_info.json" in damage.path
    assert [type(item).__name__ for item in read("sharegpt", tmp_path)].count("Rollout") == 2


def test_odd_names_in_dataset_info_are_passed_over(tmp_path: Path) -> None:
    entry = {
        "file_name": "data.json",
        "columns": {"messages": 3},
        "tags": {"role_tag": ["who"], "content_tag": {}, "user_tag": 1},
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps({"other": 3, "mine": entry}))
    (rollout,) = conversations(tmp_path, {"conversations": [turn("human", "2+2?"), turn("gpt", "4")]})
    assert [message.text for message in rollout.messages] == ["2+2?", "4"]


def test_an_image_that_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    row = {"conversations": [turn("human", "<image><image>"), turn("gpt", "?")], "images": ["pipe.png", "/dev/zero"]}
    (rollout,) = conversations(tmp_path, row)
    assert [block.type for block in rollout.messages[0].blocks] == ["image", "image"]
    assert all(isinstance(block, OpaqueBlock) for block in rollout.messages[0].blocks)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "x"}, 'no "conversations"'),
        ({"conversations": [turn("narrator", "x")]}, "not 'narrator'"),
        ({"conversations": ["x"]}, "a turn is an object, not str"),
        ({"conversations": [{"value": "x"}]}, "a turn is from human"),
    ],
)
def test_rows_that_cannot_be_read_say_why(row: Any, reason: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(json.dumps(row))
    (damage,) = read("sharegpt", tmp_path / "x")
    assert isinstance(damage, Damage)
    assert reason in damage.reason
