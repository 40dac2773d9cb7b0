"""Lines for OpenAI's fine-tuning: within its limits, in the model's own words, with the parts that chat messages have."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from export_rollouts import WEATHER, assistant, call, episode, png, result, user
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionAssistantMessageParam, ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import TypeAdapter

from openreward_gym import export
from openreward_gym.types import ImageBlock, Message, OpaqueBlock, ReasoningItem, Rollout, TextBlock, ToolCall, ToolSpec

MESSAGES: TypeAdapter[Any] = TypeAdapter(list[ChatCompletionMessageParam])
OUTPUT: TypeAdapter[Any] = TypeAdapter(list[ChatCompletionAssistantMessageParam])
TOOLS: TypeAdapter[Any] = TypeAdapter(list[ChatCompletionToolParam])


def lines(rollouts: list[Rollout], folder: Path, format: str = "openai", **options: Any) -> tuple[list[dict[str, Any]], Any]:
    report = export.write(rollouts, folder, formats=[format], **options).formats[format]
    text = (folder / format / "train.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        MESSAGES.validate_python(row.get("input", row)["messages"])
        TOOLS.validate_python(row.get("input", row).get("tools", []))
    return rows, report


def reason_for(rollout: Rollout, folder: Path) -> str:
    rows, report = lines([rollout], folder)
    assert rows == []
    (reason,) = report.excluded
    return str(reason)


def test_a_line_has_only_what_openai_takes(tmp_path: Path) -> None:
    messages = [assistant("", call("weather", {"city": "Oslo"}, id="1")), result("rain", id="1"), assistant("It rains.")]
    (line,), _ = lines([episode(*messages, result("right", id=None, finished=True))], tmp_path)
    assert line.keys() == {"messages", "tools", "parallel_tool_calls"}
    assert line["messages"][1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}],
    }
    assert line["messages"][2] == {"role": "tool", "tool_call_id": "1", "content": "rain"}
    assert line["messages"][-1]["role"] == "assistant"
    (line,), _ = lines([episode(assistant("yes"), tools=[])], tmp_path)
    assert line.keys() == {"messages"}


@pytest.mark.parametrize("text", ['{"b":1e2,"a": 0.10}', '{ "k" : "\\u00e9" }', '{"a":1,"a":2}', '{"n":12345678901234567890}'])
def test_arguments_are_the_models_text(text: str, tmp_path: Path) -> None:
    """Written again from the object, a number or an escape changes, and one of two equal keys goes."""
    good, bad = (
        [assistant("", ToolCall("f", None, "1", text)), result("r", id="1"), assistant(word)] for word in ("Yes.", "No.")
    )
    rollouts = [episode(*good, reward=1.0, group="g"), episode(*bad, reward=0.0, group="g")]
    (line, _), _ = lines(rollouts, tmp_path)
    assert line["messages"][1]["tool_calls"][0]["function"]["arguments"] == text
    (line,), _ = lines(rollouts, tmp_path, "openai_dpo")
    assert line["input"]["messages"][1]["tool_calls"][0]["function"]["arguments"] == text
    for format in ("sft", "prompt_completion"):
        rows = export.to_dataset(rollouts, format, compat="string")
        messages = [*rows[-1].get("prompt", []), *rows[-1].get("messages", [])]
        assert messages[1]["tool_calls"][0]["function"]["arguments"] == text


def test_a_key_twice_leaves_a_rollout_out_where_arguments_are_objects(tmp_path: Path) -> None:
    twice = episode(
        assistant("", ToolCall("f", None, "1", '{"o": {"a": ":", "a": ":"}}')), result("r", id="1"), assistant("Done.")
    )
    once = episode(assistant("", ToolCall("f", None, "1", '{"o" : {"a\\u003a": ":"}}')), result("r", id="1"), assistant("Done."))
    for format in ("sft", "sharegpt", "axolotl"):
        report = export.write([twice, once], tmp_path, formats=[format]).formats[format]
        assert report.rows == 1
        assert report.excluded == {"a call has a key twice, which an object cannot keep (take openai or compat='string')": 1}


def test_long_call_ids_are_renamed_alike(tmp_path: Path) -> None:
    ids = ["c" * 41, "c" * 42, "c" * 40]
    calls = [call("weather", {}, id=name) for name in ids]
    results = [result("rain", id=name) for name in ids]
    (line,), report = lines([episode(assistant("", *calls), *results, assistant("Rain."))], tmp_path)
    written = [entry["id"] for entry in line["messages"][1]["tool_calls"]]
    assert written == [message["tool_call_id"] for message in line["messages"] if message["role"] == "tool"]
    assert len(set(written)) == 3
    assert max(map(len, written)) <= 40
    assert written[2] == ids[2]
    assert line["parallel_tool_calls"] is True
    assert report.findings == {"call_ids_renamed": 1}


def tools(number: int = 1, **fields: Any) -> list[ToolSpec]:
    return [ToolSpec(**{"name": f"t{n}", "description": "d", **fields}) for n in range(number)]


@pytest.mark.parametrize(
    ("rollout", "reason"),
    [
        (episode(assistant("a"), tools=tools(name="web.search")), "a tool's name that OpenAI refuses"),
        (episode(assistant("a"), tools=tools(name="n" * 65)), "a tool's name that OpenAI refuses"),
        (episode(assistant("", call("a b", {}, id="1")), tools=[]), "a tool's name that OpenAI refuses"),
        (episode(assistant("a"), tools=tools(description="d" * 1025)), "a tool's description of more than 1,024 characters"),
        (episode(assistant("a"), tools=tools(129)), "more than 128 tools"),
        (episode(assistant("", weight=0.0), user("?"), assistant("a")), "an empty assistant message"),
        (episode(user("?").replace(name="Ann Lee"), assistant("a")), "a user's name that OpenAI refuses"),
        (episode(Message("user", (ImageBlock.from_bytes(b"GIF89a..."),)), assistant("a")), "an image that OpenAI refuses"),
        (episode(Message("user", (ImageBlock(data=png(2, 2)),) * 11), assistant("a")), "more than 10 images"),
    ],
)
def test_what_openai_refuses_is_left_out_by_name(rollout: Rollout, reason: str, tmp_path: Path) -> None:
    assert reason_for(rollout, tmp_path).startswith(reason)


def test_what_is_at_the_limits_is_taken(tmp_path: Path) -> None:
    specs = tools(127, description="d" * 1024) + tools(name="A-z_" * 16)
    blocks = (ImageBlock(data=png(2, 2)),) * 10
    rollout = episode(Message("user", blocks, name="Ann-Lee_é"), assistant("", call("A-z_" * 16, {}, id="1" * 40)), tools=specs)
    (line,), report = lines([rollout], tmp_path)
    assert line["messages"][1]["name"] == "Ann-Lee_é"
    assert len(line["messages"][1]["content"]) == 10
    assert not report.findings


def test_only_the_weights_0_and_1(tmp_path: Path) -> None:
    """Another weight is none of OpenAI's: the turn is trained, and counted; a negative one is not."""
    turns = [assistant(word, weight=weight) for word, weight in (("a", 0.0), ("b", 0.5), ("c", 1.0), ("d", -1.0), ("e", None))]
    messages = [message for turn in turns for message in (turn, user("?"))]
    (line,), report = lines([episode(*messages)], tmp_path)
    weights = {message["content"]: message.get("weight") for message in line["messages"] if message["role"] == "assistant"}
    assert weights == {"a": 0, "b": None, "c": None, "d": 0, "e": None}
    assert report.findings["other_weight"] == 1


