"""Tasks of Inspect: the environments of the tests are evaluated, and the log is compared with our own record of the episodes."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from environments import PIXEL
from launch import Restarted

from openreward_gym.errors import MissingExtraError, SplitNotFoundError
from openreward_gym.importers import read
from openreward_gym.integrations import Episode
from openreward_gym.store import RolloutStore
from openreward_gym.types import ImageBlock, Message, Rollout

HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).with_name("inspect"))
# Of these the log and our record have each their own.
OWN = {"run", "model", "sampling", "metadata", "metrics", "timing", "usage", "cost_usd", "started_at", "ended_at", "labels", "extra"}


class Evaluation:
    """The log of an evaluation, and the run that was recorded beside it."""

    def __init__(self, folder: Path, tools: Mapping[str, Any]) -> None:
        from inspect_ai.log import read_eval_log

        self.folder, self.tools = folder, tools
        self.log = read_eval_log(str(next((folder / "logs").glob("*.eval"))))
        self.samples = {(str(sample.id), sample.epoch): sample for sample in self.log.samples or ()}

    @property
    def score(self) -> Any:
        assert self.log.results is not None
        return self.log.results.scores[0]

    def rollouts(self) -> list[tuple[Rollout, Rollout]]:
        """Return the recorded rollouts, each with that of the log."""
        imported = self.folder / "imported"
        if not imported.exists():
            with RolloutStore(imported) as store:
                for rollout in read("inspect", self.folder / "logs"):
                    assert isinstance(rollout, Rollout), rollout
                    store.append(rollout)
        logged = {rollout.id: rollout for rollout in RolloutStore(imported)}
        return [(rollout, logged[rollout.id]) for rollout in RolloutStore(self.folder / "run") if rollout.id in logged]


@pytest.fixture(scope="module")
def evaluations(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Evaluation]:
    folder = tmp_path_factory.mktemp("evaluations")
    command = [sys.executable, str(HERE / "inspect_evaluations.py"), server_url, str(folder)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr[-3000:]
    tools = json.loads(ran.stdout.splitlines()[-1])
    return {name: Evaluation(folder / name, shown) for name, shown in tools.items()}


def without_times(message: Message) -> Message:
    sampled = message.sampled
    if sampled is not None:
        sampled = type(sampled)(**{**vars(sampled), "duration_s": None})
    return message.replace(started_at=None, ended_at=None, sampled=sampled)


@pytest.mark.parametrize(
    "name",
    ["plain", "terminal", "cut_off", "filtered", "overflow", "unrewarded", "message_limit", "token_limit", "time_limit", "max_steps"]
    + ["tool_fails", "model_fails"],
)
def test_the_log_imports_back_equal_to_the_record(evaluations: dict[str, Evaluation], name: str) -> None:
    pairs = evaluations[name].rollouts()
    assert len(pairs) == len(evaluations[name].samples)
    for recorded, logged in pairs:
        for field in fields(Rollout):
            if field.name not in OWN | {"messages"}:
                assert getattr(recorded, field.name) == getattr(logged, field.name), field.name
        assert list(map(without_times, recorded.messages)) == list(map(without_times, logged.messages))
        assert [m.ended_at for m in recorded.messages if m.role == "tool"] == [m.ended_at for m in logged.messages if m.role == "tool"]


def test_several_calls_images_and_wrong_calls(evaluations: dict[str, Evaluation]) -> None:
    plain = evaluations["plain"]
    sample = plain.samples["test-1", 1]
    assert sample.scores is not None
    assert (sample.scores["reward"].value, sample.scores["reward"].explanation) == (1.5, "the episode ended: finished")
    roles = [message.role for message in sample.messages]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "tool", "assistant", "tool", "tool"]
    assert sample.messages[2].text == "hé"
    part = sample.messages[3].content[1]
    assert part.type == "image"  # type: ignore[union-attr]
    assert part.image == f"data:image/png;base64,{PIXEL}"  # type: ignore[union-attr]
    assert "not a JSON object" in sample.messages[5].text
    recorded, _ = plain.rollouts()[0]
    origins = [message.origin for message in recorded.messages]
    assert origins[:4] == ["given", "policy", "environment", "environment"]
    assert (origins[5], origins[-1]) == ("client", "client")
    assert (recorded.messages[4].ended, recorded.messages[4].tool_calls[0].content) == ("malformed", '{"text": ')
    assert any(isinstance(block, ImageBlock) for block in recorded.messages[3].blocks)


def test_the_model_is_given_the_environment_s_own_schemas(evaluations: dict[str, Evaluation], server_url: str) -> None:
    async def schemas(environment: str, task: int) -> dict[str, Any]:
        episode = Episode(environment, base_url=server_url, split="test")
        await episode.begin(task)
        await episode.aclose()
        return {tool.name: tool.input_schema or {"type": "object", "properties": {}} for tool in episode.tool_set}

    assert evaluations["plain"].tools == asyncio.run(schemas("echo", 0))
    both = {**asyncio.run(schemas("dialogue", 0)), **asyncio.run(schemas("dialogue", 1))}
    assert evaluations["terminal"].tools == both
    assert {"only_in_0", "only_in_1"} < both.keys()


def test_epochs_are_the_samples_of_a_group(evaluations: dict[str, Evaluation]) -> None:
    recorded = [rollout for rollout, _ in evaluations["plain"].rollouts()]
    assert sorted((rollout.group, rollout.sample, rollout.task.index) for rollout in recorded) == [
        ("test-0", 0, 0),
        ("test-0", 1, 0),
        ("test-1", 0, 1),
        ("test-1", 1, 1),
    ]


def test_a_plain_message_goes_to_the_terminal_tool(evaluations: dict[str, Evaluation]) -> None:
    samples = evaluations["terminal"].samples
    assert {key[0]: (sample.scores or {})["reward"].value for key, sample in samples.items()} == {"test-0": 1.0, "test-1": 0.0}
    assert samples["test-0", 1].messages[0].role == "system"
    assert samples["test-0", 1].messages[-1].text == "thanks"


@pytest.mark.parametrize(
    ("name", "limit", "reward", "stop_reason"),
    [
        ("message_limit", "message", 1.5, "message_limit"),
        ("token_limit", "token", 1.0, "token_limit"),
        ("time_limit", "time", 0.5, "time_limit"),
        ("max_steps", None, 1.0, "max_steps"),
        ("overflow", None, 0.5, "context_overflow"),
    ],
)
def test_limits_truncate_the_episode_which_keeps_its_reward(
    evaluations: dict[str, Evaluation], name: str, limit: str | None, reward: float, stop_reason: str
) -> None:
    for sample in evaluations[name].samples.values():
        assert sample.error is None
        assert (sample.limit.type if sample.limit else None) == limit
        assert (sample.scores or {})["reward"].value == reward
    for recorded, _ in evaluations[name].rollouts():
        assert (recorded.status, recorded.stop_reason, recorded.reward) == ("truncated", stop_reason, reward)


def test_a_message_that_was_cut_off_runs_nothing(evaluations: dict[str, Evaluation]) -> None:
    recorded, _ = evaluations["cut_off"].rollouts()[0]
    assert [message.ended for message in recorded.messages if message.origin == "policy"] == ["length", "length", "tool_calls"]
    assert [message.origin for message in recorded.messages] == ["given", *["policy", "client"] * 2, "policy", "environment"]
    assert recorded.reward == 1.0


def test_a_filtered_answer_is_not_scored(evaluations: dict[str, Evaluation]) -> None:
    filtered = evaluations["filtered"]
    assert filtered.score.unscored_samples == 2
    for sample in filtered.samples.values():
        score = (sample.scores or {})["reward"]
        assert math.isnan(score.value)  # type: ignore[arg-type]
        assert score.explanation == "not scored: content_filter"


def test_no_reward_counts_as_0_and_stays_none_in_the_record(evaluations: dict[str, Evaluation]) -> None:
    unrewarded = evaluations["unrewarded"]
    assert unrewarded.score.metrics["mean"].value == 0.0
    for recorded, logged in unrewarded.rollouts():
        assert recorded.reward is logged.reward is None
        assert (recorded.status, recorded.stop_reason) == ("completed", "message")


def test_an_episode_that_fails_is_an_error_of_its_sample_alone(evaluations: dict[str, Evaluation]) -> None:
    failing = evaluations["tool_fails"]
    good, bad = failing.samples["test-0", 1], failing.samples["test-1", 1]
    assert good.error is None
    assert bad.error is not None
    assert "SessionLostError" in bad.error.message
    assert "tool_failed" in bad.error.message
    assert len(bad.error_retries or []) == 1
    assert math.isnan((bad.scores or {})["reward"].value)  # type: ignore[arg-type]
    assert (failing.score.metrics["mean"].value, failing.score.unscored_samples) == (1.0, 1)
    failed = [rollout for rollout in RolloutStore(failing.folder / "run") if rollout.status == "error"]
    assert [(rollout.stop_reason, rollout.reward) for rollout in failed] == [("tool_failed", None)] * 2


@pytest.mark.parametrize("name", ["model_fails", "empty"])
def test_a_model_that_does_not_answer_is_an_error_and_never_a_score(evaluations: dict[str, Evaluation], name: str) -> None:
    for sample in evaluations[name].samples.values():
        assert sample.error is not None
        assert not sample.scores or math.isnan(sample.scores["reward"].value)  # type: ignore[arg-type]
    for rollout in RolloutStore(evaluations[name].folder / "run"):
        assert (rollout.status, rollout.stop_reason) == ("truncated", "policy_unavailable")


def test_a_session_that_cannot_be_opened_is_an_error_and_a_recorded_failure(evaluations: dict[str, Evaluation]) -> None:
    broken = evaluations["broken"]
    for sample in broken.samples.values():
        assert sample.error is not None
        assert "no disk left" in sample.error.message
        assert not sample.scores
    failures = RolloutStore(broken.folder / "run").failures
    assert {(failure.task, failure.stage) for failure in failures} == {("test-0", "open"), ("test-1", "open")}
    logged = [rollout for rollout in read("inspect", broken.folder / "logs") if isinstance(rollout, Rollout)]
    assert {(rollout.environment.name, rollout.environment.split, rollout.task.index) for rollout in logged} == {
        ("broken", "test", 0),
        ("broken", "test", 1),
    }
    assert {(rollout.status, rollout.reward) for rollout in logged} == {("error", None)}


def test_a_split_that_does_not_exist_is_refused_before_the_evaluation(server_url: str) -> None:
    from openreward_gym.integrations import inspect

    with pytest.raises(SplitNotFoundError):
        inspect.task("echo", base_url=server_url, split="nowhere")


def test_without_inspect_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from openreward_gym.integrations import inspect

    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    with pytest.raises(MissingExtraError, match=r"openreward-gym\[inspect\]"):
        inspect.scorer()
