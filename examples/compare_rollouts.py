"""Shared code of the DPO and KTO examples: export a run in a format and train on it with one of TRL's trainers."""

from __future__ import annotations

import argparse
import copy
from typing import Any

from tiny_model import model_and_tokenizer, trains_on_cpu

from openreward_gym import export


def train(
    trainer_class: Any,
    config_class: Any,
    run: str,
    format: str,
    min_rows: int,
    model: str,
    steps: int,
    output: str,
    **options: Any,
) -> Any:
    """Train for `steps` steps on the rows of `format` and return the trainer. There must be at least `min_rows` rows."""
    network, tokenizer = model_and_tokenizer(model)
    dataset = export.to_dataset(run, format=format, tokenizer=tokenizer, **options)
    if len(dataset) < min_rows:
        raise SystemExit(
            f"{run} has {len(dataset)} rows of {format}, which is too few: collect several samples per task (--repeats 4)"
        )
    config = config_class(
        output_dir=output,
        max_steps=steps,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        max_length=None,
        use_cpu=trains_on_cpu(model),
        bf16=not trains_on_cpu(model),
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
    """Return a parser with the options that the examples share."""
    arguments = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("run", help="a run's folder")
    arguments.add_argument("--model", default="tiny", help="a model's name or folder; tiny makes a random one")
    arguments.add_argument("--steps", type=int, default=5)
    arguments.add_argument("--output", default=output)
    return arguments


def print_losses(trainer: Any) -> None:
    """Print the losses of the trainer's steps."""
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print("loss by step:", " ".join(f"{loss:.3f}" for loss in losses))
