"""What is shown: the first failure at once, then sums; lines without control codes; JSON for machines."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from providers import providing
from rich.console import Console

from openreward_gym.collect import progress
from openreward_gym.collect.progress import Bar, Events, Log, reporter
from openreward_gym.rollouts.failure import Failure
from openreward_gym.rollouts.record import Rollout, TokenUsage

FAILURE = Failure(source="environment", kind="session_lost", stage="call", message="gone\nfor good")


def told(report: progress.Reporter) -> None:
    report.started(4, 1)
    for reward in (1.0, None):
        report.dispatched()
        report.finished(Rollout(status="completed", reward=reward, usage=TokenUsage(output_tokens=7)), [0.1, 0.3])
    for _ in range(3):
        report.dispatched()
        report.failed(FAILURE, 0.5)
    report.dispatched()
    report.failed(FAILURE, None)


def test_the_first_failure_at_once_then_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    report = Log(stream)
    told(report)
    report.tick()
    (line,) = stream.getvalue().splitlines()
    assert line == "environment failed (session_lost, call): gone for good [tried again in 0.5 s]"
    monkeypatch.setattr(progress, "SUMMARY_EVERY_S", 0.0)
    report.tick()
    report.tick()
    assert stream.getvalue().splitlines()[1:] == ["more failures since the last word: session_lost 3"]
    assert "\x1b" not in stream.getvalue()


def test_the_numbers_do_not_take_unknown_for_zero() -> None:
    report = progress.Reporter()
    told(report)
    now = report.tally.numbers()
    assert (now["total"], now["done"], now["failed"], now["in_flight"]) == (4, 3, 1, 0)
    assert (now["mean_reward"], now["output_tokens"], now["cost_usd"]) == (1.0, 14, None)
    assert now["step_s"] == {"p50": 0.3, "p90": 0.3, "p99": 0.3}
    assert progress.Tally().numbers()["mean_reward"] is None


def test_events_are_json_lines() -> None:
    stream = io.StringIO()
    report = Events(stream)
    told(report)
    report.stopped()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events][:3] == ["started", "rollout", "rollout"]
    assert events[-1]["event"] == "stopped"
    assert [event["again_in_s"] for event in events if event["event"] == "failure"] == [0.5, 0.5, 0.5, None]


def test_a_bar_never_goes_beyond_its_end() -> None:
    stream = io.StringIO()
    bar = Bar(Console(file=stream, force_terminal=True, width=200))
    told(bar)
    bar.stopped()
    assert "4/4" in stream.getvalue()
    assert "mean reward 1" in stream.getvalue()


def test_the_face_that_fits() -> None:
    assert type(reporter(False)) is type(reporter("none")) is progress.Reporter
    assert isinstance(reporter("json"), Events)
    assert isinstance(reporter("log"), Log)
    mine = Log()
    assert reporter(mine) is mine


def test_the_example_runs(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "examples" / "collect_from_a_local_model.py"
    with providing() as providers:
        command = [sys.executable, str(script), "--model", "good", "--policy-url", providers.url + "/v1", "--output", "run"]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "mean reward 1.000" in ran.stdout
    assert "successful=20" in ran.stdout
