"""Rollouts of real agents and real models (NeMo Gym's own examples): imported, exported, loaded, and taken by TRL.

The files are not part of the project; where they lie beside it (../shared/data), all of them are read. One like them is
made here, so that the way is gone in any case.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from test_trainers import prepared
from tiny_model import model_and_tokenizer
from tiny_tokenizer import VISION, tiny_tokenizer

from openreward_gym import export
from openreward_gym.importers import nemo_gym
from openreward_gym.store import RolloutStore
from openreward_gym.types import Rollout

DATA = Path(__file__).parents[4] / "shared" / "data" / "nemo_gym_rollouts"

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


def made() -> dict[str, Any]:
    call = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Oslo"}', "id": "f1"}
    tool = {"type": "function", "name": "weather", "description": "d", "parameters": {"type": "object", "properties": {}}}
    content = [{"type": "output_text", "text": "It rains.", "annotations": []}]
    message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": content}
    result = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
    return {
        "responses_create_params": {"input": [{"role": "user", "content": "Weather in Oslo?"}], "tools": [tool]},
        "response": {
            "id": "r1",
            "model": "m",
            "object": "response",
            "output": [call, result, message],
        },
        "reward": 1.0,
        "_ng_task_index": 0,
        "_ng_rollout_index": 0,
    }


def files(folder: Path) -> list[Path]:
    own = folder / "made.rollouts.jsonl"
    own.write_text(json.dumps(made()) + "\n")
    return [own, *sorted(DATA.glob("*.rollouts.jsonl"))]


def imported(file: Path) -> list[Rollout]:
    items = list(nemo_gym.read(file))
    rollouts = [item for item in items if isinstance(item, Rollout)]
    assert len(rollouts) == len(items) > 0
    return rollouts


def test_every_file_goes_from_import_to_trl_without_a_warning(tmp_path: Path) -> None:
    for file in files(tmp_path):
        name = file.name.split(".")[0]
        with RolloutStore(tmp_path / name / "run") as store:
            for rollout in imported(file):
                store.append(rollout)
        report = export.write(tmp_path / name / "run", tmp_path / name / "out", formats=["sft", "prompt_completion"])
        form = report.formats["sft"]
        assert form.read == form.selected + form.excluded.total()
        if not form.rows:
            # Some turns were given to the model: `sft` would train them, `prompt_completion` trains the sampled ones alone.
            assert {*form.excluded} == {
                "an assistant message that is not to be trained (take prompt_completion, tokens or axolotl)"
            }
            assert report.formats["prompt_completion"].rows > 0, str(report)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dataset = load_dataset(str(tmp_path / name / "out"), "sft", split="train", cache_dir=str(tmp_path / "cache" / name))
        assert len(dataset) == form.rows
        if "images" in dataset.column_names:
            # A text model cannot take them; that the images are where TRL puts them is tested with the trainers.
            assert all(len(row["images"]) > 0 for row in dataset)
            continue
        taken = prepared(dataset, tmp_path, assistant_only_loss=True)
        _, tokenizer = model_and_tokenizer("tiny")
        for row, labelled in zip(dataset, taken, strict=True):
            trained = tokenizer.decode([token for token in labelled["labels"] if token != -100])
            for message in row["messages"]:
                if message["role"] == "assistant":
                    assert message["content"] in trained
            assert trained.count("<|im_end|>") == sum(message["role"] == "assistant" for message in row["messages"])


def test_every_file_comes_back_from_its_export(tmp_path: Path) -> None:
    for file in files(tmp_path):
        with RolloutStore(tmp_path / "runs" / file.name) as store:
            for rollout in imported(file):
                store.append(rollout)
        export.write(store, tmp_path / "out" / file.name, formats=["nemo_gym"])
        # The export has the order of the tasks.
        written = (tmp_path / "out" / file.name / "nemo_gym" / "train.jsonl").read_text(encoding="utf-8")
        assert sorted_lines(written) == sorted_lines(file.read_text(encoding="utf-8"))


def sorted_lines(text: str) -> list[str]:
    return sorted(json.dumps(json.loads(line), sort_keys=True) for line in text.splitlines() if line.strip())


def test_tokens_of_every_file(tmp_path: Path) -> None:
    _, tokenizer = model_and_tokenizer("tiny")
    for file in files(tmp_path):
        report = export.write(imported(file), tmp_path / "out", formats=["tokens"], tokenizer=tokenizer)
        form = report.formats["tokens"]
        images = form.excluded["it has images: the template shows none (take a vision model's tokenizer, or sft)"]
        lost = {reason: count for reason, count in form.excluded.items() if "template" in reason and "images" not in reason}
        assert not lost
        assert form.rows + images > 0, str(report)
        seen = export.write(imported(file), tmp_path / "seen", formats=["tokens"], tokenizer=tiny_tokenizer(VISION))
        assert seen.formats["tokens"].rows >= form.rows + images, str(seen)
