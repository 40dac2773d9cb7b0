"""The store at 100,000 rollouts (1.6 GB): opening, reading one record, memory, appending.

    python benchmarks/store.py [--rollouts 100000] [--kilobytes 16]

It writes to a temporary folder and deletes it. Each figure is the median of five measurements. A separate process measures
reading, so that its peak memory does not include the writer's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from openreward_gym.store import RolloutStore
from openreward_gym.types import AssistantMessage, Message, Rollout, TextBlock, ToolCall, ToolMessage, UserMessage

REPEATS = 5


def example(number: int, kilobytes: int) -> Rollout:
    """Return a rollout of eight turns and about `kilobytes` KB."""
    text = f"{number} " + "The quick brown fox jumps over the lazy dog. " * (kilobytes * 1024 // 16 // 45)
    messages: list[Message] = [UserMessage(text, origin="given")]
    for turn in range(7):
        call = ToolCall("bash", {"command": "ls"}, f"call-{turn}", '{"command": "ls"}')
        messages.append(AssistantMessage([TextBlock(text), call], origin="policy"))
        messages.append(ToolMessage(text, f"call-{turn}", reward=0.1, origin="environment"))
    return Rollout(name=str(number), status="completed", messages=messages, reward=0.7)


def fill(path: Path, rollouts: int, kilobytes: int) -> None:
    """Write the run. Most lines are copies with new ids, because this step is not measured."""
    with RolloutStore(path, fsync="never") as store:
        for number in range(1000):
            store.append(example(number, kilobytes))
    (shard,) = (path / "rollouts").iterdir()
    lines = [(line, json.loads(line)["id"].encode()) for line in shard.read_bytes().splitlines(keepends=True)]
    shard.unlink()
    for part in range(4):
        with (path / "rollouts" / f"{part}.jsonl").open("wb") as file:
            for number in range(rollouts // 4):
                line, identity = lines[number % len(lines)]
                file.write(line.replace(identity, b"%036d" % (part * rollouts + number), 1))


def timed(action: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return times


def show(name: str, times: list[float], unit: str = "s", scale: float = 1.0) -> None:
    low, middle, high = min(times) * scale, statistics.median(times) * scale, max(times) * scale
    print(f"| {name} | {middle:.3g} {unit} | {low:.3g} - {high:.3g} |")


def peak_mib() -> float:
    """Return the peak memory of this process in MiB. The figure of getrusage would include the parent's peak."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def read(path: Path) -> None:
    """Measure reading. Called in a separate process."""
    before = peak_mib()
    show("opening: locating all lines", timed(lambda: len(RolloutStore(path))))
    store = RolloutStore(path)
    count = len(store)
    rng = random.Random(3)
    one = timed(lambda: store[rng.randrange(count)], 500)
    show("one record, at random", one, "ms", 1000)
    by_id = rng.sample(range(count // 4), min(500, count // 4))
    show("reading all ids, and one record by id", timed(lambda: RolloutStore(path).get(f"{by_id[0]:036d}"), 3))
    store.get(f"{by_id[0]:036d}")
    show("one record by id, ids known", timed(lambda: store.get(f"{rng.choice(by_id):036d}"), 500), "ms", 1000)
    show("refresh (nothing new)", timed(store.refresh, 100), "ms", 1000)
    began = time.perf_counter()
    total = sum(1 for _ in store)
    seconds = time.perf_counter() - began
    print(f"| parsing all records, in order | {seconds:.3g} s | {total / seconds:,.0f} rollouts/s |")
    print(f"| peak memory above the imports' {before:.0f} MiB | {peak_mib() - before:.0f} MiB | {peak_mib():.0f} MiB in total |")


def main() -> None:
    parser = argparse.ArgumentParser(description="The store at 100,000 rollouts.")
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--kilobytes", type=int, default=16)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        read(arguments.read)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        fill(path, arguments.rollouts, arguments.kilobytes)
        size = sum(shard.stat().st_size for shard in (path / "rollouts").iterdir())
        print(
            f"{arguments.rollouts:,} rollouts, {size / 1e9:.2f} GB, {os.cpu_count()} cores, Python {platform.python_version()}\n"
        )
        print("| operation | median | min - max |\n|---|---|---|")
        sys.stdout.flush()
        subprocess.run([sys.executable, __file__, "--read", str(path)], check=True)
        rollout = example(0, arguments.kilobytes)
        for fsync in ("never", "close", "always"):
            with RolloutStore(Path(folder) / fsync, fsync=fsync) as store:
                show(f"appending one, fsync={fsync!r}", timed(partial(store.append, rollout), 300), "ms", 1000)


if __name__ == "__main__":
    main()
