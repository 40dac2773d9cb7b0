"""How a collection is going: a bar on a terminal or in a notebook, lines in a log, JSON for machines, or nothing."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, Literal, TextIO, TypeAlias

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from openreward_gym.store.failure import Failure
from openreward_gym.types.rollout import Rollout, now_iso

LOG_EVERY_S = 10.0
SUMMARY_EVERY_S = 30.0
LATENCIES = 2000

Face: TypeAlias = Literal["auto", "bar", "log", "json", "none"]
"""How progress is shown; "auto" is a bar on a terminal or in a notebook, lines otherwise."""


class Tally:
    """The running numbers. Unknown is not zero: what nobody told is not counted, and shown as "-"."""

    def __init__(self) -> None:
        self.total = self.already = self.done = self.failed = self.in_flight = self.rewarded = 0
        self.reward = 0.0
        self.tokens: int | None = None
        self.cost_usd: float | None = None
        self.failures: Counter[str] = Counter()
        self.began = time.monotonic()
        self._latencies: deque[float] = deque(maxlen=LATENCIES)

    def add(self, rollout: Rollout, step_seconds: list[float]) -> None:
        self.done += 1
        self._latencies.extend(step_seconds)
        if rollout.reward is not None:
            self.rewarded += 1
            self.reward += rollout.reward
        if rollout.usage is not None and rollout.usage.output_tokens is not None:
            self.tokens = (self.tokens or 0) + rollout.usage.output_tokens
        if rollout.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + rollout.cost_usd

    def latency(self, share: float) -> float | None:
        """The step time that `share` of the last steps stayed below, in seconds."""
        ordered = sorted(self._latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None

    def numbers(self) -> dict[str, Any]:
        seconds = time.monotonic() - self.began
        rate = self.done / seconds if seconds > 0 and self.done else None
        left = self.total - self.already - self.done - self.failed
        return {
            "total": self.total,
            "done": self.already + self.done,
            "failed": self.failed,
            "in_flight": self.in_flight,
            "per_second": rate,
            "eta_s": left / rate if rate else None,
            "mean_reward": self.reward / self.rewarded if self.rewarded else None,
            "failures": dict(self.failures),
            "step_s": {name: self.latency(share) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))},
            "output_tokens": self.tokens,
            "cost_usd": self.cost_usd,
        }

    def __str__(self) -> str:
        now = self.numbers()
        parts = [f"mean reward {_shown(now['mean_reward'])}", f"{self.in_flight} in flight"]
        if now["per_second"]:
            parts.append(f"{now['per_second']:.1f}/s")
        if now["step_s"]["p50"] is not None:
            parts.append("step " + "/".join(_shown(value) for value in now["step_s"].values()) + " s")
        if self.tokens is not None:
            parts.append(f"{self.tokens:,} tokens")
        if self.cost_usd is not None:
            parts.append(f"${self.cost_usd:.2f}")
        parts += [f"{count} {kind}" for kind, count in self.failures.most_common(3)]
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)


class Reporter:
    """Keeps the numbers, and says nothing: the faces below override `say`, `refresh` and `event`."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._unsaid: Counter[str] = Counter()
        self._summed_up_at = time.monotonic()

    # What the engine tells

    def started(self, total: int, already: int) -> None:
        self.tally.total, self.tally.already, self.tally.began = total, already, time.monotonic()
        self.event("started", self.tally.numbers())
        self.refresh()

    def dispatched(self) -> None:
        self.tally.in_flight += 1

    def finished(self, rollout: Rollout, step_seconds: list[float]) -> None:
        """A unit has its rollout."""
        self.tally.in_flight -= 1
        self.tally.add(rollout, step_seconds)
        self.event(
            "rollout",
            {"group": rollout.group, "sample": rollout.sample, "reward": rollout.reward, "stop_reason": rollout.stop_reason},
        )
        self.refresh()

    def failed(self, failure: Failure, wait_s: float | None) -> None:
        """An attempt failed; it is made again after `wait_s`, None: not any more."""
        self.tally.in_flight -= 1
        self.tally.failed += wait_s is None
        kind = failure.kind
        self.tally.failures[kind] += 1
        self.event("failure", {**failure.model_dump(exclude_none=True), "again_in_s": wait_s})
        if self.tally.failures[kind] == 1:
            again = "not tried again" if wait_s is None else f"tried again in {wait_s:.1f} s"
            self.say(f"{failure.source} failed ({kind}, {failure.stage}): {failure.message} [{again}]")
        else:
            self._unsaid[kind] += 1
        self.refresh()

    def left(self) -> None:
        """A unit that was under way was left without an outcome."""
        self.tally.in_flight -= 1

    def tick(self) -> None:
        """Time passes."""
        if self._unsaid and time.monotonic() - self._summed_up_at >= SUMMARY_EVERY_S:
            counts = ", ".join(f"{kind} {count}" for kind, count in self._unsaid.most_common())
            self.say(f"more failures since the last word: {counts}")
            self._unsaid.clear()
            self._summed_up_at = time.monotonic()
        self.refresh()

    def stopped(self) -> None:
        if self._unsaid:
            self._summed_up_at = -SUMMARY_EVERY_S
            self.tick()
        self.event("stopped", self.tally.numbers())

    # What a face does with it

    def say(self, text: str) -> None:
        """A line for people."""

    def refresh(self) -> None:
        """The numbers changed."""

    def event(self, name: str, data: dict[str, Any]) -> None:
        """Something happened, for machines."""


