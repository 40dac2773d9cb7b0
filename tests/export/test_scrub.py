"""`scrub`: a secret in any field of a record is in no file of an export, in no format."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from export_rollouts import assistant, call, episode, png, result, user
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizer import tiny_tokenizer

from openreward_gym import export
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.options import EXTRA_COLUMNS
from openreward_gym.export.scrub import Scrubber
from openreward_gym.store import Label, RolloutStore, write_label
from openreward_gym.types import ImageBlock, Message, OpaqueBlock, ReasoningItem, Rollout, TextBlock, Usage

SECRET = "bo.li@mail.example"
WORDS = {"schema", "status", "role", "origin", "ended", "type", "data", "mimeType", "reward"}


def without_secret(text: str) -> str:
    return text.replace(SECRET, "X")


def rollout(number: int, answer: str, reward: float) -> Rollout:
    turns: list[Message] = [
        user("What is it?").replace(origin="given"),
        assistant(
            "",
            call("look", {"city": {"deep": ["a", 1]}}, id=f"call{number}", text='{"city":{"deep":["a",1]}}'),
            blocks=(ReasoningItem("hm", summary="s", signature="sig", extra={"item": {"id": "x"}}),),
            origin="policy",
            ended="tool_calls",
            usage=Usage(1, 2, extra={"word": "w"}),
            model="m",
            metadata={"a": [{"b": "c"}], "logprobs": {"token": ["bo.li@", "mail.example"]}},
        ),
        result("cold", id=f"call{number}", name="look", metadata={"b": "c"}, origin="environment", extra={"more": "text"}),
        assistant(answer, origin="policy", ended="stop", stop_reason="stop", token_ids=(1, 2), logprobs=(-0.1, -0.2)),
    ]
    made = episode(
        *turns,
        reward=reward,
        group="g",
        sample=number,
        id=f"id{number}",
        run="run",
        name="my rollout",
        error="none",
        discard_reason="bad",
        labels=["good", {"name": "fine", "by": "me"}],
        model={"name": "m", "note": "n"},
        sampling={"stop": ["x"]},
        versions={"a": "1"},
        metadata={"a": {"b": ["c"]}, "chunks": [{"delta": "bo.li@m"}, {"delta": "ail.example"}]},
        metrics={"m": 1.0},
        extra={"future": {"a": "b"}},
    )
    made.environment.variant = "v"
    made.environment.origin = "https://host"
    return made


def with_secret(value: Any, free: bool = False) -> Any:
    """Put the secret into each text, and into the keys of free JSON."""
    if isinstance(value, str):
        return f"{value}{SECRET}"
    if isinstance(value, list):
        return [with_secret(item, free) for item in value]
    if isinstance(value, dict):
        new: dict[str, Any] = {}
        for key, item in value.items():
            if key in ("chunks", "logprobs") or (key in WORDS and not free):
                new[key] = item
            elif key == "content" and value.get("type") == "tool_call":
                new[key] = json.dumps(with_secret(value["arguments"], True)).replace("@", "\\u0040")
            else:
                inside = free or key in ("arguments", "metadata", "spec", "extra", "versions", "future", "metrics", "item")
                new[key + (SECRET if free and key != "type" else "")] = with_secret(item, inside)
        return new
    return value


def texts_of(folder: Path, tokenizer: Any) -> Iterator[tuple[Path, str]]:
    for file in sorted(folder.rglob("*")):
        if file.suffix == ".parquet":
            rows = pq.read_table(file).to_pylist()
            yield (
                file,
                str(file.relative_to(folder)) + str(rows) + "".join(tokenizer.decode(row.get("input_ids", [])) for row in rows),
            )
        elif file.is_file():
            yield file, str(file.relative_to(folder)) + file.read_bytes().decode("utf-8", "replace")


def remains_of_secret(text: str) -> list[str]:
    text = text.replace("\\u0040", "@")
    return [text[max(0, place - 60) : place + 60] for part in ("bo.li", "ail.ex") if (place := text.find(part)) >= 0]


@pytest.mark.parametrize("scrub", ["emails", without_secret])
@pytest.mark.parametrize("compat", ["json", "string"])
def test_a_secret_in_every_field_is_in_no_file(scrub: Any, compat: Any, tmp_path: Path) -> None:
    records = [with_secret(rollout(n, answer, n).to_dict()) for n, answer in enumerate(("no", "yes"))]
    # A turn whose provider cut the secret into several parts.
    for record in records:
        record["messages"][-1]["blocks"] = [{"type": "text", "text": part} for part in ("To bo.", "li@mail.ex", "ample now")]
        record["messages"][-1]["blocks"][-1]["text"] += str(record["sample"])
    rollouts = [Rollout.from_dict(record) for record in records]
    with RolloutStore(tmp_path / "run") as store:
        for one in rollouts:
            store.append(one)
    write_label(tmp_path / "run", Label(rollouts[0].id, 5, (f"tag {SECRET}",)))
    compared = {
        "schema": "openreward-gym/group/1",
        "group": rollouts[0].group,
        "rollouts": [one.id for one in rollouts],
        "rewards": [0.0, 1.0],
        "discard_reason": f"bad {SECRET}",
    }
    (tmp_path / "run" / "groups").mkdir()
    (tmp_path / "run" / "groups" / "a.jsonl").write_text(json.dumps(compared) + "\n")
    assert SECRET in json.dumps(records[0])
    tokenizer = tiny_tokenizer()
    options: dict[str, Any] = {"columns": tuple(EXTRA_COLUMNS), "compat": compat, "answers": True, "scrub": scrub}
    report = export.write(tmp_path / "run", tmp_path / "out", list(export.FORMATS), tokenizer=tokenizer, **options)
    export.write(tmp_path / "run", tmp_path / "none", ["sft"], export.Select(discarded=False), **options)
    for folder in ("out", "none"):
        for file, text in texts_of(tmp_path / folder, tokenizer):
            assert remains_of_secret(text) == [], file
    empty = {name for name, form in report.formats.items() if not form.rows}
    # A tool's name with brackets is none for OpenAI; verl's table takes no tools.
    assert empty == {"verl_sft"} | ({"openai", "openai_dpo"} if scrub == "emails" else set())
    rows = export.to_dataset(tmp_path / "run", **{**options, "compat": "json"})
    assert {len(row["labels"]) for row in rows} == {2, 3}
    assert [row["rating"] for row in rows] == [5, None]


def test_names_stay_apart_and_references_stay() -> None:
    calls = [call("weather", {"n": n}, id=f"bo{n}@mail.example") for n in range(2)]
    answers = [result(str(n), id=f"bo{n}@mail.example") for n in (1, 0)]
    record = episode(assistant("", *calls), *answers, assistant("ok"), metadata={"bo1@mail.example": 1, "bo2@mail.example": 2})
    scrubber = Scrubber("emails")
    changed = scrubber.record(record.to_dict())
    ids = [block["call_id"] for block in changed["messages"][1]["blocks"]]
    assert ids == ["[email]", "[email]_2"]
    assert [message["call_id"] for message in changed["messages"][2:4]] == ids[::-1]
    assert sorted(changed["metadata"].values()) == [1, 2]
    assert scrubber.record(changed) is changed
    (row,) = export.to_dataset([record], scrub="emails")
    assert [message["content"] for message in row["messages"][2:4]] == ["0", "1"]


@settings(max_examples=150, deadline=None)
@given(st.text("ab@.", max_size=4), st.lists(st.integers(0, 40), max_size=4), st.sampled_from(["assistant", "user", "tool"]))
def test_a_secret_cut_into_parts_is_replaced_and_nothing_else_changes(around: str, cuts: list[int], role: Any) -> None:
    text = f"{around}{SECRET}{around}{SECRET}{around}"
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = tuple(TextBlock(text[begin:end]) for begin, end in itertools.pairwise(places))
    record = episode(Message(role, parts)).to_dict()
    changed = Scrubber(without_secret).record(record)
    new = "".join(block["text"] for block in changed["messages"][1]["blocks"])
    assert SECRET not in new
    if role == "assistant":
        assert new == without_secret(text)
    assert len(changed["messages"][1]["blocks"]) == len(parts)


def test_images_stay_and_what_is_no_image_does_not() -> None:
    opaque = OpaqueBlock({"type": "document", "data": SECRET, "id": SECRET, "source": {"sha256": SECRET}})
    record = episode(
        Message("user", (ImageBlock(png(3, 2)), opaque, ImageBlock(f"{SECRET}"))), metadata={"role": SECRET}
    ).to_dict()
    blocks = Scrubber("emails").record(record)["messages"][1]["blocks"]
    assert blocks[0]["data"] == png(3, 2)
    assert SECRET not in json.dumps(Scrubber("emails").record(record))


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        (lambda text: None, "returned None, not a string"),
        (lambda text: 7, "returned 7, not a string"),
        (lambda text: text.encode(), "not a string"),
        (lambda text: {}[text], "failed: KeyError"),
        (lambda: "", "failed: TypeError"),
    ],
)
def test_a_function_that_returns_no_text_is_named(hook: Callable[..., Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        export.write([episode(assistant("a"))], tmp_path / "out", ["sft"], scrub=hook)
    assert "scrub: the function" in str(caught.value)
    assert "<lambda>" in str(caught.value)
    assert not list((tmp_path / "out").rglob("*.parquet"))
