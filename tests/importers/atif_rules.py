"""The rules of ATIF 1.8's models, written by hand: tests are not to need Harbor."""

from __future__ import annotations

from datetime import datetime
from typing import Any

KEYS = {
    "trajectory": "schema_version session_id trajectory_id agent steps notes final_metrics continued_trajectory_ref extra "
    "subagent_trajectories",
    "agent": "name version model_name tool_definitions extra",
    "step": "step_id timestamp source model_name reasoning_effort message reasoning_content tool_calls observation metrics "
    "is_copied_context llm_call_count extra",
    "call": "tool_call_id function_name arguments extra",
    "result": "source_call_id content subagent_trajectory_ref extra",
    "metrics": "prompt_tokens completion_tokens cached_tokens cost_usd prompt_token_ids completion_token_ids logprobs extra",
    "final": "total_prompt_tokens total_completion_tokens total_cached_tokens total_cost_usd total_steps extra",
}
AGENT_ONLY = ("model_name", "reasoning_effort", "reasoning_content", "tool_calls", "metrics")
MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")


def known(kind: str, data: Any) -> None:
    assert isinstance(data, dict), (kind, data)
    assert data.keys() <= set(KEYS[kind].split()), (kind, data.keys())
    assert isinstance(data.get("extra", {}), dict), (kind, data["extra"])


def check_content(content: Any) -> None:
    if isinstance(content, str):
        return
    for part in content:
        if part["type"] == "text":
            assert part.keys() == {"type", "text"}
            assert isinstance(part["text"], str)
        else:
            assert part.keys() == {"type", "source"}
            assert part["source"].keys() == {"media_type", "path"}
            assert part["source"]["media_type"] in MEDIA_TYPES


def check_numbers(data: dict[str, Any]) -> None:
    for name, value in data.items():
        if name.endswith("_tokens") or name == "total_steps":
            assert isinstance(value, int), (name, value)
        elif name.endswith("_ids"):
            assert all(isinstance(item, int) for item in value), (name, value)
        elif name == "logprobs":
            assert all(isinstance(item, (int, float)) for item in value), (name, value)
        elif name.endswith("cost_usd"):
            assert isinstance(value, (int, float)), (name, value)


def check_step(step: dict[str, Any], number: int) -> None:
    known("step", step)
    assert step["step_id"] == number
    assert step["source"] in ("system", "user", "agent")
    check_content(step["message"])
    if "timestamp" in step:
        datetime.fromisoformat(step["timestamp"].replace("Z", "+00:00"))
    if step["source"] != "agent":
        assert not [name for name in AGENT_ONLY if step.get(name) is not None]
    if step.get("llm_call_count") == 0:
        assert "metrics" not in step
        assert "reasoning_content" not in step
    ids = []
    for call in step.get("tool_calls", ()):
        known("call", call)
        assert isinstance(call["arguments"], dict)
        assert isinstance(call["function_name"], str)
        ids.append(call["tool_call_id"])
    assert all(isinstance(name, str) and name for name in ids)
    assert len(set(ids)) == len(ids)
    for result in step.get("observation", {"results": ()})["results"]:
        known("result", result)
        assert result.get("source_call_id") in (None, *ids)
        check_content(result.get("content") or "")
    if "metrics" in step:
        known("metrics", step["metrics"])
        check_numbers(step["metrics"])


def check_trajectory(data: dict[str, Any]) -> None:
    """Assert that a trajectory is valid."""
    known("trajectory", data)
    assert data["schema_version"] == "ATIF-v1.8"
    known("agent", data["agent"])
    assert isinstance(data["agent"]["name"], str)
    assert isinstance(data["agent"]["version"], str)
    assert data["steps"]
    for number, step in enumerate(data["steps"], 1):
        check_step(step, number)
    known("final", data["final_metrics"])
    check_numbers(data["final_metrics"])
    assert data["final_metrics"]["total_steps"] == len(data["steps"])
