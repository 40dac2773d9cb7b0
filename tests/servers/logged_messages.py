"""Messages of all four providers and of no provider, to be logged with the official client and with ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from anthropic.types import Message as AnthropicAnswer
from anthropic.types import RedactedThinkingBlock, TextBlock, ThinkingBlock, ToolUseBlock
from google.genai import types as gdm
from openai.types.responses import (
    Response,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputRefusal,
    ResponseOutputText,
    ResponseReasoningItem,
)
from openai.types.responses.response_reasoning_item import Content, Summary


class Logged(NamedTuple):
    """A message to log: the logger's name, the message made of the module of message classes, and further arguments."""

    logger: str
    make: Callable[[Any], Any]
    arguments: dict[str, Any] = {}  # noqa: RUF012


def one(logger: str, message: Any, **arguments: Any) -> Logged:
    return Logged(logger, lambda classes: message, arguments)


def plain(make: Callable[[Any], Any], **arguments: Any) -> Logged:
    return Logged("log", make, arguments)


def chat(message: Any, **arguments: Any) -> Logged:
    return one("log_openai_completions", message, **arguments)


def response(message: Any, **arguments: Any) -> Logged:
    return one("log_openai_response", message, **arguments)


def anthropic(message: Any, **arguments: Any) -> Logged:
    return one("log_anthropic_message", message, **arguments)


def gemini(message: Any, **arguments: Any) -> Logged:
    return one("log_gdm_message", message, **arguments)


def output_text(text: str) -> ResponseOutputText:
    return ResponseOutputText(text=text, type="output_text", annotations=[])


def answer(*content: Any) -> ResponseOutputMessage:
    return ResponseOutputMessage(id="msg_1", content=list(content), role="assistant", status="completed", type="message")


CALL = ResponseFunctionToolCall(arguments='{"city":"Oslo"}', call_id="c1", name="get_weather", type="function_call", id="fc_1")
THOUGHT = ResponseReasoningItem(id="rs_1", summary=[], type="reasoning")
CHAT_CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
NULLS = {"sizes": [None, {"a": None}, [None]], "left": None, "inner": {"b": None, "c": [{"d": None}]}}

