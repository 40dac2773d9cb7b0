from __future__ import annotations

from typing import Any

import pytest

from openreward_gym.reports.intervals import wilson_interval
from openreward_gym.reports.statistics import reward_interval
from openreward_gym.reports.summary import summarize
from openreward_gym.types import AssistantMessage, Message, Rollout, RolloutEnvironment, Task, ToolCall, ToolMessage, Usage


def rollout(index: int, reward: float | None, **fields: Any) -> Rollout:
    defaults: dict[str, Any] = {
        "status": "completed",
        "stop_reason": "finished",
        "environment": RolloutEnvironment(name="e", split="train"),
        "task": Task(id=f"t{index}", index=index),
        "messages": [AssistantMessage()],
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-01T00:00:02+00:00",
    }
    return Rollout(**{**defaults, "reward": reward, **fields})


def test_unknown_is_not_zero() -> None:
    summary = summarize([rollout(0, 1.0), rollout(0, None), rollout(1, float("nan"))])
    assert (summary.rollouts, summary.rewarded, summary.mean_reward) == (3, 1, 1.0)
    assert summary.output_tokens is None
    assert summary.cost_usd is None
    assert "2 rollouts have no reward" in summary.to_text()
    assert summary.tasks[1].mean_reward is None


def test_totals_and_endings() -> None:
    usage = Usage(input_tokens=3, output_tokens=4)
    summary = summarize([rollout(0, 1.0, usage=usage), rollout(1, 0.0, status="truncated", stop_reason="max_steps")])
    assert (summary.input_tokens, summary.output_tokens) == (3, 4)
    assert summary.stop_reasons == {"finished": 1, "max_steps": 1}
    assert summary.mean_duration_s == 2.0
    assert [task.index for task in summary.tasks] == [0, 1]
    assert summary.to_dict()["mean_reward"] == 0.5


def test_nothing_at_all() -> None:
    summary = summarize([])
    assert summary.mean_reward is None
    assert "all" in summary.to_text()


def test_wilson_against_a_published_value() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20)[0] == 0.0
    assert wilson_interval(20, 20)[1] == 1.0


def test_the_bootstrap_holds_the_mean_and_repeats() -> None:
    rewards = [[0.1, 0.9], [0.5], [0.3, 0.2], [0.8]]
    low, high = reward_interval(rewards) or (0.0, 0.0)
    assert 0.1 <= low < sum(map(sum, rewards)) / 6 < high <= 0.9
    assert reward_interval(rewards) == (low, high)
    assert reward_interval([[0.5]]) is None


def test_tools_are_those_that_the_policy_called() -> None:
    def turns(origin: Any, tool_origin: Any, call_id: str, **fields: Any) -> list[Message]:
        asked = AssistantMessage("", [ToolCall("weigh", {}, call_id)], origin=origin)
        return [asked, ToolMessage("4 kg", call_id, origin=tool_origin, **fields)]

    history = turns("given", "given", "h1", name="weigh", is_error=True)
    messages = [*history, *turns("policy", "environment", "p1"), *turns("policy", "environment", "p2", is_error=True)]
    (tool,) = summarize([Rollout(status="completed", messages=messages)]).tools
    assert (tool.name, tool.calls, tool.errors) == ("weigh", 2, 1)
