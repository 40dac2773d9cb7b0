"""The command line as a user meets it: output on stdout, one line on stderr for what went wrong, exit codes."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main

from openreward_gym import cli
from openreward_gym.cli import runs
from openreward_gym.cli.collect import WITHOUT_EFFECT
from openreward_gym.cli.parameters import parse_options
from openreward_gym.errors import ConfigurationError
from openreward_gym.export import ExportOptions, Select
from openreward_gym.options import ClientOptions, RetryBudget, RetryLimits, RunOptions, SessionOptions
from openreward_gym.platform import upload
from openreward_gym.recording.recorder import Recorder
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import AssistantMessage, Rollout, UserMessage


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def command(*arguments: object) -> Ran:
        code = 0
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return command


def test_a_text_that_no_encoding_has_is_printed_as_its_escape(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with Recorder(tmp_path / "runs") as recorder, recorder.rollout(environment="e\udc01", run="r") as log:
        log.log(UserMessage("Go."))
        log.log(AssistantMessage("Gone."), reward=1.0, is_finished=True)
    ran = run("report", tmp_path / "runs")
    assert ran.code == 0
    assert "e\\udc01" in ran.out


COMMANDS = sorted(name for name in vars(typer.main.get_command(cli.app))["commands"])


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "orwd"])  # whose help is the SDK's
def test_every_command_is_explained_by_an_example(run, name: str) -> None:  # type: ignore[no-untyped-def]
    ran = run(name, "--help")
    assert ran.code == 0
    assert f"Example: openreward-gym {name}" in " ".join(ran.out.split())
    assert max(map(len, ran.out.splitlines())) <= 80
    about = " ".join(ran.out.split("\n\n")[1].split())
    assert re.fullmatch(r"[A-Z][a-z]+ [^.]*\.", about)
    # Options say what value they take; Typer would say its type.
    assert re.findall(r"^  --.*<(?:str|int|float|path|list).*$", ran.out, re.M) == []


def test_the_list_of_commands_says_what_each_does(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("--help")
    lines = ran.out.partition("Commands:\n")[2].splitlines()
    assert sorted(line.split()[0] for line in lines) == COMMANDS
    assert all(line.endswith(".") and not line.endswith("...") for line in lines)


def test_every_option_of_an_env_and_of_a_run_has_a_flag() -> None:
    """Options that mean nothing to a command are named here; all others are reachable from it."""
    commands = vars(typer.main.get_command(cli.app))["commands"]
    names = {name: {parameter.name for parameter in command.params} for name, command in commands.items()}
    assert set(RunOptions.names()) - names["collect"] == {*WITHOUT_EFFECT, "progress"}
    # A session's timeouts are flags of `tasks` and `check` only for opening: these commands have their own time per call.
    reachable = {*ClientOptions.names(), *SessionOptions.names()} - {"step_timeout_s", "episode_timeout_s"}
    for command in ("tasks", "check"):
        assert reachable <= names[command]
    assert {*Select.names(), *ExportOptions.names()} - names["export"] == {"where", "steps"}


def test_help_and_defaults_come_from_the_declarations(run) -> None:  # type: ignore[no-untyped-def]
    text = " ".join(run("collect", "--help").out.split())
    assert "--concurrency N Number of episodes to play at once. [default: 16]" in text
    assert "--step-timeout SECONDS" in text
    assert "0 sets no limit. [default: 600]" in text
    assert "In Python" not in text


def test_a_misspelled_flag_suggests_the_right_one(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("collect", "echo", "--policy", "random", "--max-step", 3)
    assert ran.code == 2
    assert "--max-steps" in ran.err


def test_flags_reach_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "it-is-a-secret")
    values = {
        "environment": "echo",
        "policy": "random",
        "secrets_env": ["judge=JUDGE_KEY"],
        "secret_domains": ["judge=a.example,b.example"],
        "env_overrides": ["LEVEL=3"],
        "retry_limits": ["attempts=2"],
        "retries": ["timeout=2", 'session_lost={"attempts": 3, "deadline_s": 60}'],
        "policy_options": ["temperature=0.5", "api=responses"],
        "on_message": "nudge",
        "step_timeout_s": 0.0,
        "idle_timeout_s": 5.0,
        "max_steps": None,
    }
    options = parse_options(RunOptions, values)
    assert options.env.session.secrets_env == {"judge": "JUDGE_KEY"}
    assert options.env.session.secret_domains == {"judge": ("a.example", "b.example")}
    assert options.env.session.env_overrides == {"LEVEL": "3"}
    assert options.env.client.retry_limits == RetryLimits(attempts=2)
    assert options.retries == {"timeout": RetryBudget(2), "session_lost": RetryBudget(3, deadline_s=60)}
    assert options.policy_options == {"temperature": 0.5, "api": "responses"}
    assert (options.env.limits.on_message, options.env.limits.step_timeout_s) == ("nudge", None)
    assert options.env.client.idle_timeout_s == 5.0
    with pytest.raises(ConfigurationError, match="--repeats must be an integer from 1"):
        parse_options(RunOptions, {**values, "repeats": 0})
    with pytest.raises(ConfigurationError, match="--env-override takes NAME=VALUE"):
        parse_options(RunOptions, {**values, "env_overrides": ["LEVEL"]})


ECHO = json.dumps({"steps": [{"name": "echo", "arguments": {"text": "hi"}}]}) + "\n"
"""A script for the environment echo. A random policy would call its tools that sleep and fail."""


def test_collect_report_export(run, server_url: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "script.jsonl").write_text(ECHO)
    script = ("--policy", "scripted:script.jsonl")
    ran = run("collect", "echo", *script, "--base-url", server_url, "--max-steps", 1, "--output", "runs/a")
    assert ran.code == 0, ran.err
    assert "rollouts in runs/a" in ran.out
    report = run("report", "runs/a", "--json")
    assert report.code == 0
    assert json.loads(report.out)["rollouts"] > 0
    assert "mean reward" in run("report", "runs/a").out or "no reward" in run("report", "runs/a").out
    exported = run("export", "runs/a", "--format", "sft", "--output", "out")
    assert exported.code == 1
    assert exported.err == (
        "openreward-gym: sft: no row was written from 5 rollouts (5 status truncated): --status any takes all, "
        "--status completed --status truncated those too\n"
    )
    exported = run("export", "runs/a", "--format", "sft", "--output", "out", "--status", "any")
    assert exported.code == 0, exported.err
    assert "sft: 5 rows from 5 of 5 rollouts" in exported.out


def test_a_run_that_is_not_complete(run, server_url: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "script.jsonl").write_text('{"steps": [{"name": "fail", "arguments": {"text": "boom"}}]}\n')
    collect = ("collect", "echo", "--policy", "scripted:script.jsonl", "--base-url", server_url)
    ran = run(*collect, "--output", "runs/a")
    assert ran.code == 1
    assert "boom" in ran.err
    assert "5 attempts failed in this way" in ran.err
    assert "--resume" in ran.err
    # All of them failed, and would fail again.
    ran = run(*collect, "--output", "runs/b", "--fail-on-error", 0, "--retry", "tool_failed=1")
    assert ran.code == 1
    assert "5 failed, 0 missing; the same would fail again" in ran.err
    # One of them has passed.
    echo = {"steps": [{"name": "finish", "arguments": {"text": "right"}}], "task_index": 0}
    (tmp_path / "script.jsonl").write_text((tmp_path / "script.jsonl").read_text() + json.dumps(echo) + "\n")
    ran = run(*collect, "--output", "runs/c", "--retry", "tool_failed=1", "--concurrency", 1)
    assert ran.code == 75
    assert "4 failed, 0 missing; continue with: openreward-gym " in ran.err


def test_sessions_are_given_secrets_and_toolsets(run, server_url: str, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("JUDGE_KEY", "it-is-a-secret")
    step = {"name": "secret", "arguments": {"text": "judge"}}
    (tmp_path / "script.jsonl").write_text(json.dumps({"steps": [step]}) + "\n")
    collect = ("collect", "echo", "--policy", "scripted:script.jsonl", "--base-url", server_url, "--tasks", "0", "--max-steps", 1)
    ran = run(*collect, "--secret", "judge=JUDGE_KEY", "--output", "runs/a")
    assert ran.code == 0
    (rollout,) = RolloutStore("runs/a")
    (message,) = [message for message in rollout.messages if message.role == "tool"]
    assert message.text == str(len("it-is-a-secret"))
    assert not any(b"it-is-a-secret" in path.read_bytes() for path in Path("runs").rglob("*") if path.is_file())
    ran = run(*collect, "--secret", "judge=it-is-a-secret")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "it-is-a-secret" not in ran.err
    ran = run("check", "echo", "--base-url", server_url, "--toolset", "no_such_toolset", "--secret", "judge=JUDGE_KEY")
    assert ran.code == 1
    assert "no_such_toolset" in ran.out
    assert "it-is-a-secret" not in ran.out


def test_tasks(run, server_url: str) -> None:  # type: ignore[no-untyped-def]
    ran = run("tasks", "echo", "--base-url", server_url, "--split", "train", "--task", "1")
    assert ran.code == 0
    assert "train" in ran.out
    assert "echo(text)" in ran.out
    assert 'task {"number": 1' in ran.out
    description = json.loads(run("tasks", "echo", "--base-url", server_url, "--json").out)
    assert {split["name"]: split["tasks"] for split in description["splits"]} == {"train": 5, "test": 2}


def test_wrong_input_is_one_line_without_a_traceback(run, server_url: str) -> None:  # type: ignore[no-untyped-def]
    cases: list[tuple[tuple[object, ...], int, str]] = [
        (("tasks", "ecoh", "--base-url", server_url), 2, "echo"),
        (("tasks", "echo", "--base-url", "http://127.0.0.1:9"), 1, "127.0.0.1:9"),
        (("tasks", "echo", "--base-url", "not a url"), 2, "not a url"),
        (("tasks", "echo", "--base-url", "http://\udcff"), 2, "--base-url 'http://\\udcff' is not a URL"),
        (("check", "echo", "--base-url", "http://two words"), 2, "--base-url 'http://two words' is not a URL"),
        (("tasks", "echo", "--base-url", server_url, "--split", "trian"), 2, "trian"),
        (("tasks", "echo", "--base-url", server_url, "--task", 77), 2, "77"),
        (("collect", "echo", "--policy", "rnd", "--base-url", server_url), 2, "rnd"),
        (("collect", "echo", "--policy", "random", "--base-url", server_url, "--tasks", "9:"), 2, "9:"),
        (("collect", "echo", "--policy", "random", "--base-url", server_url, "--resume"), 2, "output"),
        (("report", "nowhere"), 1, "nowhere"),
        (("export", "nowhere"), 1, "nowhere"),
        (("serve", "no-such-environment"), 2, "no-such-environment"),
        (("serve", "weather", "--port", 99999), 2, "65535"),
        (("no-such-command",), 2, "no-such-command"),
        (("report",), 2, "RUN"),
    ]
    for arguments, code, says in cases:
        ran = run(*arguments)
        assert ran.code == code, (arguments, ran)
        assert says in ran.err, (arguments, ran.err)
        assert "Traceback" not in ran.err
        if not ran.err.startswith("Usage"):
            assert ran.err.startswith("openreward-gym: ")


def test_view_without_a_run_says_how_to_make_one(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    ran = run("view")
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert "`openreward-gym demo` makes some" in ran.err
    (tmp_path / "runs" / "not-a-run").mkdir(parents=True)
    # Something else goes wrong then, so that the page is not served.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = run("view", "--port", taken.getsockname()[1])
    assert ran.code == 2
    assert ran.err.splitlines()[0].startswith("There is no run in runs yet, and the page shows runs as they appear. `")


@pytest.mark.parametrize("url", ["ftp://x", "weather", "", "http://", "http://host:port", "http://host/?a=1"])
def test_view_refuses_a_wrong_replay_server_at_once(run, tmp_path: Path, url: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "runs").mkdir()
    ran = run("view", "--replay", url, "--port", 0)
    assert (ran.code, ran.out) == (2, "")
    shown = url.partition("?")[0]  # a query may hold a secret
    assert ran.err.startswith(f"openreward-gym: --replay {shown!r} ")


@pytest.fixture
def hostile(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """A folder with what a user may give by mistake, and a run of one rollout."""
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    with Recorder(tmp_path / "run") as recorder, recorder.create(id="a") as log:
        log.log(UserMessage(content="Say hi."))
        log.log(AssistantMessage(content="hi"), reward=1.0, is_finished=True)
    capfd.readouterr()  # the recorder tells where it records
    return tmp_path


_COLLECT = ("collect", "echo", "--policy", "random", "--base-url", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*_COLLECT, "--output", "text.txt"), "--output 'text.txt' cannot be a folder"),
        ((*_COLLECT, "--output", ""), "--output names no folder"),
        ((*_COLLECT, "--output", "s3://bucket/run"), "'s3://bucket/run' is a URL"),
        ((*_COLLECT, "--policy", "openai:x", "--policy-url", "ftp://me:secret@x"), "--policy-url 'x' is not a URL"),
        ((*_COLLECT, "--policy", "scripted:binary.jsonl"), "is not UTF-8 text"),
        ((*_COLLECT, "--policy", "no_such_module_:X"), "No module named 'no_such_module_'"),
        (("merge", "run", "--output", "text.txt/below"), "--output 'text.txt/below' cannot be a folder"),
        (("import", "nemo-gym", "text.txt", "--output", "text.txt"), "--output 'text.txt' cannot be a folder"),
        (("import", "nemo-gym", "", "--output", "imported"), "the path is empty"),
        (("export", "run", "--output", "text.txt"), "--output 'text.txt' cannot be a folder"),
        (("export", "run", "--min-reward", "nan"), "--min-reward must be a number, not nan"),
        (("export", "run", "--max-reward", "NaN"), "--max-reward must be a number, not nan"),
        (("export", "run", "--format", "kto", "--good-reward", "nan"), "--good-reward must be a number, not nan"),
        (("export", "run", "--format", "preference", "--min-gap", "nan"), "--min-gap must be"),
        (("export", "run", "--format", "preference", "--min-gap", "-1"), "--min-gap must be"),
        (("export", "run", "--min-rating", "9"), "--min-rating 9 is not possible: it must be at most 5"),
        (("report", "run", "--plots", "text.txt"), "--plots 'text.txt' cannot be a folder"),
        (("report", "run", "--html", "text.txt/page.html"), "--html 'text.txt' cannot be a folder"),
        (("view", "run", "--html", "text.txt/page.html"), "--html 'text.txt' cannot be a folder"),
        (("demo", "--output", "text.txt"), "--output 'text.txt' cannot be a folder"),
        (("serve", "weather", "weather", "--port", 0), "duplicate env weather"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(run, hostile: Path, arguments: tuple[object, ...], says: str) -> None:  # type: ignore[no-untyped-def]
    before = sorted(path.name for path in hostile.iterdir())
    ran = run(*arguments)
    assert ran.code == 2, ran
    *usage, line = ran.err.splitlines()
    assert says in line
    assert not usage or usage[0].startswith("Usage: ")
    assert "Traceback" not in ran.err
    assert "secret" not in ran.err
    # Nothing is left of it.
    assert sorted(path.name for path in hostile.iterdir()) == before


@pytest.mark.parametrize("command", ["report", "export", "view"])
@pytest.mark.parametrize(("name", "says"), [("nowhere", "nowhere does not exist"), ("text.txt", "text.txt is a file")])
def test_what_is_not_a_run_is_refused_in_one_line(run, hostile: Path, command: str, name: str, says: str) -> None:  # type: ignore[no-untyped-def]
    ran = run(command, name)
    assert ran.code == 1
    assert ran.err.startswith(f"openreward-gym: {says}")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "says", "where"),
    [
        ("raise RuntimeError('made of cheese')", "RuntimeError: made of cheese", "line 1, in <module>"),
        ("def f(:", "SyntaxError: ", "line 1: def f(:"),
        ("import sys\nsys.exit(3)", "SystemExit: 3", "line 2, in <module>"),
        ("import no_such_dependency", "No module named 'no_such_dependency'", "line 1, in <module>"),
    ],
)
def test_a_policy_that_does_not_load(run, tmp_path: Path, source: str, says: str, where: str) -> None:  # type: ignore[no-untyped-def]
    name = f"policy_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(source)
    ran = run(*_COLLECT, "--policy", f"{name}:X")
    assert ran.code == 2
    first, second = ran.err.splitlines()
    assert f"'{name}:X' cannot be imported: " in first
    assert says in first
    assert f'{name}.py", {where}' in second


def test_runs_are_read_from_other_file_systems(run, hostile: Path) -> None:  # type: ignore[no-untyped-def]
    address = (hostile / "run").as_uri()
    assert json.loads(run("report", address, "--json").out)["rollouts"] == 1
    assert run("merge", address, "--output", (hostile / "merged").as_uri()).code == 0
    assert json.loads(run("report", "merged", "--json").out)["rollouts"] == 1


def test_a_split_without_a_name_is_none(run, server_url: str) -> None:  # type: ignore[no-untyped-def]
    ran = run("tasks", "echo", "--base-url", server_url, "--split", "")
    assert ran.code == 2
    assert "no split ''" in ran.err


def test_an_upload_that_waits_says_so(run, hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(runs, "REPORT_EVERY_S", 0.0)
    monkeypatch.setenv("OPENREWARD_API_KEY", "key")
    monkeypatch.setattr("openreward_gym.platform.upload", functools.partial(upload, patience_s=1.0))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    ran = run("upload", "run", "--base-url", url)
    assert ran.code == 75
    assert "0 rollouts sent, 1 not yet; still trying" in ran.err


def test_debug_shows_the_traceback(server_url: str) -> None:
    command = [sys.executable, "-m", "openreward_gym.cli", "tasks", "ecoh", "--base-url", server_url, "--debug"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "Traceback" in ran.stderr
    assert "EnvironmentNotFoundError" in ran.stderr


def test_serve_runs_until_it_is_interrupted() -> None:
    command = [sys.executable, "-m", "openreward_gym.cli", "serve", "weather", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("Serving weather at http://127.0.0.1:")
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=30)
    assert "Traceback" not in err
    assert "Stopping." in out


def test_a_reader_that_goes_away_is_no_error(server_url: str) -> None:
    command = f"{sys.executable} -m openreward_gym.cli tasks echo --base-url {server_url} --json | head -n 1"
    ran = subprocess.run(command, shell=True, capture_output=True, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert ran.stdout.strip() == "{"
    assert "Traceback" not in ran.stderr


def test_import_says_what_it_could_not_read(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    line = {
        "responses_create_params": {"input": [{"role": "user", "content": "Say hi."}]},
        "response": {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}]},
        "reward": 1.0,
    }
    (tmp_path / "rollouts.jsonl").write_text(json.dumps(line) + "\n{broken\n" + json.dumps({**line, "reward": 0.0}) + "\n")
    ran = run("import", "nemo-gym", "rollouts.jsonl", "--output", "runs/imported")
    assert ran.code == 1
    assert "2 rollouts imported" in ran.out
    assert "line 2" in ran.err
    again = run("import", "nemo-gym", "rollouts.jsonl", "--output", "runs/imported")
    assert "0 rollouts imported into runs/imported, 2 were imported before" in again.out
    assert json.loads(run("report", "runs/imported", "--json").out)["mean_reward"] == 0.5
    exported = run("export", "runs/imported", "--min-reward", 1, "--output", "out")
    assert exported.code == 0
    assert "1 rows from 1 of 2" in exported.out or "1 row from 1 of 2" in exported.out


def test_upload_without_a_key_says_what_is_missing(run, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("OPENREWARD_API_KEY", raising=False)
    with RolloutStore("runs/a") as store:
        store.append(Rollout(status="completed"))
    ran = run("upload", "runs/a")
    assert ran.code == 2
    assert "OPENREWARD_API_KEY" in ran.err


BROKEN = {
    "raises.py": "import json\njson.loads('{')\n",
    "syntax.py": "x = 1\ndef (:\n",
    "needs.py": "import no_such_dependency\n",
    "exits.py": "import sys\nsys.exit('usage: exits')\n",
    "binary.py": "\0",
    "plain.py": "class Plain: pass\n",
    "splits.py": """
