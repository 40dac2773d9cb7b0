"""A run of whose requests a fifth fail, in all ways of the fault matrix: same coverage, no reward invented, <= twice the time."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from collectors import once_each
from fault_matrix import ROWS
from fault_server import Fault, FaultServer, running

from openreward_gym import collect
from openreward_gym.collect import CollectionResult, RetryBudget
from openreward_gym.collect.budgets import BUDGETS
from openreward_gym.collect.progress import Reporter
from openreward_gym.types import AssistantMessage, Message, ToolCall, ToolSet

TASKS, STEPS, SHARE = 3, 3, 0.2
# Silences are told by clocks of half a minute, and a server that runs a tool twice breaks the standard: the matrix has them.
FAULTS = [row.fault for row in ROWS if row.fault and row.fault.kind not in ("refused", "reset", "forget", "second_run", "delay")]
FAULTS = [fault for fault in FAULTS if fault.how != "stall" and fault.headers.get("X-Backend-State") is None]
ROUTES = ("/create_session", "/create", "/prompt", "/messages", "/task_tools", "/call", "/ping", "/delete", "/delete_session")


class Troubled(Reporter):
    """Spoils every fifth request of a server, on average."""

    def __init__(self, server: FaultServer) -> None:
        super().__init__()
        self.draw = random.Random(7)
        self.asked = self.spoiled = 0
        server._next_fault = self.next_fault  # type: ignore[method-assign]

    def next_fault(self, route: str) -> Fault | None:
        if route not in ROUTES:
            return None
        self.asked += 1
        if self.draw.random() >= SHARE:
            return None
        self.spoiled += 1
        # Before anything was played a 401 is the caller's own mistake, and ends the run.
        return self.draw.choice([fault for fault in FAULTS if fault.status != 401 or self.tally.done])


class Thinker:
    """Calls `step` after `seconds` of thought."""

    name = "thinker"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __call__(self, transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        await asyncio.sleep(self.seconds)
        return AssistantMessage(tool_calls=[ToolCall("step", {}, f"c{len(transcript)}")])


def play(server: FaultServer, folder: Path, report: Reporter, thinks_s: float, repeats: int) -> tuple[CollectionResult, float]:
    tasks = folder / "tasks.jsonl"
    tasks.write_text("".join(json.dumps({"task_spec": {"number": number}}) + "\n" for number in range(TASKS)))
    # The default budgets are for servers that come back in a minute; these faults are gone at once.
    quick = {kind: RetryBudget(50, first_wait_s=0.01, longest_wait_s=0.1) for kind in BUDGETS if not kind.startswith("policy")}
    given: dict[str, Any] = {"base_url": server.url, "input": tasks, "repeats": repeats, "max_steps": STEPS, "concurrency": 16}
    begun = time.monotonic()
    result = collect("fault", Thinker(thinks_s), retries=quick, output=folder / "run", progress=report, **given)
    return result, time.monotonic() - begun


def rewards(result: CollectionResult) -> list[list[float | None]]:
    """What each rollout's tool results gave."""
    return sorted([message.reward for message in rollout.messages if message.role == "tool"] for rollout in result.store)


def run_through_all_faults(folder: Path, thinks_s: float, repeats: int) -> tuple[float, float]:
    """Seconds without faults and with them; all but the time is checked."""
    for name in ("clean", "troubled"):
        (folder / name).mkdir()
    with running() as server:
        clean, clean_s = play(server, folder / "clean", Reporter(), thinks_s, repeats)
    with running() as server:
        trouble = Troubled(server)
        result, seconds = play(server, folder / "troubled", trouble, thinks_s, repeats)
    failures = list(result.store.failures())
    print(
        f"{trouble.spoiled} of {trouble.asked} requests and {len(failures)} of {len(failures) + len(result.store)} attempts "
        f"failed: {seconds:.1f} s, {clean_s:.1f} s without"
    )
    assert 0.15 < trouble.spoiled / trouble.asked < 0.25
    assert result.coverage == clean.coverage
    assert result.coverage.successful == result.coverage.expected == TASKS * repeats == once_each(result.store)
    # Every reward is the server's: as many as there were steps, each what a clean step gives.
    assert rewards(result) == rewards(clean)
    for rollout in result.store:
        assert (rollout.status, rollout.stop_reason) == ("truncated", "max_steps")
        assert [turn.role for turn in rollout.turns] == ["assistant"] * STEPS
    assert failures
    for failure in failures:
        assert failure.source == "environment"
        assert failure.stage in ("open", "call")
        assert failure.exception
    return clean_s, seconds


def test_a_run_through_all_faults(tmp_path: Path) -> None:
    run_through_all_faults(tmp_path, thinks_s=0.0, repeats=16)


@pytest.mark.matrix
def test_faults_cost_at_most_as_much_time_again(tmp_path: Path) -> None:
    # A policy that thinks for a second, as models do: the waits before a second attempt are 0.25 s and more.
    clean_s, seconds = run_through_all_faults(tmp_path, thinks_s=1.0, repeats=32)
    assert seconds <= 2 * clean_s
