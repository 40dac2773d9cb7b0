"""Providers' messages, as dictionaries and as the SDKs' own objects, into our types and back."""

from __future__ import annotations

import contextlib
from typing import Any

import anthropic.types as at
import numpy as np
import pytest
from google.genai import types as gt
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseReasoningItem
from provider_messages import ANTHROPIC_MESSAGE, COMPLETION, COMPLETION_MESSAGE, GEMINI_ANSWER, PNG, RESPONSE, RESPONSE_OUTPUT
from rollout_strategies import EXAMPLES

from openreward_gym import chat
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    SystemMessage,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
    split_results,
)


def texts_of(message: Message) -> list[str]:
    return [block.text for block in message.blocks if isinstance(block, TextBlock)]


@pytest.mark.parametrize("value", [COMPLETION, ChatCompletion.model_validate(COMPLETION)], ids=["dict", "object"])
def test_a_chat_completion_is_read_whole(value: Any) -> None:
    (message,) = chat.from_openai(value)
    assert isinstance(message, AssistantMessage)
    assert message.reasoning == "hm"
    assert texts_of(message) == ["I look.", "but not there"]
    assert TextBlock("but not there", extra={"openai": {"type": "refusal"}}) in message.blocks
    assert [(call.name, call.call_id, call.arguments, call.content) for call in message.tool_calls] == [
        ("ls", "c1", {"path": "/"}, '{"path": "/"}'),
        ("cat", "c2", None, '{"path": '),
        ("sql", "c3", None, "select 1"),
    ]
    sampled = message.sampled
    assert sampled is not None
    assert sampled.usage == Usage(10, 4, 8, 1)
    assert (sampled.stop_reason, sampled.model, sampled.cost_usd) == ("tool_calls", "m-1", 0.25)
    assert (sampled.token_ids, sampled.prompt_token_ids, sampled.logprobs) == ((7,), (1, 2), (-0.5,))
    assert sampled.metadata == {
        "id": "chatcmpl-1",
        "created": 1,
        "annotations": COMPLETION_MESSAGE["annotations"],
        "logprobs": {"token": ["a"]},
    }
    assert chat.parse_action(value) == message
    (back,) = chat.to_openai([message], reasoning="reasoning_content")
    assert back == {key: value for key, value in COMPLETION_MESSAGE.items() if key != "annotations"}


def test_a_dictionary_with_sdk_objects_inside() -> None:
    message = ChatCompletionMessage.model_validate(COMPLETION_MESSAGE)
    data = {"role": "assistant", "content": message.content, "tool_calls": message.tool_calls}
    (read,) = chat.from_openai(data)
    assert isinstance(read, AssistantMessage)
    assert len(read.tool_calls) == 3
    assert read.text == "I look."


def test_reasoning_details_are_kept_and_given_back() -> None:
    details: list[dict[str, Any]] = [
        {"type": "reasoning.text", "text": "t", "signature": "s", "id": None, "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "d", "id": "rs_1", "format": "openai-responses-v1", "index": 1},
        {"type": "reasoning.summary", "summary": "u", "index": 2},
    ]
    messages = chat.from_openai({"role": "assistant", "content": "x", "reasoning": "t", "reasoning_details": details})
    (back,) = chat.to_openai(messages, reasoning="reasoning_details")
    assert back["reasoning_details"] == [{k: v for k, v in detail.items() if v is not None} for detail in details]
    assert "reasoning" not in chat.to_openai(messages)[0]
    assert chat.to_openai(messages, reasoning="reasoning")[0]["reasoning"] == "tu"


def test_the_rest_of_a_chat() -> None:
    conversation: list[dict[str, Any]] = [
        {"role": "developer", "content": "be good"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                {"type": "input_audio", "input_audio": {}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "done"},
        {"role": "assistant", "content": "ok"},
    ]
    messages = chat.from_openai(conversation)
    assert [m.role for m in messages] == ["system", "user", "user", "assistant", "tool", "assistant"]
    assert messages[1].blocks[1] == ImageBlock(PNG, "image/png", extra={"openai": {"detail": "low"}})
    assert isinstance(messages[2].blocks[0], OpaqueBlock)
    assert messages[4] == ToolMessage("done", "c")
    assert chat.to_openai(messages) == conversation
    (old,) = chat.from_openai({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}})
    assert [call.name for call in chat.parse_action(old).tool_calls] == ["f"]
    assert chat.from_openai({"role": "function", "name": "f", "content": "1"}) == [ToolMessage("1", "", "f")]


@pytest.mark.parametrize("bad", [{"content": "x"}, {"role": "robot", "content": "x"}])
def test_what_is_no_chat_message_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="role is"):
        chat.from_openai(bad)
    with pytest.raises(TypeError, match="not an action"):
        chat.parse_action(bad)


