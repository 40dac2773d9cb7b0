"""Hypothesis strategies for every field of a record, hostile text and numbers included."""

from __future__ import annotations

import base64
import os
from typing import Any, get_args

from hypothesis import strategies as st

from openreward_gym.types import (
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Task,
    TerminalTool,
    TextBlock,
    Timing,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from openreward_gym.types.messages import Ended, Origin

EXAMPLES = 2000 if os.environ.get("OPENREWARD_GYM_LONG") else 30

# Every code point: NUL, line ends of all kinds, U+2028, lone surrogates.
texts = st.text(st.characters(), max_size=40) | st.sampled_from(["", "\x00", "\r\n", "\u2028\u2029\x85", "\ud800", "a\n b", "😀"])
numbers = st.floats(allow_nan=False)
integers = st.integers(min_value=-(2**100), max_value=2**100)
jsons: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, jsons, max_size=3)
maybe_texts = st.none() | texts
images = st.binary(min_size=1, max_size=40).map(lambda content: base64.b64encode(content).decode("ascii"))

blocks = st.one_of(
    st.builds(TextBlock, text=texts, detail=jsons, extra=st.just({}) | st.just({"citations": [1]})),
    st.builds(
        ImageBlock,
        mime_type=st.sampled_from(["image/png", "image/jpeg", "x/y"]),
        data=images | texts,
        detail=jsons,
    ),
    st.builds(ReasoningItem, content=maybe_texts, summary=maybe_texts, content_reference=maybe_texts, signature=maybe_texts),
    st.builds(ToolCall, call_id=texts, name=texts, arguments=st.none() | objects, content=maybe_texts),
    st.builds(ToolResult, content=texts, call_id=texts, name=texts, is_error=st.booleans()),
    st.builds(lambda data: OpaqueBlock({"type": "audio", "payload": data}), jsons),
    st.just(OpaqueBlock({"type": "text", "words": "none"})),
)
usages = st.builds(Usage, input_tokens=st.none() | integers, output_tokens=st.none() | integers)
tool_names = st.dictionaries(st.text(max_size=5), texts, max_size=2)
lists_of_integers = st.none() | st.lists(integers, max_size=3).map(tuple)

sampled = st.builds(
    Sampled,
    usage=st.none() | usages,
    stop_reason=maybe_texts,
    token_ids=lists_of_integers,
    prompt_token_ids=lists_of_integers,
    logprobs=st.none() | st.lists(numbers, max_size=3).map(tuple),
    model=maybe_texts,
    cost_usd=st.none() | numbers,
    duration_s=st.none() | numbers,
    metadata=st.none() | objects,
)


messages = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    blocks=st.lists(blocks, max_size=3).map(tuple),
    origin=st.none() | st.sampled_from(get_args(Origin)),
    weight=st.none() | numbers,
    ended=st.none() | st.sampled_from(get_args(Ended)),
    sampled=st.none() | sampled,
    call_id=maybe_texts,
    name=maybe_texts,
    is_error=st.booleans(),
    reward=st.none() | numbers,
    finished=st.booleans(),
    started_at=maybe_texts,
    ended_at=maybe_texts,
    metadata=jsons,
    extra=st.just({}) | st.just({"colour": "blue"}),
)

rollouts = st.builds(
    Rollout,
    id=st.uuids().map(str),
    run=texts.filter(bool),
    name=texts,
    environment=st.builds(RolloutEnvironment, name=texts, variant=maybe_texts, split=maybe_texts, origin=maybe_texts),
    task=st.builds(Task, id=texts, index=st.none() | integers, spec=st.none() | objects, golden_answer=jsons),
    group=maybe_texts,
    sample=st.none() | integers,
    attempt=integers,
    step=st.none() | integers,
    advantage=st.none() | numbers,
    discard_reason=maybe_texts,
    labels=st.none() | st.lists(jsons, max_size=2),
    model=st.none() | objects,
    sampling=st.none() | objects,
    tools=st.none() | st.lists(st.builds(ToolSpec, name=texts, description=texts, input_schema=st.none() | objects), max_size=2),
    terminal_tool=st.none() | st.builds(TerminalTool, name=texts, arg=maybe_texts, description=texts),
    messages=st.lists(messages, max_size=4),
    reward=st.none() | numbers,
    final_reward=st.none() | numbers,
    metrics=st.none() | st.dictionaries(texts, st.none() | numbers, max_size=2),
    status=st.sampled_from(["completed", "truncated", "error", "cancelled", "running"]),
    stop_reason=texts,
    error=maybe_texts,
    started_at=maybe_texts,
    ended_at=maybe_texts,
    timing=st.none() | st.builds(Timing, reset_s=st.none() | numbers),
    usage=st.none() | usages,
    cost_usd=st.none() | numbers,
    seed=st.none() | integers,
    versions=st.none() | st.dictionaries(texts, texts, max_size=2),
    metadata=st.none() | objects,
)
