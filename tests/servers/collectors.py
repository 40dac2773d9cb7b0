"""Collectors as users run them: processes of their own, told by signals, killed at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
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
    """`openreward-gym collect ... --json` in a process of its own."""

    def __init__(self, folder: Path, *arguments: object, before: str = "") -> None:
        (folder / "mine.py").write_text(POLICY)
        code = f"{before}\nfrom openreward_gym.cli import main; main()"
        command = [sys.executable, "-c", code, "collect", *map(str, arguments), "--json"]
        environ = {**os.environ, "OPENREWARD_API_KEY": ""}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._watchdog = threading.Timer(60, self.process.kill)
        self._watchdog.start()

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next event of that name; a collector that says none in a minute is killed, and fails the test."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found: dict[str, Any] = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"no {event!r} came: {self.process.communicate()[1]}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """(exit code, what it said on stderr)."""
        _, said = self.process.communicate()
        self._watchdog.cancel()
        return self.process.returncode, said


def once_each(store: RolloutStore) -> int:
    """How many rollouts there are; no (task, sample) has two."""
    made = Counter((rollout.group, rollout.sample) for rollout in store)
    assert not [unit for unit, count in made.items() if count > 1]
    return len(made)


def coverage_of(run: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((run / "coverage.json").read_text())
    assert found["expected"] == found["successful"] + found["failed"] + found["omitted"] + found["missing"]
    return found
