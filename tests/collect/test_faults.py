"""A run whose requests fail in all ways of the fault matrix: same coverage, no reward invented, nothing left behind."""

from __future__ import annotations

import json
import random
from pathlib import Path

from collectors import once_each
from fault_matrix import ROWS
from fault_server import FaultServer, running

from openreward_gym import collect
from openreward_gym.collect import RetryBudget
from openreward_gym.types import AssistantMessage, Message, ToolCall, ToolSet

TASKS, STEPS, SHARE = 3, 3, 0.2
# Silences are told by clocks of half a minute: the matrix has them, one by one.
FAULTS = [row.fault for row in ROWS if row.fault and row.fault.kind not in ("refused", "reset", "forget", "second_run", "delay")]
FAULTS = [fault for fault in FAULTS if fault.how != "stall" and fault.headers.get("X-Backend-State") is None]
ROUTES = ("/call", "/call", "/call", "/prompt", "/task_tools", "/create", "/create_session")


class Troublemaker:
    """Calls `step`; before every call a fifth of the requests to come get a fault, any of them."""

    name = "troublemaker"

    def __init__(self, server: FaultServer) -> None:
        self.server = server
        self.draw = random.Random(7)
        self.injected = 0

    async def __call__(self, transcript: tuple[Message, ...], tools: ToolSet) -> AssistantMessage:
        if self.draw.random() < SHARE * 2:
            fault = self.draw.choice(FAULTS)
            assert fault is not None
            self.server.inject(self.draw.choice(ROUTES), fault)
            self.injected += 1
        return AssistantMessage(tool_calls=[ToolCall("step", {}, f"c{len(transcript)}")])


def test_a_run_through_all_faults(tmp_path: Path) -> None:
    quick = {
        kind: RetryBudget(50, first_wait_s=0.01, longest_wait_s=0.1)
        for kind in ("connection", "unreachable", "timeout", "session_lost", "outcome_unknown", "protocol_error")
    }
    quick |= {kind: RetryBudget(50, first_wait_s=0.01, longest_wait_s=0.1) for kind in ("server_error", "tool_failed", "refused")}
    quick |= {"rate_limited": RetryBudget(50, first_wait_s=0.01), "task_not_found": RetryBudget(50, first_wait_s=0.01)}
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(json.dumps({"task_spec": {"number": number}}) + "\n" for number in range(TASKS)))
    with running() as server:
        policy = Troublemaker(server)
        result = collect(
            "fault",
            policy,
            base_url=server.url,
            input=tasks,
            repeats=20,
            max_steps=STEPS,
            concurrency=8,
            retries=quick,
            output=tmp_path / "run",
            progress=False,
        )
        assert policy.injected > 20
        failures = list(result.store.failures())
        assert failures
        assert result.coverage.successful == result.coverage.expected == TASKS * 20 == once_each(result.store)
        for rollout in result.store:
            # Every reward is the server's: as many as there were steps, each what a clean step gives.
            assert rollout.status == "truncated"
            assert rollout.stop_reason == "max_steps"
            assert [turn.role for turn in rollout.turns] == ["assistant"] * STEPS
            assert len([message for message in rollout.messages if message.role == "tool"]) == STEPS
        for failure in failures:
            assert failure.source == "environment"
            assert failure.kind in quick
            assert failure.stage in ("open", "call")
            assert failure.exception