@pytest.mark.parametrize("value", [RESPONSE, Response.model_validate(RESPONSE)], ids=["dict", "object"])
def test_a_response_is_read_whole(value: Any) -> None:
    (message,) = chat.from_openai_responses(value)
    assert isinstance(message, AssistantMessage)
    assert isinstance(thought := message.blocks[0], ReasoningItem)
    assert (thought.content, thought.summary, thought.content_reference) == (None, "s1\ns2", "rs_1")
    assert texts_of(message) == ["I look.", "but not there"]
    assert [(call.name, call.call_id) for call in message.tool_calls] == [("ls", "c1"), ("cat", "c2")]
    assert message.blocks[-1].type == "web_search_call"
    assert message.sampled is not None
    assert message.sampled.usage == Usage(10, 4, 8, 1)
    assert message.sampled.stop_reason == "completed"
    assert chat.parse_action(value) == message
    assert chat.to_openai_responses([message]) == RESPONSE_OUTPUT


def test_items_are_grouped_into_turns() -> None:
    items: list[Any] = [
        "hello",
        {"role": "developer", "content": "be good"},
        ResponseReasoningItem(id="rs", summary=[], type="reasoning"),
        ResponseFunctionToolCall(arguments="{}", call_id="c", name="f", type="function_call"),
        {"type": "function_call_output", "call_id": "c", "output": "done"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}]},
    ]
    messages = chat.from_openai_responses(items)
    assert [m.role for m in messages] == ["user", "system", "assistant", "tool", "assistant", "user"]
    assert len(messages[2].blocks) == 2
    assert messages[2].blocks[0] == ReasoningItem(content_reference="rs")
    back = chat.to_openai_responses(messages)
    assert back == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
        *(item if isinstance(item, dict) else item.model_dump(exclude_none=True) for item in items[1:]),
    ]


@pytest.mark.parametrize("value", [ANTHROPIC_MESSAGE, at.Message.model_validate(ANTHROPIC_MESSAGE)], ids=["dict", "object"])
def test_an_anthropic_message_is_read_whole(value: Any) -> None:
    (message,) = chat.from_anthropic(value)
    assert isinstance(message, AssistantMessage)
    assert message.blocks[0] == ReasoningItem("hm", signature="sig")
    assert isinstance(hidden := message.blocks[1], ReasoningItem)
    assert hidden.content_reference == "blob"
    assert message.text == "I look."
    assert [(call.name, call.call_id, call.arguments) for call in message.tool_calls] == [
        ("ls", "t1", {"path": "/"}),
        ("pwd", "t2", {}),
    ]
    assert message.blocks[5].type == "server_tool_use"
    assert message.sampled is not None
    assert message.sampled.usage == Usage(10, 4, 8, None)
    assert (message.sampled.stop_reason, message.sampled.model) == ("tool_use", "claude")
    assert chat.parse_action(value) == message
    system, (turn,) = chat.to_anthropic([message])
    assert system is None
    expected = [{k: v for k, v in block.items() if v is not None} for block in ANTHROPIC_MESSAGE["content"]]
    assert turn == {"role": "assistant", "content": expected}


def test_anthropic_results_images_and_system() -> None:
    content: list[dict[str, Any]] = [
        {"type": "tool_result", "tool_use_id": "t1", "content": "done"},
        {
            "type": "tool_result",
            "tool_use_id": "t2",
            "content": [
                {"type": "text", "text": "x"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            ],
            "is_error": True,
        },
        {"type": "text", "text": "go on", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "url", "url": "https://x"}},
    ]
    messages = chat.from_anthropic([{"role": "user", "content": content}], system="be good")
    result = messages[1].blocks[1]
    assert isinstance(result, ToolResult)
    assert result.is_error
    assert result.blocks == (TextBlock("x"), ImageBlock(PNG, "image/png"))
    assert chat.to_anthropic(messages) == ("be good", [{"role": "user", "content": content}])
    # Turns of one side become one, and thoughts that another provider wrote become text.
    turns = chat.to_anthropic([UserMessage("a"), ToolMessage("r", "c"), AssistantMessage("b", reasoning="z")])[1]
    assert [turn["role"] for turn in turns] == ["user", "assistant"]
    assert turns[1]["content"][0] == {"type": "text", "text": "z"}
    with pytest.raises(ValueError, match="role is system, user, assistant, not None"):
        chat.from_anthropic({"content": "x"})


