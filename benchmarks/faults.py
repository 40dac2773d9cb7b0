"""What trouble costs a run of `collect`: a fifth of all requests spoiled, in all ways of the fault matrix, beside none.

    python benchmarks/faults.py [SEEDS] [THINKS_S] [CONCURRENCY]

96 rollouts of three steps by a policy that thinks for THINKS_S seconds (1) before each, CONCURRENCY (16) at once, against the
server of tests/servers/fault_server.py on a thread of its own. Each of SEEDS (3) seeds draws other faults; a clean run and a
troubled one take turns. `under way` is the time of all attempts together, divided by the concurrency: no run of these attempts is
shorter, and what it is longer by are waits before second attempts and slots with nothing left to play, above all at the end.

Seen on 2 cores, load 0.4, Python 3.11, with no arguments:

    seed  spoiled  attempts  failed  seconds  under way   clean  ratio
       0      20%       185      89     31.5       24.4    18.3   1.72
       1      18%       192      96     30.2       25.3    18.3   1.65
       2      19%       205     109     27.8       25.1    18.2   1.52
    ratio: median 1.65, least 1.52, most 1.72

A trace of such runs had each slot idle for 0.01 s at most while a unit waited for its next attempt: what is above `under way` is
the end of the run, where a few units fail again and again, one attempt after the other, and nothing is left for the other slots.
Which requests are spoiled depends on the order in which they come, so the figures of a seed differ from run to run.
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
    """What a run took. `under_way_s`: all attempts together."""

    spoiled: float
    attempts: int
    failed: int
    seconds: float
    under_way_s: float


class Watch(Reporter):
    """Adds up how long attempts are under way."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way_s = 0.0

    def dispatched(self) -> None:
        super().dispatched()
        self.under_way_s -= time.perf_counter()

    def finished(self, *arguments: Any) -> None:
        super().finished(*arguments)
        self.under_way_s += time.perf_counter()

    def failed(self, *arguments: Any) -> None:
        super().failed(*arguments)
        self.under_way_s += time.perf_counter()


def timed(seed: int | None, thinks_s: float, concurrency: int) -> Run:
    """One run; `seed` None spoils nothing."""
    with tempfile.TemporaryDirectory() as folder, running() as server:
        watch = Watch()
        trouble = None if seed is None else Trouble(server, seed, watch)
        begun = time.perf_counter()
        result = play(server, Path(folder), watch, REPEATS, thinks_s, concurrency)
        seconds = time.perf_counter() - begun
        assert result.coverage.successful == TASKS * REPEATS
        failed = sum(1 for _ in result.store.failures())
    spoiled = trouble.spoiled / trouble.asked if trouble else 0.0
    return Run(spoiled, TASKS * REPEATS + failed, failed, seconds, watch.under_way_s)


def main(seeds: int, thinks_s: float, concurrency: int) -> None:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("seed  spoiled  attempts  failed  seconds  under way   clean  ratio")
    ratios = []
    for seed in range(seeds):
        clean = timed(None, thinks_s, concurrency)
        run = timed(seed, thinks_s, concurrency)
        ratios.append(run.seconds / clean.seconds)
        print(
            f"{seed:4} {run.spoiled:8.0%} {run.attempts:9} {run.failed:7} {run.seconds:8.1f} "
            f"{run.under_way_s / concurrency:10.1f} {clean.seconds:7.1f} {ratios[-1]:6.2f}",
            flush=True,
        )
    print(f"ratio: median {statistics.median(ratios):.2f}, least {min(ratios):.2f}, most {max(ratios):.2f}")


if __name__ == "__main__":
    given = [*sys.argv[1:], *["3", "1", "16"][len(sys.argv) - 1 :]]
    main(int(given[0]), float(given[1]), int(given[2]))
