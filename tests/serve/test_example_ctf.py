from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from built_in import Play

from openreward_gym.errors import ConfigurationError
from openreward_gym.protocol.client import Client
from openreward_gym.serve.examples import ctf_tasks, solution
from openreward_gym.serve.examples.shell import Shell
from openreward_gym.serve.examples.shell_programs import FileTree

ALL_TASKS = [(split, index, spec) for split in ("train", "test") for index, spec in enumerate(ctf_tasks.task_specs(split))]


def bash(command: str) -> dict[str, Any]:
    return {"name": "bash", "arguments": {"command": command}}


def submit(answer: str) -> dict[str, Any]:
    return {"name": "submit_answer", "arguments": {"answer": answer}}


def test_there_are_tasks_of_rising_difficulty(examples: str) -> None:
    async def read() -> list[Any]:
        async with Client(examples) as client:
            ctf = client.environment("ctf")
            return [await ctf.tasks("train"), await ctf.tasks("test"), await ctf.tools()]

    train, test, tools = asyncio.run(read())
    assert [task.spec["level"] for task in train] == list(range(1, len(train) + 1))
    assert (len(train), len(test)) == (10, 4)
    assert [tool.name for tool in tools] == ["bash", "submit_answer"]
    assert tools.terminal is None


@pytest.mark.parametrize(
    ("split", "index", "spec"), ALL_TASKS, ids=lambda value: value["id"] if isinstance(value, dict) else None
)
def test_every_scripted_solution_is_rewarded(play: Play, split: str, index: int, spec: dict[str, Any]) -> None:
    *looks, last = play("ctf", solution("ctf", spec), split=split, index=index)
    assert (last.reward, last.finished) == (1.0, True)
    assert [(look.reward, look.finished, look.metadata["exit_code"]) for look in looks] == [(None, False, 0)] * len(looks)


@pytest.mark.parametrize(
    ("split", "index", "spec"), ALL_TASKS, ids=lambda value: value["id"] if isinstance(value, dict) else None
)
def test_a_flag_is_found_only_by_the_last_command(split: str, index: int, spec: dict[str, Any]) -> None:
    challenge = ctf_tasks.build(spec["id"])
    assert ctf_tasks.FLAG.fullmatch(challenge.flag)
    assert challenge.flag not in json.dumps(spec) + challenge.story
    shell = Shell(FileTree(challenge.files, home=ctf_tasks.HOME))
    printed = [shell.run(command).output for command in challenge.commands]
    assert [challenge.flag in output for output in printed] == [False] * (len(printed) - 1) + [True]
    assert ctf_tasks.build(spec["id"]) == challenge


def test_flags_differ() -> None:
    assert len({ctf_tasks.build(spec["id"]).flag for _, _, spec in ALL_TASKS}) == len(ALL_TASKS)


def test_three_submissions_and_no_more(play: Play) -> None:
    outputs = play(
        "ctf", [submit("flag{no}"), bash("ls"), submit("flag{no}"), submit(""), submit("flag{no}")], split="train", index=0
    )
    assert [(output.reward, output.finished) for output in outputs[:4]] == [
        (0.0, False),
        (None, False),
        (0.0, False),
        (0.0, True),
    ]
    assert "2 submissions left" in outputs[0].text
    assert "1 submission left" in outputs[2].text
    assert outputs[4].error_kind == "episode_finished"


def test_a_second_submission_can_be_the_right_one(play: Play) -> None:
    flag = ctf_tasks.build("train-plain").flag
    wrong, right = play("ctf", [submit(flag.upper()), submit(f" {flag}\n")], split="train", index=0)
    assert (wrong.reward, wrong.finished) == (0.0, False)
    assert (right.reward, right.finished) == (1.0, True)


@pytest.mark.parametrize(
    "call", [bash("x") | {"arguments": {}}, bash("x") | {"arguments": {"command": 1}}, {"name": "sh", "arguments": {}}]
)
def test_wrong_calls_are_answered_not_rewarded(play: Play, call: dict[str, Any]) -> None:
    (output,) = play("ctf", [call], split="train", index=0)
    assert output.error_kind == ("not_found" if call["name"] == "sh" else "input_validation")
    assert (output.reward, output.finished) == (None, False)


def test_sessions_do_not_share_a_shell(play: Play) -> None:
    assert play("ctf", [bash("cd /etc && pwd"), bash("pwd")], split="train", index=0)[1].text == "/etc\n"
    assert play("ctf", [bash("pwd")], split="train", index=0)[0].text == f"{ctf_tasks.HOME}\n"


@pytest.mark.parametrize("task_id", ["train-nothing", "test-plain", "other-plain", "", "None"])
def test_an_unknown_task_is_refused_with_the_list_of_tasks(task_id: str) -> None:
    with pytest.raises(ConfigurationError, match="train-plain"):
        ctf_tasks.build(task_id)
    with pytest.raises(ConfigurationError, match="train-plain"):
        solution("ctf", {"id": task_id})


def test_there_is_no_scripted_solution_of_puzzles() -> None:
    with pytest.raises(ConfigurationError, match="reasoning"):
        solution("reasoning", {})
    with pytest.raises(ConfigurationError, match="city"):
        solution("weather", {})
