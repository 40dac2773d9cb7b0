"""Time that `RecordRollouts` adds to a step.

    python benchmarks/recording.py [--episodes 40] [--steps 20]

The same episodes with and without the recorder take turns, against the SDK's server on the loopback interface. Each figure is the
median duration of an episode (without its reset, with its end and the writing of the record), divided by its steps.

Results on 2 idle cores (AMD EPYC, Python 3.11), two runs: 0.811 and 0.829 ms per step without the recorder, 0.915 and 0.920 ms
with it, 12.8 and 11.1 % more. Before the messages of an episode were written as they come, it added 4.6 and 4.1 % on the same
machine.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from openreward_gym import OpenRewardEnv, serve
from openreward_gym.store import RolloutStore
from openreward_gym.wrappers import RecordRollouts

CALL = {"name": "bash", "arguments": {"command": "ls -l /"}}


def play(env: Any, steps: int) -> float:
    """Return the seconds that an episode of `steps` steps takes."""
    env.reset(seed=0)
    begun = time.perf_counter()
    for _ in range(steps - 1):
        env.step(CALL)
    env.step({"name": "submit_answer", "arguments": {"answer": "no"}})
    env.unwrapped.truncate("max_steps")
    if isinstance(env, RecordRollouts):
        env._write_unfinished()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    with serve.local(["ctf"]) as url, tempfile.TemporaryDirectory() as folder, RolloutStore(Path(folder) / "run") as store:
        plain = OpenRewardEnv("ctf", base_url=url)
        recorded = RecordRollouts(OpenRewardEnv("ctf", base_url=url), store)
        seconds: dict[str, list[float]] = {"plain": [], "recorded": []}
        for _ in range(options.episodes):
            seconds["plain"].append(play(plain, options.steps) / options.steps)
            seconds["recorded"].append(play(recorded, options.steps) / options.steps)
        plain.close()
        recorded.close()
        assert len(store) == options.episodes
    print(f"{platform.machine()}, Python {platform.python_version()}, {options.episodes} episodes of {options.steps} steps")
    for name, values in seconds.items():
        low, middle, high = (1e3 * function(values) for function in (min, median, max))
        print(f"{name:9} {low:7.3f} {middle:7.3f} {high:7.3f} ms per step (min, median, max)")
    print(f"the recorder adds {100 * (median(seconds['recorded']) / median(seconds['plain']) - 1):.1f} %")


if __name__ == "__main__":
    main()
