"""The viewer at size: its index, its server's answers over HTTP, and with --draw its page in a Chromium.

python benchmarks/viewer.py --rollouts 100000
python benchmarks/viewer.py --rollouts 100000 --draw /usr/bin/chromium

Seen on two shared cores (x86-64, Python 3.11), 100,000 rollouts of 1,000 steps in four files, 1,675 MB:

    index built             5.37 s   312 MB/s
    nothing new             0.14 ms  (longest 0.36)
    all runs              203.12 ms  (longest 240.27)
    steps of a run         62.40 ms  (longest 62.99)
    list a step             0.19 ms  (longest 0.43)
    open a rollout          0.11 ms  (longest 0.96)
    series of a metric    158.65 ms  (longest 165.79)
    search for words         564 MB/s

"all runs" is what the first page asks for.
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

from openreward_gym.viewer import queries
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.search import search

PER_STEP = 100


def write(folder: Path, rollouts: int, size: int) -> int:
    """A run of `rollouts` lines of about `size` bytes in four shards; gives its bytes."""
    words = "the agent looks at the file and counts its lines again "
    text = (words * (size // len(words) // 8 + 1))[: size // 8]
    (folder / "rollouts").mkdir(parents=True)
    files = [(folder / "rollouts" / f"{number}.jsonl").open("w") for number in range(4)]
    for number in range(rollouts):
        turns = [
            {"role": "user" if turn % 2 == 0 else "assistant", "blocks": [{"type": "text", "text": f"{number} {turn} {text}"}]}
            for turn in range(8)
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
    """(median, longest) milliseconds of `act(0)`, `act(1)`, ..."""
    found = []
    for number in range(times):
        begun = time.perf_counter()
        act(number)
        found.append((time.perf_counter() - begun) * 1000)
    return statistics.median(found), max(found)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--rollouts", type=int, default=100_000)
    arguments.add_argument("--size", type=int, default=16_000, help="bytes a rollout")
    arguments.add_argument("--draw", metavar="CHROMIUM", help="a Chromium, in which the page is drawn too")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        size = write(run, given.rollouts, given.size)
        index = RunIndex([run], Path(folder) / "index.sqlite")
        begun = time.perf_counter()
        index.refresh()
        seconds = time.perf_counter() - begun
        print(f"{platform.machine()}, Python {platform.python_version()}, {given.rollouts} rollouts, {size / 1e6:.0f} MB")
        print(f"index built          {seconds:8.2f} s   {size / 1e6 / seconds:.0f} MB/s")
        last = max(1, given.rollouts // PER_STEP)
        acts: dict[str, Callable[[int], object]] = {
            "nothing new": lambda n: index.refresh(),
            "all runs": lambda n: queries.runs(index),
            "steps of a run": lambda n: queries.steps(index, "run", False, ""),
            "list a step": lambda n: queries.listing(index, "run", n * 37 % last, False, "", 0),
            "open a rollout": lambda n: queries.rollout(index, "run", f"r{n * 7919 % given.rollouts}"),
            "series of a metric": lambda n: queries.series(index, "run", "reward", ""),
        }
        for name, act in acts.items():
            middle, longest = median_ms(act, 5 if name.startswith(("series", "all", "steps")) else 30)
            print(f"{name:20} {middle:8.2f} ms  (longest {longest:.2f})")
        begun = time.perf_counter()
        found = search(index, "nowhere to be found", regex=False, run=None, filter_="", after=0)
        rate = found["searched"] / (time.perf_counter() - begun) * size / given.rollouts / 1e6
        print(f"search for words     {rate:8.0f} MB/s")
        index.close()
        viewer_http.measure(run, given.rollouts, PER_STEP, given.draw)


if __name__ == "__main__":
    main()
