"""Twins, overlaps, lengths, weights and personal data: what is taken is the better one, and nothing private is written."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from export_rollouts import assistant, call, episode, result, user
from huggingface_hub import metadata_load
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizer import tiny_tokenizer

import openreward_gym.export as room
from openreward_gym import export
from openreward_gym.errors import ConfigurationError
from openreward_gym.export import Select
from openreward_gym.export.columns import meaning_of
from openreward_gym.export.conversation import PROBLEMS
from openreward_gym.export.duplicates import near_duplicates, signature_of, similarity_of
from openreward_gym.export.options import EXTRA_COLUMNS
from openreward_gym.export.reasons import HINTS, hint_of
from openreward_gym.export.scrub import Scrubber
from openreward_gym.types import Message, Rollout, Task

WORDS = [f"w{n}" for n in range(400)]


def answers(rollouts: list[Rollout], **criteria: Any) -> tuple[list[str], dict[str, int]]:
    dataset, report = export.to_dataset(rollouts, select=Select(**criteria), return_report=True)
    return [row["messages"][-1]["content"] for row in dataset], dict(report.excluded)


@pytest.mark.parametrize("kind", ["exact", "normalized", "near"])
def test_the_better_twin_is_kept(kind: Any) -> None:
    twins = [
        episode(assistant("same words"), reward=0.0, sample=0),
        episode(assistant("same words"), reward=0.5, sample=1, status="truncated", labels=["cut"]),
        episode(assistant("same words"), reward=0.5, sample=2, labels=["whole"]),
        episode(assistant("same words"), reward=None, sample=3),
    ]
    dataset, report = export.to_dataset(
        twins,
        select=Select(dedupe=kind, status="any"),
        columns=("labels",),
        return_report=True,
    )
    assert [row["labels"] for row in dataset] == [["whole"]]
    assert dict(report.excluded) == {f"duplicate ({kind})": 3}


def test_near_duplicates_share_most_of_their_words() -> None:
    base = " ".join(WORDS)
    close, far = base.replace("w7 ", "x "), " ".join(WORDS[:200] + WORDS[300:] + [f"v{n}" for n in range(100)])
    rollouts = [episode(user("system words"), assistant(text), reward=n / 10) for n, text in enumerate((base, close, far))]
    kept, reasons = answers(rollouts, dedupe="near")
    assert kept == [close, far]
    assert reasons == {"duplicate (near)": 1}
    assert answers(rollouts, dedupe="near", similarity=1.0)[0] == [base, close, far]
    assert len(answers(rollouts, dedupe="near", similarity=0.3)[0]) == 1
    # Equal system prompts do not make different conversations similar.
    long = Message(role="system", blocks=user(base).blocks)
    others = [replace(episode(), messages=[long, user("hello there"), assistant(text)]) for text in ("one two", "three four")]
    assert len(answers(others, dedupe="near")[0]) == 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sets(st.integers(0, 60), max_size=40), max_size=8), st.sampled_from([0.3, 0.8, 1.0]))
def test_what_is_dropped_is_similar_to_something_kept_and_what_is_kept_is_not(sets: list[set[int]], similarity: float) -> None:
    arrays = [np.array(sorted(numbers), dtype=np.uint64) for numbers in sets]
    signatures = {n: signature_of(array) for n, array in enumerate(arrays)}
    dropped = set(near_duplicates(signatures, range(len(sets)), arrays.__getitem__, similarity))
    kept = [n for n in range(len(sets)) if n not in dropped]
    for n in dropped:
        assert any(similarity_of(arrays[n], arrays[k]) >= similarity for k in kept if k < n)
    if similarity == 1.0:
        assert len({arrays[k].tobytes() for k in kept}) == len(kept)


def test_prompts_that_overlap_with_texts_are_left_out(tmp_path: Path) -> None:
    held = " ".join(WORDS[:20])
    rollouts = [
        replace(episode(), messages=[user(f"Please: {' '.join(WORDS[3:17]).upper()}!"), assistant("a")]),
        replace(episode(), messages=[user(f"Please: {' '.join(WORDS[3:15])}"), assistant("b")]),
        replace(episode(), messages=[user("please"), assistant(held)]),
    ]
    (tmp_path / "t.jsonl").write_text(json.dumps({"question": {"text": held}}) + "\n\n")
    (tmp_path / "t.json").write_text(json.dumps([held]))
    (tmp_path / "t.txt").write_text(held)
    pq.write_table(pa.table({"q": [held]}), tmp_path / "t.parquet")
    files = [tmp_path / f"t.{end}" for end in ("jsonl", "json", "txt", "parquet")]
    for source in (held, [held, "short"], *files, str(files[0]), files, Dataset.from_dict({"q": [held]})):
        kept, reasons = answers(rollouts, decontaminate=source)
        assert kept == ["b", held]
        assert reasons == {"its prompt overlaps with the texts of decontaminate": 1}
    assert answers(rollouts, decontaminate=" ".join(WORDS[3:12]))[0] == [held]
    assert len(answers(rollouts, decontaminate="please")[0]) == 3
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(ConfigurationError, match=r"decontaminate: .*bad\.jsonl cannot be read"):
        answers(rollouts, decontaminate=tmp_path / "bad.jsonl")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        answers(rollouts, decontaminate=tmp_path / "missing.txt")


FORMATS = [
    "sft",
    "prompt_completion",
    "kto",
    "preference",
    "prompts",
    "tokens",
    "openai",
    "sharegpt",
    "axolotl",
    "atif",
    "rollouts",
]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("compat", ["json", "string"])
def test_lengths_in_tokens_bound_the_rows_of_every_format(format: str, compat: Any, tmp_path: Path) -> None:
    texts = ["short", "x" * 500]
    # For the pairs and the prompts of tasks: two groups, the question of the second is long.
    rollouts = [
        replace(
            episode(), task=Task(id=text[:1]), messages=[user(text), assistant(answer)], reward=reward, id=f"{text[:1]}{answer}"
        )
        for text in texts
        for answer, reward in (("no", 0.0), ("yes", 1.0))
    ]
    bounds: list[tuple[Any, str]] = [({"max_length": 300}, "s"), ({"min_length": 300}, "x")]
    for limits, start in bounds:
        report = export.write(rollouts, tmp_path, [format], tokenizer=tiny_tokenizer(), compat=compat, **limits).formats[format]
        ids = [str(row) for file in (tmp_path / format).glob("train*") for row in _rollout_ids(file)]
        assert ids or format == "openai"
        assert {identity[0] for identity in ids} <= {start}
        assert any("than 300 tokens" in reason for reason in report.excluded + report.dropped_rows)
        assert report.read == report.selected + report.excluded.total() == 4
    with pytest.raises(ConfigurationError, match="max_length counts tokens"):
        export.write(rollouts, tmp_path, ["sft"], max_length=3)


def _rollout_ids(file: Path) -> list[str]:
    if file.suffix == ".parquet":
        return list(pq.read_table(file)["rollout_id"].to_pylist())
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row.get("rollout_id") or row.get("session_id") for row in rows if row.get("rollout_id") or row.get("session_id")]


def test_weights_of_turns() -> None:
    failing = [assistant("", call("weather", {}, id="1")), result("no such city", id="1", is_error=True), assistant("sorry")]
    rollout = episode(*failing)
    rows, _ = export.to_dataset([rollout], format="prompt_completion", weights="skip_failed_calls", return_report=True)
    assert [row["completion"][0]["content"] for row in rows] == ["sorry"]
    seen: list[str] = []

    def weight(whole: Rollout, message: Message) -> float | None:
        assert whole == rollout
        seen.append(message.text)
        return 0.0 if message.text == "sorry" else None

    rows = export.to_dataset([rollout], format="prompt_completion", weights=weight)
    assert [row["completion"][0].get("tool_calls") is not None for row in rows] == [True]
    assert seen == ["", "sorry"]


def test_personal_data_is_in_no_file(tmp_path: Path) -> None:
    mail, phone, key = "ada@example.org", "+44 20 7946 0958", "sk-proj-abcdefghijklmnop0123456789"
    both = f"{mail} {phone} {key}"
    rollout = episode(
        assistant(f"To {both}", call("weather", {"id": mail, "data": [phone], "type": key})),
        result(both),
        assistant("done", token_ids=[1, 2], prompt_token_ids=[3]),
        metadata={"type": mail, "status": key},
    )
    rollout = replace(rollout, task=Task(id="t", spec={"id": mail}, golden_answer=phone))
    formats = ["sft", "prompt_completion", "prompts", "openai", "axolotl", "atif", "rollouts", "nemo_gym"]
    report = export.write([rollout], tmp_path, formats, scrub=["emails", "phones", "keys"], answers=True, compat="string")
    for format in formats:
        assert report.formats[format].findings["scrubbed"] == 1
        for file in (tmp_path / format).glob("train*"):
            text = str(pq.read_table(file).to_pylist()) if file.suffix == ".parquet" else file.read_text()
            assert "done" in text or format == "prompts"
            assert not any(secret in text for secret in (mail, phone, key, "ada@"))
    (record,) = export.read_rollouts(tmp_path)
    assert record.messages[-1].token_ids is None
    assert record.messages[-1].sampled is not None
    rows, report_of_one = export.to_dataset(
        [rollout, episode(assistant("x"))], scrub=lambda text: text.replace("done", "DONE"), return_report=True
    )
    assert {row["messages"][-1]["content"] for row in rows} == {"DONE", "x"}
    assert report_of_one.findings["scrubbed"] == 1


@pytest.mark.parametrize(
    "text", ["3.14159265358979", "2026-11-27 11:35:45", "192.168.0.100", "a@b", "1234567890", "f(x)=12-13", "sk-1"]
)
def test_numbers_and_dates_are_no_personal_data(text: str) -> None:
    assert Scrubber(("emails", "phones", "keys")).text(text) == text


def test_step_rewards_are_those_after_each_turn() -> None:
    steps = [
        assistant("", call("f", {}, id="1")),
        result("a", id="1", reward=0.25),
        assistant("b"),
        user("c"),
        assistant("d", reward=-1.0),
    ]
    (row,) = export.to_dataset([episode(*steps, advantage=0.5)], columns=("step_rewards", "advantage"))
    assert (row["step_rewards"], row["advantage"]) == ([0.25, None, -1.0], 0.5)


def test_exports_in_one_folder_share_card_and_report(tmp_path: Path) -> None:
    rollouts = [episode(assistant(str(n)), task=str(n)) for n in range(3)]
    export.write(rollouts, tmp_path, ["sft"], compat="string", license="mit")
    card = tmp_path / "README.md"
    card.write_text(
        card.read_text().replace("license: mit", "license: mit\nlanguage: en").replace("- agents", "- agents\n- mine")
    )
    export.write(rollouts, tmp_path, ["prompts", "openai"], select=Select(limit=2))
    report = json.loads((tmp_path / "report.json").read_text())
    assert {name: form["rows"] for name, form in report["formats"].items()} == {"sft": 3, "prompts": 2, "openai": 2}
    assert report["formats"]["prompts"]["hints"] == {"beyond the first 2": "Select(limit=None) takes all"}
    front = metadata_load(card)
    assert front is not None
    assert (front["license"], front["language"], front["size_categories"]) == ("mit", "en", ["n<1K"])
    assert "mine" in front["tags"]
    assert front["task_categories"] == ["text-generation", "reinforcement-learning"]
    assert [c["config_name"] for c in front["configs"]] == ["sft", "prompts"]
    text = card.read_text()
    assert "json.loads" in text
    assert all((tmp_path / picture).is_file() for form in report["formats"].values() for picture in form["pictures"])
    assert "| `task_id` | string | id of the task |" in text
    assert {len(load_dataset(str(tmp_path), name, split="train")) for name in ("sft", "prompts")} == {3, 2}
    (tmp_path / "sft" / "train-00000-of-00001.parquet").unlink()
    export.write(rollouts, tmp_path, ["openai"])
    assert list(json.loads((tmp_path / "report.json").read_text())["formats"]) == ["prompts", "openai"]


def test_every_column_has_a_meaning() -> None:
    _, report = export.to_dataset([], columns=tuple(EXTRA_COLUMNS), return_report=True)
    for name, kind in export.FORMATS.items():
        options = export.ExportOptions(columns=tuple(EXTRA_COLUMNS), answers=True)
        context = export.Context(options, tiny_template(), report, lambda block: None, lambda record: None)  # type: ignore[arg-type, return-value]
        context.with_images = True
        for column in kind(context).all_columns():
            assert meaning_of(name, column), f"{name}: {column}"


def tiny_template() -> Any:
    from openreward_gym.export.template import ChatTemplate

    return ChatTemplate.of(tiny_tokenizer())


def reasons_in_the_package() -> set[str]:
    """Every text with which the exports leave out a rollout or a row; what is formatted into it is "7"."""
    reasons = set(PROBLEMS.values())
    for path in sorted(Path(room.__path__[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            values: list[ast.expr] = []
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in ("LeftOut", "CannotSplit", "exclude"):
                    values = node.args[:1]
                elif name == "keep":
                    values = node.args[2:]
            elif isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") in ("dropped_rows", "excluded"):
                values = [node.slice]
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in (
                "reason",
                "excluded_by",
                "_NO_END",
                "_OTHER_PROMPT",
            ):
                values = [node.value]
            elif isinstance(node, ast.FunctionDef) and (node.name.startswith("_by_") or node.name.endswith("reason_against")):
                values = [r.value for r in ast.walk(node) if isinstance(r, ast.Return) and r.value is not None]
            for value in values:
                for part in ast.walk(value) if isinstance(value, ast.BoolOp | ast.IfExp) else (value,):
                    reasons |= text_of(part)
    return reasons - PROBLEMS.keys()


def text_of(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.JoinedStr):
        return {"".join(part.value if isinstance(part, ast.Constant) else "7" for part in node.values)}  # type: ignore[misc]
    return set()


def test_every_reason_says_how_to_get_the_rows() -> None:
    reasons = reasons_in_the_package()
    assert len(reasons) > 50
    assert {reason for reason in reasons if not hint_of(reason)} == set()
    assert all(hint.strip() for hint in HINTS.values())
    page = (Path(room.__path__[0]).parents[1] / "docs" / "export.md").read_text()
    assert [hint for hint in HINTS.values() if hint not in page] == []
