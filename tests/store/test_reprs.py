"""Reprs say the shape of a thing: short, without reading much, and never an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from openreward_gym import Recorder, RolloutStore, UserMessage
from openreward_gym.store import store as store_module
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Task,
    TerminalTool,
    ToolCall,
    ToolMessage,
    ToolOutput,
    ToolResult,
    ToolSet,
    ToolSpec,
)

ROLLOUT = Rollout(status="completed", id="r1", environment=RolloutEnvironment("weather"), reward=1.0, stop_reason="finished")


def test_a_store(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    store = RolloutStore(path, run="first")
    assert repr(store) == f"<RolloutStore {path}: no rollouts yet>"
    assert not path.exists()
    store.append(ROLLOUT)
    assert repr(store) == f"<RolloutStore {path}: 1 rollout, 0.2 KB, run 'first', environment 'weather'>"
    assert repr(RolloutStore(path)) == f"<RolloutStore {path}: 1 rollout, 0.2 KB, environment 'weather'>"
    store.append(ROLLOUT)
    len(store)
    assert "2 rollouts" in repr(store)
    assert repr(store[:1]).startswith("<1 rollouts of <RolloutStore")


def test_a_large_store_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RolloutStore(tmp_path) as store:
        store.append(ROLLOUT)
    monkeypatch.setattr(store_module, "_COUNTED_BYTES", 10)
    assert repr(RolloutStore(tmp_path)) == f"<RolloutStore {tmp_path}: 0.2 KB, not counted yet>"


@pytest.mark.parametrize("line", [b"not JSON\n", b'{"schema": "openreward-gym/rollout/9"}\n', b"\xff\xfe\n", b"[1]\n"])
def test_damage(tmp_path: Path, line: bytes) -> None:
    with RolloutStore(tmp_path) as store:
        store.append(ROLLOUT)
    (shard,) = (tmp_path / "rollouts").iterdir()
    shard.write_bytes(line + shard.read_bytes())
    assert "cannot be read" in repr(RolloutStore(tmp_path))


def test_rollouts_and_messages_are_short() -> None:
    assert repr(ROLLOUT) == ("<Rollout r1 of 'weather': 0 messages, 0 turns, 0 calls, reward 1.0, completed (finished)>")
    assert repr(UserMessage("How warm is it?", origin="given")) == "UserMessage('How warm is it?', origin='given')"
    assert repr(Message("system")) == "Message('system')"
    said = AssistantMessage([ReasoningItem("Hm."), ToolCall("look", {"at": "door"}, "c1")], ended="tool_calls")
    assert repr(said) == "AssistantMessage(<reasoning 'Hm.'>, look({\"at\": \"door\"}), ended='tool_calls')"
    answer = ToolMessage([ImageBlock("QUJD"), OpaqueBlock({"type": "video"})], "c1", "look", True, reward=0.0)
    assert repr(answer) == "ToolMessage(<image/png>, <video block>, call_id='c1', name='look', is_error=True, reward=0.0)"
    assert repr(ToolOutput(answer.blocks, 1.0, True)) == "ToolOutput(<image/png>, <video block>, reward=1.0, finished=True)"
    assert repr(ToolSet((ToolSpec("look"),), TerminalTool("answer"))) == "ToolSet([look], terminal=answer)"
    assert repr(Task("train", 3, {"n": 1})) == "Task('train', 3, spec={'n': 1})"
    assert repr(Task(spec={"n": 1})) == "Task(spec={'n': 1})"
    long = "x" * 100_000
    many = UserMessage([ToolResult(long), *[ImageBlock(long)] * 50], name=long, metadata={"key": long})
    for value in (many, UserMessage(long), ToolOutput(error=long), Task(long[:70], 1, {"a": long}), ImageBlock(long)):
        assert len(repr(value)) < 600


def test_deep_and_odd_values_have_a_repr() -> None:
    deep: object = []
    for _ in range(100_000):
        deep = [deep]
    assert "deeply nested" in repr(Task(spec={"a": deep}))
    assert repr(ToolCall("f", {"a": float("nan")}))
    assert repr(AssistantMessage([ToolCall("f", {"a": deep})]))


def test_a_recorder(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", upload=False) as recorder:
        assert repr(recorder) == f"<Recorder into {tmp_path / 'run'}: 0 open rollouts>"
        log = recorder.create(run_name="a", rollout_name="b")
        assert repr(log).startswith("<RolloutLog open: <Rollout ")
    assert repr(log).startswith("<RolloutLog closed: <Rollout ")
