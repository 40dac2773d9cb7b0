"""Messages: copies, turns made of pieces, results that ride in one turn."""

from __future__ import annotations

from typing import Any

import pytest

from openreward_gym.types import (
    AssistantMessage,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Rollout,
    RolloutEnvironment,
    Sampled,
    Task,
    TextBlock,
    ToolCall,
    ToolMessage,
    ToolOutput,
    ToolResult,
    Usage,
    UserMessage,
    join_turns,
    split_results,
)
from openreward_gym.types.rollout import server_origin, total_cost, total_reward, total_usage


def test_a_copy_keeps_the_class_and_the_original_stays() -> None:
    message = AssistantMessage("hi", sampled=Sampled(model="m"))
    copy = message.replace(origin="policy")
    assert type(copy) is AssistantMessage
    assert (copy.origin, message.origin, copy.sampled) == ("policy", None, message.sampled)
    assert copy != message
    assert copy == Message("assistant", (TextBlock("hi"),), origin="policy", sampled=Sampled(model="m"))
    with pytest.raises(TypeError, match="colour"):
        message.replace(colour="blue")


def test_blocks_may_be_given_as_a_list() -> None:
    blocks: Any = [TextBlock("a")]
    assert Message("user", blocks) == Message("user", (TextBlock("a"),))


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        UserMessage("hi").origin = "given"  # type: ignore[misc]


def test_results_of_one_turn_become_messages_in_order() -> None:
    turn = UserMessage(
        [ToolResult("7", "a", "get", is_error=True), TextBlock("and"), ToolResult([TextBlock("9")], "b", detail={"n": 1})],
        origin="environment",
        reward=0.5,
        finished=True,
    )
    parts = split_results(turn)
    assert [(part.role, part.text, part.call_id, part.is_error) for part in parts] == [
        ("tool", "7", "a", True),
        ("user", "and", None, False),
        ("tool", "9", "b", False),
    ]
    assert {part.origin for part in parts} == {"environment"}
    assert [part.reward for part in parts] == [None, None, 0.5]
    assert [part.finished for part in parts] == [False, False, True]
    assert parts[2].metadata == {"n": 1}
    assert split_results(parts[1]) == [parts[1]]


@pytest.mark.parametrize(
    "between",
    [{"sampled": Sampled(model="m")}, {"reward": 1.0}, {"metadata": {"a": 1}}, {"origin": "given"}, {"weight": 0.0}],
)
def test_a_turn_that_is_complete_or_somebody_elses_is_not_continued(between: dict[str, Any]) -> None:
    pieces: list[Message] = [AssistantMessage([ReasoningItem("hm")], **between), AssistantMessage("so")]
    assert len(join_turns(pieces)) == 2
    assert len(join_turns([AssistantMessage([ReasoningItem("hm")]), AssistantMessage("so")])) == 1


def test_an_output_is_the_message_that_answers_its_call() -> None:
    output = ToolOutput((TextBlock("7 C"),), reward=0.25, finished=True, metadata={"n": 1}, extra={"later": 2})
    answer = output.answer(ToolCall("get", {}, "c1"), origin="client")
    assert answer == ToolMessage(
        "7 C", "c1", "get", origin="client", reward=0.25, finished=True, metadata={"metadata": {"n": 1}, "extra": {"later": 2}}
    )
    assert ToolOutput(error="no such tool").answer(ToolCall("x")).is_error


def test_a_message_tells_what_its_provider_reported() -> None:
    message = AssistantMessage("a", sampled=Sampled(Usage(1, 2), "end_turn", (5, 6), (-0.5, -1.0), (1, 2, 3)))
    assert (message.token_ids, message.logprobs, message.prompt_token_ids) == ([5, 6], [-0.5, -1.0], [1, 2, 3])
    assert (message.stop_reason, message.usage) == ("end_turn", Usage(1, 2))
    for silent in (AssistantMessage("a"), AssistantMessage("a", sampled=Sampled(model="m"))):
        assert (silent.token_ids, silent.logprobs, silent.prompt_token_ids, silent.stop_reason, silent.usage) == (None,) * 5


def test_totals_count_what_was_observed() -> None:
    messages = [
        AssistantMessage("a", sampled=Sampled(usage=Usage(10, 2), cost_usd=0.5)),
        UserMessage("b", reward=0.0),
        AssistantMessage("c", sampled=Sampled(usage=Usage(output_tokens=3))),
        UserMessage("d", reward=1.5),
    ]
    assert total_usage(messages) == Usage(10, 5)
    assert total_reward(messages) == (1.5, 1.5)
    assert total_cost(messages) == 0.5
    assert (total_usage([]), total_reward([]), total_cost([])) == (None, (None, None), None)


def test_a_task_and_its_environment_say_the_same_split() -> None:
    by_environment = Rollout(status="completed", environment=RolloutEnvironment("e", split="train"), task=Task(index=1))
    by_task = Rollout(status="completed", environment=RolloutEnvironment("e"), task=Task("train", 1))
    assert by_environment.task.split == by_task.environment.split == "train"
    assert by_environment.to_dict()["task"] == {"index": 1}
    assert Rollout.from_line(by_task.to_line()).task == Task("train", 1)


def test_turns_are_the_policy_s() -> None:
    rollout = Rollout(
        status="completed",
        messages=[
            AssistantMessage("shot", [ToolCall("f")], origin="given"),
            AssistantMessage("mine", [ToolCall("f"), ToolCall("g")], origin="policy"),
            AssistantMessage("unknown"),
        ],
    )
    assert (rollout.num_turns, rollout.num_tool_calls) == (2, 2)
    assert "2 turns" in repr(rollout)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        (None, None),
        ("", None),
        ("http://127.0.0.1:8080/path?key=1", "http://127.0.0.1:8080"),
        ("https://user:secret@host/x", "https://host"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("asgi://server", "asgi://server"),
    ],
)
def test_an_origin_holds_neither_user_nor_path(url: str | None, origin: str | None) -> None:
    assert server_origin(url) == origin


def test_a_message_that_was_read_without_blocks_can_be_changed() -> None:
    record = Rollout(status="completed", messages=[Message("tool", call_id="c")])
    (message,) = Rollout.from_line(record.to_line()).messages
    assert message.replace(call_id="d") == Message("tool", call_id="d")


def test_texts_around_a_providers_tool_are_one_turn() -> None:
    search = OpaqueBlock({"type": "web_search_call", "id": "w1"})
    pieces = [AssistantMessage("I look."), AssistantMessage([search]), AssistantMessage("Two ferries.")]
    (turn,) = join_turns(pieces)
    assert [type(block) for block in turn.blocks] == [TextBlock, OpaqueBlock, TextBlock]
    assert len(join_turns([AssistantMessage("One."), AssistantMessage("Two.")])) == 2
