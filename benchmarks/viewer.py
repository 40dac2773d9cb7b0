"""The viewer with 100,000 rollouts: its index, its answers over HTTP and, with --draw, its page in Chromium.

python benchmarks/viewer.py --rollouts 100000
python benchmarks/viewer.py --rollouts 100000 --draw /usr/bin/chromium

Results on 2 cores (AMD EPYC, Python 3.11), 100,000 rollouts of 1,000 steps in four files, 1,691 MB; at the right before lists
sorted, charts counted discarded rollouts, and metrics had a catalogue, on the same machine:

    index built              6.56 s      5.86 s
    nothing new              0.17 ms     0.14 ms
    all runs               124.21 ms   207.08 ms
    steps of a run          29.57 ms    49.30 ms
    list a step              0.26 ms     0.17 ms
    open a rollout           0.08 ms     0.08 ms
    figures of a run       588.72 ms             (once; then only what is new)
    series of a metric       7.58 ms   125.07 ms
    20 series, new filter  173.75 ms
    search for words         653 MB/s    620 MB/s

The first page requests "all runs".

Over HTTP and in Chromium, with 20,000 rollouts (335 MB), on two shared cores under other load, before that:

    the page                   p50     1.21 ms   p95     3.55 ms      621.4 KB
    all runs                   p50    53.44 ms   p95    79.70 ms        0.3 KB
    list of steps              p50    19.79 ms   p95    30.21 ms       10.2 KB
    list of steps, unchanged   p50     0.40 ms   p95     0.56 ms        0.0 KB
    one step                   p50     0.70 ms   p95     0.87 ms       27.0 KB
    one step, filtered         p50     0.69 ms   p95     0.78 ms       18.3 KB
    one group                  p50     0.53 ms   p95     0.62 ms        0.9 KB
    one rollout                p50     0.65 ms   p95     0.84 ms       16.5 KB
    metric by step             p50    40.30 ms   p95    79.12 ms       10.4 KB
    metric by step, again      p50     0.52 ms   p95     0.67 ms       10.4 KB
    histogram of a step        p50     0.97 ms   p95     1.14 ms        0.3 KB
    search: 100 hits           p50    25.90 ms   p95    51.06 ms       39.7 KB
    search: all, no hit            0.71 s

    the page, at a step        p50   867.34 ms   p95   985.41 ms
    another step               p50    81.99 ms   p95   141.72 ms
    a sample                   p50    94.75 ms   p95   170.00 ms
    charts                     p50   129.52 ms   p95   227.35 ms
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import viewer_http

from openreward_gym.viewer.answers import chart_tables, charts, lists, opening
from openreward_gym.viewer.answers.searching import search
from openreward_gym.viewer.index import RunIndex

PER_STEP = 100


def write(folder: Path, rollouts: int, size: int) -> int:
    """Write a run of `rollouts` lines of about `size` bytes in four shards; return its size in bytes."""
    words = "the agent looks at the file and counts its lines again "
    text = (words * (size // len(words) // 8 + 1))[: size // 8]
    (folder / "rollouts").mkdir(parents=True)
    files = [(folder / "rollouts" / f"{number}.jsonl").open("w") for number in range(4)]
    for number in range(rollouts):
        turns = [
            {"role": role, "blocks": [{"type": "text", "text": f"{number} {turn} {text}"}], "origin": origin}
            for turn, (role, origin) in enumerate([("user", "given"), ("assistant", "policy")] * 4)
        ]
        record = {
            "schema": "openreward-gym/rollout/1", "id": f"r{number}", "status": "completed", "step": number // PER_STEP,
            "group": f"g{number // 4}", "sample": number % 4, "reward": number % 5 / 4, "metrics": {"a": 0.5, "b": number},
            "messages": turns,
        }  # fmt: skip
        files[number % 4].write(json.dumps(record) + "\n")
    for file in files:
        file.close()
    return sum(path.stat().st_size for path in (folder / "rollouts").iterdir())


def median_ms(act: Callable[[int], object], times: int = 30) -> tuple[float, float]:
    """Return the median and maximum duration of `act(0)`, `act(1)`, ... in milliseconds."""
    durations = []
    for number in range(times):
        begun = time.perf_counter()
        act(number)
        durations.append((time.perf_counter() - begun) * 1000)
    return statistics.median(durations), max(durations)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--rollouts", type=int, default=100_000)
    arguments.add_argument("--size", type=int, default=16_000, help="bytes per rollout")
    arguments.add_argument("--draw", metavar="CHROMIUM", help="path of a Chromium, to measure the page too")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        size = write(run, options.rollouts, options.size)
        index = RunIndex([run], Path(folder) / "index.sqlite")
        begun = time.perf_counter()
        index.refresh()
        seconds = time.perf_counter() - begun
        print(f"{platform.machine()}, Python {platform.python_version()}, {options.rollouts} rollouts, {size / 1e6:.0f} MB")
        print(f"index built          {seconds:8.2f} s   {size / 1e6 / seconds:.0f} MB/s")
        last = max(1, options.rollouts // PER_STEP)
        acts: dict[str, Callable[[int], object]] = {
            "nothing new": lambda n: index.refresh(),
            "all runs": lambda n: lists.runs(index),
            "steps of a run": lambda n: lists.steps(index, "run", False, ""),
            "list a step": lambda n: lists.listing(index, "run", n * 37 % last, False, "", 0),
            "open a rollout": lambda n: opening.rollout(index, "run", f"r{n * 7919 % options.rollouts}"),
            "figures of a run": lambda n: chart_tables.Tables().table(index, "run"),
            "series of a metric": lambda n: charts.series(index, "run", "reward", ""),
            "20 series, new filter": lambda n: [charts.series(index, "run", "b", f"sample >= {-n}") for _ in range(20)],
        }
        for name, act in acts.items():
            middle, maximum = median_ms(act, 5 if name.startswith(("series", "all", "steps", "figures", "20")) else 30)
            print(f"{name:22} {middle:8.2f} ms  (maximum {maximum:.2f})")
        begun = time.perf_counter()
        hits = search(index, "nowhere to be found", regex=False, run=None, filter_="", after=0)
        rate = hits["searched"] / (time.perf_counter() - begun) * size / options.rollouts / 1e6
        print(f"search for words     {rate:8.0f} MB/s")
        index.close()
        viewer_http.measure(run, options.rollouts, PER_STEP, options.draw)


if __name__ == "__main__":
    main()
