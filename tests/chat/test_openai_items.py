"""Refusals, reasoning, results and names in OpenAI's two formats."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provider_messages import PNG
from rollout_strategies import EXAMPLES

from openreward_gym import chat
from openreward_gym.types import ImageBlock, ReasoningItem, TextBlock, UserMessage


def test_a_refusal_is_text_and_is_written_as_a_refusal() -> None:
    message = {"role": "assistant", "content": None, "refusal": "Not this."}
    item = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "refusal", "refusal": "Not this."}]}
    for (read,) in (chat.from_openai(message), chat.from_openai_responses([item])):
        assert (read.text, read.ended) == ("Not this.", "refusal")
        assert chat.to_openai([read]) == [message]
        assert chat.to_openai_responses([read])[0]["content"] == item["content"]
        assert chat.to_anthropic([read])[1][0]["content"] == [{"type": "text", "text": "Not this."}]


def reasoning(**fields: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs", "summary": [], **fields}


SUMMARY = [{"type": "summary_text", "text": "First. "}, {"type": "summary_text", "text": "Second."}]
SHOWN = [{"type": "reasoning_text", "text": "First. "}, {"type": "reasoning_text", "text": "Second."}]


@pytest.mark.parametrize(
    ("item", "model", "content", "summary"),
    [
        (reasoning(summary=SUMMARY), None, "First. Second.", None),
        (reasoning(summary=SUMMARY), "Qwen/Qwen3-8B", "First. Second.", None),
        (reasoning(summary=SUMMARY), "openai/gpt-oss-120b", "First. Second.", None),
        (reasoning(summary=SUMMARY, encrypted_content=None), None, "First. Second.", None),
        (reasoning(summary=SUMMARY, encrypted_content="gA"), "Qwen/Qwen3-8B", None, "First. \nSecond."),
        (reasoning(content=SHOWN), "openai/gpt-oss-120b", "First. Second.", None),
        (reasoning(content=SHOWN, summary=SUMMARY), None, "First. Second.", "First. \nSecond."),
        *((reasoning(summary=SUMMARY), name, None, "First. \nSecond.") for name in ("gpt-5", "o3-mini", "openai/o1", "codex-1")),
        (reasoning(), "gpt-5", None, None),
    ],
)
def test_shown_reasoning_and_summaries_of_hidden_reasoning(
    item: dict[str, Any], model: str | None, content: str | None, summary: str | None
) -> None:
    (of_items,) = chat.from_openai_responses([item], model=model)
    (of_response,) = chat.from_openai_responses({"output": [item], "model": model, "status": "completed"})
    for message in (of_items, of_response):
        (block,) = message.blocks
        assert isinstance(block, ReasoningItem)
        assert (block.content, block.summary) == (content, summary)
        assert chat.to_openai_responses([message]) == [item]


parts = st.lists(st.builds(lambda text: {"type": "summary_text", "text": text}, st.text(max_size=5)), max_size=4)


@given(parts, st.none() | st.just("gA"))
@settings(max_examples=EXAMPLES, deadline=None)
def test_parts_of_reasoning_are_written_as_they_were(summary: list[dict[str, Any]], encrypted: str | None) -> None:
    item = reasoning(summary=summary, **({"encrypted_content": encrypted} if encrypted else {}))
    assert chat.to_openai_responses(chat.from_openai_responses([item])) == [item]


def test_results_have_their_texts_and_images() -> None:
    screenshot = {"type": "computer_screenshot", "image_url": f"data:image/png;base64,{PNG}"}
    printed = [
        {"stdout": "out", "stderr": "err", "outcome": {"type": "exit", "exit_code": 2}},
        {"stdout": "more", "stderr": "", "outcome": {"type": "timeout"}},
    ]
    items: list[dict[str, Any]] = [
        {"type": "computer_call_output", "call_id": "a", "output": screenshot},
        {"type": "shell_call_output", "call_id": "b", "output": printed},
        {"type": "local_shell_call_output", "id": "c", "output": "local"},
        {"type": "apply_patch_call_output", "call_id": "d", "status": "failed", "output": "no such file"},
        {"type": "mcp_approval_response", "approval_request_id": "e", "approve": False, "reason": "costly"},
    ]
    messages = chat.from_openai_responses(items)
    assert [message.call_id for message in messages] == ["a", "b", "c", "d", "e"]
    assert [message.is_error for message in messages] == [False, False, False, True, False]
    assert isinstance(messages[0].blocks[0], ImageBlock)
    assert [block.text for block in messages[1].blocks if isinstance(block, TextBlock)] == ["out", "err", "more"]
    assert [message.text for message in messages[2:]] == ["local", "no such file", '{"approve": false, "reason": "costly"}']
    assert chat.to_openai_responses(messages) == items


def test_calls_that_the_client_answers_are_calls() -> None:
    container = {"type": "container_reference", "container_id": "k"}
    shell = {"type": "shell_call", "call_id": "s", "action": {"commands": ["ls"]}}
    hosted = {**shell, "call_id": "h", "environment": container}
    items: list[dict[str, Any]] = [
        shell,
        {"type": "apply_patch_call", "call_id": "p", "operation": {"type": "delete_file", "path": "x"}, "status": "completed"},
        {"type": "computer_call", "call_id": "c", "actions": [{"type": "wait"}], "pending_safety_checks": []},
        {"type": "mcp_approval_request", "id": "m", "name": "pay", "arguments": '{"eur": 3}', "server_label": "bank"},
        {"type": "mcp_call", "id": "n", "name": "pay", "arguments": "{}", "server_label": "bank", "output": "paid"},
        hosted,
        {"type": "shell_call_output", "call_id": "h", "output": []},
    ]
    (message,) = chat.from_openai_responses(items)
    assert [(call.name, call.call_id, call.arguments) for call in message.tool_calls] == [
        ("shell", "s", {"commands": ["ls"]}),
        ("apply_patch", "p", {"type": "delete_file", "path": "x"}),
        ("computer", "c", {"actions": [{"type": "wait"}]}),
        ("pay", "m", {"eur": 3}),
    ]
    assert chat.to_openai_responses([message]) == items


def test_the_name_of_a_speaker() -> None:
    messages = [
        {"role": "user", "content": "Hi", "name": "ann"},
        {"role": "system", "content": "s", "name": "desk"},
        {"role": "assistant", "content": "Hello", "name": "bot"},
    ]
    read = chat.from_openai(messages)
    assert [message.name for message in read] == ["ann", "desk", "bot"]
    assert read[2].sampled is None
    assert chat.to_openai(read) == messages
    assert chat.to_openai([UserMessage("Hi")]) == [{"role": "user", "content": "Hi"}]


def test_items_as_chats_have_no_fields_of_the_items() -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}", "status": "completed"}
    custom = {"type": "custom_tool_call", "id": "ct_1", "call_id": "c2", "name": "g", "input": "raw"}
    texts = [{"type": "output_text", "text": "Co", "annotations": [], "logprobs": []}, {"type": "output_text", "text": "ld."}]
    parts = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": "https://pictures.example/a.png", "detail": "low"},
        {"type": "input_file", "file_id": "file_1"},
    ]
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "status": "completed", "content": [{"type": "input_text", "text": "Hi."}]},
        {"role": "user", "content": [{"type": "output_text", "text": "Hm?"}]},
        call,
        {"type": "function_call_output", "id": "fco_1", "call_id": "c1", "output": "cold", "status": "completed"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "final", "content": texts},
        custom,
        {"type": "custom_tool_call_output", "id": "cto_1", "call_id": "c2", "output": "done"},
        {"role": "user", "content": parts},
    ]
    file, image = {"file_id": "file_1"}, {"url": "https://pictures.example/a.png", "detail": "low"}
    assert chat.to_openai(chat.from_openai_responses(items)) == [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hi."},
        {"role": "user", "content": "Hm?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "cold"},
        {
            "role": "assistant",
            "content": "Cold.",
            "tool_calls": [{"id": "c2", "type": "custom", "custom": {"name": "g", "input": "raw"}}],
        },
        {"role": "tool", "tool_call_id": "c2", "content": "done"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": image},
                {"type": "file", "file": file},
            ],
        },
    ]
    assert chat.to_openai_responses(chat.from_openai_responses(items)) == items
