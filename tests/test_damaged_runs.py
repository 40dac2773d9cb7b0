"""Commands over damaged runs: the rest is done, file and line are said, the exit code is 1, and no link leads out of the run."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from damaged_runs import BROKEN_LINES, PNG, STANDING_THERE, rollout, with_broken_byte, with_wrong_value, write_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openreward_gym import cli
from openreward_gym.errors import StoreError
from openreward_gym.export import format_names
from openreward_gym.store import Failure, Label, RolloutStore, write_label
from openreward_gym.types import Rollout
from openreward_gym.viewer import serve

EXAMPLES = 3_000 if os.environ.get("OPENREWARD_GYM_LONG") else 25
# Without a format that needs a tokenizer, and one that has no row for rollouts with tools, which is an error by itself.
FORMATS = ",".join(name for name in format_names() if name not in ("tokens", "verl_sft"))
COMMANDS = ("report", "export", "merge", "view")


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> Ran:
        capsys.readouterr()
        code = 0
        try:
            cli.main(list(map(str, words)))
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Ran(code, *capsys.readouterr())

    return command


def words_of(name: str, folder: Path, output: Path, formats: str = "rollouts,openai,preference") -> list[object]:
    return {
        "report": ["report", folder, "--json"],
        "export": ["export", folder, "--format", formats, "--output", output / "data", "--status", "any"],
        "merge": ["merge", folder, "--output", output / "merged"],
        "view": ["view", folder, "--html", output / "page.html"],
    }[name]


def count_of(name: str, ran: Ran, output: Path) -> int:
    """Return how many rollouts a command took."""
    if name == "report":
        found = re.search(r'"rollouts": (\d+)', ran.out)
    elif name == "export":
        found = re.search(r"rollouts: \d+ rows? from (\d+)", ran.out)
    elif name == "merge":
        return len(list(RolloutStore(output / "merged").rollouts(lambda damage: None)))
    else:
        found = re.search(r"(\d+) rollouts? in", ran.out)
    assert found is not None, ran
    return int(found[1])


@pytest.mark.parametrize("name", COMMANDS)
def test_broken_lines_are_named_and_the_rest_is_done(name: str, run: Any, tmp_path: Path) -> None:
    shard = write_run(tmp_path / "run")
    lines = shard.read_bytes().splitlines()
    broken = [line for bad in BROKEN_LINES for line in (bad, lines.pop(0) if len(lines) > 2 else b"")]
    shard.write_bytes(b"\n".join([*broken, *lines, b'{"half of a line of a living writ']))
    ran = run(*words_of(name, tmp_path / "run", tmp_path))
    assert ran.code == 1, ran
    assert "Traceback" not in ran.err
    assert count_of(name, ran, tmp_path) == 6
    assert str(shard.name) in ran.err
    assert re.search(r"lines? 1\b|lines 1,", ran.err), ran.err
    # One line for each cause, not one for each place.
    assert len(ran.err.splitlines()) <= len(BROKEN_LINES) + 8


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_damaged_record_takes_no_other_with_it(seed: int, run: Any, tmp_path: Path) -> None:
    chance = random.Random(seed)
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    shard = write_run(folder / "run", image=True)
    lines = shard.read_bytes().splitlines()
    at = chance.randrange(len(lines))
    whole = len(lines) - 1
    lines[at] = (with_wrong_value if chance.random() < 0.8 else with_broken_byte)(lines[at], chance)
    shard.write_bytes(b"".join(line + b"\n" for line in lines))
    for name in COMMANDS:
        ran = run(*words_of(name, folder / "run", folder, FORMATS))
        assert ran.code in (0, 1, 75), ran
        assert count_of(name, ran, folder) >= whole, (name, ran)
        if name != "export":  # it does not look at every field
            readable = sum(1 for _ in RolloutStore(folder / "run").rollouts(lambda damage: None))
            assert readable >= whole + 1 or ran.code == 1, ran
        if ran.code == 1 and name != "merge":
            assert re.search(rf"{re.escape(shard.name)}: (line |\d+ records)", ran.err), ran
    shutil.rmtree(folder)


@pytest.mark.parametrize("what", STANDING_THERE)
@pytest.mark.parametrize("where", ["rollouts/more.jsonl", "rollouts/more.jsonl.zst"])
def test_what_stands_in_the_place_of_a_shard_is_named(where: str, what: str, run: Any, tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    STANDING_THERE[what](tmp_path / "run" / where)
    for name in COMMANDS:
        ran = run(*words_of(name, tmp_path / "run", tmp_path))
        assert count_of(name, ran, tmp_path) == 6
        assert "more.jsonl" in ran.err or (what == "nothing in it" and ran.code == 0), ran
        assert ran.code == (1 if "more.jsonl" in ran.err else 0)
        assert "not the run's" not in ran.out + ran.err


@pytest.mark.parametrize("what", [what for what in STANDING_THERE if what != "nothing in it"])
def test_what_stands_in_the_place_of_an_image_is_named_with_the_line(what: str, run: Any, tmp_path: Path) -> None:
    shard = write_run(tmp_path / "run", image=True)
    (image,) = (tmp_path / "run" / "images").iterdir()
    image.unlink()
    STANDING_THERE[what](image)
    for name in ("export", "merge", "view"):
        ran = run(*words_of(name, tmp_path / "run", tmp_path, "sft"))
        assert ran.code == 1, ran
        assert f"{shard.name}: line 1 " in ran.err
        assert image.stem in ran.err
    assert (tmp_path / "page.html").exists()
    assert len(RolloutStore(tmp_path / "merged")) == 6


@pytest.mark.parametrize("kind", ["images", "rollouts", "failures"])
def test_a_folder_of_a_run_that_is_a_link_out_is_not_followed(kind: str, run: Any, tmp_path: Path) -> None:
    write_run(tmp_path / "run", image=True)
    elsewhere = (tmp_path / "run" / kind).rename(tmp_path / "elsewhere")
    (tmp_path / "run" / kind).symlink_to(elsewhere)
    (tmp_path / "run" / "run.json").write_text("{}")
    before = {path: path.read_bytes() for path in elsewhere.iterdir()}
    names = {"images": ("export", "merge", "view"), "rollouts": ("report", "merge"), "failures": ("merge",)}[kind]
    for name in names:
        ran = run(*words_of(name, tmp_path / "run", tmp_path, "sft"))
        assert ran.code == 1, ran
        assert "leads out of" in ran.err
    # Writers do not follow it either.
    store = RolloutStore(tmp_path / "run")
    with pytest.raises(StoreError, match="leads out of"):
        store.append_failure(Failure("policy", "timeout")) if kind == "failures" else store.append(rollout(7, image=True))
    assert {path: path.read_bytes() for path in elsewhere.iterdir()} == before


def test_a_run_that_is_a_link_and_links_inside_it_are_fine(run: Any, tmp_path: Path) -> None:
    shard = write_run(tmp_path / "real", image=True)
    (tmp_path / "real" / "images").rename(tmp_path / "real" / "pictures")
    (tmp_path / "real" / "images").symlink_to("pictures")
    shard.rename(shard.with_suffix(".moved"))
    shard.symlink_to(shard.with_suffix(".moved").name)
    (tmp_path / "run").symlink_to("real")
    for name in COMMANDS:
        ran = run(*words_of(name, tmp_path / "run", tmp_path, "rollouts"))
        assert ran.code == 0, ran
        assert count_of(name, ran, tmp_path) == 6
    with RolloutStore(tmp_path / "run") as store:
        store.append(rollout(9, image=True))
    assert [path.read_bytes() for path in (tmp_path / "real" / "pictures").iterdir()] == [PNG]


def test_links_in_the_place_of_files_that_are_written_harm_nothing_outside(run: Any, tmp_path: Path) -> None:
    shard = write_run(tmp_path / "run")
    private = tmp_path / "private"
    private.write_text("keep this")
    (tmp_path / "run" / "labels.jsonl").unlink()
    (tmp_path / "run" / "labels.jsonl").symlink_to(private)
    # A torn shard of this machine would be cut.
    (shard.parent / shard.name.replace("Z-", "Y-")).symlink_to(private)
    for lock in ("collector.lock", "workers.lock"):
        (tmp_path / "run" / lock).symlink_to(private)
    with pytest.raises(StoreError, match="leads out"):
        write_label(tmp_path / "run", Label("rollout-0", 1))
    with RolloutStore(tmp_path / "run") as store:
        store.append(rollout(9))
    run("collect", "pond", "--policy", "random", "--base-url", "http://127.0.0.1:9", "--output", tmp_path / "run", "--resume")
    assert private.read_text() == "keep this"


def test_import_into_a_run_with_damage_goes_on_and_names_it(run: Any, tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / "rollouts" / "more.jsonl").mkdir()
    (tmp_path / "chats.jsonl").write_text('{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n')
    ran = run("import", "openai-chat", "chats.jsonl", "--output", "run")
    assert ran.code == 1
    assert "1 rollout imported" in ran.out
    assert "more.jsonl: not a file but a folder" in ran.err


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("HOME", str(tmp_path))
    shard = write_run(tmp_path / "run", image=True)
    lines = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(b"".join([*lines[:2], b"\n", b"torn in the middle\n", *lines[2:]]))
    os.mkfifo(shard.with_name("pipe.jsonl"))
    with serve(tmp_path / "run", port=0) as url:
        yield shard, url


def test_the_viewers_page_names_what_it_cannot_read(page: Any) -> None:
    shard, url = page
    for _ in range(100):
        with urllib.request.urlopen(f"{url}api/runs") as answer:
            overview = json.load(answer)
        if overview["runs"] and len(overview["damage"]) == 2:
            break
        time.sleep(0.1)
    assert overview["runs"][0]["rollouts"] == 6
    firsts = sorted(damage["first"] for damage in overview["damage"])
    assert firsts[0].startswith(f"{shard.name}: line 4 (byte "), firsts
    assert firsts[1] == "pipe.jsonl: not a file but a named pipe"


def test_a_whole_rollout_stays_whole() -> None:
    assert Rollout.from_line(rollout(1).to_line()).to_dict() == rollout(1).to_dict()
