"""Rows in tables: types that do not depend on the rows, row groups of a bounded size, lists of texts that may be missing."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from export_rollouts import assistant, call, episode, png, result
from hypothesis import given, settings
from hypothesis import strategies as st

from openreward_gym import export
from openreward_gym.errors import RecordError
from openreward_gym.export import tables
from openreward_gym.types import ImageBlock, Message, ToolSpec


@settings(max_examples=50, deadline=None)
@given(st.lists(st.none() | st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4), max_size=6))
def test_lists_of_texts_come_out_as_they_went_in(rows: list[list[str] | None]) -> None:
    column = tables._TextLists(lambda texts: [text.encode() for text in texts])
    for _ in range(2):  # empty again after each
        for row in rows:
            column.add(row)
        array = column.take(pa.list_(pa.string()))
        array.validate(full=True)
        assert array.to_pylist() == rows


def test_more_text_than_a_table_takes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MAX_TEXT_BYTES", 10)
    with pytest.raises(RecordError, match="a table takes 2 GiB at most"):
        export.to_dataset([episode(assistant("x"))])


def test_a_column_that_begins_with_a_thousand_nulls_is_still_of_its_type(tmp_path: Path) -> None:
    rollouts = [episode(assistant("x"), reward=None) for _ in range(1001)] + [episode(assistant("y"), reward=0.5)]
    export.write(rollouts, tmp_path, columns=("reward", "advantage", "model"))
    rows = load_dataset(str(tmp_path), "sft", split="train", cache_dir=str(tmp_path / "cache"))
    assert (rows[0]["reward"], rows[1001]["reward"]) == (None, 0.5)
    assert rows.features["advantage"].dtype == "float64"


def test_row_groups_are_bounded_by_rows_and_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rollouts = [episode(assistant("x"), tools=[] if n % 2 else None) for n in range(2 * tables._ROWS_PER_GROUP + 1)]
    (file,) = export.write(rollouts, tmp_path).formats["sft"].files
    assert pq.ParquetFile(tmp_path / file).num_row_groups == 3
    assert [row is None for row in pq.read_table(tmp_path / file)["tools"].to_pylist()[:3]] == [False, True, False]
    monkeypatch.setattr(tables, "_BYTES_PER_GROUP", 1000)
    for rollout in (episode(assistant("x" * 600)), episode(Message(role="user", blocks=(ImageBlock(data=png(60, 60)),)))):
        rollout.messages.append(assistant("y" * 600))
        (file,) = export.write([replace(rollout, id=str(n)) for n in range(4)], tmp_path / "bytes").formats["sft"].files
        assert pq.ParquetFile(tmp_path / "bytes" / file).num_row_groups == 4


def test_large_tables_are_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_BYTES_PER_FILE", 1)
    monkeypatch.setattr(tables, "_ROWS_PER_GROUP", 2)
    files = export.write([episode(assistant("x")) for _ in range(5)], tmp_path).formats["sft"].files
    assert files == [f"sft/train-0000{n}-of-00003.parquet" for n in range(3)]
    assert len(load_dataset(str(tmp_path), "sft", split="train", cache_dir=str(tmp_path / "cache"))) == 5


def test_rollouts_with_other_tools_keep_their_own(tmp_path: Path) -> None:
    def with_tool(name: str, schema: Any) -> Any:
        return episode(
            assistant("", call(name, {})), result("r"), assistant("x"), tools=[ToolSpec(name=name, input_schema=schema)]
        )

    # Equal to Python, and yet not the same JSON.
    schemas = [{"default": 1}, {"default": True}, {"default": 1.0}, {"default": 1}, {"default": None}]
    rows = export.to_dataset([with_tool("f", schema) for schema in schemas])
    assert [repr(row["tools"][0]["function"]["parameters"]["default"]) for row in rows] == ["1", "True", "1.0", "1", "None"]


def test_a_disk_that_is_full_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups are written by another thread: what fails there fails the export."""
    monkeypatch.setattr(tables, "_ROWS_PER_GROUP", 2)
    monkeypatch.setattr(pq.ParquetWriter, "write_batch", _full)
    with pytest.raises(OSError, match="No space left"):
        export.write([episode(assistant("x"), id=str(number)) for number in range(9)], tmp_path / "out", ["sft"])
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


def _full(self: pq.ParquetWriter, batch: pa.RecordBatch, row_group_size: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
