"""Progress of a collection: a bar on a terminal or in a notebook, lines in a log, JSON events, or nothing."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import shutil
import sys
import textwrap
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Literal, TextIO, TypeAlias, get_args

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

from openreward_gym.collect.silence import FIRST_ANSWER_S, FIRST_ERROR_S, SILENCE_S, ServerState
from openreward_gym.envs.turns import TurnKind
from openreward_gym.errors import ConfigurationError
from openreward_gym.store import Failure
from openreward_gym.terminal import has_control_codes
from openreward_gym.types import Rollout, codec
from openreward_gym.types.rollout import now_iso

LOG_EVERY_S = 10.0
SUMMARY_EVERY_S = 30.0
COLUMNS = 80
"""Longest line of numbers in a log."""
MOST_SHOWN = 5
"""Largest number of different errors of comparisons that are shown one by one."""
RECENT_STEPS = 2000
"""Number of the latest steps from which latencies are computed."""

HINTS: Mapping[TurnKind, str] = {
    "call_as_text": "the model writes tool calls as text, which are not run: its server reads no calls. Start it with its parser "
    "(vLLM: --enable-auto-tool-choice --tool-call-parser NAME, SGLang: --tool-call-parser NAME, llama.cpp: --jinja).",
    "cut_off": "the limit of tokens cuts messages of the model off, and nothing of them is used: raise it "
    "(--policy-option max_tokens=N), or choose another --on-length.",
}
"""What to do about turns of a model that reached no tool."""

ProgressStyle: TypeAlias = Literal["auto", "bar", "log", "json", "none"]
"""Form of the progress: "auto" is a bar on a terminal or in a notebook, and lines elsewhere."""


class ProgressCounts:
    """The counts and means of a collection. Unknown values do not count as zero."""

    def __init__(self) -> None:
        self.total = self.already = self.done = self.failed = self.in_flight = self.rewarded = 0
        self.reward = 0.0
        self.tokens: int | None = None
        self.cost_usd: float | None = None
        self.failures: Counter[str] = Counter()
        self.began = time.monotonic()
        self._latencies: deque[float] = deque(maxlen=RECENT_STEPS)

    def add(self, rollout: Rollout, step_seconds: list[float]) -> None:
        """Count a rollout and the durations of its steps."""
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
        """Return the step duration in seconds that `share` of the recent steps did not exceed."""
        ordered = sorted(self._latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None

    def numbers(self) -> dict[str, Any]:
        """Return all numbers as JSON."""
        seconds = time.monotonic() - self.began
        rate = self.done / seconds if seconds > 0 and self.done else None
        remaining = self.total - self.already - self.done - self.failed
        return {
            "total": self.total,
            "done": self.already + self.done,
            "failed": self.failed,
            "in_flight": self.in_flight,
            "per_second": rate,
            "eta_s": remaining / rate if rate else None,
            "mean_reward": self.reward / self.rewarded if self.rewarded else None,
            "failures": dict(self.failures),
            "step_s": {name: self.latency(share) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))},
            "output_tokens": self.tokens,
            "cost_usd": self.cost_usd,
        }

    def elapsed(self) -> str:
        """Return the time since the start, as "0:01:07"."""
        return str(timedelta(seconds=int(time.monotonic() - self.began)))

    def parts(self) -> list[str]:
        """Return the numbers in words, the most important first."""
        now = self.numbers()
        reward, rate, latencies = now["mean_reward"], now["per_second"], now["step_s"].values()
        parts = []
        if rate:
            parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.2f} s each")
        parts.append("mean reward -" if reward is None else f"mean reward {reward:.3g}")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.in_flight:
            parts.append(f"{self.in_flight} in flight")
        parts += [f"{count} {kind}" for kind, count in self.failures.most_common(3)]
        if self.tokens is not None:
            parts.append(f"{self.tokens:,} tokens")
        if self.cost_usd is not None:
            parts.append(f"${self.cost_usd:.2f}")
        if None not in latencies:
            parts.append("step " + "/".join(f"{seconds:.3g}" for seconds in latencies) + " s")
        return parts

    def __str__(self) -> str:
        return ", ".join(self.parts())


class Reporter:
    """Counts what happens, and shows nothing. Subclasses override `say`, `refresh` and `event`; the engine calls the rest."""

    def __init__(self) -> None:
        self.counts = ProgressCounts()
        self.tracebacks = False
        """True to show the traceback of the first failure of each kind."""
        self._unreported: Counter[str] = Counter()
        self._retried: set[tuple[str, str]] = set()
        self._silent: dict[str, tuple[float, float]] = {}
        self._reported_at = time.monotonic()
        self._hinted: set[TurnKind] = set()
        self._not_compared: set[str] = set()

    def started(self, total: int, already: int) -> None:
        """Note the start of a collection of `total` units, of which `already` have rollouts."""
        self.counts.total, self.counts.already, self.counts.began = total, already, time.monotonic()
        self.event("started", self.counts.numbers())
        self.refresh()

    def dispatched(self) -> None:
        """Note that an attempt starts."""
        self.counts.in_flight += 1

    def finished(self, rollout: Rollout, step_seconds: list[float]) -> None:
        """Note that a unit has its rollout."""
        self.counts.in_flight -= 1
        self.counts.add(rollout, step_seconds)
        self.event("rollout", {name: getattr(rollout, name) for name in ("group", "sample", "reward", "stop_reason")})
        self.refresh()

    def hint(self, turns: frozenset[TurnKind]) -> None:
        """Say what the user can do about turns that reached no tool; each hint comes once."""
        for kind in sorted(turns & HINTS.keys() - self._hinted):
            self._hinted.add(kind)
            self.say(HINTS[kind])

    def failed(self, failure: Failure, wait_s: float | None) -> None:
        """Note that an attempt failed. It is retried after `wait_s` seconds. None: it is not retried."""
        self.counts.in_flight -= 1
        self.counts.failed += wait_s is None
        kind = failure.kind
        self.counts.failures[kind] += 1
        self.event("failure", {**codec.write(failure), "again_in_s": wait_s})
        if self.counts.failures[kind] == 1 and (wait_s is None or (failure.source, kind) not in self._retried):
            retry = "not retried" if wait_s is None else f"retried in {wait_s:.1f} s"
            self.say(f"{failure.source} failed ({kind}, {failure.stage}): {failure.message} [{retry}]")
            if self.tracebacks:
                for line in str(failure.extra.get("traceback", "")).splitlines():
                    self.say(line)
        else:
            self._unreported[kind] += 1
        self.refresh()

    def retried(self, failure: Failure) -> None:
        """Note that a request failed and is sent again within its attempt. The first of each kind is shown."""
        self.event("retry", codec.write(failure))
        if (failure.source, failure.kind) not in self._retried:
            self._retried.add((failure.source, failure.kind))
            wait = f"sent again in {failure.retried_in_s or 0.0:.1f} s"
            self.say(f"{failure.source} failed ({failure.kind}, {failure.stage}): {failure.message} [{wait}]")

    def not_compared(self, group: str, error: str) -> None:
        """Note that a group could not be compared. The first of each error is shown, the others are counted."""
        self.event("group_failure", {"group": group, "error": error})
        if error not in self._not_compared and len(self._not_compared) < MOST_SHOWN:
            self._not_compared.add(error)
            self.say(f"group {group} could not be compared: {error}")
        else:
            self._unreported["score_group_failed"] += 1

    def servers(self, states: Iterable[ServerState]) -> None:
        """Show servers that do not answer, every 30 seconds, and when they answer again."""
        now = time.monotonic()
        for state in states:
            since, shown_at = self._silent.get(state.address, (0.0, 0.0))
            first_s = FIRST_ERROR_S if state.error else FIRST_ANSWER_S
            if state.silent_s >= (min(SILENCE_S, first_s) if state.answered_s is None else SILENCE_S):
                if not since or now - shown_at >= SUMMARY_EVERY_S:
                    self._silent[state.address] = (now - state.silent_s, now)
                    self.event("silence", {**asdict(state), "text": str(state)})
                    self.say(str(state))
            elif since:
                del self._silent[state.address]
                if state.answered_s is not None and state.answered_s < now - since:
                    seconds = now - state.answered_s - since
                    self.event("answer", {"address": state.address, "silent_s": seconds})
                    self.say(f"{state.address} answers again after {seconds:.0f} s")

    def left(self) -> None:
        """Note that an attempt was abandoned without an outcome."""
        self.counts.in_flight -= 1

    def tick(self) -> None:
        """Report new failures every 30 seconds; called every second."""
        if time.monotonic() - self._reported_at >= SUMMARY_EVERY_S:
            self._report_failures()
        self.refresh()

    def _report_failures(self) -> None:
        if self._unreported:
            counts = ", ".join(f"{kind} {count}" for kind, count in self._unreported.most_common())
            self.say(f"further failures since the last report: {counts}")
            self._unreported.clear()
            self._reported_at = time.monotonic()

    def stopped(self) -> None:
        """Note the end of the collection."""
        self._report_failures()
        self.event("stopped", self.counts.numbers())

    def say(self, text: str) -> None:
        """Show a line of text."""

    def refresh(self) -> None:
        """Show the changed numbers."""

    def event(self, name: str, data: dict[str, Any]) -> None:
        """Write an event for programs."""


class _BarAndCounts(Progress):
    """A progress bar with the numbers in a line below it, because beside it there is not enough room."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(f"  {task.fields['counts']}", no_wrap=True, overflow="ellipsis")


