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
OWN = {
    "run",
    "model",
    "sampling",
    "metadata",
    "metrics",
    "timing",
    "usage",
    "cost_usd",
    "started_at",
    "ended_at",
    "labels",
    "extra",
}


class Evaluation:
    """The log of an evaluation, and the run that was recorded beside it."""

    def __init__(self, folder: Path, tools: Mapping[str, Any]) -> None:
        from inspect_ai.log import read_eval_log

        self.folder, self.tools = folder, tools
        self.log = read_eval_log(str(next((folder / "logs").glob("*.eval"))), resolve_attachments=True)
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


def test_the_logs_import_back_equal_to_the_records(evaluations: dict[str, Evaluation]) -> None:
    # An empty answer is in the log alone, and of a session that was never opened there is no record.
    for name in evaluations.keys() - {"empty", "broken"}:
        pairs = evaluations[name].rollouts()
        assert len(pairs) == len(evaluations[name].samples)
        for recorded, logged in pairs:
            for field in fields(Rollout):
                if field.name not in OWN | {"messages"}:
                    assert getattr(recorded, field.name) == getattr(logged, field.name), (name, field.name)
            assert list(map(without_times, recorded.messages)) == list(map(without_times, logged.messages)), name
            ends = [[m.ended_at for m in rollout.messages if m.role == "tool"] for rollout in (recorded, logged)]
            assert ends[0] == ends[1], name


def test_several_calls_images_and_wrong_calls(evaluations: dict[str, Evaluation]) -> None:
    plain = evaluations["plain"]
    sample = plain.samples["test-1", 1]
    assert sample.scores is not None
    assert (sample.scores["reward"].value, sample.scores["reward"].explanation) == (1.5, "the episode ended: finished")
    roles = [message.role for message in sample.messages]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "tool", "assistant", "tool", "tool"]
    assert sample.messages[2].text == "hé"
    part = sample.messages[3].content[1]
    assert part.type == "image"
    assert part.image == f"data:image/png;base64,{PIXEL}"
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
        assert math.isnan(score.value)
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
    assert math.isnan((bad.scores or {})["reward"].value)
    assert (failing.score.metrics["mean"].value, failing.score.unscored_samples) == (1.0, 1)
    failed = [rollout for rollout in RolloutStore(failing.folder / "run") if rollout.status == "error"]
    assert [(rollout.stop_reason, rollout.reward) for rollout in failed] == [("tool_failed", None)] * 2


@pytest.mark.parametrize("name", ["model_fails", "empty"])
def test_a_model_that_does_not_answer_is_an_error_and_never_a_score(evaluations: dict[str, Evaluation], name: str) -> None:
    for sample in evaluations[name].samples.values():
        assert sample.error is not None
        assert not sample.scores or math.isnan(sample.scores["reward"].value)
    for rollout in RolloutStore(evaluations[name].folder / "run"):
        assert (rollout.status, rollout.stop_reason) == ("truncated", "policy_unavailable")


def test_a_session_that_cannot_be_opened_is_an_error_and_a_recorded_failure(evaluations: dict[str, Evaluation]) -> None:
    broken = evaluations["broken"]
    for sample in broken.samples.values():
        assert sample.error is not None
        assert "no disk left" in sample.error.message
        assert not sample.scores
    failures = list(RolloutStore(broken.folder / "run").failures())
    assert {(failure.task, failure.stage) for failure in failures} == {("test-0", "open"), ("test-1", "open")}
    logged = [rollout for rollout in read("inspect", broken.folder / "logs") if isinstance(rollout, Rollout)]
    assert {(rollout.environment.name, rollout.environment.split, rollout.task.index) for rollout in logged} == {
        ("broken", "test", 0),
        ("broken", "test", 1),
    }
    assert {(rollout.status, rollout.reward) for rollout in logged} == {("error", None)}


