"""TRL takes the exported rows unchanged, and its loss is on the model's own text only."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from export_rollouts import assistant, call, episode, png, result, user

from openreward_gym import export
from openreward_gym.store import RolloutStore
from openreward_gym.types import ImageBlock, Message, ReasoningItem, Rollout, TextBlock

sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))

with warnings.catch_warnings():
    # What TRL, transformers and torch say to each other at import is not ours.
    warnings.simplefilter("ignore")
    import train_dpo
    import train_kto
    import train_sft
    from tiny_model import model_and_tokenizer
    from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
    from trl.data_utils import prepare_multimodal_messages

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]


def rollouts() -> Iterator[Rollout]:
    for number in range(8):
        good = number % 2 == 0
        yield episode(
            Message(
                role="assistant",
                blocks=(ReasoningItem(content="THOUGHT"), call("weather", {"city": "Oslo", "n": number // 4}, id="1")),
            ),
            result("SENTINEL rain", id="1"),
            assistant("It rains." if good else "Sun."),
            reward=float(good),
            task=str(number // 4),
        )


@pytest.fixture
def run(tmp_path: Path) -> str:
    with RolloutStore(tmp_path / "run") as store:
        for rollout in rollouts():
            store.append(rollout)
    return str(tmp_path / "run")


@pytest.mark.parametrize("format", ["sft", "tokens"])
def test_sft_trains_on_what_the_assistant_said_alone(run: str, tmp_path: Path, format: str) -> None:
    trainer = train_sft.train(run, format=format, min_reward=1.0, output=str(tmp_path / "out"))
    assert trainer.state.global_step == 5
    tokenizer = trainer.processing_class
    for row in trainer.train_dataset:
        trained = tokenizer.decode([token for token in row["labels"] if token != -100])
        assert trained.count("<|im_end|>") == 2
        assert "It rains." in trained
        assert "THOUGHT" in trained
        assert "SENTINEL" not in trained
        assert "What is the weather?" not in trained
        assert "SENTINEL" in tokenizer.decode(row["input_ids"])
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]


def test_both_ways_train_on_the_same_tokens(run: str) -> None:
    _, tokenizer = model_and_tokenizer("tiny")
    tokens = export.to_dataset(run, format="tokens", tokenizer=tokenizer)
    for row, labelled in zip(export.to_dataset(run), tokens, strict=True):
        trl = tokenizer.apply_chat_template(
            row["messages"], tools=row["tools"], return_dict=True, return_assistant_tokens_mask=True, tokenize=True
        )
        assert trl["assistant_masks"][: len(labelled["labels"])] == [int(label != -100) for label in labelled["labels"]]
        assert trl["input_ids"][: len(labelled["input_ids"])] == labelled["input_ids"]
        assert not any(trl["assistant_masks"][len(labelled["labels"]) :])


def test_dpo_compares_one_message(run: str, tmp_path: Path) -> None:
    trainer = train_dpo.train(run, output=str(tmp_path / "out"))
    assert trainer.state.global_step == 5
    tokenizer = trainer.processing_class
    for row in trainer.train_dataset:
        assert tokenizer.decode(row["chosen_ids"]).strip() == "It rains.<|im_end|>"
        assert tokenizer.decode(row["rejected_ids"]).strip() == "Sun.<|im_end|>"
        assert "SENTINEL" in tokenizer.decode(row["prompt_ids"])


def test_kto_learns_from_one_message(run: str, tmp_path: Path) -> None:
    trainer = train_kto.train(run, output=str(tmp_path / "out"))
    assert trainer.state.global_step == 5
    tokenizer = trainer.processing_class
    for row in trainer.train_dataset:
        completion = tokenizer.decode(row["completion_ids"]).strip()
        assert completion == ("It rains.<|im_end|>" if row["label"] else "Sun.<|im_end|>")


def test_grpo_plays_every_prompt_as_it_was(run: str, tmp_path: Path) -> None:
    """Prompts that end with a user's message, with a tool's result, and that hold an example answer."""
    call_before = assistant("", call("weather", {"city": "Rome"}, id="1"), origin="given")
    prompts = {
        "question": [],
        "example": [assistant("An example.", origin="given"), user("And in Rome?")],
        "result": [call_before, result("sun", id="1")],
    }
    rollouts = [episode(*before, assistant("Sun.", origin="policy"), task=name) for name, before in prompts.items()]
    dataset = export.to_dataset(rollouts, format="prompts")
    assert len(dataset) == 3
    seen: list[tuple[str, tuple[str, ...]]] = []

    def reward(prompts: list[Any], completions: list[Any], task_id: list[str], **columns: Any) -> list[float]:
        seen.extend(zip(task_id, (tuple(message["content"] for message in prompt) for prompt in prompts), strict=True))
        return [float(len(completion[0]["content"])) for completion in completions]

    network, tokenizer = model_and_tokenizer("tiny")
    arguments = GRPOConfig(
        output_dir=str(tmp_path / "out"),
        use_cpu=True,
        bf16=False,
        report_to=[],
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=4,
        max_steps=3,
    )
    trainer = GRPOTrainer(model=network, args=arguments, train_dataset=dataset, reward_funcs=reward, processing_class=tokenizer)
    trainer.train()
    assert trainer.state.global_step == 3
    assert set(seen) == {
        ("question", ("What is the weather?",)),
        ("example", ("What is the weather?", "An example.", "And in Rome?")),
        ("result", ("What is the weather?", "", "sun")),
    }


def test_trl_renders_with_the_options_of_a_row(run: str, tmp_path: Path) -> None:
    network, tokenizer = model_and_tokenizer("tiny")
    tokenizer.chat_template += "{%- if mood %}{{ mood }}{%- endif %}"
    arguments = {"output_dir": str(tmp_path / "out"), "use_cpu": True, "bf16": False, "max_length": None, "report_to": []}
    rows = export.to_dataset(run, tokenizer=tokenizer, chat_template_kwargs={"mood": "kind"})
    trainer = SFTTrainer(model=network, args=SFTConfig(**arguments), train_dataset=rows, processing_class=tokenizer)
    assert all(tokenizer.decode(row["input_ids"]).endswith("kind") for row in trainer.train_dataset)


def prepared(dataset: Any, tmp_path: Path, **config: Any) -> Any:
    """Return a dataset as TRL's SFTTrainer prepares it; any warning is an error."""
    network, tokenizer = model_and_tokenizer("tiny")
    arguments = SFTConfig(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, max_length=None, report_to=[], **config)
    return SFTTrainer(model=network, args=arguments, train_dataset=dataset, processing_class=tokenizer).train_dataset


