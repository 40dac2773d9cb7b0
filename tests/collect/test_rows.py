"""Rows of NeMo Gym in and out: what a row says is played, and each rollout is a row at once, in the rows' order at the end."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from launch import served
from providers import Providers, providing

from openreward_gym import collect, serve
from openreward_gym.cli import main
from openreward_gym.collect import estimate
from openreward_gym.collect.inputs import match_rows, read_tasks
from openreward_gym.collect.inventory import Inventory, TaskChoice
from openreward_gym.collect.rows import InputRow, prompt_of
from openreward_gym.errors import ConfigurationError, StoreError
from openreward_gym.importers import nemo_gym
from openreward_gym.store import RolloutStore
from openreward_gym.types import AssistantMessage, Message, Rollout, SystemMessage, ToolCall, ToolSet, UserMessage

CITIES = {
    "Seattle": "What's the weather like in Seattle?",
    "Boston": "I'm going out in Boston tonight",
    "Chicago": "Should I bring an umbrella in Chicago?",
    "New York": "How's the weather in New York?",
    "San Francisco": "What should I wear in San Francisco today?",
}
GERMAN = {"role": "developer", "content": "Antworte nur auf Deutsch."}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "City name"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "name": "get_weather", "description": "The row's words", "parameters": PARAMETERS, "strict": True}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def row(city: str = "Seattle", **request: Any) -> dict[str, Any]:
    return {"responses_create_params": {"input": [GERMAN, {"role": "user", "content": CITIES[city]}], "tools": [TOOL], **request}}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows), encoding="utf-8")
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


class Forecaster:
    """Looks the city of the question up and repeats the report; keeps what it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[Message, ...], ToolSet, Mapping[str, Any] | None]] = []

    async def __call__(
        self, transcript: tuple[Message, ...], tools: ToolSet, parameters: Mapping[str, Any] | None = None
    ) -> AssistantMessage:
        self.seen.append((transcript, tools, parameters))
        if transcript[-1].role == "tool":
            return AssistantMessage(transcript[-1].text)
        city = next(city for city in CITIES if city in transcript[-1].text)
        return AssistantMessage(tool_calls=[ToolCall("get_weather", {"city": city}, "c")])


@pytest.fixture(scope="module")
def model() -> Iterator[Providers]:
    with providing() as model:
        yield model


def played(examples: str, rows: Path, output: Path, policy: Any = None, **options: Any) -> Any:
    return collect("weather", policy or Forecaster(), base_url=examples, input=rows, output=output, progress=False, **options)


def test_each_rollout_is_a_row_in_the_order_of_the_rows(examples: str, tmp_path: Path) -> None:
    lines = [{**row(city), "difficulty": {"level": [1, None]}} for city in reversed(CITIES)]
    output = tmp_path / "rollouts.jsonl"
    result = played(examples, written(tmp_path / "rows.jsonl", *lines), output, repeats=2)
    assert (result.path, result.rows_path) == (str(tmp_path / "rollouts"), output)
    rows = rows_of(output)
    assert [one["responses_create_params"] for one in rows] == [line["responses_create_params"] for line in lines for _ in "12"]
    assert [one["_ng_rollout_index"] for one in rows] == [0, 1] * 5
    assert all(one["reward"] == 1.0 and one["difficulty"] == {"level": [1, None]} for one in rows)
    kinds = [item["type"] for item in rows[0]["response"]["output"]][:3]
    assert kinds == ["function_call", "function_call_output", "message"]
    # The run's own rollouts give the same rows.
    exported = {rollout.id: nemo_gym.row_of(rollout) for rollout in RolloutStore(result.path)}
    assert sorted(map(json.dumps, rows)) == sorted(map(json.dumps, exported.values()))


def test_what_a_row_says_reaches_the_policy_and_the_record(examples: str, tmp_path: Path) -> None:
    policy = Forecaster()
    result = played(examples, written(tmp_path / "rows.jsonl", row(temperature=0.3)), tmp_path / "run", policy)
    transcript, tools, parameters = policy.seen[0]
    assert [(m.role, m.text, m.origin) for m in transcript] == [
        ("system", "Antworte nur auf Deutsch.", "given"),
        ("user", CITIES["Seattle"], "given"),
    ]
    assert [(tool.name, tool.description, tool.extra) for tool in tools] == [("get_weather", "The row's words", {"strict": True})]
    assert parameters == {"temperature": 0.3}
    (rollout,) = result.store
    assert rollout.messages[0].metadata == {"role": "developer"}
    assert rollout.sampling == {"temperature": 0.3}
    assert rollout.tools is not None
    assert rollout.tools[0].extra == {"strict": True}
    assert rollout.metadata == {"nemo_gym": row(temperature=0.3)}
    assert rollout.reward == 1.0


