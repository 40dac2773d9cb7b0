"""Reports of runs: the summary and charts of each, and its comparison with the first over the tasks they share."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openreward_gym.errors import StoreError
from openreward_gym.reports.plots import Chart, Measures, make_charts, to_svg
from openreward_gym.reports.statistics import Comparison, compare_with_first
from openreward_gym.reports.summary import TASK_COLUMNS, Summary, summarize
from openreward_gym.reports.texts import (
    comparison_text,
    count_text,
    counts_text,
    coverage_text,
    interval_text,
    number_text,
    pass_text,
)
from openreward_gym.store import OnDamage, RolloutStore
from openreward_gym.types import Rollout

MOST_TASKS = 200


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one or more runs; see `make_report`.

    Attributes:
        summary: The summary of all runs together.
        runs: The summary of each run, by folder.
        comparisons: The comparison of each later run with the first, by folder.
        charts: Charts in which the runs stand side by side.
        coverage: The number of units by outcome, by folder; only for runs with an inventory of their units.

    Example:
        >>> summary = Summary(rollouts=2, rewarded=2, mean_reward=0.5)
        >>> Report(summary, {"runs/first": summary}, {}, [], {}).to_dict()["mean_reward"]
        0.5
    """

    summary: Summary
    runs: dict[str, Summary]
    comparisons: dict[str, Comparison]
    charts: list[Chart]
    coverage: Mapping[str, Mapping[str, int]]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the summary, and `runs`, `comparisons` and `coverage` beside them."""
        return {
            **self.summary.to_dict(),
            "runs": {run: summary.to_dict() for run, summary in self.runs.items()},
            "comparisons": {run: asdict(comparison) for run, comparison in self.comparisons.items()},
            "coverage": {run: dict(counts) for run, counts in self.coverage.items()},
        }

    def to_text(self, *, brief: bool = False) -> str:
        """Return the report as plain text; `brief` leaves out the table of more than five tasks."""
        lines = [self.summary.to_text(brief=brief)]
        lines += [f"coverage of {run}: {coverage_text(counts)}" for run, counts in self.coverage.items()]
        if len(self.runs) > 1:
            lines.append("")
            lines += [f"{run}: {_one_line(summary)}" for run, summary in self.runs.items()]
            first = next(iter(self.runs))
            lines += [f"{run} against {first}: {comparison_text(comparison)}" for run, comparison in self.comparisons.items()]
        return "\n".join(lines)


def make_report(
    runs: Sequence[str | os.PathLike[str]],
    coverage: Mapping[str, Mapping[str, int]] | None = None,
    *,
    on_damage: OnDamage | None = None,
) -> Report:
    """Read runs and report their figures.

    Args:
        runs: The runs' folders. The first is the baseline that the others are compared with.
        coverage: The number of units by outcome ("expected", "successful", "failed", "omitted", "missing"), by folder.
        on_damage: Called with each line and file that cannot be read; the report is on the rest. None raises an error for the
            first.

    Raises:
        StoreError: A folder is not a run; or a file cannot be read.
        RecordError: A line is damaged.

    Example:
        >>> from openreward_gym import Rollout, RolloutStore, Task
        >>> for name, reward in (("first", 0.0), ("second", 1.0)):
        ...     RolloutStore(f"runs/{name}").append(Rollout(status="completed", task=Task(index=0), reward=reward))
        >>> report = make_report(["runs/first", "runs/second"])
        >>> report.comparisons["runs/second"].difference
        1.0
        >>> write_html(report, "report.html")
    """
    names = list(dict.fromkeys(os.fspath(run) for run in runs))
    unplayed = {run: counts["failed"] + counts["missing"] for run, counts in (coverage or {}).items()}
    measures: dict[str, Measures] = {}
    summaries: dict[str, Summary] = {}
    for run in names:
        measures[run] = Measures()
        summaries[run] = summarize(measures[run].tap(_rollouts(run, on_damage)), unplayed=unplayed.get(run, 0))
    total = sum(unplayed.get(run, 0) for run in names)
    summary = summaries[names[0]] if len(names) == 1 else summarize(_rollouts(names, on_damage), unplayed=total)
    comparisons = dict(zip(names[1:], compare_with_first([measures[run].by_task for run in names]), strict=True))
    charts = make_charts({_short_name(run, names): measured for run, measured in measures.items()})
    return Report(summary, summaries, comparisons, charts, coverage or {})


def _rollouts(runs: str | Sequence[str], on_damage: OnDamage | None) -> Iterable[Rollout]:
    store = RolloutStore.open(runs)
    return store if on_damage is None else store.rollouts(on_damage)


def _short_name(run: str, names: Sequence[str]) -> str:
    """Return the last part of a folder's path, or the path if another folder has the same last part."""
    name = Path(run).name or run
    return name if sum((Path(other).name or other) == name for other in names) == 1 else run


