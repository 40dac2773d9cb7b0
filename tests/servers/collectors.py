"""Collectors as users run them: in their own processes, with signals, and killed at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openreward_gym.store.store import RolloutStore

POLICY = """
import asyncio
from openreward_gym import AssistantMessage, ToolCall

async def answer(transcript, tools):
    return AssistantMessage(tool_calls=[ToolCall("finish", {"text": "right"}, "c")])

async def slowly(transcript, tools):
    await asyncio.sleep(0.2)
    return await answer(transcript, tools)

async def never(transcript, tools):
    await asyncio.sleep(600)
"""


class Collector:
    """A process that runs `openreward-gym collect ... --json`."""

    def __init__(
        self, folder: Path, *arguments: object, before: str = "", environ: Mapping[str, str] | None = None, limit_s: float = 60.0
    ) -> None:
        (folder / "mine.py").write_text(POLICY)
        code = f"{before}\nfrom openreward_gym.cli import main; main()"
        command = [sys.executable, "-c", code, "collect", *map(str, arguments), "--json"]
        environ = {**os.environ, "OPENREWARD_API_KEY": "", **(environ or {})}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._watchdog = threading.Timer(limit_s, self.process.kill)
        self._watchdog.start()

    def wait_for(self, event: str) -> dict[str, Any]:
        """Return the next event of that name. A collector without one within a minute is killed, and the test fails."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            candidate: dict[str, Any] = json.loads(line)
            if candidate["event"] == event:
                return candidate
        raise AssertionError(f"no {event!r} came: {self.process.communicate()[1]}")

    def wait_for_words(self, words: str) -> dict[str, Any]:
        """Return the next message that has these words; see `wait_for`."""
        while words not in (event := self.wait_for("message"))["text"]:
            pass
        return event

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and the standard error."""
        _, errors = self.process.communicate()
        self._watchdog.cancel()
        return self.process.returncode, errors


def once_each(store: RolloutStore) -> int:
    """Return the number of rollouts, after checking that no (task, sample) has two."""
    made = Counter((rollout.group, rollout.sample) for rollout in store)
    assert not [unit for unit, count in made.items() if count > 1]
    return len(made)


def coverage_of(run: Path) -> dict[str, int]:
    counts: dict[str, int] = json.loads((run / "coverage.json").read_text())
    assert counts["expected"] == counts["successful"] + counts["failed"] + counts["omitted"] + counts["missing"]
    return counts
