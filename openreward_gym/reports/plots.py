"""Bar charts of rewards, tasks, turns and tokens, as SVG inside a page or as PNG files (extra `plots`)."""

from __future__ import annotations

import html
import importlib
import math
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openreward_gym.errors import MissingExtraError, StoreError
from openreward_gym.reports.statistics import mean, task_key
from openreward_gym.types.rollout import Rollout

COLOURS = ("#2f6db3", "#e08a1e", "#3a9a5b", "#a64d79", "#6b6b6b", "#17a2a2")
MOST_BINS = 20
MOST_TASKS = 40
WIDTH, HEIGHT = 560, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 34, 46
_MOST_LABELS = 14
_LARGEST, _SMALLEST = 1e300, 1e-300
"""Values beyond these bounds are clipped: differences of such numbers overflow or underflow a float."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar chart; the bars of several series stand side by side.

    Attributes:
        name: The file's name, without its extension.
        title: The title.
        x: The label of the x axis.
        y: The label of the y axis.
        labels: The labels of the positions on the x axis.
        series: The (name, heights) of each run; None is a position without a bar.
        note: A remark on what is left out; empty if everything is drawn.

    Example:
        >>> Chart("tasks", "Mean reward by task", "task", "mean reward", ("0", "1"), (("run", (0.5, 1.0)),)).labels
        ('0', '1')
    """

    name: str
    title: str
    x: str
    y: str
    labels: tuple[str, ...]
    series: tuple[tuple[str, tuple[float | None, ...]], ...]
    note: str = ""


@dataclass(slots=True)
class Measures:
    """Measurements of a run's rollouts, a few bytes per rollout; `tap` collects them."""

    rewards: array[float] = field(default_factory=lambda: array("d"))
    turns: array[float] = field(default_factory=lambda: array("d"))
    tokens: array[float] = field(default_factory=lambda: array("d"))
    by_task: dict[str, list[float]] = field(default_factory=dict)
    places: dict[str, tuple[str, str, float]] = field(default_factory=dict)

    def tap(self, rollouts: Iterable[Rollout]) -> Iterator[Rollout]:
        """Yield the rollouts unchanged and record their measurements."""
        for rollout in rollouts:
            environment = rollout.environment
            task = task_key(rollout)
            if task not in self.places:
                place = math.inf if rollout.task.index is None else rollout.task.index
                self.places[task] = (environment.name, environment.split or "", place)
            self.turns.append(rollout.num_turns)
            if rollout.reward is not None and math.isfinite(rollout.reward):
                self.rewards.append(_clip(rollout.reward))
                self.by_task.setdefault(task, []).append(rollout.reward)
            if rollout.usage is not None and rollout.usage.output_tokens is not None:
                self.tokens.append(rollout.usage.output_tokens)
            yield rollout


def make_charts(runs: Mapping[str, Measures]) -> list[Chart]:
    """Return the charts of runs by name, without the empty ones."""
    charts = [
        _histogram("rewards", "Rewards", "reward", {name: run.rewards for name, run in runs.items()}),
        _tasks(runs),
        _histogram("turns", "Turns", "assistant messages per rollout", {name: run.turns for name, run in runs.items()}),
        _histogram("tokens", "Tokens", "output tokens per rollout", {name: run.tokens for name, run in runs.items()}),
    ]
    return [chart for chart in charts if chart is not None]


def _tasks(runs: Mapping[str, Measures]) -> Chart | None:
    places = {task: place for run in runs.values() for task, place in run.places.items()}
    tasks = sorted({task for run in runs.values() for task in run.by_task}, key=lambda task: (places[task], task))
    if not tasks:
        return None
    shown = tasks[:MOST_TASKS]
    several = len({places[task][:2] for task in shown}) > 1
    series = tuple(
        (name, tuple(_clip(mean(run.by_task[task])) if task in run.by_task else None for task in shown))
        for name, run in runs.items()
    )
    note = f"the first {len(shown)} of {len(tasks)} tasks" if len(shown) < len(tasks) else ""
    labels = []
    for task in shown:
        environment, split, index = places[task]
        number = task[:6] if index == math.inf else f"{index:.0f}"
        labels.append(f"{environment} {split} {number}" if several else number)
    return Chart("tasks", "Mean reward by task", "task", "mean reward", tuple(labels), series, note)


def _clip(value: float) -> float:
    return max(-_LARGEST, min(_LARGEST, value))


def _histogram(name: str, title: str, x: str, values: Mapping[str, Sequence[float]]) -> Chart | None:
    """Count the rollouts per value if there are few distinct values, else per range of values."""
    distinct = sorted({value for run in values.values() for value in run})
    if not distinct:
        return None
    if len(distinct) <= MOST_BINS // 2:
        labels = [_number(value) for value in distinct]
        position: Callable[[float], int] = distinct.index
    else:
        integers = all(value == int(value) for value in distinct)
        low, width, bins = _bins(distinct[0], distinct[-1], integers)
        labels = [_range(low + place * width, low + (place + 1) * width, integers) for place in range(bins)]

        def position(value: float) -> int:
            return min(int((value - low) / width), bins - 1)

    counts = {run: Counter(map(position, heights)) for run, heights in values.items()}
    series = tuple((run, tuple(float(count[place]) for place in range(len(labels)))) for run, count in counts.items())
    return Chart(name, title, x, "rollouts", tuple(labels), series)


def _bins(low: float, high: float, integers: bool) -> tuple[float, float, int]:
    """Return (lowest bound, width, number) of half-open ranges of equal width."""
    if integers:
        width = float(math.ceil((high - low + 1) / MOST_BINS))
        return low, width, math.ceil((high - low + 1) / width)
    width = _nice((high - low) / MOST_BINS)
    low = math.floor(low / width) * width
    return low, width, max(1, math.floor((high - low) / width) + 1)


