"""Reports: charts of measurements, the self-contained page, and comparisons of runs on their common tasks."""

from __future__ import annotations

import html
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreward_gym.errors import MissingExtraError, StoreError
from openreward_gym.reports.plots import MOST_BINS, MOST_TASKS, Chart, Measures, make_charts, to_svg, write_pngs
from openreward_gym.reports.report import make_report, to_html, write_html
from openreward_gym.reports.texts import comparison_text, interval_text
from openreward_gym.store import RolloutStore
from openreward_gym.types import AssistantMessage, Rollout, RolloutEnvironment, Task, ToolCall, ToolMessage, Usage

SVG = "{http://www.w3.org/2000/svg}"


def rollout(index: int, reward: float | None, turns: int = 1, tokens: int | None = None) -> Rollout:
    return Rollout(
        status="completed",
        stop_reason="finished",
        environment=RolloutEnvironment(name="<env>", split="train"),
        task=Task(id=f"t{index}", index=index),
        messages=[AssistantMessage() for _ in range(turns)],
        reward=reward,
        usage=None if tokens is None else Usage(output_tokens=tokens),
    )


def measured(*rollouts: Rollout) -> Measures:
    measures = Measures()
    assert list(measures.tap(rollouts)) == list(rollouts)
    return measures


def run(folder: Path, *rollouts: Rollout) -> str:
    with RolloutStore(folder) as store:
        for one in rollouts:
            store.append(one)
    return str(folder)


def bars(svg: str) -> list[ElementTree.Element]:
    return [bar for bar in ElementTree.fromstring(svg).iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]


def test_charts_hold_what_was_measured() -> None:
    first = measured(rollout(0, 1.0, 2, 7), rollout(0, 0.0, 3), rollout(1, None, 2, 9))
    second = measured(rollout(1, 0.5, 2, 7))
    rewards, tasks, turns, tokens = make_charts({"first": first, "second": second})
    assert (rewards.labels, rewards.series) == (("0", "0.5", "1"), (("first", (1, 0, 1)), ("second", (0, 1, 0))))
    assert (tasks.labels, tasks.series) == (("0", "1"), (("first", (0.5, None)), ("second", (None, 0.5))))
    assert (turns.labels, turns.series) == (("2", "3"), (("first", (2, 1)), ("second", (1, 0))))
    # Unknown is not zero: a rollout without a token count is not in the chart.
    assert (tokens.labels, tokens.series) == (("7", "9"), (("first", (1, 1)), ("second", (1, 0))))


def test_what_was_not_measured_has_no_chart() -> None:
    assert [chart.name for chart in make_charts({"a": measured(rollout(0, None))})] == ["turns"]
    assert make_charts({"a": Measures()}) == []


def test_many_tasks_are_not_all_shown() -> None:
    chart = make_charts({"a": measured(*(rollout(index, 1.0) for index in range(100)))})[1]
    assert len(chart.labels) == MOST_TASKS
    assert chart.note == "the first 40 of 100 tasks"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60))
def test_a_histogram_counts_every_reward_once(rewards: list[float]) -> None:
    chart = make_charts({"a": measured(*(rollout(0, reward) for reward in rewards))})[0]
    ((_, counts),) = chart.series
    assert sum(count or 0 for count in counts) == len(rewards)
    assert len(counts) == len(chart.labels) <= MOST_BINS + 2
    assert len(bars(to_svg(chart))) == len(counts)


def test_ranges_of_whole_numbers_are_whole() -> None:
    chart = make_charts({"a": measured(*(rollout(0, None, tokens=tokens) for tokens in range(95)))})[-1]
    assert chart.labels[:2] == ("0–4", "5–9")
    assert set(chart.series[0][1]) == {5.0}


def test_bars_go_up_and_down_from_zero() -> None:
    svg = to_svg(Chart("x", "X & <Y>", "x", "y", ("a", "b", "c"), (("run", (2.0, -1.0, None)),)))
    up, down = bars(svg)
    top, height = float(up.attrib["y"]), float(up.attrib["height"])
    assert float(down.attrib["y"]) == pytest.approx(top + height)
    assert float(down.attrib["height"]) == pytest.approx(height / 2, abs=0.2)
    assert "X &amp; &lt;Y&gt;" in svg


