"""Pushing: to a local folder, and to a stand-in of the Hub through huggingface_hub itself."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from export_rollouts import assistant, episode
from hub_stand_in import Hub, hub

from openreward_gym import export
from openreward_gym.errors import ConfigurationError
from openreward_gym.store import RolloutStore

PROGRAM = """
import json, sys
from openreward_gym import export
run, repository, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
report = export.push(run, repository, **options)
print(report.output)
"""


def push(server: Hub, run: Path, **options: Any) -> str:
    """Push in a process that knows the stand-in as the Hub."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": server.url,
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "hf_test",
        "HF_HOME": str(run / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(run), "me/rollouts", json.dumps(options)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with RolloutStore(tmp_path / "run") as store:
        for reward in (0.0, 1.0):
            rollout = episode(assistant(f"answer {reward}"), reward=reward)
            rollout.task = replace(rollout.task, golden_answer="SENTINEL")
            store.append(rollout)
    return tmp_path / "run"


def test_push_to_the_hub_is_private_and_one_commit(run: Path) -> None:
    with hub() as server:
        assert push(server, run, formats=["sft", "preference"]) == f"{server.url}/datasets/me/rollouts"
        repository = server.repositories["me/rollouts"]
        assert repository["private"] is True
        assert server.commits == 1
        files = repository["files"]
        assert {"README.md", "report.json", "sft/train-00000-of-00001.parquet"} <= set(files)
        assert pq.read_table(io.BytesIO(files["sft/train-00000-of-00001.parquet"])).num_rows == 2
        assert not any(b"SENTINEL" in content for content in files.values())


def test_second_push_replaces_its_files_and_keeps_the_rest_and_the_cards_text(run: Path) -> None:
    with hub() as server:
        push(server, run, formats=["sft"])
        files = server.repositories["me/rollouts"]["files"]
        files["README.md"] = files["README.md"].replace(b"# Rollouts", b"# My own words")
        files["notes.txt"] = b"mine"
        files["sft/train-00001-of-00002.parquet"] = b"stale"
        push(server, run, formats=["sft"])
        assert b"# My own words" in files["README.md"]
        assert files["notes.txt"] == b"mine"
        assert "sft/train-00001-of-00002.parquet" not in files


def test_public_push_of_whole_records_needs_a_word(run: Path) -> None:
    with pytest.raises(ConfigurationError, match="would publish task specs, golden answers"):
        export.push(run, "me/rollouts", formats=["sft", "rollouts"], private=False)
    with hub() as server:
        push(server, run, formats=["sft", "prompts"], private=False)
        repository = server.repositories["me/rollouts"]
        assert not repository["private"]
        assert not any(b"SENTINEL" in content for content in repository["files"].values())


def test_push_to_a_folder(run: Path, tmp_path: Path) -> None:
    report = export.push(run, str(tmp_path / "hub"), formats=["sft", "kto"])
    assert report.rows == {"sft": 2, "kto": 2}
    for name in ("sft", "kto"):
        assert len(load_dataset(str(tmp_path / "hub"), name, split="train", cache_dir=str(tmp_path / "cache"))) == 2


def test_a_hub_that_is_not_reached_is_told(run: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(run / "home")}
    command = [sys.executable, "-m", "openreward_gym.cli", "export", str(run), "--push", "me/rollouts"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("openreward-gym: me/rollouts: not pushed:")
    assert "HF_TOKEN" in last
    assert "Traceback" not in done.stderr


def test_push_from_the_command_line(run: Path, tmp_path: Path) -> None:
    with hub() as server:
        environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_test"}
        environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-m", "openreward_gym.cli", "export", str(run), "--push", "me/rollouts", "--public", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["output"] == f"{server.url}/datasets/me/rollouts"
        assert not server.repositories["me/rollouts"]["private"]