def test_a_models_server_gets_the_row(examples: str, model: Providers, tmp_path: Path) -> None:
    metadata = {"chat_template_kwargs": '{"enable_thinking": false}', "user": "u1"}
    line = row(temperature=0.3, max_output_tokens=77, tool_choice="required", metadata=metadata, min_p=0.1)
    for api in ("chat", "responses"):
        model.requests.clear()
        options = {"api": api, "temperature": 0.9}
        output = tmp_path / f"{api}.jsonl"
        result = played(
            examples,
            written(tmp_path / "r.jsonl", line),
            output,
            "openai:good",
            policy_url=f"{model.url}/v1",
            policy_options=options,
        )
        request = model.requests[0]
        messages = request["messages"] if api == "chat" else request["input"]
        assert messages[0]["role"] == "developer"
        assert "Antworte nur auf Deutsch." in json.dumps(messages[0])
        tool = request["tools"][0]["function"] if api == "chat" else request["tools"][0]
        assert (tool["strict"], tool["description"]) == (True, "The row's words")
        assert request["max_tokens" if api == "chat" else "max_output_tokens"] == 77
        assert (request["tool_choice"], request["min_p"], request["metadata"]) == ("required", 0.1, {"user": "u1"})
        assert request["chat_template_kwargs"] == {"enable_thinking": False}
        assert request["temperature"] == 0.9  # the command's own option wins
        (rollout,) = result.store
        assert (rollout.sampling or {})["temperature"] == 0.9
        assert rows_of(output)[0]["responses_create_params"] == line["responses_create_params"]


def test_a_chat_server_gets_chats_of_a_rows_items(examples: str, model: Providers, tmp_path: Path) -> None:
    """Fields of the Responses API's items, and ours, are none of a chat's: servers refuse them."""
    history = [
        {"type": "message", "role": "user", "status": "completed", "content": [{"type": "input_text", "text": "And in Oslo?"}]},
        {"type": "function_call", "id": "fc_1", "call_id": "h1", "name": "get_weather", "arguments": "{}", "status": "completed"},
        {"type": "function_call_output", "id": "fco_1", "call_id": "h1", "output": "cold", "status": "completed"},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Cold.", "annotations": [], "logprobs": []}],
        },
    ]
    line = row(input=[GERMAN, *history, {"role": "user", "content": CITIES["Boston"]}])
    model.requests.clear()
    output = tmp_path / "rollouts.jsonl"
    played(examples, written(tmp_path / "r.jsonl", line), output, "openai:good", policy_url=f"{model.url}/v1")
    assert model.requests[0]["messages"] == [
        GERMAN,
        {"role": "user", "content": "And in Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "h1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "h1", "content": "cold"},
        {"role": "assistant", "content": "Cold."},
        {"role": "user", "content": CITIES["Boston"]},
    ]
    assert rows_of(output)[0]["responses_create_params"] == line["responses_create_params"]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_developer_message_for_models_that_know_no_developer(examples: str, model: Providers, tmp_path: Path, api: str) -> None:
    model.requests.clear()
    options = {"api": api, "developer_role": "system"}
    output = tmp_path / "rollouts.jsonl"
    lines = written(tmp_path / "r.jsonl", row())
    result = played(examples, lines, output, "openai:good", policy_url=f"{model.url}/v1", policy_options=options)
    for request in model.requests:
        (given, *_) = request["messages" if api == "chat" else "input"]
        assert given == {"role": "system", "content": GERMAN["content"]}
    (rollout,) = result.store
    assert rollout.messages[0].metadata == {"role": "developer"}
    assert rows_of(output)[0]["responses_create_params"]["input"][0] == GERMAN
    with pytest.raises(ConfigurationError, match="developer_role must be 'developer' or 'system', not 'user'"):
        played(examples, lines, tmp_path / "x.jsonl", "openai:good", policy_options={"developer_role": "user"})