def camel(value: Any) -> Any:
    names = {"function_call": "functionCall", "thought_signature": "thoughtSignature", "usage_metadata": "usageMetadata"}
    names |= {"prompt_token_count": "promptTokenCount", "model_version": "modelVersion", "finish_reason": "finishReason"}
    names |= {"candidates_token_count": "candidatesTokenCount", "thoughts_token_count": "thoughtsTokenCount"}
    names |= {
        "cached_content_token_count": "cachedContentTokenCount",
        "executable_code": "executableCode",
        "response_id": "responseId",
    }
    if isinstance(value, dict):
        return {names.get(key, key): camel(item) for key, item in value.items()}
    return [camel(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "value",
    [GEMINI_ANSWER, camel(GEMINI_ANSWER), gt.GenerateContentResponse.model_validate(GEMINI_ANSWER)],
    ids=["dict", "camelCase", "object"],
)
def test_a_gemini_answer_is_read_whole(value: Any) -> None:
    (message,) = chat.from_gemini(value)
    assert isinstance(message, AssistantMessage)
    assert message.reasoning == "hm"
    assert message.text == "I look."
    assert [(call.name, call.call_id, call.arguments) for call in message.tool_calls] == [
        ("ls", "g1", {"path": "/"}),
        ("pwd", "", {}),
    ]
    assert message.tool_calls[0].extra == {"gemini": {"thought_signature": "Af8="}}
    assert isinstance(message.blocks[-1], OpaqueBlock)
    assert message.sampled is not None
    assert message.sampled.usage == Usage(10, 4, 8, 1)
    assert (message.sampled.stop_reason, message.sampled.model) == ("STOP", "gemini-3")
    assert chat.parse_action(value) == message
    _, (turn,) = chat.to_gemini([message])
    assert turn["parts"][2] == {"function_call": {"id": "g1", "name": "ls", "args": {"path": "/"}}, "thought_signature": "Af8="}
    assert gt.Content.model_validate(turn).role == "model"


def test_gemini_function_responses() -> None:
    parts: list[dict[str, Any]] = [
        {"function_response": {"id": "g1", "name": "ls", "response": {"result": "a b"}}},
        {"function_response": {"name": "pwd", "response": {"output": "/"}}},
        {"function_response": {"name": "f", "response": {"rows": [1, 2]}}},
        {"function_response": {"name": "g", "response": {"error": "no"}}},
        {"inline_data": {"mime_type": "image/png", "data": PNG}},
        {"file_data": {"file_uri": "gs://x"}},
    ]
    messages = chat.from_gemini({"role": "user", "parts": parts}, system={"parts": [{"text": "be good"}]})
    results = [block for block in messages[1].blocks if isinstance(block, ToolResult)]
    assert [(r.content, r.name, r.is_error) for r in results] == [
        ("a b", "ls", False),
        ("/", "pwd", False),
        ('{"rows": [1, 2]}', "f", False),
        ("no", "g", True),
    ]
    assert chat.to_gemini(messages) == ("be good", [{"role": "user", "parts": parts}])
    assert chat.from_gemini("hi") == [Message("user", (TextBlock("hi"),))]
    with pytest.raises(ValueError, match="role is user, model"):
        chat.from_gemini({"role": "robot", "parts": []})


@pytest.mark.parametrize(
    "value",
    [
        {"name": "ls", "arguments": {"path": "/"}},
        {"name": "ls", "arguments": '{"path": "/"}'},
        {"name": "ls", "input": {"path": "/"}},
        '{"name": "ls", "arguments": {"path": "/"}}',
        '[{"name": "ls", "arguments": {"path": "/"}}]',
        [{"name": "ls", "arguments": {"path": "/"}}],
        ({"name": "ls", "args": {"path": "/"}},),
        {"name": "ls", "arguments": {"path": np.str_("/")}},
        ToolCall("ls", {"path": "/"}),
        [ToolCall("ls", {"path": "/"})],
        AssistantMessage(tool_calls=[ToolCall("ls", {"path": "/"})]),
        Message("assistant", (ToolCall("ls", {"path": "/"}),)),
        {"id": "c", "type": "function", "function": {"name": "ls", "arguments": '{"path": "/"}'}},
        {"function": {"name": "ls", "arguments": {"path": "/"}}},
        {"type": "function_call", "call_id": "c", "name": "ls", "arguments": '{"path": "/"}'},
        {"type": "tool_use", "id": "c", "name": "ls", "input": {"path": "/"}},
        {"type": "tool_call", "id": "c", "name": "ls", "input": {"path": "/"}},
        at.ToolUseBlock(id="c", name="ls", input={"path": "/"}, type="tool_use"),
        ResponseFunctionToolCall(arguments='{"path": "/"}', call_id="c", name="ls", type="function_call"),
        gt.FunctionCall(name="ls", args={"path": "/"}),
        gt.Part(function_call=gt.FunctionCall(name="ls", args={"path": "/"})),
        gt.Content(role="model", parts=[gt.Part(function_call=gt.FunctionCall(name="ls", args={"path": "/"}))]),
        {"functionCall": {"name": "ls", "args": {"path": "/"}}},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "ls", "input": {"path": "/"}}]},
    ],
)
def test_every_form_of_a_call_is_an_action(value: Any) -> None:
    action = chat.parse_action(value)
    assert [(call.name, call.arguments) for call in action.tool_calls] == [("ls", {"path": "/"})]
    assert action.text == ""


