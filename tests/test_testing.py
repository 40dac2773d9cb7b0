"""Conformance checks: a good environment passes, and each bad one fails the check of its fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launch import served

from openreward_gym.serve.examples import solution
from openreward_gym.testing import Check, ConformanceReport, check_environment

BAD = Path(__file__).parent / "servers" / "bad_environments.py"


@pytest.fixture(scope="module")
def bad_url() -> Iterator[str]:
    with served(BAD) as url:
        yield url


def problems(report: ConformanceReport) -> dict[str, str]:
    """Return the results other than "passed", by the name of the check."""
    return {check.name: check.result for check in report.checks if check.result != "passed"}


@pytest.mark.parametrize("name", ["weather", "ctf", "bandit", "reasoning"])
def test_the_built_in_environments_pass(examples: str, name: str) -> None:
    report = check_environment(examples, name)
    assert problems(report) == {}
    assert report.ok
    report.raise_for_failures()
    assert len(report.checks) == 12


def test_steps_are_played(examples: str) -> None:
    report = check_environment(examples, "weather", split="train", steps=solution("weather", {"city": "Seattle"}), tasks=1)
    calls = next(check for check in report.checks if check.name == "calls")
    assert calls.detail == "4, 2 with a reward from 0 to 1"
    report = check_environment(examples, "ctf", steps=[{"name": "sh", "arguments": {}}])
    assert problems(report) == {"calls": "warning", "ends": "skipped"}


@pytest.mark.parametrize(
    ("name", "expected", "words"),
    [
        ("good", {}, ""),
        ("notasks", {"tasks": "failed"}, "has no tasks"),
        ("repeats", {"tasks": "failed"}, "there is a task of index 4"),
        ("countswrong", {"tasks": "failed"}, "index"),
        ("newtasks", {"tasks": "failed"}, "task 0 changes with each request"),
        ("silent", {"prompts": "failed"}, "the prompt of task 0 is empty"),
        ("alike", {"prompts": "warning"}, "what tells them apart?"),
        ("moody", {"prompts": "failed"}, "the prompt of task 0 differs between two sessions"),
        ("neverover", {"ends": "failed"}, "a call after the end ran: thanks, reward 0.5"),
        ("unrewarding", {"ends": "warning"}, "had no reward"),
        ("picky", {"tool list": "warning"}, "'say' has no description"),
    ],
)
def test_each_fault_is_reported(bad_url: str, name: str, expected: dict[str, str], words: str) -> None:
    report = check_environment(bad_url, name)
    others = {check: result for check, result in problems(report).items() if result != "skipped"}
    assert others == expected
    assert words in str(report)
    assert report.ok == ("failed" not in expected.values())


def test_a_tool_that_raises(bad_url: str) -> None:
    report = check_environment(bad_url, "raises")
    assert "calls" in {check.name for check in report.failures}
    assert "divide" in str(report)
    assert "by zero" in str(report)
    with pytest.raises(AssertionError, match="FAIL  calls"):
        report.raise_for_failures()


def test_sessions_that_share_state(bad_url: str) -> None:
    report = check_environment(bad_url, "forgets")
    assert {check.name for check in report.failures} == {"repetition", "isolation"}
    lenient = check_environment(bad_url, "forgets", deterministic=False)
    assert lenient.ok
    assert {check.name for check in lenient.warnings} == {"repetition", "isolation"}


def test_an_environment_that_cannot_be_set_up(bad_url: str) -> None:
    report = check_environment(bad_url, "cannotbemade")
    assert {"prompts", "calls", "gymnasium"} <= {check.name for check in report.failures}
    assert "no disk left" in str(report)


def test_a_server_that_keeps_sessions() -> None:
    with served(BAD, arguments=["--keeps-sessions"]) as url:
        report = check_environment(url, "good")
    assert problems(report) == {"cleanup": "failed"}
    assert "still has a session" in str(report)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"name": "nothing"}, "no environment 'nothing'"), ({"name": "good", "split": "dev"}, "there is no split 'dev'")],
)
def test_a_missing_environment_or_split_skips_the_rest(bad_url: str, arguments: dict[str, Any], words: str) -> None:
    report = check_environment(bad_url, **arguments)
    assert len(report.failures) == 1
    assert words in str(report)
    assert {check.result for check in report.checks if check.name not in ("server", "splits")} == {"skipped"}


def test_a_server_that_does_not_answer() -> None:
    report = check_environment("http://127.0.0.1:9", "weather")
    assert [check.name for check in report.failures] == ["server"]


def test_the_report_reads_well_and_is_json() -> None:
    checks = (Check("server", "passed", "version 1"), Check("tasks", "failed", "one\ntwo"), Check("calls", "skipped"))
    report = ConformanceReport("weather", "http://127.0.0.1:8080", checks)
    assert str(report).splitlines() == [
        "weather at http://127.0.0.1:8080",
        "  ok    server        version 1",
        "  FAIL  tasks         one",
        "                      two",
        "  -     calls",
        "1 passed, 1 failed, 1 skipped",
    ]
    assert json.loads(json.dumps(report.to_dict()))["checks"][1]["detail"] == "one\ntwo"
    assert not report.to_dict()["ok"]
