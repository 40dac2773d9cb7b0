"""No text of an exported message differs from the record's, in any format, and nothing is made up."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from export_rollouts import assistant, call, episode, png
from hypothesis import given, settings
from hypothesis import strategies as st

from openreward_gym import export
from openreward_gym.store import RolloutStore
from openreward_gym.types import ImageBlock, Message, ReasoningItem, Rollout, TextBlock

TEXTS = st.lists(st.text(max_size=8), min_size=1, max_size=3)


def lines(rollouts: Any, form: str, folder: Path, **options: Any) -> list[Any]:
    export.write(rollouts, folder, [form], **options)
    return [json.loads(line) for line in (folder / form / "train.jsonl").read_text().splitlines()]


def steps_of(rollout: Rollout, folder: Path) -> list[tuple[str, str, str]]:
    (row,) = lines([rollout], "atif", folder)
    said: list[tuple[str, str, str]] = []
    for step in row["steps"]:
        said.append((step["source"], step["message"], step.get("reasoning_content", "")))
        said += [("tool", result["content"], "") for result in step.get("observation", {"results": []})["results"]]
    return said


@settings(max_examples=30, deadline=None)
@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_several_parts_are_the_text_that_the_record_has(
    asked: list[str], thought: list[str], answered: list[str], returned: list[str]
) -> None:
    """A model's parts follow each other with nothing between; those of others are texts of their own, a newline apart."""

    def blocks(texts: list[str]) -> tuple[TextBlock, ...]:
        return tuple(map(TextBlock, texts))

    turn = assistant(blocks=(*map(ReasoningItem, thought), *blocks(answered), call("f", {}, id="c1")))
    rollout = episode(Message("user", blocks(asked)), turn, Message("tool", blocks(returned), call_id="c1"), assistant("end"))
    expected = [
        ("user", "What is the weather?", ""),
        ("user", "\n".join(asked), ""),
        ("agent", "".join(answered), "".join(thought)),
        ("tool", "\n".join(returned), ""),
        ("agent", "end", ""),
    ]
    (row,) = export.to_dataset([rollout])
    chat = [(m["role"], m["content"], m.get("reasoning_content", "")) for m in row["messages"]]
    assert chat == [(role.replace("agent", "assistant"), text, reasoning) for role, text, reasoning in expected]
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        assert steps_of(rollout, Path(name)) == expected


def test_nemo_gym_keeps_ids_and_images_and_makes_no_content_up(tmp_path: Path) -> None:
    picture, other = png(4, 3), png(5, 3)
    thought = ReasoningItem("so", extra={"openai": {"id": "rs_77"}})
    rollout = episode(
        Message("user", (TextBlock("see"), ImageBlock(picture)), origin="given"),
        assistant(blocks=(thought, call("f", {"x": 1}, id="call_55", text='{"x":  1}')), origin="policy"),
        Message("tool", (ImageBlock(other),), call_id="call_55", origin="environment"),
        assistant("done", origin="policy"),
    )
    with RolloutStore(tmp_path / "run") as store:
        store.append(rollout)
    for source in ([rollout], tmp_path / "run"):
        (row,) = lines(source, "nemo_gym", tmp_path / "out")
        items = [*row["responses_create_params"]["input"], *row["response"]["output"]]
        kinds = [item.get("role") or item["type"] for item in items]
        assert kinds == ["user", "user", "reasoning", "function_call", "function_call_output", "assistant"]
        assert items[1]["content"][0] == {"type": "input_text", "text": "see"}
        assert items[1]["content"][1]["image_url"].endswith(picture)
        assert (items[2]["id"], items[2]["content"], items[2]["summary"]) == (
            "rs_77",
            [{"type": "reasoning_text", "text": "so"}],
            [],
        )
        assert (items[3]["call_id"], items[3]["arguments"]) == ("call_55", '{"x":  1}')
        assert items[4]["call_id"] == "call_55"
        assert base64.b64decode(items[4]["output"][0]["image_url"].partition(",")[2]) == base64.b64decode(other)


@pytest.mark.parametrize("form", ["nemo_gym", "sft"])
def test_an_image_without_bytes_is_not_made_up(form: str, tmp_path: Path) -> None:
    rollout = episode(Message("user", (ImageBlock("", sha256="ab" * 32),)), assistant("x"))
    report = export.write([rollout], tmp_path, [form]).formats[form]
    assert report.excluded == {"an image whose bytes are missing or are not an image of pixels": 1}


def test_pairs_do_not_depend_on_images_that_come_later() -> None:
    """A user's text is a text, whether a message after it has an image or not."""
    later = [assistant("a"), Message("user", (ImageBlock(png(2, 2)),)), assistant("c")]
    sides = [episode(*later, reward=1.0, group="g"), episode(assistant("b"), reward=0.0, group="g")]
    for rollouts in itertools.permutations(sides):
        (row,) = export.to_dataset(list(rollouts), "preference")
        assert (row["chosen"][0]["content"], row["rejected"][0]["content"], row["images"]) == ("a", "b", [])