class _BarAndTally(Progress):
    """The bar, and the numbers in a line below it: beside it they would leave no room for the counts."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(f"  {task.fields['tally']}", no_wrap=True, overflow="ellipsis")


class Bar(Reporter):
    """A progress bar on a terminal (stderr) or in a notebook."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._progress = _BarAndTally(
            TextColumn("Collecting rollouts"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._bar: Any = None

    def refresh(self) -> None:
        if self._bar is None:
            self._bar = self._progress.add_task("", total=self.tally.total, completed=self.tally.already, tally="")
            self._progress.start()
        completed = self.tally.already + self.tally.done + self.tally.failed
        self._progress.update(self._bar, completed=completed, tally=str(self.tally))

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def stopped(self) -> None:
        super().stopped()
        # In a notebook stop() shows nothing new.
        self._progress.refresh()
        self._progress.stop()


class Log(Reporter):
    """Plain lines on stderr, without control codes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream
        self._last = time.monotonic()

    def refresh(self) -> None:
        if time.monotonic() - self._last >= LOG_EVERY_S:
            self._line()

    def _line(self) -> None:
        self._last = time.monotonic()
        self.say(f"collecting rollouts: {self.tally.already + self.tally.done}/{self.tally.total}, {self.tally}")

    def say(self, text: str) -> None:
        stream = self._stream or sys.stderr
        stream.write(" ".join(text.splitlines()) + "\n")
        stream.flush()

    def stopped(self) -> None:
        super().stopped()
        self._line()


class Events(Reporter):
    """One JSON object a line on stdout: `{"event", "time", ...}`; "progress" every ten seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream
        self._last = time.monotonic()

    def event(self, name: str, data: dict[str, Any]) -> None:
        stream = self._stream or sys.stdout
        stream.write(json.dumps({"event": name, "time": now_iso(), **data}) + "\n")
        stream.flush()

    def say(self, text: str) -> None:
        self.event("message", {"text": text})

    def refresh(self) -> None:
        if time.monotonic() - self._last >= LOG_EVERY_S:
            self._last = time.monotonic()
            self.event("progress", self.tally.numbers())


def reporter(progress: bool | Face | Reporter) -> Reporter:
    """The face that fits: True and "auto" choose it, False and "none" say nothing."""
    if isinstance(progress, Reporter):
        return progress
    if progress in (False, "none"):
        return Reporter()
    if progress == "json":
        return Events()
    console = Console(stderr=True)
    if progress == "bar" or (progress != "log" and (_notebook_has_widgets() if console.is_jupyter else console.is_terminal)):
        return Bar(console)
    return Log()


def _notebook_has_widgets() -> bool:
    """Without ipywidgets rich shows no bar in a notebook, but a warning at each turn."""
    return importlib.util.find_spec("ipywidgets") is not None


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
