"""Annotations of recorded rollouts (readers' labels, compared groups) select rollouts and fill columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from export_rollouts import assistant, episode

from openreward_gym import export
from openreward_gym.errors import ConfigurationError, RecordError
from openreward_gym.export import Select
from openreward_gym.store import Group, Label, RolloutStore, write_label
from openreward_gym.types import Rollout


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three rollouts of a group: the first is rated 5 and tagged, the second rated 2, the third nothing."""
    rollouts = [episode(assistant(f"answer {n}"), reward=n / 2, group="g", sample=n) for n in range(3)]
    with RolloutStore(tmp_path / "run") as store:
        for rollout in rollouts:
            store.append(rollout)
    write_label(tmp_path / "run", Label(rollouts[0].id, 5, ("gold", "short")))
    write_label(tmp_path / "run", Label(rollouts[1].id, 2, ("bad",)))
    compare(tmp_path / "run", rollouts)
    return tmp_path / "run"


def compare(run: Path, rollouts: list[Rollout], **fields: Any) -> None:
    group: dict[str, Any] = {"group": "g", "rollouts": [rollout.id for rollout in rollouts], "rewards": [0.0, 0.5, 1.0]}
    group |= {"scores": [9.0, 1.0, 5.0], "advantages": [1.2, -1.2, 0.0], "discard_reason": None, **fields}
    (run / "groups").mkdir(exist_ok=True)
    (run / "groups" / "a.jsonl").write_text(json.dumps({"schema": Group.SCHEMA, **group}) + "\n")


def selected(rollouts: Any, **criteria: Any) -> list[str]:
    return [row["messages"][-1]["content"] for row in export.to_dataset(rollouts, select=Select(**criteria))]


def reasons(run: Path, folder: Path, **criteria: Any) -> dict[str, int]:
    return dict(export.write(run, folder, select=Select(**criteria)).formats["sft"].excluded)


def test_tags_of_readers_are_labels(run: Path, tmp_path: Path) -> None:
    assert selected(run, labels="gold") == ["answer 0"]
    assert selected(run, without_labels=["gold", "bad"]) == ["answer 2"]
    assert selected(RolloutStore(run)[:2], labels=["gold", "bad"]) == ["answer 0", "answer 1"]
    assert reasons(run, tmp_path / "out", labels="gold") == {"label missing": 2}


def test_ratings(run: Path, tmp_path: Path) -> None:
    assert selected(run, min_rating=3) == ["answer 0"]
    assert selected(run, max_rating=3) == ["answer 1"]
    assert reasons(run, tmp_path / "out", min_rating=3) == {"rating below 3": 1, "no rating": 1}
    with pytest.raises(ConfigurationError, match="min_rating must be an integer from 1"):
        Select(min_rating=0)


def test_a_label_that_was_taken_away_counts_no_more(run: Path) -> None:
    write_label(run, Label(RolloutStore(run)[0].id))
    assert selected(run, labels="gold") == []


def test_scores_of_the_environment_choose(run: Path) -> None:
    assert selected(run, reward="score", top_k=1) == ["answer 0"]
    assert selected(run, reward="score", min_reward=5) == ["answer 0", "answer 2"]
    assert selected(run, top_k=1) == ["answer 2"]


def test_what_compares_compares_by_the_score_when_asked(run: Path) -> None:
    (pair,) = export.to_dataset(run, format="preference", select=Select(reward="score"), max_pairs=1)
    assert [pair[side][0]["content"] for side in ("chosen", "rejected")] == ["answer 0", "answer 1"]
    rows = export.to_dataset(run, format="kto", select=Select(reward="score"), balance_labels=False)
    assert {row["completion"][0]["content"]: row["label"] for row in rows} == {
        "answer 0": True,
        "answer 1": False,
        "answer 2": True,
    }


def test_discarded_groups_are_left_out_when_asked_and_counted_by_reason(run: Path, tmp_path: Path) -> None:
    assert len(selected(run, discarded=False)) == 3
    compare(run, list(RolloutStore(run)), discard_reason="all rewards are equal")
    assert len(selected(run)) == 3
    assert reasons(run, tmp_path / "out", discarded=False) == {"discarded: all rewards are equal": 3}
    assert selected([episode(assistant("x"), discard_reason="stale")], discarded=False) == []


def test_columns_of_groups_and_readers(run: Path) -> None:
    columns = ("advantage", "score", "rating", "labels", "discard_reason")
    rows = export.to_dataset(run, format="prompt_completion", columns=columns)
    assert [(row["advantage"], row["score"], row["rating"], row["labels"], row["discard_reason"]) for row in rows] == [
        (1.2, 9.0, 5, ["gold", "short"], None),
        (-1.2, 1.0, 2, ["bad"], None),
        (0.0, 5.0, None, [], None),
    ]


def test_the_records_own_advantage_stands_where_no_group_was_compared() -> None:
    (row,) = export.to_dataset([episode(assistant("x"), advantage=0.5)], columns=["advantage", "score"])
    assert (row["advantage"], row["score"]) == (0.5, None)


def test_archive_is_the_record_as_it_was(run: Path, tmp_path: Path) -> None:
    export.write(run, tmp_path / "out", formats=["rollouts"])
    assert list(export.read_rollouts(tmp_path / "out")) == list(RolloutStore(run))


def test_a_damaged_group_is_named(run: Path) -> None:
    (run / "groups" / "a.jsonl").write_text("{not json\n")
    with pytest.raises(RecordError, match=r"groups/a\.jsonl: line 1"):
        selected(run, labels="gold")
