"""Labels: the loss is on what the model said, on all of it, and on nothing else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from export_rollouts import assistant, call, episode, png, result, user
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_strategies import EXAMPLES
from tiny_tokenizer import CHATML, VISION, tiny_tokenizer

from openreward_gym import export
from openreward_gym.errors import ConfigurationError
from openreward_gym.export.formats.tokens import CannotSplit, TurnSplitter
from openreward_gym.export.template import ChatTemplate
from openreward_gym.types import ImageBlock, Message, ReasoningItem, Rollout, TextBlock


def trained(rollout: Rollout, tokenizer: Any, **options: Any) -> list[str]:
    """Of each row, the trained tokens as text."""
    rows = export.to_dataset([rollout], format="tokens", tokenizer=tokenizer, **options)
    return [tokenizer.decode([token for token in row["labels"] if token != -100]) for row in rows]


def test_loss_is_on_the_assistants_words_calls_and_ends_of_turn() -> None:
    tokenizer = tiny_tokenizer()
    rollout = episode(assistant("Hm.", call("weather", {"city": "Oslo"}, id="1")), result("rain", id="1"), assistant("Rain."))
    (row,) = export.to_dataset([rollout], format="tokens", tokenizer=tokenizer)
    assert set(row) == {"input_ids", "labels", "logprobs", "context_differs", "rollout_id"}
    trained = 'Hm.\n<tool_call>weather {"city": "Oslo"}</tool_call><|im_end|>Rain.<|im_end|>'
    assert tokenizer.decode([token for token in row["labels"] if token != -100]) == trained
    whole = tokenizer.apply_chat_template(
        export.to_dataset([rollout])[0]["messages"], tools=export.to_dataset([rollout])[0]["tools"], tokenize=False
    )
    assert whole.startswith(tokenizer.decode(row["input_ids"]))
    assert all(label in (-100, token) for token, label in zip(row["input_ids"], row["labels"], strict=True))


def test_template_that_drops_earlier_reasoning_makes_a_row_a_context() -> None:
    template = CHATML.replace("if message.reasoning_content", "if message.reasoning_content and loop.last")
    tokenizer = tiny_tokenizer(template)

    def thought(thinking: str, text: str) -> Message:
        return Message(role="assistant", blocks=(ReasoningItem(content=thinking), TextBlock(text=text)))

    rollout = episode(thought("hm", "one"), user("more"), thought("ha", "two"))
    assert trained(rollout, tokenizer) == ["<think>hm</think>one<|im_end|>", "<think>ha</think>two<|im_end|>"]
    second = tokenizer.decode(export.to_dataset([rollout], format="tokens", tokenizer=tokenizer)[1]["input_ids"])
    assert "hm" not in second


def test_prefilled_text_is_not_trained() -> None:
    template = CHATML.replace("assistant\\n' }}{%- endif %}", "assistant\\n<think>' }}{%- endif %}").replace(
        "{%- if message.reasoning_content %}{{- '<think>' + message.reasoning_content + '</think>' }}{%- endif %}",
        "{%- if message.role == 'assistant' %}{{- '<think>' + (message.reasoning_content or '') + '</think>' }}{%- endif %}",
    )
    rollout = episode(Message(role="assistant", blocks=(ReasoningItem(content="hm"), TextBlock(text="yes"))))
    assert trained(rollout, tiny_tokenizer(template)) == ["hm</think>yes<|im_end|>"]


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (CHATML.replace("{{- message.content }}", ""), "loses or changes the model's text"),
        (CHATML.replace("message.content }}", "message.content | upper }}"), "loses or changes the model's text"),
        (CHATML.replace("call.function.name", "'x'"), "loses or changes the model's call"),
        (CHATML.replace("call.function.arguments", "{}"), "loses or changes the model's call"),
        (CHATML.replace("<|im_end|>", "\\n").replace("<|im_start|>", ""), "ends a turn without a control token"),
        (
            CHATML.replace(
                "{{- message.content }}",
                "{{- message.content }}{% if loop.last and loop.index > 1 %}{{ messages[0].content }}{% endif %}",
            ),
            "puts text of others into the model's turn",
        ),
        ("{{ raise_exception('no tools here') }}", "the template refuses it: no tools here"),
    ],
)
def test_template_that_does_not_render_what_was_said_is_refused(template: str, why: str, tmp_path: Path) -> None:
    rollout = episode(assistant("Hello there", call("weather", {"city": "Oslo"}, id="1")))
    report = export.write([rollout], tmp_path, formats=["tokens"], tokenizer=tiny_tokenizer(template))
    assert report.rows == {"tokens": 0}
    assert why in next(iter(report.formats["tokens"].excluded))


def test_parallel_calls_are_split_where_the_template_takes_one() -> None:
    template = CHATML.replace("message.tool_calls or []", "(message.tool_calls or [])[:1]")
    rollout = episode(
        assistant("both", call("a", {"x": "first"}, id="1"), call("b", {"x": "second"}, id="2")),
        result("A", id="1"),
        result("B", id="2"),
        assistant("done"),
    )
    (text,) = trained(rollout, tiny_tokenizer(template))
    assert text.count("<tool_call>") == 2
    assert text.index("first") < text.index("second") < text.index("done")
    assert len(export.to_dataset([rollout], tokenizer=tiny_tokenizer(template))[0]["messages"]) == 6
    assert len(export.to_dataset([rollout], tokenizer=tiny_tokenizer())[0]["messages"]) == 5


def test_system_is_merged_where_the_template_takes_none() -> None:
    template = "{%- if messages[0].role == 'system' %}{{ raise_exception('no system') }}{%- endif %}" + CHATML
    rollout = episode(assistant("yes"))
    rollout.messages.insert(0, Message(role="system", blocks=(TextBlock(text="Be kind."),)))
    assert trained(rollout, tiny_tokenizer(template)) == ["yes<|im_end|>"]
    assert export.to_dataset([rollout], tokenizer=tiny_tokenizer(template))[0]["messages"][0]["role"] == "user"


def test_template_that_takes_arguments_as_text_gets_text() -> None:
    template = CHATML.replace("(call.function.arguments | tojson)", "call.function.arguments")
    rollout = episode(assistant("", call("a", {"x": 1}, id="1")))
    assert trained(rollout, tiny_tokenizer(template)) == ['\n<tool_call>a {"x":1}</tool_call><|im_end|>']


def test_recorded_tokens_and_logprobs_are_used() -> None:
    tokenizer = tiny_tokenizer()
    first = tokenizer.encode("prompt|", add_special_tokens=False)
    sampled = tokenizer.encode("yes<|im_end|>", add_special_tokens=False)
    between = tokenizer.encode("\nmore\n", add_special_tokens=False)
    again = tokenizer.encode("no<|im_end|>", add_special_tokens=False)

    def rollout(prompt: list[int]) -> Rollout:
        return episode(
            assistant("yes", token_ids=sampled, prompt_token_ids=first, logprobs=[-0.5] * len(sampled)),
            user("more"),
            assistant("no", token_ids=again, prompt_token_ids=prompt, logprobs=[-0.25] * len(again)),
        )

    (row,) = export.to_dataset([rollout([*first, *sampled, *between])], format="tokens", tokenizer=tokenizer)
    assert row["input_ids"] == [*first, *sampled, *between, *again]
    assert row["labels"] == [-100] * len(first) + sampled + [-100] * len(between) + again
    assert row["logprobs"] == [0.0] * len(first) + [-0.5] * len(sampled) + [0.0] * len(between) + [-0.25] * len(again)
    rows = export.to_dataset([rollout(between)], format="tokens", tokenizer=tokenizer)
    assert [row["input_ids"] for row in rows] == [[*first, *sampled], [*between, *again]]


def test_recorded_tokens_of_another_tokenizer_are_not_used() -> None:
    tokenizer = tiny_tokenizer()
    for ids in ([10**6], tokenizer.encode("nope", add_special_tokens=False)):
        rollout = episode(assistant("yes", token_ids=ids, prompt_token_ids=[1]))
        assert trained(rollout, tokenizer) == ["yes<|im_end|>"]


def test_images_without_a_vision_template_and_long_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    seen = episode(Message(role="user", blocks=(ImageBlock(data=png(1, 1)),)), assistant("ok"))
    report = export.write([seen, episode(assistant("x" * 500))], tmp_path, ["tokens"], tokenizer=tiny_tokenizer(), max_length=400)
    form = report.formats["tokens"]
    assert form.rows == 0
    assert form.excluded["it has images: the template shows none (take a vision model's tokenizer, or sft)"] == 1
    assert form.excluded["longer than 400 tokens"] == 1
    assert not form.dropped_rows


def test_images_stand_where_a_vision_template_puts_them() -> None:
    tokenizer = tiny_tokenizer(VISION)
    shown = Message(role="tool", call_id="1", blocks=(TextBlock(text="here"), ImageBlock(data=png(4, 4))))
    question = Message(role="user", blocks=(ImageBlock(data=png(6, 6)), TextBlock(text="and this?")))
    seen = episode(assistant("", call("look", {}, id="1")), shown, assistant("a square"), question, assistant("a bigger one"))
    rows = export.to_dataset([seen, episode(assistant("nothing to see"))], format="tokens", tokenizer=tokenizer)
    text = tokenizer.decode(rows[0]["input_ids"])
    assert text.count("<|image_pad|>") == 2
    assert [image.size for image in rows[0]["images"]] == [(4, 4), (6, 6)]
    assert rows[1]["images"] == []
    trained = tokenizer.decode([token for token in rows[0]["labels"] if token != -100])
    assert trained.endswith("a square<|im_end|>a bigger one<|im_end|>")
    assert "image_pad" not in trained


def test_rows_of_a_rollout_have_the_images_up_to_their_turn() -> None:
    tokenizer = tiny_tokenizer(VISION.replace("if message.reasoning_content", "if message.reasoning_content and loop.last"))
    thought = (ReasoningItem(content="hm"), TextBlock(text="one"))
    question = Message(role="user", blocks=(ImageBlock(data=png(6, 6)),))
    seen = episode(Message(role="assistant", blocks=thought), question, assistant("two"))
    rows = export.to_dataset([seen], format="tokens", tokenizer=tokenizer)
    assert [len(row["images"]) for row in rows] == [0, 1]


def test_template_that_drops_an_image_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(VISION.replace("if part.type == 'image'", "if part.type == 'image' and loop.index < 2"))
    two = Message(role="user", blocks=(ImageBlock(data=png(1, 1)), ImageBlock(data=png(2, 2))))
    report = export.write([episode(two, assistant("ok"))], tmp_path, ["tokens"], tokenizer=tokenizer)
    assert report.rows == {"tokens": 0}


def test_a_tokenizer_is_needed_and_it_needs_a_template() -> None:
    with pytest.raises(ConfigurationError, match="needs a tokenizer"):
        export.to_dataset([], format="tokens")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ConfigurationError, match="has no chat template"):
        export.to_dataset([], format="tokens", tokenizer=tokenizer)
    with pytest.raises(ConfigurationError, match="a int is not a tokenizer"):
        export.to_dataset([], format="tokens", tokenizer=3)


def test_tokenizer_from_a_folder(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    (row,) = export.to_dataset([episode(assistant("yes"))], format="tokens", tokenizer=tmp_path / "tokenizer")
    assert row["labels"][-1] == row["input_ids"][-1] != -100


def test_tokenizer_that_puts_a_blank_before_each_text_is_handled() -> None:
    from tokenizers import pre_tokenizers

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    assert not ChatTemplate(tokenizer).concatenates
    (text,) = trained(episode(assistant("yes"), user("and?"), assistant("no")), tokenizer)
    assert text.replace(" ", "") == "yes<|im_end|>no<|im_end|>"


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.tuples(words, words, words), min_size=1, max_size=4))
def test_any_text_is_trained_whole_and_the_quick_way_is_the_exact_way(turns: list[tuple[str, str, str]]) -> None:
    template = ChatTemplate(tiny_tokenizer())
    messages: list[dict[str, Any]] = []
    for number, (question, answer, argument) in enumerate(turns):
        function = {"name": "f", "arguments": {"x": argument}}
        calls = [{"id": f"{number}", "type": "function", "function": function}]
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer, "tool_calls": calls}]
    positions = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    quick = TurnSplitter(template)
    plain_messages = [
        {**message, "content": "x", **({"tool_calls": message["tool_calls"]} if "tool_calls" in message else {})}
        for message in messages
    ]
    try:
        quick.rows(plain_messages, positions, None)
        exactly = TurnSplitter(template).rows(messages, positions, None)
    except CannotSplit:
        # A text that is also in the assistant's turn: refused the one way and the other.
        return
    assert quick.rows(messages, positions, None) == exactly
    (row,) = exactly
    said_texts = [piece.text for piece in row.pieces if piece.turn is not None]
    assert len(said_texts) == len(turns)
    for text, (_, answer, _) in zip(said_texts, turns, strict=True):
        assert text.startswith(answer)
        assert text.endswith("</tool_call><|im_end|>")
    whole = template.render(messages, None)
    assert whole.startswith("".join(piece.text for piece in row.pieces))


def test_the_quick_way_is_taken_and_not_where_control_tokens_are_about(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate(tiny_tokenizer())
    renderings = 0
    apply = template._apply

    def counted(*arguments: Any) -> str:
        nonlocal renderings
        renderings += 1
        return apply(*arguments)

    monkeypatch.setattr(template, "_apply", counted)
    splitter = TurnSplitter(template)
    turns = [1, 3, 5, 7, 9]
    chance = random.Random(0)

    def conversation(extra: str = "") -> list[dict[str, Any]]:
        exchange = [
            {"role": "user", "content": f"{chance.random()}{extra}"},
            {"role": "assistant", "content": f"{chance.random()}"},
        ]
        return exchange * 5

    splitter.rows(conversation(), turns, None)
    slow, renderings = renderings, 0
    splitter.rows(conversation(), turns, None)
    assert (renderings, slow > 5) == (1, True)
    splitter.rows(conversation("<|im_end|>"), turns, None)
    assert renderings > 5
