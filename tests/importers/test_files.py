"""Files of records in all their forms, their damage, and groups by a field."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_strategies import EXAMPLES
from typer.testing import CliRunner

from openreward_gym.cli import app
from openreward_gym.errors import ConfigurationError, StoreError
from openreward_gym.importers import GroupBy, describe, import_run, read
from openreward_gym.importers.files import read_file
from openreward_gym.store import Damage, RolloutStore
from openreward_gym.types import Rollout, Task

ROWS: list[dict[str, Any]] = [
    {
        "messages": [{"role": "user", "content": f"{n} squared?"}, {"role": "assistant", "content": str(n * n)}],
        "info": {"task": f"t{n % 2}"},
    }
    for n in range(5)
]
FORMS = {
    "lines": "\n\n".join(map(json.dumps, ROWS)),
    "array on one line": json.dumps(ROWS),
    "array": json.dumps(ROWS, indent=2),
    "array without indent": json.dumps(ROWS, indent=0),
    "array of a record per line": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]",
    "array that begins on the line of its first record": "[" + ",\n".join(map(json.dumps, ROWS)) + "\n]",
    "objects": "\n".join(json.dumps(row, indent=4) for row in ROWS),
    "byte order mark": "\ufeff" + "\n".join(map(json.dumps, ROWS)),
}


def zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue().to_pybytes())


def texts(path: Path) -> list[str]:
    items = list(read("openai-chat", path))
    assert all(isinstance(item, Rollout) for item in items), items
    return [item.messages[1].text for item in items if isinstance(item, Rollout)]


def damages(path: Path) -> list[str]:
    return [str(item).removeprefix(f"{path}: ") for item in read("openai-chat", path) if isinstance(item, Damage)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_every_form_of_a_file_has_the_same_records(form: str, pack: Any, tmp_path: Path) -> None:
    path = tmp_path / "chats"
    path.write_bytes(pack(FORMS[form].encode()))
    assert texts(path) == ["0", "1", "4", "9", "16"]
    ids = [item.id for item in read("openai-chat", path) if isinstance(item, Rollout)]
    assert ids == [item.id for item in read("openai-chat", path) if isinstance(item, Rollout)]
    assert len(set(ids)) == 5


def test_one_object_over_many_lines_and_a_list_of_messages_are_one_record(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    for value in (ROWS[3], ROWS[3]["messages"]):
        for indent in (None, 2):
            path.write_text(json.dumps(value, indent=indent))
            assert texts(path) == ["9"]
    path.write_text("".join(json.dumps(row["messages"]) + "\n" for row in ROWS))
    assert texts(path) == ["0", "1", "4", "9", "16"]


def test_parquet_rows_lose_the_fields_that_are_null(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [call]}], "note": None}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row, {"messages": ROWS[0]["messages"], "note": "n"}]), tmp_path / "p")
    first, second = (item for item in read("openai-chat", tmp_path / "p") if isinstance(item, Rollout))
    assert (first.messages[1].tool_calls[0].name, first.messages[0].metadata, first.metadata) == ("f", None, None)
    assert (second.messages[1].tool_calls, second.messages[1].sampled, second.metadata) == ((), None, {"note": "n"})


@pytest.mark.parametrize("content", [b"a,b\n1,2\n3,4\n", b"PK\x03\x04zip", b"\x89PNG\r\n\x1a\n"])
def test_a_file_of_another_kind_gives_one_message(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    (damage,) = damages(path)
    assert damage.startswith("line 1: neither JSON nor JSON lines: the file begins with ")


def test_what_comes_before_and_after_damage_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    torn = json.dumps(ROWS[0])[:30]
    for first in (torn, torn[:25]):  # one ends as JSON over many lines would
        path.write_text("\n".join([first, *map(json.dumps, ROWS)]))
        items = list(read("openai-chat", path))
        assert [isinstance(item, Rollout) for item in items] == [False, *[True] * 5]
        assert isinstance(items[0], Damage)
        assert items[0].line == 1
    path.write_text(json.dumps(ROWS, indent=1)[:-60])
    items = list(read("openai-chat", path))
    assert [isinstance(item, Rollout) for item in items] == [True] * 4 + [False]
    assert str(items[-1]).startswith(f"{path}: record 5: not JSON")


@pytest.mark.parametrize("form", ["lines", "array", "array of a record per line", "objects"])
def test_a_torn_gzip_file_is_told_and_its_beginning_is_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(FORMS[form].encode())[:-10])
    items = list(read("openai-chat", path))
    assert sum(isinstance(item, Rollout) for item in items) >= 3
    assert any(isinstance(item, Damage) for item in items)


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in (b"", b"\n\n", b"[]", b"[\n]\n", gzip.compress(b"")):
        path.write_bytes(content)
        assert list(read("openai-chat", path)) == []
    with pytest.raises(StoreError, match=r"no \.jsonl, \.json or \.parquet file there"):
        list(read("openai-chat", tmp_path))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
records = st.lists(st.dictionaries(st.text('ab\n"[{', max_size=3), json_values, min_size=1, max_size=3), min_size=2, max_size=6)


@given(records=records, indent=st.sampled_from([None, 0, 1, 4]), array=st.booleans())
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_records_come_back_from_any_form(
    records: list[Any], indent: int | None, array: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("files") / "x"
    path.write_text(json.dumps(records, indent=indent) if array else "\n".join(json.dumps(r, indent=indent) for r in records))
    assert [record.value for record in read_file(path)] == records


def test_damage_is_described_once_per_cause() -> None:
    same = [Damage(number, "no text", "a") for number in range(1, 14)]
    assert describe([*same, Damage(2, "no text", "b"), Damage(20, "torn", "a")]) == (
        "a: 13 records: no text (lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 3 more)",
        "b: line 2: no text",
        "a: line 20: torn",
    )
    positions = [Damage(n, f"not JSON: Expecting value: line 1 column {n} (char {n})", "a", unit="record") for n in (1, 2)]
    assert describe(positions) == ("a: 2 records: not JSON: Expecting value (records 1, 2)",)


def test_the_command_tells_each_cause_once_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([*ROWS, *[{"text": "no chat"}] * 40]))
    done = CliRunner().invoke(app, ["import", "openai-chat", str(path), "--output", str(tmp_path / "run")])
    assert done.exit_code == 1
    assert "5 rollouts imported" in done.stdout
    assert len(done.stderr.splitlines()) == 2
    assert f'{path}: 40 records: no "messages": this is not a row of chats (records 6, 7, ' in done.stderr


def test_groups_by_a_field(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(FORMS["array"])
    groups = [(item.group, item.sample) for item in read("openai-chat", path, group_by="info.task") if isinstance(item, Rollout)]
    assert groups == [("t0", 0), ("t1", 0), ("t0", 1), ("t1", 1), ("t0", 2)]
    report = import_run("openai-chat", path, tmp_path / "run", group_by="info.task")
    assert (report.imported, report.ungrouped) == (5, 0)
    assert len({rollout.task.id for rollout in RolloutStore(tmp_path / "run")}) == 2
    with pytest.raises(ConfigurationError, match=r"'info\.tsak': no record has this field; there are messages, info\.task"):
        import_run("openai-chat", path, tmp_path / "none", group_by="info.tsak")
    assert not (tmp_path / "none").exists()
    path.write_text("\n".join(map(json.dumps, [*ROWS, {"messages": ROWS[0]["messages"]}])))
    command = ["import", "openai-chat", str(path), "--output", str(tmp_path / "cli"), "--group-by", "info.task"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert "1 rollout has no 'info.task'" in done.stderr


@pytest.mark.parametrize(
    ("field", "record", "group"),
    [
        ("a.b", {"a": {"b": 3}}, "3"),
        ("a.b", {"a.b": "x"}, "x"),
        ("a.b.c", {"a.b": {"c": "x"}}, "x"),
        ("a.1.b", {"a": [0, {"b": False}]}, "false"),
        ("a.b", {"a": '{"b": "in text"}'}, "in text"),
        ("a", {"a": {"k": [1]}}, '{"k":[1]}'),
        ("status", {"a": 1}, "completed"),
        ("task.id", {}, "t"),
        ("kind", {}, "of the metadata"),
        ("a.2", {"a": [1]}, None),
        ("a.b", {"a": None}, None),
        ("a.b", {"a": "{torn"}, None),
    ],
)
def test_where_a_field_is_looked_for(field: str, record: dict[str, Any], group: str | None) -> None:
    from openreward_gym.types import Task

    rollout = Rollout(status="completed", task=Task(id="t"), metadata={"kind": "of the metadata"})
    grouping = GroupBy(field)
    assert grouping.apply(rollout, record).group == group
    assert (grouping.grouped, grouping.missing) == ((1, 0) if group is not None else (0, 1))


def test_a_long_value_makes_a_short_group() -> None:
    grouping = GroupBy("prompt")
    first, second = (grouping.apply(Rollout(status="completed"), {"prompt": "x" * 500 + end}) for end in "ab")
    assert first.group is not None
    assert len(first.group) == 16
    assert first.group != second.group


def test_importers_that_do_not_know_of_groups_take_the_rollouts_fields(tmp_path: Path) -> None:
    table = pyarrow.table({"step": [1, 2, 2], "prompt": ["a", "b", "c"], "completion": ["x", "y", "z"]})
    pyarrow.parquet.write_table(table, tmp_path / "c.parquet")
    groups = [(i.group, i.sample) for i in read("trl", tmp_path / "c.parquet", group_by="step") if isinstance(i, Rollout)]
    assert groups == [("1", 0), ("2", 0), ("2", 1)]


@pytest.mark.parametrize(
    ("field", "group"),
    [
        ("well", "w7"),
        ("site.name", "Hull"),
        ("depth", "12"),
        ("metadata.depth", "12"),
        ("drill.site", "Leith"),
        ("metadata.drill.site", "Leith"),
        ("packed.kind", "clay"),
        ("nothing", None),
    ],
)
def test_a_field_is_looked_for_in_the_task_and_in_the_source_s_metadata(field: str, group: str | None) -> None:
    spec = {"well": "w7", "site": {"name": "Hull"}}
    metadata = {"depth": 12, "verifiers": {"drill": {"site": "Leith"}, "packed": '{"kind": "clay"}'}, "drill": {"site": "Leith"}}
    rollout = Rollout(status="completed", group="own", task=Task(spec=spec, id="t"), metadata=metadata)
    grouping = GroupBy(field)
    assert grouping.apply(rollout).group == (group or "own")
    if group is None:
        assert "well" in grouping.describe_missing()
