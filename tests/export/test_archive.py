"""The archive gives every record back exactly, whatever is in it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from export_rollouts import assistant, call, episode, png, result
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_strategies import EXAMPLES, rollouts

from openreward_gym import export
from openreward_gym.errors import ConfigurationError
from openreward_gym.store import RolloutStore
from openreward_gym.types import ImageBlock, Message, Rollout, TextBlock


def by_id(records: Iterable[Rollout]) -> list[Rollout]:
    return sorted(records, key=lambda record: record.id)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(rollouts, min_size=1, max_size=3, unique_by=lambda record: record.id), st.sampled_from(["json", "string"]))
def test_what_is_read_back_is_what_was_recorded(records: list[Rollout], compat: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export.write(records, folder, formats=["rollouts"], compat=compat)
        assert by_id(export.read_rollouts(folder)) == by_id(records)


@settings(max_examples=max(EXAMPLES // 4, 10), deadline=None)
@given(st.lists(rollouts, min_size=1, max_size=3, unique_by=lambda record: record.id))
def test_what_is_read_back_from_a_store_is_what_was_recorded(records: list[Rollout]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with RolloutStore(Path(folder) / "run") as store:
            for record in records:
                store.append(record)
        export.write(store, Path(folder) / "out", formats=["rollouts"])
        assert by_id(export.read_rollouts(Path(folder) / "out")) == by_id(records)


@pytest.mark.parametrize("number", [12345678901234567890123, 1.7976931348623157e308, 5e-324, 48.85837012345679])
def test_numbers_that_datasets_damages_are_whole_in_the_archive(number: float, tmp_path: Path) -> None:
    record = episode(assistant("", call("f", {"x": number})), result("ok"), metadata={"y": number})
    export.write([record], tmp_path, formats=["rollouts"])
    assert list(export.read_rollouts(tmp_path)) == [record]


def test_images_are_kept_once_and_come_back_inside(tmp_path: Path) -> None:
    image = ImageBlock(data=png(3, 3))
    record = episode(
        Message(role="user", blocks=(image, TextBlock(text="twice"), image)),
        Message(
            role="assistant",
            blocks=(
                image,
                ImageBlock(data="bm8gaW1hZ2U="),
            ),
        ),
    )
    with RolloutStore(tmp_path / "run") as store:
        store.append(replace(record, run="run"))
    for name, given_rollouts in (("memory", [replace(record, run="run")]), ("store", store)):
        export.write(given_rollouts, tmp_path / name, formats=["rollouts"])
        (row,) = pq.read_table(tmp_path / name / "rollouts").to_pylist()
        assert len(row["images"]) == 1
        assert list(export.read_rollouts(tmp_path / name)) == [replace(record, run="run")]
        assert load_dataset(str(tmp_path / name), "rollouts", split="train")[0]["images"][0].size == (3, 3)


def test_columns_say_what_is_asked_for_often(tmp_path: Path) -> None:
    record = episode(
        assistant("", call("f", {})), result("a", reward=0.25), assistant("", call("f", {})), result("b", reward=0.5), reward=0.75
    )
    row = export.to_dataset([record], format="rollouts")[0]
    shown = {
        name: row[name] for name in ("rollout_id", "environment", "task_id", "reward", "rewards", "num_turns", "num_tool_calls")
    }
    assert shown == {
        "rollout_id": record.id,
        "environment": "weather",
        "task_id": "t0",
        "reward": 0.75,
        "rewards": [0.25, 0.5],
        "num_turns": 2,
        "num_tool_calls": 2,
    }


def test_all_statuses_are_archived(tmp_path: Path) -> None:
    records = [episode(assistant("x"), status=status) for status in ("completed", "truncated", "error", "cancelled", "running")]
    assert export.write(records, tmp_path, formats=["rollouts"]).rows == {"rollouts": 5}


def test_no_archive_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no archive"):
        export.read_rollouts(tmp_path)