def test_rows_of_version_0_7(examples: str, tmp_path: Path) -> None:
    """They have the request in `task_input`. A table may have objects as JSON text."""
    identity = {"taskset": "weather:train", "task_id": "s-1"}
    lines: list[dict[str, Any]] = [
        {"task_id": identity, "task_input": {**row(temperature=0.4), "task_data": {"city": "Seattle"}}},
        {"task_id": identity, "task_input": json.dumps(row("Boston"))},
        {"task_id": identity, "task_input": row(input="Wie wird es in Chicago?") | {"task_index": 2}},
        {"responses_create_params": json.dumps(row("Chicago")["responses_create_params"])},
    ]
    output = tmp_path / "rollouts.jsonl"
    policy = Forecaster()
    result = played(examples, written(tmp_path / "rows.jsonl", *lines), output, policy)
    rows = rows_of(output)
    assert [one["reward"] for one in rows] == [1.0] * len(lines)
    assert {"temperature": 0.4} in [parameters for _, _, parameters in policy.seen]
    assert rows[0]["responses_create_params"] == row(temperature=0.4)["responses_create_params"]
    assert (rows[0]["task_id"], rows[0]["task_input"]) == (identity, lines[0]["task_input"])
    read = [rollout for rollout in nemo_gym.read(output) if isinstance(rollout, Rollout)]
    assert [read[n].metadata for n in (0, 2)] == [{"nemo_gym": lines[n]} for n in (0, 2)]
    assert {rollout.id for rollout in read} == {rollout.id for rollout in result.store}
    with pytest.raises(ConfigurationError, match="line 1 is not a task: its responses_create_params must be an object, not 5"):
        read_tasks(written(tmp_path / "wrong.jsonl", {"task_input": {"responses_create_params": 5}}), "train")


