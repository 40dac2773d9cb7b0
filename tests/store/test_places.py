"""Runs on other file systems, compressed shards, and runs merged."""

from __future__ import annotations

import base64
import importlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from object_store import ObjectStore
from rollout_strategies import EXAMPLES, rollouts

from openreward_gym.errors import ConfigurationError, MissingExtraError, StoreError
from openreward_gym.store.merge import merge
from openreward_gym.store.records import Failure
from openreward_gym.store.store import RolloutStore
from openreward_gym.types import ImageBlock, Message, Rollout, Task, TextBlock


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with ObjectStore() as store:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        importlib.import_module("fsspec").filesystem("s3").clear_instance_cache()
        yield store


@pytest.fixture(params=["memory", "s3"])
def place(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/runs/mine"
    request.getfixturevalue("bucket")
    return "s3://bucket/runs/mine"


def make(name: str = "r", size: int = 10, **fields: Any) -> Rollout:
    return Rollout(name=name, status="completed", messages=[Message(role="user", blocks=(TextBlock(text="x" * size),))], **fields)


def test_a_run_on_another_file_system(place: str) -> None:
    with pytest.raises(StoreError, match="is not a run: there is neither"):
        len(RolloutStore(place))
    image = ImageBlock(data=base64.b64encode(b"png").decode())
    with RolloutStore(place) as store:
        store.append(make("a"))
        reader = RolloutStore(place)
        assert [r.name for r in reader] == ["a"]
        store.append(Rollout(name="b", status="completed", messages=[Message(role="tool", blocks=(image,))]))
        store.append_failure(Failure(source="policy", kind="timeout"))
        assert [r.name for r in reader] == ["a", "b"]
        assert reader.run == "mine"
    assert reader.with_images(reader[1]).messages[0].blocks == (image,)
    assert reader.get(reader[0].id).name == "a"
    assert [failure.kind for failure in reader.failures()] == ["timeout"]
    with RolloutStore(place, compression="zstd") as again:
        again.append(make("c"))
    assert [r.name for r in RolloutStore(place)] == ["a", "b", "c"]
    assert reader.damage() == []


def test_a_full_shard_is_left_and_another_begun(place: str) -> None:
    with RolloutStore(place, fsync="close") as store:
        for number in range(5):
            store.append(make(str(number), 1_500_000))
    assert [r.name for r in RolloutStore(place)] == ["0", "1", "2", "3", "4"]


def test_a_refused_line_is_not_there_and_can_be_appended_again(bucket: ObjectStore) -> None:
    store = RolloutStore("s3://bucket/run")
    store.append(make("a"))
    bucket.refusals = 10
    with pytest.raises(StoreError, match=r"s3://bucket/run/rollouts/.*: not written: PermissionError"):
        store.append(make("b"))
    bucket.refusals = 0
    store.append(make("c"))
    assert [r.name for r in RolloutStore("s3://bucket/run")] == ["a", "c"]


def test_the_policy_says_how_often_a_shard_is_put(bucket: ObjectStore) -> None:
    for fsync, puts in (("close", 1), ("always", 3), (1000.0, 1)):
        bucket.puts = 0
        with RolloutStore(f"s3://bucket/{fsync}", fsync=fsync) as store:  # type: ignore[arg-type]
            for _ in range(3):
                store.append(make())
        assert bucket.puts == puts


def test_a_file_system_that_there_is_not() -> None:
    with pytest.raises(ConfigurationError, match="nosuch://x"):
        RolloutStore("nosuch://x/y")
    with pytest.raises(MissingExtraError, match="gs://x"):
        RolloutStore("gs://x/y")


def test_shards_are_compressed_when_they_are_closed(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path, compression="zstd")
    for number in range(100):
        store.append(make(str(number), 1000))
    reader = RolloutStore(tmp_path)
    view = reader[50:52]
    size = sum(path.stat().st_size for path in (tmp_path / "rollouts").iterdir())
    store.close()
    (shard,) = (tmp_path / "rollouts").iterdir()
    assert shard.name.endswith(".jsonl.zst")
    assert shard.stat().st_size < size / 10
    assert [r.name for r in view] == ["50", "51"]
    assert reader[99].name == "99"
    assert [r.name for r in reader] == [str(number) for number in range(100)]
    assert RolloutStore(tmp_path).get(view[0].id).name == "50"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(StoreError, match=r"\.jsonl\.zst: cannot be decompressed"):
        len(RolloutStore(tmp_path))


def test_a_shard_that_was_killed_while_it_was_compressed_is_read_once(tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "run") as store:
        store.append(make("a"))
    with RolloutStore(tmp_path / "other", compression="zstd") as store:
        store.append(make("b"))
    (plain,), (compressed,) = ((tmp_path / run / "rollouts").iterdir() for run in ("run", "other"))
    (plain.parent / f"{plain.name}.zst").write_bytes(compressed.read_bytes())
    (plain.parent / f".{plain.name}.zst.part").write_bytes(b"half")
    assert [r.name for r in RolloutStore(tmp_path / "run")] == ["a"]


@given(rollouts)
@settings(max_examples=EXAMPLES // 3, deadline=None)
def test_round_trips_elsewhere(rollout: Rollout) -> None:
    place = f"memory://{uuid.uuid4().hex}"
    with RolloutStore(place, compression="zstd") as store:
        store.append(rollout)
    again = RolloutStore(place)
    assert again.with_images(again[0]) == rollout


def test_merging_finds_what_is_there_twice_and_what_is_missing(tmp_path: Path) -> None:
    image = ImageBlock(data=base64.b64encode(b"png").decode())
    task = Task(id="t")
    same = Rollout(id="same", status="completed", task=task, sample=0, messages=[Message(role="user", blocks=(image,))])
    with RolloutStore(tmp_path / "a") as store:
        store.append(same)
        store.append(make("older", id="odd", ended_at="2026-01-01T00:00:00Z", task=task, sample=1))
        store.append(make("x", id="x", task=task, sample=3))
        store.append_failure(Failure(source="client", kind="k"))
    with RolloutStore(tmp_path / "b", run="a") as store:
        store.append(same)
        store.append(make("newer", id="odd", ended_at="2026-01-02T00:00:00Z", task=task, sample=1))
        store.append(make("y", id="y", task=task, sample=3))
    (tmp_path / "b" / "tasks.jsonl").write_text(json.dumps({"task": "u", "sample": 0}) + "\n" + '{"torn')
    (shard,) = (tmp_path / "b" / "rollouts").iterdir()
    shard.write_bytes(shard.read_bytes() + b"damage\n")
    report = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c", compression="zstd")
    assert (report.merged, report.duplicates, report.conflicts) == (4, ("same",), ("odd",))
    assert report.doubled == {("t", 3): ("x", "y")}
    assert report.gaps == (("t", 2), ("u", 0))
    assert [damage.line for damage in report.damages] == [4]
    assert not report.complete
    merged = RolloutStore(tmp_path / "c")
    assert {r.id: r.name for r in merged} == {"same": "", "odd": "newer", "x": "x", "y": "y"}
    assert merged.with_images(merged.get("same")).messages == same.messages
    assert len(list(merged.failures())) == 1
    assert (tmp_path / "c" / "tasks.jsonl").exists()
    with pytest.raises(StoreError, match="is a run already"):
        merge([tmp_path / "a"], tmp_path / "c")
    whole = merge([tmp_path / "c"], tmp_path / "d")
    assert whole.merged == 4
    with pytest.raises(StoreError, match="does not exist"):
        merge([tmp_path / "nowhere"], tmp_path / "e")
