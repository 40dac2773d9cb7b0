"""The blocks of README work when they are typed from top to bottom into one shell, and print what it shows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from documents import ROOT, blocks_of, missing_lines
from typed_shell import clone, installed_environment, reader, type_page

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")


def check_printed(printed: str) -> None:
    demo = re.search(r"<!-- demo -->\n```text\n(.*?)```", TEXT, re.DOTALL)
    assert demo is not None
    assert not missing_lines(demo[1], printed)
    for line in ("What's the weather like in Seattle?", "1.0 True finished", "num_rows: 2", "5 rollouts imported"):
        assert line in printed, line
    assert len(re.findall("^True$", printed, re.M)) == 2


def test_readme_can_be_typed(tmp_path: Path) -> None:
    folder = clone(tmp_path / "openreward-gym")
    installed_environment(folder / ".venv")
    with reader(folder, tmp_path) as shell:
        check_printed(type_page(README, shell))
        assert shell.type("wait").code == 0  # for the end of what the page killed
        assert shell.jobs() == []


@pytest.mark.matrix
@pytest.mark.timeout(1500)
def test_readme_can_be_typed_where_nothing_is_installed(tmp_path: Path) -> None:
    folder = clone(tmp_path / "openreward-gym")
    with reader(folder, tmp_path, {"PYTHONPATH": ""}, private_network=False, timeout_s=1200) as shell:
        check_printed(type_page(README, shell))
        assert shell.type("wait").code == 0  # for the end of what the page killed
        assert shell.jobs() == []


@pytest.mark.matrix
@pytest.mark.timeout(1500)
def test_the_installation_without_make(tmp_path: Path) -> None:
    (command,) = re.findall(r"`(pip install [^`]+)` in a virtual environment", TEXT)
    folder = clone(tmp_path / "openreward-gym")
    with reader(folder, tmp_path, {"PYTHONPATH": ""}, private_network=False, timeout_s=1200) as shell:
        for typed in (f"{shutil.which('python3')} -m venv mine", ". mine/bin/activate", command, "openreward-gym demo"):
            answer = shell.type(typed)
            assert answer.code == 0, answer.output
        assert "openreward-gym report runs/demo/ctf" in answer.output


def test_readme_is_one_screen() -> None:
    assert len(TEXT.splitlines()) <= 180


def test_the_first_command_is_among_the_first_lines() -> None:
    (first, *_) = blocks_of(README)
    assert first.line <= 24
