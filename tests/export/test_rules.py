"""The rules of the record in every training format: who is trained, in whose words, and what is left out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from export_rollouts import assistant, call, episode, result, user
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizer import tiny_tokenizer

from openreward_gym import export
from openreward_gym.errors import ConfigurationError
from openreward_gym.types import (
    AssistantMessage,
    Block,
    Ended,
    Message,
    OpaqueBlock,
    ReasoningItem,
    Rollout,
    Sampled,
    TextBlock,
    ToolCall,
    ToolMessage,
    text_separator,
)

TRAINING_FORMATS = (
    "sft",
    "prompt_completion",
    "kto",
    "tokens",
    "openai",
    "sharegpt",
    "sharegpt_kto",
    "llama_factory_v1",
    "axolotl",
)
KTO = ("kto", "sharegpt_kto")
TOKENIZER = tiny_tokenizer()


@pytest.fixture(scope="module")
def rows_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the rows of rollouts in a format, and its report."""

    def write(rollouts: list[Rollout], format: str, **options: Any) -> tuple[list[dict[str, Any]], Any]:
        folder = tmp_path_factory.mktemp("rules")
        tokenizer = TOKENIZER if format == "tokens" else None
        report = export.write(rollouts, folder, [format], tokenizer=tokenizer, **options).formats[format]
        if files := sorted((folder / format).glob("*.jsonl")):
            return [json.loads(line) for file in files for line in file.read_text().splitlines()], report
        return list(export.to_dataset(rollouts, format, tokenizer=tokenizer, **options)), report

    return write


def trained_texts(rows: list[dict[str, Any]], format: str) -> Iterator[str]:
    """Yield the text of each message that a trainer of the format has a loss on."""
    for row in rows:
        if format == "tokens":
            yield TOKENIZER.decode([label for label in row["labels"] if label != -100])
        elif format == "sharegpt":
            yield from (turn["value"] for turn in row["conversations"] if turn["from"] in ("gpt", "function_call"))
        elif format == "sharegpt_kto":
            yield row["conversations"][-1]["value"]
        elif format == "llama_factory_v1":
            yield from (json.dumps(m["content"], ensure_ascii=False) for m in row["messages"] if m["loss_weight"])
        elif format in ("prompt_completion", "kto"):
            yield from (json.dumps(message, ensure_ascii=False) for message in row["completion"])
        else:
            for message in row["messages"]:
                if message["role"] == "assistant" and message.get("train", True) and message.get("weight", 1):
                    yield json.dumps(message, ensure_ascii=False)


words = count()


def word() -> str:
    """Return a word that no other text contains."""
    return f"w{next(words)}w"


@st.composite
def turns(draw: st.DrawFn, origin: str) -> list[Message]:
    """An assistant message of an origin, with the results of its calls."""
    kinds = draw(st.lists(st.sampled_from(["reasoning", "hidden", "text", "text", "call", "opaque"]), max_size=4))
    blocks: list[Block] = []
    for kind in kinds:
        if kind == "reasoning":
            blocks.append(ReasoningItem(word()))
        elif kind == "hidden":
            blocks.append(ReasoningItem(None, "reference", word()))
        elif kind == "text":
            blocks.append(TextBlock(word()))
        elif kind == "call":
            blocks.append(ToolCall("weather", {"city": word()}, f"id{next(words)}"))
        elif draw(st.integers(0, 9)) == 0:
            blocks.append(OpaqueBlock({"type": "document", "text": word()}))
    ended = draw(st.sampled_from(["stop", "tool_calls", "stop", None, *get_args(Ended)]))
    weight = draw(st.sampled_from([None, None, 0.0, 1.0]))
    message = AssistantMessage(blocks, origin=origin, ended=ended, weight=weight)
    results = [ToolMessage(word(), block.call_id, "weather", origin="environment") for block in message.tool_calls]
    return [message, *results, Message("user", (TextBlock(word()),), origin="environment")]


@st.composite
def rollouts(draw: st.DrawFn) -> Rollout:
    messages = [message for _ in range(draw(st.integers(0, 2))) for message in draw(turns("given"))]
    for _ in range(draw(st.integers(1, 3))):
        messages += draw(turns(draw(st.sampled_from(["policy", "policy", "policy", "given"]))))
    rollout = episode(*messages, reward=draw(st.sampled_from([0.0, 1.0])))
    rollout.messages[0] = rollout.messages[0].replace(origin="given")
    return rollout


