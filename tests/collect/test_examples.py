"""The examples of collecting run as they are, against real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from providers import providing

from openreward_gym.store.store import RolloutStore

EXAMPLES = Path(__file__).parents[2] / "examples"


def ran(folder: Path, name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_collect_from_a_local_model(tmp_path: Path) -> None:
    with providing() as providers:
        output = ran(
            tmp_path, "collect_from_a_local_model.py", "--model", "good", "--policy-url", providers.url + "/v1", "--output", "run"
        )
    assert "mean reward 1.000" in output
    assert "successful=20" in output


def test_evaluate_vector(examples: str, tmp_path: Path) -> None:
    output = ran(tmp_path, "evaluate_vector.py", "ctf", "--base-url", examples, "--num-envs", 4, "--tasks", 10)
    played = [rollout for rollout in RolloutStore(tmp_path / "runs" / "evaluation") if rollout.status != "cancelled"]
    # No task a second time before each had its turn.
    assert {rollout.task.index for rollout in played} >= set(range(10))
    assert "mean reward" in output or "no reward" in output


def test_vector_policy(examples: str, tmp_path: Path) -> None:
    with providing() as providers:
        where = ("--model", "good", "--policy-url", providers.url + "/v1", "--base-url", examples)
        output = ran(tmp_path, "vector_policy.py", "weather", *where, "--num-envs", 2, "--episodes", 6)
    assert "episodes, mean return 1.000" in output


def test_five_queries_of_nemo_gym_there_and_back(examples: str, tmp_path: Path) -> None:
    """Collect the five queries of NeMo Gym's tutorial, write them in its format, and read them again."""
    with providing() as providers:
        where = ("--base-url", examples, "--policy", "openai:good", "--policy-url", providers.url + "/v1")
        queries = EXAMPLES / "weather_queries.jsonl"
        output = commanded(tmp_path, "collect", "weather", "--input", queries, *where, "--output", "runs/queries")
    assert "5 of 5 rollouts in runs/queries" in output
    assert "mean reward 1.000" in output
    commanded(tmp_path, "export", "runs/queries", "--format", "nemo_gym", "--output", "out")
    (written,) = (tmp_path / "out").rglob("*.jsonl")
    rows = [json.loads(line) for line in written.read_text().splitlines()]
    assert [row["reward"] for row in rows] == [1.0] * 5
    assert all({"responses_create_params", "response", "reward"} <= row.keys() for row in rows)
    assert "5 rollouts imported" in commanded(tmp_path, "import", "nemo-gym", written, "--output", "runs/imported")
    before, after = (RolloutStore(tmp_path / "runs" / name) for name in ("queries", "imported"))
    for store in (before, after):
        assert len(store) == 5
        assert all(rollout.reward == 1.0 and rollout.num_turns == 2 for rollout in store)


def commanded(folder: Path, *arguments: object) -> str:
    command = [sys.executable, "-m", "openreward_gym.cli", *map(str, arguments)]
    environ = {**os.environ, "OPENAI_API_KEY": "of-the-tests"}
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, env=environ)
    assert process.returncode == 0, process.stderr
    return process.stdout
