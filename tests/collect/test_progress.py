"""Progress: the first failure is shown at once, later ones as sums; lines have no control codes; events are JSON."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import json
import re
import sys
import types
from typing import ClassVar

import pytest
from rich.console import Console

from openreward_gym.collect import progress
from openreward_gym.collect.progress import BarReporter, EventReporter, LogReporter, reporter
from openreward_gym.store.records import Failure
from openreward_gym.types import Rollout, Usage

FAILURE = Failure(source="environment", kind="session_lost", stage="call", message="gone\nfor good")


def report_all(report: progress.Reporter) -> None:
    report.started(4, 1)
    for reward in (1.0, None):
        report.dispatched()
        report.finished(Rollout(status="completed", reward=reward, usage=Usage(output_tokens=7)), [0.1, 0.3])
    for _ in range(3):
        report.dispatched()
        report.failed(FAILURE, 0.5)
    report.dispatched()
    report.failed(FAILURE, None)


def test_the_first_failure_at_once_then_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    report = LogReporter(stream)
    report_all(report)
    report.tick()
    (line,) = stream.getvalue().splitlines()
    assert line == "environment failed (session_lost, call): gone for good [retried in 0.5 s]"
    monkeypatch.setattr(progress, "SUMMARY_EVERY_S", 0.0)
    report.tick()
    report.tick()
    assert stream.getvalue().splitlines()[1:] == ["further failures since the last report: session_lost 3"]
    assert "\x1b" not in stream.getvalue()


def test_the_numbers_do_not_take_unknown_for_zero() -> None:
    report = progress.Reporter()
    report_all(report)
    now = report.counts.numbers()
    assert (now["total"], now["done"], now["failed"], now["in_flight"]) == (4, 3, 1, 0)
    assert (now["mean_reward"], now["output_tokens"], now["cost_usd"]) == (1.0, 14, None)
    assert now["step_s"] == {"p50": 0.3, "p90": 0.3, "p99": 0.3}
    assert progress.ProgressCounts().numbers()["mean_reward"] is None


def test_events_are_json_lines() -> None:
    stream = io.StringIO()
    report = EventReporter(stream)
    report_all(report)
    report.stopped()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events][:3] == ["started", "rollout", "rollout"]
    assert events[-1]["event"] == "stopped"
    assert [event["again_in_s"] for event in events if event["event"] == "failure"] == [0.5, 0.5, 0.5, None]


def test_a_line_of_a_log_fits_80_columns() -> None:
    stream = io.StringIO()
    report = LogReporter(stream)
    report_all(report)
    report.counts.cost_usd, report.counts.tokens = 12345.678, 10**12
    report.counts.failures.update({"a_very_long_kind_of_failure": 10**9, "another_long_kind": 10**9})
    report.stopped()
    line = stream.getvalue().splitlines()[-1]
    assert re.match(r"collecting rollouts: 3/4 in \d:\d\d:\d\d, .*mean reward 1, 1 failed", line)
    assert len(line) <= 80
    assert report.counts.parts()[-1].startswith("step ")


def test_a_slow_collection_tells_the_seconds_of_a_rollout() -> None:
    counts = progress.ProgressCounts()
    counts.done, counts.began = 2, counts.began - 10
    assert counts.parts()[0] == "5.00 s each"


def test_a_bar_never_goes_beyond_its_end() -> None:
    stream = io.StringIO()
    bar = BarReporter(Console(file=stream, force_terminal=True, width=200))
    report_all(bar)
    bar.stopped()
    assert "4/4" in stream.getvalue()
    assert "mean reward 1" in stream.getvalue()


def test_the_style_of_progress_that_fits() -> None:
    assert type(reporter(False)) is type(reporter("none")) is progress.Reporter
    assert isinstance(reporter("json"), EventReporter)
    assert isinstance(reporter("log"), LogReporter)
    mine = LogReporter()
    assert reporter(mine) is mine


class Cell:
    """A stand-in for the output widget of ipywidgets, which shows everything that is printed inside it."""

    shown: ClassVar[list[str]] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass

    def clear_output(self, wait: bool = False) -> None:
        self.shown.clear()


def in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "Console", lambda **options: Console(**options, force_jupyter=True))


def test_a_notebook_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_notebook(monkeypatch)
    ipython, widgets = types.ModuleType("IPython.display"), types.ModuleType("ipywidgets")
    ipython.display = lambda shown: Cell.shown.append(getattr(shown, "text", ""))  # type: ignore[attr-defined]
    widgets.Output = Cell  # type: ignore[attr-defined]
    widgets.__spec__ = importlib.machinery.ModuleSpec("ipywidgets", None)
    for module in (types.ModuleType("IPython"), ipython, widgets):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    bar = reporter(True)
    assert isinstance(bar, BarReporter)
    report_all(bar)
    bar.stopped()
    output = "".join(Cell.shown)
    assert "4/4" in output
    assert "mean reward 1" in output


def test_a_notebook_without_widgets_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_notebook(monkeypatch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert isinstance(reporter(True), LogReporter)
