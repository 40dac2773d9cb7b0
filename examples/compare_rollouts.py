"""What the examples that learn from better and worse share: a run through a format into one of TRL's trainers."""

from __future__ import annotations

import argparse
import copy
from typing import Any

from tiny_model import model_and_tokenizer

from openreward_gym import export


def train(
    trainer_class: Any, config_class: Any, run: str, format: str, least: int, model: str, steps: int, output: str, **options: Any
) -> Any:
    """Train for `steps` steps on the rows of `format`, of which there must be at least `least`; returns the trainer."""
    network, tokenizer = model_and_tokenizer(model)
    dataset = export.to_dataset(run, format=format, tokenizer=tokenizer, **options)
    if len(dataset) < least:
        raise SystemExit(
            f"{run}: {len(dataset)} rows of {format} are too few: collect several samples of each task (--repeats 4)"
        )
    config = config_class(
        output_dir=output,
        max_steps=steps,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        max_length=None,
        use_cpu=model == "tiny",
        bf16=model != "tiny",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
    )
    trainer = trainer_class(
        model=network, ref_model=copy.deepcopy(network), args=config, train_dataset=dataset, processing_class=tokenizer
    )
    trainer.train()
    return trainer


def parser(description: str | None, output: str) -> argparse.ArgumentParser:
    """The options that the examples share."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("run", help="a run's folder")
    found.add_argument("--model", default="tiny", help="a model's name or folder; tiny makes a random one")
    found.add_argument("--steps", type=int, default=5)
    found.add_argument("--output", default=output)
    return found


def print_losses(trainer: Any) -> None:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print("loss by step:", " ".join(f"{loss:.3f}" for loss in losses))
