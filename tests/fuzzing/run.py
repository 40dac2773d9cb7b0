"""Run all fuzzers for a number of inputs, and print how many there were and what failed.

    python tests/fuzzing/run.py --inputs 500000 --seed 1

Every input comes from its own seed, which a failure names:

    python tests/fuzzing/run.py --only schemas --again 8412
"""

from __future__ import annotations

import argparse
import faulthandler
import math
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from random import Random

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "servers")]

import fuzz_files  # noqa: E402
import fuzz_schemas  # noqa: E402
import fuzz_texts  # noqa: E402
import fuzz_wire  # noqa: E402
from hostile import Fuzzer  # noqa: E402

FUZZERS: list[Fuzzer] = [*fuzz_wire.FUZZERS, *fuzz_schemas.FUZZERS, *fuzz_files.FUZZERS, *fuzz_texts.FUZZERS]
SLOW_S = 5.0
"""CPU seconds that one input may take."""
HUNG_S = 120.0


def failure_of(fuzzer: Fuzzer, seed: int) -> tuple[str, ...] | None:
    """Run one input. Return the kind of its failure, or None."""
    began = time.process_time()
    faulthandler.dump_traceback_later(HUNG_S, exit=True, file=2)
    try:
        fuzzer.check(fuzzer.make(Random(seed)))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # what is looked for; a panic of a Rust library is no Exception
        last = traceback.extract_tb(error.__traceback__)[-1]
        return (
            type(error).__name__,
            f"{Path(last.filename).name}:{last.lineno}",
            str(error)[:200].encode("ascii", "replace").decode(),
        )
    finally:
        faulthandler.cancel_dump_traceback_later()
    taken = time.process_time() - began
    return ("Slow", "", f"{taken:.1f} s of CPU") if taken > SLOW_S * max(1, fuzzer.inputs // 4) else None


@dataclass
class Part:
    """The results of some inputs of one fuzzer.

    Attributes:
        name: The fuzzer.
        seeds: The seeds that were run.
        seconds: Their time.
        failures: (exception, place) with its count, first seed and words.
    """

    name: str
    seeds: range
    seconds: float = 0.0
    failures: dict[tuple[str, str], tuple[int, int, str]] = field(default_factory=dict)


def run_part(name: str, seeds: range) -> Part:
    """Run the inputs of some seeds."""
    fuzzer = next(fuzzer for fuzzer in FUZZERS if fuzzer.name == name)
    part, began = Part(name, seeds), time.monotonic()
    for seed in seeds:
        failure = failure_of(fuzzer, seed)
        if failure is not None:
            kind, place, words = failure
            count, first, words = part.failures.get((kind, place), (0, seed, words))
            part.failures[kind, place] = (count + 1, first, words)
    part.seconds = time.monotonic() - began
    return part


def parts_of(fuzzers: Sequence[Fuzzer], inputs: int, seed: int) -> list[tuple[str, range]]:
    """Divide a number of inputs among fuzzers, and cut each share into parts of a second or so, in turn from every fuzzer."""
    # With equal times, a fuzzer with cheap inputs would have nearly all of them.
    shares = {fuzzer.name: (fuzzer.inputs / fuzzer.cost_us) ** 0.5 for fuzzer in fuzzers}
    parts: list[tuple[float, str, range]] = []
    for fuzzer in fuzzers:
        seeds = range(seed, seed + math.ceil(inputs * shares[fuzzer.name] / sum(shares.values()) / fuzzer.inputs))
        size = max(1, round(1e6 / fuzzer.cost_us))
        pieces = [seeds[start : start + size] for start in range(0, len(seeds), size)]
        parts += [(number / len(pieces), fuzzer.name, piece) for number, piece in enumerate(pieces)]
    return [(name, piece) for _, name, piece in sorted(parts, key=lambda part: part[:2])]


def results_of(parts: Sequence[tuple[str, range]], workers: int, minutes: float) -> Iterator[Part]:
    """Yield the results of parts until the time is over."""
    ends = time.monotonic() + 60 * minutes if minutes else math.inf
    if workers < 2:
        for name, seeds in parts:
            if time.monotonic() > ends:
                return
            yield run_part(name, seeds)
        return
    waiting = iter(parts)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(run_part, *part): part for part in islice(waiting, 2 * workers)}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name, seeds = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    for lost, lost_seeds in [(name, seeds), *running.values()]:
                        words = f"a process ended; one of the seeds {lost_seeds.start} to {lost_seeds.stop - 1} may be the reason"
                        yield Part(lost, range(0), failures={("Ended", ""): (1, lost_seeds.start, words)})
                    return
                if time.monotonic() < ends:
                    running |= {pool.submit(run_part, *part): part for part in islice(waiting, 1)}


def run(fuzzers: Sequence[Fuzzer], inputs: int, seed: int, minutes: float, workers: int) -> int:
    """Run fuzzers until they had `inputs` inputs together, or the time is over; return the number of kinds of failure."""
    failures: Counter[tuple[str, str, str]] = Counter()
    counts: Counter[str] = Counter()
    spent: defaultdict[str, float] = defaultdict(float)
    began = time.monotonic()
    for part in results_of(parts_of(fuzzers, inputs, seed), workers, minutes):
        counts[part.name] += len(part.seeds)
        spent[part.name] += part.seconds
        for (kind, place), (count, first, words) in part.failures.items():
            if (part.name, kind, place) not in failures:
                print(f"{part.name}, seed {first}: {kind} at {place}: {words}", flush=True)
            failures[part.name, kind, place] += count
    print(f"\n{'fuzzer':32} {'inputs':>9} {'seconds':>8} {'kinds of failure':>17}")
    for fuzzer in fuzzers:
        counts[fuzzer.name] *= fuzzer.inputs
        kinds = sum(key[0] == fuzzer.name for key in failures)
        print(f"{fuzzer.name:32} {counts[fuzzer.name]:9,} {round(spent[fuzzer.name]):8} {kinds:17}")
    print(f"{'all':32} {sum(counts.values()):9,} {round(time.monotonic() - began):8} {len(failures):17}", flush=True)
    return len(failures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="number of inputs of all fuzzers together")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first input")
    parser.add_argument("--minutes", type=float, default=0, help="limit on the time; 0: none")
    parser.add_argument("--workers", type=int, default=1, help="number of processes")
    parser.add_argument("--only", help="run only the fuzzers whose name has this word")
    parser.add_argument("--again", type=int, help="run one seed and show its input and traceback")
    options = parser.parse_args()
    chosen = [fuzzer for fuzzer in FUZZERS if not options.only or options.only in fuzzer.name]
    if options.again is not None:
        for fuzzer in chosen:
            case = fuzzer.make(Random(options.again))
            try:
                print(fuzzer.name, ascii(case))
            except (ValueError, RecursionError):
                print(fuzzer.name, type(case).__name__, "with integers or nesting that Python does not show")
            fuzzer.check(case)
        return
    sys.exit(min(1, run(chosen, options.inputs, options.seed, options.minutes, options.workers)))


if __name__ == "__main__":
    main()