class BarReporter(Reporter):
    """A progress bar on a terminal (stderr) or in a notebook."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._progress = _BarAndCounts(
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
            self._bar = self._progress.add_task("", total=self.counts.total, completed=self.counts.already, counts="")
            with _terminal_may_be_gone():
                self._progress.start()
        completed = self.counts.already + self.counts.done + self.counts.failed
        with _terminal_may_be_gone():
            self._progress.update(self._bar, completed=completed, counts=str(self.counts))

    def say(self, text: str) -> None:
        with _terminal_may_be_gone():
            self._progress.console.print(text, markup=False, highlight=False)

    def stopped(self) -> None:
        super().stopped()
        # In a notebook, stop() does not show the last numbers.
        with _terminal_may_be_gone():
            self._progress.refresh()
            self._progress.stop()


class LogReporter(Reporter):
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
        counts = self.counts
        line = f"collecting rollouts: {counts.already + counts.done}/{counts.total} in {counts.elapsed()}"
        for part in counts.parts():
            if len(line) + len(part) + 2 > COLUMNS:
                break
            line += f", {part}"
        self.say(line)

    def say(self, text: str) -> None:
        stream = self._stream or sys.stderr
        text = " ".join(line.strip() for line in text.splitlines())
        if stream.isatty():
            width = max(40, shutil.get_terminal_size((COLUMNS, 24)).columns)
            text = textwrap.fill(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        _write_line(stream, text)

    def stopped(self) -> None:
        super().stopped()
        self._line()


class EventReporter(Reporter):
    """One JSON object per line on stdout: `{"event", "time", ...}`. A "progress" event comes every ten seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream
        self._last = time.monotonic()

    def event(self, name: str, data: dict[str, Any]) -> None:
        _write_line(self._stream or sys.stdout, json.dumps({"event": name, "time": now_iso(), **data}))

    def say(self, text: str) -> None:
        self.event("message", {"text": text})

    def refresh(self) -> None:
        if time.monotonic() - self._last >= LOG_EVERY_S:
            self._last = time.monotonic()
            self.event("progress", self.counts.numbers())


