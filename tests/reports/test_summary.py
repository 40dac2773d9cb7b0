from __future__ import annotations

import re
from typing import Any

import pytest

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
    assert "2 rollouts have no reward (finished 2)" in summary.to_text()
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


def test_the_mean_reward_counts_each_task_once() -> None:
    rewards = {0: [1.0] * 9, 1: [0.0], 2: [0.5, 0.5]}
    summary = summarize([rollout(index, reward) for index, of_task in rewards.items() for reward in of_task])
    assert summary.mean_reward == 0.5
    assert (summary.rewarded, summary.rewarded_tasks, summary.reward_interval) == (12, 3, None)
    assert "mean reward 0.500 (3 tasks: too few for an interval, which needs 5)" in summary.to_text()
    text = summarize([rollout(index, float(index % 2)) for index in range(20)]).to_text()
    assert re.search(r"^mean reward 0\.500, 95 % interval 0\.\d{3} to 0\.\d{3} \(20 tasks\)$", text, re.MULTILINE)


def test_rollouts_without_a_reward_are_counted_by_ending_and_bounded() -> None:
    missing = [
        rollout(1, None, status="truncated", stop_reason=reason) for reason in ("length", "content_filter", "content_filter")
    ]
    summary = summarize([rollout(0, 1.0), rollout(1, 0.5), *missing])
    assert summary.unrewarded == {"content_filter": 2, "length": 1}
    assert summary.mean_reward == 0.75
    assert summary.mean_bounds == ((1.0 + 0.5 / 4) / 2, (1.0 + 3.5 / 4) / 2)
    text = summary.to_text()
    assert "3 rollouts have no reward (content_filter 2, length 1)" in text
    assert "with them the mean reward is between 0.562 (if each had 0) and 0.938 (if each had 1)" in text
    alone = summarize([rollout(0, 1.0), missing[0]]).to_text()
    assert "1 rollout has no reward (length 1)" in alone


def test_bounds_of_other_rewards_are_those_observed() -> None:
    summary = summarize([rollout(0, -2.0), rollout(1, 6.0), rollout(2, float("inf"))])
    assert (summary.mean_reward, summary.possible_rewards, summary.not_finite) == (2.0, (-2.0, 6.0), 1)
    assert summary.mean_bounds == pytest.approx((2 / 3, 10 / 3))
    assert "1 reward is NaN or infinite and counted as missing" in summary.to_text()
    assert "(if each had 6, the range of the observed rewards)" in summary.to_text()
    assert summarize([rollout(0, None)]).mean_bounds is None
    assert summarize([rollout(0, 1.0)]).mean_bounds is None


def test_units_that_were_not_played_widen_the_bounds() -> None:
    # Four tasks with two units each: five rewards, one rollout without one, two units that failed.
    rollouts = [*(rollout(index, 1.0) for index in range(4)), rollout(0, 0.0), rollout(1, None)]
    summary = summarize(rollouts, unplayed=2)
    assert summary.mean_bounds == (4 / 8, 7 / 8)
    assert "2 units have no rollout (failed or missing)" in summary.to_text()


def test_units_of_unequal_tasks_have_no_bounds() -> None:
    # Two collections: five tasks with one unit, and five with eight, of which one was not played.
    rollouts = [*(rollout(index, 0.0) for index in range(5)), *(rollout(5 + number // 8, 1.0) for number in range(39))]
    summary = summarize(rollouts, unplayed=1)
    assert (summary.mean_reward, summary.mean_bounds) == (0.5, None)
    assert "1 unit has no rollout (failed or missing)\nwith them" not in summary.to_text()


def test_a_run_whose_calls_were_all_refused_says_so_with_the_words() -> None:
    def called(name: str, text: str, error: bool) -> Rollout:
        call = AssistantMessage("", [ToolCall(name, {}, "c")], origin="policy")
        return rollout(0, 0.0, messages=[call, ToolMessage(text, "c", is_error=error, origin="environment")])

    refused = [called("guess", "Field 'word'\n must have 5 letters", True), called("guess", "No such word", True)]
    summary = summarize(refused)
    assert summary.tools[0].first_error == "Field 'word' must have 5 letters"
    assert "all 2 calls were refused: Field 'word' must have 5 letters" in summary.to_text()
    several = summarize([*refused, called("look", "no", True)])
    assert several.refused_line == "all 3 calls were refused: Field 'word' must have 5 letters"
    assert several.refused_line in several.to_text()
    assert "tool look: 1 call, 1 error, - s each; the only call was refused: no" in several.to_text()
    good = summarize([*refused, called("guess", "right", False)])
    assert good.refused_line == ""
    assert "refused" not in good.to_text()


def test_a_brief_text_lists_few_tasks_only() -> None:
    few = summarize([rollout(index, 1.0) for index in range(5)])
    assert few.to_text(brief=True) == few.to_text()
    many = summarize([rollout(index, 1.0) for index in range(6)])
    assert many.to_text(brief=True).startswith("mean reward 1.000, 95 % interval")
    assert "e train 0" not in many.to_text(brief=True)


def test_tools_are_those_that_the_policy_called() -> None:
    def turns(origin: Any, tool_origin: Any, call_id: str, **fields: Any) -> list[Message]:
        asked = AssistantMessage("", [ToolCall("weigh", {}, call_id)], origin=origin)
        return [asked, ToolMessage("4 kg", call_id, origin=tool_origin, **fields)]

    history = turns("given", "given", "h1", name="weigh", is_error=True)
    messages = [*history, *turns("policy", "environment", "p1"), *turns("policy", "environment", "p2", is_error=True)]
    (tool,) = summarize([Rollout(status="completed", messages=messages)]).tools
    assert (tool.name, tool.calls, tool.errors) == ("weigh", 2, 1)
