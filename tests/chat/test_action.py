"""Actions made of a provider's items: what the provider ran itself is not run again."""

from __future__ import annotations

import json

import pytest

from openreward_gym.chat import from_openai, parse_action
from openreward_gym.errors import MessageError
from openreward_gym.types import OpaqueBlock, TextBlock, ToolCall

CALL = {"type": "function_call", "call_id": "c1", "name": "weigh", "arguments": '{"parcel": 4}', "status": "completed"}
HOSTED: dict[str, dict[str, object]] = {
    "mcp_call": {"id": "m1", "name": "weigh", "server_label": "depot", "arguments": "{}", "output": "4 kg"},
    "web_search_call": {"id": "w1", "status": "completed"},
    "code_interpreter_call": {"id": "k1", "code": "1 + 1", "container_id": "n1", "status": "completed"},
    "mcp_list_tools": {"id": "l1", "server_label": "depot", "tools": []},
}


@pytest.mark.parametrize("kind", HOSTED)
def test_a_call_that_the_provider_ran_is_not_run_again(kind: str) -> None:
    item = {"type": kind, **HOSTED[kind]}
    assert [call.name for call in parse_action([item, CALL]).tool_calls] == ["weigh"]
    assert parse_action(item).blocks == (OpaqueBlock(item),)
    assert [call.call_id for call in parse_action({"object": "response", "output": [item, CALL]}).tool_calls] == ["c1"]


def test_blocks_of_anthropics_own_tools_are_no_calls() -> None:
    blocks = [
        {"type": "text", "text": "I look it up."},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "tariffs"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
        {"type": "tool_use", "id": "t1", "name": "weigh", "input": {"parcel": 4}},
    ]
    action = parse_action(blocks)
    assert [call.name for call in action.tool_calls] == ["weigh"]
    assert [type(block) for block in action.blocks] == [TextBlock, OpaqueBlock, OpaqueBlock, ToolCall]


def test_parts_that_ran_at_gemini_stay_in_the_turn() -> None:
    ran = [{"executable_code": {"code": "1 + 1"}}, {"codeExecutionResult": {"output": "2"}}]
    action = parse_action([*ran, {"text": "Two."}, {"functionCall": {"name": "weigh", "args": {}}}])
    assert [type(block) for block in action.blocks] == [OpaqueBlock, OpaqueBlock, TextBlock, ToolCall]


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_response_that_is_not_ready_is_refused(status: str) -> None:
    with pytest.raises(MessageError, match="retrieve it again"):
        parse_action({"object": "response", "id": "resp_7", "status": status, "output": []})


@pytest.mark.parametrize("arguments", [{"kg": float("nan")}, {"kg": [1.0, float("inf")]}])
def test_numbers_that_json_does_not_have_make_a_call_malformed(arguments: dict[str, object]) -> None:
    for action in (
        parse_action([{"name": "weigh", "arguments": arguments}]),
        parse_action(json.dumps({"name": "weigh", "arguments": arguments})),
    ):
        (call,) = action.tool_calls
        assert (call.arguments, call.content) == (None, json.dumps(arguments))


def test_the_text_of_a_completion_before_chats_is_read() -> None:
    completion = {
        "object": "text_completion",
        "id": "cmpl-2",
        "model": "base",
        "choices": [{"text": " blue", "finish_reason": "stop"}],
    }
    action = parse_action(completion)
    assert (action.text, action.ended) == (" blue", "stop")
    assert from_openai(completion)[0].text == " blue"
    chunk = {**completion, "choices": [{"text": " bl", "finish_reason": None}]}
    with pytest.raises(MessageError, match="not its chunks"):
        from_openai([chunk, completion])
