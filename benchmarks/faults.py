"""Duration of a run of `collect` when a fifth of all requests fail, in all ways of the fault matrix, beside a run without faults.

    python benchmarks/faults.py [SEEDS] [THINKS_S] [CONCURRENCY]

96 rollouts of three steps, by a policy that waits THINKS_S seconds (default 1) before each step, CONCURRENCY (16) at a time,
against the server of tests/servers/fault_server.py in a separate thread. Each of SEEDS (3) seeds draws other faults; runs with
and without faults take turns. `playing` is the total time of all attempts, divided by the concurrency: no run of these attempts
can be shorter. The difference to `seconds` is spent waiting before repeated attempts, and in slots that have no task left at the
end.

Results on 2 cores, load 0.4, Python 3.11, without arguments:

    seed  faulty   attempts  failed  seconds    playing   clean  ratio
       0      20%       185      89     31.5       24.4    18.3   1.72
       1      18%       192      96     30.2       25.3    18.3   1.65
       2      19%       205     109     27.8       25.1    18.2   1.52
    ratio: median 1.65, minimum 1.52, maximum 1.72

In a trace of such runs, no slot was idle for more than 0.01 s while a unit waited for its next attempt. The difference to
`playing` arises at the end of the run, where a few units fail several times in sequence and the other slots have nothing left to
play. The faults depend on the order in which requests arrive, so the figures of a seed differ from run to run.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "servers"))

from fault_server import running
from troubled import TASKS, Trouble, play

from openreward_gym.collect.progress import Reporter

REPEATS = 32


@dataclass(frozen=True)
class Run:
    """The figures of a run.

    Attributes:
        faulty: The share of requests that failed.
        attempts: Attempts at rollouts.
        failed: Attempts that failed.
        seconds: Duration of the run.
        playing_s: Total duration of all attempts, in seconds.
    """

    faulty: float
    attempts: int
    failed: int
    seconds: float
    playing_s: float


class Watch(Reporter):
    """A reporter that adds up the durations of all attempts."""

    def __init__(self) -> None:
        super().__init__()
        self.playing_s = 0.0

    def dispatched(self) -> None:
        super().dispatched()
        self.playing_s -= time.perf_counter()

    def finished(self, *arguments: Any) -> None:
        super().finished(*arguments)
        self.playing_s += time.perf_counter()

    def failed(self, *arguments: Any) -> None:
        super().failed(*arguments)
        self.playing_s += time.perf_counter()


def timed(seed: int | None, thinks_s: float, concurrency: int) -> Run:
    """Measure one run; a `seed` of None draws no faults."""
    with tempfile.TemporaryDirectory() as folder, running() as server:
        watch = Watch()
        trouble = None if seed is None else Trouble(server, seed, watch)
        begun = time.perf_counter()
        result = play(server, Path(folder), watch, REPEATS, thinks_s, concurrency)
        seconds = time.perf_counter() - begun
        assert result.coverage.successful == TASKS * REPEATS
        failed = sum(1 for _ in result.store.failures())
    faulty = trouble.spoiled / trouble.asked if trouble else 0.0
    return Run(faulty, TASKS * REPEATS + failed, failed, seconds, watch.playing_s)


def main(seeds: int, thinks_s: float, concurrency: int) -> None:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("seed  faulty   attempts  failed  seconds    playing   clean  ratio")
    ratios = []
    for seed in range(seeds):
        clean = timed(None, thinks_s, concurrency)
        run = timed(seed, thinks_s, concurrency)
        ratios.append(run.seconds / clean.seconds)
        print(
            f"{seed:4} {run.faulty:7.0%}  {run.attempts:9} {run.failed:7} {run.seconds:8.1f} "
            f"{run.playing_s / concurrency:10.1f} {clean.seconds:7.1f} {ratios[-1]:6.2f}",
            flush=True,
        )
    print(f"ratio: median {statistics.median(ratios):.2f}, minimum {min(ratios):.2f}, maximum {max(ratios):.2f}")


if __name__ == "__main__":
    arguments = [*sys.argv[1:], *["3", "1", "16"][len(sys.argv) - 1 :]]
    main(int(arguments[0]), float(arguments[1]), int(arguments[2]))