def words_of(message: Message, format: str) -> Iterator[str]:
    """Yield the words that a format can show of a message; OpenAI's has no field for reasoning."""
    for block in message.blocks:
        if isinstance(block, TextBlock):
            yield block.text
        elif isinstance(block, ReasoningItem) and block.content and format != "openai":
            yield block.content
        elif isinstance(block, ToolCall):
            yield str((block.arguments or {})["city"])


@pytest.mark.parametrize("format", TRAINING_FORMATS)
@settings(max_examples=60, deadline=None)
@given(rollout=rollouts())
def test_only_the_policys_turns_are_trained_and_in_its_words(format: str, rollout: Rollout, rows_of: Any) -> None:
    """Rules 1, 6, 7, 8, 9 and 12: no word of others has a loss, and a trained turn has all its words, in order."""
    rows, report = rows_of([rollout], format, balance_labels=False) if format in KTO else rows_of([rollout], format)
    texts = list(trained_texts(rows, format))
    assert report.rows == len(rows)
    assert rows or report.excluded.total() == 1
    for message in rollout.messages:
        is_target = message.role == "assistant" and message.origin == "policy" and message.weight != 0
        ends_well = message.ended in (None, "stop", "tool_calls")
        may_be_bad = format in KTO and message.ended in ("length", "context_overflow", "malformed")
        shown = list(words_of(message, format))
        own = [text for text in texts if any(one in text for one in shown)]
        if not (is_target and (ends_well or may_be_bad)):
            assert not own, f"{format} trains {message}"
        elif own:
            text = "".join(own)  # parallel calls are turns of their own in some formats
            places = [text.find(one) for one in shown]
            assert -1 not in places
            if not message.reasoning:
                assert all(first < second for first, second in pairwise(places))
    everything = json.dumps(rows, ensure_ascii=False, default=str)
    assert " block]" not in everything
    assert "[image" not in everything


@pytest.mark.parametrize("format", ["prompts", "verl"])
def test_the_prompt_is_everything_before_the_first_turn_of_the_policy(format: str) -> None:
    """Rule 2, with assistant messages and tool results in the prompt."""
    history = [AssistantMessage("Hm.", origin="given"), user("Go on.").replace(origin="given")]
    rollout = episode(*history, assistant("Sure.", origin="policy"), user("More."), assistant("Done.", origin="policy"))
    (row,) = export.to_dataset([rollout], format)
    assert [message["content"] for message in row["prompt"]] == ["What is the weather?", "Hm.", "Go on."]


@pytest.mark.parametrize("format", TRAINING_FORMATS)
def test_turns_of_unknown_origin_are_trained_only_when_asked(format: str, rows_of: Any) -> None:
    """Rule 4: the import that made the record could not tell who wrote the answer."""
    rollout = episode(assistant("Rain."), reward=1.0)
    rollout.messages[0] = rollout.messages[0].replace(origin="given")
    rows, report = rows_of([rollout], format)
    assert (rows, report.excluded) == ([], {"it is not known which turns the model took": 1})
    rows, _ = rows_of([rollout], format, assume_sampled=True)
    (text,) = trained_texts(rows, format)
    assert "Rain." in text


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_trains_nothing(weight: float, rows_of: Any) -> None:
    """Such a weight is in the record as it was given; every other rollout is exported."""
    rollouts = [episode(AssistantMessage("Rain.", weight=weight)), episode(assistant("Sun."))]
    for format in ("sft", "openai", "llama_factory_v1"):
        rows, report = rows_of(rollouts, format)
        assert (len(rows), report.excluded) == (1, {"a turn whose weight is negative or not a number": 1})
    with pytest.raises(ConfigurationError, match="at least 0"):
        export.to_dataset(rollouts, weights=lambda rollout, message: weight)


def test_lines_are_strict_json(tmp_path: Path) -> None:
    """Rule 11, with rewards that JSON has no numbers for."""
    rollouts = [episode(assistant("a"), reward=reward) for reward in (math.nan, math.inf, -math.inf)]
    formats = ["axolotl", "sharegpt", "nemo_gym", "atif"]
    export.write(rollouts, tmp_path, formats, columns=("reward",))
    for format in formats:
        for line in (tmp_path / format / "train.jsonl").read_text().splitlines():
            json.loads(line, parse_constant=pytest.fail)