def test_pngs(tmp_path: Path) -> None:
    charts = make_charts({"a": measured(rollout(0, 1.0, 2, 3), rollout(1, -0.5)), "b": measured(rollout(1, 0.25))})
    written = write_pngs(charts, tmp_path / "plots")
    assert [path.name for path in written] == ["rewards.png", "tasks.png", "turns.png", "tokens.png"]
    for path in written:
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(data[16:20], "big") == 1050
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        write_pngs(charts, tmp_path / "file")


def test_pngs_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"openreward-gym\[plots\]"):
        write_pngs([], tmp_path)


class Page(HTMLParser):
    """The open tags, all tags and the references of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.references += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_needs_nothing_else(tmp_path: Path) -> None:
    first = run(tmp_path / "first<script>", rollout(0, 1.0, 2, 5), rollout(1, 0.0))
    second = run(tmp_path / "second", rollout(0, 1.0), rollout(1, 1.0))
    coverage = {first: {"expected": 4, "successful": 2, "failed": 1, "omitted": 0, "missing": 1}}
    report = make_report([first, second], coverage)
    page = Page(to_html(report))
    assert page.open == []
    assert page.references == []
    assert {"svg", "table"} <= page.seen
    assert "script" not in page.seen
    text = to_html(report)
    assert "2 units have no rollout (failed or missing)" in text
    assert "too few tasks (2)" in text
    assert "4 expected = 2 successful, 1 failed, 0 omitted, 1 missing" in text
    assert "&lt;env&gt; train 0" in text
    write_html(report, tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text() == text
    with pytest.raises(StoreError, match="cannot write"):
        write_html(report, tmp_path)


def test_a_page_has_any_text_of_a_model_or_tool(tmp_path: Path) -> None:
    call = AssistantMessage("", [ToolCall("look\ud83d", {}, "c")], origin="policy")
    result = ToolMessage("half a pair: \ud83d <b>", "c", is_error=True, origin="environment")
    report = make_report([run(tmp_path / "run", Rollout(status="completed", messages=[call, result]))])
    write_html(report, tmp_path / "report.html")
    assert "half a pair: \\ud83d &lt;b&gt;" in (tmp_path / "report.html").read_text()


def test_runs_are_compared_on_the_tasks_they_share(tmp_path: Path) -> None:
    worse = run(tmp_path / "a" / "run", *(rollout(index, 0.0) for index in range(12)))
    better = run(tmp_path / "b" / "run", *(rollout(index, 1.0) for index in range(2, 14)))
    report = make_report([worse, better, worse])
    assert list(report.runs) == [worse, better]
    comparison = report.comparisons[better]
    assert (comparison.tasks, comparison.only_first, comparison.only_second, comparison.difference) == (10, 2, 2, 1.0)
    assert comparison.p_value is not None
    assert comparison.p_value < 0.01
    assert report.summary.rollouts == 24
    text = report.to_text()
    assert f"{better} against {worse}: mean reward 1.000 against 0.000 on 10 common tasks, difference +1.000" in text
    assert "2 tasks only in the first, 2 only here" in text
    data: dict[str, Any] = report.to_dict()
    assert data["rollouts"] == 24
    assert data["comparisons"][better]["tasks"] == 10
    # Folders of one name are told apart by their paths.
    assert [name for name, _ in report.charts[0].series] == [worse, better]


def test_runs_of_other_tasks_are_not_compared(tmp_path: Path) -> None:
    one, other = run(tmp_path / "one", rollout(0, 1.0)), run(tmp_path / "other", rollout(1, 1.0))
    assert "no task in common; 1 task only in the first, 1 only here" in make_report([one, other]).to_text()
    assert make_report([one]).comparisons == {}


def test_the_page_and_the_text_say_the_same(tmp_path: Path) -> None:
    runs = [run(tmp_path / name, *(rollout(index, float(index % div == 0)) for index in range(12))) for name, div in NAMES]
    report = make_report(runs)
    text, page = report.to_text(), html.unescape(to_html(report))
    for comparison in report.comparisons.values():
        assert comparison.adjusted_p_value is not None
        assert comparison_text(comparison) in text
        assert comparison_text(comparison) in page
        assert "after Holm's correction for several comparisons" in page
    for summary in report.runs.values():
        assert interval_text(summary.reward_interval) in text
        assert interval_text(summary.reward_interval) in page


NAMES = (("first", 2), ("second", 3), ("third", 12))
