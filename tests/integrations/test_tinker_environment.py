"""tinker-cookbook: its own functions and its own trainer on environments, where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from installing import kept_trainer

from openreward_gym import RolloutStore, serve
from openreward_gym.errors import MissingExtraError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STAND_IN = ROOT / "tests" / "servers" / "tinker_stand_in.py"
sys.path.insert(0, str(ROOT / "tests" / "docs"))
PATHS = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "earlier_names")])}


def python() -> Path:
    return kept_trainer("tinker", "tinker-cookbook==0.5.8", "tinker==0.38.0")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from documents import tiny_model

    return Path(tiny_model(tmp_path_factory.mktemp("model")))


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from openreward_gym.integrations import tinker

    for name in ("chz", "tinker", "tinker_cookbook"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"openreward-gym\[tinker\]"):
        tinker.dataset  # noqa: B018
    assert "dataset" in dir(tinker)


@pytest.mark.matrix
@pytest.mark.timeout(400)
def test_checks_with_the_cookbooks_own_functions() -> None:
    options = ["-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=ignore"]
    command: list[str | Path] = [python(), "-m", "pytest", *options, HERE / "checks_of_tinker.py"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **PATHS}, check=True, timeout=390)


@pytest.mark.matrix
@pytest.mark.train
@pytest.mark.timeout(400)
def test_example_trains_a_tiny_model(model: Path, tmp_path: Path) -> None:
    with serve.local(["weather"]) as base_url:
        command: list[str | Path] = [python(), STAND_IN, ROOT / "examples" / "tinker_training.py", base_url, model, "4", "1"]
        subprocess.run(command, cwd=tmp_path, env={**os.environ, **PATHS}, check=True, timeout=390)
    (metrics,) = [json.loads(line) for line in (tmp_path / "out/tinker/metrics.jsonl").read_text().splitlines()]
    # The trainer's own forward pass over its data gives the sampler's probabilities: the ids are those that were sampled.
    assert abs(metrics["optim/kl_sample_train_v1"]) < 1e-4
    rollouts = list(RolloutStore(tmp_path / "runs" / "tinker"))
    assert metrics["env/all/total_episodes"] == len(rollouts) == 16
    assert {(rollout.step, rollout.sample) for rollout in rollouts} == {(0, sample) for sample in range(4)}


@pytest.mark.matrix
@pytest.mark.train
@pytest.mark.timeout(600)
def test_page_can_be_typed(model: Path, tmp_path: Path) -> None:
    from documents import DOCS
    from typed_shell import clone, reader, type_page

    programs = tmp_path / "programs"
    programs.mkdir()
    for name, command in (("python", f"{python()} {STAND_IN}"), ("openreward-gym", f"{sys.executable} -m openreward_gym")):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    folder = clone(tmp_path / "openreward-gym")
    (folder / "Qwen").mkdir()
    (folder / "Qwen" / "Qwen3-8B").symlink_to(model, target_is_directory=True)
    with reader(folder, programs, {**PATHS, "STAND_IN_MAX_TOKENS": "4"}, timeout_s=400) as shell:
        type_page(DOCS / "how-to" / "train-with-tinker.md", shell)
    assert {rollout.step for rollout in RolloutStore(folder / "runs" / "tinker")} == {0, 1}
