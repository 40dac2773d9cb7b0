"""Train a model with GRPO on OpenReward environments: TRL generates, the tools run on the environments' servers.

    openreward-gym serve weather ctf --port 8080 &
    python examples/train_grpo.py weather ctf --base-url http://127.0.0.1:8080 --steps 2

It needs the extras `server` and `train`. The tiny default model is random: give `--model Qwen/Qwen3-0.6B` for a real one. Each
rollout is an episode in its own session, recorded in `--output`; `openreward-gym view out/grpo/rollouts` draws the training.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from tiny_model import model_and_tokenizer, trains_on_cpu
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_chat_template

from openreward_gym.integrations import trl


def trainer_of(environments: Sequence[str], base_url: str | None, model: str, output: str, **settings: Any) -> GRPOTrainer:
    """Return a trainer that is ready to `train()`. `settings` are GRPO's own, such as `num_generations`."""
    network, tokenizer = model_and_tokenizer(model)
    if model == "tiny":
        tokenizer.chat_template = qwen3_chat_template  # a template whose calls TRL can parse
    config = GRPOConfig(output, use_cpu=trains_on_cpu(model), bf16=not trains_on_cpu(model), report_to=[], **settings)
    episodes = trl.grpo(environments, base_url=base_url, output=f"{output}/rollouts", limit=2)
    return GRPOTrainer(network, args=config, processing_class=tokenizer, **episodes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environments", nargs="+", help="names: weather, owner/name")
    parser.add_argument("--base-url", help="their server [default: the hosted platform]")
    parser.add_argument("--model", default="tiny", help="name or folder of a model; tiny makes a random one")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--output", default="out/grpo")
    options = parser.parse_args()
    trainer = trainer_of(
        options.environments,
        options.base_url,
        options.model,
        options.output,
        max_steps=options.steps,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=64 if options.model == "tiny" else 1024,
        logging_steps=1,
    )
    trainer.train()
