"""Fine-tune a model on good rollouts: a run, through the `sft` or `tokens` format, into TRL's SFTTrainer.

    openreward-gym demo --output runs/demo
    python examples/train_sft.py runs/demo/weather --model Qwen/Qwen3-0.6B --min-reward 1.0

It needs the extras `server` and `train`. The loss covers the assistant's text, calls and ends of turn, and nothing else.
`--format tokens` works with any chat template; `--format sft` needs a template with `{% generation %}` marks, which TRL
provides for common model families.
"""

from __future__ import annotations

import argparse
from typing import Any

from tiny_model import model_and_tokenizer, trains_on_cpu
from trl import SFTConfig, SFTTrainer

from openreward_gym import export


def train(
    run: str,
    model: str = "tiny",
    format: str = "tokens",
    min_reward: float | None = None,
    steps: int = 5,
    output: str = "out/sft",
) -> Any:
    """Train for `steps` steps and return the trainer."""
    network, tokenizer = model_and_tokenizer(model)
    dataset = export.to_dataset(run, format=format, select=export.Select(min_reward=min_reward), tokenizer=tokenizer)
    if len(dataset) == 0:
        raise SystemExit(f"{run} has no rollout to train on: lower --min-reward")
    config = SFTConfig(
        output_dir=output,
        max_steps=steps,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        # The rows of `tokens` have labels that mark the loss.
        assistant_only_loss=format == "sft",
        max_length=None,
        use_cpu=trains_on_cpu(model),
        bf16=not trains_on_cpu(model),
        logging_steps=1,
        save_strategy="no",
        report_to=[],
    )
    trainer = SFTTrainer(model=network, args=config, train_dataset=dataset, processing_class=tokenizer)
    trainer.train()
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("--model", default="tiny", help="name or folder of a model; tiny makes a random one")
    parser.add_argument("--format", default="tokens", choices=["sft", "tokens"])
    parser.add_argument("--min-reward", type=float, default=None)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--output", default="out/sft")
    options = parser.parse_args()
    trainer = train(options.run, options.model, options.format, options.min_reward, options.steps, options.output)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print("loss by step:", " ".join(f"{loss:.3f}" for loss in losses))


if __name__ == "__main__":
    main()