URL = "https://example.com/lynx.png"


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        ({"type": "image_url", "image_url": {"url": URL, "detail": "low"}}, {"url": URL, "detail": "low"}),
        ({"type": "image_url", "image_url": URL}, {"url": URL}),
        ({"type": "input_image", "image_url": URL, "detail": "high", "file_id": None}, {"url": URL, "detail": "high"}),
        ({"type": "image", "source": {"type": "url", "url": URL}}, {"url": URL}),
        ({"type": "file", "file": {"file_id": "file-1", "filename": None}}, {"file_id": "file-1"}),
        (
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
            {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
        ),
        ({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}, {"data": "UklGRg==", "format": "wav"}),
    ],
)
def test_parts_of_providers_that_chat_messages_have(raw: dict[str, Any], part: dict[str, Any], tmp_path: Path) -> None:
    rollout = episode(Message("user", (TextBlock("What is it?"), OpaqueBlock(raw))), assistant("A lynx."))
    (line,), _ = lines([rollout], tmp_path)
    text, written = line["messages"][1]["content"]
    assert text == {"type": "text", "text": "What is it?"}
    assert written == {"type": written["type"], written["type"]: part}
    assert export.write([rollout], tmp_path, ["sft"]).rows == {"sft": 0}


@pytest.mark.parametrize(
    ("role", "raw"),
    [
        ("user", {"type": "document", "source": {"type": "text", "data": "words"}}),
        ("user", {"type": "input_file", "file_url": "https://example.com/a.pdf"}),
        ("user", {"type": "input_image", "file_id": "file-1"}),
        ("user", {"type": "image", "source": {"type": "file", "file_id": "file-1"}}),
        ("user", {"type": "image_url", "image_url": None}),
        ("tool", {"type": "image_url", "image_url": {"url": URL}}),
        ("system", {"type": "image_url", "image_url": {"url": URL}}),
        ("assistant", {"type": "image_url", "image_url": {"url": URL}}),
    ],
)
def test_other_parts_leave_a_rollout_out(role: Any, raw: dict[str, Any], tmp_path: Path) -> None:
    first = assistant("", call("weather", {}, id="1"), origin="policy")
    origin: Any = {"assistant": "policy", "tool": "environment"}.get(role, "given")
    odd = Message(role, (TextBlock("a"), OpaqueBlock(raw)), call_id="1" if role == "tool" else None, origin=origin)
    messages = [first, odd] if role == "tool" else [odd]
    reason = reason_for(episode(*messages, assistant("b", origin="policy")), tmp_path)
    assert reason == "a part that chat messages do not have (a document, an image by address, a provider's own tool)"


