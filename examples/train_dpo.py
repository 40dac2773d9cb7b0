"""Prefer what did better: pairs from a run's groups, through the `preference` format, into TRL's DPOTrainer.

    pip install 'openreward-gym[train]'
    python examples/train_dpo.py runs/my-run --model Qwen/Qwen3-0.6B

Collect with `--repeats 4` or so: pairs come from rollouts of the same task with different rewards. A pair is one assistant
message each, at the first turn in which two rollouts part, after a history that is the same byte for byte.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

from tiny_model import model_and_tokenizer
from trl import DPOConfig, DPOTrainer

from openreward_gym import export


def train(run: str, model: str = "tiny", min_gap: float = 0.0, steps: int = 5, output: str = "out/dpo") -> Any:
    """Train for `steps` steps; returns the trainer."""
    network, tokenizer = model_and_tokenizer(model)
    dataset = export.to_dataset(run, format="preference", tokenizer=tokenizer, min_gap=min_gap)
    if len(dataset) == 0:
        raise SystemExit(f"{run}: no pairs: collect several samples of each task (--repeats 4)")
    config = DPOConfig(
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
    trainer = DPOTrainer(
        model=network, ref_model=copy.deepcopy(network), args=config, train_dataset=dataset, processing_class=tokenizer
    )
    trainer.train()
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run's folder")
    parser.add_argument("--model", default="tiny", help="a model's name or folder; tiny makes a random one")
    parser.add_argument("--min-gap", type=float, default=0.0, help="the least difference of rewards within a pair")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--output", default="out/dpo")
    given = parser.parse_args()
    trainer = train(given.run, given.model, given.min_gap, given.steps, given.output)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print("loss by step:", " ".join(f"{loss:.3f}" for loss in losses))


if __name__ == "__main__":
    main()
