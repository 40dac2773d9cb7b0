"""Blocks as observations, and infos that vector environments can merge."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from openreward_gym.envs.episode import CallResult, Episode, Step
from openreward_gym.envs.observations import (
    HEIGHT,
    WIDTH,
    block_elements,
    conversation_text,
    picture,
    reset_info,
    step_info,
    step_text,
    transcript,
    truncated,
)
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Task,
    TextBlock,
    ToolCall,
    ToolOutput,
    ToolResult,
    ToolSet,
    ToolSpec,
    UserMessage,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
TEXT = st.text(st.characters(codec=None), max_size=30)
BLOCK = st.one_of(
    st.builds(TextBlock, TEXT),
    st.builds(ImageBlock, st.sampled_from(["", "iVBORw0KGgo=", "not base64!", "é"])),
    st.builds(OpaqueBlock, st.fixed_dictionaries({"type": st.just("video"), "url": TEXT})),
)
OUTPUT = st.builds(
    ToolOutput,
    st.lists(BLOCK, max_size=3).map(tuple),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    JSON,
)


def episode() -> Episode:
    return Episode("e", None, None, Task("train", 3), ToolSet((ToolSpec("t"),)), (UserMessage("hi"),))


def step_of(outputs: list[ToolOutput]) -> Step:
    return Step(AssistantMessage(), tuple(CallResult(ToolCall("t", {}, "c"), output, "", "") for output in outputs))


@given(TEXT, st.none() | st.integers(1, 40))
def test_truncation_is_honest(text: str, most: int | None) -> None:
    shown, cut = truncated(text, most)
    assert most is None or len(shown) <= most
    assert (cut == 0) == (shown == text)
    assert cut <= len(text)


def test_truncation_keeps_head_and_tail() -> None:
    shown, cut = truncated("a" * 500 + "b" * 500, 200)
    assert shown.startswith("aaa")
    assert shown.endswith("bbb")
    assert len(shown.replace("\n[... 800 or more characters cut ...]\n", "")) == 1000 - cut


@settings(max_examples=300)
@given(st.lists(OUTPUT, max_size=3))
def test_every_output_can_be_observed(outputs: list[ToolOutput]) -> None:
    step = step_of(outputs)
    assert isinstance(step_text(step), str)
    info = step_info(episode(), step)
    assert isinstance(json.loads(info["metadata"]), object)
    assert {name: type(value) for name, value in info.items()} == {
        name: type(value) for name, value in reset_info(episode()).items() if name in info
    }


@settings(max_examples=200)
@given(st.lists(st.lists(OUTPUT, max_size=2), min_size=2, max_size=4), st.booleans())
def test_vector_environments_can_merge_the_infos(rows: list[list[ToolOutput]], with_reset: bool) -> None:
    infos: list[Any] = [step_info(episode(), step_of(outputs)) for outputs in rows]
    if with_reset:
        infos[0] = reset_info(episode())
    merging: Any = VectorEnv()
    merging.num_envs = len(infos)
    merged: dict[str, Any] = {}
    for number, info in enumerate(infos):
        merged = merging._add_info(merged, info, number)
    for name in infos[-1]:
        values = merged[name]
        for number, info in enumerate(infos):
            if name in info:
                assert values[number] == info[name] or (isinstance(values[number], np.generic) and values[number] == info[name])


def test_a_conversation_shows_who_speaks() -> None:
    conversation = (
        Message("system", (TextBlock("be kind"),)),
        Message("assistant", (ReasoningItem("hm"), ToolCall("t", {"a": 1}, "c"))),
        Message("user", (ToolResult("42", "c", is_error=True),)),
    )
    assert conversation_text(conversation) == (
        '[system]\nbe kind\n\n[assistant]\n<think>hm</think>\n[tool_call t] {"a": 1}\n\n[user]\n[tool_result (error)]\n42'
    )
    assert conversation_text((UserMessage("only this"),)) == "only this"
    assert "be kind" in transcript(conversation)


def test_images_stay_images() -> None:
    image = ImageBlock.from_bytes(b"\x89PNG", "image/png")
    assert block_elements((ToolResult((TextBlock("see"), image), "c"),)) == (
        {"type": "text", "text": "see"},
        {"type": "image", "data": b"\x89PNG", "mime": "image/png"},
    )


def test_pictures_have_one_size() -> None:
    shown = picture((UserMessage("a\ud800 long line " * 300),))
    assert shown.shape == (HEIGHT, WIDTH, 3)
    assert shown.dtype == np.uint8
    broken = picture((UserMessage([ImageBlock.from_bytes(b"not an image")]),))
    assert broken.shape == (HEIGHT, WIDTH, 3)
