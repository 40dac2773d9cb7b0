"""Reloading: a changed file is served at once, and a broken file breaks nothing."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

import openreward_gym  # noqa: F401  (registers OpenReward-v0)
from openreward_gym.envs.catalog import forget
from openreward_gym.errors import ConfigurationError
from openreward_gym.serve.reload import changed, folders_of, snapshot

SOURCE = '''
from openreward.environments import Environment, TextBlock, ToolOutput, tool
from words import WORD

class Changing(Environment):
    @classmethod
    def list_splits(cls): return ["train"]

    @classmethod
    def list_tasks(cls, split): return [{}]

    def get_prompt(self): return [TextBlock(text=f"the first {WORD}")]

    @tool
    async def go(self) -> ToolOutput:
        """Go."""
        return ToolOutput(blocks=[TextBlock(text="gone")], finished=True)
'''


class Development:
    """A run of `openreward-gym serve changing.py:Changing --reload`, with its output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: queue.Queue[str] = queue.Queue()
        self.earlier: list[str] = []
        command = [sys.executable, "-u", "-m", "openreward_gym.cli", "serve", "changing.py:Changing", "--reload", "--port", "0"]
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        # All processes with the other end of the pipe end with the command, or this would never return.
        self._reader.join(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wait_for(self, words: str) -> str:
        """Return the next line that contains `words`. The lines up to it are added to `earlier`."""
        while True:
            try:
                line = self.lines.get(timeout=60)
            except queue.Empty:
                raise AssertionError(f"no line with {words!r}: {''.join(self.earlier)}") from None
            self.earlier.append(line)
            if words in line:
                return line

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)


@pytest.fixture
def development(tmp_path: Path) -> Iterator[Development]:
    (tmp_path / "words.py").write_text("WORD = 'one'\n")
    (tmp_path / "changing.py").write_text(SOURCE)
    running = Development(tmp_path)
    try:
        yield running
    finally:
        running.close()


def prompt(base_url: str) -> str:
    forget()
    env = gym.make("OpenReward-v0", environment="changing", base_url=base_url)
    try:
        return str(env.reset()[0])
    finally:
        env.close()


def test_a_server_that_reloads(development: Development) -> None:
    base_url = development.wait_for("Serving changing at").split()[3]
    assert prompt(base_url) == "the first one"
    development.write("words.py", "WORD = 'two'\n")
    development.wait_for("words.py changed.")
    development.wait_for("Reloaded.")
    assert prompt(base_url) == "the first two"
    development.earlier.clear()
    development.write("changing.py", SOURCE.replace("class Changing(", "class Changing[("))
    development.wait_for("the server goes on as it was")
    output = "".join(development.earlier)
    assert "SyntaxError" in output
    assert "changing.py" in output
    assert "openreward_gym" not in output
    assert "importlib" not in output
    assert prompt(base_url) == "the first two"
    development.write("changing.py", SOURCE + "\n1 / 0\n")
    development.wait_for("ZeroDivisionError")
    development.wait_for("the server goes on as it was")
    assert prompt(base_url) == "the first two"
    development.write("changing.py", SOURCE.replace("the first", "the last"))
    development.wait_for("Reloaded.")
    assert prompt(base_url) == "the last two"
    development.process.send_signal(signal.SIGINT)
    development.wait_for("Stopping.")
    assert development.process.wait(30) == 0


def test_one_that_does_not_load_at_first_waits_for_a_change(tmp_path: Path) -> None:
    (tmp_path / "words.py").write_text("WORD = \n")
    (tmp_path / "changing.py").write_text(SOURCE)
    running = Development(tmp_path)
    try:
        running.wait_for("SyntaxError")
        running.wait_for("nothing is served until a file changes")
        running.write("words.py", "WORD = 'one'\n")
        assert prompt(running.wait_for("Serving changing at").split()[3]) == "the first one"
    finally:
        running.close()


def test_folders_and_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pkg/sub", ".hidden", "venv", "node_modules"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "module.py").write_text("")
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    (tmp_path / "pkg" / "__init__.py").write_text("raise RuntimeError('never imported')")
    (tmp_path / "single.py").write_text("not python")
    assert folders_of(["weather", "pkg.sub.module:Env"]) == [tmp_path / "pkg"]
    assert folders_of(["single:Env", "single.py:Env"]) == [tmp_path]
    before = snapshot([tmp_path])
    assert [Path(name).relative_to(tmp_path).as_posix() for name in sorted(before)] == [
        "pkg/__init__.py",
        "pkg/sub/module.py",
        "single.py",
    ]
    (tmp_path / "single.py").unlink()
    (tmp_path / "new.py").write_text("")
    assert [Path(name).name for name in changed(before, snapshot([tmp_path]))] == ["new.py", "single.py"]
    for nothing in (["weather"], ["no_such_module:Env"]):
        with pytest.raises(ConfigurationError, match="--reload watches the files"):
            folders_of(nothing)
