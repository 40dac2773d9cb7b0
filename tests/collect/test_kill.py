"""SIGKILL at random moments: afterwards each (task, sample) has exactly one outcome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from collectors import once_each
from launch import served

from openreward_gym.store.store import RolloutStore

# Imports once, then forks a collector, kills it after a random time, forks the next one: until the run is whole.
KILLER = """
import json, os, random, signal, sys, time
from openreward_gym import collect
from openreward_gym.collect.outcomes import Outcomes
from openreward_gym.collect.inventory import Inventory, TaskChoice
from openreward_gym.types import AssistantMessage, ToolCall
from pathlib import Path

url, folder, tasks, wanted, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
draw = random.Random(seed)

async def answer(transcript, tools):
    return AssistantMessage(tool_calls=[ToolCall("answer", {"text": "1"}, "c")])

def run(output):
    # A collector that was killed before it made its lock left nothing to continue.
    result = collect("large", answer, base_url=url, output=output, tasks=range(tasks), repeats=2, concurrency=8,
                     resume=(output / "collector.lock").exists(), progress=False, limit=tasks)
    return 0 if result.coverage.complete else 75

kills = runs = 0
while kills < wanted:
    output = folder / f"run-{runs}"
    while kills < wanted or not (output / "coverage.json").exists():
        child = os.fork()
        if child == 0:
            os._exit(run(output))
        if kills < wanted:
            time.sleep(draw.uniform(0.0, 0.5))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, status
            break
        kills += 1
        inventory = Inventory("large", None, [TaskChoice("train", index) for index in range(tasks)], 2)
        outcomes = Outcomes(inventory)
        outcomes.read(output)
        coverage = outcomes.coverage()
        assert coverage.expected == coverage.successful + coverage.failed + coverage.omitted + coverage.missing
        assert coverage.failed == 0
    runs += 1
print(json.dumps({"kills": kills, "runs": runs}))
"""


def killed(server_url: str, folder: Path, *, tasks: int, kills: int) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLER, server_url, str(folder), str(tasks), str(kills), str(os.getpid())]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    report = json.loads(ran.stdout)
    assert report["kills"] == kills
    for number in range(report["runs"]):
        run = folder / f"run-{number}"
        store = RolloutStore(run)
        assert once_each(store) == len(store) == 2 * tasks
        assert not store.damage()
        assert json.loads((run / "coverage.json").read_text())["successful"] == 2 * tasks


def test_killed_at_random_moments(tmp_path: Path) -> None:
    # A server of its own: a killed collector cannot close its sessions.
    with served() as url:
        killed(url, tmp_path, tasks=150, kills=8)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_a_thousand_times(tmp_path: Path) -> None:
    with served() as url:
        killed(url, tmp_path, tasks=300, kills=1000)
