"""The ids of tasks: equal for equal tasks, and none for tasks of which nothing is known."""

from __future__ import annotations

from pathlib import Path

from openreward_gym import Recorder, RolloutStore
from openreward_gym.reports import summarize
from openreward_gym.types import AssistantMessage, UserMessage, task_id


def test_tasks_of_which_nothing_is_known_have_no_id() -> None:
    assert task_id("garden", "train") == ""
    assert task_id("garden", "train", {}) == task_id("garden", "test", {}) != ""
    assert task_id("garden", "train", index=0) != task_id("garden", "test", index=0)


def test_recorded_rollouts_without_a_task_are_not_attempts_at_one(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run")
    for question, reward in (("How deep?", 1.0), ("How wide?", 0.0)):
        log = recorder.create(environment="garden", split="train")
        log.log(UserMessage(question))
        log.log(AssistantMessage("9 m"), reward=reward, is_finished=True)
    recorder.close()
    summary = summarize(RolloutStore(tmp_path / "run"))
    assert len(summary.tasks) == 2
    assert summary.pass_at_k[1] == 0.5