@pytest.mark.parametrize(
    "text", ["the answer is 42", "", "{not json", '{"answer": 42}', "[1, 2]", '{"name": "Bob", "age": 3}', "[]", "{}", '"x"']
)
def test_text_that_is_no_call_is_what_the_assistant_says(text: str) -> None:
    assert chat.parse_action(text) == AssistantMessage(text)


def test_malformed_calls_of_a_model_are_kept_for_the_env_to_answer() -> None:
    (call,) = chat.parse_action({"name": "ls", "arguments": "{oops"}).tool_calls
    assert (call.arguments, call.content) == (None, "{oops")
    (call,) = chat.parse_action({"name": "ls", "arguments": [1]}).tool_calls
    assert (call.arguments, call.content) == (None, "[1]")
    assert chat.parse_action({"name": "ls"}).tool_calls == (ToolCall("ls", {}),)


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        2.5,
        object(),
        {},
        {"foo": 1},
        [1],
        [None],
        {"role": "user", "content": "x"},
        UserMessage("x"),
        ToolResult("x"),
        {"name": 3},
        [UserMessage("x")],
        {"choices": []}.keys(),
    ],
)
def test_what_is_no_action_is_refused_with_what_was_given(value: Any) -> None:
    with pytest.raises(TypeError, match=r"is not an action .*: give a call"):
        chat.parse_action(value)


texts = st.text(min_size=1, max_size=20)
names = st.text("abcdefgh_", min_size=1, max_size=8)
objects = st.dictionaries(names, st.none() | st.integers() | texts, max_size=3)
calls = st.builds(ToolCall, names, objects, names)
images = st.builds(ImageBlock.from_bytes, st.binary(min_size=1, max_size=9))
turns = st.one_of(
    st.builds(UserMessage, texts | st.lists(st.builds(TextBlock, texts) | images, min_size=1, max_size=3)),
    st.builds(AssistantMessage, texts, st.lists(calls, max_size=3)),
    st.builds(AssistantMessage, st.just(""), st.lists(calls, min_size=1, max_size=2)),
    st.builds(ToolMessage, texts, names),
)
conversations = st.builds(
    lambda system, rest: [SystemMessage(system), *rest] if system else rest, st.none() | texts, st.lists(turns, max_size=6)
)


def flat(messages: list[Message]) -> list[Any]:
    """Return the content, independent of the borders of messages and the spelling of arguments."""
    items: list[Any] = []
    for turn in messages:
        for message in split_results(turn):
            for block in message.blocks:
                if isinstance(block, ToolCall):
                    items.append(("call", block.name, block.arguments, block.call_id))
                else:
                    items.append((message.role, message.call_id, block))
    return items


