"""Observations with `obs_mode="messages"`: the conversation whole, so that a policy can write it for any provider again."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openreward_gym.chat import (
    from_anthropic,
    from_openai,
    from_openai_responses,
    to_anthropic,
    to_gemini,
    to_openai,
    to_openai_responses,
)
from openreward_gym.envs import MessagesSpace, OpenRewardEnv
from openreward_gym.envs.observations import TranscriptObserver
from openreward_gym.types import (
    AssistantMessage,
    ImageBlock,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Sampled,
    SystemMessage,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolResult,
    UserMessage,
    split_results,
)
from openreward_gym.wrappers import TruncateObservation

WRITERS: dict[str, Callable[[Any], Any]] = {
    "openai": to_openai,
    "openai for a server": lambda messages: to_openai(messages, for_server=True),
    "openai with reasoning": lambda messages: to_openai(messages, reasoning="auto"),
    "reasoning_details": lambda messages: to_openai(messages, reasoning="reasoning_details"),
    "responses": to_openai_responses,
    "anthropic": to_anthropic,
    "anthropic for a server": lambda messages: to_anthropic(messages, for_server=True),
    "gemini": to_gemini,
}
PNG = "iVBORw0KGgo="

ANTHROPIC = [
    {"role": "user", "content": [{"type": "text", "text": "Compare.", "cache_control": {"type": "ephemeral"}}]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Both cities.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "aGlkZGVu"},
            {"type": "text", "text": "First Oslo."},
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}},
            {"type": "text", "text": "Then Rome."},
            {"type": "tool_use", "id": "toolu_2", "name": "get_weather", "input": {"city": "Rome"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no such city", "is_error": True},
            {
                "type": "tool_result",
                "tool_use_id": "toolu_2",
                "content": [
                    {"type": "text", "text": "A map:"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                ],
            },
            {"type": "text", "text": "Go on."},
        ],
    },
    {"role": "assistant", "content": [{"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}}]},
]
OPENAI = [
    {"role": "developer", "content": "Be brief."},
    {
        "role": "user",
        "content": [{"type": "text", "text": "See:"}, {"type": "image_url", "image_url": {"url": "https://e.com/a"}}],
    },
    {
        "role": "assistant",
        "content": None,
        "reasoning": "A look first.",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}},
            {"id": "call_2", "type": "function", "function": {"name": "look", "arguments": '{"a": '}},
            {"id": "call_3", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "a.txt"},
    {"role": "tool", "tool_call_id": "call_2", "content": "not JSON"},
    {"role": "tool", "tool_call_id": "call_3", "content": ""},
    {"role": "assistant", "content": None, "refusal": "I cannot."},
    {"role": "user", "content": "Why?", "name": "anna"},
]
RESPONSES = [
    {"role": "user", "content": "2 + 2?"},
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Sum."}, {"type": "summary_text", "text": "Check."}],
        "encrypted_content": "Z0FB",
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "I add.", "annotations": []}],
    },
    {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add", "arguments": "{}", "status": "completed"},
    {"type": "function_call_output", "call_id": "call_1", "output": "4"},
]
OWN: list[Message] = [
    SystemMessage("Be brief.", origin="given"),
    UserMessage("Weather?", origin="given"),
    AssistantMessage("Oslo is cold.", reasoning="The user may mean Oslo.", origin="given"),
    UserMessage(
        [TextBlock("And"), TextBlock("Rome?", detail={"n": 1}), ImageBlock(PNG, detail={"from": "camera"})], origin="given"
    ),
    AssistantMessage(
        [
            ReasoningItem("Look.", signature="s"),
            TextBlock("I look."),
            ToolCall("look", {"city": "Rome"}, "c1"),
            TextBlock("Now."),
        ],
        origin="policy",
        sampled=Sampled(metadata={"reasoning_field": "reasoning"}),
    ),
    ToolMessage("no such city", "c1", "look", True, origin="environment", metadata={"golden": "sun"}),
    AssistantMessage("It is sunny.", origin="policy"),
    ToolMessage("Well done.", "", "answer", origin="environment"),
    UserMessage([OpaqueBlock({"type": "video", "url": "v"}), OpaqueBlock({"url": "no type"})], origin="environment"),
]
CONVERSATIONS = {
    "ours": OWN,
    "anthropic": from_anthropic(ANTHROPIC, system="Be brief."),
    "openai": from_openai(OPENAI),
    "responses": from_openai_responses(RESPONSES),
}


def observed(messages: list[Message]) -> tuple[Any, ...]:
    return TranscriptObserver().observe(messages)


@pytest.mark.parametrize("written_for", WRITERS)
@pytest.mark.parametrize("source", CONVERSATIONS)
def test_a_policy_can_write_the_conversation_for_every_provider_again(source: str, written_for: str) -> None:
    messages = CONVERSATIONS[source]
    write = WRITERS[written_for]
    observation = observed(messages)
    assert observation in MessagesSpace()
    assert write(from_openai(observation)) == write(messages)
    through_json = json.loads(json.dumps(MessagesSpace().to_jsonable([observation])))
    assert write(from_openai(MessagesSpace().from_jsonable(through_json)[0])) == write(messages)


def test_a_providers_conversation_comes_back_as_it_was() -> None:
    assert to_anthropic(from_openai(observed(CONVERSATIONS["anthropic"]))) == ("Be brief.", ANTHROPIC)
    assert to_openai_responses(from_openai(observed(CONVERSATIONS["responses"]))) == RESPONSES
    again = to_openai(from_openai(observed(CONVERSATIONS["openai"])), reasoning="reasoning")
    assert again == OPENAI


def test_plain_messages_have_the_fields_of_the_format_alone() -> None:
    call = ToolCall("look", {"city": "Rome"}, "c1")
    messages = [UserMessage("Hi"), AssistantMessage("I look.", [call]), ToolMessage("sun", "c1", "look")]
    assert observed(messages) == (
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"city": "Rome"}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sun", "name": "look"},
    )


def test_reasoning_and_errors_are_fields_that_anyone_can_read() -> None:
    observation = observed(OWN)
    assert [message.get("reasoning_content") for message in observation if message["role"] == "assistant"] == [
        "The user may mean Oslo.",
        "Look.",
        None,
    ]
    assert [message.get("is_error") for message in observation if message.get("tool_call_id")] == [True]
    assert "golden" not in json.dumps(observation)  # the environment's data is in info["metadata"]


def test_an_observation_belongs_to_its_reader() -> None:
    observer = TranscriptObserver()
    first = observer.observe(OWN[:3])
    first[0]["content"] = "changed"
    assert observer.observe(OWN)[0]["content"] == "Be brief."
    assert observer.observe(OWN) == observed(OWN)
    assert observer.observe(OWN[:2]) == observed(OWN[:2])
    assert pickle.loads(pickle.dumps(observed(OWN))) == observed(OWN)


@pytest.mark.parametrize("beside", [3, {}, {"role": "narrator"}, {"role": "user", "blocks": 3}, {"reasoning_field": 3}])
def test_data_of_others_under_our_key_is_ignored(beside: Any) -> None:
    (message,) = from_openai([{"role": "user", "content": "Hi", "openreward": beside}])
    assert (message.role, message.text) == ("user", "Hi")


TEXT = st.text(st.characters(codec=None), max_size=8)
EXTRA = st.sampled_from([{}, {"openai": {"id": "x"}}, {"anthropic": {"citations": [1]}}])
SAID = st.one_of(
    st.builds(TextBlock, TEXT, extra=EXTRA),
    st.builds(ImageBlock, st.sampled_from(["", PNG, "no base64!"]), extra=EXTRA),
    st.builds(OpaqueBlock, st.dictionaries(st.sampled_from(["type", "url"]), TEXT | st.integers(), max_size=2)),
)
THOUGHT = st.builds(ReasoningItem, st.none() | TEXT, st.none() | TEXT, st.none() | TEXT, st.none() | TEXT, extra=EXTRA)
CALL = st.builds(ToolCall, TEXT, st.dictionaries(TEXT, st.integers(), max_size=2), TEXT, st.none() | TEXT, extra=EXTRA)
RESULT = st.builds(ToolResult, TEXT | st.lists(SAID, max_size=2), TEXT, TEXT, st.booleans())
MESSAGE = st.one_of(
    st.builds(SystemMessage, st.lists(SAID, max_size=2)),
    st.builds(UserMessage, st.lists(SAID | RESULT, max_size=3), name=st.none() | TEXT),
    st.builds(AssistantMessage, st.lists(SAID | THOUGHT | CALL, max_size=4), origin=st.sampled_from(["given", "policy"])),
    st.builds(ToolMessage, st.lists(SAID, max_size=2), TEXT, st.none() | TEXT, st.booleans()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(MESSAGE, max_size=4))
def test_any_conversation_survives(messages: list[Message]) -> None:
    messages = [part for message in messages for part in split_results(message)]  # as an env has them
    observation = observed(messages)
    assert observation in MessagesSpace()
    read = from_openai(observation)
    for write in (to_openai, to_anthropic, to_openai_responses, to_gemini):
        assert write(read) == write(messages)


def test_in_an_env(server_url: str) -> None:
    env = OpenRewardEnv("echo", base_url=server_url, obs_mode="messages")
    env.reset()
    action = AssistantMessage([ReasoningItem("Hm.", signature="s"), ToolCall("echo", {"text": 3}, "c1")])
    observation, *_ = env.step(action)
    assert observation in env.observation_space
    assert (observation[1]["reasoning_content"], observation[2]["is_error"]) == ("Hm.", True)
    assert to_anthropic(from_openai(observation)) == to_anthropic(env.messages)
    again, _ = env.reset()
    assert [message["role"] for message in again] == ["user"]
    env.close()


def test_a_cut_observation_keeps_no_copy_of_the_whole_text(server_url: str) -> None:
    env = TruncateObservation(OpenRewardEnv("echo", base_url=server_url, obs_mode="messages"), max_chars=20)
    env.reset()
    secret = "x" * 500
    observation, *_ = env.step({"name": "echo", "arguments": {"text": secret}})
    assert secret not in json.dumps(observation[-1])
    env.close()
