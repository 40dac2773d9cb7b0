"""Lines that other trainers take: axolotl, verl, ATIF."""

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
from openreward_gym.types import ImageBlock, Message, ReasoningItem, Rollout, TextBlock, ToolCall, ToolSpec, Usage


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
    rollouts = [weather(), episode(assistant("no idea"), reward=0.0, tools=[])]
    if format in ("preference", "openai_dpo", "sharegpt_preference"):
        rollouts = [weather(), replace(weather(), reward=0.0, messages=[*weather().messages[:3], assistant("Sun.")])]
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


def test_images_as_paths_need_a_folder() -> None:
    for format in ("sharegpt", "sharegpt_kto", "atif"):
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


def test_axolotl_tools_and_arguments_are_the_texts_of_json(tmp_path: Path) -> None:
    """The loader gives objects the keys of all lines, with nulls; and a null of their own would be lost."""
    schemas = [
        {"type": "object", "properties": {name: {"type": "string", "default": default}}}
        for name, default in (("a", None), ("b", 1))
    ]
    rollouts = [
        episode(
            assistant("", ToolCall(name, None, "1", f'{{"{name}" :1e2}}')),
            result("r", id="1"),
            tools=[ToolSpec(name=name, input_schema=schema)],
        )
        for name, schema in zip("ab", schemas, strict=True)
    ]
    export.write(rollouts, tmp_path, formats=["axolotl"])
    loaded = load_dataset(
        "json", data_files=str(tmp_path / "axolotl/train.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [json.loads(row["tools"])[0]["function"]["parameters"] for row in loaded] == schemas
    arguments = [row["messages"][1]["tool_calls"][0]["function"]["arguments"] for row in loaded]
    assert arguments == ['{"a" :1e2}', '{"b" :1e2}']


def test_verl_sft_takes_conversations_without_tools(tmp_path: Path) -> None:
    """Its reader shows tools and arguments with the keys of all others, and trains every assistant message."""
    thought = assistant(blocks=(ReasoningItem(content="7 times 8"), TextBlock(text="56")))
    chat = episode(thought, user("And 9?"), assistant("63"), user("Thanks."), tools=[])
    given = episode(assistant("An example.", origin="given"), user("And?"), assistant("So.", origin="policy"), tools=[])
    report = export.write([chat, given, weather()], tmp_path, formats=["verl_sft"]).formats["verl_sft"]
    (row,) = pq.read_table(tmp_path / "verl_sft").to_pylist()
    assert row["messages"] == [
        {"role": "user", "content": "What is the weather?", "reasoning_content": None},
        {"role": "assistant", "content": "56", "reasoning_content": "7 times 8"},
        {"role": "user", "content": "And 9?", "reasoning_content": None},
        {"role": "assistant", "content": "63", "reasoning_content": None},
    ]
    assert report.excluded == {
        "an assistant message that is not to be trained: verl would train it": 1,
        "it has tools: verl would show nulls in their definitions and arguments (take tokens)": 1,
    }


def test_verl_has_no_place_for_a_call_in_the_prompt(tmp_path: Path) -> None:
    history = [assistant("", call("weather", {}, id="1"), origin="given"), result("rain", id="1").replace(origin="given")]
    report = export.write([episode(*history, assistant("Rain.", origin="policy"))], tmp_path, formats=["verl", "prompts"])
    assert report.formats["verl"].excluded == {"a call, a result or reasoning in its prompt: verl's table has no place for it": 1}
    assert report.rows["prompts"] == 1
    assert report.formats["prompts"].findings == {"prompt_ends_otherwise": 1}


def test_axolotl_leaves_images_out_and_says_so(tmp_path: Path) -> None:
    report = export.write([seen()], tmp_path, formats=["axolotl"]).formats["axolotl"]
    assert report.excluded == {"it has images: lines with and without would differ in type (take sft)": 1}
