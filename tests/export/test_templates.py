"""Options of chat templates, contexts that a template shows otherwise, ids of some turns only, and what a template refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from export_rollouts import assistant, call, episode, result, user
from tiny_tokenizer import CHATML, tiny_tokenizer

from openreward_gym import export
from openreward_gym.cli import app
from openreward_gym.errors import ConfigurationError
from openreward_gym.export import FormatReport
from openreward_gym.store import RolloutStore
from openreward_gym.types import AssistantMessage, Message, ReasoningItem, Rollout, TextBlock

THINK = CHATML.replace(
    "{%- if message.reasoning_content %}{{- '<think>' + message.reasoning_content + '</think>' }}{%- endif %}",
    "{%- if message.role == 'assistant' and loop.last %}"
    "{{- '<think>\\n' + (message.reasoning_content or '') + '\\n</think>\\n\\n' }}{%- endif %}",
).replace(
    "'<|im_start|>assistant\\n' }}{%- endif %}",
    "'<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and not enable_thinking %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}",
)
"""Like Qwen3's: an answer without reasoning begins with an empty thought, which the prompt has where thinking is switched off."""

PREFILLED = THINK.replace(
    "'<think>\\n' + (message.reasoning_content or '') + '\\n</think>\\n\\n'",
    "('<think>\\n' + message.reasoning_content + '\\n</think>\\n' if message.reasoning_content else '<think></think>')",
).replace(
    "{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}",
    "{{- '<think>\\n' }}",
)
"""Like Nemotron's: the prompt begins a thought, which an answer without reasoning shows in another way."""

OFF = {"enable_thinking": False}

NINE = """{%- for message in messages %}{%- for call in message.tool_calls or [] %}
{%- if call.id | length != 9 %}{{ raise_exception('an id has nine letters') }}{% endif %}{% endfor %}
{%- if message.role == 'tool' and message.tool_call_id | length != 9 %}{{ raise_exception('an id has nine letters') }}{% endif %}
{%- endfor %}""" + CHATML.replace("call.function.name", "call.id + ' ' + call.function.name")

ALTERNATING = (
    """{%- for message in messages %}
{%- if not loop.first and message.role == loop.previtem.role %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- endfor %}"""
    + CHATML
)


def rows_of(rollouts: list[Rollout], format: str, folder: Path, **options: Any) -> tuple[list[dict[str, Any]], FormatReport]:
    """Return the rows of rollouts, and the report of writing them."""
    report = export.write(rollouts, folder / format, [format], **options).formats[format]
    return list(export.to_dataset(rollouts, format, **options)), report


def split(row: dict[str, Any], tokenizer: Any) -> tuple[str, str]:
    """Return the text before the first trained token, and the trained text."""
    first = next(place for place, label in enumerate(row["labels"]) if label != -100)
    return tokenizer.decode(row["input_ids"][:first]), tokenizer.decode([label for label in row["labels"] if label != -100])


def thought(thinking: str, text: str) -> Message:
    return AssistantMessage([ReasoningItem(thinking), TextBlock(text)])


@pytest.mark.parametrize("place", ["option", "recorded", "request"])
def test_a_prefilled_empty_thought_has_no_loss(place: str, tmp_path: Path) -> None:
    """Rule 20: the options of the template are those of the sampler, from the export's option or from the record."""
    tokenizer = tiny_tokenizer(THINK)
    rollout = episode(assistant("Rain."), user("And now?"), assistant("Sun."))
    options: dict[str, Any] = {}
    if place == "option":
        options["chat_template_kwargs"] = OFF
    elif place == "recorded":
        rollout.sampling = {"temperature": 1.0, "chat_template_kwargs": {**OFF, "tokenize": True}}
    else:
        rollout.sampling = {"extra_body": {"chat_template_kwargs": OFF}}
    rows, report = rows_of([rollout], "tokens", tmp_path, tokenizer=tokenizer, **options)
    for row, answer in zip(rows, ("Rain.", "Sun."), strict=True):
        context, trained = split(row, tokenizer)
        assert trained == f"{answer}<|im_end|>"
        assert context.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
        assert row["context_differs"] is False
    assert "context_differs" not in report.findings
    rows, report = rows_of([rollout], "sft", tmp_path, tokenizer=tokenizer, **options)
    assert rows[0]["chat_template_kwargs"] == OFF
    # One rendering of the whole conversation lacks the earlier answer's empty thought.
    assert rows[0]["context_differs"] is True
    assert report.findings["context_differs"] == 1


