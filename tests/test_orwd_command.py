"""`openreward-gym orwd ...` is the official SDK's `orwd ...`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openreward_gym.cli import orwd
from openreward_gym.errors import MissingExtraError


def run(command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {**os.environ, "OPENREWARD_DISABLE_UPDATE_CHECK": "1", "COLUMNS": "80", **environ}
    return subprocess.run(command, env=kept, capture_output=True, text=True, timeout=60, check=False)


def both(*arguments: str, **environ: str) -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    theirs = run([sys.executable, "-m", "openreward.cli", *arguments], **environ)
    return theirs, run([sys.executable, "-m", "openreward_gym.cli", "orwd", *arguments], **environ)


@pytest.mark.parametrize(
    "arguments", [["--help"], [], ["runs", "--help"], ["no-such-command"], ["--no-such-option=1", "--", "-x"], ["--version"]]
)
def test_arguments_output_and_exit_code_are_the_sdk_s(arguments: list[str]) -> None:
    theirs, ours = both(*arguments)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    assert "orwd" in theirs.stdout + theirs.stderr


def test_a_command_that_fails(tmp_path: Path) -> None:
    theirs, ours = both("runs", OPENREWARD_API_KEY="", OPENREWARD_API_URL="http://127.0.0.1:9")
    assert ours.returncode == theirs.returncode != 0
    assert ours.stderr == theirs.stderr


def test_the_program_names_it() -> None:
    assert "orwd" in run([sys.executable, "-m", "openreward_gym.cli", "--help"]).stdout


def test_without_the_sdk_the_message_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\nu.find_spec = lambda n, *a: None if n == 'openreward' else find(n, *a)\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = run([sys.executable, "-m", "openreward_gym.cli", "orwd", "--help"], PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "which is not installed: pip install 'openreward-gym[server]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_signal_is_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\nkill -TERM $$\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    assert orwd.run_official([]) == 128 + signal.SIGTERM
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError):
        orwd.run_official([])


def test_ctrl_c_ends_both(tmp_path: Path) -> None:
    """The SDK's process is interrupted, and its exit code is the program's."""
    package = tmp_path / "openreward"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "cli.py").write_text(
        "import signal, sys, time\n"
        "def stop(number, frame):\n    print('bye', flush=True)\n    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, stop)\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-m", "openreward_gym.cli", "orwd"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == "bye\n"
        assert process.wait(20) == 130
        assert time.monotonic() - began < 20
