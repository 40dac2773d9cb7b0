"""Lines for LLaMA-Factory, read here as its converter and its function formatter read them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from export_rollouts import assistant, call, episode, png, result, user
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from openreward_gym import export
from openreward_gym.types import AssistantMessage, ImageBlock, Message, ReasoningItem, Rollout, TextBlock, ToolCall


def lines(rollouts: list[Rollout], folder: Path, format: str = "sharegpt", **options: Any) -> list[dict[str, Any]]:
    export.write(rollouts, folder, formats=[format], **options)
    text = (folder / format / "train.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def reason_for(rollout: Rollout, folder: Path, format: str = "sharegpt") -> str:
    report = export.write([rollout], folder, formats=[format]).formats[format]
    (reason,) = report.excluded
    return str(reason)


def read_turn(turn: dict[str, str]) -> tuple[str, list[dict[str, Any]]]:
    """Return what LLaMA-Factory trains of a turn beside its calls, and the calls."""
    value = turn["value"]
    if turn["from"] == "gpt":
        return value, []
    tagged = re.search(r"<tool_call>(.*?)</tool_call>", value, re.DOTALL)
    if tagged:
        beside, functions = value.replace(tagged[0], ""), json.loads(tagged[1])
    else:
        thought = re.search(r"<think>\n(.*?)\n</think>\n\n", value, re.DOTALL)
        beside = thought[0] if thought else ""
        functions = json.loads(value.replace(beside, ""))
    return beside, functions if isinstance(functions, list) else [functions]


def test_turns_alternate(tmp_path: Path) -> None:
    system = Message("system", (TextBlock("Be kind."),))
    rollout = episode(
        assistant(blocks=(ReasoningItem("hm"), call("weather", {"city": "Oslo", "n": 1.5}, id="1"))),
        result("rain", id="1"),
        assistant("It rains."),
        user("Thanks."),
    )
    rollout.messages.insert(0, system)
    (line,) = lines([rollout], tmp_path)
    assert line["system"] == "Be kind."
    assert [turn["from"] for turn in line["conversations"]] == ["human", "function_call", "observation", "gpt"]
    beside, functions = read_turn(line["conversations"][1])
    assert beside == "<think>\nhm\n</think>\n\n"
    assert functions == [{"name": "weather", "arguments": {"city": "Oslo", "n": 1.5}}]
    assert json.loads(line["tools"])[0]["name"] == "weather"
    (line,) = lines([episode(assistant("ok"), tools=[])], tmp_path)
    assert (line["system"], line["tools"]) == ("", "")


def test_several_calls_are_one_turn_and_their_results_too(tmp_path: Path) -> None:
    messages = [
        assistant("Both.", call("a", {}, id="1"), call("b", {"x": 1}, id="2")),
        result("B", id="2"),
        result("A", id="1"),
        user("so?"),
        assistant("ok"),
    ]
    (line,) = lines([episode(*messages)], tmp_path)
    assert [turn["from"] for turn in line["conversations"]] == ["human", "function_call", "observation", "gpt"]
    assert read_turn(line["conversations"][1]) == (
        "Both.",
        [{"name": "a", "arguments": {}}, {"name": "b", "arguments": {"x": 1}}],
    )
    assert line["conversations"][2]["value"] == "A\n</tool_response>\n<tool_response>\nB\n\nso?"
    report = export.write([episode(*messages)], tmp_path, formats=["sharegpt"], parallel_calls="split").formats["sharegpt"]
    assert report.findings == {"parallel_calls_split": 1, "turns_joined": 1}


MARKS = ["<tool_call>", "</tool_call>", "<think>", "\n</think>\n\n", "<image>", "\n", '"', "\\", "{}", "é", " "]
texts = st.lists(st.sampled_from(MARKS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=4).map("".join)


@given(reasoning=texts, text=texts, argument=texts, count=st.integers(1, 3))
def test_a_turn_is_read_as_the_model_wrote_it(reasoning: str, text: str, argument: str, count: int) -> None:
    """Whatever the words look like: the turn is exact, or the rollout is left out."""
    calls = [ToolCall("f", {"x": argument, argument: [None, 1e22]}, f"{n}") for n in range(count)]
    thoughts = [ReasoningItem(reasoning)] if reasoning else []
    results = [result("r", id=f"{n}") for n in range(count)]
    rollout = episode(AssistantMessage([*thoughts, TextBlock(text), *calls]), *results, assistant("End."))
    rows = list(export.to_dataset([rollout], "sharegpt", compat="string"))
    if not rows:
        assert "<tool_call>" in reasoning + text
        return
    turn = json.loads(rows[0]["conversations"][1])
    beside, functions = read_turn(turn)
    assert beside == (f"<think>\n{reasoning}\n</think>\n\n" if reasoning else "") + text
    assert functions == [{"name": "f", "arguments": call.arguments} for call in calls]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([assistant("one"), assistant("two")], "its turns do not alternate: LLaMA-Factory would skip it"),
        (
            [assistant("A <tool_call> is", call("a", {}, id="1"))],
            "<tool_call> in a text beside a call: LLaMA-Factory would read the call there",
        ),
        (
            [assistant("one", weight=0.0), user("?"), assistant("two")],
            "an assistant message that is not to be trained: LLaMA-Factory would train it",
        ),
    ],
)
def test_what_it_could_not_read_is_left_out(messages: list[Message], reason: str, tmp_path: Path) -> None:
    assert reason_for(episode(*messages), tmp_path) == reason


def test_malformed_calls_are_no_objects(tmp_path: Path) -> None:
    rollout = episode(assistant("", call("a", None, text="{")), result("bad"), assistant("ok"))
    report = export.write([rollout], tmp_path, formats=["sharegpt"], malformed_calls="keep").formats["sharegpt"]
    assert report.excluded == {"a malformed call: LLaMA-Factory reads arguments as an object": 1}


def seen() -> Rollout:
    """A user shows an image, a tool another."""
    question = Message("user", (ImageBlock(data=png(2, 2)), TextBlock("what is it?")))
    shown = Message("tool", (TextBlock("zoomed"), ImageBlock(data=png(3, 3))), call_id="1")
    return episode(question, assistant("", call("zoom", {"mark": "<image>"}, id="1")), shown, assistant("red"))


def test_images_are_files_at_their_marks(tmp_path: Path) -> None:
    line, plain_line = lines([seen(), episode(assistant("none"))], tmp_path)
    values = [turn["value"] for turn in line["conversations"]]
    assert [value.count("<image>") for value in values] == [1, 0, 1, 0]
    images = [Image.open(io.BytesIO((tmp_path / "sharegpt" / path).read_bytes())) for path in line["images"]]
    assert [image.size for image in images] == [(2, 2), (3, 3)]
    assert "images" not in plain_line
    assert len(load_dataset(str(tmp_path), "sharegpt", split="train", cache_dir=str(tmp_path / "cache"))) == 2


@pytest.mark.parametrize("message", [user("an <image> of words"), user("a <video>"), assistant("<audio>", weight=1.0)])
def test_marks_of_its_own_beside_images_leave_a_rollout_out(message: Message, tmp_path: Path) -> None:
    rollout = seen()
    rollout.messages[0 if message.role == "user" else -1] = message
    reason = "a text contains <image>, <video> or <audio>: LLaMA-Factory would look for one there"
    assert reason_for(rollout, tmp_path) == reason


def pair() -> list[Rollout]:
    shared = [assistant("An example.", origin="given"), user("And Oslo?").replace(origin="given")]
    good = assistant("Look: ", call("weather", {"city": "Oslo"}, id="1"), origin="policy")
    bad = assistant("Sun <b>", origin="policy", ended="length")
    end = [result("rain", id="1"), assistant("Rain.", origin="policy")]
    return [episode(*shared, good, *end, reward=1.0, group="g"), episode(*shared, bad, reward=0.0, group="g")]


def test_pairs_are_one_turn_each(tmp_path: Path) -> None:
    (line,) = lines(pair(), tmp_path, "sharegpt_preference")
    assert [turn["from"] for turn in line["conversations"]] == ["human", "gpt", "human"]
    assert line["chosen"]["from"] == "function_call"
    assert read_turn(line["chosen"]) == ("Look: ", [{"name": "weather", "arguments": {"city": "Oslo"}}])
    assert line["rejected"] == {"from": "gpt", "value": "Sun <b>"}
    assert {"rollout_id", "rejected_rollout_id"} <= line.keys()


def test_kto_lines_have_a_tag_of_their_last_turn(tmp_path: Path) -> None:
    found = {line["kto_tag"]: line["conversations"] for line in lines(pair(), tmp_path, "sharegpt_kto")}
    assert found[True][-1] == {"from": "gpt", "value": "Rain."}
    assert found[False][-1] == {"from": "gpt", "value": "Sun <b>"}
    assert [len(turns) % 2 for turns in found.values()] == [0, 0]


@pytest.mark.parametrize("format", ["sharegpt", "sharegpt_preference", "sharegpt_kto"])
def test_dataset_info_names_the_columns_of_the_lines(format: str, tmp_path: Path) -> None:
    """LLaMA-Factory takes each column that is named from every row: one that no line has ends its run."""
    rollouts = pair() if format != "sharegpt" else [episode(assistant("ok"))]
    rows = lines(rollouts, tmp_path, format)
    info = json.loads((tmp_path / format / "dataset_info.json").read_text())
    entry = info[format]
    assert entry["file_name"] == "train.jsonl"
    assert entry["formatting"] == "sharegpt"
    assert entry.get("ranking", False) == (format == "sharegpt_preference")
    assert set(entry["columns"].values()) <= set(rows[0])
    assert entry["columns"]["messages"] == "conversations"
    lines([seen()], tmp_path, "sharegpt")
    assert json.loads((tmp_path / "sharegpt" / "dataset_info.json").read_text())["sharegpt"]["columns"]["images"] == "images"


def test_the_new_core_has_a_weight_for_each_message(tmp_path: Path) -> None:
    rollout = episode(
        assistant("An example.", origin="given"),
        user("And Oslo?").replace(origin="given"),
        assistant(
            blocks=(ReasoningItem("hm"), TextBlock("Look."), call("weather", {"c": 1}, id="1")), origin="policy", weight=0.25
        ),
        result("rain", id="1"),
        assistant("Ra", origin="policy", ended="length"),
        user("Go on."),
        assistant("Rain.", origin="policy"),
    )
    report = export.write([rollout], tmp_path, formats=["llama_factory_v1"]).formats["llama_factory_v1"]
    assert report.findings == {"untrained_turn": 1}
    (line,) = lines([rollout], tmp_path, "llama_factory_v1")
    assert [message["loss_weight"] for message in line["messages"]] == [0, 0, 0, 0.25, 0, 0, 0, 1]
    assert line["messages"][3]["content"] == [
        {"type": "reasoning", "value": "hm"},
        {"type": "text", "value": "Look."},
        {"type": "tool_call", "value": '{"name":"weather","arguments":{"c":1}}'},
    ]
    assert json.loads(line["tools"])[0]["function"]["name"] == "weather"
