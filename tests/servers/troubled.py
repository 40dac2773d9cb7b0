"""A run of `collect` in which a fifth of the requests fail, in all ways of the fault matrix, for a test and a benchmark."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

from fault_matrix import ROWS
from fault_server import Fault, FaultServer

from openreward_gym import collect
from openreward_gym.collect import CollectionResult, RetryBudget
from openreward_gym.collect.budgets import BUDGETS
from openreward_gym.collect.progress import Reporter
from openreward_gym.types import AssistantMessage, Message, ToolCall, ToolSet

TASKS, STEPS, SHARE = 3, 3, 0.2
# Left to the matrix: silences, which take half a minute to notice, and a server that breaks the standard by a second run.
FAULTS = [row.fault for row in ROWS if row.fault and row.fault.kind not in ("refused", "reset", "forget", "second_run", "delay")]
FAULTS = [fault for fault in FAULTS if fault.how != "stall" and fault.headers.get("X-Backend-State") is None]
ROUTES = ("/create_session", "/create", "/prompt", "/messages", "/task_tools", "/call", "/ping", "/delete", "/delete_session")


class Trouble:
    """Spoils every fifth request of a server on average. `seed` selects the requests and the faults; `report`
    observes the run.
    """

    def __init__(self, server: FaultServer, seed: int, report: Reporter) -> None:
        self.draw = random.Random(seed)
        self.tally = report.tally
        self.asked = self.spoiled = 0
        server._next_fault = self.next_fault  # type: ignore[method-assign]

    def next_fault(self, route: str) -> Fault | None:
        if route not in ROUTES:
            return None
        self.asked += 1
        if self.draw.random() >= SHARE:
            return None
        self.spoiled += 1
        # Before the first rollout, a 401 counts as the caller's mistake and ends the run.
        return self.draw.choice([fault for fault in FAULTS if fault.status != 401 or self.tally.done])


class Thinker:
    """A policy that calls `step` after `seconds`."""

    name = "thinker"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __call__(self, transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        await asyncio.sleep(self.seconds)
        return AssistantMessage(tool_calls=[ToolCall("step", {}, f"c{len(transcript)}")])


def play(
    server: FaultServer, folder: Path, report: Reporter, repeats: int, thinks_s: float = 0.0, concurrency: int = 16
) -> CollectionResult:
    """Collect `TASKS` x `repeats` rollouts of `STEPS` steps."""
    tasks = folder / "tasks.jsonl"
    tasks.write_text("".join(json.dumps({"task_spec": {"number": number}}) + "\n" for number in range(TASKS)))
    # The default budgets fit servers that are back within a minute; these faults are gone at once.
    quick = {kind: RetryBudget(50, first_wait_s=0.01, longest_wait_s=0.1) for kind in BUDGETS if not kind.startswith("policy")}
    options: dict[str, Any] = {"base_url": server.url, "input": tasks, "repeats": repeats, "max_steps": STEPS}
    options |= {"concurrency": concurrency, "output": folder / "run", "retries": quick, "progress": report}
    return collect("fault", Thinker(thinks_s), **options)
