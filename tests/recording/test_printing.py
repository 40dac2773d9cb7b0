"""`print_messages=True`: what is printed, beside what the official client prints."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import openreward
import pytest
from openreward.api.rollouts.rollout import RolloutAPI
from openreward.models import SendLoopConfig
from rollout_platform import KEY, Platform

from openreward_gym import AssistantMessage, ReasoningItem, Recorder, SystemMessage, ToolCall, ToolResult, UserMessage
from openreward_gym.compat.api.rollouts.rollout import rollout_api
from openreward_gym.compat.api.rollouts.serializers import base
from openreward_gym.compat.models import send_loop_config
from openreward_gym.errors import ConfigurationError
from openreward_gym.hiding import Secret

FORMAT = "OPENREWARD_ROLLOUT_LOGGING_FORMAT"
CONTROL = re.compile("\x1b\\[[0-9;]*m")
# What a program prints by itself, in a terminal and elsewhere.
PROGRAM = """
from openreward_gym import Recorder, ToolCall, ToolResult, UserMessage
with Recorder("run") as recorder, recorder.rollout(print_messages=True) as log:
    log.log(UserMessage("Go"))
    log.log(ToolCall("ls", {}, "c1"))
    log.log(ToolResult("a", "c1"), reward=1.0, is_finished=True)
"""


def log_all(rollout: Any, classes: Any) -> None:
    rollout.log(classes.SystemMessage("Be brief."))
    rollout.log(classes.UserMessage("How warm is it\nin Oslo?"))
    rollout.log(classes.UserMessage(""))
    rollout.log(classes.ReasoningItem(summary="A city."))
    rollout.log(classes.AssistantMessage("I look."))
    rollout.log(classes.ToolCall("get_weather", '{"city": "Oslo", "days": [1, 2]}', "c1"))
    rollout.log(classes.ToolCall("get_weather", '{"city": ', "c2"))
    rollout.log(classes.ToolResult("7 C", "c1"), reward=0.5)
    rollout.log(classes.ToolResult('{"warm": false}', "c2"))
    rollout.log(classes.ToolResult("", "c3"), reward=1.0, is_finished=True)


def printed_by_both(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    with Platform() as platform:
        config = SendLoopConfig(**{**vars(send_loop_config(platform.url, None)), "api_key": KEY})
        with RolloutAPI(config) as official:
            log_all(official.create("a-run", print_messages=True), openreward)
        theirs = capsys.readouterr().out
        with rollout_api(api_key=Secret(KEY), api_url=platform.url) as api:
            log_all(api.create("a-run", print_messages=True), base)
    return theirs, capsys.readouterr().out


def test_pretty_is_what_the_official_client_prints_without_its_colours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in (None, "", "Pretty"):
        if value is not None:
            monkeypatch.setenv(FORMAT, value)
        theirs, ours = printed_by_both(capsys)
        assert "\x1b" not in ours
        assert value == "" or ours == CONTROL.sub("", theirs)
        assert "⚡ Tool Call: get_weather  (call_id: c1)" in ours


def test_structured_has_the_keys_of_the_official_client(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FORMAT, "structured")
    theirs, ours = ([json.loads(line) for line in text.splitlines()] for text in printed_by_both(capsys))
    assert [line["event"] for line in ours] == ["rollout_started", *["rollout_message"] * 10]
    assert len(ours) == len(theirs)
    for line, wanted in zip(ours, theirs, strict=True):
        for name in set(wanted) - {"timestamp", "rollout_id", "url"}:
            assert line[name] == wanted[name], name
        assert {"timestamp", "rollout_id"} <= set(line)
    assert ours[0]["url"] == f"https://openreward.ai/rollout/{ours[0]['rollout_id']}"


def test_an_unknown_format_is_an_error_that_lists_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FORMAT, "jsonl")
    words = f"{FORMAT}='jsonl' is not a format of printed messages. Set it to pretty or structured."
    with Recorder(tmp_path / "run") as recorder, pytest.raises(ConfigurationError, match=re.escape(words)):
        recorder.rollout(print_messages=True)
    with (
        rollout_api(api_key=None, api_url="https://api.openreward.ai") as api,
        pytest.raises(ConfigurationError, match=re.escape(words)),
    ):
        api.create("a-run", print_messages=True)
    assert not (tmp_path / "runs").exists()


def test_a_recorder_prints_what_is_not_text_safely(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FORMAT, raising=False)
    with Recorder(tmp_path) as recorder, recorder.rollout(print_messages=True) as log:
        log.log(SystemMessage("Be brief."))
        log.log(UserMessage("Go"))
        log.log(ReasoningItem("all of it"))
        log.log(AssistantMessage("\x1b]0;title\x07"))
        log.log(ToolCall("ls\n\x1b[2J", {"path": "/"}, "c\n1"))
        log.log(ToolResult("a\x1b[31m\x07b\nc", "c\n1"), reward=float("nan"), is_finished=True)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "  all of it\n" in out
    assert '{\n  "path": "/"\n}' in out
    assert "⚡ Tool Call: ls \\x1b[2J  (call_id: c 1)\n" in out
    assert "a\\x1b[31m\\x07b\nc\n" in out


def test_lines_of_json_are_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORMAT, "structured")
    with Recorder(tmp_path) as recorder, recorder.rollout(print_messages=True) as log:
        log.log(ToolResult("a\ud800", "c1"), reward=float("nan"), metadata={"x": float("inf")})
    (line,) = capsys.readouterr().out.splitlines()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(line, parse_constant=refuse)["reward"] == "nan"


@pytest.mark.parametrize(
    ("environ", "has_colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)]
)
def test_colour_only_in_a_terminal_that_wants_it(tmp_path: Path, environ: dict[str, str], has_colour: bool) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", FORMAT)}
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**kept, "TERM": "xterm", **environ},
        stdout=follower,
        stderr=subprocess.DEVNULL,
    )
    os.close(follower)
    assert process.wait(60) == 0
    out = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        out += piece
    os.close(leader)
    assert (b"\x1b[" in out) is has_colour
    assert "👤 User" in out.decode()
