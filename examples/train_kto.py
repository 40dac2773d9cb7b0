"""Train with KTO on good and bad rollouts without pairs: a run, through the `kto` format, into TRL's KTOTrainer.

    openreward-gym demo --output runs/demo
    python examples/train_kto.py runs/demo/weather --model Qwen/Qwen3-0.6B --good-reward 1.0

It needs the extras `server` and `train`. A row is one assistant message with a label. Labels are balanced, and neighbouring
rows come from different tasks, because KTO estimates its baseline from the neighbours in a batch.
"""

from __future__ import annotations

from typing import Any

import compare_rollouts
from trl import KTOConfig, KTOTrainer


def train(run: str, model: str = "tiny", good_reward: float | None = None, steps: int = 5, output: str = "out/kto") -> Any:
    """Train for `steps` steps and return the trainer."""
    # KTO compares each row with its neighbour.
    return compare_rollouts.train(KTOTrainer, KTOConfig, run, "kto", 2, model, steps, output, good_reward=good_reward)


def main() -> None:
    parser = compare_rollouts.parser(__doc__, "out/kto")
    parser.add_argument("--good-reward", type=float, default=None, help="minimum reward of a good rollout")
    options = parser.parse_args()
    compare_rollouts.print_losses(train(options.run, options.model, options.good_reward, options.steps, options.output))


if __name__ == "__main__":
    main()
