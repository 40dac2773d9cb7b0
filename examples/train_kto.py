"""Learn from good and bad alone, without pairs: a run through the `kto` format into TRL's KTOTrainer.

    pip install 'openreward-gym[train]'
    python examples/train_kto.py runs/my-run --model Qwen/Qwen3-0.6B --good-reward 1.0

A row is one assistant message with a label; labels are balanced, and neighbouring rows come from different tasks, because
KTO estimates its baseline from a batch's neighbours.
"""

from __future__ import annotations

from typing import Any

import compare_rollouts
from trl import KTOConfig, KTOTrainer


def train(run: str, model: str = "tiny", good_reward: float | None = None, steps: int = 5, output: str = "out/kto") -> Any:
    """Train for `steps` steps; returns the trainer."""
    # KTO compares each row with its neighbour.
    return compare_rollouts.train(KTOTrainer, KTOConfig, run, "kto", 2, model, steps, output, good_reward=good_reward)


def main() -> None:
    parser = compare_rollouts.parser(__doc__, "out/kto")
    parser.add_argument("--good-reward", type=float, default=None, help="the least reward of a good rollout")
    given = parser.parse_args()
    compare_rollouts.print_losses(train(given.run, given.model, given.good_reward, given.steps, given.output))


if __name__ == "__main__":
    main()
