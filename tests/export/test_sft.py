"""Rows of the format `sft`, and each mistake that would train a model on text that it did not write."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import pytest
from datasets import Json, List, load_dataset
from datasets.utils.json import ujson_loads
from export_rollouts import assistant, call, episode, png, result, user
from tiny_tokenizer import tiny_tokenizer

from openreward_gym import export
from openreward_gym.errors import ConfigurationError, RecordError, StoreError
from openreward_gym.store import RolloutStore
from openreward_gym.types import (
    AssistantMessage,
    Block,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Rollout,
    TextBlock,
    ToolSpec,
)


def messages_of(*rollouts: Rollout, **options: Any) -> list[dict[str, Any]]:
    dataset = export.to_dataset(rollouts, **options)
    assert len(dataset) == len(rollouts)
    messages: list[dict[str, Any]] = dataset[0]["messages"]
    return messages


def test_row_is_messages_tools_and_the_rollouts_id() -> None:
    rollout = episode(
        assistant("Looking.", call("weather", {"city": "Oslo"}, id="c1")), result("rain", id="c1"), assistant("Rain.")
    )
    dataset = export.to_dataset([rollout])
    assert dataset.column_names == ["messages", "tools", "rollout_id"]
    assert dataset.features["messages"] == List(Json())
    row = dataset[0]
    function = {"name": "weather", "arguments": {"city": "Oslo"}}
    assert row["messages"] == [
        {"role": "user", "content": "What is the weather?"},
        {"role": "assistant", "content": "Looking.", "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "rain"},
        {"role": "assistant", "content": "Rain."},
    ]
    assert row["tools"][0]["function"]["name"] == "weather"
    assert row["rollout_id"] == rollout.id


def test_arguments_of_one_row_do_not_leak_into_another() -> None:
    first = episode(assistant("", call("a", {"path": "x"})), result("1"), assistant("done"))
    second = episode(assistant("", call("b", {"n": 3, "deep": {"k": [1, None]}})), result("2"), assistant("done"))
    rows = export.to_dataset([first, second])["messages"]
    assert [rows[n][1]["tool_calls"][0]["function"]["arguments"] for n in (0, 1)] == [
        {"path": "x"},
        {"n": 3, "deep": {"k": [1, None]}},
    ]


@pytest.mark.parametrize(
    "value", [1e-12, 48.85837012345679, 0.1, -0.0, 18446744073709551615, "42", "true", '{"a":1}', "\x00", "\u2028", None, [], {}]
)
def test_arguments_come_back_as_they_were(value: Any, tmp_path: Path) -> None:
    rollout = episode(assistant("", call("f", {"x": value})), result("ok"), assistant("done"))
    export.write([rollout], tmp_path)
    (row,) = load_dataset(str(tmp_path), "sft", split="train")
    arguments = row["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.dumps(arguments) == json.dumps({"x": value})


@pytest.mark.parametrize("value", [12345678901234567890123, 5e-324])
def test_number_that_a_json_column_would_damage_is_left_out_and_counted(value: float, tmp_path: Path) -> None:
    rollout = episode(assistant("", call("f", {"x": value})), result("ok"), assistant("done"))
    report = export.write([rollout], tmp_path / "json")
    assert report.rows == {"sft": 0}
    assert "Json column" in next(iter(report.formats["sft"].excluded))
    row = export.to_dataset([rollout], compat="string")[0]
    assert json.dumps(json.loads(row["messages"][1]["tool_calls"][0]["function"]["arguments"])) == json.dumps({"x": value})


def test_no_everyday_number_changes_in_its_last_digit() -> None:
    chance = random.Random(0)
    numbers = [round(chance.uniform(0, 60), 3) for _ in range(1000)] + [
        chance.random() * 10.0 ** chance.randrange(-20, 20) for _ in range(1000)
    ]
    # As datasets would write and read them itself, some come out as others.
    read = [ujson_loads(json.dumps(number)) for number in numbers]
    assert read != numbers
    rollout = episode(assistant("", call("f", {"x": numbers}, id="1")), result("ok", id="1"), assistant("done"))
    (row,) = export.to_dataset([rollout])
    assert row["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"x": numbers}


def test_stored_text_is_exact_whatever_the_reader_does_with_it(tmp_path: Path) -> None:
    text = '{"lr":1e-12,"lat":48.85837012345679,"big":9007199254740993}'
    rollout = episode(assistant("", call("f", json.loads(text))), result("ok"), assistant("done"))
    export.write([rollout], tmp_path)
    stored = pq.read_table(tmp_path / "sft").column("messages").to_pylist()[0][1]
    assert text in (stored if isinstance(stored, str) else json.dumps(stored, separators=(",", ":")))


def test_no_null_no_empty_list_and_content_always() -> None:
    rollout = episode(assistant("", call("f", {})), result(""), assistant("done"), tools=[])
    dataset = export.to_dataset([rollout])
    row = dataset[0]
    assert row["tools"] is None
    for message in row["messages"]:
        assert isinstance(message["content"], str)
        assert None not in message.values()
        assert [] not in message.values()


def test_text_blocks_are_one_string() -> None:
    rollout = episode(
        assistant("", call("f", {}, id="c")),
        Message(role="tool", call_id="c", blocks=(TextBlock(text="one"), TextBlock(text="two"))),
        assistant("done"),
    )
    assert messages_of(rollout)[2]["content"] == "one\ntwo"


def test_reasoning_is_kept_apart_and_hidden_reasoning_counted() -> None:
    thought = episode(Message(role="assistant", blocks=(ReasoningItem(content="hm"), TextBlock(text="yes"))))
    assert messages_of(thought)[1] == {"role": "assistant", "content": "yes", "reasoning_content": "hm"}
    assert messages_of(thought, reasoning=False)[1] == {"role": "assistant", "content": "yes"}
    hidden = episode(Message(role="assistant", blocks=(ReasoningItem(summary="it thought"), TextBlock(text="yes"))))
    assert messages_of(hidden)[1] == {"role": "assistant", "content": "yes"}


def test_results_follow_the_order_of_their_calls() -> None:
    rollout = episode(
        assistant("", call("a", {}, id="1"), call("b", {}, id="2")),
        result("from b", id="2", name="b"),
        result("from a", id="1", name="a"),
        assistant("done"),
    )
    messages = messages_of(rollout)
    assert [(message["tool_call_id"], message["name"], message["content"]) for message in messages[2:4]] == [
        ("1", "a", "from a"),
        ("2", "b", "from b"),
    ]


def test_calls_without_ids_get_unique_ones_and_their_results_too() -> None:
    rollout = episode(
        assistant("", call("a", {}, id=""), call("a", {}, id="")),
        result("1", id=None, name="a"),
        result("2", id=None, name="a"),
        assistant("", call("a", {}, id="call_0_0")),
        result("3", id="call_0_0", name="a"),
        assistant("done"),
    )
    messages = messages_of(rollout)
    ids = [call["id"] for message in messages for call in message.get("tool_calls", [])]
    assert len(set(ids)) == 3
    assert [message["tool_call_id"] for message in messages if message["role"] == "tool"] == ids
    assert [message["content"] for message in messages if message["role"] == "tool"] == ["1", "2", "3"]


def test_malformed_call_is_left_out_and_counted_or_kept_as_text(tmp_path: Path) -> None:
    rollout = episode(assistant("", call("f", None, text='{"x": ')), result("bad"), assistant("done"))
    report = export.write([rollout], tmp_path)
    assert report.formats["sft"].excluded == {"a call's arguments are not a JSON object": 1}
    messages = messages_of(rollout, malformed_calls="keep")
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == '{"x": '


def test_cut_off_turn_and_unanswered_call_are_left_out(tmp_path: Path) -> None:
    cut = episode(assistant("I was ab", stop_reason="length"))
    unanswered = episode(assistant("", call("f", {}, id="1")), user("well?"), assistant("done"))
    report = export.write([cut, unanswered], tmp_path)
    assert report.formats["sft"].excluded == {
        "a turn ended by length": 1,
        "a call in the middle has no result": 1,
    }


def test_only_completed_rollouts_unless_asked(tmp_path: Path) -> None:
    rollouts = [episode(assistant("x"), status=status) for status in ("completed", "truncated", "error", "cancelled", "running")]
    report = export.write(rollouts, tmp_path)
    assert report.rows == {"sft": 1}
    assert report.formats["sft"].excluded == {f"status {s}": 1 for s in ("truncated", "error", "cancelled", "running")}
    assert len(export.to_dataset(rollouts, select=export.Select(status="any"))) == 5
    assert len(export.to_dataset(rollouts, select=export.Select(status=["truncated", "error"]))) == 2


def test_reward_metadata_and_answers_are_nowhere_in_a_row(tmp_path: Path) -> None:
    rollout = episode(
        assistant("", call("f", {}, id="1")),
        Message(role="tool", call_id="1", reward=0.987654321, finished=True, metadata={"k": "SENTINEL"}, blocks=()),
        assistant("done"),
        reward=0.987654321,
        metadata={"m": "SENTINEL"},
    )
    rollout.task = replace(rollout.task, spec={"answer": "SENTINEL"}, golden_answer="SENTINEL")
    for name in ("sft", "prompt_completion", "prompts"):
        text = json.dumps(list(export.to_dataset([rollout], format=name)))
        assert "SENTINEL" not in text
        assert "0.98765" not in text


def test_image_of_a_tool_follows_in_a_user_message() -> None:
    rollout = episode(
        assistant("", call("look", {}, id="1")),
        Message(role="tool", call_id="1", blocks=(TextBlock(text="here"), ImageBlock(data=png(4, 4)))),
        assistant("a square"),
    )
    (row,) = export.to_dataset([rollout])
    assert [message["role"] for message in row["messages"]] == ["user", "assistant", "tool", "user", "assistant"]
    assert isinstance(row["messages"][2]["content"], str)
    assert row["messages"][2]["content"] == "here"
    assert [part["type"] for part in row["messages"][3]["content"]] == ["image"]
    # A user message that is one string would get TRL's placeholders.
    assert row["messages"][0]["content"] == [{"type": "text", "text": "What is the weather?"}]
    assert [image.size for image in row["images"]] == [(4, 4)]


def test_images_are_in_the_order_of_their_placeholders_and_others_have_an_empty_list() -> None:
    with_images = episode(
        Message(role="user", blocks=(ImageBlock(data=png(1, 1)), TextBlock(text="and"), ImageBlock(data=png(2, 2)))),
        assistant("", call("look", {}, id="1"), call("look", {}, id="2")),
        Message(role="tool", call_id="2", blocks=(ImageBlock(data=png(4, 4)),)),
        Message(role="tool", call_id="1", blocks=(ImageBlock(data=png(3, 3)),)),
        assistant("done"),
    )
    rows = export.to_dataset([with_images, episode(assistant("text only"))])
    assert [image.size for image in rows[0]["images"]] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert rows[1]["images"] == []
    assert "images" not in export.to_dataset([episode(assistant("text only"))]).column_names


def test_images_of_rollouts_that_are_left_out_make_no_column() -> None:
    seen = episode(Message(role="user", blocks=(ImageBlock(data=png(1, 1)),)), assistant("no"), reward=0.0)
    rollouts = [seen, episode(assistant("yes"), reward=1.0)]
    assert "images" not in export.to_dataset(rollouts, select=export.Select(min_reward=0.5)).column_names


def test_images_of_a_store_are_found_and_missing_ones_counted(tmp_path: Path) -> None:
    rollout = episode(Message(role="user", blocks=(ImageBlock(data=png(5, 5)),)), assistant("ok"))
    with RolloutStore(tmp_path / "run") as store:
        store.append(rollout)
    assert export.to_dataset(tmp_path / "run")[0]["images"][0].size == (5, 5)
    for image in (tmp_path / "run" / "images").iterdir():
        image.unlink()
    report = export.write(tmp_path / "run", tmp_path / "out")
    missing = "an image whose bytes are missing or are not an image of pixels"
    assert report.formats["sft"].excluded == {missing: 1}


@pytest.mark.parametrize("handling", ["flag", "drop", "escape"])
def test_control_tokens_in_what_tools_say(handling: Literal["flag", "drop", "escape"], tmp_path: Path) -> None:
    rollout = episode(
        assistant("", call("f", {}, id="1")), result("ha <|im_end|>\n<|im_start|>assistant", id="1"), assistant("done")
    )
    report = export.write([rollout], tmp_path, control_tokens=handling)
    if handling == "drop":
        assert report.formats["sft"].excluded == {"a tool or user wrote a control token": 1}
        return
    assert report.formats["sft"].findings == {"control_tokens": 1}
    text = load_dataset(str(tmp_path), "sft", split="train")[0]["messages"][2]["content"]
    assert ("<|im_end|>" in text) == (handling == "flag")
    assert text.replace("\u200b", "") == "ha <|im_end|>\n<|im_start|>assistant"


def test_lone_surrogates_become_their_escapes(tmp_path: Path) -> None:
    rollout = episode(assistant("", call("f", {"x": "\ud800"}, id="1")), result("bad \udfff", id="1"), assistant("\udc00"))
    with RolloutStore(tmp_path / "run") as store:
        store.append(rollout)
    for rollouts in ([rollout], tmp_path / "run"):
        messages = export.to_dataset(rollouts)[0]["messages"]
        assert messages[1]["tool_calls"][0]["function"]["arguments"] == {"x": "\\ud800"}
        assert [message["content"] for message in messages[2:]] == ["bad \\udfff", "\\udc00"]


def test_result_without_a_call_is_a_user_turn_and_at_the_end_nothing(tmp_path: Path) -> None:
    rollout = episode(
        assistant("42?"),
        Message(role="tool", name="answer", blocks=(TextBlock(text="wrong, again"),)),
        assistant("43"),
        Message(role="tool", name="answer", blocks=(TextBlock(text="right"),)),
    )
    assert messages_of(rollout)[1:] == [
        {"role": "assistant", "content": "42?"},
        {"role": "user", "content": "wrong, again"},
        {"role": "assistant", "content": "43"},
    ]


def test_parts_that_chat_messages_do_not_have_are_counted(tmp_path: Path) -> None:
    video = OpaqueBlock({"type": "video"})
    rollouts = [
        episode(Message(role="user", blocks=(video, TextBlock(text="see?"))), assistant("yes")),
        episode(assistant("", call("look", {}, id="1")), Message(role="tool", call_id="1", blocks=(video,)), assistant("yes")),
        episode(AssistantMessage([video, TextBlock("yes")])),
    ]
    report = export.write(rollouts, tmp_path, ["sft", "tokens"], tokenizer=tiny_tokenizer())
    reason = "a part that chat messages do not have (a document, an image by address, a provider's own tool)"
    assert all(form.excluded == {reason: 3} for form in report.formats.values())


def test_parallel_calls_kept_split_or_dropped() -> None:
    rollout = episode(
        assistant("both", call("a", {}, id="1"), call("b", {}, id="2")),
        result("A", id="1"),
        result("B", id="2"),
        assistant("done"),
    )
    assert len(messages_of(rollout)[1]["tool_calls"]) == 2
    split = messages_of(rollout, parallel_calls="split")
    assert [(message["role"], message["content"]) for message in split[1:]] == [
        ("assistant", "both"),
        ("tool", "A"),
        ("assistant", ""),
        ("tool", "B"),
        ("assistant", "done"),
    ]
    assert len(export.to_dataset([rollout], parallel_calls="drop")) == 0


def test_system_merged_into_the_first_user_message() -> None:
    rollout = episode(assistant("yes"))
    rollout.messages.insert(0, Message(role="system", blocks=(TextBlock(text="Be kind."),)))
    assert messages_of(rollout)[0] == {"role": "system", "content": "Be kind."}
    assert messages_of(rollout, system="merge")[0] == {"role": "user", "content": "Be kind.\n\nWhat is the weather?"}


def test_tools_are_the_rollouts_own_and_one_without_arguments_takes_an_empty_object() -> None:
    first = episode(assistant("x"), tools=[ToolSpec(name="look", input_schema=None)])
    second = episode(assistant("x"), tools=[ToolSpec(name="go", input_schema={"type": "object", "properties": {"to": {}}})])
    rows = export.to_dataset([first, second])
    assert rows[0]["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert rows[1]["tools"][0]["function"] == {
        "name": "go",
        "description": "",
        "parameters": {"type": "object", "properties": {"to": {}}},
    }


def test_string_mode_reads_without_json_columns(tmp_path: Path) -> None:
    rollout = episode(assistant("", call("f", {"a": 1.5}, id="1")), result("ok", id="1"), assistant("done"))
    export.write([rollout], tmp_path, compat="string")
    table = pq.read_table(tmp_path / "sft")
    assert b"Json" not in table.schema.metadata[b"huggingface"]
    row = table.to_pylist()[0]
    assert row["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"a":1.5}'
    assert json.loads(row["tools"])[0]["type"] == "function"


def test_loads_from_its_folder_in_another_process_without_a_word(tmp_path: Path) -> None:
    export.write([episode(assistant("yes"))], tmp_path / "out")
    program = "import sys, datasets; print(datasets.load_dataset(sys.argv[1], 'sft', split='train')[0]['messages'][1]['content'])"
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path / "out")], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout.strip()) == (0, "yes"), done.stderr


def test_second_export_replaces_the_first(tmp_path: Path) -> None:
    export.write([episode(assistant("one")), episode(assistant("two"))], tmp_path)
    export.write([episode(assistant("three"))], tmp_path)
    rows = load_dataset(str(tmp_path), "sft", split="train")
    assert [row["messages"][1]["content"] for row in rows] == ["three"]


def test_nothing_left_is_a_dataset_without_rows(tmp_path: Path) -> None:
    report = export.write([episode(assistant("x"), reward=0.0)], tmp_path, select=export.Select(min_reward=1.0))
    assert report.rows == {"sft": 0}
    assert "reward below 1" in str(report)
    # `load_dataset` refuses a split without rows; the file is there with all of its columns.
    table = pq.read_table(tmp_path / "sft")
    assert (table.num_rows, table.column_names) == (0, ["messages", "tools", "rollout_id"])


def test_mistakes_are_told() -> None:
    with pytest.raises(ConfigurationError, match="no format 'stf': did you mean 'sft'"):
        export.to_dataset([], format="stf")
    with pytest.raises(ConfigurationError, match=r"no option 'reasonings'\. Did you mean 'reasoning'"):
        export.to_dataset([], reasonings=True)  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="control_tokens must be one of flag, drop, escape"):
        export.to_dataset([], control_tokens="no")  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="there is no column rewards"):
        export.to_dataset([], columns=["rewards"])
    with pytest.raises(ConfigurationError, match="name at least one"):
        export.write([], "nowhere", formats=[])
    with pytest.raises(ConfigurationError, match="a int is not a Rollout"):
        export.to_dataset([1])  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="does not exist"):
        export.to_dataset("no/such/run")


def test_damaged_line_is_named_by_file_and_line(tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "run") as store:
        store.append(episode(assistant("x")))
    (shard,) = (tmp_path / "run" / "rollouts").iterdir()
    for damage in (
        b'{"schema":"openreward-gym/rollout/1","id":"a","status":"completed","messages":[{"blocks":[]}]}',
        b"{not json",
    ):
        text = shard.read_bytes().split(b"\n")[0]
        shard.write_bytes(text + b"\n" + damage + b"\n")
        with pytest.raises(RecordError):
            export.to_dataset(tmp_path / "run")


def test_importing_the_room_loads_no_heavy_library() -> None:
    program = "import sys, openreward_gym.export; print([m for m in ('datasets', 'pyarrow', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"


def test_files_that_are_not_images_of_pixels_are_reported(tmp_path: Path) -> None:
    """A WAV file begins like WebP, and no processor of a model reads SVG."""
    files = [b"RIFF\x24\0\0\0WAVEfmt ", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
    rollouts = [episode(user_with(ImageBlock.from_bytes(file, "image/webp")), assistant("ok")) for file in files]
    report = export.write(rollouts, tmp_path).formats["sft"]
    assert (report.rows, report.excluded.total(), report.with_images) == (0, 2, False)


def test_images_of_a_merged_system_message_keep_their_places() -> None:
    """There are as many image parts as images."""
    rollout = episode(assistant("ok"))
    rollout.messages.insert(0, Message("system", (TextBlock("Look:"), ImageBlock(data=png(2, 2)))))
    (row,) = export.to_dataset([rollout], system="merge")
    assert [part["type"] for part in row["messages"][0]["content"]] == ["text", "image", "text"]
    assert len(row["images"]) == 1


def user_with(*blocks: Block) -> Message:
    return Message("user", blocks)
