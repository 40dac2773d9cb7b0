"""Tests of `benchmarks/house.py` on small packages written for the purpose."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT

HOUSE = ROOT / "benchmarks" / "house.py"


def measured(*checkouts: Path, option: str = "--json") -> str:
    command = [sys.executable, str(HOUSE), *map(str, checkouts), option]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A package in which `a` and `b` import each other, and `sub.c` is imported by `b` alone, inside a function."""
    package = tmp_path / "openreward_gym"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text('"""A package."""\n')
    (package / "a.py").write_text('"""What a is."""\nfrom openreward_gym import b\n\nvalues = locals()\n')
    (package / "b.py").write_text(
        "import openreward_gym.a\n"
        "from typing import Any\n"
        "def public(one: Any, *rest: dict[str, Any]) -> Any:\n"
        '    """Return one."""\n'
        "    from openreward_gym.sub.c import C\n"
        "    return C\n"
        "def _private(one: Any) -> Any: ...\n"
    )
    (package / "sub" / "__init__.py").write_text("")
    (package / "sub" / "c.py").write_text(
        "class C:\n"
        "    def __init__(self, value: Any) -> None: ...\n"
        "    def _hidden(self) -> Any: ...\n"
        "class _D:\n"
        "    class C: ...\n"
        "    def f(self) -> Any: ...\n"
    )
    return tmp_path


def test_counts(checkout: Path) -> None:
    assert json.loads(measured(checkout))[str(checkout)] == {
        "files": 5,
        "lines": 18,
        "files_under_100_lines": 5,
        "modules_with_one_importer": 3,
        "import_circles": 1,
        "class_names_used_twice": 1,
        "locals_calls": 1,
        "any_in_public_signatures": 4,
        "docstrings": 3,
        "docstrings_that_open_with_a_question_word": 1,
    }


def test_modules_and_circles_are_listed(checkout: Path) -> None:
    listed = measured(checkout, option="--modules")
    assert "circle: openreward_gym.a, openreward_gym.b" in listed
    assert "class C: defined 2 times" in listed
    assert any(line.startswith("openreward_gym.sub.c ") and line.endswith("by openreward_gym.b") for line in listed.splitlines())


def test_checkouts_stand_side_by_side(checkout: Path) -> None:
    counts = json.loads(measured(checkout, ROOT))
    assert counts[str(ROOT)]["files"] > counts[str(checkout)]["files"]


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, str(HOUSE), str(tmp_path)], capture_output=True, text=True)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
