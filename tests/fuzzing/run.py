"""Run all fuzzers for a number of inputs, and print how many there were and what failed.

    python tests/fuzzing/run.py --inputs 500000 --seed 1

Every input comes from its own seed, which a failure names:

    python tests/fuzzing/run.py --only schemas --again 8412
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
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
    faulthandler.dump_traceback_later(HUNG_S, exit=True)
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


def run(fuzzers: Sequence[Fuzzer], inputs: int, seed: int, minutes: float) -> int:
    """Run fuzzers, each for about the same time, until they had `inputs` inputs or the time is over; return the failures."""
    shares = {fuzzer.name: fuzzer.inputs / fuzzer.cost_us for fuzzer in fuzzers}
    # A fuzzer with cheap inputs would otherwise have nearly all of them.
    wanted = {name: share**0.5 for name, share in shares.items()}
    failures: Counter[tuple[str, ...]] = Counter()
    examples: dict[tuple[str, ...], int] = {}
    counts: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    began = time.monotonic()
    for fuzzer in fuzzers:
        share = wanted[fuzzer.name] / sum(wanted.values())
        ends = began + 60 * minutes * (1 + list(fuzzers).index(fuzzer)) / len(fuzzers) if minutes else float("inf")
        started, number = time.monotonic(), seed
        while counts[fuzzer.name] < inputs * share and time.monotonic() < ends:
            failure = failure_of(fuzzer, number)
            if failure is not None:
                key = (fuzzer.name, *failure[:2])
                failures[key] += 1
                if examples.setdefault(key, number) == number:
                    print(f"{fuzzer.name}, seed {number}: {failure[0]} at {failure[1]}: {failure[2]}", flush=True)
            counts[fuzzer.name] += fuzzer.inputs
            number += 1
        spent[fuzzer.name] = round(time.monotonic() - started)
    print(f"\n{'fuzzer':32} {'inputs':>9} {'seconds':>8} {'kinds of failure':>17}")
    for fuzzer in fuzzers:
        kinds = sum(key[0] == fuzzer.name for key in failures)
        print(f"{fuzzer.name:32} {counts[fuzzer.name]:9,} {spent[fuzzer.name]:8} {kinds:17}")
    print(f"{'all':32} {sum(counts.values()):9,} {round(time.monotonic() - began):8} {len(failures):17}", flush=True)
    return len(failures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="number of inputs of all fuzzers together")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first input")
    parser.add_argument("--minutes", type=float, default=0, help="limit on the time, divided among the fuzzers; 0: none")
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
    sys.exit(min(1, run(chosen, options.inputs, options.seed, options.minutes)))


if __name__ == "__main__":
    main()
