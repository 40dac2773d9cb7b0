"""Training targets are the policy's turns, and the prompt is everything before the first of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from export_rollouts import assistant, call, episode, result, user
from tiny_tokenizer import tiny_tokenizer

from openreward_gym import export
from openreward_gym.types import AssistantMessage, Message, Rollout, TextBlock, UserMessage


def few_shot(answer: str = "Bern.", **fields: Any) -> Rollout:
    """A rollout whose prompt has a question and an answer as an example."""
    rollout = episode(**fields)
    rollout.messages = [
        Message("system", (TextBlock("Be short."),), origin="given"),
        UserMessage("The capital of France?", origin="given"),
        AssistantMessage("Paris it is.", origin="given"),
        UserMessage("The capital of Switzerland?", origin="given"),
        AssistantMessage(answer, origin="policy"),
        UserMessage("The capital of Norway?", origin="environment"),
        AssistantMessage("Oslo.", origin="policy", weight=0.0),
        UserMessage("The capital of Spain?", origin="environment"),
        AssistantMessage("Madrid.", origin="policy", weight=1.0),
    ]
    return rollout


def lines(rollout: Rollout, format: str, folder: Path) -> list[dict[str, Any]]:
    export.write([rollout], folder, formats=[format])
    return [json.loads(line) for line in (folder / format / "train.jsonl").read_text().splitlines()]


def test_completions_are_the_policys_turns() -> None:
    """Examples in the prompt and turns of weight 0 are part of the history."""
    rows = export.to_dataset([few_shot()], format="prompt_completion")
    assert [row["completion"][0]["content"] for row in rows] == ["Bern.", "Madrid."]
    assert [message["content"] for message in rows[1]["prompt"]][2:7:2] == ["Paris it is.", "Bern.", "Oslo."]
    (last,) = export.to_dataset([few_shot()], format="prompt_completion", turns="last")
    assert last["completion"][0]["content"] == "Madrid."
    good, bad = few_shot(reward=1.0), few_shot("Basel.", reward=0.0)
    rows = export.to_dataset([good, bad], format="kto", turns="all")
    assert sorted(row["completion"][0]["content"] for row in rows) == ["Basel.", "Bern.", "Madrid.", "Madrid."]


def test_pairs_differ_in_a_turn_of_the_policy(tmp_path: Path) -> None:
    """A difference in the prompt's examples, or in a turn of weight 0, makes no pair."""
    good, bad = few_shot(reward=1.0, group="g"), few_shot("Basel.", reward=0.0, group="g")
    (pair,) = export.to_dataset([good, bad], format="preference")
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("Bern.", "Basel.")
    for position, reason in (
        (2, "the first difference is not in the model's turns"),
        (6, "the chosen side is a turn of weight 0"),
    ):
        other = few_shot(reward=0.0, group="g")
        other.messages[position] = other.messages[position].replace(blocks=(TextBlock("Rome."),))
        report = export.write([good, other], tmp_path, formats=["preference"]).formats["preference"]
        assert (report.rows, report.dropped_rows) == (0, {reason: 1})


def test_labels_are_on_the_policys_turns() -> None:
    """No token of an example in the prompt has a loss."""
    tokenizer = tiny_tokenizer()
    for _ in range(2):  # the second conversation of a shape takes the quick way
        (row,) = export.to_dataset([few_shot()], format="tokens", tokenizer=tokenizer)
        assert tokenizer.decode([label for label in row["labels"] if label != -100]) == "Bern.<|im_end|>Madrid.<|im_end|>"
        assert "Paris it is." in tokenizer.decode(row["input_ids"])


def test_recorded_ids_are_used_beside_given_turns() -> None:
    """The messages of the prompt have no recorded ids, and need none."""
    tokenizer = tiny_tokenizer()
    prompt, ids = (tokenizer.encode(text, add_special_tokens=False) for text in ("prompt|", "Bern.<|im_end|>"))
    sampled = assistant("Bern.", token_ids=tuple(ids), prompt_token_ids=tuple(prompt), origin="policy")
    rollout = episode(AssistantMessage("Paris it is.", origin="given"), user("Switzerland?"), sampled)
    (row,) = export.to_dataset([rollout], format="tokens", tokenizer=tokenizer)
    assert (row["input_ids"], row["labels"]) == ([*prompt, *ids], [-100] * len(prompt) + ids)


def test_formats_with_a_field_for_it_mark_the_other_turns(tmp_path: Path) -> None:
    """axolotl has `train`, OpenAI has `weight`."""
    (line,) = lines(few_shot(), "axolotl", tmp_path)
    assert [message["content"] for message in line["messages"] if message["train"]] == ["Bern.", "Madrid."]
    (line,) = lines(few_shot(), "openai", tmp_path)
    assert [(message["content"], message["weight"]) for message in line["messages"] if "weight" in message] == [
        ("Paris it is.", 0),
        ("Oslo.", 0),
    ]


def test_formats_without_a_field_for_it_leave_the_rollout_out(tmp_path: Path) -> None:
    """SFTTrainer and LLaMA-Factory train every assistant message of a row."""
    rollout = few_shot()
    rollout.messages = rollout.messages[:5]
    report = export.write([rollout, episode(assistant("yes"))], tmp_path, formats=["sft", "sharegpt"])
    for form in report.formats.values():
        assert (form.selected, form.excluded.total()) == (1, 1)
        assert "an assistant message that is not to be trained" in next(iter(form.excluded))


def test_prompts_go_up_to_the_policys_first_turn() -> None:
    """A conversation that begins with an assistant message is a prompt as a whole."""
    rollout = few_shot()
    rollout.messages.insert(0, AssistantMessage("Hello.", origin="given"))
    for format in ("prompts", "verl"):
        (row,) = export.to_dataset([rollout], format=format)
        assert [message["content"] for message in row["prompt"]] == [
            "Hello.",
            "Be short.",
            "The capital of France?",
            "Paris it is.",
            "The capital of Switzerland?",
        ]


def test_turns_and_calls_are_the_policys(tmp_path: Path) -> None:
    """Messages of the prompt count neither in the report nor in the archive nor for `Select`."""
    prompt = AssistantMessage("", [call("weather", {}, id="g")], origin="given")
    rollout = episode(prompt, result("rain", id="g"), assistant("", call("weather", {}, id="p"), origin="policy"))
    report = export.write([rollout], tmp_path, formats=["rollouts"]).formats["rollouts"]
    assert list(report.turns) == [1]
    (row,) = export.to_dataset([rollout], format="rollouts")
    assert (row["num_turns"], row["num_tool_calls"]) == (1, 1)
    assert len(export.to_dataset([rollout], format="prompts", select=export.Select(min_turns=2))) == 0


def test_a_rollout_without_a_turn_to_train_is_left_out(tmp_path: Path) -> None:
    """All assistant messages are part of the prompt, or have the weight 0."""
    prompt_only = episode(AssistantMessage("Paris.", origin="given"))
    weightless = episode(AssistantMessage("Paris.", origin="policy", weight=0.0))
    report = export.write([prompt_only, weightless], tmp_path, formats=["sft"]).formats["sft"]
    assert report.excluded == {"the model took no turn that can be trained": 2}
