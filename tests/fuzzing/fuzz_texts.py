"""Random words of models: objects of every provider, changed; streams cut and mixed; raw text with calls in it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import provider_messages as providers
from hostile import DEEP, Fuzzer, changed, changed_text, dumped, named, received, text, value

from openreward_gym import chat
from openreward_gym.chat.failures import failure_words, kind_of_failure, parsed_body
from openreward_gym.chat.raw_text import has_call_as_text
from openreward_gym.types import AssistantMessage, Message, ToolSpec

ANSWERS: list[Any] = [
    providers.COMPLETION,
    providers.COMPLETION_MESSAGE,
    providers.RESPONSE,
    providers.RESPONSE_OUTPUT,
    providers.ANTHROPIC_MESSAGE,
    providers.GEMINI_ANSWER,
    {"name": "go", "arguments": {"a": 1}},
    [{"name": "go", "arguments": '{"a": 1}'}],
    {"error": {"message": "too long", "type": "invalid_request_error", "code": 400, "metadata": {"raw": "{}"}}},
]
STREAMS: list[list[dict[str, Any]]] = [
    [
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta}]}
        for delta in (
            {"role": "assistant", "content": ""},
            {"reasoning_content": "hm"},
            {"content": "It is"},
            {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "go", "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": '}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        )
    ]
    + [{"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
    [
        {"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "It is"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "go", "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a": 1}'}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ],
    [
        {"type": "response.created", "response": {"id": "r", "object": "response", "output": []}},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"type": "message", "role": "assistant", "content": []},
        },
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "It is"},
        {"type": "response.completed", "response": providers.RESPONSE},
    ],
    [
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "It"}]}}]},
        {"candidates": [{"content": {"role": "model", "parts": [{"text": " is"}]}, "finishReason": "STOP"}]},
    ],
]
WORDS = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<function=go>",
    "</function>",
    "<parameter=a>",
    "</parameter>",
    "<|python_tag|>",
    "<|im_end|>",
    "</s>",
    "<|eot_id|>",
    '{"name": "go", "arguments": {"a": 1}}',
    '{"name": "go", ',
    "[",
    "]",
    "{",
    "}",
    '"',
    "\\",
    "```json\n",
    "\n```",
    "Action: go\nAction Input: ",
    "[TOOL_CALLS]",
    "go[ARGS]{}",
    "functools[",
    " ",
    "\n",
    "go(a=1)",
    ";",
    ",",
    '{"tool_calls": [',
    "é",
    "\ud800",
    "\x00",
    "it is 7 degrees",
    "9" * 5000,
    "<",
    ">",
]
TOOLS = [ToolSpec("go", "", {"type": "object", "properties": {"a": {"type": "integer"}}}), ToolSpec("stop")]
_READERS: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = [
    (chat.from_openai, chat.to_openai),
    (chat.from_openai_responses, chat.to_openai_responses),
    (chat.from_anthropic, chat.to_anthropic),
    (chat.from_gemini, chat.to_gemini),
]


def make_answer(random: Random) -> Any:
    return received(changed(random, random.choice(ANSWERS), 4))


def check_answer(answer: Any) -> None:
    """An object is read as an action and as messages, and what is read can be written for every provider."""
    message = named(lambda: chat.parse_action(answer))
    assert message is None or isinstance(message, AssistantMessage)
    messages: list[Message] = [] if message is None else [message]
    for read, _ in _READERS:
        messages += named(lambda read=read: read(answer)) or []  # type: ignore[misc]
        messages += named(lambda read=read: read([answer])) or []  # type: ignore[misc]
    for _, write in _READERS:
        for one in messages:
            named(lambda write=write, one=one: write([one]))  # type: ignore[misc]


def make_stream(random: Random) -> Any:
    chunks = list(random.choice(STREAMS))
    if random.random() < 0.3:
        random.shuffle(chunks)
    if random.random() < 0.2:
        chunks = [chunk for chunk in chunks for _ in range(random.randint(0, 2))]
    if random.random() < 0.2:
        chunks += random.choice(STREAMS)
    chunks = chunks[: random.randint(1, len(chunks))] if chunks and random.random() < 0.5 else chunks
    return received(changed(random, chunks, 3))


def check_stream(chunks: Any) -> None:
    message = named(lambda: chat.parse_action(chunks))
    assert message is None or isinstance(message, AssistantMessage)


def make_text(random: Random) -> str:
    words = "".join(random.choice(WORDS) * random.choice((1, 1, 1, 2, 40)) for _ in range(random.randrange(12)))
    return changed_text(random, words) if random.random() < 0.5 else words


def check_text(words: str) -> None:
    """A text is always a message: what is no call is text or a malformed call."""
    for formats in (chat.raw_text.FORMATS, ("tool_call",), ("function", "json")):
        assert isinstance(chat.from_raw_text(words, formats=formats, tools=TOOLS), AssistantMessage)
    assert isinstance(chat.parse_action(words), AssistantMessage)
    assert isinstance(has_call_as_text(words, TOOLS), bool)


def make_arguments(random: Random) -> Any:
    written = random.choice((dumped(value(random)), text(random), value(random), DEEP))
    function = {"name": text(random), "arguments": written}
    return received({"role": "assistant", "content": value(random), "tool_calls": [{"id": text(random), "function": function}]})


def make_failure(random: Random) -> tuple[int, Any]:
    body = random.choice((make_text(random), changed(random, ANSWERS[-1]), value(random)))
    return random.choice((200, 400, 401, 429, 500, 529)), body


def check_failure(case: tuple[int, Any]) -> None:
    """The body of a provider's error has a kind and words."""
    status, body = case
    body = parsed_body(body) if isinstance(body, str) else body
    assert kind_of_failure(status, body)
    assert len(failure_words(body)) < 3_000


FUZZERS = [
    Fuzzer("answers of models", make_answer, check_answer, 1_300),
    Fuzzer("streams of models", make_stream, check_stream, 600),
    Fuzzer("raw text of models", make_text, check_text, 350),
    Fuzzer("calls of models", make_arguments, check_answer, 4_000),
    Fuzzer("errors of providers", make_failure, check_failure, 2_000),
]
