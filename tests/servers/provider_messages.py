"""Example messages and answers of OpenAI, Anthropic and Gemini, as their APIs send them."""

from __future__ import annotations

import base64
from typing import Any

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n0").decode()

COMPLETION_MESSAGE: dict[str, Any] = {
    "role": "assistant",
    "content": "I look.",
    "refusal": "but not there",
    "reasoning_content": "hm",
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": '{"path": "/"}'}},
        {"id": "c2", "type": "function", "function": {"name": "cat", "arguments": '{"path": '}},
        {"id": "c3", "type": "custom", "custom": {"name": "sql", "input": "select 1"}},
    ],
    "annotations": [{"type": "url_citation", "url_citation": {"end_index": 1, "start_index": 0, "title": "t", "url": "u"}}],
}
COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": COMPLETION_MESSAGE,
            "logprobs": {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": [], "bytes": None}], "refusal": None},
            "token_ids": [7],
        }
    ],
    "prompt_token_ids": [1, 2],
    "usage": {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 1},
        "cost": 0.25,
    },
}
RESPONSE_OUTPUT: list[dict[str, Any]] = [
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "s1"}, {"type": "summary_text", "text": "s2"}],
        "encrypted_content": "gAAA",
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "I look.", "annotations": []},
            {"type": "refusal", "refusal": "but not there"},
        ],
    },
    {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "ls", "arguments": '{"path": "/"}', "status": "completed"},
    {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "cat", "arguments": "{}", "status": "completed"},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
]
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "created_at": 1.0,
    "model": "m-2",
    "object": "response",
    "output": RESPONSE_OUTPUT,
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "status": "completed",
    "usage": {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 14,
    },
}
ANTHROPIC_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "blob"},
        {"type": "text", "text": "I look.", "citations": None},
        {"type": "tool_use", "id": "t1", "name": "ls", "input": {"path": "/"}},
        {"type": "tool_use", "id": "t2", "name": "pwd", "input": {}},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
    ],
    "usage": {"input_tokens": 2, "cache_read_input_tokens": 8, "output_tokens": 4},
}
GEMINI_ANSWER: dict[str, Any] = {
    "response_id": "r1",
    "model_version": "gemini-3",
    "candidates": [
        {
            "finish_reason": "STOP",
            "content": {
                "role": "model",
                "parts": [
                    {"text": "hm", "thought": True},
                    {"text": "I look."},
                    {"function_call": {"id": "g1", "name": "ls", "args": {"path": "/"}}, "thought_signature": b"\x01\xff"},
                    {"function_call": {"name": "pwd"}},
                    {"executable_code": {"code": "1", "language": "PYTHON"}},
                ],
            },
        }
    ],
    "usage_metadata": {
        "prompt_token_count": 10,
        "candidates_token_count": 3,
        "thoughts_token_count": 1,
        "cached_content_token_count": 8,
    },
}