def test_images_are_data_urls(tmp_path: Path) -> None:
    image = png(2, 2)
    (line,), _ = lines([episode(Message("user", (ImageBlock(data=image),)), assistant("ok"))], tmp_path)
    assert line["messages"][1]["content"] == [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}]
    assert base64.b64decode(image)


def test_reasoning_has_no_field_and_is_counted(tmp_path: Path) -> None:
    _, report = lines([episode(assistant(blocks=(ReasoningItem("hm"), TextBlock("Rain."))))], tmp_path)
    assert report.findings == {"reasoning_left_out": 1}


def test_preferences_are_openais(tmp_path: Path) -> None:
    shared = [assistant("", call("weather", {"city": "Oslo"}, id="x" * 41)), result("rain", id="x" * 41)]
    again = [assistant("", call("weather", {"city": "Oslo"}, id="y")), result("rain", id="y")]
    other = [assistant("", ToolCall("weather", None, "z", '{"city" :"Bergen"}')), result("sun", id="z")]
    sides = [
        episode(*shared, assistant("It rains."), reward=1.0, group="g"),
        episode(*again, *other, reward=0.0, group="g"),
    ]
    (line,), _ = lines(sides, tmp_path, "openai_dpo")
    assert line.keys() == {"input", "preferred_output", "non_preferred_output"}
    assert [message["role"] for message in line["input"]["messages"]] == ["user", "assistant", "tool"]
    assert line["input"]["tools"][0]["function"]["name"] == WEATHER.name
    assert line["input"]["parallel_tool_calls"] is False
    assert line["preferred_output"] == [{"role": "assistant", "content": "It rains."}]
    (rejected,) = line["non_preferred_output"]
    assert rejected["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city" :"Bergen"}'}
    OUTPUT.validate_python(line["preferred_output"] + line["non_preferred_output"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


argument_texts = st.builds(
    lambda arguments, indent, ascii: json.dumps(arguments, indent=indent, ensure_ascii=ascii),
    st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    st.sampled_from([None, 1]),
    st.booleans(),
)


@given(st.lists(argument_texts, min_size=4, max_size=8))
@settings(max_examples=20)
def test_any_arguments_are_kept_to_the_letter(texts: list[str]) -> None:
    turns = [[assistant("", ToolCall("f", None, str(n), text)), result("r", id=str(n))] for n, text in enumerate(texts)]
    (row,) = export.to_dataset([episode(*itertools.chain(*turns), assistant("Done."))], "openai", compat="string")
    calls = [call for message in row["messages"] for call in json.loads(message).get("tool_calls", ())]
    written = [call["function"]["arguments"] for call in calls]
    assert written == [text.encode("utf-8", "backslashreplace").decode() for text in texts]