def _nice(step: float) -> float:
    """Round up to 1, 2, 2.5 or 5 times a power of ten."""
    step = max(step, _SMALLEST)
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if power * factor >= step * (1 - 1e-9))


def _range(low: float, high: float, integers: bool) -> str:
    if not integers:
        return f"{low:.3g}–{high:.3g}"
    return _number(low) if high - low == 1 else f"{_number(low)}–{_number(high - 1)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.3g}"


def _ticks(low: float, high: float) -> list[float]:
    step = _nice((high - low) / 4)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _span(chart: Chart) -> tuple[float, float]:
    """Return the bounds of the y axis, which always includes 0."""
    heights = [0.0, *(height for _, series in chart.series for height in series if height is not None)]
    low, high = min(heights), max(heights)
    return (low, high) if high - low > 0 else (0.0, 1.0)


def _shown_labels(chart: Chart) -> set[int]:
    """Return the positions whose labels fit below the axis."""
    longest = max((len(label) for label in chart.labels), default=1)
    room = max(1, min(_MOST_LABELS, (WIDTH - _LEFT - _RIGHT) // (7 * longest + 6)))
    return set(range(0, len(chart.labels), math.ceil(len(chart.labels) / room)))


def to_svg(chart: Chart) -> str:
    """Return the chart as an `<svg>` element without scripts or references.

    Example:
        >>> to_svg(Chart("tasks", "Mean reward", "task", "mean reward", ("0", "1"), (("run", (0.5, 1.0)),)))[:4]
        '<svg'
    """
    low, high = _span(chart)
    wide, tall = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def at(value: float) -> float:
        return _TOP + tall * (high - value) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{html.escape(chart.title)}" font-family="system-ui, sans-serif" font-size="11" fill="#333">',
        f'<text x="{_LEFT}" y="16" font-size="13" font-weight="600">{html.escape(chart.title)}</text>',
        *_svg_legend(chart),
    ]
    for tick in _ticks(low, high):
        y = at(tick)
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    place_wide = wide / max(1, len(chart.labels))
    bar_wide = place_wide * 0.8 / len(chart.series)
    shown = _shown_labels(chart)
    for place, label in enumerate(chart.labels):
        left = _LEFT + place * place_wide
        for number, (name, heights) in enumerate(chart.series):
            height = heights[place]
            if height is not None:
                top, bottom = at(max(height, 0.0)), at(min(height, 0.0))
                parts.append(
                    f'<rect x="{left + place_wide * 0.1 + number * bar_wide:.1f}" y="{top:.1f}" width="{bar_wide:.1f}" '
                    f'height="{max(bottom - top, 0.5):.1f}" fill="{COLOURS[number % len(COLOURS)]}">'
                    f"<title>{html.escape(f'{name}, {label}: {_number(height)}')}</title></rect>"
                )
        if place in shown:
            x = left + place_wide / 2
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 15}" text-anchor="middle">{html.escape(label)}</text>')
    parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at(0):.1f}" y2="{at(0):.1f}" stroke="#333"/>')
    below = chart.x + (f" ({chart.note})" if chart.note else "")
    middle = _LEFT + wide / 2
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 10}" text-anchor="middle" fill="#666">{html.escape(below)}</text>')
    side = _TOP + tall / 2
    parts.append(
        f'<text x="14" y="{side:.1f}" text-anchor="middle" fill="#666" transform="rotate(-90 14 {side:.1f})">'
        f"{html.escape(chart.y)}</text>"
    )
    return "\n".join([*parts, "</svg>"])


def _svg_legend(chart: Chart) -> Iterator[str]:
    if len(chart.series) < 2:
        return
    x = float(WIDTH - _RIGHT)
    for number, (name, _) in reversed(list(enumerate(chart.series))):
        short = name if len(name) <= 24 else name[:23] + "…"
        x -= 6.2 * len(short) + 22
        yield f'<rect x="{x:.0f}" y="7" width="10" height="10" fill="{COLOURS[number % len(COLOURS)]}"/>'
        yield f'<text x="{x + 14:.0f}" y="16">{html.escape(short)}</text>'


def write_pngs(charts: Iterable[Chart], folder: str | os.PathLike[str]) -> list[Path]:
    """Draw each chart to `folder/NAME.png` and return the files.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StoreError: A file cannot be written.
    """
    try:
        figures: Any = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingExtraError(f"PNG plots need matplotlib ({error}): pip install 'openreward-gym[plots]'") from None
    written = []
    for chart in charts:
        path = Path(folder) / f"{chart.name}.png"
        figure = figures.Figure(figsize=(7, 3.5), dpi=150, layout="constrained")
        _draw(chart, figure.add_subplot())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from None
        written.append(path)
    return written


def _draw(chart: Chart, axes: Any) -> None:
    wide = 0.8 / len(chart.series)
    for number, (name, heights) in enumerate(chart.series):
        places = [place for place, height in enumerate(heights) if height is not None]
        axes.bar(
            [place - 0.4 + (number + 0.5) * wide for place in places],
            [heights[place] for place in places],
            wide,
            color=COLOURS[number % len(COLOURS)],
            label=name,
        )
    shown = sorted(_shown_labels(chart))
    axes.set_xticks(shown, [chart.labels[place] for place in shown])
    axes.set_xlim(-0.6, len(chart.labels) - 0.4)
    axes.axhline(0, color="#333", linewidth=0.8)
    axes.grid(axis="y", color="#ddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(chart.title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(chart.x + (f" ({chart.note})" if chart.note else ""))
    axes.set_ylabel(chart.y)
    if len(chart.series) > 1:
        axes.legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(chart.series))
