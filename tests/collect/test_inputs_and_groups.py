"""Inputs of a collection (files of tasks, rows of NeMo Gym), estimates, and comparisons of groups."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import rollout_strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from openreward.environments import types as wire

from openreward_gym import collect
from openreward_gym.collect import RetryBudget, StopSignal, estimate, progress
from openreward_gym.collect.groups import GroupComparer, advantages_of, candidate_messages, compared
from openreward_gym.collect.inventory import Inventory, TaskChoice, match_rows, read_tasks
from openreward_gym.collect.progress import Reporter
from openreward_gym.collect.silence import ServerState
from openreward_gym.errors import ConfigurationError, ServerError, ServerUnreachableError
from openreward_gym.options import RetryKind
from openreward_gym.protocol.wire import GroupCandidate, encode_group, encode_messages, unsupported_blocks
from openreward_gym.retrying import note_retry
from openreward_gym.store.records import read_groups
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolSet,
)

SYSTEM = {"role": "developer", "content": "You are a helpful personal assistant."}


def row(question: str) -> dict[str, Any]:
    return {"responses_create_params": {"input": [SYSTEM, {"role": "user", "content": question}], "tools": []}}


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def tells_the_weather(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
    if len(transcript) <= 2:
        cities = ("Seattle", "Boston", "Chicago", "New York", "San Francisco")
        city = next(city for city in cities if city in transcript[-1].text)
        return AssistantMessage(tool_calls=[ToolCall("get_weather", {"city": city}, "c")])
    return AssistantMessage(transcript[-1].text)


def test_nemo_gyms_five_queries(examples: str, tmp_path: Path) -> None:
    questions = (
        "What's the weather like in Seattle?",
        "I'm going out in Boston tonight",
        "Should I bring an umbrella in Chicago?",
        "How's the weather in New York?",
        "What should I wear in San Francisco today?",
    )
    path = jsonl(tmp_path / "weather_queries.jsonl", *(row(question) for question in questions))
    result = collect("weather", tells_the_weather, base_url=examples, input=path, output=tmp_path / "run", progress=False)
    assert result.coverage.successful == 5
    assert result.metrics.mean_reward == 1.0
    assert sorted(rollout.task.index or 0 for rollout in result.store) == [0, 1, 2, 3, 4]


def test_a_file_of_tasks(examples: str, tmp_path: Path) -> None:
    spec = {"city": "Boston", "question": "How is Boston?"}
    path = jsonl(tmp_path / "tasks.jsonl", {"task_index": 2}, {"task_spec": spec}, spec, {"task_index": 0, "split": "test"})
    assert read_tasks(path, "train") == [
        TaskChoice("train", 2),
        TaskChoice("train", None, spec),
        TaskChoice("train", None, spec),
        TaskChoice("test", 0),
    ]
    result = collect(
        "weather", "random", base_url=examples, input=path, output=tmp_path / "run", repeats=2, max_steps=1, progress=False
    )
    assert result.coverage.successful == 8
    assert {rollout.environment.split for rollout in result.store} == {"train", "test"}
    assert len({rollout.group for rollout in result.store}) == 4
    # A run's own inventory is a file of tasks, too: one of each of its units.
    assert len(read_tasks(tmp_path / "run" / "tasks.jsonl", "train")) == 8


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"task_index": -1}', '{"task_index": "1"}', '{"task_spec": 3}', '{"task_index": 1, "split": 2}']
)
def test_lines_that_are_not_tasks(tmp_path: Path, line: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"task_index": 1}\n\n' + line)
    with pytest.raises(ConfigurationError, match="line 3"):
        read_tasks(path, "train")


def test_a_file_with_a_task_that_does_not_exist(server_url: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "tasks.jsonl", {"task_index": 77})
    with pytest.raises(ConfigurationError, match="task 77"):
        collect("echo", "random", base_url=server_url, input=path, progress=False)


def test_a_row_without_a_matching_task_is_a_new_task() -> None:
    rows = [{**row("Who?"), "agent_ref": {"name": "x"}, "expected": 4}, row("  What? ")]
    choices = match_rows(rows, "train", [{"q": "What?"}, {"q": 5}, None])
    assert choices == [TaskChoice("train", None, {"question": "Who?", "expected": 4}), TaskChoice("train", 0)]


@pytest.mark.parametrize(
    ("params", "question"),
    [
        ({"input": " Who? "}, "Who?"),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "Who?"}]},
                    {"role": "assistant", "content": "I."},
                ]
            },
            "Who?",
        ),
        ({"input": [SYSTEM], "instructions": "Be kind."}, ""),
        ({}, ""),
        (None, ""),
        ({"input": [7]}, ""),
    ],
)
def test_the_question_of_a_row(params: Any, question: str) -> None:
    choices = match_rows([{"responses_create_params": params, "answer": 4}], "train", [])
    assert choices == [TaskChoice("train", None, {"question": question, "answer": 4})]


def test_an_estimate_plays_nothing(server_url: str, tmp_path: Path) -> None:
    output, script = tmp_path / "run", tmp_path / "script.jsonl"
    script.write_text(json.dumps({"steps": [{"name": "echo", "arguments": {"text": "hi"}}]}))
    policy = f"scripted:{script}"
    before = estimate("echo", policy, base_url=server_url, repeats=2, output=output)
    assert (before.to_play, before.seconds) == (10, None)
    assert not output.exists()
    collect("echo", policy, base_url=server_url, repeats=2, output=output, max_steps=1, limit=2, progress=False)
    after = estimate("echo", policy, base_url=server_url, repeats=2, output=output, max_steps=1)
    assert (after.to_play, after.coverage.successful) == (6, 4)
    assert after.seconds is not None
    assert "6 of 10 rollouts would be played, 4 exist already" in after.to_text()


# Groups -----------------------------------------------------------------------------------------------------------------


class Says:
    """Answer with as many letters as the sample's number, or with a fixed text."""

    name = "says"

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def begin(self, task: Task, sample: int, seed: int) -> Any:
        async def play(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
            return AssistantMessage(self.texts[sample])

        return play


def test_the_environment_compares_a_complete_group(server_url: str, tmp_path: Path) -> None:
    result = collect(
        "dialogue",
        Says("a", "bbb"),
        base_url=server_url,
        output=tmp_path / "run",
        repeats=2,
        score_groups=True,
        advantages="leave_one_out",
        progress=False,
    )
    assert result.coverage.complete
    groups = list(read_groups(tmp_path / "run"))
    assert len(groups) == 5
    for group in groups:
        assert group.scores is not None
        assert group.scores[1] - group.scores[0] == 2.0
        assert group.advantages == [-2.0, 2.0]
        assert group.discard_reason is None
        assert [result.store.get(identity).sample for identity in group.rollouts] == [0, 1]
        assert group.rewards == [0.0, 0.0]


def test_a_group_that_cannot_be_compared_is_compared_later(server_url: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"base_url": server_url, "output": tmp_path / "run", "repeats": 2, "tasks": "0"}
    arguments |= {"score_groups": True, "progress": False}
    result = collect("dialogue", Says("a", "refuse"), **arguments)
    # The rollouts are there all the same.
    assert result.coverage.complete
    (failure,) = result.store.failures()
    assert (failure.kind, "no judge today" in failure.message) == ("score_group_failed", True)
    assert not list(read_groups(tmp_path / "run"))
    collect("dialogue", Says("a", "b"), resume=True, **arguments)
    assert len(list(result.store.failures())) == 2


STANDARD = ("text", "image", "reasoning", "tool_call", "tool_result")


@given(
    st.lists(rollout_strategies.messages, max_size=4),
    st.none() | st.lists(st.sampled_from(STANDARD), unique=True).map(lambda types: ("text", *types)),
    st.none() | st.floats(),
)
@settings(max_examples=150)
def test_a_strict_server_takes_any_rollout_as_a_candidate(
    messages: list[Message], block_types: tuple[str, ...] | None, reward: float | None
) -> None:
    candidate = GroupCandidate(candidate_messages(messages, block_types), {"reward": reward})
    assert not unsupported_blocks([candidate], ToolSet(message_block_types=block_types))
    body = json.loads(encode_group([candidate]), parse_constant=pytest.fail)
    parsed = wire.ScoreGroup.model_validate(body).candidates[0]
    assert len(parsed.messages) >= len(messages)
    used = {block.type for message in parsed.messages for block in message.blocks}
    assert used <= {"text", *(block_types or ("text", "image"))}


def test_what_a_record_keeps_is_no_field_of_the_wire() -> None:
    reserved = {"type": "x", "role": "system", "content": 1, "is_error": True, "blocks": None, "tool_call_id": 3}
    provider = {"openai": {"id": "rs_1"}, **reserved}
    png = ImageBlock("AA==", "image/png", detail=[1], extra=reserved)
    messages = [
        Message("user", (TextBlock("q", reserved, reserved),), origin="given", metadata=reserved),
        AssistantMessage(
            [ReasoningItem("r", content_reference="ref", signature="s", extra=provider), TextBlock("a", "note", provider)],
            [ToolCall("look", None, "c", content='{"a": ', detail=reserved, extra=provider)],
            origin="policy",
            metadata=reserved,
            extra=reserved,
        ),
        ToolMessage([TextBlock("out"), png], "c", "look", True, metadata={"metadata": [1, None], "extra": reserved}, reward=-1.0),
        Message("user", (ToolResult("late", "d", extra=reserved), OpaqueBlock({"type": "text"}), TextBlock("on"))),
    ]
    raw = encode_messages(candidate_messages(messages, STANDARD))
    for message in raw:
        wire.Message.model_validate(message)
    assert [message["role"] for message in raw] == ["user", "assistant", "user", "user", "user"]
    assert [message["detail"] for message in raw] == [reserved, None, None, None, None]
    reasoning, text, call = raw[1]["blocks"]
    assert (reasoning["text"], reasoning["signature"], text["text"], text["detail"]) == ("r", "s", "a", None)
    assert call == {"type": "tool_call", "id": "c", "name": "look", "input": {}, "detail": reserved}
    (result,) = raw[2]["blocks"]
    assert (result["tool_call_id"], result["is_error"], result["detail"]) == ("c", True, None)
    assert [block["type"] for block in result["blocks"]] == ["text", "image"]
    assert raw[3]["blocks"][0]["blocks"] == [{"type": "text", "text": "late", "detail": None}]
    assert [block["text"] for block in raw[4]["blocks"]] == ['{"type":"text"}', "on"]


def test_candidates_for_an_environment_that_takes_few_types() -> None:
    image, video = ImageBlock("AA==", "image/png"), OpaqueBlock({"type": "video", "url": "v"})
    messages = [
        AssistantMessage([ReasoningItem("hidden"), TextBlock("a")], [ToolCall("look", {"n": 1}, "c")]),
        ToolMessage([TextBlock("seen"), image, video], "c", is_error=True),
    ]
    assistant, user = encode_messages(candidate_messages(messages, ("text", "video")))
    # Reasoning, as text, would be judged as the answer.
    assert [block["text"] for block in assistant["blocks"]] == ["a", '[tool_call look] {"n": 1}']
    assert [block.get("text", block) for block in user["blocks"]] == [
        "[tool_result (error)]",
        "seen",
        "[image image/png]",
        {"type": "video", "url": "v"},
    ]
    assert encode_messages(candidate_messages(messages, None))[1]["blocks"][2]["mimeType"] == "image/png"


def test_an_environment_without_scores_is_refused_before_anything_is_played(server_url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="echo does not compare groups of rollouts"):
        collect("echo", "random", base_url=server_url, output=tmp_path / "run", repeats=2, score_groups=True, progress=False)
    assert not (tmp_path / "run").exists()


def test_groups_that_were_not_compared_are_counted_and_tried_again(server_url: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments: dict[str, Any] = {"base_url": server_url, "repeats": 2, "score_groups": True, "progress": False}
    moody = Says("a", "refuse")
    result = collect("dialogue", moody, output=run, tasks="0:2", **arguments)
    assert (result.groups_failed, result.groups_incomplete, result.coverage.complete) == (2, 0, True)
    # The environment's judge takes the same rollouts now.
    for shard in (run / "rollouts").glob("*.jsonl"):
        shard.write_text(shard.read_text().replace("refuse", "accept"))
    again = collect("dialogue", moody, output=run, tasks="0:2", resume=True, **arguments)
    assert (again.groups_failed, len(list(read_groups(run)))) == (0, 2)


def test_a_comparison_without_an_answer_is_no_silence_of_ours(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = GroupComparer._scores

    async def slow(self: GroupComparer, *arguments: Any) -> Any:
        await asyncio.sleep(2.5)
        return await scores(self, *arguments)

    monkeypatch.setattr(GroupComparer, "_scores", slow)
    monkeypatch.setattr(progress, "SILENCE_S", 0.5)
    arguments: dict[str, Any] = {"base_url": server_url, "repeats": 2, "score_groups": True, "progress": "log"}
    collect("dialogue", Says("a", "b"), output=tmp_path / "run", tasks="0", **arguments)
    said = capsys.readouterr().err
    assert f"no answer from {server_url} for" in said
    assert f"{server_url} answers again after" in said


def test_an_interrupt_ends_the_comparisons_of_a_continued_run(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {"base_url": server_url, "output": tmp_path / "run", "repeats": 2, "score_groups": True}
    arguments |= {"progress": False, "concurrency": 1}
    assert collect("dialogue", Says("a", "refuse"), **arguments).groups_failed == 5
    stop, compared_groups = StopSignal(), []

    async def interrupted(self: GroupComparer, group: str, members: Any) -> Any:
        compared_groups.append(group)
        stop.drain()
        await asyncio.sleep(0.05)
        raise ServerError("no judge")

    monkeypatch.setattr(GroupComparer, "_scores", interrupted)
    result = collect("dialogue", Says("a", "refuse"), resume=True, stop=stop, **arguments)
    assert (len(compared_groups), result.groups_failed) == (1, 5)


def test_a_comparison_that_failed_waits_for_no_server(server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[ServerState] = []

    async def breaks(self: GroupComparer, group: str, members: Any) -> Any:
        note_retry(ServerUnreachableError("connection refused"), 0.0)
        raise ServerUnreachableError("connection refused")

    class Noting(Reporter):
        def servers(self, states_: Any) -> None:
            states[:] = states_

    monkeypatch.setattr(GroupComparer, "_scores", breaks)
    arguments: dict[str, Any] = {"base_url": server_url, "repeats": 2, "score_groups": True, "progress": Noting()}
    assert collect("dialogue", Says("a", "b"), output=tmp_path / "run", tasks="0", **arguments).groups_failed == 1
    (environment,) = [state for state in states if state.address == server_url]
    assert (environment.waiting, environment.silent_s, environment.error) == (0, 0.0, "")


def test_equal_failures_of_comparisons_are_shown_once() -> None:
    said: list[str] = []

    class Saying(Reporter):
        def say(self, text: str) -> None:
            said.append(text)

    reporter = Saying()
    for number in range(40):
        reporter.not_compared(f"g{number}", "no judge")
    for number in range(40):
        reporter.not_compared(f"g{number}", f"no judge for {number}")
    reporter.stopped()
    assert said[0] == "group g0 could not be compared: no judge"
    assert len(said) == 6
    assert said[-1] == "further failures since the last report: score_group_failed 75"


def test_groups_with_failed_units_are_counted(server_url: str, tmp_path: Path) -> None:
    class Failing(Says):
        def begin(self, task: Task, sample: int, seed: int) -> Any:
            if (task.index, sample) == (1, 0):
                raise RuntimeError("no model")
            return super().begin(task, sample, seed)

    arguments: dict[str, Any] = {"base_url": server_url, "repeats": 2, "score_groups": True, "progress": False}
    result = collect("dialogue", Failing("a", "b"), output=tmp_path / "run", limit=3, **arguments)
    assert (result.groups_failed, result.groups_incomplete) == (0, 1)
    assert len(list(read_groups(tmp_path / "run"))) == 2


def test_the_command_says_which_groups_could_not_be_compared(server_url: str, tmp_path: Path) -> None:
    (tmp_path / "judged.py").write_text(
        "from openreward_gym import AssistantMessage\n"
        "async def policy(transcript, tools):\n    return AssistantMessage('refuse')\n"
    )
    command = [
        sys.executable,
        "-m",
        "openreward_gym.cli",
        "collect",
        "dialogue",
        "--policy",
        "judged:policy",
        "--base-url",
        server_url,
    ]
    command += ["--repeats", "2", "--tasks", "0", "--score-groups", "--output", "run"]
    for more in ([], ["--resume", "--json"]):
        done = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 75, done.stderr
        assert "1 group could not be compared" in done.stderr
        assert "no judge today" in done.stderr
        assert "--resume" in done.stderr
    (event,) = [json.loads(line) for line in done.stdout.splitlines() if '"result"' in line]
    assert (event["groups_failed"], event["coverage"]["successful"]) == (1, 2)


def test_advantages_and_discarded_groups(server_url: str, tmp_path: Path) -> None:
    result = collect(
        "dialogue", Says("0", "no"), base_url=server_url, output=tmp_path / "run", repeats=2, advantages="group", progress=False
    )
    assert result.coverage.complete
    groups = sorted(read_groups(tmp_path / "run"), key=lambda group: sum(reward or 0 for reward in group.rewards))
    assert [group.discard_reason for group in groups] == ["all rewards are equal: every advantage is zero"] * 4 + [None]
    assert [group.advantages for group in groups] == [[0.0, 0.0]] * 4 + [[1.0, -1.0]]


def test_advantages() -> None:
    assert advantages_of([1.0, 0.0, 0.0, 1.0], "group") == [1.0, -1.0, -1.0, 1.0]
    assert advantages_of([3.0, 0.0, 0.0], "leave_one_out") == [3.0, -1.5, -1.5]
    assert advantages_of([0.1] * 3, "group") == [0.0] * 3
    assert advantages_of([1.7e308, -1.7e308], "group") == [1.0, -1.0]
    assert compared("g", [("a", 1.0), ("b", None)], None, "group").discard_reason == "a rollout has no reward"


def test_comparing_single_rollouts_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="repeats"):
        collect("echo", "random", base_url="http://127.0.0.1:9", score_groups=True, progress=False)
    with pytest.raises(ConfigurationError, match="advantages"):
        collect("echo", "random", base_url="http://127.0.0.1:9", repeats=2, advantages="best", progress=False)  # type: ignore[arg-type]


def test_sessions_are_opened_ahead(server_url: str, tmp_path: Path) -> None:
    playing = most = 0

    async def watches(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        nonlocal playing, most
        import asyncio

        playing += 1
        most = max(most, playing)
        await asyncio.sleep(0.05)
        playing -= 1
        return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"}, "c")])

    result = collect(
        "echo", watches, base_url=server_url, output=tmp_path / "run", concurrency=2, prefetch=3, repeats=2, progress=False
    )
    assert result.coverage.successful == 10
    assert most == 2


def test_a_custom_retry_budget(server_url: str, tmp_path: Path) -> None:
    async def breaks(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        return AssistantMessage(tool_calls=[ToolCall("fail", {"text": "boom"})])

    retries: dict[RetryKind, RetryBudget] = {"tool_failed": RetryBudget(2, first_wait_s=0.01)}
    result = collect("echo", breaks, base_url=server_url, output=tmp_path / "run", tasks="0", retries=retries, progress=False)
    assert len(list(result.store.failures())) == 2


def test_an_inventory_is_written_line_by_line(tmp_path: Path) -> None:
    tasks = [TaskChoice("train", None, {"text": f"{number} " + "x" * 2000}) for number in range(1000)]
    inventory = Inventory("e", None, tasks, 4)
    assert len(inventory.groups) == 1000
    tracemalloc.start()
    try:
        digest = inventory.digest
        inventory.write(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    content = (tmp_path / "tasks.jsonl").read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest
    assert peak < len(content) / 8
