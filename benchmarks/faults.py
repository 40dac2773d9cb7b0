"""What trouble costs a run of `collect`: a fifth of all requests spoiled, in all ways of the fault matrix, beside none.

    python benchmarks/faults.py [SEEDS] [THINKS_S] [CONCURRENCY]

96 rollouts of three steps by a policy that thinks for THINKS_S seconds (1) before each, CONCURRENCY (16) at once, against the
server of tests/servers/fault_server.py on a thread of its own. Each of SEEDS (3) seeds draws other faults; a clean run and a
troubled one take turns. `under way` is the time of all attempts together, divided by the concurrency: no run of these attempts is
shorter, and what it is longer by are waits before second attempts and slots with nothing left to play, above all at the end.
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
    print("    seed   requests  attempts  failed   seconds  under way     clean  ratio")
    ratios = []
    for seed in range(seeds):
        clean = timed(None, thinks_s, concurrency)
        run = timed(seed, thinks_s, concurrency)
        ratios.append(run.seconds / clean.seconds)
        print(
            f"{seed:8} {run.spoiled:8.0%} bad {run.attempts:6} {run.failed:7} {run.seconds:8.1f}s "
            f"{run.under_way_s / concurrency:9.1f}s {clean.seconds:8.1f}s {ratios[-1]:6.2f}",
            flush=True,
        )
    print(f"ratio: median {statistics.median(ratios):.2f}, least {min(ratios):.2f}, most {max(ratios):.2f}")


if __name__ == "__main__":
    given = [*sys.argv[1:], *["3", "1", "16"][len(sys.argv) - 1 :]]
    main(int(given[0]), float(given[1]), int(given[2]))
