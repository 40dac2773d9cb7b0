"""Lines that other trainers take: OpenAI, LLaMA-Factory, axolotl, verl, ATIF."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from export_rollouts import assistant, call, episode, png, result, user
from PIL import Image

from openreward_gym import export
from openreward_gym.types import ImageBlock, Message, ReasoningItem, Rollout, TextBlock, Usage


def lines(rollouts: list[Rollout], format: str, folder: Path, **options: Any) -> list[dict[str, Any]]:
    export.write(rollouts, folder, formats=[format], **options)
    text = (folder / format / "train.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def weather() -> Rollout:
    thought = assistant(
        blocks=(ReasoningItem(content="hm"), call("weather", {"city": "Oslo", "n": 1.5}, id="1")),
        usage=Usage(input_tokens=10, output_tokens=5),
        started_at="2026-01-01T00:00:00+00:00",
    )
    messages = [thought, result("rain", id="1", reward=0.5), assistant("It rains."), result("right", id=None, finished=True)]
    return episode(*messages, reward=0.5, model={"name": "m"})


def test_openai_lines(tmp_path: Path) -> None:
    (line,) = lines([weather()], "openai", tmp_path)
    assert set(line) == {"messages", "tools", "parallel_tool_calls"}
    assert line["messages"][1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo","n":1.5}'}}],
    }
    assert line["messages"][2] == {"role": "tool", "tool_call_id": "1", "content": "rain"}
    assert line["messages"][-1]["role"] == "assistant"
    (line,) = lines([episode(assistant("yes"), tools=[])], "openai", tmp_path)
    assert set(line) == {"messages"}


def test_openai_images_are_data_urls(tmp_path: Path) -> None:
    image = png(2, 2)
    (line,) = lines([episode(Message(role="user", blocks=(ImageBlock(data=image),)), assistant("ok"))], "openai", tmp_path)
    assert line["messages"][1]["content"] == [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}]


def test_sharegpt_lines_alternate(tmp_path: Path) -> None:
    rollout = weather()
    rollout.messages.insert(0, Message(role="system", blocks=(TextBlock(text="Be kind."),)))
    (line,) = lines([rollout], "sharegpt", tmp_path)
    assert line["system"] == "Be kind."
    assert [turn["from"] for turn in line["conversations"]] == ["human", "function_call", "observation", "gpt"]
    thought, _, function = line["conversations"][1]["value"].rpartition("</think>\n\n")
    assert thought == "<think>\nhm\n"
    assert json.loads(function) == {"name": "weather", "arguments": {"city": "Oslo", "n": 1.5}}
    assert json.loads(line["tools"])[0]["name"] == "weather"


def test_sharegpt_splits_parallel_calls_and_joins_what_follows_what(tmp_path: Path) -> None:
    rollout = episode(
        assistant("", call("a", {}, id="1"), call("b", {}, id="2")),
        result("A", id="1"),
        result("B", id="2"),
        user("so?"),
        assistant("ok"),
    )
    (line,) = lines([rollout], "sharegpt", tmp_path)
    assert [turn["from"] for turn in line["conversations"]] == [
        "human",
        "function_call",
        "observation",
        "function_call",
        "observation",
        "gpt",
    ]
    assert json.loads(line["conversations"][3]["value"]) == {"name": "b", "arguments": {}}
    assert line["conversations"][4]["value"] == "B\n\nso?"


def test_sharegpt_leaves_out_what_it_has_no_place_for(tmp_path: Path) -> None:
    beside = episode(assistant("text", call("a", {}, id="1")), result("A", id="1"), assistant("ok"))
    twice = episode(assistant("one"), assistant("two"))
    report = export.write([beside, twice], tmp_path, formats=["sharegpt"]).formats["sharegpt"]
    assert report.excluded == {
        "text beside a call: LLaMA-Factory has no place for it": 1,
        "its turns do not alternate: LLaMA-Factory would skip it": 1,
    }


def test_axolotl_lines_say_what_is_trained(tmp_path: Path) -> None:
    (line,) = lines([weather()], "axolotl", tmp_path)
    assert [message["train"] for message in line["messages"]] == [False, True, False, True]
    assert line["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"city":"Oslo","n":1.5}'
    assert line["messages"][1]["reasoning_content"] == "hm"


def test_verl_table(tmp_path: Path) -> None:
    rollout = weather()
    rollout.task = replace(rollout.task, golden_answer="rain")
    export.write([rollout, weather()], tmp_path, formats=["verl"])
    (row,) = pq.read_table(tmp_path / "verl").to_pylist()
    assert list(row) == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
    assert row["prompt"] == [{"role": "user", "content": "What is the weather?"}]
    assert row["reward_model"] == {"style": "rule", "ground_truth": ""}
    assert row["extra_info"]["index"] == 0
    export.write([rollout], tmp_path, formats=["verl"], answers=True)
    assert pq.read_table(tmp_path / "verl").to_pylist()[0]["reward_model"]["ground_truth"] == "rain"


def test_atif_lines(tmp_path: Path) -> None:
    (line,) = lines([weather()], "atif", tmp_path)
    assert line["schema_version"] == "ATIF-v1.8"
    assert line["agent"]["tool_definitions"][0]["function"]["name"] == "weather"
    assert [step["step_id"] for step in line["steps"]] == [1, 2, 3]
    assert [step["source"] for step in line["steps"]] == ["user", "agent", "agent"]
    step = line["steps"][1]
    assert step["tool_calls"] == [{"tool_call_id": "1", "function_name": "weather", "arguments": {"city": "Oslo", "n": 1.5}}]
    assert step["observation"] == {"results": [{"source_call_id": "1", "content": "rain", "extra": {"reward": 0.5}}]}
    assert step["metrics"] == {"prompt_tokens": 10, "completion_tokens": 5}
    assert step["reasoning_content"] == "hm"
    assert line["final_metrics"]["total_steps"] == 3
    assert line["extra"]["reward"] == 0.5


def test_atif_takes_every_status(tmp_path: Path) -> None:
    rollouts = [episode(assistant("x"), status=status) for status in ("completed", "truncated", "error")]
    assert len(lines(rollouts, "atif", tmp_path)) == 3


@pytest.mark.parametrize("format", sorted(set(export.FORMATS) - {"tokens"}))
def test_every_export_loads_with_load_dataset_and_as_a_dataset(format: str, tmp_path: Path) -> None:
    rollouts = [weather(), episode(assistant("no idea"), reward=0.0)]
    report = export.write(rollouts, tmp_path, formats=[format])
    loaded = load_dataset(str(tmp_path), format, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == report.rows[format] > 0
    assert len(export.to_dataset(rollouts, format=format)) == len(loaded)


def test_numbers_in_lines_are_exact(tmp_path: Path) -> None:
    number = 12345678901234567890123
    rollout = episode(assistant("", call("f", {"x": number, "y": 5e-324}, id="1")), result("r", id="1"), assistant("done"))
    for format in ("openai", "axolotl"):
        (line,) = lines([rollout], format, tmp_path)
        assert json.loads(line["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"x": number, "y": 5e-324}
    (line,) = lines([rollout], "atif", tmp_path)
    assert line["steps"][1]["tool_calls"][0]["arguments"] == {"x": number, "y": 5e-324}


def seen() -> Rollout:
    """A user shows an image, a tool another."""
    question = Message(role="user", blocks=(ImageBlock(data=png(2, 2)), TextBlock(text="what is it?")))
    shown = Message(role="tool", call_id="1", blocks=(TextBlock(text="zoomed"), ImageBlock(data=png(3, 3))))
    return episode(question, assistant("", call("zoom", {}, id="1")), shown, assistant("red"))


def size_of(path: Path) -> tuple[int, int]:
    size: tuple[int, int] = Image.open(io.BytesIO(path.read_bytes())).size
    return size


def test_sharegpt_images_are_files_at_their_placeholders(tmp_path: Path) -> None:
    (line, plain_line) = lines([seen(), weather()], "sharegpt", tmp_path)
    values = [turn["value"] for turn in line["conversations"]]
    assert [value.count("<image>") for value in values] == [1, 0, 1, 0]
    assert [size_of(tmp_path / "sharegpt" / path) for path in line["images"]] == [(2, 2), (3, 3)]
    assert "images" not in plain_line
    assert len(load_dataset(str(tmp_path), "sharegpt", split="train", cache_dir=str(tmp_path / "cache"))) == 2


def test_sharegpt_leaves_out_what_writes_a_placeholder_of_its_own(tmp_path: Path) -> None:
    rollout = seen()
    rollout.messages[0] = user("an <image> of words")
    report = export.write([rollout], tmp_path, formats=["sharegpt"]).formats["sharegpt"]
    assert report.excluded == {"a text contains <image>: LLaMA-Factory would look for an image there": 1}


def test_images_of_an_earlier_export_go(tmp_path: Path) -> None:
    lines([seen()], "sharegpt", tmp_path)
    (line,) = lines([weather()], "sharegpt", tmp_path)
    assert "images" not in line
    assert list((tmp_path / "sharegpt" / "images").iterdir()) == []


def test_images_as_paths_need_a_folder() -> None:
    for format in ("sharegpt", "atif"):
        assert len(export.to_dataset([seen()], format=format)) == 0


def test_atif_images_are_files(tmp_path: Path) -> None:
    (line,) = lines([seen()], "atif", tmp_path)
    results = [result["content"] for step in line["steps"] for result in step.get("observation", {"results": ()})["results"]]
    contents = [content for content in [step["message"] for step in line["steps"]] + results if isinstance(content, list)]
    sources = [part["source"] for content in contents for part in content if part["type"] == "image"]
    assert [source["media_type"] for source in sources] == ["image/png"] * 2
    assert [size_of(tmp_path / "atif" / source["path"]) for source in sources] == [(2, 2), (3, 3)]


def test_verl_images_are_in_the_table(tmp_path: Path) -> None:
    export.write([seen()], tmp_path, formats=["verl"])
    (row,) = pq.read_table(tmp_path / "verl").to_pylist()
    assert row["prompt"][-1]["content"] == "<image>\nwhat is it?"
    assert [Image.open(io.BytesIO(image["bytes"])).size for image in row["images"]] == [(2, 2)]


def test_axolotl_leaves_images_out_and_says_so(tmp_path: Path) -> None:
    report = export.write([seen()], tmp_path, formats=["axolotl"]).formats["axolotl"]
    assert report.excluded == {"it has images: lines with and without would differ in type (take sft)": 1}
