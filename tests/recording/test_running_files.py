"""While a rollout is recorded, its messages are in a file of the run; the finished line replaces it."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openreward_gym import AssistantMessage, Recorder, RolloutStore, ToolCall, ToolResult, UserMessage
from openreward_gym.store.folder import LocalFolder
from openreward_gym.store.running import RunningFile, has_running, remove_abandoned, running_files
from openreward_gym.types import ImageBlock, ReasoningItem, TextBlock

SECRET = "tk-7h1s-1s-s3cret"


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(tmp_path / "run") as one:
        yield one


def now(run: Path) -> dict[str, Any]:
    """Return the record of the only rollout that is being recorded."""
    (path,) = running_files(LocalFolder(run))
    file = RunningFile(path)
    file.refresh()
    assert file.is_written
    return file.record()


def texts(record: dict[str, Any]) -> list[str]:
    return [block.get("text") or block.get("name") for message in record["messages"] for block in message["blocks"]]


def test_messages_are_there_as_they_come_and_gone_with_the_end(recorder: Recorder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    log = recorder.create(environment="lab", task_index=3, rollout_name="watch")
    assert not has_running(run)
    log.log(UserMessage("Count."))
    record = now(run)
    assert (record["id"], record["status"], record["name"]) == (log.rollout_id, "running", "watch")
    assert (record["environment"]["name"], record["task"]["index"]) == ("lab", 3)
    log.log(AssistantMessage("I count.", tool_calls=[ToolCall("count", {}, "c1")]))
    log.log(ToolResult("Seven.", call_id="c1"), reward=0.5)
    assert texts(now(run)) == ["Count.", "I count.", "count", "Seven."]
    assert now(run)["reward"] == 0.5
    assert not (run / "rollouts").exists(), "it is no rollout of the run yet"
    log.log(AssistantMessage("Seven."), reward=0.5, is_finished=True)
    assert sorted(os.listdir(run)) == ["rollouts"]
    assert len(RolloutStore(run)) == 1
    assert RolloutStore(run)[0].id == log.rollout_id


def test_pieces_of_a_turn_are_one_message(recorder: Recorder, tmp_path: Path) -> None:
    log = recorder.create()
    log.log(UserMessage("Go."))
    log.log(ReasoningItem(content="Thinking."))
    log.log(AssistantMessage("Said."))
    log.log(ToolCall("do", {}, "c1"))
    messages = now(tmp_path / "run")["messages"]
    assert [[block["type"] for block in message["blocks"]] for message in messages] == [
        ["text"],
        ["reasoning", "text", "tool_call"],
    ]


def test_secrets_are_cut_out_and_tokens_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", SECRET)
    run = tmp_path / "run"
    with Recorder(run, redact=["MY_TOKEN"], redact_patterns=[r"\d{3}-\d{4}"]) as recorder:
        log = recorder.create(metadata={"note": f"with {SECRET}"})
        log.log(UserMessage(f"Use {SECRET}, call 555-1234."))
        answer = {
            "choices": [
                {
                    "message": {"role": "assistant", "content": f"I use {SECRET}."},
                    "finish_reason": "stop",
                    "logprobs": {"content": [{"token": SECRET, "logprob": -0.5, "bytes": None, "top_logprobs": []}]},
                    "token_ids": [1, 2, 3],
                }
            ],
            "model": "m",
        }
        log.log_openai_completions(answer)
        (path,) = running_files(LocalFolder(run))
        data = path.read_text()
        log.close()
    assert SECRET not in data
    assert "555-1234" not in data
    assert "[redacted MY_TOKEN]" in data
    assert "token_ids" not in data
    assert "logprobs" not in data
    assert SECRET not in next((run / "rollouts").iterdir()).read_text()


def test_images_are_moved_out(recorder: Recorder, tmp_path: Path) -> None:
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * 100).decode()
    log = recorder.create()
    log.log(UserMessage([TextBlock("See:"), ImageBlock(data=data, mime_type="image/png")]))
    block = now(tmp_path / "run")["messages"][0]["blocks"][1]
    assert "data" not in block
    assert (tmp_path / "run" / "images" / f"{block['sha256']}.png").exists()
    log.close()
    assert RolloutStore(tmp_path / "run")[0].messages[0].blocks[1].sha256 == block["sha256"]  # type: ignore[union-attr]


def test_a_rollout_without_messages_leaves_nothing(recorder: Recorder, tmp_path: Path) -> None:
    recorder.create().close()
    assert os.listdir(tmp_path / "run") == []


def test_recording_goes_on_where_the_file_cannot_be_written(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / "running").write_text("a file in the way")
    log = recorder.create()
    log.log(UserMessage("Go."))
    log.log(AssistantMessage("Done."), is_finished=True)
    assert len(RolloutStore(tmp_path / "run")) == 1


CRASH = """
import os, sys
from openreward_gym import Recorder, UserMessage
recorder = Recorder(sys.argv[1])
recorder.create(rollout_name="lost").log(UserMessage("Anybody there?"))
os._exit(1)
"""


def test_a_process_that_died_leaves_its_file_which_is_known_as_abandoned(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert subprocess.run([sys.executable, "-c", CRASH, str(run)], stderr=subprocess.DEVNULL).returncode == 1
    (path,) = running_files(LocalFolder(run))
    with path.open("a") as torn:
        torn.write('{"number": 1, "mess')
    file = RunningFile(path)
    file.refresh()
    assert not file.is_written
    assert texts(file.record()) == ["Anybody there?"]
    assert not LocalFolder(run).is_run(), "it is no rollout of the run"
    assert remove_abandoned(run) == 1
    assert not (run / "running").exists()


def test_files_of_living_recorders_are_not_removed(recorder: Recorder, tmp_path: Path) -> None:
    log = recorder.create()
    log.log(UserMessage("Go."))
    assert remove_abandoned(tmp_path / "run") == 0
    assert texts(now(tmp_path / "run")) == ["Go."]
    log.close()


def test_a_reader_reads_only_what_is_new(recorder: Recorder, tmp_path: Path) -> None:
    log = recorder.create()
    log.log(UserMessage("One."))
    (path,) = running_files(LocalFolder(tmp_path / "run"))
    file = RunningFile(path)
    assert file.refresh()
    assert not file.refresh()
    log.log(AssistantMessage("Two."))
    assert file.refresh()
    assert texts(file.record()) == ["One.", "Two."]
    log.close()
    with pytest.raises(FileNotFoundError):
        file.refresh()
