"""While a run is collected, the messages of its episodes are in `running/`, and nothing of it is left at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openreward_gym import collect
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.store.folder import LocalFolder
from openreward_gym.store.running import RunningFile, running_files
from openreward_gym.types import AssistantMessage, Message, ToolCall, ToolSet
from openreward_gym.wrappers import RecordRollouts


def records(run: Path) -> list[dict[str, Any]]:
    found = []
    for path in running_files(LocalFolder(run)):
        file = RunningFile(path)
        file.refresh()
        found.append(file.record())
    return found


def test_episodes_are_seen_while_they_are_played(server_url: str, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    async def policy(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        (record,) = records(tmp_path / "run")
        seen.append(record)
        assert len(record["messages"]) == len(transcript)
        turns = sum(message.role == "assistant" for message in transcript)
        name, text = ("finish", "right") if turns == 2 else ("echo", f"turn {turns}")
        return AssistantMessage(tool_calls=[ToolCall(name, {"text": text}, f"c{turns}")])

    result = collect("echo", policy, base_url=server_url, output=tmp_path / "run", progress=False, concurrency=1, tasks="0:2")
    assert result.coverage.successful == 2, list(result.store.failures())
    assert len(seen) == 6
    assert {record["status"] for record in seen} == {"running"}
    assert {record["id"] for record in seen} == {rollout.id for rollout in result.store}
    assert [record["group"] for record in seen[::3]] == [rollout.group for rollout in result.store]
    assert not (tmp_path / "run" / "running").exists()


def test_a_failed_attempt_leaves_nothing(server_url: str, tmp_path: Path) -> None:
    async def policy(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        assert records(tmp_path / "run")
        raise ValueError("no")

    result = collect("echo", policy, base_url=server_url, output=tmp_path / "run", progress=False, tasks="0")
    assert result.coverage.failed == 1
    assert not (tmp_path / "run" / "running").exists()


def test_a_recorded_env_is_seen_while_it_is_stepped(server_url: str, tmp_path: Path) -> None:
    env = RecordRollouts(OpenRewardEnv("echo", base_url=server_url), tmp_path / "run")
    try:
        env.describe(group="g", sample=3)
        env.reset(seed=0)
        (record,) = records(tmp_path / "run")
        prompt = len(record["messages"])
        assert (record["group"], record["sample"]) == ("g", 3)
        env.step({"name": "echo", "arguments": {"text": "one"}})
        (again,) = records(tmp_path / "run")
        assert [message["role"] for message in again["messages"][prompt:]] == ["assistant", "tool"]
        env.step({"name": "finish", "arguments": {"text": "right"}})
        assert records(tmp_path / "run") == []
        assert env.last_rollout is not None
        assert env.last_rollout.id == record["id"]
        env.reset(seed=1)
        assert len(records(tmp_path / "run")) == 1
    finally:
        env.close()
    assert not (tmp_path / "run" / "running").exists()
