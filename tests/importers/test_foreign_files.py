"""Files of other systems and files that are nothing: each importer says in one line per cause what is wrong, and where."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from foreign_files import FILES, WHOLE_FILES_DAMAGED, importer_of
from typer.testing import CliRunner

from openreward_gym.cli import app
from openreward_gym.importers import describe, names, read
from openreward_gym.importers.reasons import UNREADABLE, explain
from openreward_gym.store import Damage
from openreward_gym.types import Rollout

IMPORTERS = [name for name in names() if name not in ("openreward", "anthropic-chat")]
# ShareGPT's importer reads the turns of chats, too: LLaMA-Factory does.
ALIKE = {("openai-chat", "sharegpt"), ("anthropic-chat", "sharegpt"), ("anthropic-chat", "openai-chat")}
PYTHON_WORDS = ("object has no attribute", "object is not", "indices must be", "unhashable", "unsupported operand", "of type '")


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("source", IMPORTERS)
def test_a_file_is_read_by_its_own_importer_only(kind: str, source: str, tmp_path: Path) -> None:
    name, content = FILES[kind]
    path = tmp_path / name
    path.write_bytes(content)
    items = list(read(source, path))
    own = importer_of(kind) == source
    assert any(isinstance(item, Rollout) for item in items) == (own or (kind, source) in ALIKE)
    if not own and (kind, source) not in ALIKE:
        texts = describe(item for item in items if isinstance(item, Damage))
        assert len(texts) == 1
        assert texts[0].startswith(f"{path}: ")
        assert "line 0" not in texts[0]
        assert not any(word in texts[0] for word in PYTHON_WORDS)


@pytest.mark.parametrize("kind", WHOLE_FILES_DAMAGED)
@pytest.mark.parametrize("source", IMPORTERS)
def test_a_file_that_nobody_can_read_is_one_line_and_exit_code_1(kind: str, source: str, tmp_path: Path) -> None:
    path = tmp_path / "trial_1.jsonl"
    path.write_bytes(WHOLE_FILES_DAMAGED[kind])
    result = CliRunner().invoke(app, ["import", source, str(path), "--output", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    message, count = result.stderr.splitlines()
    assert message.startswith(f"{path}: ")
    assert "line 0" not in message
    assert count == "1 record could not be read; the rest was imported"


@pytest.mark.parametrize("source", [source for source in IMPORTERS if source != "inspect"])
def test_a_file_without_records_is_told(source: str, tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"\n\n", b"[]\n", gzip.compress(b""))):
        path = tmp_path / f"trial_{number}.jsonl"
        path.write_bytes(content)
        result = CliRunner().invoke(app, ["import", source, str(path), "--output", str(tmp_path / "run")])
        assert (result.exit_code, result.stderr) == (1, f"openreward-gym: {path}: there are no records in it\n")


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind != "inspect" and FILES[kind][1].count(b"\n") < 3])
def test_records_before_the_end_of_a_torn_array_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / FILES[kind][0]
    record = json.loads(FILES[kind][1].splitlines()[0])
    record = record[0] if isinstance(record, list) else record
    path.write_text(json.dumps([record, record, record], indent=1)[:-20])
    items = list(read(importer_of(kind), path))
    assert items
    assert sum(isinstance(item, Damage) and "not JSON" in item.reason for item in items) == 1


def test_a_field_of_a_wrong_type_is_named_with_its_value() -> None:
    def total(record: dict[str, list[dict[str, int]]]) -> int:
        return sum(item["price"] for item in record["items"])

    cases = {
        "{'items': [{'price': 1}, {'price': None}]}": '"items[1].price" must be a number, it is None',
        "{'items': [{'price': 1}, 7]}": '"items[1]" must be an object, it is 7',
        "{'items': 7}": '"items" must be a list or an object, it is 7',
        "{'items': [{}]}": "no field 'price' in \"items[0]\"",
        "{}": "no field 'items'",
    }
    for text, reason in cases.items():
        record = json.loads(text.replace("'", '"').replace("None", "null"))
        with pytest.raises(UNREADABLE) as caught:
            total(record)
        assert explain(caught.value, record, total) == reason
