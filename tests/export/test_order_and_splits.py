"""Rows come in the order of their tasks, each rollout once, each task in its own split."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from export_rollouts import assistant, episode
from hypothesis import given, settings
from hypothesis import strategies as st

from openreward_gym import export
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.order import head_of, head_of_line, natural
from openreward_gym.export.splits import split_name
from openreward_gym.store import RolloutStore
from openreward_gym.types import Rollout, RolloutEnvironment, Task


def played(environment: str, split: str | None, task: Task, sample: int | None = None, **fields: Any) -> Rollout:
    name = f"{environment} {split} {task.index} {task.id} {sample} {fields.get('attempt', 0)}"
    rollout = episode(assistant(name), sample=sample, **fields)
    return replace(rollout, environment=RolloutEnvironment(environment, split=split), task=task)


def answers(rows: Any) -> list[str]:
    return [row["messages"][-1]["content"] for row in rows]


IN_ORDER = [
    played("chess", "test", Task(index=0, id="x")),
    played("chess", "train", Task(index=2, id="z")),
    played("chess", "train", Task(index=10, id="a"), 0),
    played("chess", "train", Task(index=10, id="a"), 1),
    played("chess", "train", Task(index=10, id="a"), 1, attempt=1),
    played("chess", "train", Task(id="level-9")),
    played("chess", "train", Task(id="level-10"), 2),
    played("chess", "train", Task(id="level-10"), 11),
    played("go", "train", Task(index=0)),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("format", ["sft", "openai"])
def test_rows_are_in_the_order_of_tasks_whatever_order_they_were_played_in(seed: int, format: str, tmp_path: Path) -> None:
    rollouts = random.Random(seed).sample(IN_ORDER, len(IN_ORDER))
    with RolloutStore(tmp_path / "run") as store:
        for rollout in rollouts:
            store.append(rollout)
    expected = [rollout.messages[-1].text for rollout in IN_ORDER]
    for source in (rollouts, store, store[:]):
        dataset, _ = export.to_dataset(source, format=format, split_by="*=train", return_report=True)
        texts = [json.loads(m) if isinstance(m, str) else m for m in (row["messages"][-1] for row in dataset)]
        assert [text["content"] for text in texts] == expected


def test_ungrouped_rollouts_keep_their_order_and_ties_go_by_id(tmp_path: Path) -> None:
    chats = [replace(episode(assistant(str(n))), environment=RolloutEnvironment(), task=Task()) for n in range(5)]
    ties = [replace(episode(assistant(f"tie {n}")), id=f"rollout-{n}") for n in (11, 2, 10)]
    with RolloutStore(tmp_path / "run") as store:
        for rollout in [*chats, *ties]:
            store.append(rollout)
    assert answers(export.to_dataset(store)) == ["0", "1", "2", "3", "4", "tie 2", "tie 10", "tie 11"]


texts = st.text(st.characters(codec="utf-8"), max_size=8)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(texts, texts, max_size=2), texts, st.none() | st.integers(-3, 3), st.none() | st.integers(0, 9), st.booleans()
)
def test_the_head_of_a_line_is_that_of_the_whole_record(
    spec: dict[str, str], group: str, index: int | None, sample: int | None, ours: bool
) -> None:
    """Also where a text or another object has a key "messages", or where another writer puts the keys elsewhere."""
    spec = {**spec, "messages": ',"messages":[{"', "x": {"y": 1, "messages": []}}  # type: ignore[dict-item]
    rollout = replace(episode(assistant("x"), group=group or None, sample=sample), task=Task(index=index, spec=spec, id="t"))
    record = rollout.to_dict() | {"run": "r"}
    if not ours:
        record = {"schema": record["schema"], "id": record["id"], "messages": record["messages"], **record}
    line = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
    assert head_of_line(line) == head_of(record)
    assert head_of_line(b"[1]") == head_of_line(b'{"id": tru') == head_of({})


def test_natural_order_is_of_numbers_and_texts() -> None:
    assert sorted(["b10", "b9", "a", "b", "b09x", "9" * 5000], key=natural) == ["9" * 5000, "a", "b", "b9", "b09x", "b10"]


def test_one_rollout_in_several_runs_is_exported_once_as_last_written(tmp_path: Path) -> None:
    first = replace(episode(assistant("draft")), id="same")
    for run, rollouts in (("a", [first]), ("b", [replace(first, messages=[*first.messages, assistant("final")]), IN_ORDER[0]])):
        with RolloutStore(tmp_path / run) as store:
            for rollout in rollouts:
                store.append(rollout)
    report = export.write([tmp_path / "a", tmp_path / "b"], tmp_path / "out", split_by="*=train").formats["sft"]
    assert (report.read, report.selected, report.rows) == (3, 2, 2)
    assert dict(report.excluded) == {"another rollout has the same id: the last one written is taken": 1}
    assert "final" in answers(load_dataset(str(tmp_path / "out"), "sft", split="train"))


def tasks(number: int, split: str | None = "train", samples: int = 2) -> list[Rollout]:
    return [
        played("e", split, Task(index=n, id=f"{split}-{n}"), k, reward=float(k)) for n in range(number) for k in range(samples)
    ]


@pytest.mark.parametrize("word", ["val", "valid", "dev", "Eval", "validation"])
def test_a_row_goes_to_the_split_of_its_environment(word: str, tmp_path: Path) -> None:
    rollouts = [*tasks(2), *tasks(3, word), *tasks(1, "test"), *tasks(1, None), *tasks(1, "hard-2")]
    formats = ["sft", "preference", "kto", "prompts", "openai", "axolotl", "rollouts"]
    report = export.write(rollouts, tmp_path, formats=formats)
    for format in formats:
        form = report.formats[format]
        assert list(form.to_dict()["splits"]) == ["train", "validation", "test", "hard_2"]
        assert form.rows == form.splits.total()
        assert {Path(file).name.split("-")[0].split(".")[0] for file in form.files} == set(form.splits)
    assert report.formats["sft"].findings["other_split"] == 2
    assert load_dataset(str(tmp_path), "sft").num_rows == {"train": 6, "validation": 6, "test": 2, "hard_2": 2}
    loaded = load_dataset(str(tmp_path), "preference")
    for split, rows in loaded.items():
        assert len(rows) > 0
        words = {str(row["chosen"][0]["content"].split()[1]) for row in rows}
        assert {split_name(None if name == "None" else name) for name in words} == {split}


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ({"hard": "test", "easy": "train"}, {"train": 2, "test": 2}),
        ("hard=val", {"validation": 2, "easy": 2}),
        (["environment", "e=dev"], {"validation": 4}),
        ("label", {"train": 2, "test": 2}),
        ("*=train", {"train": 4}),
        ("run", {"monday": 2, "tuesday_2": 2}),
    ],
)
def test_split_by_chooses_other_splits(rule: Any, rows: dict[str, int]) -> None:
    rollouts = [replace(r, run="monday", labels=["good", "test"]) for r in tasks(1, "hard")]
    rollouts += [replace(r, run="tuesday 2") for r in tasks(1, "easy")]
    dataset, report = export.to_dataset(rollouts, split="all", split_by=rule, return_report=True)
    assert dict(report.splits) == rows
    assert len(dataset) == 4


def test_held_out_tasks_are_on_one_side_and_stay_there(tmp_path: Path) -> None:
    def sides(number: int, **options: Any) -> dict[str, str]:
        export.write(tasks(number), tmp_path, formats=["sft"], columns=("task_id",), **options)
        found: dict[str, set[str]] = {}
        for file in (tmp_path / "sft").glob("*.parquet"):
            for task in pq.read_table(file)["task_id"].to_pylist():
                found.setdefault(task, set()).add(file.name.split("-")[0])
        assert all(len(splits) == 1 for splits in found.values())
        return {task: splits.pop() for task, splits in found.items()}

    small, large = sides(60, holdout=0.2), sides(400, holdout=0.2)
    assert all(large[task] == split for task, split in small.items())
    assert 0.14 < list(large.values()).count("validation") / 400 < 0.26
    both = sides(400, holdout={"validation": 0.1, "test": 0.3})
    assert 0.05 < list(both.values()).count("validation") / 400 < 0.15
    assert 0.24 < list(both.values()).count("test") / 400 < 0.36
    assert sides(400, holdout=0.2, seed=1) != large


def test_held_out_pairs_and_test_tasks(tmp_path: Path) -> None:
    """A test split of the environment stays as it is, and rollouts without a task are held out by their group or prompt."""
    report = export.write([*tasks(50), *tasks(4, "test")], tmp_path, formats=["preference", "kto"], holdout=0.3)
    for form in report.formats.values():
        assert form.splits["test"] == (4 if form.name == "preference" else 8)
        assert form.splits["validation"] > 0
    chats = [replace(r, task=Task(), group=None, environment=RolloutEnvironment()) for r in tasks(30)]
    _, report_of_chats = export.to_dataset(chats, holdout=0.5, return_report=True)
    assert len(report_of_chats.splits) == 1  # they have one prompt


def test_stale_splits_are_removed(tmp_path: Path) -> None:
    formats = ["sft", "openai"]
    export.write([*tasks(2), *tasks(2, "test"), *tasks(2, "odd")], tmp_path, formats=formats)
    (tmp_path / "openai" / "mine.jsonl").write_text("{}")
    export.write(tasks(2), tmp_path, formats=formats)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*[lt]")) == [
        "openai/mine.jsonl",
        "openai/train.jsonl",
        "sft/train-00000-of-00001.parquet",
    ]
    assert pq.read_table(tmp_path / "sft").num_rows == 4


def test_a_dataset_has_one_split() -> None:
    rollouts = [*tasks(2), *tasks(3, "test")]
    with pytest.warns(export.LeftOutWarning, match="6 in test"):
        assert len(export.to_dataset(rollouts)) == 4
    assert len(export.to_dataset(rollouts, split="test")) == 6
    assert len(export.to_dataset(rollouts, split="all")) == 10
    assert str(export.to_dataset(tasks(3, "test")).split) == "test"
    with pytest.raises(ConfigurationError, match=r"no rows of the split 'train'.*'validation' or 'test'"):
        export.to_dataset([*tasks(1, "test"), *tasks(1, "val")])


def test_left_out_rollouts_are_told() -> None:
    rollouts = [*tasks(2), *(replace(r, status="truncated") for r in tasks(3, samples=1))]
    with pytest.warns(
        export.LeftOutWarning, match=r"4 rows from 7 rollouts; 3 rollouts left out \(3 status truncated\)"
    ) as caught:
        dataset = export.to_dataset([replace(r, id=str(n)) for n, r in enumerate(rollouts)])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "3  status truncated" in dataset.info.description
    again, report = export.to_dataset(rollouts, return_report=True)
    assert (len(again), dict(report.excluded)) == (4, {"status truncated": 3})


@pytest.mark.parametrize(
    "options",
    [
        {"split_by": "luck"},
        {"split_by": "a=b c"},
        {"holdout": 1.0},
        {"holdout": {"test": 0.6, "validation": 0.5}},
        {"holdout": "train=0.1"},
    ],
)
def test_mistakes_are_told(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        export.ExportOptions.from_keywords(options)
