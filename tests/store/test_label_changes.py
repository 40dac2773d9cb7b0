"""Labels: each line is a change of some fields, and the changes of several writers merge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openreward_gym.errors import ConfigurationError
from openreward_gym.store import Label, LabelChange, change_label, label_history, read_labels, write_label
from openreward_gym.store.labels import digest_of_note, merged, write_change

FIELDS = st.one_of(
    st.tuples(st.just("rating"), st.sampled_from([None, 1, 3, 5])),
    st.tuples(st.just("note"), st.sampled_from(["", "short", "the code\nwas in the prompt"])),
    st.tuples(st.sampled_from(["add", "remove"]), st.sampled_from(["good", "bad", "guessed"])),
)
WRITES = st.tuples(st.sampled_from(["Ann", "Bo", ""]), st.sampled_from(["a", "b"]), FIELDS)


def change_of(author: str, rollout: str, field: tuple[str, Any]) -> LabelChange:
    name, value = field
    parts = {name: [value]} if name in ("add", "remove") else {"set": {name: value}}
    return LabelChange.from_dict({"rollout": rollout, "author": author, **parts})


@settings(max_examples=200, deadline=None)
@given(st.lists(WRITES, max_size=25))
def test_any_interleaving_merges_to_the_last_write_of_each_field(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[str, str, tuple[str, Any]]]
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    expected: dict[str, dict[str, Any]] = {}
    for author, rollout, (name, value) in writes:
        write_change(folder, change_of(author, rollout, (name, value)))
        now = expected.setdefault(rollout, {"rating": None, "note": "", "tags": []})
        if name == "add" and value not in now["tags"]:
            now["tags"].append(value)
        elif name == "remove" and value in now["tags"]:
            now["tags"].remove(value)
        elif name not in ("add", "remove"):
            now[name] = value
    found = {key: {"rating": one.rating, "note": one.note, "tags": list(one.tags)} for key, one in read_labels(folder).items()}
    assert found == {key: one for key, one in expected.items() if any(one.values())}
    histories = {rollout: label_history(folder, rollout) for rollout in ("a", "b")}
    assert [len(histories[name]) for name in "ab"] == [sum(rollout == name for _, rollout, _ in writes) for name in "ab"]
    for rollout, changes in histories.items():
        label = Label(rollout)
        for change in changes:
            label = merged(label, change)
        assert label == read_labels(folder).get(rollout, label)


WRITER = """
import sys
from openreward_gym.store import change_label
folder, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(count):
    change_label(folder, "shared", add_tags=[f"{name}-{number}"], author=name)
    change_label(folder, f"of {name}", rating=1 + number % 5, note=f"{name} {number}", author=name)
"""


def test_processes_that_label_at_once_lose_nothing(tmp_path: Path) -> None:
    names, count = ("ann", "bo", "cy"), 15
    started = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name, str(count)]) for name in names]
    assert [process.wait(120) for process in started] == [0, 0, 0]
    labels = read_labels(tmp_path)
    assert set(labels["shared"].tags) == {f"{name}-{number}" for name in names for number in range(count)}
    for name in names:
        assert (labels[f"of {name}"].rating, labels[f"of {name}"].note) == (1 + (count - 1) % 5, f"{name} {count - 1}")
        of_one = [change.add[0] for change in label_history(tmp_path, "shared") if change.author == name]
        assert of_one == [f"{name}-{number}" for number in range(count)]


def test_lines_of_version_1_hold_whole_labels(tmp_path: Path) -> None:
    old = {"schema": "openreward-gym/label/1", "rollout": "a", "time": "2026-01-01T00:00:00+00:00"}
    lines = [{**old, "rating": 2, "tags": ["bad"], "note": "hm"}, {**old, "rating": 4, "tags": [], "note": "better"}]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_labels(tmp_path)["a"] == Label("a", 4, (), "better", old["time"])
    change_label(tmp_path, "a", add_tags=["good"], author="Ann")
    label = read_labels(tmp_path)["a"]
    assert (label.rating, label.tags, label.note, label.author) == (4, ("good",), "better", "Ann")
    with (tmp_path / "labels.jsonl").open("a") as file:
        file.write(json.dumps(old) + "\n")
    assert read_labels(tmp_path) == {}, "an empty one of version 1 removed the label"


def test_a_label_of_a_script_keeps_what_others_wrote(tmp_path: Path) -> None:
    change_label(tmp_path, "a", note="by hand", add_tags=["seen"])
    write_label(tmp_path, Label("a", 5, ("gold",)))
    label = read_labels(tmp_path)["a"]
    assert (label.rating, label.tags, label.note) == (5, ("seen", "gold"), "by hand")
    write_label(tmp_path, Label("a"))
    assert read_labels(tmp_path) == {}


def test_a_note_that_was_changed_meanwhile_is_kept_in_the_history(tmp_path: Path) -> None:
    change_label(tmp_path, "a", note="first", author="Ann")
    for note, seen in (("second", "first"), ("third", "first")):
        write_change(tmp_path, LabelChange.from_dict({"rollout": "a", "set": {"note": note}, "author": "Bo", "seen_note": seen}))
    assert read_labels(tmp_path)["a"].note == "third"
    history = label_history(tmp_path, "a")
    assert [change.set["note"] for change in history] == ["first", "second", "third"]
    assert history[1].overwritten is None
    assert history[2].overwritten is not None
    assert history[2].overwritten.set["note"] == "second"
    assert history[2].seen == digest_of_note("first")


def test_a_torn_line_of_another_writer_costs_no_change(tmp_path: Path) -> None:
    change_label(tmp_path, "a", rating=3)
    with (tmp_path / "labels.jsonl").open("a") as file:
        file.write('{"schema":"openreward-gym/label/2","rollout":"a","se')
    change_label(tmp_path, "a", note="x")
    label = read_labels(tmp_path)["a"]
    assert (label.rating, label.note) == (3, "x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"rollout": "a", "set": {"stars": 3}},
        {"rollout": "a", "set": []},
        {"rollout": "a", "set": {"rating": 6}},
        {"rollout": "a", "add": "good"},
        {"rollout": "a", "remove": [1]},
        {"rollout": "a", "author": "x" * 101},
        {"set": {"rating": 3}},
    ],
)
def test_what_is_no_change_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigurationError):
        LabelChange.from_dict(wrong)
