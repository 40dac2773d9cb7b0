"""Each command that the program prints for its user works when it is typed as it stands, and ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typed_shell import Answer, TypedShell, installed_environment, reader

from openreward_gym.cli.demo import new_folder

ENDLESS = '''
from openreward.environments import Environment, Split, TextBlock, ToolOutput, tool


class Endless(Environment):
    """An environment that no call ends."""

    @classmethod
    def list_splits(cls):
        return [Split(name="train", type="train")]

    @classmethod
    def list_tasks(cls, split):
        return [{"number": number} for number in range(3)]

    async def get_prompt(self):
        return [TextBlock(text="Wait.")]

    @tool
    async def wait(self) -> ToolOutput:
        """Wait a little longer."""
        return ToolOutput(blocks=[TextBlock(text="Not yet.")])
'''
SLOW_POLICY = '''
import asyncio
from pathlib import Path


async def policy(transcript, tools):
    """Wait for minutes, unless the file `fast` exists."""
    Path("asked").touch()
    while not Path("fast").exists():
        await asyncio.sleep(0.05)
    return "It is cold."
'''


def hints(text: str) -> list[str]:
    """Return the commands of this program that a text shows: as lines, in backticks, or after a colon at the end of a line."""
    return [match[1] for match in re.finditer(r"(?:^ *|`|: )(openreward-gym [^`\n]+?)(?:`| *$)", text, re.M)]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    return installed_environment(tmp_path / "environment") / "bin"


@pytest.fixture
def shell(tmp_path: Path, programs: Path) -> Iterator[TypedShell]:
    folder = tmp_path / "reader"
    folder.mkdir()
    with reader(folder, programs, timeout_s=60) as shell:
        yield shell


def typed(shell: TypedShell, command: str, code: int = 0) -> Answer:
    answer = shell.type(command)
    assert answer.code == code, (command, answer.output)
    return answer


def view_until_killed(shell: TypedShell, command: str) -> None:
    """Type a command that shows runs until Ctrl-C: it prints its address, answers there, and can be ended."""
    typed(shell, f"{command} >view.log 2>&1 &")
    typed(shell, "timeout 30 sh -c 'until grep -q http:// view.log; do sleep 0.05; done'")
    (address,) = re.findall(r"http://127\.0\.0\.1:\d+/", typed(shell, "cat view.log").output)
    typed(shell, f"python -c 'import urllib.request; urllib.request.urlopen(\"{address}\")'")
    typed(shell, "kill %% && wait %%", code=143)


def test_the_commands_of_the_demo(shell: TypedShell, programs: Path) -> None:
    # As `make demo` does in an environment that is not activated.
    typed(shell, f"PATH=/usr/bin:/bin; hash -r; {programs}/openreward-gym demo >demo.log")
    printed = typed(shell, "cat demo.log").output
    assert "\x1b" not in printed
    assert max(map(len, printed.splitlines())) <= 80
    commands = [line.strip() for line in printed.partition("Next:\n")[2].splitlines() if line.strip()]
    assert [re.split(r" (?:runs|weather|ctf|\.\.)", command)[0] for command in commands] == [
        ".",
        "openreward-gym report",
        "openreward-gym export",
        "openreward-gym serve",
        "openreward-gym collect",
        "kill %%         # stops the server",
    ]
    for command in commands:
        typed(shell, command)
    assert "--min-reward" in commands[2]
    typed(shell, "wait")
    assert shell.jobs() == []


def test_the_demo_takes_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert new_folder() == Path("runs/demo")
    Path("runs/demo").mkdir(parents=True)
    Path("runs/demo-2").symlink_to("nowhere")
    assert new_folder() == Path("runs/demo-3")


def test_the_commands_of_serve_and_collect(shell: TypedShell) -> None:
    (shell.folder / "endless.py").write_text(ENDLESS, encoding="utf-8")
    typed(shell, "openreward-gym serve endless.py:Endless --port 8081 >serve.log 2>&1 &")
    typed(shell, "timeout 30 sh -c 'until grep -q policy serve.log; do sleep 0.05; done'")
    tasks, collect = hints(typed(shell, "cat serve.log").output)
    assert "wait()" in typed(shell, tasks).output
    # No call ends this environment: the random policy does.
    collected = typed(shell, collect).output
    assert "3 of 3 rollouts" in collected
    assert "ended: message 3" in collected
    assert "3 of 3 rollouts" in typed(shell, f"{collect} --on-message nudge --output runs/nudged").output
    report, view = hints(collected)
    assert "3 expected = 3 successful" in typed(shell, report).output
    view_until_killed(shell, view)
    # Where the extra `viewer` is not installed, the command that needs it is not printed.
    without = "import sys; sys.modules['starlette'] = None; from openreward_gym.cli import main; main()"
    arguments = collect.removeprefix("openreward-gym ")
    assert len(hints(typed(shell, f'python -c "{without}" {arguments} --output runs/plain').output)) == 1


def test_the_command_that_continues_a_run(shell: TypedShell) -> None:
    (shell.folder / "slow.py").write_text(SLOW_POLICY, encoding="utf-8")
    typed(shell, "openreward-gym serve weather --port 8080 >serve.log 2>&1 &")
    typed(shell, "timeout 30 sh -c 'until grep -q policy serve.log; do sleep 0.05; done'")
    collect = "openreward-gym collect weather --policy slow:policy --base-url http://127.0.0.1:8080 --output 'runs/a run'"
    typed(shell, f"{collect} >collect.log 2>&1 &")
    typed(shell, "timeout 30 sh -c 'until test -e asked; do sleep 0.05; done'")
    typed(shell, "kill -TERM %%; wait %%", code=75)
    (resume,) = (one for one in hints(typed(shell, "cat collect.log").output) if "--resume" in one)
    typed(shell, "touch fast")
    assert "5 of 5 rollouts in runs/a run" in typed(shell, resume).output


def test_the_command_that_starts_a_missing_server(shell: TypedShell) -> None:
    tasks = "openreward-gym tasks weather --base-url http://127.0.0.1:8099"
    (serve,) = hints(typed(shell, tasks, code=1).output)
    assert serve == "openreward-gym serve weather --port 8099"
    typed(shell, f"{serve} &")
    assert "get_weather(city)" in typed(shell, tasks).output


def test_the_commands_of_errors_about_runs(shell: TypedShell) -> None:
    (shell.folder / "a file").touch()
    for wrong in ("openreward-gym report none", "openreward-gym report 'a file'", "openreward-gym view"):
        answer = shell.type(wrong)
        assert answer.code in (1, 2)
        found = hints(answer.output)
        assert found, answer.output
        for command in found:
            typed(shell, command)


def test_the_command_of_a_recorder(shell: TypedShell) -> None:
    program = (
        "from openreward_gym import Recorder, UserMessage\n"
        "with Recorder('runs/my run') as recorder, recorder.rollout(environment='e') as rollout:\n"
        "    rollout.log(UserMessage('Hi'))\n"
    )
    printed = typed(shell, f"python - <<'X'\n{program}X").output
    (view,) = re.findall(r"\((openreward-gym view [^\n]*)\)$", printed, re.M)
    view_until_killed(shell, view)
