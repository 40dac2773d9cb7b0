"""docs/record.md documents every field of a record, and no others; its code runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents import DOCS

from openreward_gym.store import rollout_schema

SCHEMA = rollout_schema()
OBJECTS = {"Rollout": SCHEMA, **{name: schema for name, schema in SCHEMA["$defs"].items() if name != "OpaqueBlock"}}
PAGE = (DOCS / "record.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    """Return the section of an object."""
    match = re.search(rf"^### {name}\n(.*?)(?=^##)", PAGE, re.M | re.S)
    assert match is not None, f"docs/record.md has no section {name}"
    return match[1]


@pytest.mark.parametrize("name", OBJECTS)
def test_the_page_documents_the_fields_of_an_object(name: str) -> None:
    first_cells = re.findall(r"^\| (`.*?) \|", section(name), re.M)
    documented = [field for cell in first_cells for field in re.findall(r"`(\w+)`", cell)]
    assert sorted(documented) == sorted(OBJECTS[name]["properties"])


@pytest.mark.parametrize("field", ["origin", "ended"])
def test_the_page_documents_the_words_of_a_field(field: str) -> None:
    words = next(option["enum"] for option in OBJECTS["Message"]["properties"][field]["anyOf"] if "enum" in option)
    row = re.search(rf"^\| `{field}` \| (.*) \|$", section("Message"), re.M)
    assert row is not None
    assert [word for word in words if f"`{word}`" not in row[1]] == []


def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 1.0 What's the weather like in Seattle?\n"
    assert len(list((tmp_path / "runs" / "my-run" / "rollouts").iterdir())) == 1
