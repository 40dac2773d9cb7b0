"""Learn from good and bad alone, without pairs: a run through the `kto` format into TRL's KTOTrainer.

    pip install 'openreward-gym[train]'
    python examples/train_kto.py runs/my-run --model Qwen/Qwen3-0.6B --good-reward 1.0

A row is one assistant message with a label; labels are balanced, and neighbouring rows come from different tasks, because
KTO estimates its baseline from a batch's neighbours.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

from tiny_model import model_and_tokenizer
from trl import KTOConfig, KTOTrainer

from openreward_gym import export


def train(run: str, model: str = "tiny", good_reward: float | None = None, steps: int = 5, output: str = "out/kto") -> Any:
    """Train for `steps` steps; returns the trainer."""
    network, tokenizer = model_and_tokenizer(model)
    dataset = export.to_dataset(run, format="kto", tokenizer=tokenizer, good_reward=good_reward)
    if len(dataset) < 2:
        raise SystemExit(f"{run}: {len(dataset)} rows are too few: KTO needs at least two")
    config = KTOConfig(
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
    trainer = KTOTrainer(
        model=network, ref_model=copy.deepcopy(network), args=config, train_dataset=dataset, processing_class=tokenizer
    )
    trainer.train()
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run's folder")
    parser.add_argument("--model", default="tiny", help="a model's name or folder; tiny makes a random one")
    parser.add_argument("--good-reward", type=float, default=None, help="the least reward of a good rollout")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--output", default="out/kto")
    given = parser.parse_args()
    trainer = train(given.run, given.model, given.good_reward, given.steps, given.output)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print("loss by step:", " ".join(f"{loss:.3f}" for loss in losses))


if __name__ == "__main__":
    main()