def test_what_is_not_played_as_the_row_says_is_printed(
    examples: str, model: Providers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [row(temperature=0.4), row(temperature=0.9, max_output_tokens=60), row(input=CITIES["Boston"])]
    rows, output = written(tmp_path / "rows.jsonl", *lines), tmp_path / "rollouts.jsonl"
    options: dict[str, Any] = {"policy_url": f"{model.url}/v1", "policy_options": {"temperature": 0.9, "max_tokens": 50}}
    collect("weather", "openai:good", base_url=examples, input=rows, output=output, **options)
    said = capsys.readouterr().err.splitlines()[:3]
    assert said == [
        "temperature=0.9 of the command is played instead of the temperature of 1 row",
        "max_tokens=50 of the command is played instead of the max_output_tokens of 1 row",
        "1 row has no system message: --row-prompt precede adds the environment's",
    ]


def test_the_prompt_of_a_row_and_the_environments(examples: str, tmp_path: Path) -> None:
    history = [
        {"role": "user", "content": "And in Oslo?"},
        {"type": "function_call", "call_id": "h1", "name": "get_weather", "arguments": '{"city":"Oslo"}'},
        {"type": "function_call_output", "call_id": "h1", "output": "cold"},
        {"role": "assistant", "content": "Cold."},
    ]
    line = row(input=[GERMAN, *history, {"role": "user", "content": CITIES["Boston"]}])
    rows = written(tmp_path / "rows.jsonl", line)
    roles: dict[str, list[str]] = {}
    for mode in ("replace", "precede", "ignore"):
        policy = Forecaster()
        played(examples, rows, tmp_path / f"{mode}.jsonl", policy, row_prompt=mode)
        transcript = policy.seen[0][0]
        assert all(message.origin == "given" for message in transcript)
        assert not any(isinstance(message, AssistantMessage) for message in transcript)  # that is a turn of the policy
        roles[mode] = [message.role for message in transcript]
        assert CITIES["Boston"] in transcript[-1].text
        given = rows_of(tmp_path / f"{mode}.jsonl")[0]["responses_create_params"]["input"]
        assert (given == line["responses_create_params"]["input"]) is (mode == "replace")
    assert roles["replace"] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert roles["precede"] == ["system", "system", "user", "assistant", "tool", "assistant", "user"]
    assert roles["ignore"] == ["system", "user"]


def test_prompts_of_rows() -> None:
    own = [SystemMessage("env"), UserMessage("Q?")]

    def texts(*arguments: Any) -> list[str]:
        return [message.text for message in prompt_of(*arguments)]

    assert texts([UserMessage("q")], own, "replace") == ["q"]
    assert texts([UserMessage("q")], own, "precede") == ["env", "Q?"]
    assert texts([SystemMessage("row"), UserMessage("q")], own, "precede") == ["row", "env", "Q?"]
    assert texts([], own, "replace") == ["env", "Q?"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            row(input="Who was Kant?"),
            r"line 2 \('Who was Kant\?'\): no task of 'weather' in split 'train' has this question.*ValueError",
        ),
        (row(input=[GERMAN]), r"line 2 \(which has no user message with text\): no task"),
        (row(tools=[{**TOOL, "name": "fly"}]), r"line 2 .* defines the tool 'fly', which 'weather' does not have.*get_weather"),
        (row(tools=[{"type": "web_search"}]), "line 2 is not a task: .*'web_search', which no environment runs"),
        (row(tools=[TOOL, TOOL]), "line 2 is not a task: it defines the tool 'get_weather' twice"),
        (row(tools=5), "line 2 is not a task: its tools must be a list, not 5"),
        (row(temperature="hot"), "line 2 is not a task: its parameter temperature must be a number from 0, not 'hot'"),
        (row(stream=True), "line 2 .*stream=True: a policy reads whole answers.*--row-parameters ignore"),
        (row(model="other"), "line 2 .*model='other': the policy chooses the model"),
        ({**row(), "task_index": 9}, "names task 9 of split 'train', which has 5 tasks"),
        ({**row(), "split": "test"}, "line 2 .*no task of 'weather' in split 'test'"),
        ({"responses_create_params": 3}, "line 2 is not a task: its responses_create_params must be an object, not 3"),
        ({"responses_create_params": {"input": [7]}}, "line 2 is not a task: its input cannot be read"),
        (
            row(input=[{"role": "robot", "content": "x"}]),
            "line 2 is not a task: item 1 of its input must have one of the roles .*, assistant, not 'robot'",
        ),
        (
            row(input=[GERMAN, {"type": "item_reference", "id": "msg_1"}]),
            "line 2 is not a task: item 2 of its input refers to an item of an earlier response",
        ),
        (
            row(
                input=[{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "get_weather", "arguments": "{}"}}]}]
            ),
            "line 2 is not a task: item 1 of its input is a message of chat completions.*'function_call'",
        ),
        (
            row(input=[{"role": "tool", "tool_call_id": "a", "content": "cold"}]),
            "line 2 is not a task: item 1 of its input is a message of chat completions.*'function_call_output'",
        ),
        (
            {"responses_create_params": {"input": "x", "instructions": []}},
            "line 2 is not a task: its instructions must be a text",
        ),
        ('{"responses_create_params": {"input": "x", "temperature": NaN}}', "line 2 is not a task: NaN is not strict JSON"),
        ('{"responses_create_params": {}, "junk": ' + "[" * 300 + "]" * 300 + "}", "line 2 is not a task: .*200 levels"),
        ('{"responses_create_params": ' + "[" * 100_000, "line 2 is not a task"),
    ],
)
def test_rows_that_cannot_be_played(examples: str, tmp_path: Path, line: Any, words: str) -> None:
    path = written(tmp_path / "rows.jsonl", row(), line)
    policy = Forecaster()
    for function in (collect, estimate):
        with pytest.raises(ConfigurationError, match=words):
            function("weather", policy, base_url=examples, input=path, output=tmp_path / "out.jsonl", progress=False)
    assert not policy.seen
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["rows.jsonl"]