def test_prompt_completion_trains_on_one_message(run: str, tmp_path: Path) -> None:
    _, tokenizer = model_and_tokenizer("tiny")
    dataset = prepared(export.to_dataset(run, format="prompt_completion"), tmp_path)
    trained = {tokenizer.decode([token for token in row["labels"] if token != -100]).strip() for row in dataset}
    assert {"It rains.<|im_end|>", "Sun.<|im_end|>"} <= trained
    assert not any("SENTINEL" in text for text in trained)


@pytest.mark.parametrize("format", ["sft", "prompt_completion", "tokens"])
@pytest.mark.parametrize("options", [None, {"enable_thinking": False}])
def test_written_files_go_through_trl(run: str, tmp_path: Path, format: str, options: dict[str, bool] | None) -> None:
    _, tokenizer = model_and_tokenizer("tiny")
    report = export.write(run, tmp_path / "files", formats=[format], tokenizer=tokenizer, chat_template_kwargs=options)
    dataset = load_dataset(str(tmp_path / "files"), format, split="train", cache_dir=str(tmp_path / "cache"))
    assert all(row["chat_template_kwargs"] == (options or {}) for row in dataset if format != "tokens")
    assert len(prepared(dataset, tmp_path, assistant_only_loss=format == "sft")) == report.rows[format] > 0


def test_images_are_where_trl_puts_them() -> None:
    rollout = episode(
        user("look twice"),
        assistant("", call("look", {}, id="1")),
        Message(role="tool", call_id="1", blocks=(TextBlock(text="here"), ImageBlock(data=png(4, 4)))),
        assistant("a square"),
        Message(role="user", blocks=(ImageBlock(data=png(6, 6)), TextBlock(text="and this?"))),
        assistant("a bigger one"),
    )
    text_only = episode(assistant("nothing to see"))
    for row in export.to_dataset([rollout, text_only]):
        prepared = prepare_multimodal_messages(row["messages"], row["images"])
        shown = [
            (number, part["image"].size)
            for number, message in enumerate(prepared)
            for part in message["content"]
            if part["type"] == "image"
        ]
        assert shown == ([(4, (4, 4)), (6, (6, 6))] if row["images"] else [])
