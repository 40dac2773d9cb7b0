"""Trials of firehorse: the events of each of its agents, and how a trial ended."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from openreward_gym.importers import read
from openreward_gym.store import Damage
from openreward_gym.types import Rollout, ToolCall

PROMPT = {"type": "openreward_prompt", "system_prompt": "Be careful.", "environment_prompt": "Find the key."}
SUMMARY = {"type": "openreward_summary", "task_spec": {"id": "k7"}, "env": "acme/keys", "model": "m", "finished": False}


def trial(folder: Path, *events: Any, result: Any = None, run: Any = None, name: str = "trial_k7") -> Rollout:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    if result is not None:
        (folder / f"{name}_result.json").write_text(json.dumps(result))
    if run is not None:
        (folder / "run_result.json").write_text(json.dumps(run))
    (rollout,) = read("firehorse", folder)
    assert isinstance(rollout, Rollout), rollout
    return rollout


def said(text: str) -> dict[str, Any]:
    return {"type": "assistant", "provider": "openrouter", "raw": {"role": "assistant", "content": text}}


def called(**fields: Any) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "open", "arguments": '{"door":  3}'}}
    return {"type": "assistant", "provider": "openrouter", "raw": {"role": "assistant", "content": None, "tool_calls": [call]}}


ANSWERED = {"type": "tool_result", "raw": {"role": "tool", "tool_call_id": "c1", "content": "locked"}, "reward": 0.5}


@pytest.mark.parametrize(
    ("events", "facts", "result", "ending"),
    [
        ([said("It is lost.")], {}, None, ("completed", "message", None)),
        ([called(), ANSWERED, said("Lost.")], {"agent": "react"}, {}, ("completed", "message", None)),
        ([called(), ANSWERED], {"agent": "react"}, {"agent": "react"}, ("truncated", "max_turns", None)),
        ([called(), ANSWERED], {"agent": "react"}, {"error": "no credit"}, ("error", "", "no credit")),
        ([said("Lost.")], {"stop_reason": "max_turns"}, None, ("truncated", "max_turns", None)),
        ([said("Lost.")], {"stop_reason": "timeout"}, None, ("truncated", "timeout", None)),
        ([said("Lost.")], {"error": "boom"}, None, ("error", "", "boom")),
        ([said("Lost.")], {"error": "it timed out"}, None, ("truncated", "deadline", "it timed out")),
        ([said("Lost.")], {"mcp_failed": True}, None, ("error", "", "the environment's MCP server failed to connect")),
        ([said("Lost.")], {"agent": "resum"}, {"agent": "resum"}, ("truncated", "max_turns", None)),
        ([called(), {**ANSWERED, "finished": True}], {}, None, ("completed", "finished", None)),
        ([said("Found.")], {"bridge_result": {"finished": True}}, None, ("completed", "finished", None)),
    ],
)  # fmt: skip
def test_a_trial_ends_as_its_summary_says(
    events: list[Any], facts: dict[str, Any], result: Any, ending: Any, tmp_path: Path
) -> None:
    rollout = trial(tmp_path, PROMPT, *events, {**SUMMARY, **facts}, result=result)
    assert (rollout.status, rollout.stop_reason, rollout.error) == ending
    assert [message.origin for message in rollout.messages[:3]] == ["given", "given", "policy"]


def test_a_log_that_breaks_off_is_cancelled(tmp_path: Path) -> None:
    assert trial(tmp_path, PROMPT, called(), ANSWERED).status == "cancelled"


def test_the_files_beside_a_trial_name_the_split_the_index_and_the_run(tmp_path: Path) -> None:
    (tmp_path / "trial_k7_toolcalls.jsonl").write_text('{"tool": "open"}\n')
    run = {"run_name": "night", "split": "test", "trials": [{"task_index": 7, "task_spec": {"id": "k7"}}, {"task_index": 8}]}
    rollout = trial(tmp_path, PROMPT, said("Lost."), SUMMARY, result={"split": "test", "usage": {"cost_usd": 0.25}}, run=run)
    assert (rollout.run, rollout.environment.split, rollout.task.index) == ("night", "test", 7)
    assert (rollout.environment.name, rollout.task.spec, rollout.model) == ("acme/keys", {"id": "k7"}, {"name": "m"})


def test_claude_code_s_events_are_turns_with_their_rewards(tmp_path: Path) -> None:
    head = {"id": "msg_1", "role": "assistant", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 4}}
    call = {"type": "tool_use", "id": "t1", "name": "mcp__openreward__open", "input": {"door": 3}}
    answer = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "open"}]}
    (tmp_path / "trial_k7_rewards.jsonl").write_text('{"call_count": 1, "tool": "open", "reward": 0.75, "finished": true}\n')
    rollout = trial(
        tmp_path,
        {**PROMPT, "system_prompt": "default"},
        {"type": "system", "subtype": "init", "tools": ["mcp__openreward__open"]},
        {"type": "assistant", "message": {**head, "content": [{"type": "thinking", "thinking": "Door 3.", "signature": "s"}]}},
        {"type": "assistant", "message": {**head, "content": [{"type": "text", "text": "I open it."}]}},
        {"type": "assistant", "message": {**head, "content": [call]}},
        {"type": "user", "message": {"role": "user", "content": [answer]}},
        {"type": "openreward_tool_correlation", "tool_use_id": "t1", "mcp_call_count": 1},
        {"type": "assistant", "message": {**head, "id": "msg_2", "content": [{"type": "text", "text": "Open."}]}},
        {"type": "result", "subtype": "success", "is_error": False, "result": "Open."},
        {**SUMMARY, "finished": None, "bridge_result": {"finished": True, "last_reward": 0.75, "total_reward": 0.75}},
    )
    assert [message.role for message in rollout.messages] == ["user", "assistant", "tool", "assistant"]
    assert [block.type for block in rollout.messages[1].blocks] == ["reasoning", "text", "tool_call"]
    assert (rollout.messages[2].text, rollout.messages[2].reward, rollout.messages[2].finished) == ("open", 0.75, True)
    assert (rollout.reward, rollout.status, rollout.messages[1].usage is not None) == (0.75, "completed", True)


def test_claude_code_s_limit_of_turns_truncates(tmp_path: Path) -> None:
    message = {"id": "m", "role": "assistant", "content": [{"type": "text", "text": "Next"}]}
    ending = {"type": "result", "subtype": "error_max_turns", "is_error": True}
    rollout = trial(tmp_path, PROMPT, {"type": "assistant", "message": message}, ending, {**SUMMARY, "finished": None})
    assert (rollout.status, rollout.stop_reason) == ("truncated", "max_turns")


def test_codex_s_items_and_older_events(tmp_path: Path) -> None:
    item = {"id": "i1", "type": "mcp_tool_call", "tool": "open", "arguments": {"door": 3}}
    result = {"Ok": {"content": [{"type": "text", "text": "locked"}]}}
    rollout = trial(
        tmp_path,
        PROMPT,
        {"type": "thread.started", "thread_id": "x"},
        {"type": "item.completed", "item": {"id": "i0", "type": "reasoning", "text": "Door 3."}},
        {"type": "item.started", "item": item},
        {"type": "item.completed", "item": {**item, "result": result, "status": "completed"}},
        {"id": "0", "msg": {"type": "mcp_tool_call_begin", "call_id": "c", "invocation": {"tool": "look", "arguments": {}}}},
        {"id": "0", "msg": {"type": "mcp_tool_call_end", "call_id": "c", "result": result}},
        {"type": "item.completed", "item": {"id": "i2", "type": "agent_message", "text": "It is locked."}},
        SUMMARY,
    )
    roles = [message.role for message in rollout.messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert [block.type for block in rollout.messages[2].blocks] == ["reasoning", "tool_call"]
    assert (rollout.messages[3].text, rollout.messages[3].call_id) == ("locked", "i1")
    assert (rollout.messages[4].tool_calls[0].name, rollout.messages[6].text) == ("look", "It is locked.")


def test_the_gemini_cli_s_pieces_are_one_turn(tmp_path: Path) -> None:
    rollout = trial(
        tmp_path,
        PROMPT,
        {"type": "message", "role": "user", "content": "Find the key."},
        {"type": "message", "role": "assistant", "content": "I ", "delta": True},
        {"type": "message", "role": "assistant", "content": "look.", "delta": True},
        {"type": "tool_use", "tool_name": "mcp_look", "tool_id": "t", "parameters": {"at": "door"}},
        {"type": "tool_result", "tool_id": "t", "status": "success", "output": "a door"},
        {"type": "message", "role": "assistant", "content": "Found.", "delta": True},
        SUMMARY,
    )
    assert [message.role for message in rollout.messages] == ["system", "user", "assistant", "tool", "assistant"]
    turn = rollout.messages[2]
    assert (turn.text, turn.tool_calls[0].name, turn.tool_calls[0].arguments) == ("I look.", "mcp_look", {"at": "door"})
    assert (rollout.messages[3].call_id, rollout.messages[3].is_error) == ("t", False)


def test_react_s_google_messages_are_python_text(tmp_path: Path) -> None:
    text = 'Part(\n  text="""I \'look\'\n  twice."""\n)'
    arguments = "{\n      'at': [\n        1,\n        None,\n      ]\n    }"
    call = f"Part(\n  function_call=FunctionCall(\n    args={arguments},\n    name='look'\n  )\n)"
    result = (
        "Part(\n  function_response=FunctionResponse(\n    name='look',\n    response={\n      'result': 'a door'\n    }\n  )\n)"
    )
    rollout = trial(
        tmp_path,
        PROMPT,
        {"type": "assistant", "provider": "google", "raw": f"parts=[{text}, {call}] role='model'"},
        {"type": "tool_result", "provider": "google", "tool_name": "look", "reward": 0.25, "finished": False},
        {"type": "tool_results", "provider": "google", "raw": f"parts=[{result}] role='user'"},
        {"type": "assistant", "provider": "google", "raw": "parts=[Part(text=<... 3 more ...>)] role='model'"},
        SUMMARY,
    )
    turn, answer, shortened = rollout.messages[2:]
    assert (turn.text, turn.tool_calls[0].arguments) == ("I 'look'\n  twice.", {"at": [1, None]})
    assert (answer.role, answer.name, answer.reward) == ("tool", "look", 0.25)
    assert "a door" in str(answer.blocks)
    assert (shortened.blocks[0].type, shortened.weight) == ("python", 0.0)


