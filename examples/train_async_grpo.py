"""Train a model with TRL's asynchronous GRPO on OpenReward environments: episodes are played while the trainer trains.

    openreward-gym serve weather ctf --port 8080 &
    export VLLM_SERVER_DEV_MODE=1
    vllm serve Qwen/Qwen3-0.6B --weight-transfer-config '{"backend":"nccl"}' --logprobs-mode processed_logprobs &
    python examples/train_async_grpo.py weather ctf --base-url http://127.0.0.1:8080

It needs the extras `server` and `train`, a GPU for the trainer, and another one for vLLM, which samples. Each rollout is recorded
in `--output`; `openreward-gym view out/async/rollouts` draws the training while it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer

from openreward_gym.integrations import trl


def trainer_of(
    environments: Sequence[str], base_url: str | None, model: str, args: AsyncGRPOConfig, output: str, **more: Any
) -> AsyncGRPOTrainer:
    """Return a trainer that is ready to `train()`. `more` are arguments of the trainer, such as `peft_config`."""
    keywords = trl.async_grpo(environments, model=model, args=args, base_url=base_url, output=output)
    return AsyncGRPOTrainer(**keywords, **more)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environments", nargs="+", help="names: weather, owner/name")
    parser.add_argument("--base-url", help="their server [default: the hosted platform]")
    parser.add_argument("--model", default="Qwen/Qwen3-0.6B", help="name or folder of a model")
    parser.add_argument("--vllm", default="http://localhost:8000", help="URL of the vLLM server")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--output", default="out/async")
    options = parser.parse_args()
    args = AsyncGRPOConfig(options.output, max_steps=options.steps, vllm_server_base_url=options.vllm)
    rollouts = f"{options.output}/rollouts"
    trainer_of(options.environments, options.base_url, options.model, args, rollouts).train()