DIALECTS = (chat.OpenAIChatDialect(), chat.OpenAIResponsesDialect(), chat.AnthropicDialect(), chat.GeminiDialect())


@given(conversations)
@settings(max_examples=EXAMPLES, deadline=None)
def test_conversations_survive_every_format(messages: list[Message]) -> None:
    expected = flat(messages)
    for dialect in DIALECTS:
        system, turns = dialect.write(messages)
        assert flat(dialect.read(turns, system=system)) == expected, dialect


lines = st.text("abc ?!", min_size=1, max_size=20).filter(lambda text: text.strip() == text)
written = st.one_of(
    st.builds(UserMessage, lines),
    st.builds(ToolMessage, lines),
    st.builds(AssistantMessage, lines, st.lists(st.builds(ToolCall, names, objects), max_size=2), reasoning=st.none() | lines),
)


@given(st.lists(written, max_size=4))
@settings(max_examples=EXAMPLES, deadline=None)
def test_conversations_survive_as_raw_text(messages: list[Message]) -> None:
    dialect = chat.RawTextDialect()
    _, turns = dialect.write(messages)
    assert all(isinstance(turn["content"], str) for turn in turns)
    again = dialect.read(turns)
    assert [(m.role, m.text, m.reasoning) for m in again] == [(m.role, m.text, m.reasoning) for m in messages]
    assert [[(c.name, c.arguments) for c in m.tool_calls] for m in again] == [
        [(c.name, c.arguments) for c in m.tool_calls] for m in messages
    ]


@pytest.mark.parametrize("bad", [3, {"role": "user"}, {"role": "robot", "content": "x"}, {"role": "user", "content": ["x"]}])
def test_raw_text_takes_text_alone(bad: Any) -> None:
    with pytest.raises(TypeError):
        chat.RawTextDialect().read(bad)


def anthropic_answer(stop_reason: str | None, *blocks: Any) -> Message:
    return chat.from_anthropic({"role": "assistant", "content": list(blocks), "stop_reason": stop_reason})[0]


def completion(finish_reason: str | None, message: Any = None, **choice: Any) -> Message:
    choices = [{"finish_reason": finish_reason, "message": message or {"role": "assistant", "content": "x"}, **choice}]
    return chat.from_openai({"choices": choices})[0]


def gemini_answer(finish_reason: str, *parts: Any) -> Message:
    return chat.from_gemini({"candidates": [{"finishReason": finish_reason, "content": {"parts": list(parts)}}]})[0]


def response(**fields: Any) -> Message:
    return chat.from_openai_responses({"output": [], **fields})[0]


CALL_ITEM = {"type": "function_call", "name": "f", "call_id": "c", "arguments": "{}"}
CHAT_CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}