SAME: dict[str, list[Logged]] = {
    "user": [plain(lambda m: m.UserMessage("How warm is it?"))],
    "user, named fields": [plain(lambda m: m.UserMessage(content="Hé 😀\n second line"))],
    "empty user": [plain(lambda m: m.UserMessage(""))],
    "only blanks": [plain(lambda m: m.UserMessage("  \n"))],
    "system": [plain(lambda m: m.SystemMessage("Be brief."))],
    "assistant": [plain(lambda m: m.AssistantMessage("7 C"))],
    "empty assistant": [plain(lambda m: m.AssistantMessage(""))],
    "reasoning": [plain(lambda m: m.ReasoningItem("Let me see."))],
    "reasoning with a reference": [plain(lambda m: m.ReasoningItem(None, "ref-1", "in short"))],
    "reasoning with a reference like a provider's": [plain(lambda m: m.ReasoningItem(content_reference="rs_1"))],
    "call": [plain(lambda m: m.ToolCall("get_weather", '{"city": "Oslo"}', "c1"))],
    "call whose arguments are broken": [plain(lambda m: m.ToolCall("get_weather", '{"city": ', "c1"))],
    "call without an id": [plain(lambda m: m.ToolCall(name="ls", content="{}", call_id=None))],
    "result": [plain(lambda m: m.ToolResult("7 C", "c1"), reward=1.0, is_finished=True)],
    "empty result": [plain(lambda m: m.ToolResult("", "c1"), reward=0.0)],
    "dictionary": [plain(lambda m: {"type": "tool_call", "name": "ls", "content": "{}", "call_id": "c1"})],
    "reward of zero": [plain(lambda m: m.AssistantMessage("a"), reward=0.0)],
    "negative reward": [plain(lambda m: m.AssistantMessage("a"), reward=-2.5)],
    "finished is None": [plain(lambda m: m.AssistantMessage("a"), is_finished=None)],
    "metadata": [plain(lambda m: m.UserMessage("a"), metadata={"k": [1, "x"], "empty": {}, "list": []})],
    "nulls in metadata": [plain(lambda m: m.UserMessage("a"), metadata=NULLS)],
    "NUL and a lone surrogate": [plain(lambda m: m.UserMessage("a\x00b\ud800c"))],
    "reasoning, text, call": [
        plain(lambda m: m.ReasoningItem("Hm.")),
        plain(lambda m: m.AssistantMessage("I look.")),
        plain(lambda m: m.ToolCall("ls", "{}", "c1")),
        plain(lambda m: m.ToolResult("a b", "c1"), reward=0.5),
    ],
    "text, reasoning, two calls": [
        plain(lambda m: m.AssistantMessage("I look.")),
        plain(lambda m: m.ReasoningItem("Hm.")),
        plain(lambda m: m.ToolCall("ls", "{}", "c1")),
        plain(lambda m: m.ToolCall("pwd", "{}", "c2")),
        plain(lambda m: m.ToolResult("a b", "c1")),
        plain(lambda m: m.ToolResult("/", "c2"), reward=1.0, is_finished=True),
    ],
    "call, text, reasoning": [
        plain(lambda m: m.ToolCall("ls", "{}", "c1")),
        plain(lambda m: m.AssistantMessage("I look.")),
        plain(lambda m: m.ReasoningItem("Hm.")),
    ],
    "two texts": [plain(lambda m: m.AssistantMessage("one")), plain(lambda m: m.AssistantMessage("two"))],
    "after the end": [
        plain(lambda m: m.ToolResult("right", "c1"), reward=1.0, is_finished=True),
        plain(lambda m: m.ToolResult("too late", "c2")),
        plain(lambda m: m.AssistantMessage("Done.")),
    ],
    "a message with a reward inside a turn": [
        plain(lambda m: m.ReasoningItem("Hm."), reward=0.1, metadata={"n": 1}),
        plain(lambda m: m.AssistantMessage("I look."), reward=0.2),
        plain(lambda m: m.ToolCall("ls", "{}", "c1"), reward=0.3),
    ],
    "chat: user": [chat({"role": "user", "content": "How warm is it?"})],
    "chat: system": [chat({"role": "system", "content": "Be brief."})],
    "chat: assistant": [chat({"role": "assistant", "content": "7 C"}, reward=1.0, is_finished=True)],
    "chat: call without a text": [chat({"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]})],
    "chat: call with arguments as an object": [
        chat(
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
            }
        )
    ],
    "chat: result": [chat({"role": "tool", "tool_call_id": "c1", "content": "7 C"}, reward=0.25, metadata={"a": 1})],
    "response: user": [response({"role": "user", "content": "How warm is it?"})],
    "response: parts of the user": [
        response({"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]})
    ],
    "response: developer": [response({"role": "developer", "content": "Be brief."})],
    "response: system": [response({"role": "system", "content": [{"type": "input_text", "text": "Be brief."}]})],
    "response: reasoning without content": [response(THOUGHT)],
    "response: reasoning as a dictionary": [response({"type": "reasoning", "id": "rs_2", "summary": []})],
    "response: reasoning with a summary": [
        response(ResponseReasoningItem(id="rs_3", type="reasoning", summary=[Summary(text="In short.", type="summary_text")]))
    ],
    "response: reasoning with two summaries": [
        response(
            {
                "type": "reasoning",
                "id": "rs_4",
                "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}],
                "encrypted_content": "gAAA",
            }
        )
    ],
    "response: two summaries that are the reasoning": [
        response(
            {
                "type": "reasoning",
                "id": "rs_4",
                "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}],
            }
        )
    ],
    "response: reasoning of an open model": [
        response(
            ResponseReasoningItem(
                id="rs_5",
                type="reasoning",
                summary=[],
                content=[Content(text="First.", type="reasoning_text"), Content(text="Then.", type="reasoning_text")],
            )
        )
    ],
    "response: call": [response(CALL)],
    "response: result": [response({"type": "function_call_output", "call_id": "c1", "output": "7 C"}, reward=1.0)],
    "response: one text": [response(answer(output_text("7 C")))],
    "response: two texts of one message": [response(answer(output_text("It is "), output_text("7 C.")))],
    "response: refusal": [response(answer(ResponseOutputRefusal(refusal="I cannot.", type="refusal")))],
    "response: items one by one": [
        response(THOUGHT),
        response(answer(output_text("I look."))),
        response(CALL),
        response({"type": "function_call_output", "call_id": "c1", "output": "7 C"}, is_finished=True, reward=1.0),
    ],
    "response: a whole one": [
        response(
            Response(
                id="resp_1",
                created_at=0.0,
                model="gpt-5",
                object="response",
                output=[THOUGHT, answer(output_text("I look.")), CALL],
                parallel_tool_calls=True,
                tool_choice="auto",
                tools=[],
            )
        )
    ],
    "anthropic: user": [anthropic({"role": "user", "content": "How warm is it?"})],
    "anthropic: text, calls": [
        anthropic(
            {
                "role": "assistant",
                "content": [
                    TextBlock(text="I look.", type="text"),
                    ToolUseBlock(id="t1", input={"city": "Ålesund"}, name="get_weather", type="tool_use"),
                    ToolUseBlock(id="t2", input={}, name="ls", type="tool_use"),
                ],
            }
        )
    ],
    "anthropic: thinking": [
        anthropic(
            {
                "role": "assistant",
                "content": [
                    ThinkingBlock(signature="sig/1==", thinking="Hm.", type="thinking"),
                    {"type": "thinking", "thinking": "Unsigned."},
                    {"type": "text", "text": "7 C"},
                ],
            }
        )
    ],
    "anthropic: results": [
        anthropic(
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "7 C"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "t2",
                        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                    },
                    {"type": "tool_result", "tool_use_id": "t3"},
                ],
            }
        )
    ],
    "anthropic: one result with a reward": [
        anthropic(
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "7 C"}]},
            reward=1.0,
            is_finished=True,
        )
    ],
    "anthropic: a whole answer": [
        anthropic(
            AnthropicAnswer(
                id="msg_1",
                content=[TextBlock(text="7 C", type="text")],
                model="claude",
                role="assistant",
                stop_reason="end_turn",
                type="message",
                usage={"input_tokens": 3, "output_tokens": 2},  # type: ignore[arg-type]
            )
        )
    ],
    "gemini: user": [gemini(gdm.Content(role="user", parts=[gdm.Part(text="How warm is it?")]))],
    "gemini: call": [
        gemini(
            gdm.Content(
                role="model", parts=[gdm.Part(function_call=gdm.FunctionCall(id="g1", name="get_weather", args={"city": "Oslo"}))]
            )
        )
    ],
    "gemini: result": [
        gemini(
            gdm.Content(
                role="user",
                parts=[gdm.Part(function_response=gdm.FunctionResponse(id="g1", name="get_weather", response={"result": "7 C"}))],
            ),
            reward=0.5,
        )
    ],
}
"""Messages of which both clients make the same events."""