# A model of the tests, which says what is in its script, and a task with Inspect's mock model.
MODEL = """
import asyncio, json, os, pathlib, re
from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelAPI, ModelOutput, ModelUsage, modelapi
from inspect_ai.tool import ToolCall

def said(text, *calls):
    message = ChatMessageAssistant(content=text, tool_calls=list(calls) or None, model="mock", source="generate")
    choice = ChatCompletionChoice(message=message, stop_reason="tool_calls" if calls else "stop")
    usage = ModelUsage(input_tokens=7, output_tokens=3, total_tokens=10)
    return ModelOutput(model="mock", choices=[choice], usage=usage)

def weather(messages, tools, choice, config):
    city = re.search(r"in ([A-Z]\\w+(?: [A-Z]\\w+)?)", messages[1].text).group(1)
    if messages[-1].role == "user":
        return said("", ToolCall("c", "get_weather", {"city": city}))
    return said(json.loads(messages[-1].text)["weather_description"])

class Scripted(ModelAPI):
    async def generate(self, input, tools, tool_choice, config):
        if self.model_name == "weather":
            return weather(input, tools, tool_choice, config)
        if input[-1].role == "user":
            return said("", ToolCall("c", "echo", {"text": "x"}))
        pathlib.Path("waiting").touch()
        while not pathlib.Path("go").exists():
            await asyncio.sleep(0.01)
        return said("", ToolCall("d", "finish", {"text": "right"}))

@modelapi(name="scripted")
def scripted():
    return Scripted
"""
MOCKED = """
from inspect_ai import Task, task, task_with
from inspect_ai.model import get_model
import inspect_task
from scripted import weather as answers

@task
def mocked(base_url: str, output: str) -> Task:
    return task_with(inspect_task.weather(base_url, output), model=get_model("mockllm/model", custom_outputs=answers))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the example, the model, and the entry points that the installed package has."""
    (tmp_path / "scripted.py").write_text(MODEL, encoding="utf-8")
    (tmp_path / "mocked.py").write_text(MOCKED, encoding="utf-8")
    (tmp_path / "inspect_task.py").write_text((HERE.parents[1] / "examples/inspect_task.py").read_text(encoding="utf-8"))
    metadata = tmp_path / "entry_points_of_tests-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: entry-points-of-tests\nVersion: 0\n", encoding="utf-8")
    points = "[inspect_ai]\nopenreward_gym = openreward_gym.integrations.inspect.tasks\nscripted = scripted\n"
    (metadata / "entry_points.txt").write_text(points, encoding="utf-8")
    return tmp_path


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start the command `inspect` in a folder."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = {**os.environ, "PYTHONPATH": path, "INSPECT_DISPLAY": "plain", "INSPECT_LOG_DIR": "logs"}
    return subprocess.Popen(
        [COMMAND, *words], cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def evaluate(folder: Path, *words: str) -> Any:
    """Run the command `inspect` to its end, and return its newest log."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    process = started(folder, *words)
    printed, _ = process.communicate(timeout=100)
    assert process.returncode == 0, printed[-3000:]
    return read_eval_log(list_eval_logs(str(folder / "logs"))[0])


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    while not file.exists():
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.02)


@pytest.mark.matrix
@pytest.mark.timeout(200)
def test_the_command_evaluates_the_example_with_the_mock_model(folder: Path, examples: str) -> None:
    words = ("--model", "mockllm/model", "-T", f"base_url={examples}", "-T", "output=run", "--epochs", "2")
    log = evaluate(folder, "eval", "mocked.py", *words)
    assert (log.status, log.results.completed_samples) == ("success", 8)
    assert log.results.scores[0].metrics["mean"].value == 1.0
    recorded = {rollout.id: rollout for rollout in RolloutStore(folder / "run")}
    logged = [rollout for rollout in read("inspect", folder / "logs") if isinstance(rollout, Rollout)]
    assert len(recorded) == len(logged) == 8
    for rollout in logged:
        twin = recorded[rollout.id]
        assert (rollout.reward, rollout.tools, rollout.task, rollout.group) == (1.0, twin.tools, twin.task, twin.group)
        assert list(map(without_times, rollout.messages)) == list(map(without_times, twin.messages))


@pytest.mark.matrix
@pytest.mark.timeout(200)
def test_the_command_needs_no_file(folder: Path, examples: str) -> None:
    task = ("openreward_gym/openreward", "-T", "environment=weather", "-T", f"base_url={examples}", "-T", "split=train")
    log = evaluate(folder, "eval", *task, "-T", "max_steps=8", "--model", "scripted/weather", "--sample-id", "train-3")
    assert (log.status, log.eval.task, [sample.id for sample in log.samples]) == ("success", "weather", ["train-3"])
    assert log.samples[0].scores["reward"].value == 1.0
    assert log.eval.task_args == {"environment": "weather", "base_url": examples, "split": "train", "max_steps": 8}


@pytest.mark.matrix
@pytest.mark.timeout(200)
def test_the_command_prints_a_wrong_option_without_a_traceback(folder: Path) -> None:
    task = ("openreward_gym/openreward", "-T", "environment=weather", "-T", "max_step=8", "--model", "scripted/weather")
    process = started(folder, "eval", *task)
    printed, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "Did you mean 'max_steps'?" in printed
    assert "Traceback" not in printed


def echo(url: str) -> tuple[str, ...]:
    task = ("openreward_gym/openreward", "-T", "environment=echo", "-T", f"base_url={url}", "-T", "output=run")
    return ("eval", *task, "--model", "scripted/waits", "--limit", "1")


@pytest.mark.matrix
@pytest.mark.timeout(200)
def test_a_server_that_dies_is_an_error_of_the_sample_which_can_be_retried(folder: Path) -> None:
    with Restarted() as server:
        process = started(folder, *echo(server.url), "--no-fail-on-error")
        wait_for(folder / "waiting", process)
        server.kill()
        (folder / "go").touch()
        printed, _ = process.communicate(timeout=100)
        assert process.returncode == 0, printed[-3000:]
        (failed,) = read("inspect", folder / "logs")
        assert isinstance(failed, Rollout)
        assert (failed.status, failed.reward, failed.stop_reason) == ("error", 0.5, "session_lost")
        server.start()
        (log,) = (folder / "logs").glob("*.eval")
        again = evaluate(folder, "eval-retry", str(log))
        assert [sample.scores["reward"].value for sample in again.samples] == [1.5]
    assert sorted((r.status, r.reward) for r in RolloutStore(folder / "run")) == [("completed", 1.5), ("error", 0.5)]


@pytest.mark.matrix
@pytest.mark.timeout(200)
def test_ctrl_c_closes_the_session_and_records_the_episode(folder: Path, server_url: str) -> None:
    process = started(folder, *echo(server_url))
    wait_for(folder / "waiting", process)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=100)
    with urllib.request.urlopen(f"{server_url}/health/sessions") as answer:
        assert json.load(answer) == {"sessions": 0}, printed[-3000:]
    (rollout,) = RolloutStore(folder / "run")
    assert (rollout.status, rollout.stop_reason, len(rollout.messages)) == ("cancelled", "cancelled", 3)


def test_a_split_that_does_not_exist_is_refused_before_the_evaluation(server_url: str) -> None:
    from openreward_gym.integrations import inspect

    with pytest.raises(SplitNotFoundError):
        inspect.task("echo", base_url=server_url, split="nowhere")


def test_without_inspect_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from openreward_gym.integrations import inspect

    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    with pytest.raises(MissingExtraError, match=r"openreward-gym\[inspect\]"):
        inspect.scorer()