@pytest.mark.parametrize(
    ("message", "ended"),
    [
        (completion("stop"), "stop"),
        (completion("stop", CHAT_CALL), "tool_calls"),
        (completion("tool_calls", CHAT_CALL), "tool_calls"),
        (completion("length", CHAT_CALL), "length"),
        (completion("content_filter"), "content_filter"),
        (completion("stop", {"role": "assistant", "content": None, "refusal": "I can't."}), "refusal"),
        (completion("a_new_reason"), "unknown"),
        (completion(None), None),
        (completion("stop", error={"code": 502}), "error"),
        (chat.from_openai({"choices": []})[0], "error"),
        (anthropic_answer("end_turn", {"type": "text", "text": "x"}), "stop"),
        (anthropic_answer("tool_use", {"type": "tool_use", "id": "t", "name": "f", "input": {}}), "tool_calls"),
        (anthropic_answer("max_tokens"), "length"),
        (anthropic_answer("pause_turn"), "pause"),
        (anthropic_answer("refusal"), "refusal"),
        (anthropic_answer("model_context_window_exceeded"), "context_overflow"),
        (gemini_answer("STOP", {"text": "x"}), "stop"),
        (gemini_answer("STOP", {"functionCall": {"name": "f", "args": {}}}), "tool_calls"),
        (gemini_answer("MAX_TOKENS", {"text": "x"}), "length"),
        (gemini_answer("SAFETY"), "content_filter"),
        (gemini_answer("MALFORMED_FUNCTION_CALL"), "malformed"),
        (chat.from_gemini({"candidates": [], "promptFeedback": {"blockReason": "SAFETY"}})[0], "content_filter"),
        (chat.from_gemini({"candidates": []})[0], "error"),
        (response(status="completed", output=[CALL_ITEM]), "tool_calls"),
        (response(status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
        (response(status="failed"), "error"),
        (chat.from_openai_responses([{**CALL_ITEM, "status": "completed"}])[0], "tool_calls"),
        (chat.from_openai_responses([{**CALL_ITEM, "status": "incomplete"}])[0], None),
        (chat.from_openai({"role": "assistant", "content": "x"})[0], None),
    ],
)
def test_every_provider_s_word_for_the_end_of_a_turn(message: Message, ended: str | None) -> None:
    assert message.ended == ended


def test_the_provider_s_own_word_is_kept() -> None:
    message = gemini_answer("RECITATION")
    assert message.sampled is not None
    assert (message.ended, message.sampled.stop_reason) == ("content_filter", "RECITATION")


def test_the_weight_of_a_turn() -> None:
    """`weight` marks the trained turns in OpenAI's files for fine-tuning; the API does not accept it."""
    (message,) = chat.from_openai({"role": "assistant", "content": "x", "weight": 0})
    assert (message.weight, message.sampled) == (0.0, None)
    assert chat.to_openai([message]) == [{"role": "assistant", "content": "x"}]


def test_an_action_keeps_the_fields_of_its_message() -> None:
    message = Message("assistant", (TextBlock("x"),), origin="policy", ended="stop", weight=0.5)
    assert chat.parse_action(message) == message


KEYS = ["role", "content", "type", "name", "arguments", "parts", "choices", "candidates", "output", "function", "text", "input"]
WORDS = ["assistant", "model", "tool_use", "tool_result", "text", "function_call", "reasoning", "message", "thinking", "image"]
near_misses = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYS, "tool_calls"]), inner, max_size=4),
)


@given(near_misses)
@settings(max_examples=EXAMPLES * 5, deadline=None)
def test_hostile_values_are_actions_or_type_errors(value: Any) -> None:
    with contextlib.suppress(TypeError):
        assert isinstance(chat.parse_action(value), AssistantMessage)


def test_an_empty_text_is_written_as_it_was_read() -> None:
    user = {"role": "user", "content": [{"type": "text", "text": ""}]}
    assert chat.to_anthropic(chat.from_anthropic([user]))[1] == [user]
    (written,) = chat.to_openai(chat.from_openai([user]))
    assert written["content"] in ("", user["content"])


@pytest.mark.parametrize("empty", [None, ""])
def test_a_call_without_arguments_gets_none_invented(empty: str | None) -> None:
    call = {"id": "1", "type": "custom", "custom": {"name": "f", "input": empty}}
    (message,) = chat.from_openai({"role": "assistant", "content": None, "tool_calls": [call]})
    assert message.tool_calls[0].content == ""
    (item,) = chat.from_openai_responses([{"type": "function_call", "name": "f", "call_id": "1", "arguments": empty}])
    assert item.tool_calls[0].content == ""


@pytest.mark.parametrize("texts", [[""], ["a", ""], ["", "a"]])
def test_empty_entries_of_a_list_are_kept(texts: list[str]) -> None:
    for read in (chat.from_openai, chat.from_anthropic, chat.from_openai_responses):
        (message,) = read([{"role": "user", "content": texts}])
        assert texts_of(message) == texts


def test_an_answer_to_a_plain_message_is_a_turn_of_the_user() -> None:
    """Providers refuse a result that answers no call."""
    messages = [UserMessage("q"), AssistantMessage("4?"), ToolMessage("No.", "", "grade"), AssistantMessage("5")]
    assert chat.to_openai(messages)[2] == {"role": "user", "content": "No."}
    assert chat.to_openai_responses(messages)[2]["role"] == "user"
    assert chat.to_anthropic(messages)[1][2]["content"] == [{"type": "text", "text": "No."}]
    assert chat.to_gemini(messages)[1][2]["parts"] == [{"text": "No."}]


def test_the_texts_of_an_answer_are_sent_as_one() -> None:
    message = AssistantMessage([TextBlock("2,7"), TextBlock("37 m")])
    assert chat.to_openai([message]) == [{"role": "assistant", "content": "2,737 m"}]
