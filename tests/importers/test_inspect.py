"""Logs of Inspect: attachments, model events, the metadata of inspect-openreward, and the identity of tasks."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openreward_gym.importers import inspect_logs, read
from openreward_gym.store import RolloutStore
from openreward_gym.types import ImageBlock, Rollout

GIF = base64.b64encode(b"GIF89a" + bytes(range(200))).decode()

# Inspect's own library writes the log; in a process of its own, as it warns as it likes.
SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSampleLimit, EvalSpec, write_eval_log
from inspect_ai.model import (ChatCompletionChoice, ChatMessageAssistant, ChatMessageTool, ChatMessageUser, ContentDocument,
                              ContentImage, ContentText, GenerateConfig, ModelOutput, ModelUsage)
from inspect_ai.scorer import Score
from inspect_ai.tool import ToolCall, ToolInfo, ToolParams
folder, gif = sys.argv[1:]
url = "data:image/gif;base64," + gif
note = "a long note, " * 40
asked = ChatMessageUser(content=[ContentText(text=note), ContentImage(image=url, detail="low")], source="input")
call = ToolCall(id="c", function="zoom", arguments={"by": 2, "at": None})
first = ChatMessageAssistant(id="a1", content="I zoom.", model="m", source="generate", tool_calls=[call])
shown = ChatMessageTool(content=[ContentImage(image=url), ContentDocument(document="data:text/plain;base64,SGk=")],
                        tool_call_id="c", function="zoom")
last = ChatMessageAssistant(id="a2", content="A frog", model="m", source="generate")
tools = [ToolInfo(name="zoom", description="Zoom in.", parameters=ToolParams(properties={"by": {"type": "integer"}}))]
def event(message, stop, tokens):
    usage = ModelUsage(input_tokens=tokens, output_tokens=2, total_tokens=tokens + 2, total_cost=0.5)
    output = ModelOutput(model="m-1", choices=[ChatCompletionChoice(message=message, stop_reason=stop)], usage=usage)
    return ModelEvent(model="m", input=[], tools=tools, tool_choice="auto", config=GenerateConfig(temperature=0.25),
                      output=output, working_time=1.5)
events = [event(first, "tool_calls", 5), event(last, "max_tokens", 9)]
samples = [
    EvalSample(id="s", epoch=epoch, input=[asked], target="frog", messages=[asked, first, shown, last], events=events,
               scores={"parts": Score(value={"colour": "C", "kind": float("nan")}), "match": Score(value="I")},
               limit=EvalSampleLimit(type="token", limit=11) if epoch == 2 else None)
    for epoch in (1, 2)
]
spec = EvalSpec(created="2026-01-01T00:00:00+00:00", task="frogs", dataset=EvalDataset(name="ponds", sample_ids=["s"]), model="m",
                config=EvalConfig())
for name in ("one.eval", "2026-01-01T00-00-00_frogs_x.json"):
    write_eval_log(EvalLog(eval=spec, samples=samples), folder + "/" + name)
"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs") / "nested"
    folder.mkdir()
    command = [sys.executable, "-c", SCRIPT, str(folder), GIF]
    done = subprocess.run(command, timeout=100, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder.parent


def test_a_log_of_either_format_is_read_with_its_attachments_and_events(logs: Path, tmp_path: Path) -> None:
    rollouts = list(read("inspect", logs))
    assert len(rollouts) == 4
    for rollout in rollouts:
        assert isinstance(rollout, Rollout)
        question, first, shown, last = rollout.messages
        assert question.text == "a long note, " * 40
        assert next(block for block in question.blocks if isinstance(block, ImageBlock)).data == GIF
        assert shown.blocks[0] == ImageBlock(GIF, "image/gif", extra=shown.blocks[0].extra)  # type: ignore[union-attr]
        assert shown.blocks[1].type == "document"
        assert "SGk=" in str(shown.blocks[1])
        assert first.tool_calls[0].arguments == {"by": 2, "at": None}
        assert (first.ended, last.ended, last.stop_reason) == ("tool_calls", "length", "max_tokens")
        assert first.usage is not None
        assert first.sampled is not None
        assert (first.usage.input_tokens, first.sampled.model, first.sampled.duration_s) == (5, "m-1", 1.5)
        assert first.sampled.cost_usd == 0.5
        assert [(tool.name, tool.description) for tool in rollout.tools or ()] == [("zoom", "Zoom in.")]
        assert rollout.sampling == {"temperature": 0.25}
        assert rollout.metrics == {"parts/colour": 1.0, "parts/kind": None, "match": 0.0}
        assert GIF not in str(rollout.task)
    with RolloutStore(tmp_path / "run") as store:
        store.append(rollouts[0])  # type: ignore[arg-type]
    assert [file.read_bytes() for file in (tmp_path / "run").glob("images/*")] == [base64.b64decode(GIF)]


def test_epochs_are_samples_of_a_group_and_limits_truncate(logs: Path) -> None:
    first, second = (item for item in read("inspect", logs / "nested" / "one.eval") if isinstance(item, Rollout))
    assert first.group == second.group
    assert (first.sample, second.sample) == (1, 2)
    assert (first.status, first.stop_reason) == ("completed", "message")
    assert (second.status, second.stop_reason) == ("truncated", "token")


def rollout_of(sample: dict[str, Any], **evaluation: Any) -> Rollout:
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!", "source": "generate", "id": "a"}]
    return inspect_logs.rollout_of({"id": 1, "epoch": 1, "messages": messages, **sample}, {"eval": evaluation})


SPEC = {"port": "Hull"}
OLDER = {"or_server_name": "tides", "or_namespace": "acme", "or_environment_name": "deep", "or_task_spec": SPEC, "or_reward": 0.5}


def test_older_metadata_of_the_openreward_bridge() -> None:
    metadata = {**OLDER, "or_finished": False}
    arguments = {"environment": "acme/tides", "split": "test"}
    rollout = rollout_of({"id": "6", "input": "OpenReward task 6", "metadata": metadata}, task="openreward", task_args=arguments)
    environment = rollout.environment
    assert (environment.name, environment.variant, environment.split) == ("acme/tides", "deep", "test")
    assert (rollout.task.spec, rollout.task.index, rollout.reward) == (SPEC, 6, 0.5)
    assert (rollout.status, rollout.stop_reason, rollout.messages[-1].finished) == ("completed", "message", False)
    assert rollout_of({"metadata": {**OLDER, "or_finished": True}}).stop_reason == "finished"


def test_a_task_of_the_bridge_has_one_id_in_all_logs() -> None:
    task = {"server_name": "tides", "environment_name": "tides", "task_spec": SPEC, "namespace": "acme"}
    newer = [{"metadata": {"openreward_task": task, "openreward_split": "test"}, "id": f"test-{n}"} for n in (2, 3)]
    first, second = (rollout_of(sample, task="task", run_id=str(number)) for number, sample in enumerate(newer))
    assert first.group == second.group
    assert (first.environment.name, first.environment.variant, first.task.index) == ("acme/tides", None, 2)
    other = {**task, "server_name": "winds"}
    assert rollout_of({"metadata": {"openreward_task": other, "openreward_split": "test"}}).group != first.group


def test_the_dataset_s_name_tells_the_environment_where_a_sample_does_not() -> None:
    rollout = rollout_of({}, task="task", dataset={"name": "openreward:acme/tides:validation"})
    assert (rollout.environment.name, rollout.environment.split) == ("acme/tides", "validation")


@pytest.mark.parametrize(
    "facts",
    [
        [{"dataset": {"name": "a"}}, {"dataset": {"name": "b"}}],
        [{"task_file": "evals/a.py"}, {"task_file": "evals/b.py"}],
        [{"task_registry_name": "p/a"}, {"task_registry_name": "p/b"}],
        [{"task_args": {"environment": "a"}}, {"task_args": {"environment": "b"}}],
    ],
)
def test_samples_of_different_evaluations_without_a_name_are_not_a_group(facts: list[dict[str, Any]]) -> None:
    first, second = (rollout_of({"id": "train-0", "input": ""}, task="task", **fact) for fact in facts)
    again = rollout_of({"id": "train-0", "input": "", "epoch": 2}, task="task", **facts[0])
    assert first.group == again.group != second.group


def test_a_call_that_inspect_could_not_parse_is_malformed() -> None:
    call = {"id": "c", "function": "f", "arguments": {}, "parse_error": "no JSON: {"}
    answer = {"role": "assistant", "content": "", "source": "generate", "tool_calls": [call]}
    turn = rollout_of({"messages": [answer]}).messages[0]
    assert (turn.ended, turn.tool_calls[0].extra) == ("malformed", {"inspect": {"parse_error": "no JSON: {"}})


def test_an_output_that_is_no_answer_of_the_messages_is_not_taken_for_one() -> None:
    output: dict[str, Any] = {"choices": [{"message": {"id": "other"}, "stop_reason": "max_tokens"}]}
    assert rollout_of({"output": output}).messages[-1].ended is None
    output["choices"][0]["message"]["id"] = "a"
    assert rollout_of({"output": output}).messages[-1].ended == "length"


def test_an_invalidated_sample_says_so() -> None:
    assert rollout_of({"invalidation": {"reason": "wrong key"}}).discard_reason == "invalidated: wrong key"