def test_react_s_openai_turns_without_arguments_are_not_trained(tmp_path: Path) -> None:
    partial = [{"type": "reasoning"}, {"type": "function_call", "name": "open", "call_id": "c1"}]
    whole = [{"type": "function_call", "name": "open", "call_id": "c2", "arguments": "{}"}]
    output = {"type": "function_call_output", "call_id": "c1", "output": "locked"}
    rollout = trial(
        tmp_path,
        PROMPT,
        {"type": "assistant", "provider": "openai", "raw": partial},
        {"type": "tool_result", "provider": "openai", "raw": output, "reward": None, "finished": False},
        {"type": "assistant", "provider": "openai", "raw": whole},
        SUMMARY,
    )
    first, second = rollout.messages[2], rollout.messages[4]
    assert (first.weight, first.tool_calls) == (0.0, (ToolCall("open", None, "c1"),))
    assert (second.weight, second.tool_calls[0].arguments) == (None, {})


def test_resum_s_calls_are_not_doubled(tmp_path: Path) -> None:
    call = {"id": "c9", "name": "open", "arguments": {"door": 1}}
    rollout = trial(
        tmp_path,
        PROMPT,
        {"type": "assistant", "text_content": "I open.", "reasoning_content": None, "tool_calls": [call], "input_tokens": 5},
        {"type": "tool_call", "tool_call_id": "c9", "tool_name": "open", "arguments": {"door": 1}},
        {"type": "tool_result", "tool_call_id": "c9", "output": "locked", "reward": None, "finished": False},
        {"type": "compaction", "compaction_count": 1, "method": "summary", "success": True},
        {**SUMMARY, "agent": "resum"},
    )
    assert [len(message.tool_calls) for message in rollout.messages] == [0, 0, 1, 0]
    assert rollout.messages[3].call_id == "c9"
    assert rollout.metadata is not None
    assert len(rollout.metadata["firehorse"]["compactions"]) == 1


