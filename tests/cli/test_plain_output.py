"""Control codes, JSON, used ports, several paths: what the commands print, and where."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from datasets import load_dataset
from terminals import in_file, in_terminal
from typed_commands import typed

from openreward_gym import serve
from openreward_gym.cli.application import app
from openreward_gym.cli.console import wrapped
from openreward_gym.recording.recorder import Recorder
from openreward_gym.serve.server import LocalServer
from openreward_gym.store import RolloutStore
from openreward_gym.terminal import has_control_codes
from openreward_gym.types import AssistantMessage, UserMessage

RAISES = """
from openreward.environments import Environment, TextBlock, ToolOutput, tool
from pydantic import BaseModel

class Text(BaseModel):
    text: str

class Raises(Environment):
    @classmethod
    def list_splits(cls): return ["train"]
    @classmethod
    def list_tasks(cls, split): return [{}]
    def get_prompt(self): return [TextBlock(text="Go.")]
    @tool
    async def answer(self, params: Text) -> ToolOutput:
        "Answer."
        raise RuntimeError("\\x1b[31mred\\x1b[0m")
"""


def record(folder: Path, text: str) -> None:
    with Recorder(folder) as recorder, recorder.rollout(environment="e", id=text) as log:
        log.log(UserMessage("Say it."))
        log.log(AssistantMessage(text), reward=1.0, is_finished=True)


def test_the_log_of_a_server_has_no_control_codes(tmp_path: Path) -> None:
    (tmp_path / "raises.py").write_text(RAISES)
    server = LocalServer([f"{tmp_path / 'raises.py'}:Raises"])
    with server as url:
        assert typed("check", "raises", "--base-url", url, variables={"FORCE_COLOR": "1"}).returncode == 1
    assert "red" in server.log
    assert "\x1b" not in server.log


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"CLICOLOR_FORCE": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_variables_decide_about_control_codes(
    variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "CLICOLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with open(tmp_path / "log", "w") as file:
        assert has_control_codes(file) is expected


def test_every_command_with_output_prints_json(examples: str, tmp_path: Path) -> None:
    record(tmp_path / "runs" / "a", "one")
    (tmp_path / "chats.jsonl").write_text('{"messages": [{"role": "user", "content": "Hi"}]}\n')
    commands = [
        ("tasks", "weather", "--base-url", examples),
        ("check", "weather", "--base-url", examples),
        ("report", "runs/a"),
        ("merge", "runs/a", "--output", "runs/merged"),
        ("export", "runs/a", "--output", "out"),
        ("import", "openai-chat", "chats.jsonl", "--output", "runs/imported"),
        ("collect", "weather", "--base-url", examples, "--policy", "random:1", "--output", "runs/c", "--tasks", "0"),
        ("view", "runs/a", "--html", "page.html"),
        ("demo",),
    ]
    for command in commands:
        done = typed(*command, "--json", folder=tmp_path)
        assert done.returncode == 0, (command, done.stderr)
        lines = done.stdout.splitlines() if command[0] == "collect" else [done.stdout]
        assert [json.loads(line) for line in lines], command


def test_every_registered_command_takes_json() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name in commands.keys() - {"orwd"}:  # another program's command line
        assert any("--json" in param.opts for param in commands[name].params), name


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "file"])
def test_lines_fit_80_columns_without_control_codes(examples: str, tmp_path: Path, is_terminal: bool) -> None:
    record(tmp_path / "runs" / "a", "one")
    collected = "runs/a-name-of-a-run-that-is-not-short"
    commands = [
        ("tasks", "weather", "--base-url", examples, "--task", "0"),
        ("collect", "weather", "--base-url", examples, "--policy", "random:1", "--repeats", "3", "--output", collected),
        ("report", collected, "runs/a"),
        ("export", "runs/a", "--output", "out"),
        ("export", "runs/a", "--output", "none", "--min-reward", "2"),
        ("demo", "--output", "runs/demo"),
    ]
    run = in_terminal if is_terminal else in_file
    environ = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "CLICOLOR_FORCE")}
    for command in commands:
        output = run([sys.executable, "-m", "openreward_gym", *command], tmp_path, environ | {"NO_COLOR": "1", "COLUMNS": "80"})
        assert output.code == ("none" in command), (command, output.text)
        assert "\x1b" not in output.text, command
        if is_terminal:
            assert [line for line in output.text.splitlines() if len(line) > 80] == [], command


def test_serve_says_in_json_that_it_is_ready(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "openreward_gym", "serve", "weather", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert (ready["event"], ready["environments"]) == ("ready", ["weather"])
        assert ready["next"][0] == f"openreward-gym tasks weather --base-url {ready['base_url']}"
        process.send_signal(signal.SIGINT)


def test_a_port_that_is_used_is_said_at_once(tmp_path: Path) -> None:
    with serve.local(["ctf"]) as url:
        done = typed("serve", "weather", "--port", url.rpartition(":")[2], timeout_s=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"openreward-gym: nothing is served: {url} is in use, another server, of ctf, answers there; stop it, or choose another "
        "port (--port 0 takes a free one)\n"
    )


def test_several_paths_are_imported_in_order_and_once(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("b", "a", "c"):
        (tmp_path / "logs" / f"{name}.jsonl").write_text('{"messages": [{"role": "user", "content": "' + name + '"}]}\n')
    done = typed(
        "import", "openai-chat", "logs/b.jsonl", "logs/*.jsonl", "logs/../logs/a.jsonl", "--output", "r", folder=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, "3 rollouts imported into r\n"), done.stderr
    assert [rollout.messages[0].text for rollout in RolloutStore.open(tmp_path / "r")] == ["b", "a", "c"]
    done = typed("import", "openai-chat", "logs/*.eval", "logs/a.jsonl", "--output", "none", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "openreward-gym: nothing matches 'logs/*.eval': check the path. Nothing was imported\n"
    assert not (tmp_path / "none").exists()


def test_exports_of_two_runs_live_in_one_folder(tmp_path: Path) -> None:
    for name in ("first", "second"):
        record(tmp_path / "runs" / name, name)
    for name in ("first", "second", "first"):
        done = typed("export", f"runs/{name}", "--output", "out", folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert typed("export", "runs/second", "--output", "out", "--format", "prompts", folder=tmp_path).returncode == 0
    # An export without a row leaves the earlier one where it is.
    done = typed("export", "runs/first", "--output", "out", "--min-reward", 2, folder=tmp_path)
    assert done.returncode == 1
    assert "the files of the earlier export stay" in done.stderr
    card = (tmp_path / "out" / "README.md").read_text()
    for name, text in (("sft", "first"), ("sft_second", "second")):
        rows = load_dataset(str(tmp_path / "out"), name, split="train", cache_dir=str(tmp_path / "cache"))
        assert [row["messages"][-1]["content"] for row in rows] == [text]
        assert f"| `{name}` | 1 |" in card
    assert "| `prompts` | 1 |" in card
    assert set(json.loads((tmp_path / "out" / "report.json").read_text())["formats"]) == {"sft", "sft_second", "prompts"}


def test_a_hub_that_is_not_reached_is_one_line_with_its_address(tmp_path: Path) -> None:
    record(tmp_path / "run", "one")
    variables = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    done = typed("export", "run", "--push", "me/x", folder=tmp_path, variables=variables, timeout_s=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("openreward-gym: the Hub at http://127.0.0.1:9 is not reached (Connection refused)")


def test_a_shell_completes_names() -> None:
    environ = {**os.environ, "_OPENREWARD_GYM_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    command = [sys.executable, "-m", "openreward_gym"]
    done = subprocess.run(command, env={**environ, "COMP_WORDS": "openreward-gym serve we"}, capture_output=True, text=True)
    assert done.stdout.split() == ["weather"]
    done = subprocess.run(command, env={**environ, "COMP_WORDS": "openreward-gym import insp"}, capture_output=True, text=True)
    assert done.stdout.split() == ["inspect"]


def test_a_wrapped_message_keeps_commands_whole() -> None:
    command = "`openreward-gym merge runs/first runs/second --output runs/all`"
    lines = wrapped(f"openreward-gym: the option --output is missing, write {command} or --help", width=60).splitlines()
    assert lines == ["openreward-gym: the option --output is missing, write", f"  {command}", "  or --help"]