def _one_line(summary: Summary) -> str:
    text = count_text(summary.rollouts, "rollout")
    return text if summary.mean_reward is None else f"{text}, mean reward {summary.mean_line}"


_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left; white-space: nowrap } td { vertical-align: top }
.charts { display: flex; flex-wrap: wrap; gap: 1rem } svg { max-width: 100%; height: auto }
"""


def to_html(report: Report) -> str:
    """Return the report as a self-contained HTML page without scripts or network requests."""
    runs = {"all": report.summary, **report.runs} if len(report.runs) > 1 else report.runs
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{html.escape(', '.join(report.runs))}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(', '.join(report.runs))}</h1>",
        _totals(runs, report.coverage),
    ]
    if report.comparisons:
        first = html.escape(next(iter(report.runs)))
        texts = [f"{run}: {comparison_text(comparison)}" for run, comparison in report.comparisons.items()]
        parts += [f"<h2>Against {first}</h2><ul>", *(f"<li>{html.escape(text)}</li>" for text in texts), "</ul>"]
    parts += ["<h2>Charts</h2>", '<div class="charts">', *(to_svg(chart) for chart in report.charts), "</div>"]
    parts += [_passes(runs), _tools(report.summary), _tasks(report.summary), "</body></html>"]
    return "\n".join(part for part in parts if part)


def write_html(report: Report, path: str | os.PathLike[str]) -> None:
    """Write `to_html(report)` to a file; missing folders are created.

    Raises:
        StoreError: The file cannot be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(to_html(report), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise StoreError(f"cannot write {os.fspath(path)}: {error.strerror or error}") from None


def _totals(runs: Mapping[str, Summary], coverage: Mapping[str, Mapping[str, int]]) -> str:
    rows: list[tuple[str, list[str]]] = [
        ("rollouts", [f"{run.rollouts:,}" for run in runs.values()]),
        ("tasks", [f"{len(run.tasks):,}" for run in runs.values()]),
        ("coverage", [coverage_text(coverage[name]) if name in coverage else "-" for name in runs]),
        ("mean reward", [number_text(run.mean_reward) for run in runs.values()]),
        ("95 % interval", [_interval_cell(run) for run in runs.values()]),
        ("without a reward", ["; ".join(run.missing_lines) or "0" for run in runs.values()]),
        ("mean reward with them", [run.bounds_line or "-" for run in runs.values()]),
        ("mean turns", [number_text(run.mean_turns, 1) for run in runs.values()]),
        ("mean seconds", [number_text(run.mean_duration_s) for run in runs.values()]),
        ("input tokens", [_count(run.input_tokens) for run in runs.values()]),
        ("output tokens", [_count(run.output_tokens) for run in runs.values()]),
        ("mean drift in tokens", [number_text(run.mean_drift, 1) for run in runs.values()]),
        ("cost", ["-" if run.cost_usd is None else f"${run.cost_usd:.4f}" for run in runs.values()]),
        ("ended", [counts_text(run.stop_reasons) for run in runs.values()]),
    ]
    return _table(["", *runs], [[name, *cells] for name, cells in rows])


def _interval_cell(summary: Summary) -> str:
    if summary.mean_reward is None or summary.reward_interval is not None:
        return interval_text(summary.reward_interval)
    return f"too few tasks ({summary.rewarded_tasks})"


def _passes(runs: Mapping[str, Summary]) -> str:
    rows = []
    for title, name in (("pass@", "pass_at_k"), ("pass^", "pass_hat_k")):
        for k in sorted({k for run in runs.values() for k in getattr(run, name)}):
            cells = []
            for run in runs.values():
                rates, intervals = getattr(run, name), getattr(run, f"{name}_intervals")
                cells.append(pass_text(rates, intervals, run.pass_tasks, only=k) if k in rates else "-")
            rows.append([f"{title}{k}", *cells])
    return f"<h2>pass@k and pass^k</h2>{_table(['', *runs], rows)}" if rows else ""


def _tools(summary: Summary) -> str:
    rows = [
        [tool.name, f"{tool.calls:,}", f"{tool.errors:,}", number_text(tool.mean_duration_s), tool.first_error]
        for tool in summary.tools
    ]
    refused = f"<p>{html.escape(summary.refused_line)}</p>" if summary.refused_line else ""
    columns = ["tool", "calls", "errors", "seconds per call", "first error"]
    return f"<h2>Tools</h2>{refused}{_table(columns, rows)}" if rows else ""


def _tasks(summary: Summary) -> str:
    rows = [task.cells() for task in summary.tasks[:MOST_TASKS]]
    more = f"<p>{len(summary.tasks) - MOST_TASKS} more tasks</p>" if len(summary.tasks) > MOST_TASKS else ""
    return f"<h2>Tasks</h2>{_table(TASK_COLUMNS, rows)}{more}" if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<table><tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