def test_hermes_leaves_a_session(tmp_path: Path) -> None:
    call = {"call_id": "h", "function": {"name": "open", "arguments": "{}"}}
    session = {
        "messages": [
            {"role": "user", "content": "Find the key."},
            {"role": "assistant", "content": "", "reasoning": "Hm.", "tool_calls": [call]},
            {"role": "tool", "content": "locked", "tool_call_id": "h", "tool_name": "open"},
            {"role": "assistant", "content": "Locked."},
        ]
    }  # fmt: skip
    (tmp_path / "trial_k7_hermes_session.json").write_text(json.dumps(session))
    rollout = trial(tmp_path, {**PROMPT, "system_prompt": "default"}, {**SUMMARY, "stdout_final": "Locked."})
    assert [message.role for message in rollout.messages] == ["user", "assistant", "tool", "assistant"]
    assert (rollout.messages[1].reasoning, rollout.messages[1].tool_calls[0].call_id) == ("Hm.", "h")


def test_a_subagent_is_not_of_the_trial_s_group(tmp_path: Path) -> None:
    trial(tmp_path, PROMPT, said("Lost."), SUMMARY, result={"final_reward": 1.0})
    (tmp_path / "trial_k7_subagent_t1.jsonl").write_text(json.dumps(said("Sub.")) + "\n")
    main, sub = read("firehorse", tmp_path)
    assert isinstance(main, Rollout)
    assert isinstance(sub, Rollout)
    assert (main.reward, sub.reward) == (1.0, None)
    assert main.group is not None
    assert sub.group is None
    assert main.id != sub.id


def test_a_pipe_beside_a_trial_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run_result.json")
    (tmp_path / "trial_k7.jsonl").write_text(json.dumps(said("Lost.")) + "\n" + json.dumps(SUMMARY) + "\n")
    damage, rollout = read("firehorse", tmp_path)
    assert "run_result.json: not a file but a named pipe" in str(damage)
    assert isinstance(rollout, Rollout)


def test_a_damaged_file_beside_a_trial_is_named(tmp_path: Path) -> None:
    (tmp_path / "trial_k7_result.json").write_text("{")
    (tmp_path / "trial_k7.jsonl").write_text(json.dumps(said("Lost.")) + "\n" + json.dumps(SUMMARY) + "\n")
    damage, rollout = read("firehorse", tmp_path)
    assert isinstance(damage, Damage)
    assert "trial_k7_result.json" in str(damage)
    assert isinstance(rollout, Rollout)
