"""The index: incremental updates, rebuilding, concurrent writers, search and labels."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
from pathlib import Path

import pytest
from viewer_runs import simple, training

from openreward_gym.errors import ConfigurationError, StoreError
from openreward_gym.store import Label, RolloutStore, read_labels, write_label
from openreward_gym.store.folder import LocalFolder
from openreward_gym.viewer.answers import charts, lists
from openreward_gym.viewer.answers.searching import search
from openreward_gym.viewer.index import RunIndex


def indexed(tmp_path: Path, *paths: Path) -> RunIndex:
    index = RunIndex(paths or [tmp_path / "runs"], tmp_path / "index.sqlite")
    index.refresh()
    return index


def ids(index: RunIndex) -> list[str]:
    return [row[0] for row in index.rows("SELECT id FROM rollouts ORDER BY id")]


def test_it_takes_in_what_is_new_and_only_that(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    store.append(simple("a", "hello"))
    index = indexed(tmp_path)
    assert ids(index) == ["a"]
    before = index.generation
    assert not index.refresh()
    assert index.generation == before
    store.append(simple("b", "hello"))
    assert index.refresh()
    assert ids(index) == ["a", "b"]
    assert index.generation > before


def test_a_torn_last_line_is_not_there_yet_and_damage_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one" / "rollouts"
    folder.mkdir(parents=True)
    whole = simple("a", "hello").to_line()
    shard = folder / "x.jsonl"
    shard.write_text(
        f'{whole}\n\nnot json\n["list"]\n{{"schema":"openreward-gym/rollout/9","id":"z","status":"x"}}\n{whole[:60]}'
    )
    index = indexed(tmp_path)
    assert ids(index) == ["a"]
    (damage,) = lists.runs(index)["damage"]
    assert damage["lines"] == 3
    assert "not JSON" in damage["first"]
    with shard.open("a") as file:
        file.write(whole[60:] + "\n")
    index.refresh()
    assert ids(index) == ["a"], "the torn line is finished: the same id, the last written wins"
    assert index.rows("SELECT start FROM rollouts")[0][0] > len(whole)


def test_a_replaced_or_removed_shard_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one" / "rollouts"
    folder.mkdir(parents=True)
    (folder / "x.jsonl").write_text("".join(simple(name, "long enough").to_line() + "\n" for name in "abc"))
    (folder / "y.jsonl").write_text(simple("d", "there").to_line() + "\n")
    index = indexed(tmp_path)
    assert ids(index) == ["a", "b", "c", "d"]
    (folder / "new").write_text(simple("e", "short").to_line() + "\n")
    (folder / "new").replace(folder / "x.jsonl")
    (folder / "y.jsonl").unlink()
    index.refresh()
    assert ids(index) == ["e"]
    shutil.rmtree(tmp_path / "runs" / "one")
    index.refresh()
    assert ids(index) == []
    assert lists.runs(index)["runs"] == []


def test_it_can_be_thrown_away_and_a_broken_one_is(tmp_path: Path) -> None:
    RolloutStore(tmp_path / "runs" / "one").append(simple("a", "hello"))
    (tmp_path / "index.sqlite").write_bytes(b"this is no database" * 100)
    assert ids(indexed(tmp_path)) == ["a"]


def _write(folder: Path, writer: int) -> None:
    with RolloutStore(folder) as store:
        for number in range(150):
            store.append(simple(f"{writer}-{number}", "x" * 2000))


def test_two_indexes_follow_while_others_write(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "rollouts").mkdir()
    first, second = indexed(tmp_path), indexed(tmp_path)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(folder, number)) for number in range(2)]
    stop = threading.Event()
    problems: list[Exception] = []

    def follow(index: RunIndex) -> None:
        while not stop.is_set():
            try:
                index.refresh()
                rows = index.rows("SELECT count(*), count(DISTINCT id) FROM rollouts")
                assert rows[0][0] == rows[0][1]
            except Exception as error:
                problems.append(error)
                return

    followers = [threading.Thread(target=follow, args=(index,)) for index in (first, second)]
    for follower in followers:
        follower.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    stop.set()
    for follower in followers:
        follower.join(60)
    assert problems == []
    first.refresh()
    assert len(ids(first)) == len(ids(second)) == 300
    for name in ids(second):
        place = second.find("one", name)
        assert place is not None
        assert json.loads(second.read(place))["id"] == name


def test_runs_are_by_name_within_a_folder_and_folders_of_runs_are_found(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    store.append(simple("a", "hello", run="eval-a"))
    store.append(simple("b", "hello", run="eval-b"))
    store.append(simple("c", "hello"))
    index = indexed(tmp_path)
    assert sorted(run["key"] for run in lists.runs(index)["runs"]) == ["one", "one/eval-a", "one/eval-b"]
    RolloutStore(tmp_path / "runs" / "two").append(simple("a", "hello"))
    index.refresh()
    assert sorted(run["key"] for run in lists.runs(index)["runs"]) == ["one", "one/eval-a", "one/eval-b", "two"]


def test_a_folder_that_cannot_be_read_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        RolloutStore(tmp_path / "runs" / name).append(simple(name, "hello"))
    is_run = LocalFolder.is_run

    def refused(folder: LocalFolder) -> bool:
        if folder.name == "b":
            raise PermissionError(13, "Permission denied", str(folder))
        return is_run(folder)

    monkeypatch.setattr(LocalFolder, "is_run", refused)
    assert ids(indexed(tmp_path)) == ["a", "c"]


def test_what_is_no_path_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no run was given"):
        RunIndex([])
    with pytest.raises(StoreError, match="does not exist"):
        RunIndex([tmp_path / "nowhere"])


def test_nan_and_none_are_not_zero(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    store.append(simple("a", "x", reward=float("nan"), metrics={"m": float("inf"), "n": None}))
    index = indexed(tmp_path)
    card = json.loads(index.rows("SELECT card FROM rollouts")[0][0])
    assert card["reward"] == "nan"
    assert card["metrics"] == {"m": "inf", "n": None}
    assert card["tokens"] is None
    assert lists.steps(index, "one", False, "reward == none")[0]["rollouts"] == 1


def test_lists_have_no_text_and_are_in_order(tmp_path: Path) -> None:
    training(tmp_path / "runs", steps=3)
    index = indexed(tmp_path)
    listed = lists.listing(index, "training", 1, False, "", 0)
    assert b"submit" not in listed
    assert b"Right." not in listed
    groups = [group["group"] for group in json.loads(listed)["groups"]]
    assert groups == sorted(groups)
    discarded = json.loads(lists.listing(index, "training", 2, True, "", 0))
    assert all(card["discard"] for group in discarded["groups"] for card in group["cards"])


def test_long_lists_come_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "PAGE_SIZE", 7)
    store = RolloutStore(tmp_path / "runs" / "one")
    for number in range(20):
        store.append(simple(f"{number:02d}", "x", group=f"g{number // 5}", sample=number))
    index = indexed(tmp_path)
    identifiers: list[str] = []
    offset: int | None = 0
    while offset is not None:
        page = json.loads(lists.listing(index, "one", None, False, "", offset))
        identifiers += [card["id"] for group in page["groups"] for card in group["cards"]]
        offset = page["next"]
    assert identifiers == [f"{number:02d}" for number in range(20)]


def test_figures_of_a_metric(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    for number, reward in enumerate([0.0, 1.0, 1.0, 0.5]):
        store.append(simple(str(number), "x", step=number // 2, reward=reward))
    index = indexed(tmp_path)
    series = charts.series(index, "one", "reward", "")
    assert series["steps"] == [0, 1]
    assert series["mean"] == [0.5, 0.75]
    assert (series["min"], series["max"], series["std"]) == ([0.0, 0.5], [1.0, 1.0], [0.5, 0.25])
    assert charts.series(index, "one", "reward", "reward > 0.6")["count"] == [1, 1]
    assert sum(charts.histogram(index, "one", "reward", "", 1, False)["counts"]) == 2


def test_search_finds_words_phrases_and_patterns(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    store.append(simple("a", 'The "Quick" brown fox,\nsaid Zoë'))
    store.append(simple("b", "brown bread, quick"))

    def hits(query: str, regex: bool = False) -> str:
        index = indexed(tmp_path)
        answer = search(index, query, regex=regex, run=None, filter_="", after=0)
        assert answer["next"] is None
        return "".join(hit["id"] for hit in answer["hits"])

    assert hits("quick brown") == "ab"
    assert hits('"brown fox"') == "a"
    assert hits("zoë") == "a"
    assert hits(r"fox,\s+said", regex=True) == "a"
    assert hits("schema") == "", "only what was said, not the record around it"
    assert hits("") == ""
    with pytest.raises(ConfigurationError, match="regular expression"):
        hits("(", regex=True)


def test_a_pattern_that_never_ends_is_stopped(tmp_path: Path) -> None:
    RolloutStore(tmp_path / "runs" / "one").append(simple("a", "a" * 40 + "b"))
    with pytest.raises(ConfigurationError, match="too long"):
        search(indexed(tmp_path), r"(a|aa)+$(?<=c)", regex=True, run=None, filter_="", after=0)


def test_labels_are_beside_the_run_and_the_last_one_wins(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    RolloutStore(folder).append(simple("a", "hello"))
    index = indexed(tmp_path)
    index.label("one", Label("a", 2, ("bad",), "hm"))
    index.label("one", Label("a", 5, ("good", "short")))
    assert lists.steps(index, "one", False, 'label == "good" and rating == 5')[0]["rollouts"] == 1
    assert lists.steps(index, "one", False, "rating == 2") == []
    with (folder / "labels.jsonl").open("a") as file:
        file.write('{"schema":"openreward-gym/label/1","rollout":"a","ra')
    write_label(folder, Label("b", 1))
    assert {name: label.rating for name, label in read_labels(folder).items()} == {"a": 5, "b": 1}
    index.label("one", Label("a"))
    assert "a" not in read_labels(folder)
    with pytest.raises(ConfigurationError, match="no rollout"):
        index.label("one", Label("nobody", 3))


@pytest.mark.parametrize(
    "data",
    [None, {}, {"rollout": 3}, {"rollout": "a", "rating": 6}, {"rollout": "a", "rating": True}, {"rollout": "a", "tags": "good"},
     {"rollout": "a", "tags": [""]}, {"rollout": "a", "note": 3}, {"rollout": "a", "note": "x" * 10_001}],
)  # fmt: skip
def test_what_is_no_label_is_refused(data: object) -> None:
    with pytest.raises(ConfigurationError):
        Label.from_dict(data)


@pytest.mark.parametrize("part", [0.0, 0.2, 0.4, 0.6, 0.8])
def test_an_index_that_is_damaged_anywhere_is_made_again(part: float, tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "runs" / "one") as store:
        for number in range(150):
            store.append(simple(f"r{number:03}", "hello " * 20))
    index = indexed(tmp_path)
    whole = ids(index)
    index.close()
    file = tmp_path / "index.sqlite"
    size = file.stat().st_size
    with file.open("r+b") as content:
        content.seek(int(size * part))
        content.write(b"\xa5" * (size // 5))
    index = RunIndex([tmp_path / "runs"], file)
    index.refresh()
    assert len(lists.runs(index)["runs"]) == 1
    assert ids(index) == whole
    assert index.records("SELECT id, prompt FROM rollouts ORDER BY id")[0]["id"] == "r000"
    index.close()


def test_damage_while_an_index_is_open_is_mended(tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "runs" / "one") as store:
        for number in range(150):
            store.append(simple(f"r{number:03}", "hello " * 20))
    index = indexed(tmp_path)
    index.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    file = tmp_path / "index.sqlite"
    file.write_bytes(b"\xa5" * file.stat().st_size)
    index._local = threading.local()  # as a thread that has not read yet
    assert len(ids(index)) == 150
    assert not index.refresh()
    index.close()


def test_a_folder_in_the_place_of_an_index_is_passed_over(tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "runs" / "one") as store:
        store.append(simple("a", "hello"))
    (tmp_path / "index.sqlite" / "inside").mkdir(parents=True)
    index = indexed(tmp_path)
    assert ids(index) == ["a"]
    assert (tmp_path / "index.sqlite" / "inside").is_dir()
    index.close()


def test_an_index_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with RolloutStore(tmp_path / "runs" / "one") as store:
        store.append(simple("a", "hello"))
    index = indexed(tmp_path)
    with pytest.raises(StoreError, match=r"index\.sqlite: the viewer's index cannot be used: no such column"):
        index.rows("SELECT smell FROM rollouts")
    index.close()
