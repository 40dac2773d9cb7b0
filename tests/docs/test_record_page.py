"""docs/record.md documents every field of a record, and no others."""

from __future__ import annotations

import re

import pytest
from documents import DOCS

from openreward_gym.store import rollout_schema

SCHEMA = rollout_schema()
OBJECTS = {"Rollout": SCHEMA, **{name: schema for name, schema in SCHEMA["$defs"].items() if name != "OpaqueBlock"}}
PAGE = (DOCS / "record.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", OBJECTS)
def test_the_page_documents_the_fields_of_an_object(name: str) -> None:
    section = re.search(rf"^### {name}\n(.*?)(?=^##)", PAGE, re.M | re.S)
    assert section is not None, f"docs/record.md has no section {name}"
    first_cells = re.findall(r"^\| (`.*?) \|", section[1], re.M)
    documented = [field for cell in first_cells for field in re.findall(r"`(\w+)`", cell)]
    assert sorted(documented) == sorted(OBJECTS[name]["properties"])


def test_the_page_documents_the_words_of_origin_and_ended() -> None:
    properties = OBJECTS["Message"]["properties"]
    for field in ("origin", "ended"):
        words = next(option["enum"] for option in properties[field]["anyOf"] if "enum" in option)
        row = re.search(rf"^\| `{field}` \| (.*) \|$", PAGE, re.M)
        assert row is not None
        assert [word for word in words if f"`{word}`" not in row[1]] == []
