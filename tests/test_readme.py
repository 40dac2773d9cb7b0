"""The blocks of README run, in order, in an empty folder, and print what it shows."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from openreward_gym import serve

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code for language, code in BLOCKS if language == "bash" and "pip install" not in code]


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_blocks_run(number: int, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:openreward_gym", "-c", PYTHON[number]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert ran.returncode == 0, ran.stderr
    if number == 0:
        assert "What's the weather like in Seattle?" in ran.stdout
        assert "1.0 True finished" in ran.stdout
    elif "to_dataset" in PYTHON[number]:
        assert "num_rows: 2" in ran.stdout
    else:
        assert ran.stdout.strip() == "True"


def test_shell_blocks_run(tmp_path: Path) -> None:
    assert SHELL
    (tmp_path / "examples").mkdir()
    shutil.copy(README.parent / "examples" / "weather_queries.jsonl", tmp_path / "examples")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = str(probe.getsockname()[1])
    lines = [line for block in SHELL for line in block.replace("8080", free).splitlines()]
    server, *commands = lines
    assert server == f"openreward-gym serve weather ctf --port {free} &"
    with serve.local(["weather", "ctf"], port=int(free)):
        for line in commands:
            ran = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, env=environment())
            assert ran.returncode == 0, (line, ran.stderr)
    assert (tmp_path / "out").is_dir()


def test_readme_is_one_screen() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 180


def test_the_demo_prints_what_readme_shows(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "openreward_gym.cli", "demo"], cwd=tmp_path, capture_output=True, text=True, env=environment()
    )
    assert ran.returncode == 0, ran.stderr
    shown = re.search(r"<!-- demo -->\n```text\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    # Times, dates and ports change from run to run; an ellipsis in README stands for omitted lines.
    plain = _plain(ran.stdout)
    for line in _plain(shown[1]).splitlines():
        if line.strip() not in ("", "..."):
            assert line in plain, line


def _plain(text: str) -> str:
    text = re.sub(r"\d{8}-\d{6}|127\.0\.0\.1:\d+", "X", text)
    text = re.sub(r"\d+\.\d\d?\b", "N", text)
    return "\n".join(re.sub(r"\s+", " ", line).strip() for line in text.splitlines())
