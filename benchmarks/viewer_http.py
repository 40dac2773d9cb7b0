"""The viewer's answers as a browser receives them: `openreward-gym view` in a separate process, over the loopback interface."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

TIMES, SECONDS, FEWEST = 200, 6.0, 5
"""A request is repeated TIMES times or for SECONDS, whichever is shorter, but at least FEWEST times."""


class Browser:
    """A client with one persistent connection, like a browser's."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=120)
        self.etag = ""
        self.sent = 0

    def get(self, path: str, *, known: str = "", **query: object) -> bytes:
        """Return the body of the answer.

        Raises:
            AssertionError: The status is not 200 (or 304 for a `known` ETag).
        """
        self._connection.request("GET", f"{path}?{urlencode(query)}", headers={"If-None-Match": known} if known else {})
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == (304 if known else 200), (answer.status, path, query, body[:200])
        self.etag, self.sent = answer.headers.get("ETag", ""), len(body)
        return body


@contextmanager
def served(run: Path) -> Iterator[str]:
    """Run `openreward-gym view` for a run with a new index; yield host and port."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "openreward_gym.cli", "view", str(run), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HOME": home}) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                address = re.search(r"http://([^/]+)/", line)
                assert address, line
                yield address[1]
            finally:
                process.terminate()


def quantiles_ms(act: Callable[[int], object]) -> tuple[float, float, int]:
    """Return p50 and p95 of `act(0)`, `act(1)`, ... in milliseconds, and the number of measurements."""
    durations: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(durations) < FEWEST or (len(durations) < TIMES and time.perf_counter() < end):
        begun = time.perf_counter()
        act(len(durations))
        durations.append((time.perf_counter() - begun) * 1000)
    durations.sort()
    count = len(durations)
    return durations[count // 2], durations[min(count - 1, int(count * 0.95))], count


def measure(run: Path, rollouts: int, per_step: int, chromium: str | None) -> None:
    """Print p50 and p95 of each request of the page and, with a Chromium, of drawing its pages."""
    with served(run) as address:
        browser = Browser(address)
        begun = time.perf_counter()
        while not _indexed(browser, rollouts):
            time.sleep(0.05)
        print(f"\nover HTTP, after {time.perf_counter() - begun:.2f} s until all rollouts are listed")
        _answers(browser, rollouts, max(1, rollouts // per_step))
        if chromium:
            from viewer_drawing import draw

            print("\nin Chromium, until the content is visible")
            draw(f"http://{address}/", chromium, max(1, rollouts // per_step))


def _indexed(browser: Browser, rollouts: int) -> bool:
    runs = json.loads(browser.get("/api/runs"))["runs"]
    return bool(runs) and runs[0]["rollouts"] == rollouts


def _answers(browser: Browser, rollouts: int, steps: int) -> None:
    def series(number: int) -> None:
        # The server caches figures: a different filter each time forces it to compute them.
        browser.get("/api/series", run="run", metric="reward", filter=f"sample >= {-1 - number}")

    def histogram(number: int) -> None:
        browser.get("/api/histogram", run="run", metric="b", step=number * 37 % steps, filter=f"sample >= {-1 - number}")

    browser.get("/api/steps", run="run")
    steps_known = browser.etag
    acts: dict[str, Callable[[int], object]] = {
        "the page": lambda n: browser.get("/"),
        "all runs": lambda n: browser.get("/api/runs"),
        "list of steps": lambda n: browser.get("/api/steps", run="run"),
        "list of steps, unchanged": lambda n: browser.get("/api/steps", run="run", known=steps_known),
        "one step": lambda n: browser.get("/api/list", run="run", step=n * 37 % steps),
        "one step, filtered": lambda n: browser.get("/api/list", run="run", step=n * 37 % steps, filter="reward > 0.3"),
        "one group": lambda n: browser.get("/api/group", run="run", group=_group(n, steps), step=n * 37 % steps),
        "one rollout": lambda n: browser.get("/api/rollout", run="run", id=f"r{n * 7919 % rollouts}"),
        "metric by step": series,
        "metric by step, again": lambda n: browser.get("/api/series", run="run", metric="reward"),
        "histogram of a step": histogram,
        "search: 100 hits": lambda n: browser.get("/api/search", query=f"lines agent {n % 8}", run="run"),
    }
    for name, act in acts.items():
        p50, p95, times = quantiles_ms(act)
        print(f"{name:26} p50 {p50:8.2f} ms   p95 {p95:8.2f} ms   {browser.sent / 1024:8.1f} KB   {times} times")
    _search_all(browser)


def _group(number: int, steps: int) -> str:
    return f"g{number * 37 % steps * 25}"  # groups of four, a hundred rollouts a step


def _search_all(browser: Browser) -> None:
    after, answers, searched, begun = 0, 0, 0, time.perf_counter()
    while True:
        page = json.loads(browser.get("/api/search", query="nowhere to be found", run="run", after=after))
        answers, searched = answers + 1, searched + page["searched"]
        if page["next"] is None:
            break
        after = page["next"]
    seconds = time.perf_counter() - begun
    print(f"search: all, no hit        {seconds:8.2f} s of {searched} rollouts, in {answers} answers")
