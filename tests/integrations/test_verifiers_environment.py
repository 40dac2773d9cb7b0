"""The integration with verifiers, under the interpreter that has it: its command, its env server, the page and the example."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installing import kept_trainer
from providers import Providers, providing

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from documents import DOCS, ROOT
from typed_shell import TypedShell, reader, type_page

from openreward_gym import collect, serve
from openreward_gym.importers import read
from openreward_gym.store import RolloutStore
from openreward_gym.types import Rollout

HERE = Path(__file__).parent
PATHS = [ROOT, ROOT / "tests" / "earlier_names", ROOT / "tests" / "export"]

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def programs() -> Path:
    """The folder of the interpreter and of verifiers' commands."""
    return kept_trainer("verifiers", "verifiers").parent


@pytest.fixture(scope="module")
def weather() -> Iterator[str]:
    with serve.local(["weather"]) as url:
        yield url


def run(command: list[str], folder: Path) -> str:
    """Run a command in a folder, with this package on its path; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PATHS))}
    ran = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-5000:]
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("module", ["verifiers_episodes", "verifiers_training"])
def test_under_verifiers(module: str, programs: Path, tmp_path: Path) -> None:
    options = ["--override-ini", "addopts=", "--override-ini", "filterwarnings=", "-q", "-p", "no:cacheprovider"]
    printed = run([f"{programs}/python", "-m", "pytest", *options, f"--rootdir={ROOT}", str(HERE / f"{module}.py")], tmp_path)
    assert " passed" in printed
    assert "skipped" not in printed


@pytest.mark.parametrize(("model", "split", "reward"), [("m", "train", 1.0), ("limited", "test", 0.0)])
def test_the_evaluation_command_plays_as_collect_does(
    model: str, split: str, reward: float, programs: Path, weather: str, tmp_path: Path
) -> None:
    with providing() as providers:
        command = [f"{programs}/vf-eval", "openreward-gym-verifiers", "--env.taskset.environment", "weather"]
        command += ["--env.taskset.base-url", weather, "--env.taskset.split", split, "--env.taskset.output", "rollouts"]
        command += [
            "--model",
            model,
            "--client.base-url",
            f"{providers.url}/v1",
            "-r",
            "2",
            "--no-push",
            "--run.name",
            "evaluation",
        ]
        run(command, tmp_path)
        collected = _collected(providers, model, weather, split, tmp_path)
    recorded = RolloutStore(tmp_path / "rollouts")
    items = list(read("verifiers", tmp_path / "outputs" / "evaluation"))
    imported = [item for item in items if isinstance(item, Rollout)]
    assert imported == items
    assert len(collected) == len(recorded) == len(imported) > 0
    assert {rollout.reward for rollout in collected} == {reward}
    for rollouts in (recorded, imported):
        assert sorted(map(_content, rollouts)) == sorted(map(_content, collected))
    assert {(one.group, one.sample) for one in recorded} == {
        (f"weather/{split}/{one.task.index}", n) for one in collected for n in (0, 1)
    }
    assert {message.origin for one in imported for message in one.messages} == {"given", "policy", "environment"}
    assert [one.usage for one in imported] == [one.usage for one in recorded]


def _collected(providers: Providers, model: str, url: str, split: str, folder: Path) -> list[Rollout]:
    """Return the rollouts of the same tasks and model by `collect`."""
    options: dict[str, Any] = {"policy_url": f"{providers.url}/v1", "base_url": url, "split": split, "repeats": 2}
    os.environ.setdefault("OPENAI_API_KEY", "not-a-key")
    result = collect("weather", f"openai:{model}", output=folder / "collected", **options)
    return list(RolloutStore(result.path))


def _content(rollout: Rollout) -> tuple[Any, ...]:
    """Return what is the same in all records of an episode."""
    messages = [(m.role, m.origin, m.text, [(c.name, c.content) for c in m.tool_calls]) for m in rollout.messages]
    environment = rollout.environment
    return rollout.task.id, rollout.task.index, environment.name, environment.split, rollout.reward, rollout.status, messages


@pytest.fixture
def shell(programs: Path, tmp_path: Path) -> Iterator[TypedShell]:
    """A shell that finds the commands of this package and of verifiers, and a program `vllm`."""
    found = tmp_path / "programs"
    found.mkdir()
    scripts = {
        "openreward-gym": f'exec {programs}/python -m openreward_gym "$@"',
        "vllm": f'exec {sys.executable} {ROOT}/tests/docs/stand_ins.py "$@"',
        "python": f'exec {programs}/python "$@"',
        "vf-eval": f'exec {programs}/vf-eval "$@"',
    }
    for name, line in scripts.items():
        (found / name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        (found / name).chmod(0o755)
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader" / "examples").symlink_to(ROOT / "examples")
    with reader(tmp_path / "reader", found, {"PYTHONPATH": os.pathsep.join(map(str, PATHS))}) as typed:
        yield typed


def test_the_page_can_be_typed(shell: TypedShell) -> None:
    type_page(DOCS / "how-to" / "train-with-verifiers.md", shell)


def test_the_example_can_be_typed(shell: TypedShell) -> None:
    assert shell.type("vllm serve Qwen/Qwen3-4B --port 8000 & openreward-gym serve weather --port 8080 &").code == 0
    assert shell.type(
        "until curl --silent --fail http://127.0.0.1:8080/health http://127.0.0.1:8000/v1/x; do sleep 0.1; done"
    ).code
    answer = shell.type("python examples/verifiers_environment.py http://127.0.0.1:8000/v1 Qwen/Qwen3-4B")
    assert answer.code == 0, answer.output
    assert "weather/test/0 1.0" in answer.output
    assert len(list(RolloutStore(shell.folder / "runs" / "verifiers"))) > 0