def test_the_texts_of_a_turn_have_nothing_between_them() -> None:
    """Rule 6: parts of one answer are one text; those of a prompt or a result are texts of their own."""
    parts = [TextBlock("2,7"), TextBlock("37 m"), TextBlock(" long.")]
    thought: list[Block] = [ReasoningItem("I"), ReasoningItem("t"), TextBlock("How long?")]
    rollout = episode(Message("user", (TextBlock("a"), TextBlock("b"))), AssistantMessage(thought))
    rollout.messages += [user("?"), AssistantMessage(parts)]
    (row,) = export.to_dataset([rollout])
    assert row["messages"][1]["content"] == "a\nb"
    assert row["messages"][2]["reasoning_content"] == "It"
    assert row["messages"][4]["content"] == rollout.messages[4].text == "2,737 m long."
    assert (text_separator("assistant"), text_separator("tool")) == ("", "\n")


@pytest.mark.parametrize("format", TRAINING_FORMATS)
@pytest.mark.parametrize(
    "blocks",
    [
        (call("weather", {}, id="1"), TextBlock("I look.")),
        (call("weather", {}, id="1"), ReasoningItem("a city"), TextBlock("I look.")),
    ],
)
def test_an_order_that_chat_messages_do_not_have_is_counted(format: str, blocks: tuple[Block, ...], rows_of: Any) -> None:
    """Rule 7: such a turn would be trained in another order than it was sampled in."""
    rows, report = rows_of([episode(AssistantMessage(blocks), result("7 C", id="1"), assistant("7 C"))], format)
    reason = "text after a call of the same turn: chat messages have all text before the calls"
    assert (rows, report.excluded) == ([], {reason: 1})


def test_reasoning_after_the_text_is_first_and_counted(rows_of: Any) -> None:
    """Chat messages have one field for reasoning, without a place among the others."""
    turn = AssistantMessage([TextBlock("I add."), ReasoningItem("2 and 3"), call("add", {}, id="1")])
    rows, report = rows_of([episode(turn, result("5", id="1"), assistant("5"))], "sft")
    assert rows[0]["messages"][1]["reasoning_content"] == "2 and 3"
    assert report.findings == {"reasoning_moved": 1}


@pytest.mark.parametrize("format", TRAINING_FORMATS)
@pytest.mark.parametrize("blocks", [(), (TextBlock(""),), (ReasoningItem(None, "id", "It thought."),)])
def test_a_turn_that_says_nothing_is_no_target(format: str, blocks: tuple[Block, ...], rows_of: Any) -> None:
    """Rule 9: training it teaches the model to stop at once."""
    rows, report = rows_of([episode(AssistantMessage(blocks, ended="stop"))], format)
    reason = "a turn without anything to train (hidden reasoning only, or an empty answer)"
    assert (rows, report.excluded) == ([], {reason: 1})


@pytest.mark.parametrize("format", TRAINING_FORMATS)
@pytest.mark.parametrize("ended", sorted(set(get_args(Ended)) - {"stop", "tool_calls"}))
def test_other_endings_are_counted_by_name_and_can_be_taken(format: str, ended: Ended, rows_of: Any) -> None:
    """Rule 12."""
    rollout = episode(AssistantMessage("The first step is", ended=ended), reward=1.0)
    rows, report = rows_of([rollout], format)
    assert (rows, report.excluded) == ([], {f"a turn ended by {ended}": 1})
    rows, _ = rows_of([rollout], format, endings=[ended])
    assert len(list(trained_texts(rows, format))) == 1


@pytest.mark.parametrize(("word", "ended"), [("MAX_TOKENS", "length"), ("pause_turn", "pause"), ("SAFETY", "content_filter")])
def test_a_providers_word_is_read_where_the_record_has_no_other(word: str, ended: str, rows_of: Any) -> None:
    _, report = rows_of([episode(AssistantMessage("The first", sampled=Sampled(stop_reason=word)))], "sft")
    assert report.excluded == {f"a turn ended by {ended}": 1}


def test_a_turn_that_ended_otherwise_is_context_where_the_format_can_say_so(rows_of: Any) -> None:
    """The turns after it are still trained, in the context in which they were sampled."""
    rollout = episode(assistant("I was ab", ended="length"), user("Go on."), assistant("7 C.", ended="stop"))
    for format in ("prompt_completion", "tokens", "openai", "axolotl"):
        rows, report = rows_of([rollout], format)
        (text,) = trained_texts(rows, format)
        assert "7 C." in text
        assert "I was ab" not in text
        assert "I was ab" in (TOKENIZER.decode(rows[0]["input_ids"]) if format == "tokens" else json.dumps(rows))
        assert report.findings["untrained_turn"] == 1
    for format in ("sft", "sharegpt"):
        assert rows_of([rollout], format)[1].excluded == {"a turn ended by length": 1}
