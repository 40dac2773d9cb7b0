"""The integration with verifiers, under the interpreter that has it: its command, its env server, the page and the example."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_model import ChatModel
from installing import kept_trainer
from providers import CITIES

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from documents import DOCS, ROOT
from typed_shell import TypedShell, reader, type_page

from openreward_gym import collect, serve
from openreward_gym.importers import read
from openreward_gym.store import RolloutStore
from openreward_gym.types import Rollout

HERE = Path(__file__).parent
PAGE = DOCS / "how-to" / "train-with-verifiers.md"
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


def test_episodes_and_training_under_verifiers(programs: Path, tmp_path: Path) -> None:
    options = ["--override-ini", "addopts=", "--override-ini", "filterwarnings=", "-q", "-p", "no:cacheprovider"]
    modules = [str(HERE / f"{name}.py") for name in ("verifiers_episodes", "verifiers_training")]
    printed = run([f"{programs}/python", "-m", "pytest", *options, f"--rootdir={ROOT}", *modules], tmp_path)
    assert " passed" in printed
    assert "skipped" not in printed


class Forgetful(ChatModel):
    """Looks up the city of the question and says what it read, but takes Boston for Chicago."""

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        reply = super().reply(request)
        message = reply["choices"][0]["message"]
        said = request["messages"][-1]
        if said["role"] == "tool":
            message |= {"content": json.loads(said["content"])["weather_description"], "tool_calls": None}
            reply["choices"][0]["finish_reason"] = "stop"
        else:
            city = next((city for city in CITIES if city in said["content"]), "")
            call = self._call("c1", "get_weather", {"city": "Chicago" if city == "Boston" else city})
            message |= {"content": None, "tool_calls": [call]}
        return reply


def test_the_evaluation_command_plays_as_collect_does(
    programs: Path, weather: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    with Forgetful("") as model:
        command = [f"{programs}/vf-eval", "openreward-gym-verifiers", "--env.taskset.environment", "weather"]
        command += [
            "--env.taskset.base-url",
            weather,
            "--env.taskset.output",
            "rollouts",
            "--run.name",
            "evaluation",
            "--no-push",
        ]
        run([*command, "--model", "m", "--client.base-url", model.url, "-r", "2"], tmp_path)
        result = collect("weather", "openai:m", policy_url=model.url, base_url=weather, repeats=2, output=tmp_path / "collected")
    collected, recorded = list(RolloutStore(result.path)), list(RolloutStore(tmp_path / "rollouts"))
    items = list(read("verifiers", tmp_path / "outputs" / "evaluation"))
    imported = [item for item in items if isinstance(item, Rollout)]
    assert imported == items
    assert sorted(one.reward or 0.0 for one in collected) == [0.0] * 2 + [1.0] * 8
    for rollouts in (recorded, imported):
        assert sorted(map(_content, rollouts)) == sorted(map(_content, collected))
    assert {(one.group, one.sample) for one in recorded} == {(f"weather/train/{index}", n) for index in range(5) for n in (0, 1)}
    assert {message.origin for one in imported for message in one.messages} == {"given", "policy", "environment"}


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


def test_the_page_can_be_typed_and_shows_the_example(shell: TypedShell) -> None:
    example = (ROOT / "examples" / "verifiers_environment.py").read_text(encoding="utf-8")
    shown = re.search(r"^```py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert shown is not None
    assert example.endswith(f'"""\n\n{shown[1]}')
    printed = type_page(PAGE, shell)
    assert "weather/test/0 0.0" in printed  # the stand-in for vLLM does not know the cities of the test split
    rollouts = RolloutStore(shell.folder / "runs" / "verifiers")
    assert Counter(one.environment.split for one in rollouts) == {"train": 20, "test": 16}
