"""The commands `tasks` and `check`: secrets, tools of a task, progress, limits, rules that are newer than the server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typed_commands import typed

from openreward_gym.testing import Check
from openreward_gym.testing.versions import is_older


def test_a_missing_secret_is_named_and_the_rest_is_shown(demanding: str) -> None:
    done = typed("tasks", "locked", "--base-url", demanding, "--task", 0)
    assert done.returncode == 1
    assert 'train 0: {"number": 0}' in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "--secret api_key=VARIABLE" in done.stderr
    done = typed("tasks", "lockedsetup", "--base-url", demanding, "--task", 0, "--json")
    assert done.returncode == 1
    assert "the secret judge_key is missing" in json.loads(done.stdout)["error"]
    assert "--secret judge_key=VARIABLE" in done.stderr


def test_with_the_secret_the_prompt_is_shown(demanding: str) -> None:
    secret = {"MY_KEY": "never-shown"}
    done = typed("tasks", "locked", "--base-url", demanding, "--task", 1, "--secret", "api_key=MY_KEY", variables=secret)
    assert done.returncode == 0, done.stderr
    assert "Task 1" in done.stdout
    assert "never-shown" not in done.stdout + done.stderr


def test_tools_of_a_task_are_shown(demanding: str) -> None:
    done = typed("tasks", "tasktools", "--base-url", demanding, "--task", 2, "--json")
    description = json.loads(done.stdout)
    assert [tool["name"] for tool in description["tools"]] == ["answer"]
    assert [tool["name"] for tool in description["task_tools"]] == ["special_2"]
    assert description["prompt"] == [{"role": "user", "text": "Task 2"}]
    assert "special_2(query)  Only of this task." in typed("tasks", "tasktools", "--base-url", demanding, "--task", 2).stdout


def test_check_says_what_runs_and_fits_80_columns(demanding: str) -> None:
    done = typed("check", "lockedsetup", "--base-url", demanding)
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == ["check 1 of 12: server ...", "check 2 of 12: splits ..."]
    assert "--secret judge_key=VARIABLE" in done.stderr.splitlines()[-1]
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_check_has_a_limit_of_time(demanding: str) -> None:
    done = typed("check", "slow", "--base-url", demanding, "--timeout", 4, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    failed = [check for check in report["checks"] if check["result"] == "failed"]
    assert [check["detail"] for check in failed] == ["it was not done in time: the limit of 4 s for all checks is --timeout"]
    assert report["checks"][-1]["result"] == "skipped"
    assert "check 5 of 12: prompts ..." in done.stderr


def test_check_speaks_of_options_and_plays_steps(demanding: str, tmp_path: Path) -> None:
    done = typed("check", "endless", "--base-url", demanding)
    assert done.returncode == 0, done.stdout
    assert " ".join(done.stdout.split()).count("none of the calls ended the episode: pass --steps FILE that do") == 1
    assert "steps=" not in done.stdout + done.stderr
    (tmp_path / "steps.jsonl").write_text('{"name": "answer", "arguments": {"text": "yes"}}\n')
    done = typed("check", "endless", "--base-url", demanding, "--steps", tmp_path / "steps.jsonl")
    assert "ok    ends          nothing runs after the end" in done.stdout
    (tmp_path / "steps.jsonl").write_text('{"nam": 1}\n')
    done = typed("check", "endless", "--base-url", demanding, "--steps", tmp_path / "steps.jsonl")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "line 1: a step is a call like" in done.stderr


@pytest.mark.parametrize(
    ("version", "older"),
    [("", True), ("0.1.0", True), ("0.1.159", True), ("0.1.160", False), ("0.1.167", False), ("1.0", False), ("main", False)],
)
def test_a_rule_is_as_old_as_its_release(version: str, older: bool) -> None:
    assert is_older(version, "0.1.160") is older
    assert Check("ends", "note").since == ""
