"""The time of a conformance check: limits, and reports of what runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")

REPORT_EVERY_S = 1.0
"""Seconds between two reports of the progress of one check."""


@dataclass(frozen=True, slots=True)
class CheckProgress:
    """The check that runs, or that has just ended.

    Attributes:
        name: The check's name.
        number: Its number, from 1.
        total: Number of all checks.
        seconds: Seconds since it started.
        done: True if it has ended.

    Example:
        >>> CheckProgress("tasks", number=3, total=12, seconds=0.2).done
        False
    """

    name: str
    number: int
    total: int
    seconds: float = 0.0
    done: bool = False


class CheckClock:
    """The time limits of the checks, and the callback that gets their progress.

    Args:
        check_s: Seconds per check.
        total_s: Seconds for all checks. None sets no limit.
        on_progress: Called with each `CheckProgress`. None for no calls.

    Example:
        >>> clock = CheckClock(check_s=120.0, total_s=None)
        >>> clock.start(total=12)
        >>> with clock.running("server"):
        ...     pass
    """

    def __init__(self, check_s: float, total_s: float | None, on_progress: Callable[[CheckProgress], None] | None = None) -> None:
        self.check_s = check_s
        self.total_s = total_s
        self._on_progress = on_progress
        self._total = self._number = 0
        self._began = time.monotonic()

    def start(self, total: int) -> None:
        """Start the clock for `total` checks."""
        self._total, self._number, self._began = total, 0, time.monotonic()

    @property
    def is_over(self) -> bool:
        """True if the time for all checks is used up."""
        return self.total_s is not None and time.monotonic() - self._began >= self.total_s

    def seconds_left(self) -> float:
        """Return the seconds that the next check may take."""
        if self.total_s is None:
            return self.check_s
        return max(0.0, min(self.check_s, self.total_s - (time.monotonic() - self._began)))

    def limit_text(self) -> str:
        """Return the limit that was exceeded, in words."""
        if self.is_over:
            return f"the limit of {self.total_s:g} s for all checks is total_timeout_s=... (--timeout)"
        return f"the limit of {self.check_s:g} s per check is timeout_s=... (--check-timeout)"

    def run_in_time(self, function: Callable[[], T]) -> T:
        """Return the result of a function that blocks. Raise TimeoutError if it takes too long: it then goes on in a thread."""
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(function())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, name="conformance-check", daemon=True)
        thread.start()
        thread.join(self.seconds_left())
        if errors:
            raise errors[0]
        if not results:
            raise TimeoutError
        return results[0]

    @contextmanager
    def running(self, name: str) -> Iterator[RunningCheck]:
        """Report the progress of one check: its start, its seconds, its end."""
        self._number += 1
        running = RunningCheck(CheckProgress(name, self._number, self._total), self._on_progress)
        try:
            yield running
        finally:
            running.end()


class RunningCheck:
    """A check that runs. A thread reports its seconds if somebody wants to know.

    Attributes:
        seconds: Seconds that the check took, after `end`.
    """

    def __init__(self, progress: CheckProgress, on_progress: Callable[[CheckProgress], None] | None) -> None:
        self.seconds = 0.0
        self._progress = progress
        self._report = on_progress
        self._began = time.perf_counter()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if on_progress is not None:
            on_progress(progress)
            self._thread = threading.Thread(target=self._tick, name="conformance-progress", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Stop the thread and report the end."""
        self.seconds = time.perf_counter() - self._began
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._report is not None:
            self._report(replace(self._progress, seconds=self.seconds, done=True))

    def _tick(self) -> None:
        while not self._ended.wait(REPORT_EVERY_S):
            if self._report is not None:
                self._report(replace(self._progress, seconds=time.perf_counter() - self._began))
