"""Growth of the time that texts of models and servers take, for texts that are made to be slow.

    python benchmarks/text.py [--size 50000] [--only NAME]

Each reader gets texts of one repeated unit, such as "<tool_call>" or a quotation mark, of `size` characters and more.
The table has the slowest unit of each reader, and the ratios of its CPU times: 2 is linear, 4 is quadratic.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fuzzing"))

from text_readers import READERS, UNITS, repeated

_ENOUGH_S = 0.02
"""A text that takes less is not measured at twice the size: the ratio would be noise."""
_TOO_LONG_S = 5.0


def seconds(read: Callable[[Any], Any], text: str) -> float:
    """Return the CPU time of one call, the better of two where it is short."""
    times = []
    for _ in range(2):
        began = time.process_time()
        read(text)
        times.append(time.process_time() - began)
        if times[0] > 0.5:
            break
    return min(times)


def growth(read: Callable[[Any], Any], unit: str, size: int) -> Iterator[float]:
    """Yield the seconds for `size` characters, and for twice as many until the time is enough to compare, at most 16 times."""
    for factor in (1, 2, 4, 8, 16):
        taken = seconds(read, repeated(unit, size * factor))
        yield taken
        if (factor == 1 and taken < _ENOUGH_S / 8) or taken > _TOO_LONG_S or (factor >= 4 and taken > _ENOUGH_S):
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=50_000, help="characters of the shortest text")
    parser.add_argument("--only", default="", help="only readers with this word in their name")
    parser.add_argument("--all", action="store_true", help="print all units whose time more than triples")
    options = parser.parse_args()
    print(f"{'reader':34} {'slowest unit':28} {'seconds at doubled sizes':34} ratio")
    for name, read in READERS.items():
        if options.only not in name:
            continue
        rows = []
        for unit in UNITS:
            times = list(growth(read, unit, options.size))
            ratio = times[-1] / max(times[-2], 1e-6) if len(times) > 1 else 0.0
            rows.append((times[-1] / 2 ** (len(times) - 1), ratio, unit, times))
        shown = [max(rows)] + [row for row in rows if options.all and row[1] > 3 and row[3][-1] > _ENOUGH_S]
        for _, ratio, unit, times in shown:
            print(f"{name:34} {ascii(unit)[:28]:28} {' '.join(f'{taken:.3f}' for taken in times):34} {ratio:5.1f}", flush=True)


if __name__ == "__main__":
    main()