Facts = list[dict[str, Any]]


class Other(NamedTuple):
    """Messages of which our events are others: the messages, the official client's events (None if it raises) and ours."""

    messages: list[Logged]
    theirs: Facts | None
    ours: Facts


def text(role: str, content: str, **facts: Any) -> dict[str, Any]:
    return {"type": f"{role}_message", "content": content, **facts}


def call(**facts: Any) -> dict[str, Any]:
    return {"type": "tool_call", "name": "get_weather", "content": '{"city": "Oslo"}', "callId": "c1", **facts}


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
OTHER: dict[str, Other] = {
    # The official client sends one event of a chat message: its first call.
    "chat: text and call": Other(
        [chat({"role": "assistant", "content": "I look.", "tool_calls": [CHAT_CALL]})],
        [call()],
        [text("assistant", "I look."), call()],
    ),
    "chat: two calls with a reward": Other(
        [chat({"role": "assistant", "tool_calls": [CHAT_CALL, {**CHAT_CALL, "id": "c2"}]}, reward=1.0)],
        [call(reward=1.0)],
        [call(), call(callId="c2", reward=1.0)],
    ),
    "chat: an empty answer": Other([chat({"role": "assistant", "content": ""})], None, [text("assistant", "")]),
    "chat: parts": Other(
        [chat({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})],
        None,
        [text("user", "ab")],
    ),
    "chat: developer": Other([chat({"role": "developer", "content": "Be brief."})], None, [text("system", "Be brief.")]),
    "chat: refusal": Other([chat({"role": "assistant", "content": None, "refusal": "No."})], None, [text("assistant", "No.")]),
    "chat: reasoning": Other(
        [chat({"role": "assistant", "content": "7 C", "reasoning_content": "Hm."})],
        [text("assistant", "7 C")],
        [{"type": "reasoning", "content": "Hm."}, text("assistant", "7 C")],
    ),
    # Texts are sent as they were written.
    "chat: blanks at both ends": Other([chat({"role": "user", "content": " a\n"})], [text("user", "a")], [text("user", " a\n")]),
    "anthropic: line end of a result": Other(
        [anthropic({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "a\n"}]})],
        [{"type": "tool_result", "content": "a", "callId": "t1"}],
        [{"type": "tool_result", "content": "a\n", "callId": "t1"}],
    ),
    # Redacted thinking is a handle, not a text.
    "anthropic: redacted thinking": Other(
        [anthropic({"role": "assistant", "content": [RedactedThinkingBlock(data="gAAA", type="redacted_thinking")]})],
        [{"type": "reasoning", "content": "gAAA"}],
        [{"type": "reasoning", "contentReference": "gAAA"}],
    ),
    # One message's texts are one event.
    "anthropic: two texts": Other(
        [anthropic({"role": "assistant", "content": [{"type": "text", "text": "It is "}, {"type": "text", "text": "7 C."}]})],
        [text("assistant", "It is "), text("assistant", "7 C.")],
        [text("assistant", "It is 7 C.")],
    ),
    # A reward is given once.
    "anthropic: two results with a reward": Other(
        [
            anthropic(
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"t{n}", "content": "a"} for n in (1, 2)]},
                reward=1.0,
                is_finished=True,
            )
        ],
        [{"type": "tool_result", "content": "a", "callId": f"t{n}", "reward": 1.0, "isFinished": True} for n in (1, 2)],
        [
            {"type": "tool_result", "content": "a", "callId": "t1"},
            {"type": "tool_result", "content": "a", "callId": "t2", "reward": 1.0, "isFinished": True},
        ],
    ),
    # What is not text is named.
    "anthropic: image": Other(
        [anthropic({"role": "user", "content": [{"type": "text", "text": "See:"}, IMAGE]})],
        None,
        [text("user", "See:\n[image image/png 4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6]")],
    ),
    "response: output of parts": Other(
        [response({"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "7 C"}]})],
        [{"type": "tool_result", "content": '[{"type": "input_text", "text": "7 C"}]', "callId": "c1"}],
        [{"type": "tool_result", "content": "7 C", "callId": "c1"}],
    ),
    "response: a tool that runs at the provider": Other(
        [response({"type": "web_search_call", "id": "ws_1", "status": "completed"})],
        None,
        [text("assistant", '{"type": "web_search_call", "id": "ws_1", "status": "completed"}', metadata={"is_opaque": True})],
    ),
    # The official client drops the texts of Gemini's models, and names signatures as Python shows bytes.
    "gemini: text": Other([gemini(gdm.Content(role="model", parts=[gdm.Part(text="7 C")]))], [], [text("assistant", "7 C")]),
    "gemini: thought": Other(
        [gemini(gdm.Content(role="model", parts=[gdm.Part(text="Hm.", thought=True, thought_signature=b"sig")]))],
        [{"type": "reasoning", "content": "Hm.", "contentReference": "b'sig'"}],
        [{"type": "reasoning", "content": "Hm.", "contentReference": "c2ln"}],
    ),
    "gemini: result of other fields": Other(
        [
            gemini(
                gdm.Content(
                    role="user",
                    parts=[gdm.Part(function_response=gdm.FunctionResponse(id="g1", name="f", response={"output": "7"}))],
                )
            )
        ],
        None,
        [{"type": "tool_result", "content": "7", "callId": "g1", "metadata": {"gemini": {"key": "output"}}}],
    ),
}
"""Messages of which the official client's events lose or distort something."""
