"""The dataset card: its snippets run, its pictures are pictures, what somebody wrote in it stays."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from export_rollouts import assistant, call, episode, result
from huggingface_hub import metadata_load

from openreward_gym import export
from openreward_gym.types import Rollout, Usage


def rollouts() -> list[Rollout]:
    records = []
    for number in range(30):
        calls = [assistant("", call("weather", {"n": n}, id=str(n))) for n in range(number % 5)]
        messages = [message for n, turn in enumerate(calls) for message in (turn, result("<|im_end|>", id=str(n)))]
        last = assistant(f"{number}", usage=Usage(input_tokens=100 + number, output_tokens=7))
        records.append(
            episode(*messages, last, reward=number / 30, task=str(number // 3), status="error" if number == 7 else "completed")
        )
    return records


@pytest.mark.parametrize("compat", ["json", "string"])
def test_every_snippet_of_the_card_runs(compat: Any, tmp_path: Path) -> None:
    formats = ["sft", "preference", "kto", "prompts", "openai", "rollouts"]
    export.write(rollouts(), tmp_path, formats=formats, compat=compat)
    snippets = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == len(formats)
    program = "\n".join(snippets).replace('"PATH', f'"{tmp_path}') + "\nprint(len(dataset))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "30"), done.stderr


def test_front_matter_names_every_configuration(tmp_path: Path) -> None:
    export.write(rollouts(), tmp_path, formats=["sft", "kto", "openai"])
    front = metadata_load(tmp_path / "README.md")
    assert front is not None
    assert front["configs"] == [
        {"config_name": "sft", "default": True, "data_files": [{"split": "train", "path": "sft/train-*.parquet"}]},
        {"config_name": "kto", "data_files": [{"split": "train", "path": "kto/train-*.parquet"}]},
    ]
    # `datasets` would read lines as Parquet; alone, they are a configuration.
    export.write(rollouts(), tmp_path / "lines", formats=["openai"])
    front = metadata_load(tmp_path / "lines" / "README.md")
    assert front is not None
    assert [configuration["config_name"] for configuration in front["configs"]] == ["openai"]


def test_card_says_what_was_left_out_and_found(tmp_path: Path) -> None:
    report = export.write(rollouts(), tmp_path, formats=["sft"], select=export.Select(min_reward=0.5))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| rollouts | 14 | reward below 0.5 | Select(min_reward=" in text
    assert "| rollouts | 1 | status error | Select(status=" in text
    assert "control_tokens=" in text
    assert "datasets>=4.7" in text
    assert "assistant_only_loss=True" in text
    assert "- tasks: 5 of 10 are covered" in text
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["formats"]["sft"]
    assert written["excluded"] == dict(report.formats["sft"].excluded)
    assert written["read"] == 30 == written["selected"] + sum(written["excluded"].values())
    assert written["tokens"]["minimum"] == 122


def test_pictures_are_drawn(tmp_path: Path) -> None:
    export.write(rollouts(), tmp_path, formats=["sft"])
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert sorted(Path(name).stem for name in names) == ["sft-funnel", "sft-rewards", "sft-tasks", "sft-tokens", "sft-turns"]
    for name in names:
        picture = ElementTree.parse(tmp_path / name).getroot()
        bars = [element for element in picture.iter() if element.tag.endswith("rect")]
        assert len(bars) > 1
    rewards = ElementTree.parse(tmp_path / "pictures" / "sft-rewards.svg").getroot()
    counts = [element.text for element in rewards.iter() if element.tag.endswith("text")][2::2]
    assert sum(int(count or 0) for count in counts) == 29


def test_own_words_in_the_card_are_kept(tmp_path: Path) -> None:
    export.write(rollouts(), tmp_path, formats=["sft"])
    card = tmp_path / "README.md"
    card.write_text(
        card.read_text(encoding="utf-8").replace("# Rollouts", "# Weather\n\nCollected on a rainy day."), encoding="utf-8"
    )
    export.write(rollouts(), tmp_path, formats=["kto"])
    text = card.read_text(encoding="utf-8")
    assert "Collected on a rainy day." in text
    assert text.count("openreward-gym: everything below") == 1
    assert "## kto" in text


def test_rewards_beyond_what_can_be_summed_or_no_numbers_at_all_are_reported(tmp_path: Path) -> None:
    records = [
        replace(record, reward=reward) for record, reward in zip(rollouts(), [1.7e308, 1.7e308, float("inf")], strict=False)
    ]
    rewards = export.write(records, tmp_path, formats=["rollouts"]).formats["rollouts"].to_dict()["rewards"]
    assert rewards["count"] == 2
    assert rewards["mean"] == rewards["median"] == 1.7e308