from openreward.environments import Environment
class Splits(Environment):
    @classmethod
    def list_splits(cls):
        raise ValueError("no data here")
    @classmethod
    def list_tasks(cls, split):
        return []
    def get_prompt(self):
        return []
""",
}


@pytest.mark.parametrize(
    ("target", "says", "where"),
    [
        ("nosuch.py:X", "there is no file ", None),
        ("nosuch.py", "there is no file ", None),
        ("folder.py:X", "folder.py is a folder", None),
        ("plain.py", "name the class too, as in plain.py:MyEnvironment", None),
        ("wether", "did you mean 'weather'?", None),
        ("plain.py:Other", "plain.py has no 'Other'", None),
        ("plain.py:Plain", "the class Plain is not a subclass of", None),
        ("raises.py:X", "cannot serve raises.py:X: JSONDecodeError: ", "raises.py\", line 2, in <module>: json.loads('{')"),
        ("syntax.py:X", "cannot serve syntax.py:X: SyntaxError: ", 'syntax.py", line 2: def (:'),
        ("needs.py:X", "No module named 'no_such_dependency'", 'needs.py", line 1, in <module>: import no_such_dependency'),
        ("exits.py:X", "SystemExit: usage: exits", 'exits.py", line 2'),
        ("binary.py:X", "SyntaxError: ", None),
        ("splits.py:Splits", "no data here", 'splits.py", line 6, in list_splits: raise ValueError("no data here")'),
    ],
)
def test_what_cannot_be_served_is_said_once(run, tmp_path: Path, target: str, says: str, where: str | None) -> None:  # type: ignore[no-untyped-def]
    for name, text in BROKEN.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder.py").mkdir()
    ran = run("serve", target, "--port", 0)
    lines = ran.err.splitlines()  # what the server's process writes is in it
    assert ran.code == 2
    assert lines[0].startswith("openreward-gym: ")
    assert says in lines[0]
    if where is None:
        assert len(lines) == 1
    else:
        assert len(lines) == 2
        assert where in lines[1]