def test_an_option_takes_the_place_of_what_was_recorded(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(THINK)
    rollout = episode(assistant("Rain."), sampling={"chat_template_kwargs": OFF})
    (row,), report = rows_of([rollout], "tokens", tmp_path, tokenizer=tokenizer, chat_template_kwargs={})
    # The record has no such thought, so that it has no loss; but a sampler that may think does not see it.
    assert split(row, tokenizer)[1] == "Rain.<|im_end|>"
    assert (row["context_differs"], report.findings["context_differs"]) == (True, 1)
    (row,) = export.to_dataset([rollout], "sft", tokenizer=tokenizer, chat_template_kwargs={})
    assert (row["chat_template_kwargs"], row["context_differs"]) == ({}, True)
    (row,) = export.to_dataset([episode(thought("wet", "Rain."))], "tokens", tokenizer=tokenizer)
    assert (split(row, tokenizer)[1], row["context_differs"]) == ("<think>\nwet\n</think>\n\nRain.<|im_end|>", False)


def test_rows_have_the_options_where_a_trainer_reads_them(tmp_path: Path) -> None:
    rollouts = [episode(assistant("Rain.")), episode(assistant("Sun."), reward=0.0)]
    for format in ("sft", "prompt_completion", "kto", "preference"):
        rows, report = rows_of(rollouts, format, tmp_path, chat_template_kwargs=OFF)
        assert rows
        assert all(row["chat_template_kwargs"] == OFF for row in rows)
        assert not report.findings
        assert "chat_template_kwargs" not in export.to_dataset(rollouts, format).column_names
        rows, report = rows_of(rollouts, format, tmp_path, chat_template_kwargs=OFF, compat="string")
        assert "chat_template_kwargs" not in rows[0]
        assert report.findings["template_options_unwritten"] > 0
    rollouts[0].sampling = {"chat_template_kwargs": OFF}
    _, report = rows_of(rollouts, "sft", tmp_path)
    assert report.findings == {"template_options_unwritten": 1}
    _, report = rows_of(rollouts, "preference", tmp_path)
    assert report.dropped_rows == {"sampled with other chat_template_kwargs": 1}


def test_wrong_options_of_a_template_are_named() -> None:
    for value, words in (
        ({"tools": []}, "tools is not an option of a template"),
        ("[1]", "must be a JSON object"),
        ("{", "must be a JSON object"),
        ({"now": print}, "must be a JSON object"),
        ({1: 2}, "must be a JSON object"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            export.to_dataset([], chat_template_kwargs=value)  # type: ignore[arg-type]


def test_options_of_a_template_on_the_command_line(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    with RolloutStore(tmp_path / "run") as store:
        store.append(episode(assistant("Rain.")))
    options = ["--chat-template-kwargs", json.dumps(OFF), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["export", str(tmp_path / "run"), *options])
    assert done.exit_code == 0, done.output
    from datasets import load_dataset

    (row,) = load_dataset(str(tmp_path / "out"), "sft", split="train", cache_dir=str(tmp_path / "cache"))
    assert row["chat_template_kwargs"] == OFF


def test_a_prompt_that_begins_a_thought_is_not_cut(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(PREFILLED)
    rows, _ = rows_of([episode(thought("wet", "Rain.")), episode(assistant("Rain."))], "tokens", tmp_path, tokenizer=tokenizer)
    assert split(rows[0], tokenizer)[1] == "wet\n</think>\nRain.<|im_end|>"
    context, trained = split(rows[1], tokenizer)
    assert trained == "Rain.<|im_end|>"
    assert context.endswith("assistant\n<think>\n</think>")
    assert [row["context_differs"] for row in rows] == [False, True]


def test_a_thought_that_the_prompt_closes_and_the_history_lacks_is_context(tmp_path: Path) -> None:
    template = THINK.replace("message.role == 'assistant' and loop.last", "message.reasoning_content")
    tokenizer = tiny_tokenizer(template)
    rollout = episode(assistant("Rain."), user("And now?"), assistant("Sun."))
    rows, _ = rows_of([rollout], "tokens", tmp_path, tokenizer=tokenizer, chat_template_kwargs=OFF)
    for row in rows:
        context, _ = split(row, tokenizer)
        assert context.endswith("<think>\n\n</think>\n\n")
        assert row["context_differs"] is False
    assert [split(row, tokenizer)[1] for row in rows] == ["Rain.<|im_end|>", "Sun.<|im_end|>"]


def test_text_at_the_end_of_a_conversation_is_not_trained(tmp_path: Path) -> None:
    template = CHATML + "{%- if not add_generation_prompt %}{{- '<|endoftext|>' }}{%- endif %}"
    tokenizer = tiny_tokenizer(template)
    rollout = episode(assistant("Rain."), user("And now?"), assistant("Sun."))
    (row,), _ = rows_of([rollout], "tokens", tmp_path, tokenizer=tokenizer)
    assert split(row, tokenizer)[1] == "Rain.<|im_end|>Sun.<|im_end|>"


def recorded(tokenizer: Any, text: str, prompt: str | None, *, logprobs: bool = True, sampled: str | None = None) -> Message:
    ids = tokenizer.encode((text if sampled is None else sampled) + "<|im_end|>", add_special_tokens=False)
    report: dict[str, Any] = {"token_ids": ids, **({"logprobs": [-0.5] * len(ids)} if logprobs else {})}
    if prompt is not None:
        report["prompt_token_ids"] = tokenizer.encode(prompt, add_special_tokens=False)
    return assistant(text, **report)


@pytest.mark.parametrize("with_prompt", [True, False])
@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_turn_without_ids_leaves_the_others_theirs(missing: int, with_prompt: bool, tmp_path: Path) -> None:
    """The turn is rendered, and the log-probabilities of its tokens are NaN."""
    tokenizer = tiny_tokenizer()
    turns: list[Message] = []
    history = [{"role": "user", "content": "What is the weather?"}]
    tools = export.to_dataset([episode(assistant("x"))])[0]["tools"]
    for number, text in enumerate(("Rain.", "Sun.", "Snow.")):
        prompt = tokenizer.apply_chat_template(history, tools=tools, tokenize=False, add_generation_prompt=True)
        with_ids = recorded(tokenizer, text, prompt if with_prompt else None)
        turns += [assistant(text) if number == missing else with_ids, user(f"And {number}?")]
        history += [{"role": "assistant", "content": text}, {"role": "user", "content": f"And {number}?"}]
    (row,), report = rows_of([episode(*turns)], "tokens", tmp_path, tokenizer=tokenizer)
    assert split(row, tokenizer)[1] == "Rain.<|im_end|>Sun.<|im_end|>Snow.<|im_end|>"
    known = [value for value, label in zip(row["logprobs"], row["labels"], strict=True) if label != -100]
    sizes = [len(text) + 1 for text in ("Rain.", "Sun.", "Snow.")]
    expected = [math.nan if number == missing else -0.5 for number, size in enumerate(sizes) for _ in range(size)]
    assert str(known) == str(expected)
    assert all(value == 0.0 for value, label in zip(row["logprobs"], row["labels"], strict=True) if label == -100)
    assert dict(report.findings) == {"sampled_tokens_used": 1, "sampled_tokens_partly": 1}


def test_recorded_ids_in_another_context_than_a_rendering_begin_a_row(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    rollout = episode(recorded(tokenizer, "Rain.", "Be kind."), user("And now?"), assistant("Sun."))
    rows, report = rows_of([rollout], "tokens", tmp_path, tokenizer=tokenizer)
    assert split(rows[0], tokenizer) == ("Be kind.", "Rain.<|im_end|>")
    assert split(rows[1], tokenizer)[1] == "Sun.<|im_end|>"
    assert rows[1]["logprobs"] is None
    assert report.findings["context_changes"] == 1
    # One rendering of everything does not show the first turn in its context.
    (row,), report = rows_of([rollout], "sft", tmp_path, tokenizer=tokenizer)
    assert (row["context_differs"], report.findings["context_differs"]) == (True, 1)


def test_ids_of_another_tokenizer_are_counted(tmp_path: Path) -> None:
    _, report = rows_of([episode(assistant("yes", token_ids=[10**6]))], "tokens", tmp_path, tokenizer=tiny_tokenizer())
    assert dict(report.findings) == {"sampled_tokens_unused": 1}


def test_an_interleaved_turn_is_trained_as_it_was_sampled(tmp_path: Path) -> None:
    """Rule 7: the ids have the order that chat messages lack; a rendering of such a turn is none that was sampled."""
    tokenizer = tiny_tokenizer()
    ids = tokenizer.encode("<call>weather</call>I look.<|im_end|>", add_special_tokens=False)
    blocks = (call("weather", {}, id="1"), TextBlock("I look."))
    last = recorded(tokenizer, "7 C", "Then:")
    turn = assistant(blocks=blocks, token_ids=ids, prompt_token_ids=[1, 2])
    rows, report = rows_of([episode(turn, result("7 C", id="1"), last)], "tokens", tmp_path, tokenizer=tokenizer)
    assert [split(row, tokenizer)[1] for row in rows] == ["<call>weather</call>I look.<|im_end|>", "7 C<|im_end|>"]
    for turns in ([assistant(blocks=blocks, token_ids=ids), last], [assistant(blocks=blocks), last], [turn, assistant("7 C")]):
        rollout = episode(turns[0], result("7 C", id="1"), turns[1])
        rows, report = rows_of([rollout], "tokens", tmp_path, tokenizer=tokenizer)
        reason = "text after a call of the same turn: chat messages have all text before the calls"
        assert (rows, report.excluded) == ([], {reason: 1})


def test_the_text_of_a_malformed_call_is_trained_verbatim_or_not_at_all(tmp_path: Path) -> None:
    rollout = episode(assistant("", call("weather", None, id="1", text='{"city": "Os')))
    options: dict[str, Any] = {"malformed_calls": "keep", "endings": "any"}
    _, report = rows_of([rollout], "tokens", tmp_path, tokenizer=tiny_tokenizer(), **options)
    assert report.excluded == {"the template writes the text of a malformed call in another way than the model": 1}
    verbatim = tiny_tokenizer(CHATML.replace("(call.function.arguments | tojson)", "call.function.arguments"))
    (row,), _ = rows_of([rollout], "tokens", tmp_path, tokenizer=verbatim, **options)
    assert '{"city": "Os</tool_call>' in split(row, verbatim)[1]


@pytest.mark.parametrize("format", ["sft", "prompt_completion", "kto", "preference", "tokens"])
def test_call_ids_become_what_the_template_takes(format: str, tmp_path: Path) -> None:
    """Rule 21, for a template that takes ids of nine characters: results still name their calls."""
    tokenizer = tiny_tokenizer(NINE)
    rollouts = [
        episode(
            assistant("", call("weather", {"city": city}, id="call_abc123")),
            result("7 C", id="call_abc123"),
            assistant("", call("weather", {"city": "Bonn"}, id="abcdefgh1")),
            result("8 C", id="abcdefgh1"),
            assistant(city),
            reward=reward,
        )
        for city, reward in (("Rome", 1.0), ("Oslo", 0.0))
    ]
    rows, report = rows_of(rollouts, format, tmp_path, tokenizer=tokenizer)
    assert rows
    assert report.findings["call_ids_renamed"] > 0
    for row in rows if format != "tokens" else ():
        messages = [message for name in ("messages", "prompt", "chosen", "completion") for message in row.get(name) or ()]
        tokenizer.apply_chat_template(messages, tools=row["tools"], tokenize=False)
        calls = [one["id"] for message in messages for one in message.get("tool_calls") or ()]
        results = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
        assert results == calls[: len(results)]
        assert len(set(calls)) == len(calls)
        if format == "sft":
            assert calls[1] == "abcdefgh1"
    (row,) = export.to_dataset(rollouts[:1], "sft", tokenizer=tiny_tokenizer())
    assert row["messages"][1]["tool_calls"][0]["id"] == "call_abc123"


def test_what_a_template_refuses_is_left_out_in_its_words(tmp_path: Path) -> None:
    """Rule 21: such a row would stop the training that it was made for."""
    tokenizer = tiny_tokenizer(ALTERNATING)
    two = episode(assistant("Rain."), user("And now?"), user("Well?"), assistant("Sun."))
    fine = episode(assistant("Snow."), reward=0.0)
    reason = "the template refuses it: roles must alternate"
    for format in ("sft", "tokens", "kto"):
        rows, report = rows_of([two, fine], format, tmp_path, tokenizer=tokenizer)
        counts = report.dropped_rows if format == "kto" else report.excluded
        assert (len(rows), counts) == (1, {reason: 1})
        if format != "tokens":
            assert len(export.to_dataset([two, fine], format)) == 2
    rows, report = rows_of([two], "prompt_completion", tmp_path, tokenizer=tokenizer)
    assert [row["completion"][0]["content"] for row in rows] == ["Rain."]
    assert report.dropped_rows == {reason: 1}
    _, report = rows_of([episode(user("Well?"), assistant("Sun."))], "prompt_completion", tmp_path, tokenizer=tokenizer)
    assert (report.selected, report.excluded) == (0, {reason: 1})
    _, report = rows_of([episode(user("Well?"), assistant("Sun."))], "prompts", tmp_path, tokenizer=tokenizer)
    assert report.excluded == {reason: 1}


def test_arguments_in_the_form_of_the_row_decide(tmp_path: Path) -> None:
    """A template that takes arguments as texts renders the rows of compat="string" only."""
    tokenizer = tiny_tokenizer(CHATML.replace("(call.function.arguments | tojson)", "call.function.arguments"))
    rollout = episode(assistant("", call("weather", {"city": "Bonn"}, id="1")))
    rows, report = rows_of([rollout], "sft", tmp_path, tokenizer=tokenizer)
    assert rows == []
    assert next(iter(report.excluded)).startswith("the template refuses it: can only concatenate str")
    rows, _ = rows_of([rollout], "sft", tmp_path, tokenizer=tokenizer, compat="string")
    assert len(rows) == 1
