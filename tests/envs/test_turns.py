"""What a message of the model is taken for, by how it ended: of most endings nothing may reach the environment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scripted_session import Session

from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.episode import Episode, as_message, take_step
from openreward_gym.envs.turns import MOST_REPLIES, REPLIES, is_no_answer, turn_kind
from openreward_gym.errors import PolicyError
from openreward_gym.options import OnLength
from openreward_gym.types import (
    AssistantMessage,
    Ended,
    OpaqueBlock,
    ReasoningItem,
    Sampled,
    Task,
    TerminalTool,
    TextBlock,
    ToolCall,
    ToolOutput,
    ToolSet,
    ToolSpec,
)

TOOLS = ToolSet((ToolSpec("look_up"), ToolSpec("hand_in")), TerminalTool("submit", "text"))
CALL = ToolCall("look_up", {"word": "tide"}, "c1")
THOUGHT = ReasoningItem("The tide turns at six, so")


def play(message: AssistantMessage, session: Session | None = None, before: int = 0, **options: Any) -> Any:
    """Play a message after `before` others like it, and return (step, what the session was asked)."""
    session = session or Session(ToolOutput(reward=1.0))
    episode = Episode("e", None, None, Task("train", 0), TOOLS, ())
    for _ in range(before):
        step, _ = asyncio.run(take_step(session, episode, message, **options))
        episode.steps.append(step)
    step, _ = asyncio.run(take_step(session, episode, message, **options))
    return step, session.asked


@pytest.mark.parametrize("ended", ["content_filter", "context_overflow"])
@pytest.mark.parametrize("blocks", [[], [TextBlock("The tide tur")], [THOUGHT], [CALL], [TextBlock("I look."), CALL]])
def test_what_was_withheld_truncates_and_reaches_no_tool(ended: Ended, blocks: list[Any]) -> None:
    step, asked = play(AssistantMessage(blocks, ended=ended))
    assert (asked, step.truncated, step.terminated, step.stop_reason) == ([], True, False, ended)
    assert (step.has_reward, step.reply) == (False, "")


@pytest.mark.parametrize(
    ("blocks", "word", "stop_reason", "calls"),
    [
        ([], None, "refusal", 0),
        ([TextBlock("I can")], "refusal", "refusal", 0),
        ([CALL], "refusal", "refusal", 0),
        ([TextBlock("I will not do that.")], "stop", "message", 1),
    ],
    ids=["no words", "the provider's", "the provider's, after a call", "the model's own words"],
)
def test_a_refusal_is_an_answer_only_in_the_models_words(blocks: list[Any], word: Any, stop_reason: str, calls: int) -> None:
    step, asked = play(AssistantMessage(blocks, sampled=Sampled(stop_reason=word), ended="refusal"))
    assert (len(asked), step.stop_reason) == (calls, stop_reason)


CALLS_AS_TEXT = [
    '<function_calls>\n<invoke name="look_up">\n<parameter name="word">tide</parameter>\n</invoke>',
    '<minimax:tool_call>\n<invoke name="look_up">',
    '<｜DSML｜function_calls>\n<｜DSML｜invoke name="look_up">',
    '<TOOLCALL>[{"name": "look_up"}]</TOOLCALL>',
    '<|START_ACTION|>[{"tool_name": "look_up"}]<|END_ACTION|>',
    "<start_function_call>call:look_up{word:<escape>tide<escape>}",
    'functools[{"name": "look_up", "arguments": {}}]',
    '```tool_code\nprint(look_up(word="tide"))\n```',
    'look_up[ARGS]{"word": "tide"}',
    'look_up{"word": "tide"}',
    'commentary to=functions.look_up json{"word":"tide"}',
    '[look_up(word="tide")]',
    'look_up(word="tide")',
    '{"name": "look_up", "parameters": {"word": "tide"}}',
    '{"type": "function", "function": {"name": "functions.look_up", "arguments": "{}"}}',
    '{"tool_calls": [{"function": {"name": "look_up", "arguments": "{}"}}]}',
    '<think>I look.</think>\n[{"name": "look_up", "arguments": {"word": "tide"}}]',
    'I look.\n```json\n{"name": "look_up", "arguments": {"word": "tide"}}\n```',
    'Thought: which?\nAction: look_up\nAction Input: {"word": "tide"}',
]
TEXTS_ABOUT_CALLS = [
    "A call begins with <tool_call>.",
    "The look_up tool is slow.",
    "[TOOL_CALLS]",
    'Call look_up(word="tide") to know that.',
    '{"name": "tide", "arguments": 3}',
    '{"name": "look_up", "count": 3}',
    "look_up(x)",
    "```python\ndef f(x):\n    return look_up(x)\n```",
]
CUT_OFF: dict[str, list[Any]] = {
    "torn arguments": [TextBlock("I look."), ToolCall("look_up", content='{"word": "ti')],
    "balanced arguments": [CALL],
    "two calls": [CALL, ToolCall("hand_in", {}, "c2")],
    "text": [TextBlock("The tide turns at")],
    "reasoning": [THOUGHT],
    "nothing": [],
}


@pytest.mark.parametrize("blocks", CUT_OFF.values(), ids=CUT_OFF)
def test_the_model_is_told_that_the_limit_cut_its_message_off(blocks: list[Any]) -> None:
    step, asked = play(AssistantMessage(blocks, ended="length"))
    assert (asked, step.truncated, step.terminated, step.has_reward) == ([], False, False, False)
    calls = [block for block in blocks if isinstance(block, ToolCall)]
    assert [message.text for message in step.messages[1:]] == [REPLIES["cut_off"]] * max(len(calls), 1)
    assert {message.origin for message in step.messages[1:]} == {"client"}
    assert [message.call_id for message in step.messages[1:] if message.role == "tool"] == [call.call_id for call in calls]
    assert {result.output.error_kind for result in step.results} <= {"cut_off"}


@pytest.mark.parametrize("blocks", CUT_OFF.values(), ids=CUT_OFF)
def test_or_the_episode_is_truncated(blocks: list[Any]) -> None:
    step, asked = play(AssistantMessage(blocks, ended="length"), on_length="truncate")
    assert (asked, step.truncated, step.stop_reason, step.has_reward) == ([], True, "length", False)


@pytest.mark.parametrize("name", CUT_OFF)
def test_or_a_text_is_played_as_it_is_and_calls_never_are(name: str) -> None:
    step, asked = play(AssistantMessage(CUT_OFF[name], ended="length"), on_length="play")
    assert asked == ([("submit", {"text": "The tide turns at"})] if name == "text" else [])
    assert step.terminated == (name == "text")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (AssistantMessage(""), "empty"),
        (AssistantMessage("  \n"), "empty"),
        (AssistantMessage([THOUGHT], ended="stop"), "empty"),
        (AssistantMessage("", ended="malformed"), "malformed"),
        (AssistantMessage('<tool_call>\n{"name": "look_up", "arguments": {"word": "tide"}}\n</tool_call>'), "call_as_text"),
        (AssistantMessage('I look.[TOOL_CALLS][{"name": "look_up", "arguments": {}}]', ended="stop"), "call_as_text"),
        (AssistantMessage("<function=hand_in></function>"), "call_as_text"),
        (AssistantMessage("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>look_up"), "call_as_text"),
        (AssistantMessage("<|channel|>commentary to=functions.look_up <|message|>{}"), "call_as_text"),
        (AssistantMessage("I look it up.", ended="tool_calls"), "malformed"),
        (AssistantMessage([OpaqueBlock({"type": "web_search_call", "id": "w"})], ended="stop"), "empty"),
        *((AssistantMessage(text), "call_as_text") for text in CALLS_AS_TEXT),
        (AssistantMessage("<|tool_calls_section_begin|><|tool_call_begin|>functions.look_up:0"), "call_as_text"),
    ],
)
def test_a_turn_that_says_nothing_gets_a_reply(message: AssistantMessage, kind: Any) -> None:
    assert turn_kind(message, TOOLS) == kind
    step, asked = play(message)
    assert (asked, step.reply, step.truncated, step.terminated) == ([], REPLIES[kind], False, False)


@pytest.mark.parametrize("text", TEXTS_ABOUT_CALLS)
def test_a_text_about_calls_is_an_answer(text: str) -> None:
    assert turn_kind(AssistantMessage(text), TOOLS) == "answer"


def test_a_pause_of_the_provider_lets_the_model_go_on() -> None:
    step, asked = play(AssistantMessage("I search the web.", ended="pause"))
    assert (asked, step.reply, step.truncated, step.terminated, len(step.messages)) == ([], "", False, False, 1)
    step, asked = play(AssistantMessage([CALL], ended="pause"))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("message", "options", "stop_reason"),
    [
        (AssistantMessage([CALL], ended="length"), {}, "length"),
        (AssistantMessage(""), {}, "no_action"),
        (AssistantMessage([ToolCall("look_up", content="{")]), {}, "no_action"),
        (AssistantMessage("<tool_call>look_up"), {}, "no_action"),
        (AssistantMessage("", ended="pause"), {}, "no_action"),
    ],
)
def test_turns_that_reach_no_tool_end_some_day(message: AssistantMessage, options: Any, stop_reason: str) -> None:
    step, asked = play(message, before=MOST_REPLIES - 2, **options)
    assert not step.truncated
    step, asked = play(message, before=MOST_REPLIES - 1, **options)
    assert (asked, step.truncated, step.stop_reason, step.has_reward) == ([], True, stop_reason, False)


def test_a_call_that_ran_begins_the_count_again() -> None:
    session = Session(ToolOutput(), ToolOutput())
    episode = Episode("e", None, None, Task("train", 0), TOOLS, ())
    turns = [AssistantMessage("")] * (MOST_REPLIES - 1)
    for message in [*turns, AssistantMessage([CALL]), *turns, AssistantMessage([CALL])]:
        step, _ = asyncio.run(take_step(session, episode, message))
        episode.steps.append(step)
        assert not step.truncated


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "The tide turns"},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "look_up", "arguments": '{"word": "tide"}'}}]},
    ],
)
def test_an_answer_whose_stream_broke_off_is_a_failure_of_the_policy(delta: dict[str, Any]) -> None:
    deltas = ({"role": "assistant"}, delta)
    chunks = [{"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": one}]} for one in deltas]
    with pytest.raises(PolicyError, match="broke off") as raised:
        as_message(chunks)
    assert raised.value.kind == "policy_unavailable"
    ended = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    assert as_message([*chunks, ended]).ended in ("stop", "tool_calls")


def test_no_answer_is_told_from_an_ending_that_explains_it() -> None:
    endings: list[Ended | None] = [None, "stop", "tool_calls", "unknown"]
    assert [is_no_answer(AssistantMessage("", ended=ended)) for ended in endings] == [True] * 4
    explained: list[Ended] = ["length", "content_filter", "refusal", "pause", "malformed", "context_overflow"]
    assert not any(is_no_answer(AssistantMessage("", ended=ended)) for ended in explained)
    assert not is_no_answer(AssistantMessage([THOUGHT]))


def test_what_is_no_json_is_no_argument() -> None:
    (call,) = as_message({"name": "look_up", "arguments": {"depth": float("nan")}}).tool_calls
    assert (call.arguments, call.content) == (None, '{"depth": NaN}')


@pytest.mark.parametrize("on_length", ["tell", "truncate", "play"])
def test_over_a_real_server(server_url: str, on_length: OnLength) -> None:
    env = OpenRewardEnv("echo", base_url=server_url, on_length=on_length)
    env.reset(seed=0)
    function = {"name": "finish", "arguments": '{"text": "right"}'}
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": function}]}
    choice = {"finish_reason": "length", "message": message}
    answer: dict[str, Any] = {"object": "chat.completion", "model": "m", "choices": [choice]}
    observation, reward, terminated, truncated, info = env.step(answer)
    assert (reward, info["reward_is_null"], terminated, truncated) == (0.0, True, False, on_length == "truncate")
    if on_length != "truncate":
        assert (observation, info["error_kind"]) == (REPLIES["cut_off"], "cut_off")
        choice["finish_reason"] = "tool_calls"
        assert env.step(answer)[1:3] == (1.0, True)
    env.reset(seed=0)
    with pytest.raises(PolicyError, match="gave no answer"):
        env.step({"object": "chat.completion", "model": "m", "choices": [{"finish_reason": "error", "message": {"content": ""}}]})
    env.close()
