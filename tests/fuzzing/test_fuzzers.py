"""The fuzzers, with a bounded number of inputs. `tests/fuzzing/run.py`, a part of `make long`, runs them with 500,000."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hostile import Fuzzer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run import FUZZERS

# Inputs of two seconds or so for each fuzzer.
LIMITS = {
    fuzzer.name: max(20, min(300, int(1_000_000 / fuzzer.cost_us))) // (4 if fuzzer.inputs > 1 else 1) for fuzzer in FUZZERS
}


@pytest.mark.parametrize("fuzzer", FUZZERS, ids=lambda fuzzer: fuzzer.name)
@pytest.mark.filterwarnings("ignore")
def test_no_input_raises_an_exception_without_a_name(fuzzer: Fuzzer) -> None:
    @settings(
        max_examples=LIMITS[fuzzer.name], derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.integers(0, 2**32 - 1))
    def check(seed: int) -> None:
        fuzzer.check(fuzzer.make(Random(seed)))

    check()


def test_the_long_run_prints_its_counts() -> None:
    command = [sys.executable, str(Path(__file__).with_name("run.py")), "--inputs", "60", "--only", "event streams"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1].split() == ["all", "60", *ran.stdout.split()[-2:-1], "0"]
