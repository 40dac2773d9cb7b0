"""Everything that reads texts of models and servers, and units whose repetition makes a slow reader slow."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openreward_gym import chat, jsonio
from openreward_gym.chat.failures import failure_words, kind_of_failure, parsed_body
from openreward_gym.chat.history import server_history
from openreward_gym.chat.raw_text import has_call_as_text
from openreward_gym.export.conversation import ControlTokens
from openreward_gym.export.duplicates import words_of
from openreward_gym.export.scrub import Scrubber
from openreward_gym.importers import read
from openreward_gym.importers.decoded import split_completion
from openreward_gym.policies.transformers import read_answer
from openreward_gym.protocol.sse import CallStream, EventDecoder
from openreward_gym.types import AssistantMessage, Rollout, TextBlock, ToolCall, ToolSpec, UserMessage
from openreward_gym.user_traceback import describe_error

UNITS = [
    "a",
    " ",
    "\n",
    "\r",
    "<",
    ">",
    "{",
    "}",
    "[",
    "]",
    '"',
    "\\",
    ";",
    ",",
    ":",
    "(",
    ")",
    "-",
    "=",
    "@",
    ".",
    "0",
    "é",
    "\ud800",
    "\x00",
    "a ",
    " a",
    "a\n",
    "\n ",
    " \n",
    "a.",
    "a@",
    "a@a.",
    "0 ",
    "0-",
    "+1 ",
    "(12)",
    "key=",
    "bearer ",
    "sk-a-",
    "eyJaaaaaaaa.",
    "hf_",
    "A" * 40 + " ",
    "-----BEGIN PRIVATE KEY-----",
    "\\u0041",
    "\\u",
    '{"a":',
    '{"a":[',
    "[[",
    '["',
    '{"name": "a", "arguments": {',
    '"name": "',
    '"name": "a" ',
    '"arguments": ',
    '"arguments": {',
    "<think>",
    "</think>",
    "<think></think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_call>{",
    "<tool_call>[",
    '<tool_call>{"name": "go"',
    '<tool_call>{"name": "go", "arguments": {}}',
    "<tool_call>a",
    "<tool_call></tool_call>",
    '<tool_call>{"name": "go", "arguments": {"x": "</tool_call>',
    "<function=",
    "<function=go>",
    "<function=go>{",
    "</function>",
    "<tool_call><function=go>",
    "<function=go></function>",
    "<parameter=",
    "<parameter=a>",
    "</parameter>",
    "<|python_tag|>",
    "<|python_tag|>{",
    '<|python_tag|>{"name": "go"};',
    "<|im_end|>",
    "</s>",
    "</s> ",
    "<|eot_id|>\n",
    "<|endoftext|>",
    "<|",
    "<｜",
    "<|im_start|>",
    "<|im_start|>assistant\n",
    "<|im_start|>user\na<|im_end|>\n",
    "<tool_response>",
    "<tool_response>a</tool_response>",
    "</tool_response>",
    "<|start|>",
    "<|message|>",
    "<|channel|>",
    "<|start|>assistant<|channel|>final<|message|>a<|end|>",
    "[TOOL_CALLS]",
    "[TOOL_CALLS]go[ARGS]{",
    "[TOOL_RESULTS]",
    "[ARGS]",
    "a[ARGS]",
    "<arg_key>",
    "<arg_key>a</arg_key><arg_value>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁begin｜>go<｜tool▁sep｜>",
    "```",
    "```json\n",
    "```json\n{",
    "```json\n{}\n```",
    "```json\n[]\n",
    "\n```",
    "Action: go\n",
    "Action: go\nAction Input: ",
    "Action:",
    "go(",
    "go(a=",
    "go(a=1)",
    "functions.go ",
    "functools[",
    "<a ",
    "<!--",
    "<script",
    "<title>",
    "<html>",
    "<style></",
    "maximum context length is 1",
    "tokens 1,",
    "1,",
    "context ",
    "exceed context limit: 1 + ",
    "limit of ",
    "data: a\n",
    "data: a\n\n",
    "event: chunk\ndata: a\n\n",
    ":\n",
    "\r\n",
    "data:\r",
    'File "',
    "user\n",
    "assistant\n\n",
    "tool\n\n",
    "<image>",
    "Thought: ",
    "a" * 40 + "\n",
]
TOOLS = [ToolSpec("go", "", {"type": "object", "properties": {"a": {"type": "integer"}}}), ToolSpec("run")]


def repeated(unit: str, size: int) -> str:
    """Return a text of about `size` characters."""
    return unit * max(1, size // len(unit))


def _in_pieces(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    for feed in (EventDecoder().feed, CallStream().feed):
        for start in range(0, len(data), 64):
            feed(data[start : start + 64])


def _streamed(text: str) -> None:
    start = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    call = {"index": 0, "id": "t", "type": "function", "function": {"name": "go", "arguments": ""}}
    deltas = [
        {"role": "assistant", "content": ""},
        *({"content": text[n : n + 64]} for n in range(0, len(text), 64)),
        {"tool_calls": [call]},
    ]
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": text[n : n + 64]}}]} for n in range(0, len(text), 64)]
    chat.parse_action([{**start, "choices": [{"index": 0, "delta": delta}]} for delta in deltas])


def _error(text: str) -> None:
    describe_error(ValueError(text))


def _history(text: str) -> None:
    messages = [UserMessage(text), AssistantMessage([TextBlock(text), ToolCall("go", content=text, call_id="c")])]
    list(server_history(messages))


def _written(text: str) -> None:
    rollout = Rollout(
        "completed", id="r", messages=[UserMessage(text), AssistantMessage([TextBlock(text), ToolCall("go", content=text)])]
    )
    Rollout.from_line(rollout.to_line())
    rollout._repr_html_()


def _control_tokens(text: str) -> None:
    tokens = ControlTokens("escape", ["<|own|>", "\u2581"])
    tokens.found_in(text)
    tokens.escape(text)


def _failure(text: str) -> None:
    for body in (parsed_body(text), {"error": {"message": text}}):
        kind_of_failure(400, body)
        failure_words(body)


def _imported(source: str, text: str, *, raw: bool = False) -> None:
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": text}, {"from": "observation", "value": text}]
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text}, {"role": "tool", "content": text}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        record = text if raw else json.dumps({"conversations": turns} if source == "sharegpt" else {"messages": messages})
        path.write_text(record, encoding="utf-8", errors="replace")
        list(read(source, path))


def _every_dialect(text: str) -> None:
    for write in (chat.to_openai, chat.to_openai_responses, chat.to_anthropic, chat.to_gemini):
        write([UserMessage(text), AssistantMessage([TextBlock(text), ToolCall("go", content=text, call_id="c")])])


READERS: dict[str, Callable[[str], Any]] = {
    "chat: from_raw_text": lambda text: chat.from_raw_text(text, tools=TOOLS),
    "chat: has_call_as_text": lambda text: has_call_as_text(f"go {text}", TOOLS),
    "chat: parse_action": chat.parse_action,
    "chat: a stream": _streamed,
    "chat: writing": _every_dialect,
    "chat: history": _history,
    "chat: failures": _failure,
    "policies: local models": read_answer,
    "protocol: streams in pieces": _in_pieces,
    "types: a record": _written,
    "export: control tokens": _control_tokens,
    "export: scrub": Scrubber(["emails", "phones", "keys"]).text,
    "export: words": words_of,
    "importers: completions": split_completion,
    "importers: sharegpt": lambda text: _imported("sharegpt", text),
    "importers: openai": lambda text: _imported("openai-chat", text),
    "importers: swe_agent": lambda text: _imported("swe-agent", text),
    "importers: other files": lambda text: _imported("openai-chat", text, raw=True),
    "errors of user code": _error,
    "jsonio": lambda text: jsonio.dumps(json.loads(json.dumps([text]))),
}
