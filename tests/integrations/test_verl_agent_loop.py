"""verl: the files for its trainer, and its own workers on environments, where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from installing import kept_trainer

from openreward_gym import RolloutStore
from openreward_gym.errors import ConfigurationError, MissingExtraError
from openreward_gym.integrations import verl
from openreward_gym.types import Json

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "docs"))
PATHS = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "earlier_names")])}


def python() -> Path:
    return kept_trainer("verl", "verl==0.9.1", "cachetools>=5", "TransferQueue>=0.1.10")


def test_files(examples: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEATHER_KEY", "sk-weather-0123456789")
    options: dict[str, Any] = {"output": "runs/verl", "max_steps": 3, "secrets_env": {"key": "WEATHER_KEY"}}
    files = verl.prepare("weather", "data", base_url=examples, limit=3, validation_split="test", max_turns=4, **options)
    rows = pq.read_table(files.train).to_pylist()
    assert len(rows) == pq.read_table(files.validation).num_rows == 3
    assert rows[2]["extra_info"] == {"index": 2, "split": "train", "environment": "weather", "task_index": 2}
    assert (rows[0]["data_source"], rows[0]["agent_name"], rows[0]["prompt"][-1]["role"]) == ("weather", "openreward", "user")
    assert "Seattle" in rows[0]["prompt"][-1]["content"]
    assert pq.read_table(files.validation).to_pylist()[0]["extra_info"]["split"] == "test"
    (loop,) = json.loads(files.agent_loops.read_text(encoding="utf-8"))
    assert loop == {
        "name": "openreward",
        "_target_": "openreward_gym.integrations.verl.EpisodeAgentLoop",
        "episodes": {"environment": "weather", "base_url": examples, **options, "output": str(tmp_path / "runs" / "verl")},
        "attempts": 2,
        "max_turns": 4,
    }
    assert b"sk-weather" not in files.agent_loops.read_bytes()
    assert not (tmp_path / "runs").exists()
    assert all(str(tmp_path / "data") in override for override in files.overrides)
    alone = verl.prepare("weather", "alone", base_url=examples, limit=1)
    assert alone.validation == alone.train


def test_wrong_options(examples: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="output_dir"):
        verl.prepare("weather", tmp_path, base_url=examples, output_dir="runs")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match=r"output.*agent_loops\.yaml"):
        verl.prepare("weather", tmp_path, base_url=examples, output=RolloutStore(tmp_path / "run"))
    with pytest.raises(ConfigurationError, match="attempts"):
        verl.prepare("weather", tmp_path, base_url=examples, attempts=0)
    for secret in ({"base_url": examples.replace("://", "://user:pa55@")}, {"env_overrides": {"KEY": "pa55"}}):
        with pytest.raises(ConfigurationError, match=r"agent_loops\.yaml") as raised:
            verl.prepare("weather", tmp_path, **{"base_url": examples, **secret})  # type: ignore[arg-type]
        assert "pa55" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_images_of_a_prompt_are_left_to_the_session() -> None:
    from openreward_gym.integrations.verl.dataset import verl_row

    parts: Json = [
        {"type": "text", "text": "What is "},
        {"type": "image_url", "image_url": {"url": "data:"}},
        {"type": "text", "text": "it?"},
    ]
    row = {"environment": "e", "split": "train", "task_index": 4, "prompt": [{"role": "user", "content": parts}]}
    assert verl_row(row, 0, "openreward")["prompt"] == [{"role": "user", "content": "What is it?"}]


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verl", None)
    with pytest.raises(MissingExtraError, match=r"openreward-gym\[verl\]"):
        verl.EpisodeAgentLoop  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Loop'"):
        verl.Loop  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.matrix
@pytest.mark.timeout(400)
def test_checks_with_verls_own_workers() -> None:
    options = ["-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=ignore"]
    command: list[str | Path] = [python(), "-m", "pytest", *options, HERE / "checks_of_verl.py"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **PATHS}, check=True, timeout=390)


@pytest.mark.matrix
@pytest.mark.timeout(600)
def test_page_and_example_can_be_typed(tmp_path: Path) -> None:
    from documents import DOCS
    from typed_shell import clone, reader, type_page

    programs = tmp_path / "programs"
    programs.mkdir()
    for name, command in (("python", str(python())), ("openreward-gym", f"{sys.executable} -m openreward_gym")):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    folder = clone(tmp_path / "openreward-gym")
    with reader(folder, programs, PATHS, timeout_s=400) as shell:
        printed = type_page(DOCS / "how-to" / "train-with-verl.md", shell)
    assert f"agent_loop_config_path: {folder}/data/weather/agent_loops.yaml" in printed
