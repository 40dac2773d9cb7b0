"""Events of OpenHands, of its evaluations and of its SDK."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from mutations import MUTATIONS, check, mutated

from openreward_gym.importers import read
from openreward_gym.store import Damage
from openreward_gym.types import ImageBlock, OpaqueBlock, Rollout, ToolSpec, Usage


def imported(data: Any, folder: Path, name: str = "events.json") -> Rollout:
    (folder / name).write_text(data if isinstance(data, str) else json.dumps(data))
    (item,) = read("openhands", folder / name)
    assert isinstance(item, Rollout), item
    return item


def origins(rollout: Rollout) -> list[tuple[str, str | None]]:
    return [(message.role, message.origin) for message in rollout.messages]


def call(name: str, arguments: str, call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def answer(response_id: str, text: str | None, *calls: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "tool_calls": list(calls), "reasoning_content": "Think."}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    return {"id": response_id, "model": "wren-3", "choices": [choice], "usage": {"prompt_tokens": 50, "completion_tokens": 7}}


def event(number: int, source: str, **fields: Any) -> dict[str, Any]:
    return {"id": number, "timestamp": f"2026-01-01T00:00:{number:02}", "source": source, "message": "", **fields}


def of_call(response: dict[str, Any], name: str, call_id: str) -> dict[str, Any]:
    return {
        "tool_call_metadata": {
            "function_name": name,
            "tool_call_id": call_id,
            "model_response": response,
            "total_calls_in_response": 2,
        }
    }


TOOL = {"type": "function", "function": {"name": "bash", "description": "Run.", "parameters": {"type": "object"}}}
BOTH = answer("g1", "Two at once.", call("bash", '{"command":  "ls"}', "c1"), call("bash", '{"command": "pwd"}', "c2"))
END = answer("g2", None, call("finish", '{"message": "ok"}', "c3"))
EVENTS: list[dict[str, Any]] = [
    event(0, "agent", action="system", args={"content": "You are an agent.", "tools": [TOOL], "openhands_version": "0.50"}),
    event(
        1,
        "user",
        action="message",
        args={"content": "Look.", "image_urls": ["data:image/gif;base64,R0lGODlh", "https://e.example/a.png"]},
    ),
    event(2, "user", action="recall", args={"query": "Look."}),
    event(3, "environment", observation="recall", content="Added", extras={}),
    event(4, "agent", action="run", args={"command": "ls", "thought": "Two at once."}, **of_call(BOTH, "bash", "c1")),
    event(
        5,
        "agent",
        observation="run",
        content="a.py",
        extras={"exit_code": 0},
        cause=4,
        success=True,
        **of_call(BOTH, "bash", "c1"),
    ),
    event(6, "agent", action="run", args={"command": "pwd", "thought": ""}, **of_call(BOTH, "bash", "c2")),
    event(7, "agent", observation="error", content="no shell", extras={}, cause=6, **of_call(BOTH, "bash", "c2")),
    event(8, "user", action="message", args={"content": "Go on.", "image_urls": None}),
    event(9, "agent", action="finish", args={"outputs": {}, "thought": ""}, **of_call(END, "finish", "c3")),
]
USAGE = {"model": "wren-3", "prompt_tokens": 100, "completion_tokens": 14, "cache_read_tokens": 20}
ROW: dict[str, Any] = {
    "instance_id": "pump__1",
    "instance": {"repo": "a/pump"},
    "history": EVENTS,
    "metadata": {
        "dataset": "pumps",
        "data_split": "test",
        "llm_config": {"model": "openai/wren", "temperature": 0.5, "seed": None},
    },
    "metrics": {"accumulated_cost": 0.75, "accumulated_token_usage": USAGE},
    "test_result": {"git_patch": "diff", "report": {"resolved": True}},
    "error": None,
}


def test_events_with_the_model_s_answers(tmp_path: Path) -> None:
    rollout = imported(EVENTS, tmp_path)
    assert origins(rollout) == [
        ("system", "given"),
        ("user", "given"),
        ("assistant", "policy"),
        ("tool", "environment"),
        ("tool", "environment"),
        ("user", "environment"),
        ("assistant", "policy"),
    ]
    turn = rollout.messages[2]
    assert (turn.text, turn.reasoning, turn.ended, turn.weight) == ("Two at once.", "Think.", "tool_calls", None)
    assert [item.content for item in turn.tool_calls] == ['{"command":  "ls"}', '{"command": "pwd"}']
    assert turn.usage == Usage(50, 7)
    assert [message.call_id for message in rollout.messages[3:5]] == ["c1", "c2"]
    assert [message.is_error for message in rollout.messages[3:5]] == [False, True]
    image, address = rollout.messages[1].blocks[1:]
    assert isinstance(image, ImageBlock)
    assert address == OpaqueBlock({"type": "image_url", "image_url": {"url": "https://e.example/a.png"}})
    assert rollout.tools == [ToolSpec("bash", "Run.", {"type": "object"})]
    assert (rollout.model, rollout.versions) == ({"name": "wren-3"}, {"openhands": "0.50"})
    assert (rollout.status, rollout.stop_reason) == ("completed", "finished")
    assert (rollout.started_at, rollout.ended_at) == ("2026-01-01T00:00:00", "2026-01-01T00:00:09")
    assert (rollout.metadata or {})["openhands"]["other_events"] == {"recall": 2}


def test_a_row_of_an_evaluation(tmp_path: Path) -> None:
    rollout = imported(ROW, tmp_path, "output.jsonl")
    assert (rollout.environment.name, rollout.environment.split, rollout.name) == ("pumps", "test", "pump__1")
    assert (rollout.model, rollout.sampling) == ({"name": "openai/wren"}, {"temperature": 0.5})
    assert (rollout.reward, rollout.messages[-1].reward, rollout.messages[-1].finished) == (1.0, 1.0, True)
    assert (rollout.cost_usd, rollout.usage) == (0.75, Usage(100, 14, 20))
    assert rollout.group == rollout.task.id
    assert (rollout.metadata or {})["openhands"]["test_result"]["git_patch"] == "diff"


@pytest.mark.parametrize(
    ("error", "status", "stop_reason"),
    [("RuntimeError: Agent reached maximum iteration", "truncated", "max_steps"), ("AgentStuckInLoopError", "error", "")],
)
def test_the_error_of_an_evaluation(error: str, status: str, stop_reason: str, tmp_path: Path) -> None:
    rollout = imported({**ROW, "error": error}, tmp_path)
    assert (rollout.status, rollout.stop_reason, rollout.error) == (status, stop_reason, error)


def test_words_that_are_not_the_model_s_own_are_not_trained(tmp_path: Path) -> None:
    pairs = [
        [{"action": "message", "content": "Mend it."}, {"observation": "null", "content": ""}],
        [{"action": "run", "command": "ls", "thought": "I look."}, {"observation": "run", "content": "a.py", "exit_code": 0}],
    ]
    rollout = imported({"history": pairs, "success": False}, tmp_path)
    assert origins(rollout) == [("user", "given"), ("assistant", "policy"), ("tool", "environment")]
    turn = rollout.messages[1]
    assert (turn.text, turn.tool_calls[0].arguments, turn.weight) == ("I look.", {"command": "ls"}, 0.0)
    assert (rollout.reward, rollout.status) == (0.0, "cancelled")


def test_turns_after_a_condensation_are_not_trained(tmp_path: Path) -> None:
    condensed = [*EVENTS[:8], event(20, "agent", action="condensation", args={"summary": "short"}), *EVENTS[8:]]
    assert [m.weight for m in imported(condensed, tmp_path).messages if m.role == "assistant"] == [None, 0.0]
    events = [*SDK[:5], {"kind": "Condensation", "id": "z", "source": "environment", "summary": "short"}, *SDK[5:]]
    assert [m.weight for m in imported(events, tmp_path).messages if m.role == "assistant"] == [None, 0.0]


def test_an_observation_without_a_call_is_a_user_s_turn(tmp_path: Path) -> None:
    rollout = imported([*EVENTS[:8], event(11, "environment", observation="error", content="too late", extras={})], tmp_path)
    assert origins(rollout)[-1] == ("user", "environment")


def sdk(kind: str, source: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "id": f"{kind}-{len(fields)}", "timestamp": "2026-06-01T00:00:00", "source": source, **fields}


def text(value: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": value, "cache_prompt": False}]


def sdk_action(call_id: str, arguments: str, response_id: str, thought: str = "", **fields: Any) -> dict[str, Any]:
    name = fields.pop("name", "terminal")
    return sdk(
        "ActionEvent",
        "agent",
        thought=text(thought) if thought else [],
        tool_name=name,
        tool_call_id=call_id,
        tool_call={"id": call_id, "name": name, "arguments": arguments, "origin": "completion"},
        llm_response_id=response_id,
        action={"command": "ls", "kind": "TerminalAction"},
        **fields,
    )


def sdk_result(call_id: str, value: str, **fields: Any) -> dict[str, Any]:
    observation = {"content": text(value), "is_error": False, "kind": "TerminalObservation", **fields}
    return sdk(
        "ObservationEvent", "environment", tool_name="terminal", tool_call_id=call_id, observation=observation, action_id="x"
    )


STATS = {"usage_to_metrics": {"default": {"model_name": "wren-4", "accumulated_cost": 0.5, "accumulated_token_usage": USAGE}}}
SDK: list[dict[str, Any]] = [
    sdk(
        "SystemPromptEvent",
        "agent",
        system_prompt={"type": "text", "text": "You are."},
        dynamic_context=text("Host.")[0],
        tools=[TOOL],
    ),
    sdk("MessageEvent", "user", llm_message={"role": "user", "content": text("Look.")}, extended_content=text("A rule.")),
    sdk("TokenEvent", "agent", prompt_token_ids=[1, 2], response_token_ids=[3]),
    sdk_action("a1", '{"command":  "ls"}', "r1", "Two.", reasoning_content="Hm.", thinking_blocks=[]),
    sdk_result("a1", "a.py", exit_code=0),
    sdk_action("a2", '{"command": "pwd"}', "r1"),
    sdk("AgentErrorEvent", "agent", tool_name="terminal", tool_call_id="a2", error="no such tool"),
    sdk("ConversationStateUpdateEvent", "environment", key="stats", value=STATS),
    sdk_action(
        "a3",
        "{torn",
        "r2",
        thinking_blocks=[{"type": "thinking", "thinking": "End.", "signature": "s"}],
        reasoning_content="End.",
    ),
    sdk(
        "UserRejectObservation", "environment", tool_name="terminal", tool_call_id="a3", rejection_reason="not now", action_id="x"
    ),
]


def test_events_of_the_sdk(tmp_path: Path) -> None:
    rollout = imported("\n".join(map(json.dumps, SDK)), tmp_path, "events.jsonl")
    assert origins(rollout) == [
        ("system", "given"),
        ("user", "given"),
        ("assistant", "policy"),
        ("tool", "environment"),
        ("tool", "environment"),
        ("assistant", "policy"),
        ("tool", "environment"),
    ]
    system, user, turn, result, error, last, rejected = rollout.messages
    assert [len(message.blocks) for message in (system, user)] == [2, 2]
    assert (turn.text, turn.reasoning, [item.content for item in turn.tool_calls]) == (
        "Two.",
        "Hm.",
        ['{"command":  "ls"}', '{"command": "pwd"}'],
    )
    assert (turn.token_ids, turn.prompt_token_ids) == ([3], [1, 2])
    assert (result.text, result.call_id, result.is_error) == ("a.py", "a1", False)
    assert (error.text, error.call_id, error.is_error) == ("no such tool", "a2", True)
    assert (last.reasoning, last.tool_calls[0].content, last.tool_calls[0].arguments) == ("End.", "{torn", None)
    assert rejected.text == "Action rejected: not now"
    assert (rollout.model, rollout.cost_usd, rollout.usage) == ({"name": "wren-4"}, 0.5, Usage(100, 14, 20))
    assert [tool.name for tool in rollout.tools or ()] == ["bash"]


def test_a_conversation_s_folder(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    for number, item in enumerate(SDK):
        (tmp_path / "events" / f"event-{number:05}-x.json").write_text(json.dumps(item))
    (tmp_path / "base_state.json").write_text("{}")
    (tmp_path / "events" / "event-00001-x.json").write_text("{torn")
    damage, rollout = read("openhands", tmp_path)
    assert isinstance(damage, Damage)
    assert isinstance(rollout, Rollout)
    assert len(rollout.messages) == 6


def test_a_finished_conversation_of_the_sdk(tmp_path: Path) -> None:
    done = sdk_action("f", '{"message": "ok"}', "r9", name="finish")
    assert imported([*SDK, done], tmp_path).status == "completed"
    reply = sdk("MessageEvent", "agent", llm_message={"role": "assistant", "content": text("Done."), "reasoning_content": "So."})
    rollout = imported([*SDK, reply], tmp_path)
    assert (rollout.status, rollout.stop_reason, rollout.messages[-1].reasoning) == ("completed", "message", "So.")
    failed = sdk("ConversationErrorEvent", "environment", code="LLMError", detail="no quota")
    assert imported([*SDK, failed], tmp_path).error == "LLMError: no quota"


@settings(max_examples=MUTATIONS, deadline=None)
@given(mutated(ROW) | mutated(EVENTS) | mutated(SDK))
def test_hostile_events_are_damages(record: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check("openhands", record, Path(folder))
