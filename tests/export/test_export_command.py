"""`openreward-gym export`: what users choose, and what they are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from export_rollouts import assistant, episode
from tiny_tokenizer import tiny_tokenizer

from openreward_gym import cli, export
from openreward_gym.errors import RecordError
from openreward_gym.store import Label, RolloutStore, write_label
from openreward_gym.types import Rollout


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def _answer(number: int) -> Rollout:
    group = number // 3
    return episode(assistant(f"answer {number}"), reward=number / 5, group=f"g{group}", task=f"t{group}", sample=number % 3)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    with RolloutStore("run") as store:
        for number in range(6):
            store.append(_answer(number))
    write_label("run", Label(store[0].id, 5, ("gold",)))
    Path("file").touch()

    def command(*arguments: object) -> Ran:
        code = 0
        try:
            cli.main(["export", *map(str, arguments)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Ran(code, *capsys.readouterr())

    return command


def answers(folder: str, format: str = "sft", column: str = "messages") -> list[Any]:
    rows = pq.read_table(Path(folder) / format).column(column).to_pylist()
    return [json.loads(message[-1]) if isinstance(message[-1], str) else message[-1] for message in rows]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ((), "012345"),
        (("--min-reward", 0.5, "--max-reward", 0.9), "34"),
        (("--best-of", 2), "14"),
        (("--top-k", 1), "25"),
        (("--label", "gold"), "0"),
        (("--without-label", "gold", "--limit", 2), "12"),
        (("--min-rating", 4), "0"),
        (("--task", "t1"), "345"),
        (("--task", "t0", "--task", "t1", "--max-turns", 1), "012345"),
        (("--split", "other"), ""),
        (("--status", "truncated"), ""),
        (("--status", "any", "--dedupe", "normalized"), "012345"),
    ],
)
def test_what_is_chosen_is_what_is_written(run: Any, options: tuple[object, ...], kept: str) -> None:
    ran = run("run", "--output", "out", *options)
    assert ran.code == (0 if kept else 1), ran.err
    assert [message["content"] for message in answers("out")] == [f"answer {n}" for n in kept]
    assert ("no row was written" in ran.err) == (kept == "")


def test_report_says_what_was_left_out_and_why(run: Any) -> None:
    ran = run("run", "--min-reward", 0.5)
    assert ran.code == 0
    assert "sft: 3 rows from 3 of 6 rollouts" in ran.out
    assert "3  reward below 0.5" in ran.out
    assert "in run/export" in ran.out
    report = json.loads(run("run", "--min-reward", 0.5, "--json").out)
    assert report["formats"]["sft"]["excluded"] == {"reward below 0.5": 3}


def test_several_runs_formats_and_columns(run: Any) -> None:
    assert run("run", "run").err == "openreward-gym: the output is missing: add --output FOLDER\n"
    ran = run("run", "run", "--output", "out", "--format", "sft,kto", "--column", "reward", "--column", "task_id")
    assert ran.code == 0, ran.err
    assert pq.read_table("out/sft").num_rows == 6
    assert {"reward", "task_id"} <= set(pq.read_table("out/kto").column_names)


def test_tokenizer_and_rows(run: Any) -> None:
    tiny_tokenizer().save_pretrained("tokenizer")
    ran = run("run", "--format", "tokens", "--tokenizer", "tokenizer", "--output", "out", "--max-length", 10)
    assert ran.code == 1, ran.err
    assert "longer than 10 tokens" in ran.out
    assert ran.err.startswith("openreward-gym: tokens: no row was written from 6 rollouts (6 longer than 10 tokens")
    assert "--min-length N and --max-length N set the limits" in ran.err
    ran = run("run", "--format", "tokens", "--tokenizer", "tokenizer", "--output", "out")
    assert pq.read_table("out/tokens").num_rows == 6
    ran = run("run", "--output", "out", "--compat", "string")
    assert answers("out")[0] == {**dict.fromkeys(answers("out")[0]), "role": "assistant", "content": "answer 0"}


def test_push_to_a_folder(run: Any) -> None:
    assert run("run", "--push", "./hub", "--format", "sft").code == 0
    assert pq.read_table("hub/sft").num_rows == 6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--format", "stf"), "there is no format 'stf': did you mean 'sft'"),
        (("--format", ","), "name at least one"),
        (("--format", "tokens"), "needs a tokenizer"),
        (("--format", "tokens", "--tokenizer", "no/where"), "the tokenizer 'no/where' cannot be loaded"),
        (("--min-reward", 1, "--max-reward", 0), "--min-reward=1.0 is above the maximum of 0.0"),
        (("--balance", "luck"), "--balance must be one of None, task, environment, reward, not 'luck'"),
        (("--control-tokens", "hide"), "--control-tokens must be one of flag, drop, escape, not 'hide'"),
        (("--compat", "yaml"), "--compat must be one of json, string, not 'yaml'"),
        (("--column", "rewards"), "there is no column rewards"),
        (("--push", "me/it", "--output", "out"), "--push and --output exclude each other"),
        (("--push", "me/it", "--public", "--format", "rollouts"), "would publish task specs"),
        (("--top-k", 0), "--top-k must be an integer from 1, not 0"),
        (("--output", ""), "--output names no folder: it is empty"),
        (("--output", "run"), "the output run is the folder of a run"),
        (("--output", "run/rollouts"), "is the folder of a run"),
        (("--push", "./file"), "the output file cannot be written: File exists"),
        (("--push", ""), "'' is no name of a dataset on the Hub: write it as owner/name"),
        (("--push", "me/it/too"), "'me/it/too' is no name of a dataset on the Hub"),
        (("--public",), "--public is about a dataset on the Hub: add --push OWNER/NAME"),
        (("--status", "complete"), "--status must be of completed, truncated, error, cancelled, running, any, not ['complete']"),
        (("--min-turns", 3, "--max-turns", 2), "--min-turns=3 is above the maximum of 2: nothing meets both"),
        (("--min-rating", 5, "--max-rating", 1), "--min-rating=5 is above the maximum of 1"),
        (("--min-length", 9, "--max-length", 2), "--min-length=9 is above the maximum of 2"),
        (("--max-length", 2, "--output", "new/out"), "--max-length counts tokens: pass --tokenizer MODEL too"),
        (("--decontaminate", "missing.txt", "--output", "new/out"), "decontaminate: missing.txt cannot be read"),
        (("--decontaminate", "missing", "--output", "new/out"), "decontaminate: missing cannot be read"),
        (
            ("--chat-template-kwargs", '{"a": NaN}'),
            '--chat-template-kwargs must be a JSON object such as {"enable_thinking": false}, not',
        ),
        (("--weights", "all"), "--weights must be skip_failed_calls, a function of a Rollout and a Message, not 'all'"),
        (("--ending", "stopped"), "--ending must name ends of turns"),
        (("--license", "Apache 2"), "--license must be the Hub's name of a license"),
    ],
)
def test_mistakes_are_one_line(run: Any, options: tuple[object, ...], says: str) -> None:
    ran = run("run", *options)
    assert ran.code == 2, ran
    assert ran.err.startswith("openreward-gym: ")
    assert says in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not Path("new").exists()
    assert not Path("run/export").exists()


def _shard() -> Path:
    (shard,) = Path("run/rollouts").glob("*.jsonl")
    return shard


def test_a_torn_last_line_is_counted(run: Any) -> None:
    _shard().write_bytes(_shard().read_bytes()[:-20])
    ran = run("run", "--output", "out")
    assert ran.code == 0
    assert "5 rows from 5 of 5" in ran.out
    assert "1  files of the run whose last line has no end and is not read" in ran.out


@pytest.mark.parametrize("format", ["sft", "openai", "sharegpt", "tokens", "preference", "rollouts"])
def test_a_damaged_line_is_named_and_the_rest_is_exported(run: Any, format: str) -> None:
    tiny_tokenizer().save_pretrained("tokenizer")
    whole = _shard().read_text()
    words = ("run", "--format", format, "--tokenizer", "tokenizer", "--status", "any", "--output")
    assert run(*words, "whole").code == 0
    expected = export_report("whole", format)
    bad = whole.splitlines()[2].replace('"text":"answer', '"words":"answer')
    for line, says in ((bad, "blocks.0.text: is missing"), ("{", "not JSON"), ("[]", "not a rollout")):
        _shard().write_text(whole + line.replace('"id":"', '"id":"another-') + "\n")
        ran = run(*words, "out")
        assert ran.code == 1, ran
        assert f"{_shard()}: line 7 (byte {len(whole)}): " in ran.err
        assert says in ran.err
        assert export_report("out", format)["rows"] == expected["rows"]
        assert "1  the record cannot be read" in ran.out


def export_report(folder: str, format: str) -> Any:
    return json.loads((Path(folder) / "report.json").read_text())["formats"][format]


def test_a_failed_export_leaves_an_earlier_one_as_it_was(run: Any) -> None:
    assert run("run", "--output", "out").code == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    with _shard().open("a") as shard:
        shard.write("{\n")
    with pytest.raises(RecordError, match="line 7"):
        export.write("run", "out", formats=["sft", "openai"])
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before
    assert not Path("out/openai").exists()
    with pytest.raises(RecordError, match="line 7"):
        export.write("run", "new/out")
    assert not Path("new").exists()


def test_an_output_that_cannot_be_written_is_one_line(run: Any) -> None:
    Path("out").mkdir()
    Path("out/README.md").mkdir()
    ran = run("run", "--output", "out")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran
    assert "the output out cannot be written: Is a directory: out/README.md" in ran.err


def test_images_of_a_run_are_never_removed(run: Any) -> None:
    """A folder of an output may have the name of a run."""
    Path("run").rename("sharegpt")
    Path("sharegpt/images").mkdir()
    Path("sharegpt/images/a.png").write_bytes(b"x")
    ran = run("sharegpt", "--output", ".", "--format", "sharegpt")
    assert ran.code == 2
    assert "the output sharegpt is the folder of a run" in ran.err
    assert Path("sharegpt/images/a.png").exists()


def test_a_run_without_rollouts_makes_an_empty_dataset_and_is_a_failure(run: Any) -> None:
    _shard().unlink()
    ran = run("run", "--output", "out", "--format", "sft,openai,preference,kto,prompts")
    assert ran.code == 1, ran.err
    assert len(ran.err.splitlines()) == 1
    for name in ("sft", "openai", "preference", "kto", "prompts"):
        assert f"{name}: no row was written, because the run has no rollouts yet: `openreward-gym collect " in ran.err
    assert pq.read_table("out/sft").num_rows == 0


def test_help_is_in_sections_of_80_columns(run: Any) -> None:
    lines = run("--help").out.splitlines()
    assert max(map(len, lines)) <= 80
    sections = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert sections == ["Arguments:", "Output:", "Selection:", "Rows:", "Other options:"]