def test_several_questions_are_told_together(examples: str, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", *(row(input=f"Question {number}?") for number in range(50)))
    with pytest.raises(ConfigurationError, match=r"line 1 .*, line 2 .*, line 3 .* and 29 more: no task"):
        collect("weather", Forecaster(), base_url=examples, input=path, progress=False)


def test_an_environment_that_takes_any_task(server_url: str, tmp_path: Path) -> None:
    async def hears(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        return AssistantMessage(tool_calls=[ToolCall("echo", {"text": transcript[-1].text}, "c")])

    line = {"responses_create_params": {"input": "Who was Kant?"}, "verifier_metadata": {"answer": "A philosopher"}}
    path = written(tmp_path / "rows.jsonl", line)
    result = collect("echo", hears, base_url=server_url, input=path, output=tmp_path / "r.jsonl", max_steps=1, progress=False)
    (rollout,) = result.store
    assert rollout.task.spec == {"question": "Who was Kant?", "verifier_metadata": {"answer": "A philosopher"}}
    assert "Who was Kant?" in rollout.messages[-1].text


def test_a_server_that_is_away_is_no_wrong_row(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", row())
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9") as caught:
        collect("weather", Forecaster(), base_url="http://127.0.0.1:9", input=path, progress=False, retry_limits={"attempts": 1})
    assert not isinstance(caught.value, ConfigurationError)


def test_rows_in_every_dress(examples: str, tmp_path: Path) -> None:
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"}
    lines = [
        {**row(input="Wie ist das Wetter in Boston?"), "task_index": 1},
        row(input=[{"role": "user", "content": [{"type": "input_text", "text": CITIES["Seattle"]}, image]}]),
        row(input=CITIES["Seattle"], instructions="Antworte nur auf Deutsch."),
        row(input=[GERMAN, {"role": "user", "content": "What's the  weather\nlike in Seattle? "}]),
        row(),
        row(),
        row(input=[{"role": "system", "content": "x" * 10_000_000}, {"role": "user", "content": CITIES["Chicago"]}]),
        {**row(), "response": {"output": []}, "reward": 0.0, "split": "nowhere", "agent_ref": {"name": "a"}, "_ng_task_index": 7},
        row(input=[{"role": "developer", "content": "Öß\u2028\U0001f600"}, {"role": "user", "content": CITIES["Seattle"]}]),
    ]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(map(json.dumps, lines)).encode())
    output = tmp_path / "out.jsonl"
    result = played(examples, path, output)
    assert result.coverage.complete
    rows = rows_of(output)
    assert [one["responses_create_params"] for one in rows] == [line["responses_create_params"] for line in lines]
    assert [one["reward"] for one in rows] == [1.0] * len(lines)
    assert (rows[7]["agent_ref"], rows[7]["_ng_task_index"], rows[7]["split"]) == ({"name": "a"}, 7, "nowhere")
    # Equal rows are groups of their own.
    assert len({rollout.group for rollout in result.store}) == len(lines)
    # The run's own list of tasks can be played again, rows and all.
    again = read_tasks(tmp_path / "out" / "tasks.jsonl", "train")
    assert [task.row.data["responses_create_params"] for task in again if isinstance(task, TaskChoice) and task.row] == [
        line["responses_create_params"] for line in lines
    ]
    inventory = Inventory.read(tmp_path / "out")
    assert inventory is not None
    assert inventory.tasks[0].row is not None


def test_a_question_of_several_tasks() -> None:
    specs = [{"q": "Same?", "answer": 1}, {"q": "Same?", "answer": 2}, {"q": " Same  but spaced? "}, {"q": "Same but spaced?"}]

    def chosen(**line: Any) -> int | None:
        line = {"responses_create_params": {"input": line.pop("input", "Same?")}, **line}
        (choice,) = match_rows([InputRow(4, line)], "train", {"train": specs})
        return choice.index

    assert (chosen(answer=2), chosen(input="Same but spaced?"), chosen(input="Same  but spaced?")) == (1, 3, 2)
    with pytest.raises(
        ConfigurationError, match=r"line 4 \('Same\?'\): the tasks 0, 1 of split 'train' have this question.*task_index"
    ):
        chosen()
    assert match_rows([InputRow(1, {"responses_create_params": {"input": "q"}})], "a", {"a": [{"q": "q"}] * 2})[0].index == 0


def test_parameters_that_a_policy_cannot_follow(examples: str, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", row(), row("Boston", temperature=0.5))
    for policy in ("random:1", lambda transcript, tools: AssistantMessage("x")):
        with pytest.raises(ConfigurationError, match=r"rows.jsonl, line 2 .*temperature=0.5: it takes no parameters"):
            played(examples, path, tmp_path / "run", policy)
    result = played(examples, path, tmp_path / "run", "random:1", row_parameters="ignore")
    assert result.coverage.complete
    with pytest.raises(StoreError, match="row_parameters was"):
        played(examples, written(path, row(), row("Boston")), tmp_path / "run", "random:1", resume=True)


def test_a_file_of_others_is_left_alone(examples: str, tmp_path: Path) -> None:
    rows, output = written(tmp_path / "rows.jsonl", row()), tmp_path / "out.jsonl"
    output.write_text('{"mine": 1}\n')
    with pytest.raises(StoreError, match="its line 1 is not a rollout of this run"):
        played(examples, rows, output)
    assert output.read_text() == '{"mine": 1}\n'
    assert not (tmp_path / "out").exists()
    with pytest.raises(StoreError, match=r"rows\.jsonl exists, and its line 1"):
        played(examples, rows, rows)
    output.unlink()
    played(examples, rows, output)
    with pytest.raises(StoreError, match="already holds a run"):
        played(examples, rows, output)
    before = output.read_bytes()
    output.write_bytes(before[:-40])  # of a collector that was killed while it wrote
    assert played(examples, rows, output, resume=True).coverage.complete
    assert output.read_bytes() == before
    output.write_bytes(before + b'{"mine": 1}\n')
    with pytest.raises(StoreError, match="its line 2 is not a rollout of this run"):
        played(examples, rows, output, resume=True)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ConfigurationError, match="is a folder"):
        played(examples, rows, tmp_path / "folder.jsonl")


def test_a_wrong_option_leaves_no_file(examples: str, tmp_path: Path) -> None:
    rows = written(tmp_path / "rows.jsonl", row())
    with pytest.raises(ConfigurationError):
        played(examples, rows, tmp_path / "out.jsonl", toolset="nothing")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["rows.jsonl"]


def test_a_failure_is_no_row(examples: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "breaking.py").write_text(
        "from openreward_gym.types import AssistantMessage, ToolCall\n"
        "async def policy(transcript, tools):\n"
        "    if 'Boston' in transcript[-1].text: raise RuntimeError('no model')\n"
        "    if transcript[-1].role == 'tool': return AssistantMessage(transcript[-1].text)\n"
        "    return AssistantMessage(tool_calls=[ToolCall('get_weather', {'city': 'Seattle'}, 'c')])\n"
    )
    rows, output = written(tmp_path / "rows.jsonl", row("Boston"), row()), tmp_path / "out.jsonl"
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(SystemExit) as end:
            main(
                [
                    "collect",
                    "weather",
                    "--base-url",
                    examples,
                    "--policy",
                    "breaking:policy",
                    "--input",
                    str(rows),
                    "--output",
                    str(output),
                    "--fail-on-error",
                    "0",
                ]
            )
    finally:
        sys.path.remove(str(tmp_path))
    assert end.value.code == 75
    said = capsys.readouterr()
    assert f"1 failed, 0 missing, which have no row in {output}; continue with: " in said.err
    assert f"1 of 2 rollouts in {output} (the run: {tmp_path / 'out'})" in said.out
    (only,) = rows_of(output)
    assert only["responses_create_params"] == row()["responses_create_params"]


SLOW = """
import asyncio
from openreward_gym.types import AssistantMessage, ToolCall
async def policy(transcript, tools):
    city = next(c for c in ("Seattle", "Boston", "Chicago", "New York", "San Francisco") if c in transcript[1].text)
    if transcript[-1].role != "tool":
        return AssistantMessage(tool_calls=[ToolCall("get_weather", {"city": city}, "c")])
    if city == "Seattle":
        await asyncio.sleep(%s)
    return AssistantMessage(transcript[-1].text)
"""


def test_a_killed_collector_leaves_whole_rows(examples: str, tmp_path: Path) -> None:
    rows, output = written(tmp_path / "rows.jsonl", *map(row, CITIES)), tmp_path / "out.jsonl"
    (tmp_path / "slow.py").write_text(SLOW % 600)
    command = [
        sys.executable,
        "-m",
        "openreward_gym.cli",
        "collect",
        "weather",
        "--base-url",
        examples,
        "--policy",
        "slow:policy",
    ]
    command += ["--input", str(rows), "--output", str(output)]
    collector = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 60
        while not output.exists() or output.read_bytes().count(b"\n") < 4:
            assert time.monotonic() < ends
            assert collector.poll() is None
            time.sleep(0.01)
    finally:
        collector.send_signal(signal.SIGKILL)
        collector.wait()
    assert len(rows_of(output)) == 4
    (tmp_path / "slow.py").write_text(SLOW % 0)
    ran = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert [one["responses_create_params"] for one in rows_of(output)] == [
        row(city)["responses_create_params"] for city in CITIES
    ]


def test_tasks_of_a_split_as_rows(examples: str, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out.jsonl"
    policy = Forecaster()
    first = collect("weather", policy, base_url=examples, tasks="1,0", limit=1, output=output, progress=False)
    assert first.coverage.omitted == 1
    assert len(rows_of(output)) == 1
    collect("weather", policy, base_url=examples, tasks="1,0", output=output, resume=True, progress=False)
    assert [one["_ng_task_index"] for one in rows_of(output)] == [1, 0]
    assert [message["role"] for message in rows_of(output)[0]["responses_create_params"]["input"]] == ["system", "user"]


def test_tools_of_one_task_alone(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "servers" / "tools_by_task.py"
    with served(script) as url:
        tool = {"type": "function", "name": "second", "parameters": PARAMETERS}
        line = {"responses_create_params": {"input": "Two?", "tools": [tool]}, "task_index": 1}
        policy = Forecaster()

        async def calls(transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
            policy.seen.append((transcript, tools, None))
            return AssistantMessage(tool_calls=[ToolCall("second", {"city": "x"}, "c")])

        result = collect(
            "bytask", calls, base_url=url, input=written(tmp_path / "a.jsonl", line), output=tmp_path / "a", progress=False
        )
        assert result.metrics.mean_reward == 1.0
        assert [one.name for one in policy.seen[0][1]] == ["second"]
        wrong = {**line, "task_index": 0}
        with pytest.raises(ConfigurationError, match=r"line 1 .*defines the tool 'second', which 'bytask' does not have"):
            collect("bytask", calls, base_url=url, input=written(tmp_path / "b.jsonl", wrong), progress=False)
        # Behind one that has it, a wrong row is met when it is opened, and not retried.
        late = written(tmp_path / "c.jsonl", line, wrong)
        result = collect("bytask", calls, base_url=url, input=late, output=tmp_path / "c", fail_on_error=0, progress=False)
        (failure,) = result.store.failures()
        assert (failure.kind, result.coverage.successful) == ("refused", 1)
        assert "line 2" in failure.message


@pytest.mark.timeout(300)
def test_on_ray(model: Providers, tmp_path: Path) -> None:
    rows, output = written(tmp_path / "rows.jsonl", *(row(city, temperature=0.25) for city in CITIES)), tmp_path / "out.jsonl"
    model.requests.clear()
    with serve.local(["weather"]) as url:
        played(url, rows, output, "openai:good", policy_url=f"{model.url}/v1", engine="ray", workers=2)
    assert [one["responses_create_params"] for one in rows_of(output)] == [
        line["responses_create_params"] for line in rows_of(rows)
    ]
    assert {request["temperature"] for request in model.requests} == {0.25}


def test_events_name_the_rows(examples: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, output = written(tmp_path / "rows.jsonl", row()), tmp_path / "out.jsonl"
    command = [
        "collect",
        "weather",
        "--base-url",
        examples,
        "--policy",
        "random:1",
        "--input",
        str(rows),
        "--output",
        str(output),
    ]
    with pytest.raises(SystemExit) as end:
        main([*command, "--dry-run"])
    assert (end.value.code or 0) == 0
    assert "1 of 1 rollouts would be played" in capsys.readouterr().out
    assert not output.exists()
    with pytest.raises(SystemExit) as end:
        main([*command, "--json"])
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (events[-1]["event"], events[-1]["rows"], events[-1]["run"]) == ("result", str(output), str(tmp_path / "out"))


def test_async_collection_writes_rows_too(examples: str, tmp_path: Path) -> None:
    from openreward_gym.collect import acollect

    rows, output = written(tmp_path / "rows.jsonl", row()), tmp_path / "out.jsonl"
    result = asyncio.run(acollect("weather", Forecaster(), base_url=examples, input=rows, output=output, progress=False))
    assert result.rows_path == output
    assert len(rows_of(output)) == 1