def _write_line(stream: TextIO, line: str) -> None:
    with _terminal_may_be_gone():
        stream.write(line + "\n")  # in one call: another thread may write to the same stream
        stream.flush()


@contextlib.contextmanager
def _terminal_may_be_gone() -> Iterator[None]:
    """Write nothing to a terminal that was closed. That must not end a collection which ignores the SIGHUP, as under `nohup`."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise


def reporter(progress: bool | ProgressStyle | Reporter) -> Reporter:
    """Return the reporter for a value of the option `progress`: True and "auto" choose one, False and "none" show nothing."""
    if isinstance(progress, Reporter):
        return progress
    if progress in (False, "none"):
        return Reporter()
    styles = get_args(ProgressStyle)
    if progress is not True and progress not in styles:
        raise ConfigurationError(f"progress must be a bool, a Reporter or one of {', '.join(styles)}, not {progress!r}")
    if progress == "json":
        return EventReporter()
    # A progress bar needs control codes, which NO_COLOR, TERM=dumb and log files do not get.
    console = Console(stderr=True, color_system="auto" if has_control_codes(sys.stderr) else None)
    # In a notebook without ipywidgets, rich shows a warning at each update instead of a bar.
    has_bar = importlib.util.find_spec("ipywidgets") is not None if console.is_jupyter else has_control_codes(sys.stderr)
    return BarReporter(console) if progress == "bar" or (has_bar and progress != "log") else LogReporter()
