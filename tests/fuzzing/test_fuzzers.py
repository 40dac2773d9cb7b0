"""The fuzzers, with a bounded number of inputs. `tests/fuzzing/run.py`, a part of `make long`, runs them with 500,000."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import run
from hostile import Fuzzer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Inputs of half a second or so for each fuzzer.
LIMITS = {
    fuzzer.name: max(20, min(200, int(500_000 / fuzzer.cost_us))) // (4 if fuzzer.inputs > 1 else 1) for fuzzer in run.FUZZERS
}


@pytest.mark.parametrize("fuzzer", run.FUZZERS, ids=lambda fuzzer: fuzzer.name)
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
    command = [
        sys.executable,
        str(Path(__file__).with_name("run.py")),
        "--inputs",
        "60",
        "--workers",
        "2",
        "--only",
        "event streams",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1].split() == ["all", "60", *ran.stdout.split()[-2:-1], "0"]


def test_a_finding_is_named_and_counted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_seven(number: int) -> None:
        if number % 7 == 0:
            raise KeyError(number)

    odd = Fuzzer("odd numbers", lambda random: random.randrange(70), refuse_seven, 10)
    monkeypatch.setattr(run, "FUZZERS", [odd])
    assert run.run([odd], 200, seed=0, minutes=0, workers=1) == 1
    first, _, *table = capsys.readouterr().out.splitlines()
    seed = int(first.removeprefix("odd numbers, seed ").partition(":")[0])
    assert Random(seed).randrange(70) % 7 == 0
    assert [line.split()[-3::2] for line in table[1:]] == [["200", "1"]] * 2


@pytest.mark.parametrize("fuzzer", run.FUZZERS, ids=lambda fuzzer: fuzzer.name)
def test_an_input_comes_from_its_seed_alone(fuzzer: Fuzzer) -> None:
    first = [fuzzer.make(Random(seed)) for seed in range(30)]
    assert [fuzzer.make(Random(seed)) for seed in reversed(range(30))] == first[::-1]
