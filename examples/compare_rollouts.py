"""Shared code of train_dpo.py and train_kto.py: a run, through an export format, into one of TRL's trainers."""

from __future__ import annotations

import argparse
import copy
from typing import Any

from tiny_model import model_and_tokenizer

from openreward_gym import export


def train(
    trainer_class: Any, config_class: Any, run: str, format: str, least: int, model: str, steps: int, output: str, **options: Any
) -> Any:
    """Train for `steps` steps on the rows of `format`, and return the trainer. Fewer than `least` rows are an error."""
    network, tokenizer = model_and_tokenizer(model)
    dataset = export.to_dataset(run, format=format, tokenizer=tokenizer, **options)
    if len(dataset) < least:
        raise SystemExit(f"{run}: {len(dataset)} rows of {format} are too few: collect several samples per task (--repeats 4)")
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
    """Return a parser with the options that the examples share."""
    shared = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared.add_argument("run", help="folder of a run")
    shared.add_argument("--model", default="tiny", help="name or folder of a model; tiny makes a random one")
    shared.add_argument("--steps", type=int, default=5)
    shared.add_argument("--output", default=output)
    return shared


def print_losses(trainer: Any) -> None:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print("loss by step:", " ".join(f"{loss:.3f}" for loss in losses))
